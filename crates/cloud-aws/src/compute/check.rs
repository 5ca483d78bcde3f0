//! What must be so before an instance can be launched.

use stackpro_cloud::Check;

use super::image::Architecture;
use super::{Ec2, userdata};
use crate::check::line;

impl Ec2 {
    pub(crate) async fn check(&self) -> Vec<Check> {
        let (subnets, image) = tokio::join!(self.subnets(), self.image(Architecture::X86));
        let release = match &self.settings.release {
            Some(release) => userdata::check(release).map(|()| format!("{}, checked by its checksum", release.url)),
            None => Err("it is not known what instances install: set STACKPRO_RELEASE_URL and \
                         STACKPRO_RELEASE_SHA256 (docs/aws.md, \"User data\")"
                .to_owned()),
        };
        vec![
            line("subnets", subnets, |found| {
                let zones: Vec<&str> = found.iter().map(|subnet| subnet.zone.as_str()).collect();
                format!("in {}", zones.join(", "))
            }),
            line("image", image, |image| format!("{image}, the newest Amazon Linux 2023")),
            Check { name: "release".into(), found: release },
        ]
    }
}

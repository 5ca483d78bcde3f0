//! What must be so before an instance can be launched.

use aws_sdk_ec2::types::Reservation;
use sha2::{Digest, Sha256};
use stackpro_cloud::{Check, Result};

use super::image::Architecture;
use super::{Ec2, PAGE, filter, userdata};
use crate::check::line;
use crate::error::classify;
use crate::http::Http;
use crate::settings::Release;

/// Of a list of checksums.
const SUMS_BYTES: usize = 64 * 1024;
/// What `setup.sh` installs on the usual machine.
const PROGRAMS: [&str; 2] = ["stackpro-x86_64", "docker-compose-x86_64"];

impl Ec2 {
    pub(crate) async fn check(&self) -> Vec<Check> {
        let (subnets, image, release) =
            tokio::join!(self.subnets(), self.image(Architecture::X86), release(self.settings.release.as_ref()));
        vec![
            line("subnets", subnets, |found| {
                let zones: Vec<&str> = found.iter().map(|subnet| subnet.zone.as_str()).collect();
                format!("in {}", zones.join(", "))
            }),
            line("image", image, |image| format!("{image}, the newest Amazon Linux 2023")),
            Check { name: "release".into(), found: release },
        ]
    }

    /// Of the account's instances that run or are about to, ours or not.
    pub(crate) async fn vcpus(&self) -> Result<u32> {
        let alive = filter("instance-state-name", ["pending", "running"]);
        let mut pages = self.api.describe_instances().filters(alive).into_paginator().page_size(PAGE).send();
        let mut vcpus = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify("ec2.DescribeInstances", error))?;
            let instances = page.reservations().iter().flat_map(Reservation::instances);
            let each = instances.filter_map(|instance| instance.cpu_options());
            let counts = each.map(|cpu| cpu.core_count().unwrap_or_default() * cpu.threads_per_core().unwrap_or(1));
            vcpus += counts.filter_map(|count| u32::try_from(count).ok()).sum::<u32>();
        }
        Ok(vcpus)
    }
}

/// Fetched as an instance will do it, but for its programs.
async fn release(release: Option<&Release>) -> std::result::Result<String, String> {
    let Some(release) = release else {
        let what = "it is not known what instances install: set STACKPRO_RELEASE_URL and STACKPRO_RELEASE_SHA256 \
                    (docs/aws.md, \"User data\")";
        return Err(what.into());
    };
    userdata::check(release)?;
    let url = format!("{}/SHA256SUMS", release.url.trim_end_matches('/'));
    let sums = Http::default().get(&url, SUMS_BYTES).await?;
    if hex(&Sha256::digest(&sums)) != release.sha256 {
        let what = "is not the list whose checksum STACKPRO_RELEASE_SHA256 is: set it to what `sha256sum SHA256SUMS` \
                    prints where you built the release";
        return Err(format!("{url} {what}"));
    }
    let sums = String::from_utf8_lossy(&sums);
    let has = |name: &str| sums.lines().any(|line| line.split_whitespace().nth(1) == Some(name));
    if let Some(missing) = PROGRAMS.into_iter().find(|name| !has(name)) {
        return Err(format!("{url} names no {missing}, which instances install"));
    }
    Ok(format!("{}, as its checksum says", release.url))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

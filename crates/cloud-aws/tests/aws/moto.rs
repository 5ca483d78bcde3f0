//! A `moto_server` of a test's own, and an installation on it.

use std::ops::Deref;

use aws_sdk_s3::config::Credentials;
use stackpro_cloud_aws::{Aws, AwsSettings};
use stackpro_testkit::aws;

/// An emulator with nothing in it.
pub(crate) struct Moto(aws::Moto);

impl Deref for Moto {
    type Target = aws::Moto;

    fn deref(&self) -> &aws::Moto {
        &self.0
    }
}

impl Moto {
    pub(crate) fn start() -> Self {
        Self(aws::Moto::start())
    }

    /// With variables of moto's in its environment, as `MOTO_ENABLE_AMI_VALIDATION`.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Self {
        Self(aws::Moto::start_with(variables))
    }

    /// An account and region in it, with an installation called `test` whose zone is `stackpro.test`.
    pub(crate) async fn aws(&self) -> Aws {
        self.aws_with(AwsSettings::new("test", "stackpro.test", "https://console.stackpro.test")).await
    }

    pub(crate) async fn aws_with(&self, settings: AwsSettings) -> Aws {
        let region = settings.region.clone().or(Some("eu-central-1".into()));
        self.aws_at(AwsSettings { region, endpoint: Some(self.endpoint.clone()), ..settings }).await
    }

    /// At the address that the settings say, which leads here in the end.
    pub(crate) async fn aws_at(&self, settings: AwsSettings) -> Aws {
        Aws::open_as(settings, Credentials::new("AKIATEST", "secret", None, None, "test")).await
    }
}

#[tokio::test]
async fn an_emulator_begins_empty_and_ends_with_its_test() {
    let moto = Moto::start();
    let aws = moto.aws().await;
    let client = aws_sdk_sts::Client::new(aws.sdk());
    let account = client.get_caller_identity().send().await.unwrap().account.unwrap();
    assert_eq!(account, "123456789012");
    let buckets = aws_sdk_s3::Client::new(aws.sdk()).list_buckets().send().await.unwrap().buckets.unwrap_or_default();
    assert!(buckets.is_empty());

    let address = moto.endpoint.strip_prefix("http://").unwrap().to_owned();
    drop(moto);
    assert!(std::net::TcpStream::connect(address).is_err(), "it listens on");
}

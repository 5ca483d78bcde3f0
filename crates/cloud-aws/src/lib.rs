//! The cloud of [`stackpro_cloud`] on AWS, with the official SDK. The only crate that knows AWS.
//!
//! Every create bears a token or a deterministic name, everything made is tagged ([`tags`]), and every call
//! ends as a [`stackpro_cloud::CloudError`] ([`error`]) that says what the caller should do. The SDK does not
//! retry: flows do, with their journal, their limits per API and their parked steps.
//!
//! Start reading at [`Aws`].

mod buckets;
mod check;
mod compute;
mod dns;
mod error;
mod http;
mod identity;
mod mail;
mod pace;
mod quotas;
mod roles;
mod settings;
mod tags;
mod zone;

use std::sync::Arc;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_smithy_http_client::tls;
use stackpro_cloud::Cloud;
use tokio::sync::OnceCell;

use check::Doctor;
use identity::Identity;

pub use aws_sdk_s3::config::Credentials;
pub use buckets::S3;
pub use check::Check;
pub use compute::Ec2;
pub use dns::Route53;
pub use mail::Ses;
pub use roles::Iam;
pub use settings::{AwsSettings, Release};

/// One AWS account and region, as it is reached from here.
#[derive(Clone)]
pub struct Aws {
    settings: AwsSettings,
    sdk: SdkConfig,
    identity: Arc<OnceCell<Identity>>,
}

impl Aws {
    /// Finds credentials and region as every AWS tool does (environment, profile, instance role); makes no
    /// call to AWS by itself.
    pub async fn open(settings: AwsSettings) -> Self {
        let loader = loader(&settings);
        Self { sdk: loader.load().await, settings, identity: Arc::default() }
    }

    /// With these credentials instead.
    pub async fn open_as(settings: AwsSettings, credentials: Credentials) -> Self {
        let loader = loader(&settings).credentials_provider(credentials);
        Self { sdk: loader.load().await, settings, identity: Arc::default() }
    }

    pub fn settings(&self) -> &AwsSettings {
        &self.settings
    }

    /// How the SDK reaches AWS.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// Everything that a cloud can do, by this account.
    pub fn cloud(&self) -> Cloud {
        let (compute, names) = (Ec2::new(self), Arc::new(Route53::new(self)));
        let (mail, buckets) = (Arc::new(Ses::new(self, &names)), Arc::new(S3::new(self)));
        let doctor = Doctor {
            aws: self.clone(),
            compute: compute.clone(),
            buckets: Arc::clone(&buckets),
            names: Arc::clone(&names),
            mail: Arc::clone(&mail),
        };
        Cloud {
            name: "aws",
            installation: self.settings.installation.clone(),
            compute: Arc::new(compute),
            buckets,
            dns: names,
            mail,
            roles: Arc::new(Iam::new(self)),
            checks: Arc::new(doctor),
        }
    }

    /// The region that calls go to, if one is known.
    pub fn region(&self) -> Option<&str> {
        self.sdk.region().map(AsRef::as_ref)
    }
}

fn loader(settings: &AwsSettings) -> ConfigLoader {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let patience = TimeoutConfig::builder()
        .connect_timeout(settings.connect_patience)
        .operation_timeout(settings.patience)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(patience);
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &settings.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader
}

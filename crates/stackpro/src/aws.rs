//! `--cloud aws`, in builds that have it.

use stackpro_cloud::Cloud;
use stackpro_server::world::Settings;

use crate::app::{Fatal, Result};
use crate::config::Config;

/// Makes no call to AWS: `doctor` and the first launch do.
#[cfg(feature = "aws")]
pub(crate) async fn open(config: &Config, settings: &Settings) -> Result<Cloud> {
    use std::time::Duration;

    use stackpro_cloud_aws::{Aws, AwsSettings, Release};

    needed(config, settings)?;
    let release = match (&config.release_url, &config.release_sha256) {
        (Some(url), Some(sha256)) => Some(Release { url: url.clone(), sha256: sha256.clone() }),
        (None, None) => None,
        _ => return Err(Fatal("STACKPRO_RELEASE_URL and STACKPRO_RELEASE_SHA256 are set together, or neither".into())),
    };
    let aws = AwsSettings {
        region: config.aws_region.clone(),
        endpoint: config.aws_endpoint.clone(),
        subnets: config.aws_subnets.clone(),
        permissions_boundary: config.aws_permissions_boundary.clone(),
        release,
        volume_gib: config.aws_volume_gib,
        kms_key: config.aws_kms_key.clone(),
        bucket_principals: config.aws_bucket_principals.clone(),
        resolver: config.resolver,
        patience: Duration::from_secs(config.aws_patience_seconds),
        ..AwsSettings::new(&config.installation, &config.client_domain, &settings.public_url)
    };
    Ok(Aws::open(aws).await.cloud())
}

/// What this cloud cannot do without, and a local one has by itself.
#[cfg(feature = "aws")]
fn needed(config: &Config, settings: &Settings) -> Result<()> {
    let fatal = |what: &str, advice: &str| Err(Fatal(format!("{what}: {advice}")));
    let Some(url) = &config.public_url else {
        let what = "STACKPRO_PUBLIC_URL is not set, and instances on AWS must reach this server";
        return fatal(what, "set it to the address that leads here, as https://stackpro.example");
    };
    let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    if authority.trim_end_matches('/').contains([':', '/']) {
        let what = format!("STACKPRO_PUBLIC_URL is {url}, and clients' sites on AWS are at their scheme's own port");
        return fatal(&what, "let a host name alone lead here, as https://stackpro.example");
    }
    if config.client_domain.ends_with(".localhost") {
        let what = format!("CLIENT_DOMAIN is {}, which the world cannot look up", config.client_domain);
        return fatal(&what, "set it to a domain of yours, as clients.stackpro.example");
    }
    if settings.is_https() && !config.acme {
        let what = "STACKPRO_PUBLIC_URL is https, and clients' sites would have no certificates";
        return fatal(what, "set STACKPRO_ACME=true");
    }
    Ok(())
}

#[cfg(not(feature = "aws"))]
#[allow(clippy::unused_async)] // As with the feature.
pub(crate) async fn open(_: &Config, _: &Settings) -> Result<Cloud> {
    Err(Fatal(
        "this stackpro was built without AWS: build it with `cargo build --release --features aws`, or take the \
         released image, which has it"
            .into(),
    ))
}

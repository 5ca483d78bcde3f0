//! What the operator says about their AWS account. Credentials are not among it: the SDK finds them.

use std::time::Duration;

/// Everything that `--cloud aws` can be told.
#[derive(Clone, Debug)]
pub struct AwsSettings {
    /// `eu-central-1`; what the environment or the profile says when none.
    pub region: Option<String>,
    /// Instead of AWS's own addresses: an emulator's. S3 is then addressed by path.
    pub endpoint: Option<String>,
    /// Tells installations in one account apart: the value of the tag `stackpro:installation`, and what names
    /// begin with.
    pub installation: String,
    /// The domain below which clients' names are: the hosted zone.
    pub zone: String,
    /// By which agents reach the control plane: `https://stackpro.example`.
    pub server_url: String,
    /// Longest time for one call, its connection included.
    pub patience: Duration,
    pub connect_patience: Duration,
}

impl AwsSettings {
    pub fn new(installation: impl Into<String>, zone: impl Into<String>, server_url: impl Into<String>) -> Self {
        Self {
            region: None,
            endpoint: None,
            installation: installation.into(),
            zone: zone.into(),
            server_url: server_url.into(),
            patience: Duration::from_secs(20),
            connect_patience: Duration::from_secs(3),
        }
    }
}

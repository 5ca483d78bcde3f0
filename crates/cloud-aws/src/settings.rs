//! What the operator says about their AWS account. Credentials are not among it: the SDK finds them.

use std::net::SocketAddr;
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
    /// Where instances are, as `subnet-0a1b…`: public ones of one VPC. None: the default VPC's.
    pub subnets: Vec<String>,
    /// ARN of the IAM policy that is the most that any role of ours may do, where the account demands one.
    pub permissions_boundary: Option<String>,
    /// What instances install. Nothing can be launched without.
    pub release: Option<Release>,
    /// Size of an instance's volume, in GiB.
    pub volume_gib: i32,
    /// What buckets are encrypted with, `arn:aws:kms:…:key/…`; with S3's own key when none.
    pub kms_key: Option<String>,
    /// Who reaches every client's bucket beside this process's own role, as ARNs, in which `*` stands for anything:
    /// other nodes' roles, an administrator's.
    pub bucket_principals: Vec<String>,
    /// The name server by which the zone's delegation is looked at; the system's when none.
    pub resolver: Option<SocketAddr>,
    /// Longest time for one call, its connection included.
    pub patience: Duration,
    pub connect_patience: Duration,
}

/// Files that instances install, as the operator keeps them: `stackpro-x86_64` and `docker-compose-x86_64`, the same
/// for `aarch64` where there are such instances, and `SHA256SUMS`, which `sha256sum` makes of them.
#[derive(Clone, Debug)]
pub struct Release {
    /// The folder in which they are: `https://releases.s3.eu-central-1.amazonaws.com/0.1.0`.
    pub url: String,
    /// Of `SHA256SUMS`, in hexadecimal. By it every file is checked, whoever may write to that folder.
    pub sha256: String,
}

impl AwsSettings {
    pub fn new(installation: impl Into<String>, zone: impl Into<String>, server_url: impl Into<String>) -> Self {
        Self {
            region: None,
            endpoint: None,
            installation: installation.into(),
            zone: zone.into(),
            server_url: server_url.into(),
            subnets: Vec::new(),
            permissions_boundary: None,
            release: None,
            volume_gib: 30,
            kms_key: None,
            bucket_principals: Vec::new(),
            resolver: None,
            patience: Duration::from_secs(20),
            connect_patience: Duration::from_secs(3),
        }
    }
}

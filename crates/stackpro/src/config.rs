//! Every setting: what it is called, where it comes from, and what it is when nobody sets it.
//!
//! From weakest to strongest: the defaults here, the file (`--config FILE`), `.env` in the working folder, the
//! environment (`STACKPRO_NAME`; a few have the names that hosting platforms give them), the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use stackpro_cloud::local::{FaultSettings, TlsPorts};

/// Settings without the `STACKPRO_` prefix, under the names that others gave them.
const COMMON: [&str; 5] =
    ["database_url", "client_domain", "stripe_secret_key", "stripe_webhook_secret", "stripe_api_base"];

pub(crate) const REAL_STRIPE: &str = "https://api.stripe.com";

/// Where resources live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CloudName {
    /// This machine
    Local,
    /// An account of AWS
    Aws,
}

/// The settings of a process. `.env.example` explains each one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "what is set for AWS is known in builds without it, too"))]
pub(crate) struct Config {
    pub data: PathBuf,
    pub cloud: CloudName,
    pub listen: SocketAddr,
    pub stripe_listen: Option<SocketAddr>,
    /// Of the local cloud's name server, on loopback; 0 takes any.
    pub dns_port: u16,
    pub public_url: Option<String>,
    pub client_domain: String,
    pub database_url: Option<SecretString>,
    pub secret_key: Option<SecretString>,
    pub plans: Option<PathBuf>,
    pub prices: Option<PathBuf>,
    /// Names of what is sold; the first is what a client gets who chooses none.
    pub recipes: Vec<String>,
    /// More recipes, a folder each.
    pub recipes_folder: Option<PathBuf>,
    /// The socket of Docker or Podman for stacks in containers, and the Compose program.
    pub engine: Option<PathBuf>,
    pub compose: Option<PathBuf>,
    pub name: String,
    pub mail_from: Option<String>,
    pub support_email: Option<String>,
    pub time_zone: String,
    pub stripe_api_base: Option<String>,
    pub stripe_secret_key: Option<SecretString>,
    /// One secret, or two separated by a comma while one replaces the other.
    pub stripe_webhook_secret: Option<SecretString>,
    pub dns_ttl_seconds: u32,
    /// The name server by which clients' names are looked up; the system's when none.
    pub resolver: Option<SocketAddr>,
    /// Tells installations in one account of AWS apart.
    pub installation: String,
    pub aws_region: Option<String>,
    /// An emulator's, instead of AWS's own addresses.
    pub aws_endpoint: Option<String>,
    /// Longest time for one call.
    pub aws_patience_seconds: u64,
    /// Where instances are: public subnets of one VPC; the default VPC's when none.
    pub aws_subnets: Vec<String>,
    /// Of an instance, in GiB.
    pub aws_volume_gib: i32,
    /// ARN of the policy that is the most that instances' roles may do.
    pub aws_permissions_boundary: Option<String>,
    /// ARN of the key that buckets are encrypted with.
    pub aws_kms_key: Option<String>,
    /// ARNs of those who reach clients' buckets beside this process.
    pub aws_bucket_principals: Vec<String>,
    /// The folder from which instances install this program, and the checksum of its SHA256SUMS.
    pub release_url: Option<String>,
    pub release_sha256: Option<String>,
    pub warm_places: u32,
    pub hash_queue: usize,
    pub signups_per_address_per_hour: u32,
    pub signups_per_network_per_day: u32,
    /// Addresses with so many leading bits in common are one network.
    pub signup_network_ipv4: u8,
    pub signup_network_ipv6: u8,
    /// Whom no rule stops, and domains that are a provider's or thrown away.
    pub signup_rules: Option<PathBuf>,
    /// Whether the clients' names get certificates of a CA.
    pub acme: bool,
    pub acme_directory: String,
    /// A mail address.
    pub acme_contact: Option<String>,
    pub acme_retry_seconds: u32,
    /// PEM: whom to believe beside the usual CAs.
    pub trusted_roots: Option<PathBuf>,
    /// The local cloud's instances have doors with TLS at these ports.
    pub instance_tls: Option<TlsPorts>,
    pub trusted_proxies: Vec<IpAddr>,
    pub cors_origins: Vec<String>,
    pub log: String,
    pub log_format: LogFormat,
    /// Faults and latency of the local cloud.
    pub faults: FaultSettings,
    /// Where the process kills itself, or every agent, once: `provision/bucket/after`, `agents:migrate/copy/before`.
    /// For tests of recovery.
    pub crash_at: Option<String>,
    /// Which step fails for good, once: `migrate/copy`. For tests of turning back.
    pub fail_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Serialize)]
struct Defaults {
    data: &'static str,
    cloud: CloudName,
    listen: &'static str,
    dns_port: u16,
    client_domain: &'static str,
    recipes: [&'static str; 1],
    name: &'static str,
    time_zone: &'static str,
    dns_ttl_seconds: u32,
    installation: &'static str,
    aws_patience_seconds: u64,
    aws_subnets: [&'static str; 0],
    aws_volume_gib: i32,
    aws_bucket_principals: [&'static str; 0],
    warm_places: u32,
    hash_queue: usize,
    signups_per_address_per_hour: u32,
    signups_per_network_per_day: u32,
    signup_network_ipv4: u8,
    signup_network_ipv6: u8,
    acme: bool,
    acme_directory: &'static str,
    acme_retry_seconds: u32,
    trusted_proxies: [&'static str; 0],
    cors_origins: [&'static str; 0],
    log: &'static str,
    log_format: LogFormat,
    faults: FaultSettings,
}

fn defaults() -> Defaults {
    Defaults {
        data: "data",
        cloud: CloudName::Local,
        listen: "127.0.0.1:8080",
        dns_port: 0,
        client_domain: "stackpro.localhost",
        recipes: ["site"],
        name: "StackPro",
        time_zone: "UTC",
        dns_ttl_seconds: 2,
        installation: "stackpro",
        aws_patience_seconds: 20,
        aws_subnets: [],
        aws_volume_gib: 30,
        aws_bucket_principals: [],
        warm_places: 1,
        hash_queue: 64,
        signups_per_address_per_hour: 20,
        signups_per_network_per_day: 100,
        signup_network_ipv4: 24,
        signup_network_ipv6: 56,
        acme: false,
        acme_directory: "https://acme-v02.api.letsencrypt.org/directory",
        acme_retry_seconds: 240,
        trusted_proxies: [],
        cors_origins: [],
        log: "info,sqlx=warn,hyper=warn,hickory_server=warn",
        log_format: LogFormat::Text,
        faults: FaultSettings::default(),
    }
}

/// What the command line may set.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Overrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads every source. The error says which setting is wrong, where it came from and what it must be.
    pub(crate) fn read(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Box<figment::Error>> {
        let mut figment = Figment::from(Serialized::defaults(defaults()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        for (name, value) in dotenv() {
            let value = value.parse().unwrap_or_else(|_| figment::value::Value::from(value));
            figment = figment.merge((name, value));
        }
        figment = figment
            .merge(Env::raw().only(&COMMON))
            .merge(Env::prefixed("STACKPRO_"))
            .merge(Serialized::defaults(overrides));
        figment.extract().map_err(Box::new)
    }

    pub(crate) fn database_url(&self) -> String {
        use secrecy::ExposeSecret;
        match &self.database_url {
            Some(url) => url.expose_secret().to_owned(),
            None => format!("sqlite:{}", self.data.join("stackpro.db").display()),
        }
    }

    /// Where the till's Stripe is, unless it is the simulated one that this product runs.
    pub(crate) fn real_stripe(&self) -> Option<String> {
        let is_real = self.stripe_secret_key.is_some() || self.cloud == CloudName::Aws;
        self.stripe_api_base.clone().or_else(|| is_real.then(|| REAL_STRIPE.to_owned()))
    }

    /// The simulated Stripe is beside the site: the next port, unless any will do.
    pub(crate) fn stripe_listen(&self) -> SocketAddr {
        self.stripe_listen.unwrap_or_else(|| {
            let port = if self.listen.port() == 0 { 0 } else { self.listen.port().saturating_add(1) };
            SocketAddr::new(self.listen.ip(), port)
        })
    }
}

/// `.env` in the working folder, if there is one: only settings of ours are taken from it.
fn dotenv() -> Vec<(String, String)> {
    let Ok(entries) = dotenvy::from_filename_iter(".env") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            let ours = lower.strip_prefix("stackpro_").map(str::to_owned);
            ours.or_else(|| COMMON.contains(&lower.as_str()).then_some(lower)).map(|name| (name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete() {
        let config = Config::read(None, &Overrides::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.stripe_listen().to_string(), "127.0.0.1:8081");
        assert_eq!(config.database_url(), "sqlite:data/stackpro.db");
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stackpro.toml");
        for (text, named) in [("listen = \"nowhere\"", "listen"), ("lissten = \"127.0.0.1:1\"", "lissten")] {
            std::fs::write(&file, text).unwrap();
            let error = Config::read(Some(&file), &Overrides::default()).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn every_setting_is_explained_in_the_example() {
        let example = include_str!("../../../.env.example");
        let (_, after) = include_str!("config.rs").split_once("struct Config {").unwrap();
        let (fields, _) = after.split_once("\n}").unwrap();
        let fields = fields.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':'));
        let names: Vec<String> = fields.map(|(name, _)| name.to_ascii_uppercase()).collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            let explained = [format!("STACKPRO_{name}="), format!("{name}=")].iter().any(|n| example.contains(n));
            assert!(explained, "{name} is not in .env.example");
        }
    }
}

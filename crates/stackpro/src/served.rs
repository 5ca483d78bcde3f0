//! What a server leaves in the data folder, so that whoever works beside it finds it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What `serve` writes to `serve.json` in the data folder once it listens.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Served<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) url: &'a str,
    pub(crate) stripe_url: &'a str,
    pub(crate) pid: u32,
    /// To make the first operator; none when there is one.
    pub(crate) operator_link: Option<&'a str>,
}

impl Served<'_> {
    /// Whole or not at all, and readable by its owner alone: it holds the operator's link.
    pub(crate) fn write(&self, data: &Path) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(self)?;
        let temporary = data.join("serve.json.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&json)?;
        std::fs::rename(temporary, data.join("serve.json"))
    }
}

/// Where the last server of this data folder listened.
pub(crate) fn last_address(config: &Config) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(config.data.join("serve.json")).ok()?;
    let served: serde_json::Value = serde_json::from_str(&text).ok()?;
    served["listen"].as_str()?.parse().ok()
}

/// The simulated Stripe's folder.
pub(crate) fn stripe_folder(config: &Config) -> PathBuf {
    config.data.join("cloud").join("stripe")
}

/// Where the simulated Stripe of this data folder last said that it is.
pub(crate) fn stripe_base(config: &Config) -> String {
    let said = std::fs::read_to_string(stripe_folder(config).join("address"));
    said.unwrap_or_else(|_| format!("http://{}", config.stripe_listen()))
}

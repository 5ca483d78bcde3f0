//! The operator's release: a list of checksums, and the programs that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Below it the proxy serves it.
pub(crate) const PATH: &str = "/release";
const MACHINE: &str = std::env::consts::ARCH;

pub(crate) struct Release {
    sums: String,
    files: BTreeMap<String, PathBuf>,
}

impl Release {
    /// Of programs that nobody fetches, since each instance runs the binary that is tested.
    pub(crate) fn unread() -> Self {
        let sums = ["stackpro", "docker-compose"].map(|name| format!("00  {name}-x86_64\n")).concat();
        Self { sums, files: BTreeMap::new() }
    }

    /// Of these programs. Blocks while it sums them up.
    pub(crate) fn of(binary: &Path, compose: &Path) -> Self {
        let files = [("stackpro", binary), ("docker-compose", compose)];
        let files: BTreeMap<_, _> =
            files.into_iter().map(|(name, path)| (format!("{name}-{MACHINE}"), path.to_owned())).collect();
        let line = |(name, path): (&String, &PathBuf)| {
            let content = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            format!("{}  {name}\n", sum(&content))
        };
        Self { sums: files.iter().map(line).collect(), files }
    }

    /// Of the list, as the operator's settings name the release.
    pub(crate) fn sha256(&self) -> String {
        sum(self.sums.as_bytes())
    }

    /// What is below [`PATH`].
    pub(crate) async fn read(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "/SHA256SUMS" => Some(self.sums.clone().into_bytes()),
            name => tokio::fs::read(self.files.get(name.trim_start_matches('/'))?).await.ok(),
        }
    }
}

fn sum(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

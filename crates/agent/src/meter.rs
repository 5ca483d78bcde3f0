//! What a stack was asked for: requests and traffic. The counts only grow, over restarts too.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::disk;

pub(crate) struct Meter {
    file: PathBuf,
    requests: AtomicU64,
    traffic: AtomicU64,
    saved: AtomicU64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    pub requests: u64,
    pub traffic_bytes: u64,
}

impl Meter {
    pub(crate) fn open(file: PathBuf) -> Self {
        // Counts that cannot be read are no reason not to serve.
        let Counts { requests, traffic_bytes } = disk::read_json(&file).unwrap_or_default().unwrap_or_default();
        Self { file, requests: requests.into(), traffic: traffic_bytes.into(), saved: requests.into() }
    }

    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn traffic(&self, bytes: u64) {
        self.traffic.fetch_add(bytes, Relaxed);
    }

    /// The counts, written to the disk first, so that what was told once never grows smaller.
    pub(crate) fn read(&self) -> Counts {
        let counts = Counts { requests: self.requests.load(Relaxed), traffic_bytes: self.traffic.load(Relaxed) };
        if self.saved.swap(counts.requests, Relaxed) != counts.requests {
            let saved = serde_json::to_vec(&counts).map_err(io::Error::from);
            if let Err(error) = saved.and_then(|bytes| disk::write_atomic(&self.file, &bytes)) {
                tracing::warn!(%error, "counts are not saved");
            }
        }
        counts
    }
}

//! The agent's own certificate, by which the control plane and other agents know it. It is made once, and
//! never leaves the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use stackpro_domain::Fingerprint;
use stackpro_protocol::agent::{CONTROL_NAME, FRONT_NAME};
use stackpro_tls::KeyedChain;

use crate::disk;

pub(crate) struct Identity {
    pub certificate: Arc<CertifiedKey>,
    pub fingerprint: Fingerprint,
}

impl Identity {
    /// What is on the disk, or a new one that then is. Blocks.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("identity.json");
        let kept: Option<KeyedChain> = disk::read_json(&path)?;
        let chain = if let Some(chain) = kept {
            chain
        } else {
            let made = KeyedChain::self_signed(&[CONTROL_NAME, FRONT_NAME]).map_err(io::Error::other)?;
            disk::write_json(&path, &made)?;
            made
        };
        let certificate = Arc::new(chain.certified_key().map_err(io::Error::other)?);
        Ok(Self { certificate, fingerprint: chain.facts().map_err(io::Error::other)?.fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_is_made_once_and_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::open(dir.path()).unwrap().fingerprint;
        assert_eq!(Identity::open(dir.path()).unwrap().fingerprint, first);
        let file = dir.path().join("identity.json");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_file(&file).unwrap();
        assert_ne!(Identity::open(dir.path()).unwrap().fingerprint, first);
        // What is damaged is not quietly replaced: whoever pinned it would be locked out without a word.
        std::fs::write(&file, "{}").unwrap();
        assert!(Identity::open(dir.path()).is_err());
    }
}

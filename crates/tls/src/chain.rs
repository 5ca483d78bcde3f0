//! A certificate with its chain and its key, as text.

use std::fmt;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use stackpro_domain::{Fingerprint, Time};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("it is not PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("there is no certificate in it")]
    Empty,
    #[error("it cannot be read: {0}")]
    Form(String),
    #[error("its key does not go with it: {0}")]
    Key(#[from] rustls::Error),
    #[error("it cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("no client for HTTP: {0}")]
    Client(#[from] reqwest::Error),
}

/// A certificate, those that vouch for it, and its private key, all in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyedChain {
    /// The certificate itself comes first.
    pub chain: String,
    pub key: String,
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Lower case; one that begins with `*.` stands for every name one label longer.
    pub names: Vec<String>,
    pub not_before: Time,
    pub not_after: Time,
    pub fingerprint: Fingerprint,
}

impl KeyedChain {
    /// A certificate for these names that nobody vouches for. It does not end: it is known by its
    /// fingerprint, or not at all.
    pub fn self_signed(names: &[&str]) -> Result<Self, ChainError> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.self_signed(&key)?;
        Ok(Self { chain: certificate.pem(), key: key.serialize_pem() })
    }

    /// What a server needs. An error when the key is another certificate's.
    pub fn certified_key(&self) -> Result<CertifiedKey, ChainError> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        Ok(CertifiedKey::from_der(self.certificates()?, key, &ring::default_provider())?)
    }

    pub fn facts(&self) -> Result<Facts, ChainError> {
        let chain = self.certificates()?;
        let first = chain.first().ok_or(ChainError::Empty)?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|error| ChainError::Form(error.to_string()))?;
        let names = parsed.subject_alternative_name().map_err(|error| ChainError::Form(error.to_string()))?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let ms = |seconds: i64| Time(seconds.saturating_mul(1000));
        Ok(Facts {
            names: names.collect(),
            not_before: ms(parsed.validity().not_before.timestamp()),
            not_after: ms(parsed.validity().not_after.timestamp()),
            fingerprint: crate::fingerprint(first),
        })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ChainError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>()?;
        if chain.is_empty() { Err(ChainError::Empty) } else { Ok(chain) }
    }
}

/// Never shows the key.
impl fmt::Debug for KeyedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedChain").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Facts {
    /// Whether the certificate stands for this host name (lower case): exactly, or by a wildcard for one
    /// label (RFC 9525, section 6.3).
    pub fn covers(&self, host: &str) -> bool {
        let above = host.split_once('.').map(|(_, above)| above);
        self.names.iter().any(|name| name == host || (above.is_some() && name.strip_prefix("*.") == above))
    }

    pub fn is_valid_at(&self, now: Time) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_what_it_is_for_and_never_its_key() {
        let chain = KeyedChain::self_signed(&["*.clients.example", "Clients.example"]).unwrap();
        let facts = chain.facts().unwrap();
        assert_eq!(facts.names, ["*.clients.example", "clients.example"]);
        for (host, covered) in [
            ("a.clients.example", true),
            ("clients.example", true),
            ("a.b.clients.example", false),
            ("example", false),
            ("clients.example.evil.example", false),
        ] {
            assert_eq!(facts.covers(host), covered, "{host}");
        }
        assert!(facts.is_valid_at(Time(1_800_000_000_000)));
        assert!(!facts.is_valid_at(facts.not_after) && !facts.is_valid_at(Time(i64::MIN)));
        assert!(!format!("{chain:?}").contains("PRIVATE") && chain.key.contains("PRIVATE"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let good = KeyedChain::self_signed(&["a.example"]).unwrap();
        for bad in [
            KeyedChain { chain: String::new(), ..good.clone() },
            KeyedChain { chain: good.key.clone(), ..good.clone() },
            KeyedChain { chain: good.chain.replace("MII", "AAA"), ..good.clone() },
            KeyedChain { key: String::new(), ..good.clone() },
            KeyedChain { key: KeyedChain::self_signed(&["a.example"]).unwrap().key, ..good.clone() },
        ] {
            assert!(bad.certified_key().is_err() || bad.facts().is_err(), "{bad:?}");
        }
    }
}

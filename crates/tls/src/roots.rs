//! Whom to believe about the names of servers on the internet.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::chain::ChainError;

/// The CAs that browsers believe (Mozilla's list), and perhaps some more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Certificates, in PEM.
    pub more: Option<String>,
}

impl Roots {
    pub fn client_config(&self) -> Result<ClientConfig, ChainError> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in CertificateDer::pem_slice_iter(self.more.as_deref().unwrap_or_default().as_bytes()) {
            store.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        Ok(config.with_safe_default_protocol_versions()?.with_root_certificates(store).with_no_client_auth())
    }
}

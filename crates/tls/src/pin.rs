//! Connections to one known certificate: whoever has another is refused, whatever name or issuer it bears.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest, Sha256};
use stackpro_domain::Fingerprint;

use crate::chain::ChainError;

/// The SHA-256 of a certificate.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint::of(Sha256::digest(certificate.as_ref()).into())
}

/// How to connect to the one server that has this certificate, and its key. Names, dates and issuers are
/// of no consequence.
pub fn pinned(to: &Fingerprint) -> Result<ClientConfig, ChainError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned { to: to.clone(), provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// An HTTP client for that one server, which is at `at`: its requests go to `https://{name}:{port}`.
pub fn http_client(
    builder: reqwest::ClientBuilder,
    name: &str,
    at: SocketAddr,
    to: &Fingerprint,
) -> Result<reqwest::Client, ChainError> {
    let builder = builder.tls_backend_preconfigured(pinned(to)?).https_only(true);
    Ok(builder.no_proxy().resolve(name, at).build()?)
}

#[derive(Debug)]
struct Pinned {
    to: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(certificate) == self.to {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::KeyedChain;

    /// One connection by loopback to a server with this certificate, made by a client that pins `to`.
    fn connect(certificate: CertifiedKey, to: &Fingerprint) -> std::io::Result<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let resolver = Arc::new(SingleCertAndKey::from(certificate));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_cert_resolver(resolver));
        let serving = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            let _ = tls.write_all(&[7]).and_then(|()| tls.flush());
        });
        let config = Arc::new(pinned(to).unwrap());
        let client = ClientConnection::new(config, "any.example".try_into().unwrap()).unwrap();
        let mut tls = StreamOwned::new(client, TcpStream::connect(address).unwrap());
        let mut byte = [0];
        let read = tls.read_exact(&mut byte).map(|()| byte[0]);
        drop(tls);
        serving.join().unwrap();
        read
    }

    fn two() -> [KeyedChain; 2] {
        [(), ()].map(|()| KeyedChain::self_signed(&["a.example"]).unwrap())
    }

    #[test]
    fn only_the_pinned_certificate_is_spoken_to() {
        let [ours, other] = two();
        let [ours_is, other_is] = [&ours, &other].map(|chain| chain.facts().unwrap().fingerprint);
        assert_ne!(ours_is, other_is);
        assert_eq!(connect(ours.certified_key().unwrap(), &ours_is).unwrap(), 7);
        assert!(connect(other.certified_key().unwrap(), &ours_is).is_err());
    }

    #[test]
    fn whoever_has_the_certificate_without_its_key_is_refused() {
        let [ours, other] = two();
        let [certificate, stranger] = [&ours, &other].map(|chain| chain.certified_key().unwrap());
        let stolen = CertifiedKey::new(certificate.cert.clone(), stranger.key);
        assert!(connect(stolen, &ours.facts().unwrap().fingerprint).is_err());
    }
}

//! Every key and token, and where each comes from.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use secrecy::{ExposeSecret, SecretBox};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use stackpro_domain::{ClientId, InstanceId, ResourceId};

/// Every key, derived from one master key, so that one secret is kept and each use has a key of its own.
#[derive(Clone)]
pub struct Secrets {
    master: Arc<SecretBox<[u8; 32]>>,
}

impl Secrets {
    pub fn new(master: [u8; 32]) -> Self {
        Self { master: Arc::new(SecretBox::new(Box::new(master))) }
    }

    pub fn jwt_key(&self) -> [u8; 32] {
        self.derive(&["jwt"])
    }

    /// The token that a form of this session carries.
    pub fn csrf_token(&self, session: &str) -> String {
        hex(&self.derive(&["csrf", session]))
    }

    /// Bears every request between the control plane and the agent of this instance.
    pub fn agent_key(&self, instance: &InstanceId) -> String {
        hex(&self.derive(&["agent", instance.as_str()]))
    }

    /// With which the agent of an instance enrols, once. Derived, so that a launch that is made again bears
    /// the same one.
    pub fn enrol_token(&self, instance: &ResourceId) -> String {
        hex(&self.derive(&["enrol", instance.as_str()]))
    }

    /// The password of a client's file portal.
    pub fn portal_password(&self, client: &ClientId, rotation: i64) -> String {
        readable(&self.derive(&["portal-password", client.as_str(), &rotation.to_string()]))
    }

    /// What a recipe's secret of this name is for a client, for ever.
    pub fn recipe_secret(&self, client: &ClientId, name: &str) -> String {
        readable(&self.derive(&["recipe-secret", client.as_str(), name]))
    }

    /// Signs the links by which the dashboard opens a portal; in hex.
    pub fn portal_key(&self, client: &ClientId) -> String {
        hex(&self.derive(&["portal-key", client.as_str()]))
    }

    /// By which it is known who has had a trial, without keeping whose address it was.
    pub fn claimant(&self, key: &str) -> String {
        hex(&self.derive(&["claimant", key]))
    }

    /// The key of the simulated Stripe's API, in the form of Stripe's own.
    pub fn till_api_key(&self) -> String {
        format!("sk_test_{}", &hex(&self.derive(&["till-api-key"]))[..32])
    }

    /// With which the simulated Stripe signs its webhooks.
    pub fn till_webhook_secret(&self) -> String {
        format!("whsec_{}", &hex(&self.derive(&["till-webhook"]))[..32])
    }

    /// Encrypts what the database keeps (ChaCha20-Poly1305, a random nonce first, in base64). Only the same
    /// use opens it again.
    pub fn seal<T: Serialize>(&self, what: &str, value: &T) -> String {
        let mut sealed = serde_json::to_vec(value).unwrap_or_default();
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        // It fails beyond 256 GB alone.
        let done = self.sealing_key(what).seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(what.as_bytes()),
            &mut sealed,
        );
        if done.is_err() {
            sealed.clear();
        }
        BASE64.encode([nonce.as_slice(), &sealed].concat())
    }

    /// What [`Secrets::seal`] encrypted for this use; none when it was another, or by another key.
    pub fn unseal<T: DeserializeOwned>(&self, what: &str, sealed: &str) -> Option<T> {
        let sealed = BASE64.decode(sealed).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.sealing_key(what).open_in_place(nonce, Aad::from(what.as_bytes()), &mut sealed).ok()?;
        serde_json::from_slice(plain).ok()
    }

    fn sealing_key(&self, what: &str) -> LessSafeKey {
        #[allow(clippy::expect_used)] // The key has the cipher's length.
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.derive(&["seal", what])).expect("a key of 32 bytes");
        LessSafeKey::new(key)
    }

    /// Each part is preceded by its length, so that no two lists of parts are one message.
    fn derive(&self, parts: &[&str]) -> [u8; 32] {
        let mut mac = keyed(self.master.expose_secret());
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

/// 20 characters of which none is read wrongly, 100 bits.
fn readable(bytes: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 32] = b"23456789abcdefghjkmnpqrstuvwxyzA";
    bytes[..20].iter().map(|b| char::from(ALPHABET[usize::from(b % 32)])).collect()
}

/// HMAC-SHA256 takes a key of any length.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0; 64];
    if key.len() <= 64 {
        block[..key.len()].copy_from_slice(key);
    } else {
        block[..32].copy_from_slice(&Sha256::digest(key));
    }
    Hmac::new(&block.into())
}

/// HMAC-SHA256 of the parts, one after the other.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// By which a portal knows a link of ours: `key` is [`Secrets::portal_key`], in hex.
pub fn portal_signature(key: &str, message: &str) -> String {
    let digit = |b: u8| char::from(b).to_digit(16).unwrap_or_default() as u8;
    let key: Vec<u8> =
        key.as_bytes().chunks(2).map(|pair| pair.iter().fold(0, |byte, b| byte * 16 + digit(*b))).collect();
    hex(&hmac_sha256(&key, &[message.as_bytes()]))
}

/// What is stored of a token: its SHA-256 in hex. A token is of high entropy, so that no salt is needed.
pub fn hash_token(text: &str) -> String {
    hex(&Sha256::digest(text))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

/// A secret for a link or a cookie: 256 random bits in hex. Only its SHA-256 is stored.
pub fn random_token() -> String {
    hex(&rand::rng().random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        Secrets::new([7; 32])
    }

    #[test]
    fn every_use_has_a_key_of_its_own() {
        let (acme, other): (ClientId, ClientId) = ("acme-7f3k".parse().unwrap(), "acme-7f3m".parse().unwrap());
        let s = secrets();
        let keys = [
            s.portal_key(&acme),
            s.portal_key(&other),
            s.csrf_token("acme-7f3k"),
            s.agent_key(&"acme-7f3k".parse().unwrap()),
            hex(&s.jwt_key()),
        ];
        assert!(keys.iter().enumerate().all(|(i, key)| !keys[..i].contains(key)), "{keys:?}");
        assert_eq!(s.portal_key(&acme), secrets().portal_key(&acme));
        assert_ne!(s.portal_password(&acme, 0), s.portal_password(&acme, 1));
        assert_eq!(s.portal_password(&acme, 0).len(), 20);
        assert_ne!(s.recipe_secret(&acme, "A"), s.recipe_secret(&acme, "B"));
        assert_ne!(s.recipe_secret(&acme, "A"), s.recipe_secret(&other, "A"));
        assert_ne!(s.derive(&["ab", "c"]), s.derive(&["a", "bc"]));
    }

    #[test]
    fn what_is_sealed_opens_for_the_same_use_and_key_alone() {
        let s = secrets();
        let sealed = s.seal("certificate", &"the key");
        assert_eq!(secrets().unseal::<String>("certificate", &sealed).as_deref(), Some("the key"));
        assert!(!sealed.contains("the key") && sealed != s.seal("certificate", &"the key"));
        let opened = |s: &Secrets, what: &str, sealed: &str| s.unseal::<String>(what, sealed);
        assert_eq!(opened(&s, "certificate-progress", &sealed), None);
        assert_eq!(opened(&Secrets::new([8; 32]), "certificate", &sealed), None);
        let mut torn = sealed.clone();
        torn.replace_range(20..21, if &sealed[20..21] == "A" { "B" } else { "A" });
        for bad in [torn.as_str(), "", "AAAA", "not base64!"] {
            assert_eq!(opened(&s, "certificate", bad), None, "{bad}");
        }
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let mac = hex(&hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]));
        assert_eq!(mac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hex(&hmac_sha256(&[0xaa; 131], &[b"Test Using Larger Than Block-Size Key - Hash Key First"]));
        assert_eq!(long, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }
}

//! Secrets: made, hashed, compared. Comparisons take the same time wherever the difference is.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// 256 random bits in hex.
pub(crate) fn random() -> String {
    hex(&rand::random::<[u8; 32]>())
}

pub(crate) fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

pub(crate) fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Whether `signature` is the lower-case hex HMAC-SHA256 of `message` by the key whose hex is `key`.
pub(crate) fn is_signed(key: &str, message: &str, signature: &str) -> bool {
    let Some(key) = unhex(key).filter(|key| !key.is_empty()) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
    mac.update(message.as_bytes());
    same(&hex(&mac.finalize().into_bytes()), signature)
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &axum::http::HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        // Test case 2.
        let (key, message) = ("4a656665", "what do ya want for nothing?");
        let signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(is_signed(key, message, signature));
        assert!(!is_signed(key, "what do ya want for nothing!", signature));
        assert!(!is_signed("4a656666", message, signature));
        assert!(!is_signed("", message, signature) && !is_signed("é", message, signature));
        assert!(!is_signed(key, message, ""));
    }
}

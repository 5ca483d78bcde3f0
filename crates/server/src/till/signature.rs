//! Webhook signatures, as Stripe makes them: <https://docs.stripe.com/webhooks#verify-manually>.

use stackpro_domain::Time;
use subtle::{Choice, ConstantTimeEq};

use crate::secrets::{hex, hmac_sha256};

/// Stripe's libraries accept events that are at most so old; a clock that runs ahead is no better.
const TOLERANCE_SECONDS: i64 = 300;
/// More `v1` in one header than any rotation of secrets needs.
const MAX_SIGNATURES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("the Stripe-Signature header is missing or cannot be read")]
    Header,
    #[error("the event was signed more than five minutes ago, or ahead of time")]
    Stale,
    #[error("the signature is not that of this body")]
    Wrong,
}

/// Whether `body`, byte for byte, was signed with one of `secrets` at about `now`.
pub fn verify(header: &str, body: &[u8], secrets: &[&str], now: Time) -> Result<(), BadSignature> {
    let (mut at, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", value)) => at = Some(value),
            Some(("v1", value)) if signatures.len() < MAX_SIGNATURES => signatures.push(value),
            _ => {}
        }
    }
    let at = at.ok_or(BadSignature::Header)?;
    let seconds: i64 = at.parse().map_err(|_| BadSignature::Header)?;
    if signatures.is_empty() {
        return Err(BadSignature::Header);
    }
    let mut matches = Choice::from(0);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let expected = hex(&hmac_sha256(secret.as_bytes(), &[at.as_bytes(), b".", body]));
        for signature in &signatures {
            matches |= expected.as_bytes().ct_eq(signature.as_bytes());
        }
    }
    if !bool::from(matches) {
        return Err(BadSignature::Wrong);
    }
    let age = (now.ms() / 1000).saturating_sub(seconds);
    if age.saturating_abs() > TOLERANCE_SECONDS { Err(BadSignature::Stale) } else { Ok(()) }
}

/// The header by which a body is signed.
pub fn sign(body: &[u8], secret: &str, now: Time) -> String {
    let at = (now.ms() / 1000).to_string();
    format!("t={at},v1={}", hex(&hmac_sha256(secret.as_bytes(), &[at.as_bytes(), b".", body])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    const NOW: Time = Time(1_795_562_204_123);

    #[test]
    fn only_the_tills_own_words_pass() {
        let header = sign(BODY, "whsec_a", NOW);
        assert_eq!(verify(&header, BODY, &["whsec_a"], NOW), Ok(()));
        assert_eq!(verify(&header, BODY, &["whsec_b", "whsec_a"], NOW), Ok(()), "rotation of ours");
        let both = format!("{header},v1={}", "0".repeat(64));
        assert_eq!(verify(&both, BODY, &["whsec_a"], NOW), Ok(()), "rotation of theirs");
        assert_eq!(verify(&header, b"{\"id\":\"evt_2\"}", &["whsec_a"], NOW), Err(BadSignature::Wrong));
        assert_eq!(verify(&header, BODY, &["whsec_b", ""], NOW), Err(BadSignature::Wrong));
        assert_eq!(verify(&sign(BODY, "", NOW), BODY, &[""], NOW), Err(BadSignature::Wrong), "no secret, no entry");
        let v0 = header.replace("v1", "v0");
        for bad in ["", "t=1", "v1=aa", "t=x,v1=aa", ",,,=", v0.as_str()] {
            assert_eq!(verify(bad, BODY, &["whsec_a"], NOW), Err(BadSignature::Header), "{bad}");
        }
    }

    #[test]
    fn old_and_future_events_are_refused() {
        let header = sign(BODY, "whsec_a", NOW);
        assert_eq!(verify(&header, BODY, &["whsec_a"], NOW.plus(300_000)), Ok(()));
        assert_eq!(verify(&header, BODY, &["whsec_a"], NOW.plus(301_000)), Err(BadSignature::Stale));
        assert_eq!(verify(&header, BODY, &["whsec_a"], NOW.plus(-301_000)), Err(BadSignature::Stale));
    }
}

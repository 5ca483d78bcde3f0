//! The certificate for the clients' domain and every name one label below it: `order` obtains it from a CA,
//! `handout` gives it to the agents, and here is how it stands. [`crate::reconcilers::certificates`] says when.

pub(crate) mod handout;
pub(crate) mod order;

use stackpro_cloud::CloudError;
use stackpro_domain::Time;
use stackpro_store::{CertificateRow, StoreError};
use stackpro_tls::{ChainError, KeyedChain};

use crate::world::World;

/// What the database keeps encrypted.
const CHAIN: &str = "certificate";
const PROGRESS: &str = "certificate-progress";

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error("the certificate cannot be used: {0}")]
    Chain(#[from] ChainError),
}

/// The certificate with its key. None while there is none, and when the secret key is another one than it was.
pub(crate) fn opened(world: &World, row: &CertificateRow) -> Option<KeyedChain> {
    world.secrets.unseal(CHAIN, row.sealed.as_deref()?)
}

/// How it stands with the certificate, for people: what is well, or what is wrong and what to do about it.
/// None when there is to be no certificate.
pub async fn state(world: &World) -> Option<Result<String, String>> {
    let acme = world.settings.acme.as_ref()?;
    let domain = &world.settings.client_domain;
    let row = match world.store.certificate(domain).await {
        Ok(row) => row,
        Err(error) => return Some(Err(error.to_string())),
    };
    Some(row.map_or_else(
        || Err(format!("none yet for {domain}; `stackpro serve` obtains one from {}", acme.directory.url)),
        |row| describe(&row, world.real_now()),
    ))
}

fn describe(row: &CertificateRow, now: Time) -> Result<String, String> {
    let why = row.error.as_ref().map(|error| format!("; the last try failed: {error}"));
    let why = why.unwrap_or_default();
    match row.not_after {
        Some(until) if until <= now => Err(format!("*.{} was valid until {}{why}", row.domain, until.date())),
        Some(until) if row.error.is_some() => Err(format!("*.{} is valid until {}{why}", row.domain, until.date())),
        Some(until) => {
            let renewal = row.renew_at.map(|at| format!(", to be renewed on {}", at.date())).unwrap_or_default();
            Ok(format!("*.{} is valid until {}{renewal}", row.domain, until.date()))
        }
        None if row.error.is_some() => Err(format!("none yet for *.{}{why}", row.domain)),
        None => Err(format!("none yet for *.{}; it is being ordered", row.domain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_certificate() {
        let day = stackpro_domain::time::DAY;
        let row = |error: Option<&str>, not_after: Option<i64>| CertificateRow {
            domain: "clients.example".into(),
            directory: None,
            sealed: None,
            fingerprint: None,
            not_before: None,
            not_after: not_after.map(|days| Time(days * day)),
            renew_at: not_after.map(|days| Time((days - 30) * day)),
            progress: None,
            ordered_at: None,
            published: false,
            attempts: 0,
            error: error.map(str::to_owned),
            next_at: Time(0),
            fence: 1,
        };
        let now = Time(10 * day);
        assert!(describe(&row(None, Some(90)), now).unwrap().contains("valid until"));
        for (row, part) in [
            (row(None, Some(9)), "was valid until"),
            (row(Some("the CA is down"), Some(90)), "the CA is down"),
            (row(Some("the CA is down"), None), "the CA is down"),
            (row(None, None), "being ordered"),
        ] {
            let wrong = describe(&row, now).unwrap_err();
            assert!(wrong.contains(part), "{wrong}");
        }
    }
}

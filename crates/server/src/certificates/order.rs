//! Obtains the certificate from a CA by ACME (DNS-01).
//!
//! One node at a time works on it: it claims the row by moving its date on. A new order is counted before the
//! CA hears of it, so that whatever dies, and how often, the CA is not asked more than it allows; an order
//! that was written down goes on where it stopped. The certificate and the end of its order are one write.

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use stackpro_cloud::CloudError;
use stackpro_domain::Time;
use stackpro_store::{CertificateRow, StoreError};
use stackpro_tls::acme::{self, AcmeError, Answer, Directory, Keeper, Progress, Proof};
use stackpro_tls::{KeyedChain, pace};
use tokio::time::{Instant, sleep, timeout};

use super::{CHAIN, CertificateError, PROGRESS, opened};
use crate::world::{Acme, World};

/// How long one walk may take in all.
const PATIENCE: Duration = Duration::from_mins(6);
/// How long the name servers may take to learn an answer to a challenge, and the first pause between two looks.
const PUBLISHED_WITHIN: Duration = Duration::from_mins(3);
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Whether there is something to do about it now. Whoever has it, and for how long it rests, is said by the
/// database's clock in the end.
pub(crate) fn is_due(world: &World, acme: &Acme, row: &CertificateRow) -> bool {
    let is_free = row.next_at <= world.real_now();
    is_free && (needs_order(world, acme, row) || row.ordered_at.is_some() || row.published)
}

/// Also when it cannot be read: the secret key is another one than it was.
fn needs_order(world: &World, acme: &Acme, row: &CertificateRow) -> bool {
    let is_of_this_ca = row.directory.as_deref() == Some(acme.directory.url.as_str());
    !is_of_this_ca || row.renew_at.is_none_or(|at| at <= world.real_now()) || opened(world, row).is_none()
}

/// Goes as far on the way as it can now, if nobody else is on it.
pub(crate) async fn advance(world: &World, acme: &Acme) -> Result<(), CertificateError> {
    let mut tx = world.store.begin().await?;
    let claimed = tx.claim_certificate(&world.settings.client_domain, acme.lease_ms).await?;
    tx.commit().await?;
    let Some(row) = claimed else { return Ok(()) };
    let mut desk = Desk { world, acme, row };
    if needs_order(world, acme, &desk.row) || desk.row.ordered_at.is_some() {
        return desk.obtain().await;
    }
    desk.tidy_up().await
}

/// The row, for as long as this node has it to itself.
struct Desk<'a> {
    world: &'a World,
    acme: &'a Acme,
    row: CertificateRow,
}

impl Desk<'_> {
    async fn obtain(&mut self) -> Result<(), CertificateError> {
        let sealed = self.row.progress.as_deref();
        let mut progress: Progress =
            sealed.and_then(|sealed| self.world.secrets.unseal(PROGRESS, sealed)).unwrap_or_default();
        self.row.attempts = self.row.attempts.saturating_add(1);
        if !progress.has_order() {
            // A node that dies before the order is written down leaves behind that it is to rest.
            let rest = pace::pause(self.acme.retry_ms, self.row.attempts).max(self.acme.lease_ms);
            if !self.write(rest).await? {
                return Ok(());
            }
        }
        let domain = &self.world.settings.client_domain;
        let names = [format!("*.{domain}"), domain.clone()];
        let before = opened(self.world, &self.row);
        let directory = self.acme.directory.clone();
        // Each wait for the CA or the name servers is bounded by itself, and what is kept renews the lease.
        let walk = acme::obtain(&directory, &names, Proof::Dns, before.as_ref(), &mut progress, self);
        let obtained = timeout(PATIENCE, Box::pin(walk)).await;
        let late = || AcmeError::Unreachable("it takes too long".into());
        match obtained.unwrap_or_else(|_| Err(late())) {
            Ok(chain) => self.keep_certificate(&chain, &progress, &directory).await,
            Err(error) => self.keep_failure(&error, &progress).await,
        }
    }

    async fn keep_certificate(
        &mut self,
        chain: &KeyedChain,
        progress: &Progress,
        directory: &Directory,
    ) -> Result<(), CertificateError> {
        // `obtain` has read them before it gave the certificate.
        let facts = chain.facts()?;
        self.row.sealed = Some(self.world.secrets.seal(CHAIN, chain));
        self.row.directory = Some(directory.url.clone());
        self.row.renew_at = Some(pace::renew_at(&facts));
        self.row.fingerprint = Some(facts.fingerprint);
        (self.row.not_before, self.row.not_after) = (Some(facts.not_before), Some(facts.not_after));
        self.note(progress);
        (self.row.attempts, self.row.error) = (0, None);
        if self.write(self.acme.lease_ms).await? {
            tracing::info!(domain = self.row.domain, until = %facts.not_after.date(), "there is a certificate");
            self.tidy_up().await?;
        }
        Ok(())
    }

    async fn keep_failure(&mut self, error: &AcmeError, progress: &Progress) -> Result<(), CertificateError> {
        tracing::warn!(%error, domain = self.row.domain, attempts = self.row.attempts, "no new certificate yet");
        if !matches!(error, AcmeError::Unreachable(_) | AcmeError::Ours(_)) {
            self.note(progress);
        }
        self.row.error = Some(error.to_string());
        let rest = pace::pause_after(error, self.acme.retry_ms, self.row.attempts);
        self.write(rest).await?;
        Ok(())
    }

    /// Removes the answer to a challenge that is over.
    async fn tidy_up(&mut self) -> Result<(), CertificateError> {
        if self.row.published && self.row.ordered_at.is_none() {
            self.world.cloud.dns.set_text(&challenge_name(&self.row.domain), &[]).await?;
            self.row.published = false;
        }
        self.write(0).await?;
        Ok(())
    }

    fn note(&mut self, progress: &Progress) {
        self.row.progress = Some(self.world.secrets.seal(PROGRESS, progress));
        let since = self.row.ordered_at.unwrap_or_else(|| self.world.real_now());
        self.row.ordered_at = progress.has_order().then_some(since);
    }

    /// False: another node has the row now.
    async fn write(&mut self, next_in_ms: i64) -> Result<bool, StoreError> {
        let mut tx = self.world.store.begin().await?;
        let written = tx.update_certificate(&self.row, next_in_ms).await?;
        tx.commit().await?;
        Ok(written)
    }

    async fn write_or_stop(&mut self) -> Result<(), String> {
        match self.write(self.acme.lease_ms).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("another node went on with it".into()),
            Err(error) => Err(format!("the database: {error}")),
        }
    }
}

#[async_trait]
impl Keeper for Desk<'_> {
    async fn keep(&mut self, progress: &Progress) -> Result<(), String> {
        self.note(progress);
        self.write_or_stop().await
    }

    async fn answer(&mut self, answers: &[Answer]) -> Result<(), String> {
        self.row.published = true;
        self.write_or_stop().await?;
        let values: Vec<String> = answers.iter().map(|answer| answer.value.clone()).collect();
        let name = challenge_name(&self.row.domain);
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let wait = match self.world.cloud.dns.set_text(&name, &values).await {
                Ok(()) => return Ok(()),
                // Name servers learn it in their own time; and a call that may have taken effect is made again.
                Err(CloudError::Pending { after, .. } | CloudError::Throttled { after, .. }) => after,
                Err(CloudError::Transient { .. }) if begun.elapsed() < PUBLISHED_WITHIN => pause,
                Err(error) => return Err(error.to_string()),
            };
            if begun.elapsed() + wait > PUBLISHED_WITHIN {
                return Err("the name servers do not answer the CA's challenge yet".into());
            }
            sleep(wait).await;
            pause *= 2;
            self.write_or_stop().await?;
        }
    }
}

/// Where a CA looks (RFC 8555, section 8.4), for a wildcard and its domain alike.
fn challenge_name(domain: &str) -> String {
    format!("_acme-challenge.{domain}")
}

/// Asks the CA whether it wants its certificate renewed sooner than it was planned.
pub(crate) async fn heed(world: &World, acme: &Acme) -> Result<(), CertificateError> {
    let Some(row) = world.store.certificate(&world.settings.client_domain).await? else { return Ok(()) };
    let progress = row.progress.as_deref().and_then(|sealed| world.secrets.unseal(PROGRESS, sealed));
    let (Some(chain), Some(progress), Some(planned)) = (opened(world, &row), progress, row.renew_at) else {
        return Ok(());
    };
    let Some((begins, ends)) = acme::renewal(&acme.directory, &progress, &chain).await else { return Ok(()) };
    let at = within(begins, ends, rand::rng().random::<f64>());
    if at >= planned {
        return Ok(());
    }
    let mut tx = world.store.begin().await?;
    if let Some(mut row) = tx.claim_certificate(&row.domain, acme.lease_ms).await? {
        tracing::info!(domain = row.domain, at = %at.date(), "the CA wants its certificate renewed sooner");
        row.renew_at = Some(at);
        tx.update_certificate(&row, 0).await?;
    }
    Ok(tx.commit().await?)
}

/// A moment in a window; `share` is from 0 to 1.
fn within(begins: Time, ends: Time, share: f64) -> Time {
    begins.plus((ends.since(begins).max(0) as f64 * share) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_in_the_cas_window() {
        assert_eq!(within(Time(10), Time(20), 0.0), Time(10));
        assert_eq!(within(Time(10), Time(20), 0.5), Time(15));
        assert_eq!(within(Time(20), Time(10), 0.9), Time(20), "a window that is none");
    }
}

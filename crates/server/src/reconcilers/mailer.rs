//! Sends the mails that transactions queued, no faster than the cloud takes them.
//!
//! A mail is claimed for a while before it is handed over. If whoever claimed it dies, or cannot say whether it
//! was taken, it is sent again, but only after an event had time to tell that it was (`Mail::doubt`): a mail
//! that comes twice is better than one that never comes.

use std::time::Duration;

use futures::future::join_all;
use stackpro_cloud::{CloudError, Message};
use stackpro_domain::names;
use stackpro_store::{MailAsk, OutMail, Pace, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::till_events::backoff_ms;
use crate::world::World;

/// Mails that are handed over at the same time.
const BATCH: u32 = 32;
/// Longer than handing over takes: a call of the cloud's is given up after 23 seconds.
const CLAIM_MS: i64 = 30_000;
/// Failures after which a mail is given up: with the pauses between, more than a day.
const MAX_ATTEMPTS: u32 = 160;
const TIMER: Duration = Duration::from_secs(2);
/// How often the cloud is asked what it lets us send, and how soon again when it did not say.
const ASK_EVERY: Duration = Duration::from_mins(10);
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// What every account may send, also in SES's sandbox.
const LEAST_PER_SECOND: u32 = 1;

pub async fn run(world: &World, shutdown: CancellationToken) {
    let mut ask_at = Instant::now();
    let mut prepared = false;
    while !shutdown.is_cancelled() {
        if ask_at <= Instant::now() {
            prepared = prepared || prepare(world).await;
            ask_at = Instant::now() + if ask(world).await && prepared { ASK_EVERY } else { ASK_AGAIN };
        }
        let wait = round(world).await.unwrap_or_else(|error| {
            tracing::warn!(reconciler = "mailer", %error, "a round failed");
            TIMER
        });
        tokio::select! {
            () = world.wakes.mailer.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Makes our own sender ready, once a process.
async fn prepare(world: &World) -> bool {
    let Some(sender) = names::mail_domain(&world.settings.mail_from) else { return true };
    let done = world.cloud.mail.prepare(&sender).await;
    done.inspect_err(|error| tracing::warn!(sender, %error, "the sender of our mails is not ready")).is_ok()
}

/// Asks what may be sent; as long as the cloud has not said, it is little.
async fn ask(world: &World) -> bool {
    match world.cloud.mail.account().await {
        Ok(account) => {
            world.mail_account.set(account);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "what mail may be sent is not known");
            false
        }
    }
}

/// Sends what is due; returns when it is worth looking again.
pub async fn round(world: &World) -> Result<Duration, StoreError> {
    let now = world.now();
    let real_now = world.real_now();
    let per_second = world.mail_account.get().map_or(Some(LEAST_PER_SECOND), |account| account.per_second);
    let ask = MailAsk {
        now,
        until: now.plus(CLAIM_MS),
        limit: BATCH,
        pace: per_second.map(|per_second| Pace { per_second, at: real_now }),
    };
    let claimed = world.store.claim_mails(&ask).await?;
    let wait = if claimed.full {
        Duration::from_millis(1000 - real_now.ms().rem_euclid(1000) as u64)
    } else if claimed.mails.len() as u32 == BATCH {
        Duration::ZERO
    } else {
        TIMER
    };
    let sent = join_all(claimed.mails.into_iter().map(|mail| send(world, mail))).await;
    sent.into_iter().collect::<Result<Vec<()>, StoreError>>()?;
    Ok(wait)
}

async fn send(world: &World, mail: OutMail) -> Result<(), StoreError> {
    let message = Message {
        id: mail.id.clone(),
        from: world.settings.mail_from.clone(),
        to: mail.to,
        reply_to: mail.reply_to,
        subject: mail.subject,
        text: mail.text,
        html: mail.html,
    };
    let sent = world.cloud.mail.send(&message).await;
    let now = world.now();
    let mut tx = world.store.begin().await?;
    match sent {
        Ok(()) => tx.mail_sent(&mail.id, now).await?,
        Err(CloudError::Throttled { after, .. }) => {
            let why = "the cloud takes no more just now";
            tx.mail_put_off(&mail.id, why, now.plus(after.as_millis() as i64)).await?;
        }
        Err(error) => {
            let doubt =
                if matches!(error, CloudError::Transient { .. }) { world.cloud.mail.doubt() } else { Duration::ZERO };
            let wait = backoff_ms(mail.attempts).max(doubt.as_millis() as i64);
            let give_up = matches!(error, CloudError::Refused { .. }) || mail.attempts + 1 >= MAX_ATTEMPTS;
            tracing::warn!(mail = mail.id, %error, give_up, "a mail was not sent");
            tx.mail_failed(&mail.id, &error.to_string(), now.plus(wait), give_up).await?;
        }
    }
    tx.commit().await
}

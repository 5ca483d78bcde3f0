//! Sends the mails that transactions queued. The same id is delivered once, so that a mail whose sending was
//! not recorded can be sent again.

use std::time::Duration;

use stackpro_cloud::{CloudError, Message};
use stackpro_store::{OutMail, StoreError};
use tokio_util::sync::CancellationToken;

use super::till_events::backoff_ms;
use crate::world::World;

const BATCH: u32 = 50;
/// Failures after which a mail is given up: with the pauses between, more than a day.
const MAX_ATTEMPTS: u32 = 160;
const TIMER: Duration = Duration::from_secs(2);

pub async fn run(world: &World, shutdown: CancellationToken) {
    super::every("mailer", TIMER, &world.wakes.mailer, shutdown, || round(world)).await;
}

/// Sends what is due.
pub async fn round(world: &World) -> Result<(), StoreError> {
    for mail in world.store.queued_mails(world.now(), BATCH).await? {
        send(world, mail).await?;
    }
    Ok(())
}

async fn send(world: &World, mail: OutMail) -> Result<(), StoreError> {
    let message = Message {
        id: mail.id.clone(),
        from: world.settings.mail_from.clone(),
        to: mail.to,
        subject: mail.subject,
        text: mail.text,
        html: mail.html,
    };
    let sent = world.cloud.mail.send(&message).await;
    let now = world.now();
    let mut tx = world.store.begin().await?;
    match sent {
        Ok(()) => tx.mail_sent(&mail.id, now).await?,
        Err(error) => {
            let wait = match &error {
                CloudError::Throttled { after, .. } => after.as_millis() as i64,
                _ => backoff_ms(mail.attempts),
            };
            let give_up = matches!(error, CloudError::Refused { .. }) || mail.attempts + 1 >= MAX_ATTEMPTS;
            tracing::warn!(mail = mail.id, %error, give_up, "a mail was not sent");
            tx.mail_failed(&mail.id, &error.to_string(), now.plus(wait), give_up).await?;
        }
    }
    tx.commit().await
}

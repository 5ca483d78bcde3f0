//! Sends the mails that transactions queued. The same id is delivered once, so that a mail whose sending was
//! not recorded can be sent again.

use std::sync::Arc;
use std::time::Duration;

use stackpro_cloud::{CloudError, Message};
use stackpro_store::{OutMail, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::till_events::backoff_ms;
use crate::world::World;

const BATCH: u32 = 50;
/// Failures after which a mail is given up: with the pauses between, more than a day.
const MAX_ATTEMPTS: u32 = 160;
const TIMER: Duration = Duration::from_secs(2);

/// Sends until `shutdown`: woken by a commit that queued a mail, and by a timer.
pub async fn run(world: Arc<World>, shutdown: CancellationToken) {
    let wake = Arc::new(Notify::new());
    let hook = Arc::clone(&wake);
    world.store.on_commit(move |committed| {
        if committed.queued_mail {
            hook.notify_one();
        }
    });
    loop {
        if let Err(error) = look(&world).await {
            tracing::warn!(%error, "the queued mails cannot be read or marked");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(TIMER) => {}
        }
    }
}

async fn look(world: &World) -> Result<(), StoreError> {
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

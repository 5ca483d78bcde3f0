//! The certificate for the clients' domain: obtained, renewed in time, and handed to every agent.

use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::every;
use crate::certificates::{CertificateError, handout, order};
use crate::world::World;

const TIMER: Duration = Duration::from_secs(2);
/// How often the CA is asked when it wants its certificate renewed (RFC 9773).
const ASK_CA: Duration = Duration::from_hours(6);

pub async fn run(world: &World, shutdown: CancellationToken) {
    let Some(acme) = &world.settings.acme else { return };
    let listen = async {
        let mut often = tokio::time::interval(ASK_CA);
        loop {
            often.tick().await;
            if let Err(error) = order::heed(world, acme).await {
                tracing::warn!(%error, "the CA was not asked whether to renew");
            }
        }
    };
    let never = Notify::new();
    // An order takes minutes, and goes on from where it is cut short.
    tokio::select! {
        () = every("certificates", TIMER, &never, shutdown.clone(), || round(world)) => {}
        () = listen => {}
        () = shutdown.cancelled() => {}
    }
}

/// Goes as far on the way as it can now, and hands out what is there.
pub async fn round(world: &World) -> Result<(), CertificateError> {
    let Some(acme) = &world.settings.acme else { return Ok(()) };
    let row = world.store.certificate(&world.settings.client_domain).await?;
    if row.as_ref().is_none_or(|row| order::is_due(world, acme, row)) {
        order::advance(world, acme).await?;
    }
    handout::hand_out(world, acme).await
}

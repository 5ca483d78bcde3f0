//! Reconcilers: loops without input that make what is into what should be. Each is idempotent, woken by a
//! signal and by a timer, and has one code path; a signal says only that it may be worth looking now.

pub mod attention;
pub mod certificates;
pub mod fleet;
pub mod housekeeper;
pub mod lifecycle;
pub mod mailer;
pub mod reversals;
pub mod sweeper;
pub mod till_events;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::world::World;

/// Looks `every` so often, and whenever `wake` says so, until `shutdown`. What a round could not do is
/// logged, and done by a later one.
async fn every<F, E>(
    name: &'static str,
    every: Duration,
    wake: &Notify,
    shutdown: CancellationToken,
    mut round: impl FnMut() -> F,
) where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    while !shutdown.is_cancelled() {
        if let Err(error) = round().await {
            tracing::warn!(reconciler = name, %error, "a round failed");
        }
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// All of them, until `shutdown`.
pub async fn run(world: Arc<World>, shutdown: CancellationToken) {
    tokio::join!(
        lifecycle::run(&world, shutdown.clone()),
        fleet::run(&world, shutdown.clone()),
        certificates::run(&world, shutdown.clone()),
        housekeeper::run(&world, shutdown.clone()),
        sweeper::run(&world, shutdown.clone()),
        mailer::run(&world, shutdown.clone()),
        till_events::run(&world, shutdown.clone()),
        attention::run(&world, shutdown.clone()),
    );
}

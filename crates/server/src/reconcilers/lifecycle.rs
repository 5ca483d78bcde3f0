//! Time: applies what is due to every client whose next date has come. It reads those alone, by an index.

use std::time::Duration;

use stackpro_domain::ClientId;
use stackpro_domain::lifecycle::Event;
use stackpro_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::every;
use crate::lives::{self, LifeError};
use crate::world::World;

const BATCH: u32 = 100;

pub async fn run(world: &World, shutdown: CancellationToken) {
    every("lifecycle", Duration::from_secs(1), &world.wakes.lifecycle, shutdown, || round(world)).await;
}

/// Until nobody is due any more.
pub async fn round(world: &World) -> Result<(), StoreError> {
    loop {
        let due = world.store.due_clients(world.clock.now(), BATCH).await?;
        let mut moved = false;
        for id in &due {
            match date_came(world, id).await {
                Ok(()) => moved = true,
                Err(error) => tracing::error!(client = %id, %error, "a date could not be applied"),
            }
        }
        // A batch of which none could be moved would come again at once.
        if due.len() < BATCH as usize || !moved {
            return Ok(());
        }
    }
}

async fn date_came(world: &World, id: &ClientId) -> Result<(), LifeError> {
    let mut tx = world.store.begin().await?;
    if let Some(mut client) = tx.client(id).await? {
        lives::apply(world, &mut tx, &mut client, Event::DateCame).await?;
        tx.commit().await?;
    }
    Ok(())
}

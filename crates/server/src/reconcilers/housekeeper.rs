//! What has expired (sign-in sessions, one-time tokens, rate limits) is forgotten, so that nothing grows for ever.

use std::time::Duration;

use stackpro_store::StoreError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::every;
use crate::world::World;

pub async fn run(world: &World, shutdown: CancellationToken) {
    every("housekeeper", Duration::from_mins(10), &Notify::new(), shutdown, || round(world)).await;
}

pub async fn round(world: &World) -> Result<(), StoreError> {
    world.store.forget_expired(world.real_now()).await
}

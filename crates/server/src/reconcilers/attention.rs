//! Tells the operators what stopped and waits for them: a mail to each, once each time that it parks.

use std::time::Duration;

use stackpro_domain::Time;
use stackpro_flow::Flow;
use stackpro_store::{Member, StoreError, TillEvent};
use tokio_util::sync::CancellationToken;

use super::every;
use crate::letters;
use crate::web::mail::Mail;
use crate::web::show;
use crate::world::World;

const BATCH: u32 = 50;
const TIMER: Duration = Duration::from_secs(10);

pub async fn run(world: &World, shutdown: CancellationToken) {
    every("attention", TIMER, &world.wakes.attention, shutdown, || round(world)).await;
}

/// While there is no operator, all of it waits for the first.
pub async fn round(world: &World) -> Result<(), StoreError> {
    let flows = world.store.untold_flows(BATCH).await?;
    let events = world.store.untold_till_events(BATCH).await?;
    if flows.is_empty() && events.is_empty() {
        return Ok(());
    }
    let operators = world.store.operators().await?;
    if operators.is_empty() {
        return Ok(());
    }
    for (flow, parked_at) in flows {
        tell_of_flow(world, &operators, &flow, parked_at).await?;
    }
    for (event, parked_at) in events {
        tell_of_event(world, &operators, &event, parked_at).await?;
    }
    Ok(())
}

async fn tell_of_flow(world: &World, operators: &[Member], flow: &Flow, at: Time) -> Result<(), StoreError> {
    let mut tx = world.store.begin().await?;
    if !tx.flow_is_told(&flow.id, at).await? {
        return Ok(());
    }
    let mail = Mail::Attention {
        what: format!("\u{201c}{}\u{201d} has stopped for {}", show::flow(&flow.kind), flow.subject),
        cause: flow.cause.clone().unwrap_or_default(),
        url: format!("{}/console/flows/{}", world.settings.public_url, flow.id),
    };
    letters::attention(world, &mut tx, operators, &mail, (flow.id.as_str(), at)).await?;
    tx.commit().await
}

async fn tell_of_event(world: &World, operators: &[Member], event: &TillEvent, at: Time) -> Result<(), StoreError> {
    let mut tx = world.store.begin().await?;
    if !tx.till_event_is_told(&event.id, at).await? {
        return Ok(());
    }
    let mail = Mail::Attention {
        what: format!("The event {} of the till could not be handled", event.kind),
        cause: event.error.clone().unwrap_or_default(),
        url: format!("{}/console/flows#events", world.settings.public_url),
    };
    letters::attention(world, &mut tx, operators, &mail, (&event.id, at)).await?;
    tx.commit().await
}

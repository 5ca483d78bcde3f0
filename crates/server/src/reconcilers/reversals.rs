//! Refunds and disputes, as the till has them: for the operator, and for the margin. An event is only a hint; what
//! it is about is fetched anew. The sweep asks for those of whom no event told.

use serde_json::Value;
use stackpro_store::{StoreError, TillEvent, TillEventState, Tx};

use crate::till::TillError;
use crate::till::reversals::{Found, Reversed, charge_of};
use crate::world::World;

/// So long a refund or a dispute may still change: a dispute is over within 120 days, mostly
/// (<https://docs.stripe.com/disputes/how-disputes-work>).
const SWEPT_DAYS: i64 = 180;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Till(#[from] TillError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The charge of which an event says that it was taken back, or how that goes on.
pub fn charge(event: &TillEvent) -> Option<String> {
    let payload: Value = serde_json::from_str(&event.payload).ok()?;
    charge_of(&event.kind, payload.pointer("/data/object")?)
}

/// Writes what became of this charge, and that the event is handled, in one transaction.
pub async fn handle(world: &World, event: &TillEvent, charge: &str) -> Result<(), Fault> {
    let found = world.till.reversals(Reversed::Charge(charge)).await?;
    let mut tx = world.store.begin().await?;
    let kept = keep(&mut tx, &found).await?;
    let state = if kept > 0 { TillEventState::Handled } else { TillEventState::Ignored };
    tx.till_event_handled(&event.id, state, world.now(), None, None).await?;
    Ok(tx.commit().await?)
}

/// Asks the till for all that may have changed.
pub async fn sweep(world: &World) -> Result<(), Fault> {
    let found = world.till.reversals(Reversed::Since(world.now().plus_days(-SWEPT_DAYS))).await?;
    if found.is_empty() {
        return Ok(());
    }
    let mut tx = world.store.begin().await?;
    keep(&mut tx, &found).await?;
    Ok(tx.commit().await?)
}

/// How many are our clients'. Whoever uses the same account at the till for something else has others.
async fn keep(tx: &mut Tx, found: &[Found]) -> Result<usize, StoreError> {
    let mut kept = 0;
    for (customer, reversal) in found {
        let Some(customer) = customer else { continue };
        if let Some(client) = tx.client_by_customer(customer).await? {
            tx.put_reversal(&client.id, reversal).await?;
            kept += 1;
        }
    }
    Ok(kept)
}

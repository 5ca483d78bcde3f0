//! What the till says becomes a client's life.
//!
//! An event is only a hint that something happened: events come late, twice and out of order. So the
//! customer's subscription is fetched anew, and the domain decides what its present state means. A sweep
//! asks for those of whom no event told.

use std::time::Duration;

use serde_json::Value;
use stackpro_domain::lifecycle::{Event, Life, State};
use stackpro_domain::time::{MINUTE, SECOND};
use stackpro_domain::{ClientId, Time};
use stackpro_store::{Client, StoreError, TillEvent, TillEventState, Tx};
use tokio_util::sync::CancellationToken;

use super::reversals;
use crate::letters;
use crate::lives::{self, LifeError};
use crate::till::{Subscription, TillError, subscription};
use crate::web::mail::Mail;
use crate::world::World;

const BATCH: u32 = 50;
/// Failures after which an event waits for the operator: with the pauses between, two hours.
const MAX_ATTEMPTS: u32 = 16;
const TIMER: Duration = Duration::from_secs(2);
const SWEEP_FIRST: Duration = Duration::from_mins(1);
const SWEEP_EVERY: Duration = Duration::from_hours(1);
const SWEPT_AT_ONCE: u32 = 500;

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Till(#[from] TillError),
    #[error(transparent)]
    Reversal(#[from] reversals::Fault),
    #[error(transparent)]
    Life(#[from] LifeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub async fn run(world: &World, shutdown: CancellationToken) {
    let sweep = async {
        let mut hourly = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP_FIRST, SWEEP_EVERY);
        loop {
            hourly.tick().await;
            if let Err(error) = sweep_all(world).await {
                tracing::warn!(%error, "the sweep over the till's clients broke off");
            }
            if let Err(error) = reversals::sweep(world).await {
                tracing::warn!(%error, "the till could not be asked for refunds and disputes");
            }
        }
    };
    let events = super::every("till events", TIMER, &world.wakes.till_events, shutdown, || round(world));
    tokio::select! {
        () = events => {}
        () = sweep => {}
    }
}

/// Handles what is due.
pub async fn round(world: &World) -> Result<(), StoreError> {
    for event in world.store.till_events_due(world.now().ms(), BATCH).await? {
        if let Err(fault) = handle(world, &event).await {
            postpone(world, &event, &fault).await;
        }
    }
    Ok(())
}

async fn handle(world: &World, event: &TillEvent) -> Result<(), Fault> {
    if let Some(charge) = reversals::charge(event) {
        return Ok(reversals::handle(world, event, &charge).await?);
    }
    let Some(customer) = customer(event) else { return mark(world, event, TillEventState::Ignored).await };
    let found = world.till.subscriptions_of(&customer).await?;
    let client = match world.store.client_by_customer(&customer).await? {
        Some(client) => Some(client),
        None => match found.first().and_then(|subscription| subscription.client_id.as_ref()) {
            Some(id) => world.store.client(id).await?,
            None => None,
        },
    };
    let (Some(subscription), Some(client)) = (found.first(), client) else {
        return mark(world, event, TillEventState::Ignored).await;
    };
    end_surplus(world, &client, &found).await?;
    sync(world, &client.id, subscription, Some(event)).await
}

/// Whose affairs an event may have changed; `None` when it is of a kind that means nothing to us.
fn customer(event: &TillEvent) -> Option<String> {
    const KINDS: [&str; 3] = ["checkout.session.", "customer.subscription.", "invoice."];
    if !KINDS.iter().any(|kind| event.kind.starts_with(kind)) {
        return None;
    }
    let payload: Value = serde_json::from_str(&event.payload).ok()?;
    subscription::id_of(payload.pointer("/data/object/customer"))
}

/// Asks the till about a client now, whether or not an event told of it.
pub async fn sync_client(world: &World, client: &Client) -> Result<(), crate::problem::Error> {
    let Some(customer) = &client.customer_id else { return Ok(()) };
    let found = world.till.subscriptions_of(customer).await?;
    let Some(subscription) = found.first() else { return Ok(()) };
    let synced = async {
        end_surplus(world, client, &found).await?;
        sync(world, &client.id, subscription, None).await
    };
    synced.await.map_err(|fault| match fault {
        Fault::Till(error) | Fault::Reversal(reversals::Fault::Till(error)) => error.into(),
        Fault::Life(error) => error.into(),
        Fault::Store(error) | Fault::Reversal(reversals::Fault::Store(error)) => error.into(),
    })
}

/// What charges and must not. Of a deleted client all that we sold, and what they had; of others what charges beside the one that counts,
/// since they paid on two pages at once, or anew while the till still tried to charge for the old one.
fn surplus<'a>(client: &Client, found: &'a [Subscription]) -> impl Iterator<Item = &'a Subscription> {
    let deleted = client.life.state == State::Deleted;
    let counts = found.first().filter(|first| !deleted && first.is_running() && first.is_ours());
    let counted = counts.map(|first| &first.id);
    found.iter().filter(|one| one.charges()).filter(move |one| {
        let had = deleted && client.subscription_id.as_ref() == Some(&one.id);
        had || one.is_ours() && (deleted || counted.is_some_and(|counted| *counted != one.id))
    })
}

/// Nobody pays twice, or for nothing, longer than it takes to notice. What was paid so the operators give back, and are
/// told of before the till forgets that it charged.
async fn end_surplus(world: &World, client: &Client, found: &[Subscription]) -> Result<(), Fault> {
    for one in surplus(client, found) {
        tracing::warn!(client = %client.id, subscription = one.id, "a subscription that charges for nothing is ended");
        // Of the one that a deleted client had, they paid what they used.
        let unknown = client.life.state != State::Deleted || client.subscription_id.as_ref() != Some(&one.id);
        if one.is_running() && unknown {
            tell_of_surplus(world, client, one).await?;
        }
        world.till.end_subscription(&one.id).await?;
    }
    Ok(())
}

async fn tell_of_surplus(world: &World, client: &Client, one: &Subscription) -> Result<(), StoreError> {
    let deleted = client.life.state == State::Deleted;
    let what = if deleted { "paid when they were deleted already" } else { "paid for two subscriptions" };
    let mail = Mail::Attention {
        what: format!("{} {what}", client.id),
        cause: format!("{} is ended; what was paid for it is to be given back at Stripe.", one.id),
        url: format!("{}/console/clients/{}", world.settings.public_url, client.id),
    };
    let operators = world.store.operators().await?;
    let mut tx = world.store.begin().await?;
    letters::attention(world, &mut tx, &operators, &mail, (&one.id, one.created)).await?;
    tx.commit().await
}

/// Writes what the subscription means, and that the event is handled, in one transaction.
async fn sync(
    world: &World,
    client: &ClientId,
    subscription: &Subscription,
    event: Option<&TillEvent>,
) -> Result<(), Fault> {
    let invoiced_at = match &subscription.latest_invoice {
        Some(invoice) if subscription.status == "past_due" => world.till.invoice_created_at(invoice).await?,
        _ => None,
    };
    let mut tx = world.store.begin().await?;
    if let Some(mut row) = tx.client(client).await? {
        follow(world, &mut tx, &mut row, subscription, invoiced_at).await?;
    }
    if let Some(event) = event {
        tx.till_event_handled(&event.id, TillEventState::Handled, world.now(), None, None).await?;
    }
    Ok(tx.commit().await?)
}

async fn follow(
    world: &World,
    tx: &mut Tx,
    row: &mut Client,
    subscription: &Subscription,
    invoiced_at: Option<Time>,
) -> Result<(), Fault> {
    let before = row.clone();
    take_over(world, row, subscription);
    // Another subscription or interval is another period, whose end may come sooner than that of the one before.
    let another = before.subscription_id.as_ref().is_some_and(|id| *id != subscription.id);
    let other_period = before.life.pays() && (another || before.interval.is_some() && row.interval != before.interval);
    if another && !before.life.pays() {
        lives::apply(world, tx, row, Event::SubscriptionEnded).await?;
    }
    for event in subscription.events(invoiced_at, world.now()) {
        let event = match event {
            Event::Paid { until } if other_period => Event::PeriodChanged { until },
            event => event,
        };
        if is_news(&row.life, event) {
            lives::apply(world, tx, row, event).await?;
        }
    }
    if before.life.state.is_paying() && row.life.state.is_paying() && row.plan != before.plan {
        lives::plan_changed(world, tx, row).await?;
    }
    if *row != before {
        tx.update_client(row).await?;
    }
    Ok(())
}

/// What a client has is what their subscription says.
fn take_over(world: &World, row: &mut Client, subscription: &Subscription) {
    if row.life.state == State::Deleted {
        return;
    }
    row.customer_id.get_or_insert_with(|| subscription.customer.clone());
    row.subscription_id = Some(subscription.id.clone());
    // A plan that was given stays what the operator said until they pay for one.
    if row.life.given.is_none() || subscription.is_running() {
        if let Some(plan) = subscription.plan.as_ref().filter(|plan| world.plans.get(plan).is_some()) {
            row.plan.clone_from(plan);
        }
        row.interval = subscription.interval.or(row.interval);
        row.price = subscription.charged;
    }
}

/// Whether [`follow`] would write anything, or cannot be foreseen: a payment that failed is dated by its invoice.
fn tells_news(world: &World, row: &Client, subscription: &Subscription) -> bool {
    let now = world.now();
    let mut taken_over = row.clone();
    take_over(world, &mut taken_over, subscription);
    let same = |event| {
        let after = row.life.apply(event, &world.plans.trial, now);
        !is_news(&row.life, event) || after.is_ok_and(|(after, _)| after == row.life)
    };
    taken_over != *row || subscription.status == "past_due" || !subscription.events(None, now).into_iter().all(same)
}

/// Whether it tells something that the life does not say already. A client whom the operator suspended does
/// not come back because a period is paid that was paid before.
fn is_news(life: &Life, event: Event) -> bool {
    match event {
        Event::Paid { until } if life.state == State::Suspended => life.paid_until.is_none_or(|paid| until > paid),
        Event::CancelsAtPeriodEnd(cancels) => life.pays() && life.cancels_at_period_end != cancels,
        // A deleted client's subscription is ended by the sweep.
        _ => life.state != State::Deleted,
    }
}

async fn mark(world: &World, event: &TillEvent, state: TillEventState) -> Result<(), Fault> {
    let mut tx = world.store.begin().await?;
    tx.till_event_handled(&event.id, state, world.now(), None, None).await?;
    Ok(tx.commit().await?)
}

/// Later again, or, after many failures, when the operator says so.
async fn postpone(world: &World, event: &TillEvent, fault: &Fault) {
    let now = world.now();
    let give_up = event.attempts + 1 >= MAX_ATTEMPTS;
    let (state, next_at) = if give_up {
        tracing::error!(event = event.id, %fault, "an event of the till is parked");
        (TillEventState::Parked, None)
    } else {
        tracing::warn!(event = event.id, %fault, "an event of the till is tried again");
        (TillEventState::Received, Some(now.plus(backoff_ms(event.attempts))))
    };
    let written = async {
        let mut tx = world.store.begin().await?;
        tx.till_event_handled(&event.id, state, now, Some(&fault.to_string()), next_at).await?;
        tx.commit().await
    };
    if let Err(error) = written.await {
        tracing::warn!(event = event.id, %error, "an event's failure was not written");
    }
}

/// 1 s doubling to 10 minutes.
pub(super) fn backoff_ms(failures: u32) -> i64 {
    (SECOND << failures.min(10)).min(10 * MINUTE)
}

/// Asks the till about every client that it knows: about all at once, and then about those of whom that told something
/// new, since by then it may be old.
pub async fn sweep_all(world: &World) -> Result<(), crate::problem::Error> {
    let told = world.till.subscriptions().await?;
    let mut after = String::new();
    loop {
        let clients = world.store.clients_of_the_till(&after, SWEPT_AT_ONCE).await?;
        for client in &clients {
            let customer = client.customer_id.clone().unwrap_or_default();
            let told = told.get(&customer).map(Vec::as_slice).unwrap_or_default();
            if let Err(error) = sweep(world, client, told).await {
                tracing::warn!(client = %client.id, %error, "the till could not be asked about a client");
            }
            after = customer;
        }
        if clients.len() < SWEPT_AT_ONCE as usize {
            return Ok(());
        }
    }
}

async fn sweep(world: &World, client: &Client, told: &[Subscription]) -> Result<(), crate::problem::Error> {
    let deleted = client.life.state == State::Deleted;
    let news = !deleted && told.first().is_some_and(|subscription| tells_news(world, client, subscription));
    if news || surplus(client, told).next().is_some() {
        sync_client(world, client).await?;
    }
    if !deleted || client.subscription_id.is_none() {
        return Ok(());
    }
    let mut tx = world.store.begin().await?;
    if let Some(mut row) = tx.client(&client.id).await? {
        row.subscription_id = None;
        tx.update_client(&row).await?;
    }
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, payload: &str) -> TillEvent {
        TillEvent {
            id: "evt_1".into(),
            kind: kind.into(),
            payload: payload.into(),
            state: TillEventState::Received,
            attempts: 0,
            error: None,
            received_at: Time(0),
            handled_at: None,
        }
    }

    #[test]
    fn an_event_says_whose_it_is_or_nothing() {
        let payload = r#"{"data":{"object":{"customer":"cus_1"}}}"#;
        assert_eq!(customer(&event("invoice.paid", payload)).as_deref(), Some("cus_1"));
        assert_eq!(customer(&event("charge.refunded", payload)), None);
        let expanded = r#"{"data":{"object":{"customer":{"id":"cus_2"}}}}"#;
        assert_eq!(customer(&event("customer.subscription.updated", expanded)).as_deref(), Some("cus_2"));
        for bad in ["", "[]", r#"{"data":1}"#, r#"{"data":{"object":{"customer":7}}}"#] {
            assert_eq!(customer(&event("invoice.paid", bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_suspended_client_comes_back_for_new_money_alone() {
        let trial = crate::testing::plans().trial;
        let paid = Event::Paid { until: Time(0).plus_days(30) };
        let (life, _) = Life::begin(&trial, Time(0)).apply(paid, &trial, Time(0)).unwrap();
        let (life, _) = life.apply(Event::Suspended, &trial, Time(1)).unwrap();
        assert!(!is_news(&life, paid));
        assert!(is_news(&life, Event::Paid { until: Time(0).plus_days(60) }));
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert_eq!([0, 1, 2].map(backoff_ms), [1_000, 2_000, 4_000]);
        assert_eq!(backoff_ms(u32::MAX), 600_000);
    }
}

//! Webhooks: each event to each endpoint that wants it, signed, until it is received.
//!
//! What is to be delivered is part of the state, so that a restart forgets nothing. How often a delivery
//! was tried is not: after a restart it is tried at once. Waiting is done in real time, giving up by the
//! clock. <https://docs.stripe.com/webhooks#verify-manually> describes the signature.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rand::seq::SliceRandom;
use serde_json::Value;
use sha2::Sha256;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::state::{Origin, State, Tx, int, public, text};
use super::{Stripe, seconds};

/// Stripe keeps trying for three days (seconds).
const GIVE_UP_AFTER: i64 = 3 * 24 * 60 * 60;
/// A time machine may leap over those days, so that so many tries belong to them too (a quarter of an hour).
const GIVE_UP_TRIES: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_mins(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How many deliveries are under way at once.
const ABREAST: usize = 16;

/// What this process knows of a delivery: the tries so far and when the next one is.
struct Waiting {
    tries: u32,
    next: Instant,
    under_way: bool,
}

/// One try to deliver an event to an endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(super) id: String,
    pub url: String,
    pub body: Vec<u8>,
    /// The header `Stripe-Signature`.
    pub signature: String,
}

pub(super) async fn run(stripe: &Stripe, shutdown: &CancellationToken) {
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).redirect(reqwest::redirect::Policy::none()).build();
    let Ok(client) = client else {
        tracing::error!("webhooks cannot be delivered: no HTTP client");
        return;
    };
    let mut waiting: HashMap<String, Waiting> = HashMap::new();
    let mut tries = JoinSet::new();
    loop {
        let attempts = due_attempts(stripe, &mut waiting, ABREAST - tries.len().min(ABREAST));
        for attempt in attempts {
            tries.spawn(deliver(client.clone(), attempt, stripe.0.settings.faults.copies));
        }
        let next = waiting.values().filter(|one| !one.under_way).map(|one| one.next).min();
        let pause = next.map_or(LONGEST_WAIT, |next| next.saturating_duration_since(Instant::now()));
        let pause = if tries.len() >= ABREAST { LONGEST_WAIT } else { pause.max(Duration::from_millis(1)) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = stripe.0.bell.notified() => {}
            () = tokio::time::sleep(pause) => {}
            Some(Ok((delivery, received))) = tries.join_next() => conclude(stripe, &mut waiting, delivery, received).await,
        }
    }
}

/// Deliveries whose time has come, at most `room` of them, oldest first.
fn due_attempts(stripe: &Stripe, waiting: &mut HashMap<String, Waiting>, room: usize) -> Vec<Delivery> {
    let settings = &stripe.0.settings;
    let now = seconds(stripe.0.clock.now());
    let store = stripe.lock();
    let state = &store.state;
    let mut due = Vec::new();
    for delivery in state.of_kind("_delivery") {
        let id = text(delivery, "id");
        let entry = waiting.entry(id.to_owned()).or_insert_with(|| Waiting {
            tries: 0,
            next: Instant::now() + settings.faults.delay,
            under_way: false,
        });
        if !entry.under_way && entry.next <= Instant::now() {
            due.push(delivery);
        }
    }
    waiting.retain(|id, one| one.under_way || state.get(id).is_some());
    if settings.faults.shuffle {
        due.shuffle(&mut rand::rng());
    }
    due.truncate(room);
    let attempts = due.into_iter().filter_map(|delivery| {
        let attempt = attempt(state, delivery, now)?;
        waiting.entry(attempt.id.clone()).and_modify(|one| one.under_way = true);
        Some(attempt)
    });
    attempts.collect()
}

/// Everything that waits to be delivered, the oldest first.
pub(super) fn waiting(stripe: &Stripe) -> Vec<Delivery> {
    let now = seconds(stripe.0.clock.now());
    let store = stripe.lock();
    store.state.of_kind("_delivery").filter_map(|delivery| attempt(&store.state, delivery, now)).collect()
}

fn attempt(state: &State, delivery: &Value, now: i64) -> Option<Delivery> {
    let (event, endpoint) = (state.get(text(delivery, "event"))?, state.get(text(delivery, "endpoint"))?);
    let body = public(event).to_string().into_bytes();
    let signature = signature(text(endpoint, "_secret"), now, &body);
    Some(Delivery { id: text(delivery, "id").to_owned(), url: text(endpoint, "url").to_owned(), body, signature })
}

async fn deliver(client: reqwest::Client, attempt: Delivery, copies: u32) -> (String, bool) {
    let mut received = true;
    for _ in 0..copies.max(1) {
        let request = client.post(&attempt.url).body(attempt.body.clone());
        let request = request.header("content-type", "application/json; charset=utf-8");
        let request = request.header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)");
        let answer = request.header("stripe-signature", &attempt.signature).send().await;
        received &= answer.is_ok_and(|answer| answer.status().is_success());
    }
    (attempt.id, received)
}

async fn conclude(stripe: &Stripe, waiting: &mut HashMap<String, Waiting>, delivery: String, received: bool) {
    let (now, found) = (seconds(stripe.0.clock.now()), stripe.lock().state.get(&delivery).cloned());
    let tried_enough = waiting.get(&delivery).is_some_and(|one| one.tries >= GIVE_UP_TRIES);
    let given_up = tried_enough && found.is_some_and(|found: Value| int(&found, "created") + GIVE_UP_AFTER < now);
    if received || given_up {
        let (stripe, id) = (stripe.clone(), delivery.clone());
        let done = move || stripe.change_now(Origin::default(), |tx: &mut Tx<'_>| tx.delivered(&id));
        if matches!(tokio::task::spawn_blocking(done).await, Ok(Ok(()))) {
            waiting.remove(&delivery);
            return;
        }
    }
    if let Some(one) = waiting.get_mut(&delivery) {
        one.next = Instant::now() + LONGEST_WAIT.min(Duration::from_secs(1 << one.tries.min(6)));
        one.tries += 1;
        one.under_way = false;
    }
}

/// `t=…,v1=…`: when, and the HMAC-SHA256 of `{t}.{body}` in hexadecimal.
fn signature(secret: &str, now: i64, body: &[u8]) -> String {
    let mut text = format!("t={now},v1=");
    // A key of any length is one to HMAC.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(format!("{now}.").as_bytes());
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

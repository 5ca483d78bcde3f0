//! The simulated Stripe: the till of the local cloud, speaking Stripe's own HTTP API on loopback.
//!
//! It knows customers, products, prices, coupons and their codes, checkout, subscriptions that renew by the clock,
//! invoices, the billing portal, refunds, disputes, events and signed webhooks, so that the till has one client and one
//! code path. It takes Stripe's test cards and refuses every other; it never moves money and never talks to
//! Stripe. Every answer is on disk before it is given.
//!
//! A request is one atomic change: `api` finds the endpoint in one table, the endpoint changes objects
//! in a transaction (`state`), and `journal` writes it. `pages` are what a customer sees, `renewals`
//! what time does, `deliver` what a webhook endpoint gets. Start reading at [`Stripe`].

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stackpro_domain::{Clock, Time};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

mod api;
mod buyer_form;
mod calendar;
mod card_form;
mod cards;
mod catalog;
mod checkout;
mod checkout_page;
mod coupons;
mod customers;
mod deliver;
mod discounts;
mod disputes;
mod error;
mod events;
mod form;
mod invoices;
mod journal;
mod pages;
mod payments;
mod pdf;
mod portal;
mod proration;
mod refunds;
mod renewals;
mod state;
mod subscriptions;
mod tax_ids;

pub use deliver::Delivery;
pub use journal::OpenError;

use error::ApiError;
use journal::{Change, Durable, Journal};
use state::{Origin, State, Tx};

/// The version of Stripe's API whose shapes are answered.
pub const API_VERSION: &str = "2026-10-28.endive";

/// How often (real time) the clock is looked at for renewals and expiries.
const TICK_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub struct Settings {
    /// What callers authenticate with: `sk_test_…`.
    pub api_key: String,
    /// The business's name, as the pages show it.
    pub publishable_name: String,
    /// Where the pages are reached from a browser, without a final slash: `http://127.0.0.1:12111`.
    pub base_url: String,
    /// Receivers of every event, beside those that the API creates.
    pub webhook_endpoints: Vec<WebhookEndpoint>,
    pub faults: WebhookFaults,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEndpoint {
    pub url: String,
    /// What deliveries are signed with: `whsec_…`.
    pub secret: String,
}

/// How badly webhooks are delivered. Stripe promises neither order nor exactly one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookFaults {
    /// How many times each event is delivered; 1 is well-behaved.
    pub copies: u32,
    /// Whether events that are due together go out in a random order.
    pub shuffle: bool,
    /// How long each delivery waits first (real time).
    pub delay: Duration,
}

impl Default for WebhookFaults {
    fn default() -> Self {
        Self { copies: 1, shuffle: false, delay: Duration::ZERO }
    }
}

/// The simulated Stripe. Clones share one state.
#[derive(Clone)]
pub struct Stripe(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Arc<dyn Clock>,
    store: Mutex<Store>,
    durable: Arc<Durable>,
    /// Rung when there may be something to deliver.
    bell: Notify,
}

struct Store {
    state: State,
    journal: Journal,
}

impl Stripe {
    /// Reads what is below `dir`, which one process at a time may use.
    pub fn open(dir: &Path, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let mut state = State::default();
        let journal = Journal::open(dir, |change| state.apply(change))?;
        let durable = journal.durable();
        let store = Mutex::new(Store { state, journal });
        let stripe = Self(Arc::new(Inner { settings, clock, store, durable, bell: Notify::new() }));
        let wanted = stripe.0.settings.webhook_endpoints.clone();
        // Before anything that is overdue happens, so that they are told of it.
        let now = seconds(stripe.0.clock.now());
        let made = stripe.change(now, Origin::default(), |tx| events::keep_endpoints(tx, &wanted));
        made.map_err(|error| io::Error::other(error.message))?;
        Ok(stripe)
    }

    /// The API below `/v1` and the pages, for a server of the caller's; [`Stripe::run`] serves it too.
    pub fn router(&self) -> axum::Router {
        pages::router()
            .merge(checkout_page::router())
            .merge(portal::router())
            .fallback(api::serve)
            .with_state(self.clone())
    }

    /// Serves, delivers webhooks and lets time do its work until `shutdown`. Nothing is lost when the
    /// process dies instead.
    pub async fn run(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let server = axum::serve(listener, self.router()).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let delivery = deliver::run(self, &shutdown);
        let (served, (), ()) = tokio::join!(server.into_future(), delivery, self.follow_clock(&shutdown));
        served
    }

    async fn follow_clock(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let stripe = self.clone();
            let done = tokio::task::spawn_blocking(move || stripe.tick(stripe.0.clock.now())).await;
            if let Ok(Err(error)) = done {
                tracing::error!(%error, "renewals could not be written");
            }
            let _ = tokio::time::timeout(TICK_EVERY, shutdown.cancelled()).await;
        }
    }

    /// Does everything that is due at `now`, in the order of time: renewals, retries, expiries.
    pub fn tick(&self, now: Time) -> io::Result<()> {
        loop {
            let Some((at, id)) = self.first_due().filter(|(at, _)| *at <= seconds(now)) else { return Ok(()) };
            let done = self.change(at, Origin::default(), |tx| renewals::happen(tx, &id));
            done.map_err(|error| io::Error::other(error.message))?;
        }
    }

    /// When time will do something next; none when nothing is waiting. What is overdue is due `now`.
    pub fn next_due(&self, now: Time) -> Option<Time> {
        self.first_due().map(|(at, _)| Time(at * 1_000).max(now))
    }

    /// Hands every delivery that waits to `send`, once, the oldest first; those of which it says that they were
    /// received are over. For one who moves the clock: [`Stripe::run`] delivers by itself.
    pub async fn deliver(&self, mut send: impl AsyncFnMut(&Delivery) -> bool) -> io::Result<()> {
        for delivery in deliver::waiting(self) {
            if send(&delivery).await {
                let done = self.change_now(Origin::default(), |tx| tx.delivered(&delivery.id));
                done.map_err(|error| io::Error::other(error.message))?;
            }
        }
        Ok(())
    }

    fn first_due(&self) -> Option<(i64, String)> {
        self.lock().state.first_due()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` as one atomic change now, after everything that was due before.
    fn change_now<T>(&self, origin: Origin, work: impl FnOnce(&mut Tx<'_>) -> T) -> Result<T, ApiError> {
        let now = self.0.clock.now();
        self.tick(now).map_err(|error| broken(&error))?;
        self.change(seconds(now), origin, work)
    }

    /// Runs `work` as one atomic change at `now` (seconds) and returns when it is on disk.
    fn change<T>(&self, now: i64, origin: Origin, work: impl FnOnce(&mut Tx<'_>) -> T) -> Result<T, ApiError> {
        let inner = &*self.0;
        let (done, change_made) = {
            let mut store = self.lock();
            let mut tx = Tx::new(&store.state, &inner.settings, now, origin);
            let done = work(&mut tx);
            let change = tx.into_change();
            let change_made = !change.put.is_empty() || !change.remove.is_empty();
            if change_made {
                store.commit(change, seconds(inner.clock.now())).map_err(|error| broken(&error))?;
            }
            (done, change_made)
        };
        // Also what was only read must not be lost after it was told.
        inner.durable.wait().map_err(|error| broken(&error))?;
        if change_made {
            inner.bell.notify_one();
        }
        Ok(done)
    }
}

impl Store {
    fn commit(&mut self, change: Change, now: i64) -> io::Result<()> {
        self.journal.append(&change)?;
        self.state.apply(change);
        if self.journal.wants_compaction() {
            api::forget_old_keys(&mut self.state, now);
            self.journal.compact(self.state.all().into_iter())?;
        }
        Ok(())
    }
}

fn broken(error: &io::Error) -> ApiError {
    tracing::error!(%error, "the simulated Stripe's journal could not be written");
    ApiError::broken()
}

fn seconds(time: Time) -> i64 {
    time.ms().div_euclid(1_000)
}

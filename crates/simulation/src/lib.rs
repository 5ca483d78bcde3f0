//! A whole business in virtual time: people sign up, pay, leave and come back; cards fail, calls are lost, nodes
//! die; and after every event it is checked that nothing leaked, doubled, or was done to the wrong client.
//!
//! Everything that decides is the product's own: domain, store, flows, reconcilers, till and API. Simulated are
//! what the local cloud simulates anyway (Stripe, buckets, DNS, mail) and instances, which here are quick
//! ([`fleet`]); time stands still while something happens, and then leaps to what comes next. The same seed gives
//! the same run. Start reading at [`run`].

mod agent;
mod business;
mod checks;
mod clock;
mod fleet;
mod model;
mod people;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::Request;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stackpro_cloud::local::stripe::Delivery;
use stackpro_domain::Time;
use stackpro_domain::time::{DAY, HOUR, SECOND};
use stackpro_flow::{Registry, Runner, RunnerConfig};
use stackpro_server::reconcilers::{fleet as instances, lifecycle, mailer, sweeper, till_events};
use stackpro_server::world::World;
use stackpro_server::{flows, reconcilers};

use business::Business;
use people::Act;
pub use report::{Month, Report};

/// 1 January 2026, so that a run knows short months and is not a leap year.
const START: Time = Time(1_767_225_600_000);
/// Of the till's hourly look at every client only so many are done: in between nothing is found that no event told.
const SWEEP_EVERY: i64 = 7 * DAY;

/// What is to be simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: u32,
    pub days: u32,
    pub seed: u64,
    /// How often each call to a cloud, an agent or an endpoint goes wrong, in each way that it can.
    pub faults: f64,
    /// How often a node dies, at each instant of each step.
    pub crashes: f64,
}

impl Plan {
    pub fn new(clients: u32, days: u32, seed: u64) -> Self {
        Self { clients, days, seed, faults: 0.01, crashes: 0.002 }
    }
}

/// The simulation could not go on: an invariant is broken, or something failed that must not fail.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

impl Failed {
    fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Runs the plan in `folder`, which must be empty and is the caller's to remove. `progress` is told each day.
///
/// Needs a multi-threaded Tokio runtime, and a rustls crypto provider to be installed.
pub async fn run(plan: &Plan, folder: &Path, mut progress: impl FnMut(u32)) -> Result<Report, Failed> {
    let mut run = Run::open(plan, folder).await?;
    let end = START.plus(i64::from(plan.days) * DAY);
    let mut day = 0;
    while let Some(at) = run.next().await?.filter(|at| *at <= end) {
        while day < plan.days && START.plus(i64::from(day + 1) * DAY) <= at {
            day += 1;
            run.business.clock.advance_to(START.plus(i64::from(day) * DAY));
            run.end_of_day(day).await?;
            progress(day);
        }
        run.business.clock.advance_to(at);
        run.instant().await.map_err(|failed| run.told(&failed))?;
    }
    while day < plan.days {
        day += 1;
        run.business.clock.advance_to(START.plus(i64::from(day) * DAY));
        run.end_of_day(day).await?;
    }
    run.finish().await
}

struct Run {
    plan: Plan,
    business: Business,
    agenda: BTreeMap<(Time, u64), (usize, Act)>,
    /// The till's and the sweeper's next looks, and webhooks that were not received.
    next_sweep: Time,
    next_delivery: Option<Time>,
    registry: Arc<Registry<World>>,
    runner: Arc<Runner<World>>,
    crash_dice: Arc<Mutex<StdRng>>,
    nodes: u64,
    dice: StdRng,
    /// Subjects whose rows or flows changed since they were checked.
    touched: Arc<Mutex<BTreeSet<String>>>,
    histories: checks::Histories,
    report: Report,
}

/// What a node dies of.
struct Crash;

impl Run {
    async fn open(plan: &Plan, folder: &Path) -> Result<Self, Failed> {
        let mut business = Business::open(plan, folder, START).await?;
        let agenda = business::agenda(&mut business, plan, START);
        let touched: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let (marks, world) = (Arc::clone(&touched), Arc::downgrade(&business.world));
        business.world.store.on_commit(move |committed| {
            let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
            marks.extend(committed.touched.iter().cloned());
            if let Some(world) = world.upgrade() {
                world.committed(committed);
            }
        });
        let registry = Arc::new(flows::registry().map_err(Failed)?);
        let crash_dice = Arc::new(Mutex::new(StdRng::seed_from_u64(plan.seed ^ 0xdead)));
        let runner = runner(&business, &registry, &crash_dice, plan, 0);
        Ok(Self {
            plan: plan.clone(),
            agenda,
            next_sweep: START.plus(SWEEP_EVERY),
            next_delivery: None,
            registry,
            runner,
            crash_dice,
            nodes: 1,
            dice: StdRng::seed_from_u64(plan.seed ^ 0xd1ce),
            touched,
            histories: checks::Histories::default(),
            report: Report::new(plan, START),
            business,
        })
    }

    /// When something happens next.
    async fn next(&self) -> Result<Option<Time>, Failed> {
        let now = self.business.now();
        let kept = self.business.world.store.next_due().await.map_err(Failed::new)?;
        let dates = [
            self.agenda.first_key_value().map(|((at, _), _)| *at),
            // What is due and could not be done waits for the next second.
            kept.map(|at| at.max(now.plus(SECOND))),
            self.business.stripe.next_due(now),
            self.next_delivery,
            Some(self.next_sweep),
        ];
        Ok(dates.into_iter().flatten().min())
    }

    /// Everything that happens now, until nothing more does; then the checks.
    async fn instant(&mut self) -> Result<(), Failed> {
        let now = self.business.now();
        self.report.events += 1;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let (number, act) = entry.remove();
            self.business.act(number, act).await?;
            if act == Act::Delete {
                self.next_sweep = self.next_sweep.min(now.plus(HOUR));
            }
        }
        self.business.stripe.tick(now).map_err(Failed::new)?;
        if self.next_sweep <= now {
            self.next_sweep = now.plus(SWEEP_EVERY);
            self.business.sweep_till().await?;
        }
        self.settle().await?;
        self.check_touched().await
    }

    /// Lets webhooks, dates, flows and mails do what is due, in turn, until none changes anything.
    async fn settle(&mut self) -> Result<(), Failed> {
        let world = Arc::clone(&self.business.world);
        loop {
            let before = world.store.generation();
            self.deliver().await?;
            till_events::round(&world).await.map_err(Failed::new)?;
            lifecycle::round(&world).await.map_err(Failed::new)?;
            let before_flows = world.store.generation();
            self.carry_out().await?;
            if world.store.generation() != before_flows {
                instances::round(&world).await.or_else(passing)?;
            }
            mailer::round(&world).await.map_err(Failed::new)?;
            if world.store.generation() == before {
                return Ok(());
            }
        }
    }

    /// Hands out what Stripe has to tell. Some of it is told twice, and some is not received the first time.
    async fn deliver(&mut self) -> Result<(), Failed> {
        let now = self.business.now();
        if self.next_delivery.is_some_and(|at| at > now) {
            return Ok(());
        }
        let (server, faults, dice) = (self.business.server.clone(), self.plan.faults, &mut self.dice);
        let mut lost = false;
        let told = self.business.stripe.deliver(async |delivery: &Delivery| {
            if dice.random_bool(faults) {
                lost = true;
                return false;
            }
            let twice = dice.random_bool(faults);
            let mut received = true;
            for _ in 0..=u8::from(twice) {
                let request = Request::post(delivery.url.as_str()).header("stripe-signature", &delivery.signature);
                let (status, _) = agent::send(&server, request, delivery.body.clone()).await;
                received &= status.is_success();
            }
            lost |= !received;
            received
        });
        told.await.map_err(Failed::new)?;
        self.next_delivery = lost.then(|| now.plus(HOUR));
        Ok(())
    }

    /// Carries flows out; when the node dies, another takes over once its leases have run out.
    async fn carry_out(&mut self) -> Result<(), Failed> {
        let runner = Arc::clone(&self.runner);
        match tokio::spawn(async move { runner.settle().await }).await {
            Ok(steps) => {
                self.report.steps += steps.map_err(Failed::new)?;
                Ok(())
            }
            Err(error) => match error.try_into_panic() {
                Ok(cause) if cause.is::<Crash>() => {
                    self.report.crashes += 1;
                    self.runner = runner_of(self, self.nodes);
                    self.nodes += 1;
                    Ok(())
                }
                _ => Err(Failed("the flow runner stopped unexpectedly".into())),
            },
        }
    }

    async fn check_touched(&mut self) -> Result<(), Failed> {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        for subject in touched {
            if let Ok(client) = subject.parse()
                && self.business.person_of(&client).is_some()
            {
                checks::client(&self.business, &mut self.histories, &client).await?;
                self.report.checks += 1;
            }
        }
        Ok(())
    }

    async fn end_of_day(&mut self, day: u32) -> Result<(), Failed> {
        self.settle().await?;
        self.check_touched().await?;
        if day.is_multiple_of(7) {
            self.check_all().await?;
        }
        self.report.day(&self.business, START.plus(i64::from(day) * DAY)).await
    }

    /// The whole of the ledger, and the whole of the money.
    async fn check_all(&mut self) -> Result<(), Failed> {
        reconcilers::housekeeper::round(&self.business.world).await.map_err(Failed::new)?;
        match sweeper::round(&self.business.world).await {
            Ok(()) | Err(sweeper::SweepError::Cloud(_)) => {}
            Err(error) => return Err(self.told(&Failed::new(error))),
        }
        let checked = checks::everything(&self.business).await;
        checked.map_err(|failed| self.told(&failed))
    }

    async fn finish(mut self) -> Result<Report, Failed> {
        self.check_all().await?;
        self.report.end(&self.business).await?;
        Ok(self.report)
    }

    /// A failure with where it happened and how to see it again.
    fn told(&self, failed: &Failed) -> Failed {
        let Plan { clients, days, seed, .. } = self.plan;
        let now = self.business.now();
        Failed(format!(
            "{failed}\nat {}, event {}\nsee it again: stackpro simulate --clients {clients} --days {days} --seed {seed}",
            now.date_time(),
            self.report.events
        ))
    }
}

/// A cloud that does not answer now will do so later.
fn passing(error: instances::FleetError) -> Result<(), Failed> {
    match error {
        instances::FleetError::Cloud(_) => Ok(()),
        error => Err(Failed::new(error)),
    }
}

fn runner_of(run: &Run, node: u64) -> Arc<Runner<World>> {
    runner(&run.business, &run.registry, &run.crash_dice, &run.plan, node)
}

/// A node: it may die at every instant of every step.
fn runner(
    business: &Business,
    registry: &Arc<Registry<World>>,
    dice: &Arc<Mutex<StdRng>>,
    plan: &Plan,
    node: u64,
) -> Arc<Runner<World>> {
    let (journal, world) = (Arc::new(business.world.store.clone()), Arc::clone(&business.world));
    let (dies, draws, odds) = (Arc::clone(dice), Arc::clone(dice), plan.crashes);
    let runner = Runner::new(journal, Arc::clone(registry), world, format!("node-{node}"), RunnerConfig::default());
    let runner =
        runner.with_jitter(move |ms| draws.lock().unwrap_or_else(PoisonError::into_inner).random_range(0..=ms));
    Arc::new(runner.with_hook(move |_, _| {
        if dies.lock().unwrap_or_else(PoisonError::into_inner).random_bool(odds) {
            std::panic::resume_unwind(Box::new(Crash));
        }
    }))
}

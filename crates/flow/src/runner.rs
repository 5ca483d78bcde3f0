//! Carries flows out: claims steps, executes them side by side, keeps their leases alive, records how they
//! ended. It keeps no state of its own, so that it may die at any instant; another claims what it held.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::journal::{Ask, Claim, Ended, Journal, JournalError};
use crate::spec::{Registry, StepCtx, StepError, StepSpec, UndoError};
use crate::state::Outcome;

/// How a runner works.
#[derive(Clone, Debug)]
pub struct RunnerConfig {
    /// Steps at once on this node.
    pub concurrency: usize,
    /// Steps at once, over all nodes, that call the same API.
    pub per_api: usize,
    /// A step whose node died is taken over after this time.
    pub lease: Duration,
    /// How often to look for work that nothing announced (another node's, a wait that is over).
    pub poll: Duration,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self { concurrency: 64, per_api: 32, lease: Duration::from_secs(15), poll: Duration::from_millis(200) }
    }
}

/// An instant in the execution of a step at which a crash is interesting. Tests kill the process there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Claimed, nothing done.
    Before,
    /// Executed, and the journal does not know.
    After,
    /// Executed, and the journal knows.
    Recorded,
}

type Hook = dyn Fn(&Claim, Moment) + Send + Sync;
type Fault = dyn Fn(&Claim) -> Option<String> + Send + Sync;
type Jitter = dyn Fn(i64) -> i64 + Send + Sync;

pub struct Runner<W: 'static> {
    journal: Arc<dyn Journal>,
    registry: Arc<Registry<W>>,
    world: Arc<W>,
    ask: Ask,
    config: RunnerConfig,
    permits: Arc<Semaphore>,
    wake: Notify,
    hook: Option<Box<Hook>>,
    fault: Option<Box<Fault>>,
    jitter: Box<Jitter>,
    /// Rounds of looking for work that succeeded; [`Runner::is_alive`] watches it.
    last_look: AtomicI64,
    started: tokio::time::Instant,
}

impl<W: Send + Sync + 'static> Runner<W> {
    /// `owner` must be unique to this process and start.
    pub fn new(
        journal: Arc<dyn Journal>,
        registry: Arc<Registry<W>>,
        world: Arc<W>,
        owner: String,
        config: RunnerConfig,
    ) -> Self {
        let ask = Ask {
            owner,
            lease_ms: config.lease.as_millis() as i64,
            steps: config.concurrency,
            per_api: config.per_api,
            known: registry.known(),
        };
        Self {
            journal,
            registry,
            world,
            ask,
            permits: Arc::new(Semaphore::new(config.concurrency)),
            config,
            wake: Notify::new(),
            hook: None,
            fault: None,
            jitter: Box::new(|ms| rand::rng().random_range(0..=ms)),
            last_look: AtomicI64::new(i64::MIN),
            started: tokio::time::Instant::now(),
        }
    }

    #[must_use]
    pub fn with_hook(mut self, hook: impl Fn(&Claim, Moment) + Send + Sync + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Where this names a cause, a step that was executed counts as failed for good. For tests of turning back.
    #[must_use]
    pub fn with_fault(mut self, fault: impl Fn(&Claim) -> Option<String> + Send + Sync + 'static) -> Self {
        self.fault = Some(Box::new(fault));
        self
    }

    /// Draws from 0 to `ms`, instead of the machine's own randomness: for a run that can be repeated.
    #[must_use]
    pub fn with_jitter(mut self, jitter: impl Fn(i64) -> i64 + Send + Sync + 'static) -> Self {
        self.jitter = Box::new(jitter);
        self
    }

    /// There may be work: look now. Call it after a commit that enqueued a flow.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether it has looked for work, successfully, in the last ten seconds.
    pub fn is_alive(&self) -> bool {
        let now = self.started.elapsed().as_millis() as i64;
        now.saturating_sub(self.last_look.load(Ordering::Relaxed)) < 10_000
    }

    /// Works until `shutdown`, then lets what is being executed end.
    pub async fn run(self: &Arc<Self>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        while !shutdown.is_cancelled() {
            let claimed = self.look(&tasks).await;
            if claimed > 0 {
                continue;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.config.poll) => {}
                () = shutdown.cancelled() => {}
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Executes what may run now, one step after the other, until nothing may: for one who moves the journal's
    /// clock, and wants the same order every time. Returns how many steps it executed.
    pub async fn settle(&self) -> Result<u64, JournalError> {
        let (mut executed, mut claimed) = (0, VecDeque::new());
        loop {
            let Some(claim) = claimed.pop_front() else {
                claimed.extend(self.journal.claim(&Ask { steps: 1, ..self.ask.clone() }).await?);
                if claimed.is_empty() {
                    return Ok(executed);
                }
                continue;
            };
            claimed.extend(self.execute(claim).await);
            executed += 1;
        }
    }

    async fn look(self: &Arc<Self>, tasks: &TaskTracker) -> usize {
        let free = self.permits.available_permits();
        if free == 0 {
            return 0;
        }
        let ask = Ask { steps: free, ..self.ask.clone() };
        match self.journal.claim(&ask).await {
            Ok(claims) => {
                self.last_look.store(self.started.elapsed().as_millis() as i64, Ordering::Relaxed);
                let count = claims.len();
                self.execute_all(claims, tasks);
                count
            }
            Err(error) => {
                tracing::warn!(%error, "looking for work failed");
                0
            }
        }
    }

    fn execute_all(self: &Arc<Self>, claims: Vec<Claim>, tasks: &TaskTracker) {
        for claim in claims {
            let (runner, tracker) = (Arc::clone(self), tasks.clone());
            tasks.spawn(async move {
                let permit = runner.permits.clone().acquire_owned().await;
                let next = runner.execute(claim).await;
                drop(permit);
                runner.execute_all(next, &tracker);
                runner.wake.notify_one();
            });
        }
    }

    fn at(&self, claim: &Claim, moment: Moment) {
        if let Some(hook) = &self.hook {
            hook(claim, moment);
        }
    }

    /// Executes one step and records how it ended; returns what may run next.
    async fn execute(&self, claim: Claim) -> Vec<Claim> {
        self.at(&claim, Moment::Before);
        let outcome = tokio::select! {
            outcome = self.outcome(&claim) => outcome,
            () = self.keep_lease(&claim) => {
                tracing::warn!(flow = %claim.flow.id, step = claim.key.step, "lease lost, execution stopped");
                return Vec::new();
            }
        };
        let cause = self.fault.as_ref().and_then(|fault| fault(&claim));
        let outcome = cause.map_or(outcome, Outcome::Failed);
        self.at(&claim, Moment::After);
        log(&claim, &outcome);
        let next = self.record(&claim, outcome).await;
        self.at(&claim, Moment::Recorded);
        next
    }

    async fn outcome(&self, claim: &Claim) -> Outcome {
        let flow = &claim.flow;
        let Some(step) = self.registry.step(&flow.kind, flow.version, &claim.key.step) else {
            let cause = format!("this build has no step {} of {} v{}", claim.key.step, flow.kind, flow.version);
            return Outcome::Failed(cause);
        };
        let ctx = StepCtx {
            world: Arc::clone(&self.world),
            flow_id: flow.id.clone(),
            subject: flow.subject.clone(),
            params: flow.params.clone(),
            outputs: claim.outputs.clone(),
            attempts: claim.attempts,
            key: claim.key.clone(),
            journal: Arc::clone(&self.journal),
        };
        // A panic in a step is a failure of that step, not of the node; a lost lease drops, so stops, it.
        match AbortOnDropHandle::new(tokio::spawn(perform(step, ctx, claim.undo))).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Retry(format!("the step stopped unexpectedly: {error}")),
        }
    }

    /// Ends when the lease is lost, or could not be renewed before it ran out.
    async fn keep_lease(&self, claim: &Claim) {
        let mut valid_until = tokio::time::Instant::now() + self.config.lease;
        loop {
            tokio::time::sleep(self.config.lease / 3).await;
            let asked = tokio::time::Instant::now();
            match self.journal.renew(&claim.key, self.ask.lease_ms).await {
                Ok(true) => valid_until = asked + self.config.lease,
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "renewing a lease failed"),
            }
            if tokio::time::Instant::now() >= valid_until {
                return;
            }
        }
    }

    /// Many flows that were throttled together must not come back together.
    fn jittered(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Throttled(ms, cause) => {
                let extra = (self.jitter)(ms.max(1));
                Outcome::Throttled(ms.saturating_add(extra), cause)
            }
            other => other,
        }
    }

    /// An outcome that cannot be recorded is tried for as long as the lease may hold; then whoever takes
    /// the step over executes it again.
    async fn record(&self, claim: &Claim, outcome: Outcome) -> Vec<Claim> {
        let outcome = self.jittered(outcome);
        let free = self.permits.available_permits() + 1;
        let ask = Ask { steps: free, ..self.ask.clone() };
        let deadline = tokio::time::Instant::now() + self.config.lease;
        loop {
            match self.journal.end(&claim.key, outcome.clone(), &ask).await {
                Ok(Ended::Recorded(next)) => return next,
                Ok(Ended::Fenced) => {
                    tracing::warn!(flow = %claim.flow.id, step = claim.key.step, "outcome came after the lease was lost");
                    return Vec::new();
                }
                Err(error) if tokio::time::Instant::now() < deadline => {
                    tracing::warn!(%error, "recording an outcome failed, trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => {
                    tracing::error!(%error, "recording an outcome failed for good");
                    return Vec::new();
                }
            }
        }
    }
}

async fn perform<W>(step: &'static StepSpec<W>, ctx: StepCtx<W>, undo: bool) -> Outcome {
    if undo {
        return match (step.undo)(&ctx).await {
            Ok(()) => Outcome::Undone,
            Err(UndoError::Later { ms }) => Outcome::Later(ms, None),
            Err(UndoError::Throttled { ms, cause }) => Outcome::Throttled(ms, cause),
            Err(UndoError::Retry(cause)) => Outcome::Retry(cause),
            Err(UndoError::TooLate(output)) => Outcome::TooLate(output),
        };
    }
    match (step.run)(&ctx).await {
        Ok(output) => Outcome::Done(output),
        Err(StepError::Later { ms, note }) => Outcome::Later(ms, note),
        Err(StepError::Throttled { ms, cause }) => Outcome::Throttled(ms, cause),
        Err(StepError::Retry(cause)) => Outcome::Retry(cause),
        Err(StepError::Failed(cause)) => Outcome::Failed(cause),
    }
}

fn log(claim: &Claim, outcome: &Outcome) {
    let (flow, kind, step, undo) = (&claim.flow.id, &claim.flow.kind, &claim.key.step, claim.undo);
    match outcome {
        Outcome::Retry(cause) | Outcome::Failed(cause) => {
            tracing::warn!(%flow, kind, step, undo, cause, "step failed");
        }
        Outcome::Later(..) => tracing::debug!(%flow, kind, step, undo, "step waits"),
        Outcome::Throttled(ms, cause) => tracing::info!(%flow, kind, step, undo, ms, cause, "step is throttled"),
        Outcome::TooLate(_) => tracing::info!(%flow, kind, step, "too late to undo: the flow goes forward again"),
        Outcome::Done(_) | Outcome::Undone => tracing::info!(%flow, kind, step, undo, "step ended"),
    }
}

//! The destination of a move: a job that copies, follows, and cuts over when it is told to.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stackpro_domain::Fingerprint;
use stackpro_domain::manifest::Certificate;
use stackpro_protocol::agent::{MoveOrder, MovePhase, MoveStatus, StackSpec, Wanted};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::copy::{Copy, MoveError, Result, Round, Source};
use super::transfer::{CommitRequest, Held, HoldRequest, JobState, Release};
use super::volumes::VolumeCopy;
use crate::agent::Agent;
use crate::stack::Stack;
use crate::tree::Cursor;
use crate::{blocking, disk, proxy, secret};

/// A round is small enough to be repeated inside a hold.
const SMALL_CHANGES: u64 = 50;
const SMALL_BYTES: u64 = 8 * 1024 * 1024;
/// After so many rounds in a row that were not small, the hold has to bear it.
const ROUNDS_IN_A_ROW: u32 = 20;
/// How often a copy that is in step looks for changes.
const FOLLOW: Duration = Duration::from_millis(500);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// One short word with the source.
const CALL: Duration = Duration::from_secs(10);

/// The move to here, if there is one.
pub(crate) struct Incoming {
    file: PathBuf,
    job: Mutex<Option<Job>>,
}

struct Job {
    kept: Kept,
    /// Whether a task works on it.
    running: Option<CancellationToken>,
    wake: Arc<Notify>,
}

/// What is on the disk.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    order: MoveOrder,
    status: MoveStatus,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("this stack serves here, and nothing may be copied over it")]
    Serving,
    #[error("another move to here is cutting over or has happened")]
    Busy,
    #[error("the id of the move is not one")]
    BadJob,
    #[error("the disk refused: {0}")]
    Disk(#[from] io::Error),
}

impl Incoming {
    pub(crate) fn open(file: PathBuf) -> io::Result<Self> {
        let job = disk::read_json::<Kept>(&file)?;
        let job = job.map(|kept| Job { kept, running: None, wake: Arc::default() });
        Ok(Self { file, job: Mutex::new(job) })
    }

    pub(crate) fn status(&self) -> Option<MoveStatus> {
        self.job().as_ref().map(|job| job.kept.status.clone())
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.phase() == Some(MovePhase::Committed)
    }

    /// Whether a request comes from the source of the move to here, for a visitor.
    pub(crate) fn is_source(&self, secret: &str) -> bool {
        self.job().as_ref().is_some_and(|job| secret::same(&job.kept.order.ticket.secret, secret))
    }

    /// Whether a request may pass before this place is told to serve: the source, which forwards only after
    /// its commit, and our own probe bear the secret.
    pub(crate) fn lets_in(&self, secret: &str) -> bool {
        self.phase() == Some(MovePhase::CuttingOver) && self.is_source(secret)
    }

    pub(crate) fn cancel(&self) {
        if let Some(task) = self.job().as_mut().and_then(|job| job.running.take()) {
            task.cancel();
        }
    }

    fn phase(&self) -> Option<MovePhase> {
        self.job().as_ref().map(|job| job.kept.status.phase)
    }

    fn order(&self) -> Option<MoveOrder> {
        self.job().as_ref().map(|job| job.kept.order.clone())
    }

    /// Changes the status of the job that `task` works on, and keeps it on the disk. Blocks shortly.
    fn set(&self, task: &CancellationToken, change: impl FnOnce(&mut MoveStatus)) -> io::Result<()> {
        let mut job = self.job();
        let Some(job) = job.as_mut().filter(|_| !task.is_cancelled()) else { return Ok(()) };
        let mut next = job.kept.clone();
        change(&mut next.status);
        // Counters alone are not worth a write: a resumed job counts anew.
        if next.status.phase != job.kept.status.phase {
            disk::write_json(&self.file, &next)?;
        }
        job.kept = next;
        Ok(())
    }

    fn job(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes an order, for a caller that holds the client's lock. Blocks.
pub(crate) fn order(
    agent: &Arc<Agent>,
    stack: &Arc<Stack>,
    order: MoveOrder,
) -> std::result::Result<MoveStatus, OrderError> {
    if order.job_id.is_empty() || order.job_id.len() > 100 {
        return Err(OrderError::BadJob);
    }
    let incoming = &stack.incoming;
    let same = incoming.order().is_some_and(|known| known.job_id == order.job_id);
    if same {
        continue_job(incoming, &order)?;
    } else {
        begin_job(stack, order)?;
    }
    resume(agent, stack);
    incoming.status().ok_or(OrderError::Busy)
}

fn begin_job(stack: &Stack, order: MoveOrder) -> std::result::Result<(), OrderError> {
    match stack.incoming.phase() {
        Some(MovePhase::CuttingOver | MovePhase::Committed) => return Err(OrderError::Busy),
        _ if stack.spec().wanted != Wanted::Receiving => return Err(OrderError::Serving),
        _ => stack.incoming.cancel(),
    }
    let status = MoveStatus {
        job_id: order.job_id.clone(),
        phase: MovePhase::Copying,
        files_copied: 0,
        bytes_copied: 0,
        files_total: 0,
        bytes_total: 0,
        rounds: 0,
        error: None,
        certificate: None,
    };
    let kept = Kept { order, status };
    disk::write_json(&stack.incoming.file, &kept)?;
    *stack.incoming.job() = Some(Job { kept, running: None, wake: Arc::default() });
    Ok(())
}

/// The one thing that an order said again may change.
fn continue_job(incoming: &Incoming, order: &MoveOrder) -> io::Result<()> {
    let mut job = incoming.job();
    let Some(job) = job.as_mut() else { return Ok(()) };
    if order.cut_over && !job.kept.order.cut_over {
        let mut next = job.kept.clone();
        next.order.cut_over = true;
        disk::write_json(&incoming.file, &next)?;
        job.kept = next;
        job.wake.notify_one();
    }
    Ok(())
}

/// Goes on with what was under way when the agent stopped.
pub(crate) fn resume_all(agent: &Arc<Agent>) {
    for stack in agent.stacks() {
        resume(agent, &stack);
    }
}

/// Starts the task of a job that is not over and has none.
fn resume(agent: &Arc<Agent>, stack: &Arc<Stack>) {
    let mut job = stack.incoming.job();
    let Some(job) = job.as_mut() else { return };
    if job.running.is_some() || matches!(job.kept.status.phase, MovePhase::Committed | MovePhase::Failed) {
        return;
    }
    let source = match Source::new(agent, &stack.client(), &job.kept.order) {
        Ok(source) => source,
        Err(error) => {
            tracing::error!(%error, "a move cannot go on");
            job.kept.status.error = Some(error.to_string());
            return;
        }
    };
    let task = CancellationToken::new();
    job.running = Some(task.clone());
    let copy = match &stack.project {
        None => Copier::Tree(Copy::new(source.clone(), Arc::clone(&stack.tree))),
        Some(project) => Copier::Volumes(VolumeCopy::new(source.clone(), Arc::clone(&project.volumes))),
    };
    let wake = Arc::clone(&job.wake);
    let work =
        Work { agent: Arc::clone(agent), stack: Arc::clone(stack), task: task.clone(), wake, source, copy, rounds: 0 };
    let work = Box::pin(work.run());
    tokio::spawn(async move { task.run_until_cancelled_owned(work).await });
}

struct Work {
    agent: Arc<Agent>,
    stack: Arc<Stack>,
    task: CancellationToken,
    wake: Arc<Notify>,
    source: Source,
    copy: Copier,
    rounds: u32,
}

/// One for each kind of data.
enum Copier {
    Tree(Copy),
    Volumes(VolumeCopy),
}

impl Copier {
    async fn round(&mut self) -> Result<Round> {
        match self {
            Self::Tree(copy) => copy.round().await,
            Self::Volumes(copy) => copy.round().await,
        }
    }

    async fn verify(&mut self) -> Result<()> {
        match self {
            Self::Tree(copy) => copy.verify().await,
            Self::Volumes(copy) => copy.verify().await,
        }
    }

    async fn sync_all(&mut self) -> Result<()> {
        match self {
            Self::Tree(copy) => copy.sync_all().await,
            Self::Volumes(copy) => copy.sync().await,
        }
    }

    async fn sync_rest(&mut self) -> Result<()> {
        match self {
            Self::Tree(copy) => copy.sync_rest().await,
            Self::Volumes(copy) => copy.sync().await,
        }
    }

    fn start_over(&mut self) {
        match self {
            Self::Tree(copy) => copy.start_over(),
            Self::Volumes(copy) => copy.start_over(),
        }
    }

    fn cursor(&self) -> &Cursor {
        match self {
            Self::Tree(copy) => copy.cursor(),
            Self::Volumes(copy) => copy.cursor(),
        }
    }
}

/// How an attempt to cut over may end without an error.
enum Attempt {
    Committed(Certificate),
    /// The commit may or may not have happened: the source has to be asked.
    Unclear,
}

impl Work {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        loop {
            match self.advance().await {
                Ok(true) => return,
                Ok(false) => {
                    wait = FIRST_WAIT;
                    self.note(|status| status.error = None);
                    let _ = timeout(FOLLOW, self.wake.notified()).await;
                }
                Err(MoveError::Gone) => {
                    return self.note(|status| {
                        status.phase = MovePhase::Failed;
                        status.error = Some(MoveError::Gone.to_string());
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a move is tried again");
                    self.note(|status| status.error = Some(error.to_string()));
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    /// One step of the way. `true` when the move is over.
    async fn advance(&mut self) -> Result<bool> {
        if self.stack.incoming.phase() == Some(MovePhase::CuttingOver) {
            if self.settle(None).await? {
                return Ok(true);
            }
            self.stop_programs().await?;
        }
        self.catch_up().await?;
        if !self.stack.incoming.order().is_some_and(|order| order.cut_over) {
            self.keep(|status| status.phase = MovePhase::InStep)?;
            return Ok(false);
        }
        // The bulk reaches the disk now, so that the hold need not wait for it.
        self.copy.sync_all().await?;
        self.make_programs().await?;
        self.catch_up().await?;
        self.keep(|status| status.phase = MovePhase::CuttingOver)?;
        self.cut_over().await
    }

    /// Rounds until one is small, and everything that they wrote is verified.
    async fn catch_up(&mut self) -> Result<()> {
        for _ in 0..ROUNDS_IN_A_ROW {
            let round = self.round().await?;
            if round.changes <= SMALL_CHANGES && round.bytes <= SMALL_BYTES {
                break;
            }
        }
        self.copy.verify().await
    }

    async fn round(&mut self) -> Result<Round> {
        let round = self.copy.round().await?;
        if round.changes > 0 || self.rounds == 0 {
            self.rounds += 1;
        }
        let rounds = self.rounds;
        self.note(|status| {
            status.rounds = rounds;
            status.files_copied += round.files;
            status.bytes_copied += round.bytes;
            status.files_total = round.files_total;
            status.bytes_total = round.bytes_total;
        });
        Ok(round)
    }

    async fn cut_over(&mut self) -> Result<bool> {
        let Some(order) = self.stack.incoming.order() else { return Err(MoveError::Gone) };
        let longest = Duration::from_millis(order.max_hold_ms);
        let ask = HoldRequest { max_hold_ms: order.max_hold_ms };
        let held: Held = self.source.call("hold", Some(&ask), CALL + longest).await?;
        let hold_id = held.hold_id;
        let attempt = match timeout(longest, self.inside_hold(held, &order)).await {
            Ok(attempt) => attempt,
            // Perhaps in the middle of the commit.
            Err(_) => Ok(Attempt::Unclear),
        };
        match attempt {
            Ok(Attempt::Committed(certificate)) => self.finish(certificate).map(|()| true),
            Ok(Attempt::Unclear) => match self.settle(Some(hold_id)).await {
                Ok(true) => Ok(true),
                Ok(false) => {
                    self.stop_programs().await?;
                    Err(MoveError::TooSlow)
                }
                Err(error) => Err(error),
            },
            Err(error) => {
                if matches!(error, MoveError::Differs) {
                    self.copy.start_over();
                }
                self.stop_programs().await?;
                let released: Result<()> = self.source.call("release", Some(&Release { hold_id }), CALL).await;
                released.and(Err(error))
            }
        }
    }

    /// Copies and verifies the rest, makes it durable, probes the new place, and asks for the commit.
    async fn inside_hold(&mut self, held: Held, order: &MoveOrder) -> Result<Attempt> {
        let mut held_files = 0;
        loop {
            held_files += self.round().await?.changes;
            self.copy.verify().await?;
            self.copy.sync_rest().await?;
            if *self.copy.cursor() == held.cursor {
                break;
            }
        }
        let (_, sums) = self.stack.now().ok_or(MoveError::Differs)?;
        if sums != held.sums {
            return Err(MoveError::Differs);
        }
        self.start_programs(order).await?;
        self.stack.sessions.import(held.sessions, self.agent.clock.now())?;
        let (agent, stack, certificates) = (Arc::clone(&self.agent), Arc::clone(&self.stack), held.certificates);
        if let Err(error) = blocking(move || agent.certificates.import(&stack.spec().hosts, certificates)).await? {
            // They can be ordered here, too.
            tracing::warn!(%error, "certificates do not come along");
        }
        self.probe(order).await?;
        let (hold_id, front, fingerprint) = (held.hold_id, order.front, self.fingerprint().cloned());
        let commit = CommitRequest { hold_id, front, fingerprint, copy: sums, rounds: self.rounds, held_files };
        match self.source.call("commit", Some(&commit), CALL).await {
            Ok(certificate) => Ok(Attempt::Committed(certificate)),
            Err(refused @ (MoveError::NotNow(_) | MoveError::Gone)) => Err(refused),
            Err(error) => {
                tracing::warn!(%error, "the answer to a commit did not arrive");
                Ok(Attempt::Unclear)
            }
        }
    }

    /// Makes the containers ready to be started.
    async fn make_programs(&self) -> Result<()> {
        let Some(project) = &self.stack.project else { return Ok(()) };
        let engine = self.agent.engines.get().await?;
        Ok(project.make(engine, &mut *project.hands().await, &self.stack.spec()).await?)
    }

    async fn start_programs(&self, order: &MoveOrder) -> Result<()> {
        let Some(project) = &self.stack.project else { return Ok(()) };
        let longest = Duration::from_millis(order.max_hold_ms);
        Ok(project.start(self.agent.engines.get().await?, &self.stack.spec(), longest).await?)
    }

    /// After an attempt that came to nothing: what was started has changed its data, which is copied anew.
    async fn stop_programs(&mut self) -> Result<()> {
        let Some(project) = &self.stack.project else { return Ok(()) };
        project.down(&self.agent.engines, false).await?;
        self.copy.start_over();
        Ok(())
    }

    /// Asks for a page through the real front door.
    async fn probe(&self, order: &MoveOrder) -> Result<()> {
        let spec = self.stack.spec();
        let Some(host) = spec.hosts.first() else { return Ok(()) };
        let front = proxy::Target::new(order.front, self.fingerprint())?;
        let answer = proxy::probe(&front, host, &spec.client_id, &order.ticket.secret).await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        tracing::warn!(?answer, "the new place does not answer its probe");
        Err(MoveError::Probe)
    }

    /// Of this agent's own doors.
    fn fingerprint(&self) -> Option<&Fingerprint> {
        self.agent.identity.as_ref().map(|identity| &identity.fingerprint)
    }

    /// Finds out whether a commit happened. First lets go of the hold, so that a commit that is still on
    /// its way cannot happen afterwards. `false`: it did not, and the copy goes on.
    async fn settle(&mut self, hold_id: Option<u64>) -> Result<bool> {
        if let Some(hold_id) = hold_id {
            let () = self.source.call("release", Some(&Release { hold_id }), CALL).await?;
        }
        let state: JobState = self.source.call("state", None::<&()>, CALL).await?;
        match state.certificate {
            Some(certificate) => self.finish(certificate).map(|()| true),
            None => Ok(false),
        }
    }

    /// This is the stack's place now.
    fn finish(&mut self, certificate: Certificate) -> Result<()> {
        self.keep(|status| {
            status.phase = MovePhase::Committed;
            status.files_total = certificate.files;
            status.bytes_total = certificate.bytes;
            status.certificate = Some(certificate);
            status.error = None;
        })?;
        let spec = StackSpec { wanted: Wanted::Serving, ..(*self.stack.spec()).clone() };
        if self.stack.spec().wanted == Wanted::Receiving {
            self.stack.set_spec(spec)?;
        }
        self.agent.changed.notify_one();
        self.agent.unsettled.notify_one();
        self.agent.ordering.notify_one();
        Ok(())
    }

    fn keep(&self, change: impl FnOnce(&mut MoveStatus)) -> Result<()> {
        Ok(self.stack.incoming.set(&self.task, change)?)
    }

    /// As [`Work::keep`], for what is of no consequence.
    fn note(&self, change: impl FnOnce(&mut MoveStatus)) {
        if let Err(error) = self.keep(change) {
            tracing::error!(%error, "the state of a move is not kept");
        }
    }
}

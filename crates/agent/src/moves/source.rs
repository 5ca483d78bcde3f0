//! The source of a move: who may copy, and whether the stack has moved.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stackpro_domain::manifest::Certificate;
use stackpro_domain::recipe::HoldBy;
use stackpro_domain::{Fingerprint, Time};
use stackpro_protocol::agent::{AbortAnswer, Ticket};

use super::transfer::{CommitRequest, Held};
use crate::agent::Agent;
use crate::engine::project::Project;
use crate::engine::{EngineError, keeper};
use crate::proxy::Target;
use crate::stack::Stack;
use crate::{blocking, disk, secret};

/// The longest hold that is granted, whatever is asked for.
const LONGEST_HOLD: Duration = Duration::from_secs(30);
/// Characters of a job's id.
const JOB_ID: usize = 100;

/// What is known of moves away from here. On the disk before anyone is told of it.
pub(crate) struct Outgoing {
    file: PathBuf,
    record: Mutex<Record>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    tickets: Vec<JobTicket>,
    /// Jobs that are refused for ever.
    aborted: Vec<String>,
    committed: Option<Committed>,
    #[serde(skip)]
    forwarding: Option<Arc<Forwarding>>,
    /// The hold that runs, and its job.
    #[serde(skip)]
    hold: Option<(String, u64)>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobTicket {
    job_id: String,
    secret: String,
}

/// A move that happened: where the stack is now, and the proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Committed {
    pub job_id: String,
    pub front: SocketAddr,
    /// Of the certificate there.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
    /// With which forwarded requests are let in there.
    pub secret: String,
    pub certificate: Certificate,
}

/// The same, ready to be used.
pub(crate) struct Forwarding {
    pub committed: Committed,
    pub target: Target,
}

impl Forwarding {
    fn new(committed: Committed) -> io::Result<Arc<Self>> {
        let target = Target::new(committed.front, committed.fingerprint.as_ref()).map_err(io::Error::other)?;
        Ok(Arc::new(Self { committed, target }))
    }
}

/// Why a move does not go on now. The stack serves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotNow {
    #[error("a write takes too long, or another hold runs")]
    Busy,
    #[error("the files are not all read yet")]
    NotReady,
    #[error("the hold is over")]
    HoldOver,
    #[error("the move was given up, or another one happened")]
    Refused,
    #[error("the copy differs from its source")]
    Differs,
    #[error("the disk refused: {0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Engine(#[from] EngineError),
}

impl Outgoing {
    pub(crate) fn open(file: PathBuf) -> io::Result<Self> {
        let mut record: Record = disk::read_json(&file)?.unwrap_or_default();
        record.forwarding = record.committed.clone().map(Forwarding::new).transpose()?;
        Ok(Self { file, record: Mutex::new(record) })
    }

    /// Where the stack is now; none while it is here.
    pub(crate) fn forwarding(&self) -> Option<Arc<Forwarding>> {
        self.record().forwarding.clone()
    }

    /// The ticket of a job, the same each time; `None` when the job was given up.
    pub(crate) fn ticket(&self, job_id: &str) -> io::Result<Option<Ticket>> {
        let mut record = self.record();
        if job_id.is_empty() || job_id.len() > JOB_ID || record.aborted.iter().any(|job| job == job_id) {
            return Ok(None);
        }
        if let Some(ticket) = record.tickets.iter().find(|ticket| ticket.job_id == job_id) {
            return Ok(Some(Ticket { secret: ticket.secret.clone() }));
        }
        let secret = secret::random();
        let mut next = record.clone();
        next.tickets.push(JobTicket { job_id: job_id.to_owned(), secret: secret.clone() });
        self.keep(&mut record, next)?;
        Ok(Some(Ticket { secret }))
    }

    /// Whether this secret opens the data to this job.
    pub(crate) fn admits(&self, job_id: &str, secret: &str) -> bool {
        self.record().tickets.iter().any(|ticket| ticket.job_id == job_id && secret::same(&ticket.secret, secret))
    }

    fn keep(&self, record: &mut Record, next: Record) -> io::Result<()> {
        disk::write_json(&self.file, &next)?;
        *record = next;
        Ok(())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a job up for ever, unless it happened. Blocks.
pub(crate) fn abort(stack: &Stack, job_id: &str) -> io::Result<AbortAnswer> {
    let mut record = stack.outgoing.record();
    if record.committed.as_ref().is_some_and(|committed| committed.job_id == job_id) {
        return Ok(AbortAnswer::Committed);
    }
    let mut next = record.clone();
    if !next.aborted.iter().any(|job| job == job_id) {
        next.aborted.push(job_id.to_owned());
    }
    next.tickets.retain(|ticket| ticket.job_id != job_id);
    let hold = next.hold.take_if(|(job, _)| job == job_id);
    stack.outgoing.keep(&mut record, next)?;
    if let Some((_, hold)) = hold {
        stack.gate.release(hold);
    }
    Ok(AbortAnswer::Aborted)
}

/// Holds writes for a job, and says where exactly the stack stands.
pub(super) async fn hold(
    agent: &Arc<Agent>,
    stack: &Arc<Stack>,
    job_id: &str,
    longest: Duration,
) -> Result<Held, NotNow> {
    let longest = longest.min(LONGEST_HOLD);
    let hold = match &stack.project {
        None => stack.gate.hold(longest).await,
        Some(_) => stack.gate.hold_all(longest).await,
    };
    let hold = hold.ok_or(NotNow::Busy)?;
    // Whoever asked may go away: the hold has to end all the same.
    let held = Undo { stack, hold: hold.id };
    if let Some(project) = &stack.project {
        rest(agent, stack, project, hold.id).await?;
    }
    let (cursor, sums) = stack.now().ok_or(NotNow::NotReady)?;
    {
        let mut record = stack.outgoing.record();
        // Given up while the writes drained.
        if !record.tickets.iter().any(|ticket| ticket.job_id == job_id) {
            return Err(NotNow::Refused);
        }
        record.hold = Some((job_id.to_owned(), hold.id));
    }
    std::mem::forget(held);
    Ok(Held { hold_id: hold.id, cursor, sums, sessions: stack.sessions.export(), certificates: Vec::new() })
}

/// Lets go of a hold that came to nothing.
struct Undo<'a> {
    stack: &'a Stack,
    hold: u64,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        self.stack.gate.release(self.hold);
    }
}

/// Brings the programs of a stack to rest for as long as a hold lasts, and looks at what they left.
async fn rest(agent: &Arc<Agent>, stack: &Arc<Stack>, project: &Arc<Project>, hold: u64) -> Result<(), NotNow> {
    let spec = stack.spec();
    let freeze = spec.compose.as_ref().is_some_and(|compose| compose.hold == HoldBy::Freeze);
    {
        // Whoever changes the stack now does so for as long as an image takes to arrive.
        let mut hands = project.try_hands().ok_or(NotNow::Busy)?;
        hands.moving = true;
        tokio::spawn(keeper::wake(Arc::clone(agent), Arc::clone(stack), hold));
        project.rest(agent.engines.get().await?, freeze).await?;
    }
    let volumes = Arc::clone(&project.volumes);
    Ok(blocking(move || volumes.look()).await??)
}

/// Decides that the stack has moved, and writes that down before anyone hears it. Said again after that it
/// gives the same certificate.
pub(super) async fn commit(
    stack: &Arc<Stack>,
    job: String,
    ask: CommitRequest,
    now: Time,
) -> Result<Certificate, NotNow> {
    let stack = Arc::clone(stack);
    // Not to be cut short by a caller that goes away: what was decided has to be acted on.
    blocking(move || decide(&stack, &job, ask, now)).await?
}

fn decide(stack: &Stack, job_id: &str, ask: CommitRequest, now: Time) -> Result<Certificate, NotNow> {
    let mut record = stack.outgoing.record();
    if let Some(committed) = &record.committed {
        return if committed.job_id == job_id { Ok(committed.certificate.clone()) } else { Err(NotNow::Refused) };
    }
    let ticket = record.tickets.iter().find(|ticket| ticket.job_id == job_id).ok_or(NotNow::Refused)?;
    let secret = ticket.secret.clone();
    let decision = stack.gate.decide(ask.hold_id).ok_or(NotNow::HoldOver)?;
    let (_, sums) = stack.now().ok_or(NotNow::NotReady)?;
    if sums != ask.copy {
        return Err(NotNow::Differs);
    }
    let certificate = Certificate {
        files: sums.files,
        bytes: sums.bytes,
        source_hash: sums.hash,
        copy_hash: ask.copy.hash,
        rounds: ask.rounds,
        held_files: ask.held_files,
        held_ms: decision.hold.since.elapsed().as_millis() as u64,
        committed_at: now,
    };
    let (job_id, front, fingerprint) = (job_id.to_owned(), ask.front, ask.fingerprint);
    let committed = Committed { job_id, front, fingerprint, secret, certificate: certificate.clone() };
    let mut next = record.clone();
    next.forwarding = Some(Forwarding::new(committed.clone())?);
    next.committed = Some(committed);
    next.hold = None;
    stack.outgoing.keep(&mut record, next)?;
    decision.moved();
    Ok(certificate)
}

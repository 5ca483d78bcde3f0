//! What a flow is, and every way it may change. Pure: from values and the journal's time to values.
//!
//! A flow goes forward until all its steps are done, or backward until all that began is undone. It turns
//! back when a step fails for good before the commit; after the commit it can only go on, so it parks.
//! Parked means that nothing runs until someone says so: the cause is there to read.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stackpro_domain::{FlowId, Time};

/// A flow, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    pub id: FlowId,
    /// The name of its [`FlowSpec`](crate::FlowSpec): `provision`.
    pub kind: String,
    /// Of the table of steps that it began with.
    pub version: u32,
    /// Whom it is for. Flows of one subject run one after the other.
    pub subject: String,
    pub params: Value,
    pub state: FlowState,
    /// Going backward.
    pub undoing: bool,
    /// Why it parked or turned back.
    pub cause: Option<String>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// Until an earlier flow of the same subject has ended.
    Waiting,
    Running,
    /// Until the operator retries it, turns it back or abandons it.
    Parked,
    Done,
    Undone,
    /// Given up while parked, because a later flow (a deletion) takes care of what it left.
    Abandoned,
}

impl FlowState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Abandoned => "abandoned",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Running, Self::Parked, Self::Done, Self::Undone, Self::Abandoned]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    pub const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Undone | Self::Abandoned)
    }
}

/// A step, as the journal keeps it. Everything that its execution needs to be the same after a
/// deployment is here, and only the code is looked up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    /// For people: `Create storage`.
    pub title: String,
    /// Names of the steps that must be done first.
    pub needs: Vec<String>,
    /// Once done, the flow cannot turn back.
    pub commit: bool,
    /// What it calls, for limits: `compute`, `dns`, `agent`.
    pub api: String,
    /// How often `run`, and how often `undo`, may fail before the flow parks or turns back.
    pub max_attempts: u32,
    /// When `run` has failed so often: turn back (true) or park (false).
    pub turn_back: bool,
    pub state: StepState,
    /// Failures in the present direction.
    pub attempts: u32,
    /// Not before this time of the journal's clock, in milliseconds.
    pub run_at: i64,
    /// Who executes it, if anyone.
    pub lease: Option<Lease>,
    /// Counts leases, so that whoever lost one can be told from whoever has it.
    pub fence: i64,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// The last thing that went wrong.
    pub error: Option<String>,
    /// What it is busy with, for people.
    pub note: Option<String>,
    pub output: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: String,
    /// Milliseconds on the journal's clock.
    pub until: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    Pending,
    /// `run` is, or may be, being executed.
    Running,
    Done,
    /// `run` failed for good.
    Failed,
    /// `undo` is, or may be, being executed.
    Undoing,
    Undone,
}

impl StepState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Done, Self::Failed, Self::Undoing, Self::Undone]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A flow to begin: made by [`FlowSpec::begin`](crate::FlowSpec::begin), written by the store.
#[derive(Clone, Debug)]
pub struct NewFlow {
    pub flow: Flow,
    pub steps: Vec<Step>,
    /// Abandon a parked flow of the same subject instead of waiting behind it.
    pub supersedes_parked: bool,
}

/// How an execution of `run` or `undo` ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// `run` succeeded.
    Done(Value),
    /// `run` is not finished, nothing is wrong: look again in so many milliseconds.
    Later(i64, Option<String>),
    /// Slow down: try again in so many milliseconds; no failure.
    Throttled(i64, String),
    /// Failed, and may succeed when tried again.
    Retry(String),
    /// `run` failed for good.
    Failed(String),
    /// `undo` succeeded.
    Undone,
    /// `undo` found that the step had taken effect for good: the flow goes forward again.
    TooLate(Value),
}

/// The lease was lost to another owner: what this execution found out no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

impl Step {
    /// Began and is not undone: it may have left something.
    fn has_effect(&self) -> bool {
        self.started_at.is_some() && self.state != StepState::Undone
    }

    /// The earliest time at which it could be taken, if nothing else stands in its way.
    fn due(&self) -> i64 {
        self.lease.as_ref().map_or(self.run_at, |lease| lease.until)
    }
}

/// Indexes of the steps that could be executed but for their time and lease.
fn eligible(flow: &Flow, steps: &[Step]) -> Vec<usize> {
    if flow.state != FlowState::Running {
        return Vec::new();
    }
    let done = |name: &String| steps.iter().any(|s| &s.name == name && s.state == StepState::Done);
    let blocks = |step: &Step| steps.iter().any(|s| s.has_effect() && s.needs.contains(&step.name));
    (0..steps.len())
        .filter(|&i| {
            let step = &steps[i];
            if flow.undoing {
                step.has_effect() && !blocks(step)
            } else {
                matches!(step.state, StepState::Pending | StepState::Running) && step.needs.iter().all(done)
            }
        })
        .collect()
}

/// Indexes of the steps that may be executed now: those whose time has come and that nobody holds. A
/// step whose lease has run out is one of them: its owner is dead, or will be fenced.
pub fn runnable(flow: &Flow, steps: &[Step], now: i64) -> Vec<usize> {
    eligible(flow, steps).into_iter().filter(|&i| steps[i].due() <= now).collect()
}

/// When to look at the flow again, on the journal's clock; `None` when only an event can move it.
pub fn next_at(flow: &Flow, steps: &[Step]) -> Option<i64> {
    eligible(flow, steps).into_iter().map(|i| steps[i].due()).min()
}

/// Takes a runnable step. Returns the fence by which [`end`] and renewals know this execution.
pub fn begin(flow: &Flow, step: &mut Step, owner: &str, now: i64, lease_ms: i64, at: Time) -> i64 {
    step.fence += 1;
    step.lease = Some(Lease { owner: owner.to_owned(), until: now + lease_ms });
    step.state = if flow.undoing { StepState::Undoing } else { StepState::Running };
    step.started_at.get_or_insert(at);
    step.fence
}

/// Records how the execution with this `fence` ended. `at` is stored as the time for people.
pub fn end(
    flow: &mut Flow,
    steps: &mut [Step],
    (name, fence): (&str, i64),
    outcome: Outcome,
    now: i64,
    at: Time,
) -> Result<(), Fenced> {
    let committed = steps.iter().any(|s| s.commit && s.state == StepState::Done);
    let was_undoing = flow.undoing;
    let Some(step) = steps.iter_mut().find(|s| s.name == name) else { return Err(Fenced) };
    if step.lease.is_none() || step.fence != fence {
        return Err(Fenced);
    }
    let backward = step.state == StepState::Undoing;
    step.lease = None;
    step.note = None;
    match outcome {
        Outcome::Done(output) => finish(step, StepState::Done, output, at),
        Outcome::Undone => finish(step, StepState::Undone, Value::Null, at),
        Outcome::TooLate(output) => {
            finish(step, StepState::Done, output, at);
            flow.undoing = false;
            flow.cause = None;
        }
        Outcome::Later(ms, note) => {
            step.note = note;
            postpone(step, now + ms);
        }
        Outcome::Throttled(ms, cause) => {
            step.error = Some(cause);
            postpone(step, now + ms);
        }
        Outcome::Retry(cause) => {
            step.attempts += 1;
            postpone(step, now + backoff_ms(step.attempts));
            let turn = step.turn_back && !backward && !committed;
            if step.attempts >= step.max_attempts {
                stop(flow, name, &cause, backward, turn);
            }
            step.error = Some(cause);
        }
        Outcome::Failed(cause) => {
            // A refused undo needs a person: the step keeps its effect, and a retry undoes it again.
            step.state = if backward { StepState::Undoing } else { StepState::Failed };
            stop(flow, name, &cause, backward, !backward && !committed);
            step.error = Some(cause);
        }
    }
    face(flow, steps, name, was_undoing, now);
    settle(flow, steps, at);
    Ok(())
}

fn finish(step: &mut Step, state: StepState, output: Value, at: Time) {
    step.state = state;
    step.finished_at = Some(at);
    step.error = None;
    step.output = output;
}

/// Until its next try a step waits as `Pending`, or as `Undoing` without a lease.
fn postpone(step: &mut Step, until: i64) {
    if step.state == StepState::Running {
        step.state = StepState::Pending;
    }
    step.run_at = until;
}

/// A step cannot go on: the flow turns back or parks. What a straggler of the other direction, or of a
/// flow that is parked already, has to say changes nothing: its step is seen to when its turn comes.
fn stop(flow: &mut Flow, step: &str, cause: &str, backward: bool, turn: bool) {
    if flow.state != FlowState::Running || flow.undoing != backward {
        return;
    }
    flow.cause = Some(format!("{step}: {cause}"));
    if turn {
        flow.undoing = true;
    } else {
        flow.state = FlowState::Parked;
    }
}

/// After a turn, makes the steps fit the new direction, also the one that ended late in the old one.
fn face(flow: &Flow, steps: &mut [Step], ended: &str, was_undoing: bool, now: i64) {
    let turned = flow.undoing != was_undoing;
    for step in steps.iter_mut().filter(|s| s.lease.is_none() && (turned || s.name == ended)) {
        if flow.undoing && step.state != StepState::Undoing {
            step.attempts = 0;
            step.run_at = now;
        } else if !flow.undoing && matches!(step.state, StepState::Undone | StepState::Undoing) {
            reset(step, now);
        } else if !flow.undoing && turned && step.state == StepState::Failed {
            step.state = StepState::Pending;
        }
    }
}

fn settle(flow: &mut Flow, steps: &[Step], at: Time) {
    if flow.state.is_over() {
        return;
    }
    let over = if flow.undoing {
        (!steps.iter().any(Step::has_effect)).then_some(FlowState::Undone)
    } else {
        steps.iter().all(|s| s.state == StepState::Done).then_some(FlowState::Done)
    };
    if let Some(state) = over {
        flow.state = state;
        flow.finished_at = Some(at);
    }
}

fn reset(step: &mut Step, now: i64) {
    *step = Step {
        state: StepState::Pending,
        attempts: 0,
        run_at: now,
        lease: None,
        started_at: None,
        finished_at: None,
        error: None,
        note: None,
        output: Value::Null,
        ..step.clone()
    };
}

/// Why the operator's wish cannot be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("only a parked flow can be retried or turned back")]
    NotParked,
    #[error("the flow is past its commit and can only go on")]
    Committed,
}

/// Sets a parked flow going again, in the direction in which it stopped.
pub fn retry(flow: &mut Flow, steps: &mut [Step], now: i64) -> Result<(), Refused> {
    if flow.state != FlowState::Parked {
        return Err(Refused::NotParked);
    }
    flow.state = FlowState::Running;
    flow.cause = None;
    for step in steps.iter_mut().filter(|s| s.lease.is_none()) {
        step.attempts = 0;
        step.run_at = now;
        if step.state == StepState::Failed && !flow.undoing {
            step.state = StepState::Pending;
        }
    }
    Ok(())
}

/// Turns a parked flow back.
pub fn turn_back(flow: &mut Flow, steps: &mut [Step], now: i64, at: Time) -> Result<(), Refused> {
    if flow.state != FlowState::Parked {
        return Err(Refused::NotParked);
    }
    if steps.iter().any(|s| s.commit && s.state == StepState::Done) {
        return Err(Refused::Committed);
    }
    retry(flow, steps, now)?;
    flow.undoing = true;
    settle(flow, steps, at);
    Ok(())
}

/// Before the next try, after so many failures: 0.5 s doubling to 60 s. The runner adds the jitter.
pub fn backoff_ms(attempts: u32) -> i64 {
    (500_i64 << attempts.saturating_sub(1).min(10)).min(60_000)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;

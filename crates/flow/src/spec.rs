//! How a flow is written: a table of steps over a world `W` (whatever the steps need to act).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stackpro_domain::{FlowId, Time};

use crate::journal::{Journal, LeaseKey};
use crate::state::{Flow, FlowState, NewFlow, Step, StepState};

/// A kind of flow. Changing what its steps mean needs a new `version`, and the old table stays in the
/// registry as long as a flow may be under way that began with it.
pub struct FlowSpec<W: 'static> {
    pub kind: &'static str,
    pub version: u32,
    pub steps: &'static [StepSpec<W>],
    /// See [`NewFlow::supersedes_parked`].
    pub supersedes_parked: bool,
}

/// One step: `run` makes it so, `undo` makes it as if it had not been. Both may be executed more than
/// once, and `undo` also when `run` did not finish.
pub struct StepSpec<W: 'static> {
    pub name: &'static str,
    pub title: &'static str,
    pub needs: &'static [&'static str],
    pub commit: bool,
    pub api: &'static str,
    pub max_attempts: u32,
    pub turn_back: bool,
    pub run: StepFn<W>,
    pub undo: UndoFn<W>,
}

pub type StepFn<W> = for<'a> fn(&'a StepCtx<W>) -> BoxFuture<'a, StepResult>;
pub type UndoFn<W> = for<'a> fn(&'a StepCtx<W>) -> BoxFuture<'a, UndoResult>;
pub type StepResult = Result<Value, StepError>;
pub type UndoResult = Result<(), UndoError>;

/// Why `run` has not succeeded, told apart by what happens next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Nothing is wrong, it takes longer: look again in so many milliseconds.
    #[error("not yet")]
    Later { ms: i64, note: Option<String> },
    #[error("throttled: {cause}")]
    Throttled { ms: i64, cause: String },
    #[error("{0}")]
    Retry(String),
    /// For good. The flow turns back, or parks when it is past its commit.
    #[error("{0}")]
    Failed(String),
}

/// Why `undo` has not succeeded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UndoError {
    #[error("not yet")]
    Later { ms: i64 },
    #[error("throttled: {cause}")]
    Throttled { ms: i64, cause: String },
    #[error("{0}")]
    Retry(String),
    /// The step took effect after all and cannot be taken back: it counts as done with this output.
    #[error("it is too late to undo this")]
    TooLate(Value),
}

/// What a step is given.
pub struct StepCtx<W> {
    pub world: Arc<W>,
    pub flow_id: FlowId,
    pub subject: String,
    pub params: Value,
    /// Of the steps that are done, by name.
    pub outputs: BTreeMap<String, Value>,
    /// Failures so far.
    pub attempts: u32,
    pub(crate) key: LeaseKey,
    pub(crate) journal: Arc<dyn Journal>,
}

impl<W> StepCtx<W> {
    /// The flow's parameters.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        serde_json::from_value(self.params.clone())
            .map_err(|error| StepError::Failed(format!("this flow's parameters cannot be read: {error}")))
    }

    /// What an earlier step returned. A step only asks for outputs of steps that it needs.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        let value = self.outputs.get(step).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value)
            .map_err(|error| StepError::Failed(format!("the output of step {step} cannot be read: {error}")))
    }

    /// Tells people what the step is busy with. Best effort.
    pub async fn note(&self, text: &str) {
        if let Err(error) = self.journal.note(&self.key, text).await {
            tracing::debug!(%error, "a note was not kept");
        }
    }
}

impl From<StepError> for UndoError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Later { ms, .. } => Self::Later { ms },
            StepError::Throttled { ms, cause } => Self::Throttled { ms, cause },
            StepError::Retry(cause) | StepError::Failed(cause) => Self::Retry(cause),
        }
    }
}

impl<W> FlowSpec<W> {
    /// A flow of this kind, to be written in the transaction of whatever caused it.
    pub fn begin(
        &self,
        id: FlowId,
        subject: &str,
        params: &impl Serialize,
        at: Time,
    ) -> Result<NewFlow, serde_json::Error> {
        let flow = Flow {
            id,
            kind: self.kind.to_owned(),
            version: self.version,
            subject: subject.to_owned(),
            params: serde_json::to_value(params)?,
            state: FlowState::Running,
            undoing: false,
            cause: None,
            created_at: at,
            finished_at: None,
        };
        let steps = self.steps.iter().map(StepSpec::begin).collect();
        Ok(NewFlow { flow, steps, supersedes_parked: self.supersedes_parked })
    }
}

impl<W> StepSpec<W> {
    /// A step that needs no other, leaves nothing to undo, and parks its flow after eight failures. What is
    /// otherwise is said by the methods below, so that a flow reads as a table.
    pub const fn new(name: &'static str, title: &'static str, api: &'static str, run: StepFn<W>) -> Self {
        Self {
            name,
            title,
            needs: &[],
            commit: false,
            api,
            max_attempts: 8,
            turn_back: false,
            run,
            undo: |_| Box::pin(async { Ok(()) }),
        }
    }

    #[must_use]
    pub const fn after(mut self, needs: &'static [&'static str]) -> Self {
        self.needs = needs;
        self
    }

    #[must_use]
    pub const fn undo(mut self, undo: UndoFn<W>) -> Self {
        self.undo = undo;
        self
    }

    /// Once it is done, the flow cannot turn back.
    #[must_use]
    pub const fn commits(mut self) -> Self {
        self.commit = true;
        self
    }

    /// After its last failure the flow turns back instead of parking.
    #[must_use]
    pub const fn turns_back(mut self) -> Self {
        self.turn_back = true;
        self
    }

    fn begin(&self) -> Step {
        Step {
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            needs: self.needs.iter().map(|&n| n.to_owned()).collect(),
            commit: self.commit,
            api: self.api.to_owned(),
            max_attempts: self.max_attempts,
            turn_back: self.turn_back,
            state: StepState::Pending,
            attempts: 0,
            run_at: 0,
            lease: None,
            fence: 0,
            started_at: None,
            finished_at: None,
            error: None,
            note: None,
            output: Value::Null,
        }
    }
}

fn name(kind: &str, version: u32) -> String {
    format!("{kind} v{version}")
}

impl Flow {
    /// Its kind together with its version: `provision v1`.
    pub fn name(&self) -> String {
        name(&self.kind, self.version)
    }
}

/// Every kind of flow that this build can carry out, old versions included.
pub struct Registry<W: 'static> {
    flows: Vec<&'static FlowSpec<W>>,
}

impl<W> Registry<W> {
    /// Checks each table: a step needs only steps above it, and no name or flow stands twice.
    pub fn new(flows: Vec<&'static FlowSpec<W>>) -> Result<Self, String> {
        for (i, flow) in flows.iter().enumerate() {
            if flows[..i].iter().any(|f| f.kind == flow.kind && f.version == flow.version) {
                return Err(format!("flow {} v{} is registered twice", flow.kind, flow.version));
            }
            for (at, step) in flow.steps.iter().enumerate() {
                let above = &flow.steps[..at];
                if above.iter().any(|s| s.name == step.name) {
                    return Err(format!("step {} stands twice in flow {}", step.name, flow.kind));
                }
                if let Some(missing) = step.needs.iter().find(|n| !above.iter().any(|s| s.name == **n)) {
                    return Err(format!(
                        "step {} of flow {} needs {missing}, which is not above it",
                        step.name, flow.kind
                    ));
                }
            }
        }
        Ok(Self { flows })
    }

    pub fn flows(&self) -> &[&'static FlowSpec<W>] {
        &self.flows
    }

    /// The name of each: what a node says of itself when it asks for work.
    pub fn known(&self) -> Arc<[String]> {
        self.flows.iter().map(|flow| name(flow.kind, flow.version)).collect()
    }

    pub fn knows(&self, kind: &str, version: u32) -> bool {
        self.flows.iter().any(|flow| flow.kind == kind && flow.version == version)
    }

    pub fn step(&self, kind: &str, version: u32, name: &str) -> Option<&'static StepSpec<W>> {
        let flow = self.flows.iter().find(|f| f.kind == kind && f.version == version)?;
        flow.steps.iter().find(|s| s.name == name)
    }
}

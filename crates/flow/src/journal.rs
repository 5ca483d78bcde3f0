//! Where flows are kept. The store implements this, each call as one transaction over [`crate::state`].

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use stackpro_domain::FlowId;

use crate::state::{Flow, Outcome};

/// The journal could not be read or written. Nothing was changed, or the change is as if it never was.
#[derive(Debug, thiserror::Error)]
#[error("the journal is out of reach: {0}")]
pub struct JournalError(pub String);

/// Who asks for work, and how much.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Unique to this process and start.
    pub owner: String,
    pub lease_ms: i64,
    /// At most so many steps.
    pub steps: usize,
    /// At most so many steps at once, over all nodes, that call the same API.
    pub per_api: usize,
    /// The flows that it can carry out: see [`crate::Registry::known`]. Others are left for who can.
    pub known: Arc<[String]>,
}

/// One execution of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseKey {
    pub flow_id: FlowId,
    pub step: String,
    pub fence: i64,
}

/// A step to execute now, with all that it needs.
#[derive(Clone, Debug)]
pub struct Claim {
    pub key: LeaseKey,
    pub flow: Flow,
    /// True: execute `undo`.
    pub undo: bool,
    pub attempts: u32,
    pub outputs: BTreeMap<String, Value>,
}

/// What became of an outcome.
#[derive(Debug)]
pub enum Ended {
    /// Written. The steps of the same flow that may run now are claimed already, in the same transaction.
    Recorded(Vec<Claim>),
    /// The lease was lost: nothing was written.
    Fenced,
}

#[async_trait]
pub trait Journal: Send + Sync {
    /// Takes steps that may run, fairly over subjects: those due longest first.
    async fn claim(&self, ask: &Ask) -> Result<Vec<Claim>, JournalError>;
    /// Lengthens a lease. False: it is lost, stop.
    async fn renew(&self, key: &LeaseKey, lease_ms: i64) -> Result<bool, JournalError>;
    /// Records an outcome, and claims what follows it in the same flow.
    async fn end(&self, key: &LeaseKey, outcome: Outcome, ask: &Ask) -> Result<Ended, JournalError>;
    /// Keeps a note for people, if the lease still holds.
    async fn note(&self, key: &LeaseKey, text: &str) -> Result<(), JournalError>;
}

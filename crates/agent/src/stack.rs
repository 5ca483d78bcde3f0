//! One client's stack on this instance: its spec, its data, its gate, and what answers for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use stackpro_domain::ClientId;
use stackpro_protocol::agent::{StackSpec, StackState, StackStatus, StackUsage, Wanted};
use tokio_util::sync::CancellationToken;

use crate::disk;
use crate::engine::project::Project;
use crate::gate::{Gate, Passage};
use crate::limiter::{Limiter, PerMinute};
use crate::meter::Meter;
use crate::moves::destination::Incoming;
use crate::moves::source::{Forwarding, Outgoing};
use crate::sessions::Sessions;
use crate::tree::{Cursor, Sums, Tree};

/// The password itself is beyond guessing.
const WRONG_PASSWORDS: PerMinute = PerMinute { of_an_address: 10, in_all: 200 };
const MESSAGES: PerMinute = PerMinute { of_an_address: 5, in_all: 30 };

pub(crate) struct Stack {
    pub folder: PathBuf,
    spec: RwLock<Arc<StackSpec>>,
    /// The built-in recipe's data; empty where a recipe has volumes.
    pub tree: Arc<Tree>,
    /// None for a recipe that is built in.
    pub project: Option<Arc<Project>>,
    pub gate: Arc<Gate>,
    pub sessions: Sessions,
    pub meter: Meter,
    /// Passwords that were wrong.
    pub attempts: Limiter,
    /// Of visitors to the owner.
    pub messages: Limiter,
    /// The move away from here, if any.
    pub outgoing: Outgoing,
    /// The move to here, if any.
    pub incoming: Incoming,
    /// Cancelled when the stack is removed from here.
    pub gone: CancellationToken,
}

/// What the front door does with a request.
pub(crate) enum Pass {
    /// Serve it; what a hold waits for keeps the guard until its answer is sent.
    Serve(Option<Passage>),
    Forward(Arc<Forwarding>),
    Suspended,
    Absent,
}

impl Stack {
    /// Makes the stack's folder, or opens what is there. Blocks.
    pub(crate) fn create(stacks: &Path, spec: StackSpec) -> io::Result<Arc<Self>> {
        let folder = stacks.join(spec.client_id.as_str());
        fs::create_dir_all(&folder)?;
        disk::write_json(&folder.join("stack.json"), &spec)?;
        disk::sync_folder(stacks)?;
        Self::open_with(folder, spec)
    }

    /// `None` when the folder holds no stack (its creation was cut short).
    pub(crate) fn open(folder: PathBuf) -> io::Result<Option<Arc<Self>>> {
        match disk::read_json::<StackSpec>(&folder.join("stack.json"))? {
            Some(spec) => Self::open_with(folder, spec).map(Some),
            None => Ok(None),
        }
    }

    fn open_with(folder: PathBuf, spec: StackSpec) -> io::Result<Arc<Self>> {
        let project = spec.compose.as_ref().map(|_| Project::open(&folder, &spec.client_id)).transpose()?;
        let stack = Self {
            project: project.map(Arc::new),
            tree: Tree::open(&folder, spec.limits)?,
            gate: Arc::default(),
            sessions: Sessions::open(folder.join("sessions.json"))?,
            meter: Meter::open(folder.join("counts.json")),
            attempts: Limiter::new(WRONG_PASSWORDS),
            messages: Limiter::new(MESSAGES),
            outgoing: Outgoing::open(folder.join("outgoing.json"))?,
            incoming: Incoming::open(folder.join("incoming.json"))?,
            spec: RwLock::new(Arc::new(spec)),
            gone: CancellationToken::new(),
            folder,
        };
        if stack.outgoing.forwarding().is_some() {
            stack.gate.set_moved();
        }
        Ok(Arc::new(stack))
    }

    pub(crate) fn spec(&self) -> Arc<StackSpec> {
        Arc::clone(&self.spec.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn client(&self) -> ClientId {
        self.spec().client_id.clone()
    }

    /// Replaces the spec, durably. Blocks.
    pub(crate) fn set_spec(&self, spec: StackSpec) -> io::Result<()> {
        let mut current = self.spec.write().unwrap_or_else(PoisonError::into_inner);
        if **current != spec {
            disk::write_json(&self.folder.join("stack.json"), &spec)?;
            self.tree.set_limits(spec.limits);
            *current = Arc::new(spec);
        }
        Ok(())
    }

    pub(crate) fn state(&self) -> StackState {
        match self.spec().wanted {
            _ if self.gate.is_moved() => StackState::Forwarding,
            Wanted::Suspended => StackState::Suspended,
            // The move here is done, and whoever still asks for `Receiving` has not heard of it.
            Wanted::Receiving if !self.incoming.is_committed() => StackState::Receiving,
            Wanted::Receiving | Wanted::Serving => StackState::Serving,
        }
    }

    pub(crate) fn status(&self) -> StackStatus {
        let (storage_bytes, files) = match &self.project {
            Some(project) => project.volumes.usage(),
            None => (self.tree.usage().0, self.tree.usage().1),
        };
        let counts = self.meter.read();
        let usage = StackUsage { storage_bytes, files, requests: counts.requests, traffic_bytes: counts.traffic_bytes };
        let seen = self.project.as_ref().map(|project| project.seen());
        let starting = seen.as_ref().is_some_and(|seen| seen.ready.is_none() && seen.problem.is_none());
        let problem = seen.and_then(|seen| seen.problem);
        StackStatus { client_id: self.client(), state: self.state(), usage, problem, starting }
    }

    /// Decides about a request. A write waits here while a move holds writes. `pass` is the secret that the
    /// source of a move sends along with what it forwards, and the destination with its own probe.
    pub(crate) async fn pass(&self, write: bool, pass: Option<&str>) -> Pass {
        match self.state() {
            StackState::Forwarding => return self.forward(),
            StackState::Suspended => return Pass::Suspended,
            StackState::Receiving if !pass.is_some_and(|secret| self.incoming.lets_in(secret)) => return Pass::Absent,
            StackState::Receiving | StackState::Serving => {}
        }
        let passage = match (&self.project, write) {
            (None, false) => return Pass::Serve(None),
            (Some(_), false) => self.gate.enter_to_read().await,
            (_, true) => self.gate.enter().await,
        };
        match passage {
            Some(passage) => Pass::Serve(Some(passage)),
            None => self.forward(),
        }
    }

    /// Where the data is now, with its sums; `None` while hashes are missing. Of volumes: as of the last look.
    pub(crate) fn now(&self) -> Option<(Cursor, Sums)> {
        match &self.project {
            Some(project) => Some(project.volumes.now()),
            None => self.tree.now(),
        }
    }

    fn forward(&self) -> Pass {
        self.outgoing.forwarding().map_or(Pass::Absent, Pass::Forward)
    }
}

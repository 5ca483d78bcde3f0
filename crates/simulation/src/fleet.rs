//! Fast instances: what an agent says and does, in this process. The control plane reaches each at a loopback
//! address of its own, by HTTP, and as with real ones some answers are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use axum::Router;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stackpro_cloud::{CloudError, Compute, Instance, InstanceState, LaunchSpec, Result};
use stackpro_domain::{ClientId, Clock, InstanceId, Time};
use stackpro_protocol::agent::{Enrol, Enrolled, MoveStatus, StackSpec, Wanted};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::agent;

/// How often, of all calls, things go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Odds {
    /// Refused before it took effect, and answered with an error after it did: each so often.
    pub(crate) lost: f64,
}

#[derive(Clone)]
pub(crate) struct Fleet(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    odds: Odds,
    /// The control plane, to which agents enrol. Set once it exists.
    server: OnceLock<Router>,
    state: Mutex<State>,
}

struct State {
    dice: StdRng,
    machines: BTreeMap<InstanceId, Machine>,
    launched: u64,
}

pub(crate) struct Machine {
    pub(crate) spec: LaunchSpec,
    pub(crate) running: bool,
    pub(crate) key: String,
    pub(crate) door: SocketAddr,
    pub(crate) launched_at: Time,
    pub(crate) stacks: BTreeMap<ClientId, Stack>,
    serving: AbortHandle,
}

/// A client's stack on one machine.
pub(crate) struct Stack {
    pub(crate) spec: StackSpec,
    /// The move to here.
    pub(crate) incoming: Option<MoveStatus>,
    /// Moves away from here that will never happen.
    pub(crate) aborted: BTreeSet<String>,
    /// Where it went, and by which job.
    pub(crate) moved: Option<(String, SocketAddr)>,
    pub(crate) bytes: u64,
}

impl Stack {
    pub(crate) fn serves(&self) -> bool {
        let arrived = self.incoming.as_ref().is_some_and(|status| status.certificate.is_some());
        self.spec.wanted == Wanted::Serving || (self.spec.wanted == Wanted::Receiving && arrived)
    }
}

impl Fleet {
    pub(crate) fn new(clock: Arc<dyn Clock>, odds: Odds, seed: u64) -> Self {
        let state = State { dice: StdRng::seed_from_u64(seed), machines: BTreeMap::new(), launched: 0 };
        Self(Arc::new(Inner { clock, odds, server: OnceLock::new(), state: Mutex::new(state) }))
    }

    pub(crate) fn serve_to(&self, server: Router) {
        let _ = self.0.server.set(server);
    }

    pub(crate) fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// Whether the next call is refused before its effect, and whether its answer is lost after it.
    pub(crate) fn fate(&self) -> (bool, bool) {
        let lost = self.0.odds.lost;
        let mut state = self.lock();
        (state.dice.random_bool(lost), state.dice.random_bool(lost))
    }

    /// Does something with the machines; nobody else does meanwhile.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<InstanceId, Machine>) -> T) -> T {
        work(&mut self.lock().machines)
    }

    /// Machines that run: those of many clients, and those of one.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.with(|machines| {
            let running = || machines.values().filter(|machine| machine.running);
            let shared = running().filter(|machine| machine.spec.tags.client_id.is_none()).count();
            (shared, running().count() - shared)
        })
    }

    /// The client whose stack answers at this front door for this host, as a visitor sees it.
    pub(crate) fn who_answers(&self, door: SocketAddr, host: &str) -> Option<ClientId> {
        self.with(|machines| {
            let at = |door| machines.values().find(|machine| machine.running && machine.door == door);
            let stack = |machine: &Machine| {
                let found = machine.stacks.iter().find(|(_, stack)| stack.spec.hosts.iter().any(|name| name == host));
                found.map(|(client, stack)| (client.clone(), stack.moved.clone(), stack.serves()))
            };
            let (client, moved, serves) = stack(at(door)?)?;
            match moved {
                Some((_, to)) => stack(at(to)?).filter(|(_, _, serves)| *serves).map(|(client, ..)| client),
                None => serves.then_some(client),
            }
        })
    }

    /// A moment after the launch, as a real agent does.
    async fn enrol(&self, id: &InstanceId, spec: &LaunchSpec, door: SocketAddr) -> Result<()> {
        let lost = |cause: String| CloudError::Transient { call: "compute.launch", cause };
        let words = Enrol {
            instance_id: id.clone(),
            token: spec.enrol_token.clone(),
            front: door,
            control: door,
            fingerprint: None,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let Some(server) = self.0.server.get() else { return Err(lost("no server yet".into())) };
        let (status, body) = agent::post(server, "/api/agents/enrol", &words).await;
        if !status.is_success() {
            return Err(lost(format!("the server answered {status} to the agent that enrols")));
        }
        let Enrolled { key } = serde_json::from_slice(&body).map_err(|error| lost(error.to_string()))?;
        self.with(|machines| {
            if let Some(machine) = machines.get_mut(id) {
                machine.key = key;
            }
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this token launched, and where it listens.
    fn found(&self, spec: &LaunchSpec) -> Result<Option<(InstanceId, SocketAddr)>> {
        self.with(|machines| {
            let found = machines.iter().find(|(_, machine)| machine.spec.token == spec.token);
            match found {
                Some((_, machine)) if machine.spec != *spec => Err(CloudError::Refused {
                    call: "compute.launch",
                    cause: "IdempotentParameterMismatch: the client token was used before".into(),
                }),
                found => Ok(found.map(|(id, machine)| (id.clone(), machine.door))),
            }
        })
    }

    async fn make(&self, spec: &LaunchSpec) -> Result<(InstanceId, SocketAddr)> {
        let failed = |error: std::io::Error| CloudError::Transient { call: "compute.launch", cause: error.to_string() };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let door = listener.local_addr().map_err(failed)?;
        let launched_at = self.now();
        let mut state = self.lock();
        state.launched += 1;
        let id: InstanceId = format!("i-{:017x}", state.launched)
            .parse()
            .map_err(|error| CloudError::Refused { call: "compute.launch", cause: format!("{error}") })?;
        let router = agent::router(self.clone(), id.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        let machine = Machine {
            spec: spec.clone(),
            running: true,
            key: String::new(),
            door,
            launched_at,
            stacks: BTreeMap::new(),
            serving,
        };
        state.machines.insert(id.clone(), machine);
        Ok((id, door))
    }
}

/// Whether a call fails before it has an effect, or after.
fn go_wrong(call: &'static str, wrong: bool) -> Result<()> {
    let cause = || "an injected fault".to_owned();
    if wrong { Err(CloudError::Transient { call, cause: cause() }) } else { Ok(()) }
}

#[async_trait]
impl Compute for Fleet {
    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance> {
        let (before, after) = self.fate();
        go_wrong("compute.launch", before)?;
        let (id, door) = match self.found(spec)? {
            Some(found) => found,
            None => self.make(spec).await?,
        };
        if self.with(|machines| machines.get(&id).is_some_and(|machine| machine.running && machine.key.is_empty())) {
            self.enrol(&id, spec, door).await?;
        }
        go_wrong("compute.launch", after)?;
        let made = self.with(|machines| machines.get(&id).map(|machine| instance(&id, machine)));
        made.ok_or_else(|| CloudError::Transient { call: "compute.launch", cause: "it was terminated".into() })
    }

    async fn describe(&self, id: &InstanceId) -> Result<Option<Instance>> {
        Ok(self.with(|machines| machines.get(id).map(|machine| instance(id, machine))))
    }

    async fn start(&self, _: &InstanceId) -> Result<()> {
        Ok(())
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        let (before, after) = self.fate();
        go_wrong("compute.terminate", before)?;
        self.with(|machines| {
            if let Some(machine) = machines.get_mut(id) {
                machine.running = false;
                machine.stacks.clear();
                machine.serving.abort();
            }
        });
        go_wrong("compute.terminate", after)
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        Ok(self.with(|machines| {
            machines.iter().filter(|(_, machine)| machine.running).map(|(id, machine)| instance(id, machine)).collect()
        }))
    }
}

fn instance(id: &InstanceId, machine: &Machine) -> Instance {
    Instance {
        id: id.clone(),
        state: if machine.running { InstanceState::Running } else { InstanceState::Terminated },
        instance_type: machine.spec.instance_type.clone(),
        tags: machine.spec.tags.clone(),
        front: Some(machine.door),
        control: Some(machine.door),
        launched_at: machine.launched_at,
    }
}

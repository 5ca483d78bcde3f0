//! One client's stack in containers: what is known of it, and how it is started, frozen, and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stackpro_domain::ClientId;
use stackpro_domain::recipe::Compose;
use stackpro_protocol::agent::StackSpec;
use tokio::sync::{MutexGuard, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::model::{self, Model, Place, USERS};
use super::socket::{EngineError, Result};
use super::{Container, Engine, Engines, names, setup};
use crate::volumes::Volumes;
use crate::{blocking, disk};

/// How long a stack whose containers run may take until it answers. The first start makes a database.
const HEALTHY: Duration = Duration::from_mins(3);
const GLANCE: Duration = Duration::from_millis(20);
/// The first of the machine's users who stand for those of stacks, far above its own, and how many stacks
/// can have users of their own.
const FIRST_USER: u32 = 0x1000_0000;
const STACKS: u32 = 20_000;

pub(crate) struct Project {
    pub volumes: Arc<Volumes>,
    client: ClientId,
    /// The stack's.
    folder: PathBuf,
    kept: Mutex<Kept>,
    /// Whoever changes what runs has these.
    hands: tokio::sync::Mutex<Hands>,
    seen: watch::Sender<Seen>,
    /// When it is to be looked at again, where that is later than every few seconds.
    again_at: Mutex<Option<Instant>>,
}

/// What is on the disk.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    /// The machine's user who stands for the stack's user 0.
    first_user: u32,
    /// The recipe's setup is done, or came with the data.
    set_up: bool,
    /// The engine was asked to make something: until then there is nothing to end.
    #[serde(default = "yes")]
    made: bool,
}

/// What an agent wrote that did not note it.
fn yes() -> bool {
    true
}

/// What only the one who changes things needs to know.
#[derive(Default)]
pub(crate) struct Hands {
    /// The last model that was made, and of what.
    model: Option<(Compose, Arc<Model>)>,
    /// A move has this stack now: it is as the move made it, and the keeper leaves it so.
    pub moving: bool,
}

/// How it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Where it answers.
    pub ready: Option<SocketAddr>,
    pub problem: Option<String>,
}

impl Project {
    /// Opens, or makes, what is known of a client's stack. Blocks.
    pub(crate) fn open(folder: &Path, client: &ClientId) -> io::Result<Self> {
        let file = folder.join("engine.json");
        let kept = if let Some(kept) = disk::read_json(&file)? {
            kept
        } else {
            // Two stacks with the same users are only less apart, and one in 20,000.
            let first_user = FIRST_USER + rand::random_range(0..STACKS) * USERS;
            let kept = Kept { first_user, set_up: false, made: false };
            disk::write_json(&file, &kept)?;
            kept
        };
        let volumes = Volumes::new(folder.join("volumes"), kept.first_user);
        Ok(Self {
            volumes: Arc::new(volumes),
            client: client.clone(),
            folder: folder.to_owned(),
            kept: Mutex::new(kept),
            hands: tokio::sync::Mutex::default(),
            seen: watch::Sender::default(),
            again_at: Mutex::new(None),
        })
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Where it answers, once it does, by then.
    pub(crate) async fn ready_by(&self, until: Instant) -> Option<SocketAddr> {
        let mut seen = self.seen.subscribe();
        let ready = timeout_at(until, seen.wait_for(|seen| seen.ready.is_some())).await;
        ready.ok()?.ok()?.ready
    }

    /// It does not answer there any more.
    pub(crate) fn lost(&self, address: SocketAddr) {
        self.seen.send_if_modified(|seen| seen.ready.take_if(|ready| *ready == address).is_some());
    }

    fn see(&self, ready: Option<SocketAddr>, problem: Option<String>) {
        self.seen.send_if_modified(|seen| {
            let next = Seen { ready, problem };
            let changed = *seen != next;
            *seen = next;
            changed
        });
    }

    /// Whether nobody is at it, and the time to try again has come.
    pub(crate) fn is_due(&self) -> bool {
        let again_at = *self.again_at.lock().unwrap_or_else(PoisonError::into_inner);
        again_at.is_none_or(|at| at <= Instant::now()) && self.try_hands().is_some()
    }

    /// Notes how an attempt to make it what it shall be ended.
    pub(crate) fn tried(&self, problem: Option<String>, again_in: Duration) {
        let again_at = problem.as_ref().map(|_| Instant::now() + again_in);
        *self.again_at.lock().unwrap_or_else(PoisonError::into_inner) = again_at;
        self.see(self.seen().ready.filter(|_| problem.is_none()), problem);
    }

    /// None while someone else is at it.
    pub(crate) fn try_hands(&self) -> Option<MutexGuard<'_, Hands>> {
        self.hands.try_lock().ok()
    }

    pub(crate) async fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().await
    }

    /// Sees to it that the stack runs as its spec says, and answers.
    pub(crate) async fn up(&self, engine: &Engine, hands: &mut Hands, spec: &StackSpec) -> Result<()> {
        let model = self.model(engine, hands, spec).await?;
        let mut found = engine.containers(Some(self.client.as_str())).await?;
        let paused: Vec<_> = found.iter().filter(|c| c.state == "paused").cloned().collect();
        engine.all("unpause", &paused).await?;
        let runs = |c: &Container| matches!(c.state.as_str(), "running" | "paused");
        if !is_whole(&found, &model, runs) {
            self.see(None, self.seen().problem);
            // Those who stay go on to find each other; where the others will be is not known yet.
            found.retain(|c| c.model == model.label && runs(c));
            self.tell_names(engine, &model.services, &found)?;
            self.compose(engine, &["up", "--detach", "--remove-orphans", "--no-build"]).await?;
            found = engine.containers(Some(self.client.as_str())).await?;
        }
        self.tell_names(engine, &model.services, &found)?;
        let address = address_of(&found, compose_of(spec)?)?;
        if self.seen().ready != Some(address) {
            self.become_ready(spec, address, HEALTHY).await?;
        }
        Ok(())
    }

    /// Makes everything but starts nothing, so that a start is short.
    pub(crate) async fn make(&self, engine: &Engine, hands: &mut Hands, spec: &StackSpec) -> Result<()> {
        let model = self.model(engine, hands, spec).await?;
        let found = engine.containers(Some(self.client.as_str())).await?;
        if is_whole(&found, &model, |c| c.state == "created") {
            return Ok(());
        }
        engine.remove(self.client.as_str(), false).await?;
        self.tell_names(engine, &model.services, &[])?;
        self.compose(engine, &["create", "--no-build"]).await
    }

    /// Starts what was made, and waits until it answers.
    pub(crate) async fn start(&self, engine: &Engine, spec: &StackSpec, longest: Duration) -> Result<()> {
        self.change(|kept| kept.set_up = true)?;
        let found = engine.containers(Some(self.client.as_str())).await?;
        engine.all("start", &found).await?;
        let found = engine.containers(Some(self.client.as_str())).await?;
        self.tell_names(engine, found.iter().map(|c| &c.service), &found)?;
        self.become_ready(spec, address_of(&found, compose_of(spec)?)?, longest).await
    }

    /// No program of the stack runs on from here, until [`Project::up`].
    pub(crate) async fn rest(&self, engine: &Engine, freeze: bool) -> Result<()> {
        self.see(None, None);
        let found = engine.containers(Some(self.client.as_str())).await?;
        let running: Vec<_> = found.into_iter().filter(|c| c.state == "running").collect();
        let what = if freeze { "pause".to_owned() } else { format!("stop?t={}", super::GRACE_SECONDS) };
        engine.all(&what, &running).await
    }

    /// Ends it and removes what it has at the engine. Needs none where none was ever asked, or a stack that could
    /// not be made could not be removed either.
    pub(crate) async fn down(&self, engines: &Engines, gently: bool) -> Result<()> {
        self.see(None, None);
        if !self.kept().made {
            return Ok(());
        }
        engines.get().await?.remove(self.client.as_str(), gently).await
    }

    async fn become_ready(&self, spec: &StackSpec, address: SocketAddr, longest: Duration) -> Result<()> {
        let compose = compose_of(spec)?;
        let host = spec.hosts.first().map(String::as_str).unwrap_or_default();
        let visitor = setup::Visitor { address, host };
        let until = Instant::now() + longest;
        loop {
            let last = match visitor.get(&compose.health).await {
                Ok(status) if status < 500 => break,
                Ok(status) => format!("{} answers {status}", compose.health),
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(EngineError::NotHealthy(last));
            }
            sleep(GLANCE).await;
        }
        if !self.kept().set_up {
            if let Some(setup) = &compose.setup {
                visitor.set_up(setup).await.map_err(EngineError::Setup)?;
            }
            self.change(|kept| kept.set_up = true)?;
        }
        self.see(Some(address), None);
        Ok(())
    }

    /// What is run, made anew when the spec has changed.
    async fn model(&self, engine: &Engine, hands: &mut Hands, spec: &StackSpec) -> Result<Arc<Model>> {
        let compose = compose_of(spec)?;
        if let Some((of, model)) = &hands.model
            && of == compose
        {
            return Ok(Arc::clone(model));
        }
        let files = self.folder.join("recipe");
        Self::write_files(&files, compose)?;
        let args = ["config", "--format", "json"];
        let config = engine.compose(&self.name(engine), &files.join("compose.yaml"), &args, &compose.variables).await?;
        let config: Value = serde_json::from_slice(&config).map_err(|error| EngineError::Recipe(error.to_string()))?;
        let (kept, hosts) = (self.kept(), self.hosts());
        let place = Place {
            agent: &engine.agent,
            client: self.client.as_str(),
            files: &files,
            hosts: engine.has_users().then_some(&hosts),
            volumes: self.volumes.root(),
            sizes: &compose.sizes,
            first_user: engine.has_users().then_some(kept.first_user),
            isolate: engine.has_users(),
        };
        let model = model::prepare(config, &place).map_err(EngineError::Recipe)?;
        disk::write_json(&self.file(), &model.json)?;
        let owner = place.first_user.unwrap_or(0);
        let folders: Vec<_> = model.volumes.iter().map(|name| place.volumes.join(name)).collect();
        blocking(move || folders.iter().try_for_each(|folder| make_volume(folder, owner))).await??;
        self.volumes.set_first_user(owner);
        let model = Arc::new(model);
        hands.model = Some((compose.clone(), Arc::clone(&model)));
        Ok(model)
    }

    /// The recipe's files, as they are, for containers to read.
    fn write_files(folder: &Path, compose: &Compose) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for (name, text) in &compose.files {
            let path = folder.join(name);
            if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
                continue;
            }
            // In place: a container that runs may have mounted this very file.
            fs::write(&path, text)?;
        }
        Ok(())
    }

    /// Lets the programs of these services find each other where these containers are.
    fn tell_names<'a>(
        &self,
        engine: &Engine,
        services: impl IntoIterator<Item = &'a String>,
        found: &[Container],
    ) -> io::Result<()> {
        if engine.has_users() { names::write(&self.hosts(), services, found) } else { Ok(()) }
    }

    async fn compose(&self, engine: &Engine, args: &[&'static str]) -> Result<()> {
        self.change(|kept| kept.made = true)?;
        // The model has no variables any more.
        engine.compose(&self.name(engine), &self.file(), args, &BTreeMap::new()).await.map(drop)
    }

    fn file(&self) -> PathBuf {
        self.folder.join("compose.json")
    }

    fn hosts(&self) -> PathBuf {
        self.folder.join("hosts")
    }

    /// What Compose calls it.
    fn name(&self, engine: &Engine) -> String {
        format!("sp-{}-{}", self.client, engine.agent)
    }

    fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = kept.clone();
        change(&mut next);
        disk::write_json(&self.folder.join("engine.json"), &next)?;
        *kept = next;
        Ok(())
    }
}

/// Whether these are the containers of this model, each in such a state.
fn is_whole(found: &[Container], model: &Model, is_so: impl Fn(&Container) -> bool) -> bool {
    let as_it_shall_be = |c: &&Container| c.model == model.label && is_so(c);
    let services: BTreeSet<&String> = found.iter().filter(as_it_shall_be).map(|c| &c.service).collect();
    services.into_iter().eq(&model.services) && found.len() == model.services.len()
}

fn compose_of(spec: &StackSpec) -> Result<&Compose> {
    spec.compose.as_ref().ok_or_else(|| EngineError::Recipe("there is nothing to run".into()))
}

/// Where the front door finds it.
fn address_of(found: &[Container], compose: &Compose) -> Result<SocketAddr> {
    let front = found.iter().find(|c| c.service == compose.service);
    let address = front.and_then(|c| c.networks.first()).map(|at| (at.address, compose.port).into());
    address.ok_or_else(|| EngineError::NotHealthy(format!("{} has no address: it ended", compose.service)))
}

/// A volume's folder, for the stack's user 0 to do with as it likes.
fn make_volume(folder: &Path, owner: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    chown(folder, Some(owner), Some(owner))
}

//! What the agent is and has: its own facts, its key, and the stacks by client and by host.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use stackpro_domain::{ClientId, Clock, names};
use stackpro_protocol::agent::{AgentFile, RESERVED_DOMAIN, StackSpec};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::disk;
use crate::engine::Engines;
use crate::identity::Identity;
use crate::orders::Pages;
use crate::stack::Stack;

pub(crate) struct Agent {
    pub dir: PathBuf,
    pub version: String,
    pub clock: Arc<dyn Clock>,
    /// As it was read at the start: the doors do not move while it runs.
    pub file: AgentFile,
    /// None where the doors are without TLS.
    pub identity: Option<Identity>,
    pub certificates: Certificates,
    pub pages: Pages,
    /// There may be a certificate to order.
    pub ordering: Notify,
    key: OnceLock<String>,
    stacks: RwLock<Stacks>,
    /// One change of a client's stack at a time.
    locks: std::sync::Mutex<HashMap<ClientId, Arc<Mutex<()>>>>,
    /// Something changed that the control plane should hear of at once.
    pub changed: Notify,
    pub stop: CancellationToken,
    pub http: reqwest::Client,
    pub engines: Engines,
    /// A stack in containers may not be as it shall be.
    pub unsettled: Notify,
}

#[derive(Default)]
struct Stacks {
    by_client: HashMap<ClientId, Arc<Stack>>,
    by_host: HashMap<String, Arc<Stack>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("this agent knows no recipe of that name, and was not told what to run for it")]
    UnknownRecipe,
    #[error("this stack was made from the recipe {0:?}, and its data belongs to that")]
    OtherRecipe(String),
    #[error("a file of the recipe has no plain name")]
    BadFiles,
    #[error("a host name is not valid, or there are too many")]
    BadHosts,
    #[error("a text of the spec is too long")]
    TooLong,
    #[error("host {0} leads to another client's stack here")]
    HostTaken(String),
    #[error("the disk refused: {0}")]
    Disk(#[from] io::Error),
}

impl Agent {
    /// Opens what is on the disk. Blocks.
    pub(crate) fn open(
        dir: &Path,
        file: AgentFile,
        options: crate::Options,
        http: reqwest::Client,
    ) -> io::Result<Arc<Self>> {
        let identity = if file.public.is_some() { Some(Identity::open(dir)?) } else { None };
        let agent = Self {
            identity,
            engines: Engines::new(options.engine, file.instance_id.to_string()),
            unsettled: Notify::new(),
            certificates: Certificates::open(dir)?,
            pages: Pages::default(),
            ordering: Notify::new(),
            dir: dir.to_owned(),
            version: options.version,
            clock: options.clock,
            file,
            key: OnceLock::new(),
            stacks: RwLock::default(),
            locks: std::sync::Mutex::default(),
            changed: Notify::new(),
            stop: CancellationToken::new(),
            http,
        };
        match fs::read_to_string(dir.join("agent.key")) {
            Ok(key) => _ = agent.key.set(key),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::create_dir_all(agent.stacks_folder())?;
        for found in fs::read_dir(agent.stacks_folder())? {
            let folder = found?.path();
            if is_removed(&folder) {
                fs::remove_dir_all(&folder)?;
            } else if let Some(stack) = Stack::open(folder)? {
                agent.insert(&stack);
            }
        }
        Ok(Arc::new(agent))
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.key.get().map(String::as_str)
    }

    /// Keeps the key of an enrolment, durably. Blocks.
    pub(crate) fn enrolled(&self, key: String) -> io::Result<()> {
        disk::write_durable(&self.dir.join("agent.key"), key.as_bytes())?;
        let _ = self.key.set(key);
        Ok(())
    }

    pub(crate) fn stack(&self, client: &ClientId) -> Option<Arc<Stack>> {
        self.read().by_client.get(client).cloned()
    }

    pub(crate) fn stack_by_host(&self, host: &str) -> Option<Arc<Stack>> {
        self.read().by_host.get(host).cloned()
    }

    pub(crate) fn stacks(&self) -> Vec<Arc<Stack>> {
        self.read().by_client.values().cloned().collect()
    }

    /// Waits until nothing else changes this client's stack.
    pub(crate) async fn lock(&self, client: &ClientId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(client.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Makes a stack as its spec says, for a caller that holds [`Agent::lock`]. Blocks.
    pub(crate) fn put_stack(&self, spec: StackSpec) -> Result<Arc<Stack>, SpecError> {
        check(&spec)?;
        if let Some(host) = self.taken_host(&spec) {
            return Err(SpecError::HostTaken(host));
        }
        let stack = if let Some(stack) = self.stack(&spec.client_id) {
            if stack.spec().recipe != spec.recipe {
                return Err(SpecError::OtherRecipe(stack.spec().recipe.clone()));
            }
            stack.set_spec(spec)?;
            stack
        } else {
            Stack::create(&self.stacks_folder(), spec)?
        };
        self.insert(&stack);
        self.changed.notify_one();
        self.unsettled.notify_one();
        self.ordering.notify_one();
        Ok(stack)
    }

    /// Removes a stack and its data, for a caller that holds [`Agent::lock`] and has ended what runs. Blocks. Nothing happens when
    /// there is none.
    pub(crate) fn remove_stack(&self, client: &ClientId) -> io::Result<()> {
        let Some(stack) = self.stack(client) else { return Ok(()) };
        stack.incoming.cancel();
        let gone = self.stacks_folder().join(disk::unique(REMOVED));
        fs::rename(&stack.folder, &gone)?;
        disk::sync_folder(&self.stacks_folder())?;
        {
            let mut stacks = self.write();
            stacks.by_client.remove(client);
            stacks.by_host.retain(|_, other| other.client() != *client);
        }
        stack.gone.cancel();
        self.changed.notify_one();
        fs::remove_dir_all(gone)
    }

    fn insert(&self, stack: &Arc<Stack>) {
        let spec = stack.spec();
        let mut stacks = self.write();
        stacks.by_host.retain(|_, other| other.client() != spec.client_id);
        for host in &spec.hosts {
            stacks.by_host.insert(host.clone(), Arc::clone(stack));
        }
        stacks.by_client.insert(spec.client_id.clone(), Arc::clone(stack));
    }

    fn taken_host(&self, spec: &StackSpec) -> Option<String> {
        let stacks = self.read();
        let taken = |host: &&String| stacks.by_host.get(*host).is_some_and(|other| other.client() != spec.client_id);
        spec.hosts.iter().find(taken).cloned()
    }

    fn stacks_folder(&self) -> PathBuf {
        self.dir.join("stacks")
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Stacks> {
        self.stacks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Stacks> {
        self.stacks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No client id: it has a dot.
const REMOVED: &str = ".removed";

fn is_removed(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(REMOVED))
}

/// Whether a name is one of those by which agents are reached, or could be taken for one.
fn is_reserved(host: &str) -> bool {
    host.strip_suffix(RESERVED_DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn check(spec: &StackSpec) -> Result<(), SpecError> {
    if (spec.recipe == "site") == spec.compose.is_some() {
        return Err(SpecError::UnknownRecipe);
    }
    let is_plain =
        |name: &String| !name.starts_with('.') && !name.contains(['/', '\0']) && (1..=100).contains(&name.len());
    if !spec.compose.iter().flat_map(|compose| compose.files.keys()).all(is_plain) {
        return Err(SpecError::BadFiles);
    }
    let is_host = |host: &String| names::host(host).as_ref() == Some(host) && !is_reserved(host);
    if spec.hosts.len() > 50 || !spec.hosts.iter().all(is_host) {
        return Err(SpecError::BadHosts);
    }
    let notice = spec.notice.as_deref().unwrap_or_default();
    let texts = [spec.company.as_str(), notice, &spec.dashboard_url, &spec.portal_key, &spec.portal_password_sha256];
    if texts.iter().any(|text| text.len() > 2_000) {
        return Err(SpecError::TooLong);
    }
    Ok(())
}

//! The agent: runs stacks on an instance. Front door, the built-in `site` recipe, recipes in containers, usage,
//! limits, and copies between instances.
//!
//! It does what the control plane tells it through the control door (the contract is in
//! [`stackpro_protocol::agent`]), keeps everything it needs on its own disk, and serves on without the
//! control plane, also after kill -9 at any moment. It never decides about a client's life: which stacks
//! there are, and whether one moves, is said to it. It trusts neither visitors nor what clients upload.
//!
//! Start reading at [`run`]; then `front` (how a request finds its stack), `site` and `engine` (what answers
//! it), `tree` and `volumes` (a stack's data and its changes), `moves` (how a stack goes to another instance).

mod agent;
mod certificates;
mod control;
mod disk;
mod engine;
mod enrol;
mod front;
mod gate;
mod identity;
mod limiter;
mod meter;
mod moves;
mod orders;
mod path;
pub mod proxy;
mod public;
mod secret;
mod sessions;
mod site;
mod stack;
mod tree;
mod volumes;

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use stackpro_domain::{Clock, Time};
use stackpro_protocol::agent::{AgentFile, AgentPid};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
pub use crate::engine::EngineOptions;

/// How long an address that is in use is tried again: a killed predecessor's sockets go away by themselves.
const BIND_PATIENCE: Duration = Duration::from_secs(10);
/// How long requests that run may take to end when the agent is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What the caller decides.
pub struct Options {
    /// Told to the control plane.
    pub version: String,
    /// The world's time: portal sessions and links end by it. Not the business's, which may be moved.
    pub clock: Arc<dyn Clock>,
    /// Where the engine for stacks in containers is.
    pub engine: EngineOptions,
}

impl Default for Options {
    /// This crate's version and the machine's clock.
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION").into();
        Self { version, clock: Arc::new(MachineClock), engine: EngineOptions::default() }
    }
}

struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_millisecond())
    }
}

/// Why the agent could not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("another agent runs on {0}")]
    Locked(PathBuf),
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("there is no {0}, which says what this agent is")]
    NoAgentFile(PathBuf),
    #[error("cannot listen on {address}: {cause}")]
    Listen { address: SocketAddr, cause: io::Error },
    #[error("no client for HTTP: {0}")]
    Http(#[from] reqwest::Error),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Runs the agent that lives in `dir` until it is told to stop (`POST /v1/stop`).
///
/// `dir/agent.json` says what it is. A second agent on the same folder ends with [`AgentError::Locked`].
/// The process must have installed a default rustls crypto provider before.
pub async fn run(dir: &Path, options: Options) -> Result<(), AgentError> {
    let (_lock, file) = claim(dir, &options)?;
    let doors = Doors::open(&file).await?;
    let http = http().build()?;
    let folder = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Agent::open(&folder, file, options, http)).await;
    let agent = opened
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(|cause| AgentError::File { path: dir.to_owned(), cause })?;
    tracing::info!(instance = %agent.file.instance_id, front = %agent.file.front, "agent runs");
    moves::destination::resume_all(&agent);
    let reporting = tokio::spawn(enrol::run(Arc::clone(&agent)));
    let keeping = tokio::spawn(engine::keeper::run(Arc::clone(&agent)));
    let ordering = agent.identity.is_some().then(|| tokio::spawn(orders::run(Arc::clone(&agent))));
    let stopped = async {
        agent.stop.cancelled().await;
        sleep(STOP_PATIENCE).await;
    };
    tokio::select! {
        served = doors.serve(&agent) => served?,
        () = stopped => {}
    }
    reporting.abort();
    keeping.abort();
    ordering.inspect(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(dir.join("agent.pid"));
    Ok(())
}

/// What every client for HTTP begins with.
fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().connect_timeout(Duration::from_secs(3)).no_proxy()
}

/// Takes the folder for this process, and reads what it is to be.
fn claim(dir: &Path, options: &Options) -> Result<(File, AgentFile), AgentError> {
    let failed = |name: &str| {
        let path = dir.join(name);
        move |cause: io::Error| AgentError::File { path, cause }
    };
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("agent.lock"));
    let lock = lock.map_err(failed("agent.lock"))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| AgentError::Locked(dir.to_owned()))?;
    let path = dir.join("agent.json");
    let file = disk::read_json(&path).map_err(failed("agent.json"))?.ok_or(AgentError::NoAgentFile(path))?;
    let pid = AgentPid { pid: std::process::id(), started_at: options.clock.now() };
    disk::write_json(&dir.join("agent.pid"), &pid).map_err(failed("agent.pid"))?;
    Ok((lock, file))
}

/// Where requests come in.
enum Doors {
    /// On loopback, each by a listener of its own.
    Local {
        front: TcpListener,
        control: TcpListener,
    },
    Public {
        http: TcpListener,
        https: TcpListener,
    },
}

impl Doors {
    async fn open(file: &AgentFile) -> Result<Self, AgentError> {
        Ok(match &file.public {
            None => Self::Local { front: listen(file.front).await?, control: listen(file.control).await? },
            Some(public) => Self::Public { http: listen(public.http).await?, https: listen(public.https).await? },
        })
    }

    /// Until the agent stops.
    async fn serve(self, agent: &Arc<Agent>) -> Result<(), AgentError> {
        match self {
            Self::Local { front, control } => {
                tokio::join!(front::serve(agent, front), control::serve(agent, control));
            }
            Self::Public { http, https } => {
                let tls = public::tls(agent)?;
                tokio::join!(public::serve_http(agent, http), public::serve_https(agent, https, tls));
            }
        }
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, AgentError> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(cause) => return Err(AgentError::Listen { address, cause }),
        }
    }
}

/// Runs what blocks on the disk where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

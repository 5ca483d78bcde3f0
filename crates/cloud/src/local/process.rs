//! An agent's process: start it, see whether it runs, end it. The caller holds the instance's lock.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use stackpro_domain::InstanceId;

use super::files;

/// An agent takes its lock within this, or its start counts as failed (it may still come up).
const START_WITHIN: Duration = Duration::from_secs(10);
/// From being asked to end until it is killed, and from that until it is given up.
const END_WITHIN: Duration = Duration::from_secs(5);
const LOG_LIMIT_BYTES: u64 = 1024 * 1024;
/// Inherited by agents. Nothing else is: the control plane's environment holds secrets.
const ENVIRONMENT: [&str; 5] = ["PATH", "HOME", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"];

/// `agent.json`, from which an agent learns what it is. As in the agents' protocol, which a cloud must not
/// depend on; the tests' agent reads it by the protocol's own type.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentFile {
    pub(super) instance_id: InstanceId,
    pub(super) server_url: String,
    pub(super) enrol_token: String,
    pub(super) front: SocketAddr,
    pub(super) control: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) public: Option<PublicDoors>,
    pub(super) report_seconds: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct PublicDoors {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
}

/// Of `agent.pid`, which the agent writes once it holds its lock, what matters here.
#[derive(Deserialize)]
struct AgentPid {
    pid: u32,
}

/// What runs as an agent.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) environment: Vec<(String, String)>,
}

impl Program {
    /// Returns once the agent holds its lock. Nothing happens when it does already.
    pub(super) fn ensure_runs(&self, folder: &Path) -> io::Result<()> {
        if runs(folder)? {
            return Ok(());
        }
        // So that a pid that appears is the new one's.
        files::remove(&folder.join("agent.pid"))?;
        let (pid, ended) = self.spawn(folder)?;
        let begun = Instant::now();
        // `agent.lock` must not be tried meanwhile: the agent would find it held, and end.
        while pid_of(folder)? != Some(pid) {
            if let Some(status) = ended.get() {
                // Another process's agent may have been quicker; its starter died before it came up.
                return if runs(folder)? { Ok(()) } else { Err(ended_at_once(*status, folder)) };
            }
            if begun.elapsed() > START_WITHIN {
                return Err(io::Error::new(ErrorKind::TimedOut, "the agent did not come up in time"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// A process group of its own keeps it alive when the server's terminal is interrupted or closed.
    fn spawn(&self, folder: &Path) -> io::Result<(u32, Arc<OnceLock<ExitStatus>>)> {
        let log = open_log(folder)?;
        let inherited = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(&self.path)
            .arg("agent")
            .arg("--dir")
            .arg(folder)
            .current_dir(folder)
            .env_clear()
            .envs(inherited)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))?;
        let pid = child.id();
        let ended = Arc::new(OnceLock::new());
        let tell = ended.clone();
        // Waits for the child, so that it never stays as a zombie.
        let reap = move || child.wait().map(|status| tell.set(status));
        std::thread::Builder::new().name(format!("reap-{pid}")).stack_size(64 * 1024).spawn(reap)?;
        Ok((pid, ended))
    }
}

/// Whether the agent holds its lock. Must not be asked while the agent may be starting.
pub(super) fn runs(folder: &Path) -> io::Result<bool> {
    let Some(lock) = files::none_if_missing(File::open(folder.join("agent.lock")))? else { return Ok(false) };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Asks the agent's process group to end, and kills it when it does not. Nothing happens when none runs.
pub(super) fn end(folder: &Path) -> io::Result<()> {
    if ended_by(Signal::TERM, folder)? || ended_by(Signal::KILL, folder)? { Ok(()) } else { Err(immortal()) }
}

/// Kills the agent's process group unasked, and returns once it is dead. Whether one ran.
pub(super) fn kill(folder: &Path) -> io::Result<bool> {
    if !runs(folder)? {
        return Ok(false);
    }
    if ended_by(Signal::KILL, folder)? { Ok(true) } else { Err(immortal()) }
}

/// Sends a signal, once, to the agent that runs, and waits until none does. Whether that came in time.
fn ended_by(signal: Signal, folder: &Path) -> io::Result<bool> {
    let begun = Instant::now();
    let mut told = false;
    while begun.elapsed() < END_WITHIN {
        if !runs(folder)? {
            return Ok(true);
        }
        // It may have taken its lock and not yet written its pid.
        if !told && let Some(pid) = pid_of(folder)?.and_then(group) {
            // It may have ended by itself meanwhile.
            told = kill_process_group(pid, signal).is_ok();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

fn immortal() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the agent's process does not end")
}

fn group(pid: u32) -> Option<Pid> {
    // Group 0 would be our own, and 1 everyone.
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

/// None too when the file is being written or holds something else.
fn pid_of(folder: &Path) -> io::Result<Option<u32>> {
    let Some(bytes) = files::none_if_missing(fs::read(folder.join("agent.pid")))? else { return Ok(None) };
    Ok(serde_json::from_slice::<AgentPid>(&bytes).ok().map(|file| file.pid))
}

fn open_log(folder: &Path) -> io::Result<File> {
    let path = folder.join("agent.log");
    let length = files::none_if_missing(fs::metadata(&path))?.map_or(0, |metadata| metadata.len());
    if length > LOG_LIMIT_BYTES {
        fs::rename(&path, folder.join("agent.log.1"))?;
    }
    File::options().create(true).append(true).open(path)
}

fn ended_at_once(status: ExitStatus, folder: &Path) -> io::Error {
    let last = last_line(&folder.join("agent.log")).unwrap_or_default();
    io::Error::other(format!("the agent ended at once ({status}): {last}"))
}

fn last_line(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(500)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned())
}

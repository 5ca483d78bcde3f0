//! Instances: each a folder and a process of its own (`PROGRAM agent --dir FOLDER`), which outlives the
//! process that started it.
//!
//! | state on disk | meaning |
//! |---|---|
//! | `instances/<id>/instance.json` | it exists; written before anyone can see the folder |
//! | `instances/<id>/agent.lock` held | its agent runs: the agent itself holds it, so that no death can leave it wrong |
//! | `terminated/<id>.json` | it is, or is being, terminated; its token stays used, as on EC2 |
//! | `locks/<id>` held | someone starts or ends its process (exclusively), or looks at it (shared) |
//!
//! A process id is believed only while `agent.lock` is held.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stackpro_domain::{Clock, InstanceId, Time};

use super::clock::LocalClock;
use super::faults::{Failure, Faults, refuse};
use super::process::{self, AgentFile, Program, PublicDoors};
use super::roles::RoleFiles;
use super::{TlsPorts, files, hex, ports};
use crate::{Compute, Instance, InstanceState, LaunchSpec, Result, Tags};

/// `instance.json`
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstanceFile {
    /// Of all that was asked for, so that the same token with another wish is recognised.
    fingerprint: String,
    instance_type: String,
    tags: Tags,
    launched_at: Time,
}

/// What all calls share.
pub(super) struct Fleet {
    pub(super) instances: PathBuf,
    pub(super) terminated: PathBuf,
    pub(super) locks: PathBuf,
    pub(super) roles: RoleFiles,
    pub(super) program: Program,
    pub(super) report_seconds: u64,
    pub(super) tls: Option<TlsPorts>,
    pub(super) server_url: RwLock<String>,
    pub(super) clock: Arc<LocalClock>,
}

pub(super) struct LocalCompute {
    pub(super) fleet: Arc<Fleet>,
    pub(super) faults: Arc<Faults>,
}

#[async_trait]
impl Compute for LocalCompute {
    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance> {
        let (fleet, spec) = (self.fleet.clone(), spec.clone());
        self.faults.around("compute.launch", move || fleet.launch(&spec)).await
    }

    async fn describe(&self, id: &InstanceId) -> Result<Option<Instance>> {
        let (fleet, id) = (self.fleet.clone(), id.clone());
        self.faults.around("compute.describe", move || Ok(fleet.describe(&id)?)).await
    }

    async fn start(&self, id: &InstanceId) -> Result<()> {
        let (fleet, id) = (self.fleet.clone(), id.clone());
        self.faults.around("compute.start", move || fleet.start(&id)).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        let (fleet, id) = (self.fleet.clone(), id.clone());
        self.faults.around("compute.terminate", move || Ok(fleet.terminate(&id)?)).await
    }

    async fn list(&self) -> Result<Vec<Instance>> {
        let fleet = self.fleet.clone();
        self.faults.around("compute.list", move || Ok(fleet.list()?)).await
    }
}

impl Fleet {
    fn launch(&self, spec: &LaunchSpec) -> Result<Instance, Failure> {
        let id = id_of_token(&spec.token)?;
        let _busy = self.lock(&id)?;
        let wanted = InstanceFile {
            fingerprint: fingerprint(spec)?,
            instance_type: spec.instance_type.clone(),
            tags: spec.tags.clone(),
            launched_at: self.clock.now(),
        };
        let gone = files::read::<InstanceFile>(&self.tombstone(&id))?;
        let found = match gone {
            Some(_) => gone.clone(),
            None => files::read(&self.folder(&id).join("instance.json"))?,
        };
        if found.as_ref().is_some_and(|found| found.fingerprint != wanted.fingerprint) {
            let message = "the client token was used before with other parameters";
            return refuse("IdempotentParameterMismatch", message);
        }
        if gone.is_some() {
            return refuse("IdempotentInstanceTerminated", "the client token is of an instance that is terminated");
        }
        if found.is_none() {
            // EC2's words for a role that is not there, or not known yet: it may pass.
            if !self.roles.exists(&spec.role) {
                let what = format!("Value ({}) for parameter iamInstanceProfile.name is invalid", spec.role);
                return Err(io::Error::other(format!("InvalidParameterValue: {what}")).into());
            }
            self.make_folder(&id, &wanted, spec)?;
        }
        self.program.ensure_runs(&self.folder(&id))?;
        let agent = self.agent_file(&id)?;
        Ok(instance(id, InstanceState::Running, found.unwrap_or(wanted), agent))
    }

    fn make_folder(&self, id: &InstanceId, file: &InstanceFile, spec: &LaunchSpec) -> io::Result<()> {
        let _choosing = exclusive(self.locks.join("ports"))?;
        let (front, control, public) = self.doors()?;
        let agent = AgentFile {
            instance_id: id.clone(),
            server_url: self.server_url(),
            enrol_token: spec.enrol_token.clone(),
            front,
            control,
            public,
            report_seconds: self.report_seconds,
        };
        files::create_folder(&self.folder(id), |new| {
            files::write(&new.join("agent.json"), &agent)?;
            files::write(&new.join("instance.json"), file)
        })?;
        Ok(())
    }

    /// Where a new instance's front and control doors are reached, and its sockets when it has public ones.
    fn doors(&self) -> io::Result<(SocketAddr, SocketAddr, Option<PublicDoors>)> {
        let taken = self.taken_doors()?;
        let Some(tls) = self.tls else {
            let taken: Vec<u16> = taken.iter().map(SocketAddr::port).collect();
            let [front, control] = ports::choose(&taken)?;
            return Ok((front, control, None));
        };
        let [http, https] = ports::choose_address(&taken, [tls.http, tls.https])?;
        Ok((https, https, Some(PublicDoors { http, https })))
    }

    /// What instances keep, also while they are stopped.
    fn taken_doors(&self) -> io::Result<Vec<SocketAddr>> {
        let mut doors = Vec::new();
        for id in self.ids()? {
            if let Some(agent) = self.agent_file(&id)? {
                doors.extend([agent.front, agent.control]);
            }
        }
        Ok(doors)
    }

    fn describe(&self, id: &InstanceId) -> io::Result<Option<Instance>> {
        if let Some(gone) = files::read(&self.tombstone(id))? {
            return Ok(Some(instance(id.clone(), InstanceState::Terminated, gone, None)));
        }
        let Some(file) = files::read(&self.folder(id).join("instance.json"))? else { return Ok(None) };
        let agent = self.agent_file(id)?;
        Ok(Some(instance(id.clone(), self.state(id)?, file, agent)))
    }

    /// Whoever holds the lock exclusively is starting or ending the process; meanwhile nobody may touch
    /// `agent.lock`, or the agent could take the look for another agent.
    fn state(&self, id: &InstanceId) -> io::Result<InstanceState> {
        let lock = files::lock_file(&self.locks.join(id.as_str()))?;
        match lock.try_lock_shared() {
            Err(fs::TryLockError::WouldBlock) => return Ok(InstanceState::Pending),
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        let runs = process::runs(&self.folder(id))?;
        Ok(if runs { InstanceState::Running } else { InstanceState::Stopped })
    }

    fn start(&self, id: &InstanceId) -> Result<(), Failure> {
        let _busy = self.lock(id)?;
        if self.tombstone(id).exists() {
            return refuse("IncorrectInstanceState", format!("instance '{id}' is terminated"));
        }
        if !self.folder(id).exists() {
            return refuse("InvalidInstanceID.NotFound", format!("the instance ID '{id}' does not exist"));
        }
        Ok(self.program.ensure_runs(&self.folder(id))?)
    }

    /// The tombstone first: from then on nobody starts it, and whoever finds it can finish the rest.
    pub(super) fn terminate(&self, id: &InstanceId) -> io::Result<()> {
        let _busy = self.lock(id)?;
        let folder = self.folder(id);
        let Some(file) = files::read::<InstanceFile>(&folder.join("instance.json"))? else { return Ok(()) };
        files::create(&self.tombstone(id), &file)?;
        process::end(&folder)?;
        files::remove_folder(&folder)
    }

    /// Ends the process and keeps everything else.
    pub(super) fn stop(&self, id: &InstanceId) -> io::Result<()> {
        let _busy = self.lock(id)?;
        process::end(&self.folder(id))
    }

    /// Ends the process as kill -9 does. Whether one ran.
    pub(super) fn kill(&self, id: &InstanceId) -> io::Result<bool> {
        let _busy = self.lock(id)?;
        process::kill(&self.folder(id))
    }

    pub(super) fn list(&self) -> io::Result<Vec<Instance>> {
        let mut instances = Vec::new();
        for id in self.ids()? {
            instances.extend(self.describe(&id)?.filter(|found| found.state != InstanceState::Terminated));
        }
        Ok(instances)
    }

    /// Makes one instance as it should be after a restart of the server: one that is half terminated goes,
    /// one that is stopped starts, and each knows where the server is.
    pub(super) fn recover(&self, id: &InstanceId) -> Result<(), Failure> {
        if self.tombstone(id).exists() {
            return Ok(self.terminate(id)?);
        }
        if let Some(mut agent) = self.agent_file(id)?
            && agent.server_url != self.server_url()
        {
            agent.server_url = self.server_url();
            files::write(&self.folder(id).join("agent.json"), &agent)?;
        }
        self.start(id)
    }

    /// Every instance that has a folder, also those that are being terminated.
    pub(super) fn ids(&self) -> io::Result<Vec<InstanceId>> {
        Ok(files::names(&self.instances)?.into_iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn agent_file(&self, id: &InstanceId) -> io::Result<Option<AgentFile>> {
        files::read(&self.folder(id).join("agent.json"))
    }

    pub(super) fn server_url(&self) -> String {
        self.server_url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn folder(&self, id: &InstanceId) -> PathBuf {
        self.instances.join(id.as_str())
    }

    pub(super) fn tombstone(&self, id: &InstanceId) -> PathBuf {
        self.terminated.join(format!("{id}.json"))
    }

    /// Waits until nobody else changes this instance. Whoever does, does it within bounds.
    fn lock(&self, id: &InstanceId) -> io::Result<fs::File> {
        exclusive(self.locks.join(id.as_str()))
    }
}

fn exclusive(path: PathBuf) -> io::Result<fs::File> {
    let file = files::lock_file(&path)?;
    file.lock()?;
    Ok(file)
}

fn instance(id: InstanceId, state: InstanceState, file: InstanceFile, agent: Option<AgentFile>) -> Instance {
    let doors: Option<(SocketAddr, SocketAddr)> = agent.map(|agent| (agent.front, agent.control));
    let (front, control) = doors.unzip();
    let InstanceFile { instance_type, tags, launched_at, .. } = file;
    Instance { id, state, instance_type, tags, front, control, launched_at }
}

/// `i-` and 17 hex digits, like EC2's, and the same for the same token.
fn id_of_token(token: &str) -> Result<InstanceId, Failure> {
    // EC2's rule for a ClientToken.
    if token.is_empty() || token.len() > 64 || !token.is_ascii() {
        return refuse("InvalidParameterValue", "a client token has 1 to 64 ASCII characters");
    }
    let digest = hex(&Sha256::digest(token));
    format!("i-{}", &digest[..17]).parse().or_else(|error| refuse("InvalidParameterValue", error))
}

fn fingerprint(spec: &LaunchSpec) -> io::Result<String> {
    Ok(hex(&Sha256::digest(serde_json::to_vec(spec)?)))
}

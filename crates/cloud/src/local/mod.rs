//! The local cloud: instances are processes, buckets folders, DNS a server on loopback, and mail lands in
//! a mailbox.
//!
//! All of its state is files below one folder, which several processes may share; a kill -9 at any instant
//! leaves nothing that the next call does not put right. It never touches anything outside that folder, nor
//! listens beyond loopback. Start at [`LocalCloud::open`].

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use futures::StreamExt;
use futures::stream;
use serde::{Deserialize, Serialize};
use stackpro_domain::InstanceId;
use tokio_util::sync::CancellationToken;

use crate::{Cloud, CloudError};

mod buckets;
mod check;
mod clock;
mod dns;
mod faults;
mod files;
mod instances;
mod mail;
mod mail_events;
mod nameserver;
mod ports;
mod process;
mod roles;
mod storage;
pub mod stripe;

pub use clock::LocalClock;
pub use faults::{Fault, FaultSettings, Faults};
pub use mail::{Delivered, MailPage, Mailbox};
pub use nameserver::NameServer;

use instances::Fleet;

/// Instances that are started or ended side by side; each takes a thread meanwhile.
const AT_ONCE: usize = 16;

/// How the local cloud shall be.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// Holds all its state; made when missing.
    pub folder: PathBuf,
    /// Run as `PROGRAM agent --dir FOLDER` for each instance.
    pub program: PathBuf,
    /// More for the environment of agents, which else is nearly empty.
    pub agent_environment: Vec<(String, String)>,
    /// Where agents find the control plane: `http://127.0.0.1:8080`.
    pub server_url: String,
    /// Seconds between two reports of an agent.
    pub report_seconds: u64,
    /// The DNS zone; lower case, without a final dot.
    pub zone: String,
    /// Loopback port of the name server; 0 takes a free one.
    pub dns_port: u16,
    /// Domains that may send mail without an identity of their own, as if verified by hand.
    pub verified_domains: Vec<String>,
    /// Whether what becomes of mails is kept until it was told.
    pub tells_mail_events: bool,
    pub faults: FaultSettings,
    /// Instances have public doors, with TLS; none: two loopback ports each, without.
    pub tls: Option<TlsPorts>,
}

/// The ports of an instance that has doors as on a real network; its address is a loopback one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsPorts {
    pub http: u16,
    pub https: u16,
}

impl LocalSettings {
    /// The defaults. `program` is the running binary itself, but in tests.
    pub fn new(folder: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        let zone = "stackpro.localhost".to_owned();
        Self {
            folder: folder.into(),
            program: program.into(),
            agent_environment: Vec::new(),
            server_url: "http://127.0.0.1:8080".to_owned(),
            report_seconds: 5,
            verified_domains: vec![zone.clone()],
            zone,
            dns_port: 0,
            tells_mail_events: true,
            faults: FaultSettings::default(),
            tls: None,
        }
    }
}

/// Why the local cloud cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the local cloud in {} cannot be opened: {source}", folder.display())]
pub struct OpenError {
    pub folder: PathBuf,
    pub source: io::Error,
}

/// One local cloud. A clone is the same one.
#[derive(Clone)]
pub struct LocalCloud {
    folder: PathBuf,
    fleet: Arc<Fleet>,
    buckets: PathBuf,
    roles: roles::RoleFiles,
    storage: Arc<storage::Storage>,
    identities: PathBuf,
    verified_domains: Vec<String>,
    records: Arc<dns::Records>,
    dns_port: u16,
    mailbox: Mailbox,
    mail_events: Arc<mail_events::Outbox>,
    clock: Arc<LocalClock>,
    faults: Arc<Faults>,
}

impl LocalCloud {
    /// Makes the folder when it is missing, and removes what dead processes left half made. Starts nothing:
    /// see [`LocalCloud::start_all`].
    pub fn open(settings: LocalSettings) -> Result<Self, OpenError> {
        let folder = settings.folder.clone();
        Self::try_open(settings).map_err(|source| OpenError { folder, source })
    }

    fn try_open(settings: LocalSettings) -> io::Result<Self> {
        fs::create_dir_all(&settings.folder)?;
        // Agents get it as an argument, and have a working folder of their own.
        let folder = settings.folder.canonicalize()?;
        files::sweep(&folder)?;
        let part = |name: &str| -> io::Result<PathBuf> {
            let path = folder.join(name);
            fs::create_dir_all(&path)?;
            files::sweep(&path)?;
            Ok(path)
        };
        let clock = Arc::new(LocalClock::open(&folder)?);
        let roles = roles::RoleFiles { folder: part("roles")? };
        let fleet = Fleet {
            roles: roles.clone(),
            instances: part("instances")?,
            terminated: part("terminated")?,
            locks: part("locks")?,
            program: process::Program { path: settings.program, environment: settings.agent_environment },
            report_seconds: settings.report_seconds,
            tls: settings.tls,
            server_url: RwLock::new(settings.server_url),
            clock: clock.clone(),
        };
        let (fleet, buckets) = (Arc::new(fleet), part("buckets")?);
        let storage = storage::Storage::open(&folder, &buckets, &settings.zone, fleet.clone(), clock.clone())?;
        Ok(Self {
            fleet,
            storage: Arc::new(storage),
            buckets,
            roles,
            identities: part("identities")?,
            verified_domains: settings.verified_domains,
            records: Arc::new(dns::Records::new(part("dns")?, part("dns-texts")?, settings.zone)),
            dns_port: settings.dns_port,
            mailbox: Mailbox { messages: part("mail")?, delivered: part("mail-ids")? },
            mail_events: Arc::new(mail_events::Outbox::open(part("mail-events")?, settings.tells_mail_events)?),
            faults: Arc::new(Faults::new(settings.faults)),
            clock,
            folder,
        })
    }

    /// What the control plane uses.
    pub fn cloud(&self) -> Cloud {
        let faults = &self.faults;
        Cloud {
            name: "local",
            installation: "stackpro".into(),
            compute: Arc::new(instances::LocalCompute { fleet: self.fleet.clone(), faults: faults.clone() }),
            buckets: Arc::new(buckets::LocalBuckets {
                folder: self.buckets.clone(),
                storage: self.storage.clone(),
                faults: faults.clone(),
            }),
            roles: Arc::new(roles::LocalRoles { files: self.roles.clone(), faults: faults.clone() }),
            dns: Arc::new(dns::LocalDns { records: self.records.clone(), faults: faults.clone() }),
            mail: Arc::new(mail::LocalMail {
                identities: self.identities.clone(),
                verified: self.verified_domains.clone(),
                mailbox: self.mailbox.clone(),
                events: self.mail_events.clone(),
                clock: self.clock.clone(),
                faults: faults.clone(),
                taken: Arc::default(),
            }),
            checks: Arc::new(self.clone()),
        }
    }

    /// Absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn clock(&self) -> Arc<LocalClock> {
        self.clock.clone()
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Whether instances have doors with TLS.
    pub fn has_tls(&self) -> bool {
        self.fleet.tls.is_some()
    }

    /// Where a host name leads, for the edge: without async, mostly from memory, at most 200 ms behind what
    /// another process changed. The name may be anything; it leads somewhere only in lower case.
    pub fn lookup(&self, name: &str) -> Option<SocketAddr> {
        self.records.lookup(name)
    }

    /// Whether a request is for what is in buckets, by its host name: then [`LocalCloud::serve_storage`] answers it.
    pub fn is_for_storage(&self, headers: &HeaderMap) -> bool {
        self.storage.is_for(headers)
    }

    pub async fn serve_storage(&self, request: Request) -> Response {
        self.storage.serve(request).await
    }

    /// Answers for the zone on its loopback port, UDP and TCP. Ends when dropped.
    pub async fn serve_dns(&self) -> io::Result<NameServer> {
        NameServer::start(self.records.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, self.dns_port))).await
    }

    /// Tells the control plane what becomes of mails, again and again until it is heard, until `shutdown`.
    pub async fn tell_mail_events(&self, shutdown: CancellationToken) {
        let server = || self.fleet.server_url.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.mail_events.deliver(server, shutdown).await;
    }

    /// Where agents shall find the control plane from the next [`LocalCloud::start_all`] or launch on.
    pub fn set_server_url(&self, url: &str) {
        url.clone_into(&mut self.fleet.server_url.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// What a server does at its start: stopped instances start, half terminated ones go, and all learn
    /// where the server is. Returns what could not be done; the rest was.
    pub async fn start_all(&self) -> Vec<(InstanceId, CloudError)> {
        self.for_all("compute.start", Fleet::recover).await
    }

    /// Ends all processes, and removes nothing.
    pub async fn stop_all(&self) -> Vec<(InstanceId, CloudError)> {
        self.for_all("compute.stop", |fleet, id| Ok(fleet.stop(id)?)).await
    }

    /// Ends every agent that runs as kill -9 does, and tells how many there were. For tests of recovery: this
    /// blocks, also while an instance is being started or ended.
    pub fn kill_agents(&self) -> io::Result<usize> {
        let ids = self.fleet.ids()?;
        ids.iter().try_fold(0, |killed, id| Ok(killed + usize::from(self.fleet.kill(id)?)))
    }

    async fn for_all(
        &self,
        call: &'static str,
        work: fn(&Fleet, &InstanceId) -> Result<(), faults::Failure>,
    ) -> Vec<(InstanceId, CloudError)> {
        let ids = self.fleet.ids().unwrap_or_else(|error| {
            tracing::error!(%error, "the local instances cannot be listed");
            Vec::new()
        });
        let each = stream::iter(ids).map(|id| async move {
            let (fleet, of) = (self.fleet.clone(), id.clone());
            let done = faults::run(call, move || work(&fleet, &of)).await;
            done.err().map(|error| (id, error))
        });
        each.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

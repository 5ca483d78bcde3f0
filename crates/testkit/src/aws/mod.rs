//! AWS as tests need it: moto, made honest by a proxy in front of it, with instances made real.
//!
//! moto keeps what exists; the proxy adds what AWS does and moto does not (idempotency tokens, request limits,
//! public addresses that lead somewhere, DKIM tokens, latency), and breaks calls on command. Every call is
//! written down. What runs on an instance is our agent, as a process on an address of its own on loopback,
//! started from the instance's user data; or the instance boots ([`boot`]), and does it by itself. Start reading at [`Emulator`]; a call walks through [`proxy`].

mod boot;
mod call;
mod code;
mod faults;
mod inventory;
mod latency;
mod limits;
mod machines;
mod metadata;
mod moto;
mod names;
mod proxy;
mod release;
mod ses;
mod tokens;
mod userdata;
mod xml;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use call::Call;
pub use code::{calls_in_the_code, texts_in, texts_of};
pub use faults::{Event, Fault, Moment};
pub use inventory::Inventory;
pub use latency::Latency;
pub use moto::Moto;
pub use names::Resolver;
pub use ses::Mail;

use boot::Ground;
use faults::Plan;
use limits::Limits;
use machines::Machines;
use release::Release;
use ses::Ses;
use tokens::Tokens;

/// The zone below which clients' names are.
pub const ZONE: &str = "stackpro.test";
pub const REGION: &str = "eu-central-1";

/// How an emulated account behaves.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// Fixes every latency.
    pub seed: u64,
    /// None: as fast as it goes.
    pub latency: Option<Latency>,
    /// Whether services throttle as they are documented to.
    pub request_limits: bool,
    /// Whether instances boot, and run their user data. Otherwise an instance is the agent's process alone.
    pub boot: bool,
    /// Whether calls wait until [`Emulator::release`], so that what happens to the first ones can be planned.
    pub held: bool,
}

/// What machines boot from; `./test aws` makes it.
struct Root {
    /// A root with systemd and cloud-init.
    folder: PathBuf,
    /// Compose, for the operator's release.
    compose: PathBuf,
}

impl Root {
    fn made() -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
        let part = |name: &str| tools.join(name).canonicalize().expect("what machines boot from: run ./test aws");
        Self { folder: part("machine"), compose: part("compose/docker-compose") }
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { seed: 1, latency: None, request_limits: false, boot: false, held: false }
    }
}

/// One account of AWS, empty at first. Its instances end with it.
pub struct Emulator {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

/// What the proxy, the name server and the machines share.
pub(crate) struct Shared {
    moto: Arc<Moto>,
    /// Of twelve digits. moto keeps accounts apart by it.
    account: String,
    /// Where the proxy listens.
    address: SocketAddr,
    /// Where the name server listens; instances are on the addresses after it.
    first: Ipv4Addr,
    behaviour: Behaviour,
    /// Whether calls are made.
    open: tokio::sync::watch::Sender<bool>,
    http: reqwest::Client,
    plan: Mutex<Plan>,
    calls: Mutex<Vec<Recorded>>,
    limits: Mutex<Limits>,
    tokens: tokio::sync::Mutex<Tokens>,
    machines: Machines,
    release: Release,
    /// Route 53's changes, by id, and since when.
    changes: Mutex<BTreeMap<String, Instant>>,
    records: names::Records,
    ses: Ses,
    /// Something happened to an instance.
    changed: Notify,
    _folder: TempDir,
}

/// A call that reached the emulator, and how it was answered.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub call: Call,
    pub began: Instant,
    /// How long it was held up at first, as AWS takes its time.
    pub held: Duration,
    /// Until it was answered, that time included.
    pub took: Duration,
    /// None: the connection was dropped.
    pub status: Option<u16>,
    /// Of an error: `InvalidGroup.NotFound`.
    pub code: Option<String>,
}

impl Emulator {
    /// `binary` is what runs as an agent on instances.
    pub async fn start(moto: &Arc<Moto>, binary: impl Into<PathBuf>, behaviour: Behaviour) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let account = format!("{:012}", 100_000_000_000 + COUNT.fetch_add(1, Ordering::Relaxed));
        let binary = binary.into();
        let root = behaviour.boot.then(Root::made);
        let ground = root.as_ref().map(|root| Ground::open(&root.folder));
        let (first, socket) = names::bind(ground.as_ref().map(|ground| ground.first)).await;
        // Where machines reach it, too.
        let listen = ground.as_ref().map_or(Ipv4Addr::LOCALHOST, |ground| ground.first);
        let listener = tokio::net::TcpListener::bind((listen, 0)).await.expect("a port");
        let release = root.as_ref().map_or_else(Release::unread, |root| Release::of(&binary, &root.compose));
        let folder = tempfile::Builder::new().prefix("stackpro-ec2-").tempdir().expect("a temporary folder");
        drop(rustls::crypto::ring::default_provider().install_default());
        let shared = Arc::new(Shared {
            moto: Arc::clone(moto),
            account,
            address: listener.local_addr().expect("an address"),
            first,
            http: reqwest::Client::builder().no_proxy().build().expect("an HTTP client"),
            plan: Mutex::default(),
            calls: Mutex::default(),
            limits: Mutex::new(Limits::default()),
            tokens: tokio::sync::Mutex::default(),
            machines: Machines::new(folder.path().to_owned(), binary, first, ground),
            release,
            changes: Mutex::default(),
            records: names::Records::default(),
            ses: Ses::default(),
            changed: Notify::new(),
            open: tokio::sync::watch::Sender::new(!behaviour.held),
            behaviour,
            _folder: folder,
        });
        let tasks = vec![
            tokio::spawn(proxy::run(Arc::clone(&shared), listener)),
            tokio::spawn(names::serve(Arc::clone(&shared), socket)),
            tokio::spawn(machines::run(Arc::clone(&shared))),
        ];
        Self { shared, tasks }
    }

    /// `http://127.0.0.1:41234`, to be given to an SDK as the endpoint of every service.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// What the product must be told to run on this account, by names in the environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("STACKPRO_CLOUD", "aws".to_owned()),
            ("STACKPRO_AWS_REGION", REGION.to_owned()),
            ("STACKPRO_AWS_ENDPOINT", self.endpoint()),
            ("STACKPRO_RESOLVER", self.resolver_address().to_string()),
            ("STACKPRO_RELEASE_URL", format!("{}{}", self.endpoint(), release::PATH)),
            ("STACKPRO_RELEASE_SHA256", self.shared.release.sha256()),
            ("CLIENT_DOMAIN", ZONE.to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "an-example-of-a-secret".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// A name server that answers what Route 53's zones hold.
    pub fn resolver_address(&self) -> SocketAddr {
        self.beside(names::PORT)
    }

    /// An address that nobody else's emulator has, for what stands beside this account.
    pub fn beside(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.shared.first, port))
    }

    /// For HTTP clients in this process.
    pub fn resolver(&self) -> Resolver {
        Resolver::new(Arc::clone(&self.shared))
    }

    /// Lets calls that were held be made.
    pub fn release(&self) {
        self.shared.open.send_replace(true);
    }

    /// Lets something happen at the `nth` call of this name from now on (the next is 1).
    pub fn plan(&self, call: &str, nth: u64, event: Event) {
        lock(&self.shared.plan).add(call, nth, event);
    }

    /// Takes back what was planned and has not happened, and says how much that was.
    pub fn unplan(&self) -> usize {
        lock(&self.shared.plan).clear()
    }

    /// Every call so far, in the order in which they arrived.
    pub fn calls(&self) -> Vec<Recorded> {
        let mut calls = lock(&self.shared.calls).clone();
        calls.sort_by_key(|recorded| recorded.began);
        calls
    }

    /// Everything that exists in the account.
    pub async fn inventory(&self) -> Inventory {
        inventory::take(&self.shared).await
    }

    /// Every mail that SES took.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.ses.mails()
    }

    /// Process ids of the agents that run.
    pub fn agents(&self) -> Vec<u32> {
        self.shared.machines.pids()
    }

    /// Runs a program on an instance that booted.
    pub fn run_on(&self, instance: &str, program: &[&str]) -> std::io::Result<Output> {
        self.shared.machines.run_on(instance, program)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.machines.end_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Asks moto itself, past the proxy: the form of one of EC2's or IAM's actions.
    pub(crate) async fn ask(&self, service: &str, form: &[(&str, &str)]) -> String {
        let request = self.http.post(&self.moto.endpoint).form(form);
        self.said(request, service).await
    }

    /// The same for services with paths.
    pub(crate) async fn get(&self, service: &str, path: &str) -> String {
        self.said(self.http.get(format!("{}{path}", self.moto.endpoint)), service).await
    }

    async fn said(&self, request: reqwest::RequestBuilder, service: &str) -> String {
        let scope = format!("AKIA/20260101/{REGION}/{service}/aws4_request");
        let request = request
            .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))
            .header("x-moto-account-id", &self.account);
        match request.send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => panic!("moto does not answer: {error}"),
        }
    }
}

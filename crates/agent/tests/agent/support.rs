//! Agents as real processes, the control plane's part in their life, and a client of their front doors.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use stackpro_domain::Fingerprint;
use stackpro_domain::limits::Limits;
use stackpro_protocol::agent::*;
use stackpro_testkit::free_address;

pub(crate) const PASSWORD: &str = "correct-horse-battery-staple";
pub(crate) const KEY: &str = "0123456789abcdef";
pub(crate) const PORTAL_KEY: &str = "00112233445566778899aabbccddeeff";

/// Polls until `check` gives something. Panics after three minutes.
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < Duration::from_mins(3) {
        if let Some(found) = check().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within three minutes: {what}");
}

pub(crate) fn http() -> reqwest::Client {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let none = reqwest::redirect::Policy::none();
    reqwest::Client::builder().redirect(none).no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

/// What the control plane heard.
#[derive(Clone, Default)]
pub(crate) struct Heard {
    pub(crate) enrolments: Arc<Mutex<Vec<Enrol>>>,
    pub(crate) reports: Arc<Mutex<Vec<Report>>>,
    pub(crate) messages: Arc<Mutex<Vec<VisitorMessage>>>,
    /// What it answers to the next messages, the last one first; 202 when there is nothing.
    pub(crate) answers: Arc<Mutex<Vec<StatusCode>>>,
}

/// The part of the control plane that agents call.
pub(crate) async fn control_plane() -> (String, Heard) {
    let heard = Heard::default();
    let routes = Router::new()
        .route("/api/agents/enrol", post(enrol))
        .route("/api/agents/report", post(report))
        .route("/api/agents/messages", post(message))
        .with_state(heard.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (format!("http://{address}"), heard)
}

async fn enrol(State(heard): State<Heard>, Json(words): Json<Enrol>) -> Json<Enrolled> {
    heard.enrolments.lock().unwrap().push(words);
    Json(Enrolled { key: KEY.into() })
}

async fn message(State(heard): State<Heard>, Json(words): Json<VisitorMessage>) -> StatusCode {
    heard.messages.lock().unwrap().push(words);
    heard.answers.lock().unwrap().pop().unwrap_or(StatusCode::ACCEPTED)
}

async fn report(State(heard): State<Heard>, Json(words): Json<Report>) -> Json<Value> {
    heard.reports.lock().unwrap().push(words);
    Json(Value::Null)
}

/// An agent's folder, and its process while it runs.
pub(crate) struct TestAgent {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) front: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) public: Option<PublicDoors>,
    pub(crate) http: reqwest::Client,
    process: Mutex<Option<Child>>,
}

/// How an agent's doors are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Doors {
    Local,
    Public,
}

impl TestAgent {
    /// An enrolled agent.
    pub(crate) async fn start(server_url: &str) -> Self {
        Self::start_with(server_url, Doors::Local).await
    }

    pub(crate) async fn start_with(server_url: &str, doors: Doors) -> Self {
        let agent = Self::prepare(server_url, doors);
        agent.launch();
        agent.enrolled().await;
        agent
    }

    pub(crate) fn prepare(server_url: &str, doors: Doors) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (front, control) = (free_address(), free_address());
        let public = (doors == Doors::Public).then(|| PublicDoors { http: free_address(), https: control });
        let front = public.map_or(front, |public| public.https);
        let file = AgentFile {
            instance_id: format!("i-{}", front.port()).parse().unwrap(),
            server_url: server_url.into(),
            enrol_token: "one-time".into(),
            front,
            control,
            public,
            report_seconds: 1,
        };
        std::fs::write(dir.path().join("agent.json"), serde_json::to_vec(&file).unwrap()).unwrap();
        Self { dir, front, control, public, http: http(), process: Mutex::new(None) }
    }

    pub(crate) fn launch(&self) {
        *self.process.lock().unwrap() = Some(spawn(self.dir.path()));
    }

    pub(crate) async fn enrolled(&self) {
        until("the agent is enrolled", async || {
            assert!(!self.has_ended(), "the agent has ended by itself");
            self.identity_is_there()?;
            let health = self.control_request(Method::GET, "/v1/health").send().await.ok()?;
            health.json::<Health>().await.ok()?.enrolled.then_some(())
        })
        .await;
    }

    pub(crate) fn kill(&self) {
        let mut child = self.process.lock().unwrap().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// By itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_some_and(|process| process.try_wait().unwrap().is_some())
    }

    /// As [`TestAgent::kill`], also when it runs no more.
    pub(crate) fn end(&self) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) async fn restart(&self) {
        self.launch();
        self.enrolled().await;
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.control_request(method, path).bearer_auth(KEY)
    }

    /// At the control door, without a key.
    pub(crate) fn control_request(&self, method: Method, path: &str) -> RequestBuilder {
        if self.public.is_none() {
            return self.http.request(method, format!("http://{}{path}", self.control));
        }
        let pinned = self.pinned(CONTROL_NAME, &self.fingerprint().unwrap());
        pinned.request(method, format!("https://{CONTROL_NAME}:{}{path}", self.control.port()))
    }

    /// A client that speaks to whoever has that certificate at this agent's port 443, and asks for `name`.
    pub(crate) fn pinned(&self, name: &str, to: &Fingerprint) -> reqwest::Client {
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(30));
        stackpro_tls::http_client(builder, name, self.control, to).unwrap()
    }

    /// Of its own certificate.
    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.public?;
        let kept = std::fs::read(self.dir.path().join("identity.json")).unwrap();
        Some(serde_json::from_slice::<stackpro_tls::KeyedChain>(&kept).unwrap().facts().unwrap().fingerprint)
    }

    fn identity_is_there(&self) -> Option<()> {
        (self.public.is_none() || self.dir.path().join("identity.json").exists()).then_some(())
    }

    /// Where visitors come without TLS.
    pub(crate) fn plain(&self) -> SocketAddr {
        self.public.map_or(self.front, |public| public.http)
    }

    pub(crate) async fn put_stack(&self, spec: &StackSpec) -> StackStatus {
        let put = self.ask(Method::PUT, &format!("/v1/stacks/{}", spec.client_id)).json(spec).send().await.unwrap();
        assert_eq!(put.status(), 200);
        put.json().await.unwrap()
    }

    pub(crate) async fn status(&self, spec: &StackSpec) -> StackStatus {
        let path = format!("/v1/stacks/{}", spec.client_id);
        self.ask(Method::GET, &path).send().await.unwrap().json().await.unwrap()
    }

    /// A request at the front door, for a host.
    pub(crate) fn visit(&self, method: &str, host: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("http://{}{path}", self.plain())).header("host", host)
    }

    pub(crate) fn dav(&self, method: &str, spec: &StackSpec, path: &str) -> RequestBuilder {
        self.visit(method, &spec.hosts[0], path).basic_auth("any", Some(PASSWORD))
    }

    pub(crate) async fn store(&self, spec: &StackSpec, path: &str, content: impl Into<reqwest::Body>) -> StatusCode {
        self.dav("PUT", spec, path).body(content).send().await.unwrap().status()
    }

    pub(crate) fn folder(&self, spec: &StackSpec) -> PathBuf {
        self.dir.path().join("stacks").join(spec.client_id.as_str())
    }
}

impl Drop for TestAgent {
    #[allow(clippy::print_stderr)] // Of a test that failed, with what it printed.
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().skip(log.lines().count().saturating_sub(60)).collect();
            eprintln!("the agent at {} last said:\n{}", self.control, last.join("\n"));
        }
    }
}

/// A file in the agent's folder: the engine's socket and Compose, a line each.
pub(crate) const ENGINE: &str = "engine";

/// Where this very program, started again, finds the folder of the agent that it is then.
const AGENT_DIR: &str = "TEST_AGENT_DIR";

/// The agent as a process of its own, which can be killed.
pub(crate) fn spawn(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "support::agent_process", "--nocapture"]).env(AGENT_DIR, dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// No test, but what [`spawn`] starts.
#[test]
fn agent_process() {
    let Some(dir) = std::env::var_os(AGENT_DIR) else { return };
    rustls::crypto::ring::default_provider().install_default().unwrap();
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = Path::new(&dir);
    let engine = std::fs::read_to_string(dir.join(ENGINE)).unwrap_or_default();
    let mut lines = engine.lines().map(PathBuf::from);
    let engine = stackpro_agent::EngineOptions { socket: lines.next(), compose: lines.next() };
    let options = stackpro_agent::Options { engine, ..stackpro_agent::Options::default() };
    runtime.block_on(stackpro_agent::run(dir, options)).unwrap();
}

/// A move from one agent to another, as the control plane drives it.
pub(crate) struct Move<A> {
    pub(crate) source: A,
    pub(crate) destination: A,
    pub(crate) spec: StackSpec,
}

impl<A: AsRef<TestAgent>> Move<A> {
    pub(crate) fn path(&self, what: &str) -> String {
        format!("/v1/stacks/{}/{what}", self.spec.client_id)
    }

    pub(crate) async fn ticket(&self, job_id: &str) -> Option<Ticket> {
        let ask = TicketRequest { job_id: job_id.into() };
        self.source.as_ref().ask(Method::POST, &self.path("tickets")).json(&ask).send().await.ok()?.json().await.ok()
    }

    pub(crate) async fn order(&self, job_id: &str, cut_over: bool) -> MoveOrder {
        let ticket = until("a ticket", async || self.ticket(job_id).await).await;
        MoveOrder {
            job_id: job_id.into(),
            source: self.source.as_ref().control,
            source_fingerprint: self.source.as_ref().fingerprint(),
            ticket,
            cut_over,
            front: self.destination.as_ref().front,
            max_hold_ms: 2_000,
        }
    }

    pub(crate) async fn put(&self, order: &MoveOrder) -> Option<MoveStatus> {
        self.destination.as_ref().ask(Method::PUT, &self.path("move")).json(order).send().await.ok()?.json().await.ok()
    }

    pub(crate) async fn status(&self) -> Option<MoveStatus> {
        self.destination.as_ref().ask(Method::GET, &self.path("move")).send().await.ok()?.json().await.ok()
    }

    pub(crate) async fn reached(&self, phase: MovePhase) -> MoveStatus {
        let what = format!("{phase:?} of the move to {}", self.destination.as_ref().control);
        until(&what, async || self.status().await.filter(|status| status.phase == phase)).await
    }

    pub(crate) async fn abort(&self, job_id: &str) -> AbortAnswer {
        let abort = AbortMove { job_id: job_id.into() };
        let answer = self.source.as_ref().ask(Method::POST, &self.path("abort")).json(&abort).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

impl AsRef<TestAgent> for TestAgent {
    fn as_ref(&self) -> &TestAgent {
        self
    }
}

pub(crate) fn spec(client: &str) -> StackSpec {
    StackSpec {
        client_id: client.parse().unwrap(),
        company: format!("{client} <b>& Sons</b>"),
        recipe: "site".into(),
        compose: None,
        hosts: vec![format!("{client}.stackpro.localhost")],
        limits: Limits::default(),
        wanted: Wanted::Serving,
        portal_password_sha256: sha256(PASSWORD),
        portal_key: PORTAL_KEY.into(),
        notice: None,
        dashboard_url: "http://127.0.0.1:1/dashboard".into(),
    }
}

pub(crate) fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

pub(crate) async fn text(response: Response) -> String {
    response.text().await.unwrap()
}

//! The whole product as a process of its own, on a folder of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::aws::{Emulator, Resolver};
use crate::processes::processes_of;
use crate::wait::eventually;

/// How long a start may take. It is one process and one file; more than this is a hang, also on a busy machine.
const START_WITHIN: Duration = Duration::from_mins(1);

/// What `serve` writes to `DATA/serve.json` once it listens.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServeInfo {
    /// `http://127.0.0.1:41234`
    pub url: String,
    /// Of the simulated Stripe.
    pub stripe_url: Option<String>,
    pub pid: u32,
    /// Makes the first operator, once.
    pub operator_link: Option<String>,
}

/// What a [`TestApp`] is started with.
#[derive(Clone)]
pub struct Builder {
    binary: PathBuf,
    listen: String,
    env: Vec<(String, String)>,
    core: Option<usize>,
    /// The world's DNS, where it is not our own edge that leads to clients' sites.
    world: Option<Resolver>,
}

/// The real `stackpro serve`, its instances and its simulated Stripe. On its end nothing of it is left.
pub struct TestApp {
    builder: Builder,
    folder: Option<TempDir>,
    data: PathBuf,
    process: Option<Child>,
    info: ServeInfo,
    http: reqwest::Client,
    /// On someone else's data: only the process is ours.
    is_guest: bool,
}

impl Builder {
    /// A setting, by its name in the environment: `STACKPRO_WARM_PLACES`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Ends itself there, once: `provision/bucket/after`.
    #[must_use]
    pub fn crash_at(self, moment: &str) -> Self {
        self.env("STACKPRO_CRASH_AT", moment)
    }

    /// `127.0.0.1:8080`; a free port without it.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Runs on this core alone.
    #[must_use]
    pub fn pinned_to(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// On this account of AWS instead of the local cloud. It listens beside the account's name server, always
    /// at the same address, since instances know it.
    #[must_use]
    pub fn on_aws(mut self, account: &Emulator) -> Self {
        // Without a port, as on AWS: sites and console have their own addresses.
        let address = account.beside(80).to_string();
        for (name, value) in account.environment() {
            self = self.env(&name, value);
        }
        self.world = Some(account.resolver());
        self.env("STACKPRO_PUBLIC_URL", format!("http://{}", account.beside(80).ip())).listen(&address)
    }

    /// `postgres://…`
    #[must_use]
    pub fn database(self, url: &str) -> Self {
        self.env("DATABASE_URL", url)
    }

    pub async fn start(self) -> TestApp {
        let folder = tempfile::Builder::new().prefix("stackpro-test-").tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        self.start_in(Some(folder), data).await
    }

    /// On a folder that someone else keeps: a second node's, or one that is measured.
    pub async fn start_at(self, data: &Path) -> TestApp {
        self.start_in(None, data.to_path_buf()).await
    }

    /// A second node on the same data, which is the same local cloud. The first one cleans up.
    pub async fn start_beside(self, first: &TestApp) -> TestApp {
        let data = first.data.clone();
        let mut app = self.start_in(None, data).await;
        app.is_guest = true;
        app
    }

    async fn start_in(self, folder: Option<TempDir>, data: PathBuf) -> TestApp {
        // Fails when there is one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy();
        if let Some(world) = &self.world {
            http = http.dns_resolver(Arc::new(world.clone()));
        }
        let http = http.build().expect("an HTTP client");
        let info = ServeInfo { url: String::new(), stripe_url: None, pid: 0, operator_link: None };
        let mut app = TestApp { builder: self, folder, data, process: None, info, http, is_guest: false };
        app.launch().await;
        app
    }
}

impl TestApp {
    /// `binary` is `env!("CARGO_BIN_EXE_stackpro")` in the tests of the binary's crate.
    pub fn with(binary: impl Into<PathBuf>) -> Builder {
        let listen = "127.0.0.1:0".to_owned();
        let builder = Builder { binary: binary.into(), listen, env: Vec::new(), core: None, world: None };
        // Tests make more sign-ups from one address than people do, and pretend to come from others.
        builder
            .env("STACKPRO_SIGNUPS_PER_ADDRESS_PER_HOUR", 100_000)
            .env("STACKPRO_SIGNUPS_PER_NETWORK_PER_DAY", 100_000)
            .env("STACKPRO_LOG", "info,sqlx=warn")
    }

    pub async fn start(binary: impl Into<PathBuf>) -> Self {
        Self::with(binary).start().await
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn info(&self) -> &ServeInfo {
        &self.info
    }

    /// Redirects are not followed, so that a test sees them.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// An address of ours: `app.url("/health")`. Where the test chose the address to listen on it leads
    /// there, past whatever the world has in front of it.
    pub fn url(&self, path: &str) -> String {
        if self.builder.listen.ends_with(":0") {
            return format!("{}{path}", self.info.url);
        }
        format!("http://{}{path}", self.builder.listen)
    }

    /// Scheme, host and port as the world knows them.
    pub fn origin(&self) -> &str {
        &self.info.url
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).json(body)
    }

    /// A request to a client's public name. On the local cloud the name is in the header alone, since not
    /// every system resolves names below `localhost`.
    pub fn at_host(&self, method: Method, site: &str, path: &str) -> RequestBuilder {
        if self.builder.world.is_some() {
            return self.http.request(method, format!("{}{path}", site.trim_end_matches('/')));
        }
        let host = site.split_once("://").map_or(site, |(_, rest)| rest);
        self.http.request(method, self.url(path)).header("host", host.trim_end_matches('/'))
    }

    /// What the command line says: `app.command(&["doctor", "--json"])`, on this app's data.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.prepare(arguments).output().expect("the binary runs")
    }

    /// The same, read as JSON; panics when the command fails.
    pub fn command_json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|bad| panic!("{arguments:?}: {bad}: {error}"))
    }

    fn prepare(&self, arguments: &[&str]) -> Command {
        let mut command = match self.builder.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(&self.builder.binary);
                command
            }
            None => Command::new(&self.builder.binary),
        };
        command.args(arguments).arg("--data").arg(&self.data);
        // Nothing of this machine's own settings reaches a test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.builder.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.data.parent().unwrap_or(&self.data));
        command
    }

    async fn launch(&mut self) {
        let noted = self.data.join("serve.json");
        drop(fs::remove_file(&noted));
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log opens");
        let mut command = self.prepare(&["serve", "--listen", &self.builder.listen]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.process = Some(command.spawn().expect("the binary starts"));
        let deadline = Instant::now() + START_WITHIN;
        loop {
            if let Some(info) = fs::read(&noted).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                self.info = info;
                return;
            }
            if let Some(status) = self.exited() {
                // A crash that a test asked for may come before the first request.
                if self.builder.env.iter().any(|(name, _)| name == "STACKPRO_CRASH_AT") {
                    return;
                }
                panic!("serve ended with {status}:\n{}", self.log_tail());
            }
            assert!(Instant::now() < deadline, "serve does not listen:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// The last lines of the log.
    pub fn log_tail(&self) -> String {
        last_lines(&self.log_path())
    }

    /// The last lines of every agent's log.
    fn agents_log_tail(&self) -> String {
        let instances = fs::read_dir(self.data.join("cloud/instances")).into_iter().flatten().flatten();
        let tails =
            instances.map(|i| format!("--- {}\n{}", i.path().display(), last_lines(&i.path().join("agent.log"))));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Whether it answers at all, for whoever reads why a test failed.
    fn health(&self) -> String {
        let within = Duration::from_secs(5);
        let asked = (|| {
            let address = self.info.url.trim_start_matches("http://").parse().map_err(std::io::Error::other)?;
            let mut stream = TcpStream::connect_timeout(&address, within)?;
            stream.set_read_timeout(Some(within))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = [0; 40];
            let read = stream.read(&mut answer)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or("").to_owned())
        })();
        asked.unwrap_or_else(|error| error.to_string())
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut().and_then(|process| process.try_wait().ok().flatten())
    }

    /// Waits until the process has ended by itself.
    pub async fn wait_exit(&mut self, within: Duration) -> std::process::ExitStatus {
        eventually("the server ends itself", within, async || self.exited()).await
    }

    /// As when the machine loses power, but for what the instances do.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Ctrl-C.
    pub async fn interrupt(&mut self) -> std::process::ExitStatus {
        let process = self.process.as_ref().expect("the server runs");
        let pid = rustix::process::Pid::from_child(process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal to a child of ours");
        self.wait_exit(Duration::from_secs(20)).await
    }

    /// Starts again on the same data; on another port unless the builder was given one.
    pub async fn restart(&mut self) {
        self.kill9();
        self.launch().await;
    }

    /// A setting for the next start; none removes it.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.builder.env.retain(|(known, _)| known != name);
        self.builder.env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Another node on the same settings, with data of its own below this one's folder.
    pub fn sibling(&self, name: &str) -> (Builder, PathBuf) {
        let folder = self.data.with_file_name(name);
        fs::create_dir_all(&folder).expect("a folder");
        (self.builder.clone(), folder)
    }

    /// Ends everything that belongs to this app and asserts that nothing is left running.
    pub fn stop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- GET /health: {}", self.health());
        }
        self.kill9();
        // Instances elsewhere end with their account.
        let stopped = self.builder.world.is_none().then(|| self.command(&["stop"]));
        let left = settled(&self.data);
        for pid in &left {
            let pid = rustix::process::Pid::from_raw(*pid as i32).expect("a process id");
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- the server's last words\n{}\n{}", self.log_tail(), self.agents_log_tail());
            return;
        }
        if let Some(output) = stopped {
            assert!(output.status.success(), "stackpro stop: {}", String::from_utf8_lossy(&output.stderr));
        }
        assert!(left.is_empty(), "processes {left:?} were left over");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if self.is_guest {
            self.kill9();
        } else if self.data.exists() {
            self.stop();
        }
        if let Some(folder) = self.folder.take()
            && (std::env::var_os("KEEP_TEST_DATA").is_some() && std::thread::panicking())
        {
            eprintln!("the data is kept in {}", folder.keep().display());
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn is_setting(name: &str) -> bool {
    let ours = ["STACKPRO_", "STRIPE_", "AWS_"].iter().any(|prefix| name.starts_with(prefix));
    ours || matches!(name, "DATABASE_URL" | "CLIENT_DOMAIN")
}

/// Who still works in the folder, once those that are ending have ended.
fn settled(data: &Path) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = processes_of(data);
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

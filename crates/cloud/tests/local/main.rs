//! The local cloud with real parts: processes, folders, sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stackpro_cloud::local::{LocalCloud, LocalSettings};
use stackpro_cloud::{LaunchSpec, Tags};
use stackpro_domain::InstanceId;
use stackpro_protocol::agent::{AgentFile, AgentPid};

mod check;
mod dns;
mod faults;
mod instances;
mod kills;
mod mail;
mod roles;
mod storage;

/// A folder with a local cloud, and no process left behind.
struct Home {
    folder: tempfile::TempDir,
    local: LocalCloud,
}

impl Home {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut LocalSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = LocalSettings::new(folder.path(), toy_agent());
        change(&mut settings);
        let local = LocalCloud::open(settings).unwrap();
        // Every launch names a role; one that exists, unless a test says otherwise.
        let role = serde_json::json!({ "tags": tags("role"), "buckets": [] });
        fs::write(local.folder().join("roles/role.json"), role.to_string()).unwrap();
        Self { folder, local }
    }

    /// What another process sees, or this one after a restart.
    fn again(&self) -> LocalCloud {
        self.on_dns_port(0)
    }

    fn on_dns_port(&self, dns_port: u16) -> LocalCloud {
        let settings = LocalSettings { dns_port, ..LocalSettings::new(self.folder.path(), toy_agent()) };
        LocalCloud::open(settings).unwrap()
    }

    fn instance(&self, id: &InstanceId) -> PathBuf {
        self.local.folder().join("instances").join(id.as_str())
    }

    fn agent_file(&self, id: &InstanceId) -> AgentFile {
        serde_json::from_slice(&fs::read(self.instance(id).join("agent.json")).unwrap()).unwrap()
    }

    fn pid(&self, id: &InstanceId) -> u32 {
        let pid: AgentPid = serde_json::from_slice(&fs::read(self.instance(id).join("agent.pid")).unwrap()).unwrap();
        pid.pid
    }

    /// Agents of this folder that the system runs, whatever our files say.
    fn processes(&self) -> usize {
        let folder = self.local.folder().to_str().unwrap().as_bytes();
        let ours = |line: &Vec<u8>| {
            line.split(|byte| *byte == 0).any(|argument| argument.starts_with(folder))
                && line.windows(7).any(|part| part == b"\0agent\0")
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).filter(ours).count()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let local = self.local.clone();
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::spawn(move || runtime().block_on(local.stop_all())).join().ok();
    }
}

/// Built by `cargo test` together with the tests.
fn toy_agent() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/toy_agent");
    assert!(program.exists(), "{} is missing: cargo build -p stackpro-cloud --examples", program.display());
    program
}

fn spec(token: &str) -> LaunchSpec {
    let tags = Tags { resource_id: token.to_owned(), client_id: None };
    LaunchSpec {
        token: token.to_owned(),
        instance_type: "t3.micro".into(),
        role: "role".into(),
        enrol_token: "e".into(),
        tags,
    }
}

fn tags(resource: &str) -> Tags {
    Tags { resource_id: resource.to_owned(), client_id: Some("acme-law-7f3k".into()) }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

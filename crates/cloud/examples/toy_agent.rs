//! Stands in for an agent where the local cloud is tested: it takes its lock, says its pid, listens at its
//! doors, and ends when it is asked to. `MISBEHAVE=crash` ends at once, `MISBEHAVE=deaf` only when killed.
//!
//! `toy_agent launch FOLDER TOKEN` is a control plane that launches one instance, to be killed meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::fs::File;
use std::path::Path;

use stackpro_cloud::local::{LocalCloud, LocalSettings};
use stackpro_cloud::{LaunchSpec, Tags};
use stackpro_domain::Time;
use stackpro_protocol::agent::{AgentFile, AgentPid};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", "--dir", folder] => agent(Path::new(folder)).await,
        ["launch", folder, token] => launch(folder, token).await,
        _ => panic!("agent --dir FOLDER, or launch FOLDER TOKEN"),
    }
}

async fn agent(folder: &Path) {
    let misbehaviour = std::env::var("MISBEHAVE").unwrap_or_default();
    if misbehaviour == "crash" {
        eprintln!("no heart");
        std::process::exit(3);
    }
    let mut asked = signal(SignalKind::terminate()).unwrap();
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("agent.lock")).unwrap();
    lock.try_lock().expect("another agent runs here");
    let file: AgentFile = serde_json::from_slice(&std::fs::read(folder.join("agent.json")).unwrap()).unwrap();
    let _front = TcpListener::bind(file.front).await.unwrap();
    let _control = TcpListener::bind(file.control).await.unwrap();
    let pid = AgentPid { pid: std::process::id(), started_at: Time(0) };
    std::fs::write(folder.join("agent.new"), serde_json::to_vec(&pid).unwrap()).unwrap();
    std::fs::rename(folder.join("agent.new"), folder.join("agent.pid")).unwrap();
    asked.recv().await;
    if misbehaviour == "deaf" {
        std::future::pending::<()>().await;
    }
}

async fn launch(folder: &str, token: &str) {
    let cloud = LocalCloud::open(LocalSettings::new(folder, std::env::current_exe().unwrap())).unwrap();
    let tags = Tags { resource_id: token.to_owned(), client_id: None };
    let spec = LaunchSpec { token: token.to_owned(), instance_type: "t3.micro".into(), enrol_token: "e".into(), tags };
    cloud.cloud().compute.launch(&spec).await.unwrap();
}

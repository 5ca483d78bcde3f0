//! Stands in for an agent where the local cloud is tested: it takes its lock, says its pid, listens at its
//! doors, and ends when it is asked to. `MISBEHAVE=crash` ends at once, `MISBEHAVE=deaf` only when killed.
//!
//! Two more are control planes, to be killed meanwhile: `toy_agent launch FOLDER TOKEN` launches one
//! instance, and `toy_agent churn FOLDER ROUND` makes and removes one of everything, again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::fs::File;
use std::path::Path;

use stackpro_cloud::local::{LocalCloud, LocalSettings};
use stackpro_cloud::{LaunchSpec, Message, Record, Tags};
use stackpro_domain::Time;
use stackpro_protocol::agent::{AgentFile, AgentPid};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", "--dir", folder] => agent(Path::new(folder)).await,
        ["launch", folder, token] => drop(open(folder).cloud().compute.launch(&spec(token)).await.unwrap()),
        ["churn", folder, round] => churn(&open(folder), round).await,
        _ => panic!("agent --dir FOLDER, launch FOLDER TOKEN, or churn FOLDER ROUND"),
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

fn open(folder: &str) -> LocalCloud {
    LocalCloud::open(LocalSettings::new(folder, std::env::current_exe().unwrap())).unwrap()
}

fn tags(resource: &str) -> Tags {
    Tags { resource_id: resource.to_owned(), client_id: None }
}

fn spec(token: &str) -> LaunchSpec {
    LaunchSpec {
        token: token.to_owned(),
        instance_type: "t3.micro".into(),
        role: "role".into(),
        enrol_token: "e".into(),
        tags: tags(token),
    }
}

async fn churn(local: &LocalCloud, round: &str) {
    let cloud = local.cloud();
    let record = Record {
        name: "churn.stackpro.localhost".into(),
        target: ([127, 0, 0, 1], 1).into(),
        ttl_seconds: 1,
        tags: tags("r"),
    };
    for n in 0_u64.. {
        let message = Message {
            id: format!("{}", n / 2),
            from: "a@stackpro.localhost".into(),
            to: "b@example.com".into(),
            reply_to: None,
            subject: "Again".into(),
            text: "Hi".into(),
            html: "<p>Hi".into(),
        };
        local.clock().advance(1).unwrap();
        cloud.mail.create_identity("churn.example", &tags("r")).await.unwrap();
        cloud.mail.send(&message).await.unwrap();
        cloud.mail.delete_identity("churn.example").await.unwrap();
        cloud.buckets.create("churn", &tags("r")).await.unwrap();
        cloud.roles.create("churn", &tags("r")).await.unwrap();
        cloud.roles.allow("churn", &["churn".into()]).await.unwrap();
        cloud.roles.delete("churn").await.unwrap();
        cloud.buckets.delete("churn", "r").await.unwrap();
        cloud.dns.upsert(&record).await.unwrap();
        cloud.dns.delete(&record.name).await.unwrap();
        let made = cloud.compute.launch(&spec(&format!("{round}-{n}"))).await.unwrap();
        cloud.compute.terminate(&made.id).await.unwrap();
    }
}

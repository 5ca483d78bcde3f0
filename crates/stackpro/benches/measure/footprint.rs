//! What `serve` costs with 10,000 clients in its database: memory when idle, and the time from its start to
//! the first answer.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stackpro_domain::lifecycle::{Event, Life};
use stackpro_domain::plan::{DEFAULT_PLANS, Plans};
use stackpro_domain::{ClientId, Clock, Time};
use stackpro_store::{Client, Member, Options, Resource, ResourceKind, ResourceState, Role, StackPhase, Store};
use stackpro_testkit::free_address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{line, ms, percentile, quick};

const CLIENTS: u64 = 10_000;
const STARTS: usize = 5;
const IDLE_BYTES: u64 = 40_000_000;
const FIRST_ANSWER: Duration = Duration::from_millis(100);

pub(crate) async fn measure() -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).expect("the data folder");
    let clients = if quick() { 500 } else { CLIENTS };
    seed(&data, clients).await;
    let mut starts = Vec::new();
    let mut idle = 0;
    // The first start makes what later ones find: the key, the folders. It is not counted.
    for number in 0..=STARTS {
        let (mut server, first) = start(&data).await;
        if number > 0 {
            starts.push(first);
        }
        if number == STARTS {
            tokio::time::sleep(Duration::from_secs(if quick() { 3 } else { 20 })).await;
            idle = resident(server.id());
        }
        drop(server.kill());
        drop(server.wait());
    }
    drop(Command::new(env!("CARGO_BIN_EXE_stackpro")).args(["stop", "--data"]).arg(&data).output());
    let first = percentile(&starts, 0.5);
    let pass = idle <= IDLE_BYTES && first <= FIRST_ANSWER;
    let figures = json!({
        "clients": clients, "idleResidentBytes": idle, "firstAnswerMs": ms(first),
        "slowestFirstAnswerMs": ms(percentile(&starts, 1.0)), "starts": STARTS,
    });
    line("footprint", pass, figures)
}

/// Starts the product, and returns how long it took until `/health` was answered with 200.
async fn start(data: &Path) -> (Child, Duration) {
    let address = free_address();
    let began = Instant::now();
    let server = Command::new(env!("CARGO_BIN_EXE_stackpro"))
        .args(["serve", "--listen", &address.to_string(), "--data"])
        .arg(data)
        .env("STACKPRO_WARM_PLACES", "0")
        .env("STACKPRO_STRIPE_LISTEN", "127.0.0.1:0")
        .env("STACKPRO_LOG", "warn")
        .current_dir(data)
        .stdout(Stdio::null())
        .spawn()
        .expect("the product starts");
    while !answers(address).await {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (server, began.elapsed())
}

async fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200")
}

/// Bytes in memory, as Linux counts them.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident size");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("kilobytes") * 1024
}

/// Clients as they are after some months: each with an owner and a ledger. They are suspended, since no
/// instance of this machine serves so many.
async fn seed(data: &Path, clients: u64) {
    let url = format!("sqlite:{}", data.join("stackpro.db").display());
    let store = Store::open(&url, Options::new(Arc::new(Now))).await.expect("the database");
    let plans = Plans::parse(DEFAULT_PLANS).expect("the plans");
    let now = Now.now();
    let begun = Life::begin(&plans.trial, now);
    let (life, _) = begun.apply(Event::Suspended, &plans.trial, now).expect("a trial can be suspended");
    for chunk in (0..clients).collect::<Vec<_>>().chunks(500) {
        let mut tx = store.begin().await.expect("a transaction");
        for number in chunk {
            let id = ClientId::generate("Measured Company", *number * 7_919 + 1);
            let client = client(&id, life.clone(), now);
            tx.insert_client(&client).await.expect("a client");
            tx.insert_member(&owner(&id, *number, now)).await.expect("an owner");
            for kind in [ResourceKind::Bucket, ResourceKind::Record, ResourceKind::MailIdentity] {
                tx.insert_resource(&resource(&id, *number, kind, now)).await.expect("a resource");
            }
        }
        tx.commit().await.expect("a commit");
    }
    store.close().await;
}

struct Now;

impl Clock for Now {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_millisecond())
    }
}

fn client(id: &ClientId, life: Life, now: Time) -> Client {
    Client {
        id: id.clone(),
        company: "Measured Company".into(),
        plan: "starter".into(),
        interval: None,
        life,
        stack: StackPhase::Suspended,
        hosting: None,
        host: format!("{id}.stackpro.localhost"),
        customer_id: None,
        price: None,
        subscription_id: None,
        certificate: None,
        portal_rotation: 0,
        recipe: "site".into(),
        created_at: now,
    }
}

pub(crate) fn owner(client: &ClientId, number: u64, now: Time) -> Member {
    Member {
        id: format!("member-{number}").parse().expect("an id"),
        client_id: Some(client.clone()),
        email: format!("owner{number}@measured.example"),
        first_name: "Ann".into(),
        last_name: "Meyer".into(),
        role: Role::Owner,
        password_hash: None,
        email_verified_at: Some(now),
        created_at: now,
    }
}

fn resource(client: &ClientId, number: u64, kind: ResourceKind, now: Time) -> Resource {
    Resource {
        id: format!("{}-{number}", kind.as_str()).parse().expect("an id"),
        kind,
        name: format!("{}-{client}", kind.as_str()),
        cloud_id: Some(format!("{}-{client}", kind.as_str())),
        client_id: Some(client.clone()),
        state: ResourceState::Created,
        created_at: now,
        deleted_at: None,
    }
}

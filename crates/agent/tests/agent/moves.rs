//! Moves between two agents that are processes of their own; the test plays the control plane.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use reqwest::Method;
use stackpro_protocol::agent::*;

use crate::support::*;

/// Two agents, and a stack that shall go from the one to the other.
pub(crate) struct Pair(Move<TestAgent>);

impl std::ops::Deref for Pair {
    type Target = Move<TestAgent>;

    fn deref(&self) -> &Move<TestAgent> {
        &self.0
    }
}

impl Pair {
    async fn new(files: usize, bytes: usize) -> Self {
        Self::with(Doors::Local, files, bytes).await
    }

    pub(crate) async fn with(doors: Doors, files: usize, bytes: usize) -> Self {
        let (server, _) = control_plane().await;
        let start = || TestAgent::start_with(&server, doors);
        let (source, destination) = (start().await, start().await);
        let spec = spec("acme-law-7f3k");
        source.put_stack(&spec).await;
        source.kill();
        seed(&source.folder(&spec), files, bytes);
        source.restart().await;
        destination.put_stack(&StackSpec { wanted: Wanted::Receiving, ..spec.clone() }).await;
        Self(Move { source, destination, spec })
    }

    pub(crate) async fn state(&self, agent: &TestAgent) -> StackState {
        agent.status(&self.spec).await.state
    }

    fn source_files(&self) -> BTreeMap<String, Facts> {
        files(&self.source.folder(&self.spec).join("data"))
    }

    fn copied_files(&self) -> BTreeMap<String, Facts> {
        files(&self.destination.folder(&self.spec).join("data"))
    }

    /// Checks that the copy is whole and that the new place serves.
    async fn moved(&self, status: &MoveStatus) {
        let certificate = status.certificate.as_ref().unwrap();
        assert_eq!(certificate.source_hash, certificate.copy_hash);
        assert_eq!(self.state(&self.source).await, StackState::Forwarding);
        assert_eq!(self.state(&self.destination).await, StackState::Serving);
        assert_eq!(self.source_files(), self.copied_files());
        let seed = text(self.source.dav("GET", &self.spec, "/dav/files/0/0").send().await.unwrap()).await;
        assert!(seed.starts_with("0/0:"), "{seed}");
        assert_eq!(self.source.store(&self.spec, "/dav/files/after", "after").await, 201);
        let after = text(self.destination.dav("GET", &self.spec, "/dav/files/after").send().await.unwrap()).await;
        assert_eq!(after, "after");
        assert!(!self.source_files().contains_key("files/after"), "written at the destination only");
    }
}

/// Content, or none for a folder; and nanoseconds of the last change.
type Facts = Option<(Vec<u8>, i128)>;

fn files(root: &Path) -> BTreeMap<String, Facts> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let metadata = path.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(path);
                found.insert(name, None);
            } else {
                let modified = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
                found.insert(name, Some((std::fs::read(&path).unwrap(), modified.as_nanos() as i128)));
            }
        }
    }
    found
}

/// Files below `files`, 100 to a folder, an empty folder, and a larger file.
fn seed(stack: &Path, count: usize, bytes: usize) {
    let root = stack.join("data/files");
    for n in 0..count {
        let folder = root.join((n / 100).to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let mut content = format!("{}/{}:", n / 100, n % 100).into_bytes();
        content.resize(bytes.max(content.len()), (n % 251) as u8);
        std::fs::write(folder.join((n % 100).to_string()), content).unwrap();
    }
    std::fs::create_dir_all(root.join("empty/inner")).unwrap();
    std::fs::write(root.join("large"), vec![7; 3_000_000]).unwrap();
}

/// Writers and readers that go on through a move. Every answer counts.
struct Load {
    stop: Arc<AtomicBool>,
    longest_ms: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<(u64, u64)>>,
}

impl Load {
    /// Each writer writes a file of its own again and again, and says the last number that was acknowledged.
    fn start(pair: &Pair, writers: usize) -> Self {
        let (stop, longest_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..writers).map(|writer| {
            let (stop, longest_ms) = (Arc::clone(&stop), Arc::clone(&longest_ms));
            let url = format!("http://{}", pair.source.plain());
            let (http, host) = (pair.source.http.clone(), pair.spec.hosts[0].clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut failed) = (0, 0);
                while !stop.load(SeqCst) {
                    let began = Instant::now();
                    let next = acknowledged + 1;
                    let put = http.put(format!("{url}/dav/files/w{writer}")).header("host", &host);
                    let put = put.basic_auth("any", Some(PASSWORD)).body(next.to_string()).send().await;
                    if put.is_ok_and(|answer| answer.status().is_success()) {
                        acknowledged = next;
                    } else {
                        failed += 1;
                    }
                    let get = http.get(format!("{url}/")).header("host", &host).send().await;
                    if !get.is_ok_and(|answer| answer.status() == 200) {
                        failed += 1;
                    }
                    longest_ms.fetch_max(began.elapsed().as_millis() as u64, SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                (acknowledged, failed)
            })
        });
        Self { stop: Arc::clone(&stop), longest_ms: Arc::clone(&longest_ms), tasks: tasks.collect() }
    }

    /// What each writer saw acknowledged last, and how many requests failed.
    async fn end(self) -> (Vec<u64>, u64, u64) {
        self.stop.store(true, SeqCst);
        let (mut acknowledged, mut failed) = (Vec::new(), 0);
        for task in self.tasks {
            let (last, failures) = task.await.unwrap();
            acknowledged.push(last);
            failed += failures;
        }
        (acknowledged, failed, self.longest_ms.load(SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_under_load_fails_no_request_and_loses_no_write() {
    moved_under_load(&Pair::new(1_000, 2_000).await).await;
}

/// The same over TLS: the copy, the new place's probe, and what the source forwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_between_public_doors_fails_no_request_and_loses_no_write() {
    moved_under_load(&Pair::with(Doors::Public, 1_000, 2_000).await).await;
}

async fn moved_under_load(pair: &Pair) {
    let cookie = crate::portal::sign_in(&pair.source, &pair.spec).await;
    let load = Load::start(pair, 4);
    let mut order = pair.order("job-1", false).await;
    pair.put(&order).await.unwrap();
    let status = pair.reached(MovePhase::InStep).await;
    assert!(status.files_total >= 1_001 && status.files_copied >= 1_001, "{status:?}");
    assert_eq!(pair.state(&pair.destination).await, StackState::Receiving);
    let hidden = pair.destination.visit("GET", &pair.spec.hosts[0], "/").send().await.unwrap();
    assert_eq!(hidden.status(), 404);
    let gone = pair.source.dav("DELETE", &pair.spec, "/dav/files/0/5").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    order.cut_over = true;
    pair.put(&order).await.unwrap();
    let status = pair.reached(MovePhase::Committed).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (acknowledged, failed, longest_ms) = load.end().await;
    assert_eq!(failed, 0);
    assert!(longest_ms <= 2_000, "{longest_ms} ms");
    for (writer, last) in acknowledged.into_iter().enumerate() {
        let path = format!("/dav/files/w{writer}");
        let there = text(pair.destination.dav("GET", &pair.spec, &path).send().await.unwrap()).await;
        assert_eq!(there.parse::<u64>().unwrap(), last, "writer {writer}");
        let through = text(pair.source.dav("GET", &pair.spec, &path).send().await.unwrap()).await;
        assert_eq!(through, there);
    }
    let certificate = status.certificate.unwrap();
    assert_eq!(certificate.source_hash, certificate.copy_hash);
    assert!(certificate.held_ms < 2_000, "{certificate:?}");
    let mut source = pair.source_files();
    let mut copy = pair.copied_files();
    source.retain(|name, _| !name.starts_with("files/w"));
    copy.retain(|name, _| !name.starts_with("files/w"));
    assert!(source == copy && !copy.contains_key("files/0/5") && copy.contains_key("files/empty/inner"));
    let portal = pair.source.visit("GET", &pair.spec.hosts[0], "/portal/").header("cookie", &cookie).send().await;
    assert_eq!(portal.unwrap().status(), 200, "a session survives the move");
    let again = pair.put(&order).await.unwrap();
    assert_eq!((again.phase, again.certificate.unwrap()), (MovePhase::Committed, certificate));
    // An order to receive that is late does not take the stack down.
    let late = StackSpec { wanted: Wanted::Receiving, ..pair.spec.clone() };
    assert_eq!(pair.destination.put_stack(&late).await.state, StackState::Serving);
    let removed = pair.source.ask(Method::DELETE, &format!("/v1/stacks/{}", pair.spec.client_id)).send().await.unwrap();
    assert_eq!(removed.status(), 204);
    assert_eq!(pair.source.visit("GET", &pair.spec.hosts[0], "/").send().await.unwrap().status(), 404);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Source,
    Destination,
    Both,
}

/// When the kill comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    After(Duration),
    /// The destination says that it is so far.
    Phase(MovePhase),
    /// The source has written its decision down, and perhaps nobody has heard of it.
    Decided,
}

impl Moment {
    async fn wait(self, pair: &Pair) {
        match self {
            Self::After(time) => tokio::time::sleep(time).await,
            Self::Phase(phase) => {
                let over = |status: &MoveStatus| status.phase == phase || status.phase == MovePhase::Committed;
                until(&format!("{phase:?}"), async || pair.status().await.filter(over)).await;
            }
            Self::Decided => {
                let file = pair.source.folder(&pair.spec).join("outgoing.json");
                let decided = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("sourceHash"));
                until("the decision", async || decided().then_some(())).await;
            }
        }
    }
}

/// Kills at a moment after the order, restarts, says the order again, and expects a whole move.
async fn killed(victim: Victim, moment: Moment) {
    let pair = Pair::new(300, 20_000).await;
    let order = pair.order("job-1", true).await;
    pair.put(&order).await.unwrap();
    moment.wait(&pair).await;
    let (source, destination) = (victim != Victim::Destination, victim != Victim::Source);
    if source {
        pair.source.kill();
    }
    if destination {
        pair.destination.kill();
    }
    if source {
        pair.source.restart().await;
    }
    if destination {
        pair.destination.restart().await;
    }
    pair.put(&order).await.unwrap();
    let status = pair.reached(MovePhase::Committed).await;
    pair.moved(&status).await;
    pair.source.kill();
    pair.source.restart().await;
    assert_eq!(pair.state(&pair.source).await, StackState::Forwarding, "for ever");
}

async fn killed_at_every_moment(victim: Victim) {
    let times = [0, 10, 25, 50, 75, 100, 150].map(|ms| Moment::After(Duration::from_millis(ms)));
    let phases = [MovePhase::Copying, MovePhase::CuttingOver, MovePhase::Committed].map(Moment::Phase);
    for moment in times.into_iter().chain(phases).chain([Moment::Decided]) {
        killed(victim, moment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_the_source_at_any_moment_ends_in_a_whole_move() {
    killed_at_every_moment(Victim::Source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_the_destination_at_any_moment_ends_in_a_whole_move() {
    killed_at_every_moment(Victim::Destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_both_at_any_moment_ends_in_a_whole_move() {
    killed_at_every_moment(Victim::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_before_the_commit_is_final() {
    let pair = Pair::new(20, 100).await;
    let mut order = pair.order("job-1", false).await;
    assert_eq!(order.ticket, pair.order("job-1", false).await.ticket);
    pair.put(&order).await.unwrap();
    pair.reached(MovePhase::InStep).await;
    assert_eq!(pair.abort("job-1").await, AbortAnswer::Aborted);
    assert_eq!(pair.abort("job-1").await, AbortAnswer::Aborted);
    order.cut_over = true;
    pair.put(&order).await.unwrap();
    let status = pair.reached(MovePhase::Failed).await;
    assert!(status.error.is_some() && status.certificate.is_none());
    assert!(pair.ticket("job-1").await.is_none());
    pair.source.kill();
    pair.source.restart().await;
    assert!(pair.ticket("job-1").await.is_none(), "for ever");
    assert_eq!(pair.state(&pair.source).await, StackState::Serving);
    assert_eq!(pair.source.store(&pair.spec, "/dav/files/on", "on").await, 201);
    // Another job may begin, and finds what is there already.
    pair.put(&pair.order("job-2", true).await).await.unwrap();
    let status = pair.reached(MovePhase::Committed).await;
    assert_eq!(status.files_copied, 1, "{status:?}");
    pair.moved(&status).await;
    assert_eq!(pair.abort("job-2").await, AbortAnswer::Committed);
    assert_eq!(pair.state(&pair.source).await, StackState::Forwarding);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_time_is_over_serves_again_and_its_commit_is_refused() {
    let pair = Pair::new(5, 10).await;
    let ticket = pair.order("job-1", false).await.ticket;
    let ask = |what: &str, body: serde_json::Value| {
        let url = format!("http://{}/v1/transfer/{}/job-1/{what}", pair.source.control, pair.spec.client_id);
        pair.source.http.post(url).bearer_auth(&ticket.secret).json(&body).send()
    };
    ask("changes", serde_json::json!({"epoch": "", "seq": 0})).await.unwrap();
    let began = Instant::now();
    let held = ask("hold", serde_json::json!({"maxHoldMs": 300})).await.unwrap();
    assert_eq!(held.status(), 200);
    let held: serde_json::Value = held.json().await.unwrap();
    let read = pair.source.visit("GET", &pair.spec.hosts[0], "/").send().await.unwrap();
    assert!(read.status() == 200 && began.elapsed() < Duration::from_millis(300), "reads do not wait");
    assert_eq!(pair.source.store(&pair.spec, "/dav/files/held", "x").await, 201);
    assert!(began.elapsed() >= Duration::from_millis(300), "writes do");
    let commit = serde_json::json!({"holdId": held["holdId"], "front": pair.destination.front, "copy": held["sums"], "rounds": 1, "heldFiles": 0});
    assert_eq!(ask("commit", commit).await.unwrap().status(), 409);
    assert_eq!(pair.state(&pair.source).await, StackState::Serving);
    // A commit of a copy that differs is refused too, and by a stranger everything is.
    let held: serde_json::Value =
        ask("hold", serde_json::json!({"maxHoldMs": 5_000})).await.unwrap().json().await.unwrap();
    let mut sums = held["sums"].clone();
    sums["files"] = 99.into();
    let commit = serde_json::json!({"holdId": held["holdId"], "front": pair.destination.front, "copy": sums, "rounds": 1, "heldFiles": 0});
    assert_eq!(ask("commit", commit).await.unwrap().status(), 409);
    let url = format!("http://{}/v1/transfer/{}/job-1/changes", pair.source.control, pair.spec.client_id);
    for secret in ["wrong", KEY] {
        assert_eq!(pair.source.http.post(&url).bearer_auth(secret).json(&0).send().await.unwrap().status(), 410);
    }
    assert_eq!(pair.source.store(&pair.spec, "/dav/files/on", "x").await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_delays_the_cut_over_and_is_not_lost() {
    let pair = Pair::new(5, 10).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<bytes::Bytes>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let upload = tokio::spawn(pair.source.dav("PUT", &pair.spec, "/dav/files/slow").body(body).send());
    sender.send(Ok("first ".into())).await.unwrap();
    pair.put(&pair.order("job-1", true).await).await.unwrap();
    let busy = async || pair.status().await?.error.filter(|error| error.contains("write takes too long"));
    until("the hold is let go of", busy).await;
    assert_eq!(pair.state(&pair.source).await, StackState::Serving);
    sender.send(Ok("last".into())).await.unwrap();
    drop(sender);
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
    let status = pair.reached(MovePhase::Committed).await;
    pair.moved(&status).await;
    assert_eq!(pair.copied_files()["files/slow"].as_ref().unwrap().0, b"first last");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_copied_over_a_stack_that_serves() {
    let pair = Pair::new(5, 10).await;
    pair.destination.put_stack(&pair.spec).await;
    let order = pair.order("job-1", true).await;
    let refused = pair.destination.ask(Method::PUT, &pair.path("move")).json(&order).send().await.unwrap();
    assert_eq!(refused.status(), 409);
    assert!(pair.status().await.is_none());
}

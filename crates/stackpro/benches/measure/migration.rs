//! A move of 10,000 files and 500 MB while 50 requests a second read and write: nothing fails, nothing is
//! lost, nobody waits long. Beside it ten times the data: the hold must not grow with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stackpro_testkit::{PASSWORD, Person, Portal, TestApp, eventually};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{line, ms, percentile, product, quick};

const FILES: u64 = 10_000;
const BYTES: u64 = 500_000_000;
const PER_SECOND: u32 = 50;
const LONGEST: Duration = Duration::from_secs(2);
const ABREAST: usize = 16;
/// Paths that the load writes again and again.
const SLOTS: u64 = 20;

pub(crate) async fn measure() -> Value {
    let scale = if quick() { 1 } else { 10 };
    let one = move_with(if quick() { FILES / 20 } else { FILES }, if quick() { BYTES / 20 } else { BYTES }).await;
    let mut pass = one.is_good();
    let mut figures = one.figures();
    if !quick() {
        let ten = move_with(FILES * scale, BYTES * scale).await;
        // A hold is a few round trips and what changed during the last of them, whatever else there is.
        let same_hold = ten.held_ms <= 2 * one.held_ms + 100;
        pass = pass && ten.is_good() && same_hold;
        figures["tenTimes"] = ten.figures();
        figures["holdDoesNotGrow"] = same_hold.into();
    }
    line("migration", pass, figures)
}

struct Moved {
    files: u64,
    bytes: u64,
    requests: usize,
    failed: u64,
    lost: u64,
    longest: Duration,
    p99: Duration,
    held_ms: u64,
    held_files: u64,
    took: Duration,
}

impl Moved {
    fn is_good(&self) -> bool {
        self.failed == 0 && self.lost == 0 && self.longest <= LONGEST
    }

    fn figures(&self) -> Value {
        json!({
            "files": self.files, "bytes": self.bytes, "requests": self.requests, "failed": self.failed,
            "lostOrChanged": self.lost, "longestMs": ms(self.longest), "p99Ms": ms(self.p99),
            "heldMs": self.held_ms, "heldFiles": self.held_files, "tookMs": ms(self.took),
        })
    }
}

/// Everything that was acknowledged, as it must be found: path → seed and length of the content.
type Acknowledged = Mutex<BTreeMap<String, (u64, usize)>>;

struct Site {
    app: TestApp,
    url: String,
    portal: Portal,
    acknowledged: Acknowledged,
    failed: AtomicU64,
    /// Dropped after the app, which reads its plans until the end.
    _plans: tempfile::TempDir,
}

async fn move_with(files: u64, bytes: u64) -> Moved {
    let (site, mut person) = filled(files, bytes).await;
    let (stop, stopped) = watch::channel(false);
    let loading = tokio::spawn(load(Arc::clone(&site), stopped));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    person.token = site.app.log_in(&person.email).await;
    site.app.pay(&person, "starter").await;
    let certificate = certificate(&site.app, &person).await;
    let took = began.elapsed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _ = stop.send(true);
    let times = loading.await.expect("the load ends");
    let lost = lost(&site).await;
    let figure = |name: &str| certificate[name].as_u64().expect("a figure of the certificate");
    Moved {
        files: figure("files"),
        bytes: figure("bytes"),
        requests: times.len(),
        failed: site.failed.load(Ordering::Relaxed),
        lost,
        longest: percentile(&times, 1.0),
        p99: percentile(&times, 0.99),
        held_ms: figure("heldMs"),
        held_files: figure("heldFiles"),
        took,
    }
}

/// A client with that much data, written through their own site.
async fn filled(files: u64, bytes: u64) -> (Arc<Site>, Person) {
    let folder = tempfile::tempdir().expect("a folder");
    let plans = folder.path().join("plans.toml");
    std::fs::write(&plans, roomy_plans()).expect("the plans are written");
    let app = product().env("STACKPRO_PLANS", plans.display()).start().await;
    let person = app.ready_client("Acme Law").await;
    let url = app.deployment(&person).await["url"].as_str().expect("an address").to_owned();
    let browser = app.browser();
    browser.log_in(&person.email, PASSWORD).await;
    let portal = browser.portal(&person.client).await;
    let (acknowledged, failed) = (Mutex::default(), AtomicU64::new(0));
    let site = Arc::new(Site { app, url, portal, acknowledged, failed, _plans: folder });
    let length = (bytes / files) as usize;
    for folder in (0..files.div_ceil(500)).map(|n| format!("{n:03}")).chain(["load".to_owned()]) {
        site.app.make_folder(&site.url, &site.portal, &format!("files/{folder}")).await;
    }
    let writes = (0..files).map(|number| {
        let site = Arc::clone(&site);
        async move { site.put(format!("files/{:03}/{number}.bin", number / 500), number, length).await }
    });
    let acknowledged =
        futures::stream::iter(writes).buffer_unordered(ABREAST).filter(|ok| std::future::ready(*ok)).count().await;
    assert_eq!(acknowledged as u64, files, "the client's data was not stored");
    (site, person)
}

/// The product's own plans, with room for more than a trial has.
fn roomy_plans() -> String {
    let mut plans: toml::Table = stackpro_domain::plan::DEFAULT_PLANS.parse().expect("the plans");
    plans["trial"]["limits"].as_table_mut().expect("limits").remove("storage_bytes");
    plans.to_string()
}

impl Site {
    async fn put(&self, path: String, seed: u64, length: usize) -> bool {
        let status = self.app.put_file(&self.url, &self.portal, &path, content(seed, length)).await;
        if status.is_success() {
            self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(path, (seed, length));
        }
        status.is_success()
    }

    /// A file that was acknowledged and is not written again.
    fn something(&self, number: u64) -> (String, (u64, usize)) {
        let known = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let from = format!("files/{:03}/", number * 7 % 20);
        let found = known.range(from..).find(|(path, _)| !path.contains("/slot-"));
        found.or(known.iter().next()).map(|(path, fact)| (path.clone(), *fact)).expect("something was stored")
    }

    async fn holds(&self, path: &str, (seed, length): (u64, usize)) -> bool {
        let (status, found) = self.app.get_file(&self.url, &self.portal, path).await;
        status == StatusCode::OK && found == content(seed, length)
    }
}

/// The same for the same seed, and nothing that a copy could guess.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Requests at a fixed rate, however slowly they are answered. Returns how long each took.
async fn load(site: Arc<Site>, stopped: watch::Receiver<bool>) -> Vec<Duration> {
    let mut requests = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let slots: Arc<Vec<tokio::sync::Mutex<()>>> = Arc::new((0..SLOTS).map(|_| tokio::sync::Mutex::default()).collect());
    let mut number = 0;
    while !*stopped.borrow() {
        ticks.tick().await;
        number += 1;
        requests.spawn(one_request(Arc::clone(&site), Arc::clone(&slots), number));
    }
    requests.join_all().await
}

/// A page, a new file, a file written anew, or a file read again.
async fn one_request(site: Arc<Site>, slots: Arc<Vec<tokio::sync::Mutex<()>>>, number: u64) -> Duration {
    let slot = number / 4 % SLOTS;
    // Two writes of one path at once have no right outcome; they wait for each other before the clock starts.
    let _turn = if number % 4 == 2 { Some(slots[slot as usize].lock().await) } else { None };
    let began = Instant::now();
    let good = match number % 4 {
        0 => {
            let page = site.app.at_host(Method::GET, &site.url, "/").send().await;
            page.is_ok_and(|page| page.status() == StatusCode::OK)
        }
        1 => site.put(format!("files/load/new-{number}.bin"), number, 2_000).await,
        2 => site.put(format!("files/load/slot-{slot}.bin"), number, 2_000).await,
        _ => {
            let (path, fact) = site.something(number);
            site.holds(&path, fact).await
        }
    };
    if !good {
        site.failed.fetch_add(1, Ordering::Relaxed);
    }
    began.elapsed()
}

/// Waits for the end of the move and returns its certificate. Asks the command line: a token would not
/// live long enough.
async fn certificate(app: &TestApp, person: &Person) -> Value {
    eventually("the client has moved", Duration::from_mins(10), async || {
        let shown = app.command_json(&["clients", "show", &person.client, "--json"]);
        let moved = shown["stack"] == "ready" && shown["instance"]["kind"] == "dedicated";
        tokio::time::sleep(Duration::from_millis(200)).await;
        moved.then(|| shown["certificate"].clone())
    })
    .await
}

/// Files that are not what was acknowledged.
async fn lost(site: &Arc<Site>) -> u64 {
    let known: Vec<_> = site.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone().into_iter().collect();
    let reads = known.into_iter().map(|(path, fact)| {
        let site = Arc::clone(site);
        async move { site.holds(&path, fact).await }
    });
    let wrong = futures::stream::iter(reads).buffer_unordered(ABREAST).filter(|ok| std::future::ready(!*ok));
    wrong.count().await as u64
}

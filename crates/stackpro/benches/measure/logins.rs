//! Log-ins against the rate at which this machine can hash with argon2id at all, measured in the same run;
//! and what other requests feel while log-ins wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stackpro_server::auth::password::Passwords;
use stackpro_testkit::{PASSWORD, Person, TestApp};

use crate::{line, ms, percentile, product, quick, rounded};

/// Log-ins that an account is allowed in ten minutes, less two for what is uncertain.
const EACH: f64 = 8.0;
/// Log-ins that wait at once: enough to keep the hashing threads busy, fewer than the queue takes.
const AT_ONCE: usize = 16;
/// More than the queue takes.
const BURST: usize = 200;
const PROBE_EVERY: Duration = Duration::from_millis(20);

fn run_time() -> Duration {
    Duration::from_secs(if quick() { 2 } else { 8 })
}

pub(crate) async fn measure() -> Value {
    // Each log-in pretends to come from an address of its own, as real ones do.
    let trusted = r#"["127.0.0.1"]"#;
    let app = product().env("STACKPRO_TRUSTED_PROXIES", trusted).env("STACKPRO_WARM_PLACES", 0).start().await;
    let app = Arc::new(app);
    let before = hash_rate().await;
    let wanted = before * 2.0 * run_time().as_secs_f64();
    let people = accounts(&app, (wanted / EACH).ceil() as usize).await;
    let (rate, probes) = log_ins(&app, &people).await;
    let possible = hash_rate().await.max(before);
    let (refused, others) = burst(&app).await;
    let share = rate / possible;
    let p99 = percentile(&probes, 0.99);
    let pass = share >= 0.9 && p99 <= Duration::from_millis(50) && refused > 0 && others == 0;
    let figures = json!({
        "share": rounded(share), "promised": 0.9, "loginsPerSecond": rounded(rate), "argon2idPerSecond": rounded(possible),
        "othersP99Ms": ms(p99), "othersLongestMs": ms(percentile(&probes, 1.0)), "others": probes.len(),
        "burst": BURST, "burstRefusedWithRetryAfter": refused, "burstFailedOtherwise": others,
    });
    line("logins", pass, figures)
}

async fn accounts(app: &Arc<TestApp>, count: usize) -> Vec<Person> {
    let sign_ups = (0..count).map(|number| {
        let app = Arc::clone(app);
        async move { app.sign_up(&format!("Company {number}")).await }
    });
    let people: Vec<Person> = futures::stream::iter(sign_ups).buffer_unordered(4).collect().await;
    for person in &people {
        app.wait_for(person, "ready", "shared").await;
    }
    people
}

/// What all cores together hash a second when they do nothing else, with the product's own parameters.
async fn hash_rate() -> f64 {
    let passwords = Passwords::start(2 * AT_ONCE).expect("hashing threads");
    let counted = AtomicU64::new(0);
    let began = Instant::now();
    let worker = async || {
        while began.elapsed() < run_time() / 2 {
            passwords.hash(PASSWORD.to_owned()).await.expect("a hash");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    };
    futures::future::join_all((0..AT_ONCE).map(|_| worker())).await;
    counted.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

async fn log_in(app: &TestApp, person: &Person, number: u64) -> reqwest::Response {
    let address = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
    let body = json!({ "email": person.email, "password": PASSWORD });
    let request = app.post("/api/auth/login", &body).header("x-forwarded-for", address);
    request.send().await.expect("an answer to a log-in")
}

/// Log-ins a second, and how long other requests took meanwhile.
async fn log_ins(app: &Arc<TestApp>, people: &[Person]) -> (f64, Vec<Duration>) {
    let over = Arc::new(AtomicBool::new(false));
    let probing = tokio::spawn(probe(Arc::clone(app), people[0].clone(), Arc::clone(&over)));
    let began = Instant::now();
    let number = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let worker = async || {
        while began.elapsed() < run_time() {
            let at = number.fetch_add(1, Ordering::Relaxed);
            let answer = log_in(app, &people[at as usize % people.len()], at).await;
            assert_eq!(answer.status(), StatusCode::OK, "log-in {at}: {}", answer.text().await.expect("a body"));
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    futures::future::join_all((0..AT_ONCE).map(|_| worker())).await;
    let rate = done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    (rate, probing.await.expect("the probes end"))
}

/// Asks for a trial's state every so often, however slowly the last one was answered.
async fn probe(app: Arc<TestApp>, person: Person, over: Arc<AtomicBool>) -> Vec<Duration> {
    let mut probes = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(PROBE_EVERY);
    while !over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (app, person) = (Arc::clone(&app), person.clone());
        probes.spawn(async move {
            let began = Instant::now();
            let path = format!("/api/trial-status/{}", person.client);
            let answer = app.as_person(&person, Method::GET, &path).send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            began.elapsed()
        });
    }
    probes.join_all().await
}

/// Far more log-ins than may wait: how many were told to come back later, and how many failed otherwise.
/// Nobody has these addresses, which takes as long to find out as a wrong password.
async fn burst(app: &Arc<TestApp>) -> (usize, usize) {
    let nobody = |number| Person {
        client: String::new(),
        email: format!("nobody{number}@acme.example"),
        token: String::new(),
        dashboard_url: String::new(),
    };
    let answers = (0..BURST).map(|number| async move { log_in(app, &nobody(number), 1_000_000 + number as u64).await });
    let (mut refused, mut others) = (0, 0);
    for answer in futures::future::join_all(answers).await {
        match answer.status() {
            StatusCode::UNAUTHORIZED => {}
            StatusCode::SERVICE_UNAVAILABLE if answer.headers().contains_key("retry-after") => refused += 1,
            _ => others += 1,
        }
    }
    (refused, others)
}

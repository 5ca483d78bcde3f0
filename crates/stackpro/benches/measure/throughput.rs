//! One core, SQLite: requests a second as a share of a bare axum route that answers the same bytes, in the
//! same run, in turns.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use stackpro_domain::Time;
use stackpro_server::secrets::Secrets;
use stackpro_server::till::signature::sign;
use stackpro_testkit::TestApp;

use crate::bare::Bare;
use crate::load::{SERVER_CORE, median, wrk};
use crate::{line, product, quick, rounded};

const ROUNDS: usize = 5;

fn round_time() -> Duration {
    Duration::from_secs(if quick() { 1 } else { 3 })
}

pub(crate) async fn dashboard() -> Value {
    reading("dashboard", "/api/dashboard/", 0.4).await
}

pub(crate) async fn trial_status() -> Value {
    reading("trial-status", "/api/trial-status/", 0.4).await
}

async fn reading(name: &str, path: &str, promised: f64) -> Value {
    let app = product().pinned_to(SERVER_CORE).start().await;
    let person = app.ready_client("Acme Law").await;
    let path = format!("{path}{}", person.client);
    let answer = app.as_person(&person, Method::GET, &path).send().await.expect("an answer");
    let body = answer.bytes().await.expect("a body");
    let header = [format!("Authorization: Bearer {}", person.token)];
    compare(name, promised, &body, |url| (url.unwrap_or_else(|| app.url(&path)), header.to_vec(), None), body.len())
}

/// Measures the bare route and ours in turns, so that what else the machine does hits both.
fn compare(
    name: &str,
    promised: f64,
    body: &[u8],
    request: impl Fn(Option<String>) -> (String, Vec<String>, Option<std::path::PathBuf>),
    bytes: usize,
) -> Value {
    let bare = Bare::start(body);
    let (mut theirs, mut ours, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (url, headers, script) = request(Some(bare.url.clone()));
        let reference = wrk(&url, &headers, script.as_deref(), round_time());
        let (url, headers, script) = request(None);
        let rate = wrk(&url, &headers, script.as_deref(), round_time());
        theirs.push(reference);
        ours.push(rate);
        shares.push(rate / reference);
    }
    let share = median(shares);
    let figures = json!({
        "share": rounded(share), "promised": promised, "perSecond": median(ours).round(),
        "barePerSecond": median(theirs).round(), "bytes": bytes,
    });
    line(name, share >= promised, figures)
}

/// More than any round sends: no event is told twice.
const EVENTS: usize = 60_000;
const KEY: [u8; 32] = [7; 32];

/// Signed events, each another one, each committed before it is answered.
pub(crate) async fn webhooks() -> Value {
    let app = product().pinned_to(SERVER_CORE).env("STACKPRO_SECRET_KEY", "07".repeat(32)).start().await;
    app.ready_client("Acme Law").await;
    let folder = app.data().join("webhooks");
    std::fs::create_dir_all(&folder).expect("a folder");
    let round = std::cell::Cell::new(0);
    let script = |round: usize| {
        let file = folder.join(format!("round-{round}.lua"));
        write_script(&file, round);
        Some(file)
    };
    // As ours answers a good event.
    let body = tell_one(&app).await;
    let mut line = compare(
        "webhooks",
        0.1,
        &body,
        |url| {
            round.set(round.get() + 1);
            (url.unwrap_or_else(|| app.url("/api/stripe-webhook")), Vec::new(), script(round.get()))
        },
        body.len(),
    );
    line["event"] = EVENT_KIND.into();
    line
}

/// A kind that the simulated Stripe sends with every payment, and that moves no client's life.
const EVENT_KIND: &str = "payment_intent.succeeded";

fn event(number: impl std::fmt::Display) -> String {
    json!({
        "id": format!("evt_measure_{number}"), "object": "event", "type": EVENT_KIND, "created": 1_795_562_204,
        "livemode": false, "api_version": "2026-10-28.endive", "pending_webhooks": 1,
        "data": { "object": { "id": format!("pi_{number}"), "object": "payment_intent", "amount": 29_900,
            "currency": "usd", "customer": "cus_measure", "status": "succeeded", "metadata": {} } },
        "request": { "id": null, "idempotency_key": null },
    })
    .to_string()
}

fn signed(body: &str, now: Time) -> String {
    sign(body.as_bytes(), &Secrets::new(KEY).till_webhook_secret(), now)
}

fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

async fn tell_one(app: &TestApp) -> Vec<u8> {
    let body = event("first");
    let request = app.request(Method::POST, "/api/stripe-webhook").header("stripe-signature", signed(&body, now()));
    let answer = request.header("content-type", "application/json").body(body).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.text().await.expect("a body"));
    answer.bytes().await.expect("a body").to_vec()
}

/// A program for wrk that sends one prepared event after the other.
fn write_script(file: &Path, round: usize) {
    let now = now();
    let mut events = String::new();
    for number in 0..if quick() { EVENTS / 4 } else { EVENTS } {
        let body = event(format!("{round}_{number}"));
        writeln!(events, "{}\t{body}", signed(&body, now)).expect("writing to memory");
    }
    let list = file.with_extension("txt");
    std::fs::write(&list, events).expect("the events are written");
    let program = format!(
        "local lines, at = {{}}, 0\n\
         for line in io.lines({:?}) do lines[#lines + 1] = line end\n\
         request = function()\n\
           at = at + 1\n\
           local signature, body = lines[(at - 1) % #lines + 1]:match('([^\\t]*)\\t(.*)')\n\
           local headers = {{ ['stripe-signature'] = signature, ['content-type'] = 'application/json' }}\n\
           return wrk.format('POST', nil, headers, body)\n\
         end\n",
        list.display().to_string()
    );
    std::fs::write(file, program).expect("the program is written");
}

//! 200 sign-ups at once on an account with nothing in it, where AWS takes its time and every service takes calls as
//! often as it is documented to and no oftener: all end ready, on no more instances than they need, and the account holds what the ledger says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use stackpro_flow::FlowState;
use stackpro_store::Timeline;
use stackpro_testkit::Person;
use stackpro_testkit::aws::{Behaviour, Latency, Moto, Recorded};

use crate::figures::{line, ms, percentile, quick};
use crate::journal;
use crate::site::Site;

/// For everybody to be ready: it ends a run that would never end, and is no promise.
const WITHIN: Duration = Duration::from_mins(20);
/// Forms that are on their way at the same time. Provisionings go on side by side, all of them.
const AT_ONCE: usize = 20;
/// On a shared instance.
const PLACES: usize = 10;
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Each service has its own word for "too many" (`crates/testkit/src/aws/faults.rs`).
const THROTTLED: [&str; 3] = ["RequestLimitExceeded", "Throttling", "TooManyRequestsException"];

pub(crate) async fn measure(moto: &Arc<Moto>) -> Value {
    let count = if quick() { 20 } else { 200 };
    let behaviour = Behaviour { latency: Some(Latency::realistic()), request_limits: true, ..Behaviour::default() };
    let site = Site::open(moto, behaviour, |product| product).await;
    site.is_prepared().await;
    let began = Instant::now();
    let sign_ups = futures::stream::iter((0..count).map(|number| sign_up(&site, number)));
    let asked_again: u64 = sign_ups.buffer_unordered(AT_ONCE).fold(0, async |sum, again| sum + again).await;
    let (provisions, over) = loop {
        let flows = journal::flows(&site).await;
        let provisions: Vec<_> = flows.into_iter().filter(|timeline| timeline.flow.kind == "provision").collect();
        let over = provisions.iter().filter(|timeline| is_over(timeline)).count();
        if over == count || began.elapsed() > WITHIN {
            break (provisions, over);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let took = began.elapsed();
    let done = provisions.iter().filter(|timeline| timeline.flow.state == FlowState::Done);
    let times: Vec<Duration> = done.filter_map(time_of).collect();
    if times.len() == count {
        // Instances that are launched ahead, too; and a panic tells what differs.
        site.app.at_rest().await;
        site.tally().await;
    }
    let calls = site.account.calls();
    let by_action = counted(calls.iter());
    let throttled = counted(calls.iter().filter(|made| is_throttled(made)));
    // As many as they need places, and the one that is launched ahead.
    let instances = site.account.inventory().await.instances.len();
    let needed = count.div_ceil(PLACES) + 1;
    let causes: Vec<_> = provisions.iter().filter_map(|timeline| timeline.flow.cause.clone()).take(5).collect();
    let figures = json!({
        "signUps": count, "ready": times.len(), "failed": over - times.len(), "causes": causes, "instances": instances,
        "instancesBound": needed, "tookMs": ms(took),
        "p50Ms": ms(percentile(&times, 0.5)), "p99Ms": ms(percentile(&times, 0.99)), "calls": calls.len(),
        "callsByAction": by_action,
        "throttled": throttled.values().sum::<u64>(), "throttledByAction": throttled, "askedAgain": asked_again,
    });
    line("aws-burst", times.len() == count && instances <= needed, figures)
}

/// As a form does that is told to wait: how often it had to ask again.
async fn sign_up(site: &Site, number: usize) -> u64 {
    let form = Person::form(&format!("Company {number}"));
    let mut again = 0;
    loop {
        let answer = site.app.post("/api/auth/signup", &form).send().await.expect("an answer to a sign-up");
        if answer.status() == StatusCode::CREATED {
            return again;
        }
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text().await.unwrap_or_default());
        let wait = answer.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
        tokio::time::sleep(Duration::from_secs(wait.expect("when to ask again"))).await;
        again += 1;
    }
}

fn is_over(timeline: &Timeline) -> bool {
    timeline.flow.state.is_over() || timeline.flow.state == FlowState::Parked
}

fn time_of(timeline: &Timeline) -> Option<Duration> {
    let flow = &timeline.flow;
    Some(Duration::from_millis(flow.finished_at?.ms().abs_diff(flow.created_at.ms())))
}

fn counted<'a>(calls: impl Iterator<Item = &'a Recorded>) -> BTreeMap<&'a str, u64> {
    let mut counts = BTreeMap::new();
    for made in calls {
        *counts.entry(made.call.name.as_str()).or_default() += 1;
    }
    counts
}

fn is_throttled(made: &Recorded) -> bool {
    made.code.as_deref().is_some_and(|code| THROTTLED.contains(&code))
}

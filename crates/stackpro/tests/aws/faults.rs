//! Each call of each flow goes wrong in each way that a call can. The flow ends right all the same, and the
//! account holds what the ledger says: nothing else, and nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use stackpro_testkit::aws::{Event, Fault, Moto};
use stackpro_testkit::eventually;

use crate::in_parallel;
use crate::site::WITHIN;
use crate::stages::{Calls, Journey, PATIENCE, STAGES, Stage, at, longest, recorded};

const FAULTS: [Fault; 7] = [
    Fault::Throttled,
    Fault::ServerError,
    Fault::Wordless,
    Fault::DroppedBefore,
    Fault::DroppedAfter,
    // Slower than anyone waits.
    Fault::Slow(Duration::from_secs(PATIENCE.as_secs() + 2)),
    Fault::Expired,
];
const SIDE_BY_SIDE: usize = 3;

#[test]
fn each_call_may_go_wrong_in_any_way() {
    let moto = Arc::new(Moto::start());
    let calls = recorded(&moto);
    let all = longest(&calls);
    let name = |number| format!("{:?} {}", FAULTS[number / all], at(&calls, number % all));
    let met = Met::default();
    // One of each kind is drawn.
    in_parallel(SIDE_BY_SIDE, FAULTS.len(), FAULTS.len() * all, name, |number| {
        one(&moto, &calls, number % all, FAULTS[number / all], &met)
    });
    // Where the machine was slow while calls were recorded, some are known that came by the clock or again.
    let (came, missed) = (met.came.load(Relaxed), met.missed.load(Relaxed));
    assert!(missed * 10 <= came, "{missed} calls did not come, {came} did");
}

/// How many of the calls that were to go wrong did.
#[derive(Default)]
struct Met {
    came: AtomicUsize,
    missed: AtomicUsize,
}

/// A journey in which the call of this number goes wrong in every stage that has one.
async fn one(moto: &Arc<Moto>, calls: &Calls, number: usize, fault: Fault, met: &Met) {
    let mut journey = Journey::open(moto).await;
    for stage in STAGES {
        let point = calls[&stage].get(number);
        if let Some(point) = point {
            journey.plan(point, Event::Fault(fault));
        }
        journey.begin(stage).await;
        journey.end(stage).await;
        let left = journey.site.account.unplan();
        if let Some(point) = point.filter(|point| !point.by_the_clock) {
            let counter = if left == 0 { &met.came } else { &met.missed };
            counter.fetch_add(1, Relaxed);
            if left > 0 {
                println!("{stage:?}: {point:?} did not come");
            }
        }
        journey.site.tally().await;
    }
}

const REMOVE: &str = "iam.RemoveRoleFromInstanceProfile";

/// Nobody tries for ever in silence: after some attempts a person is asked, and goes on when it works again.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_succeeds_stops_its_flow_with_the_cause() {
    let mut journey = Journey::open(&Arc::new(Moto::start())).await;
    for stage in [Stage::Start, Stage::Launch, Stage::Migrate] {
        journey.begin(stage).await;
        journey.end(stage).await;
    }
    for nth in 1..=100 {
        journey.site.account.plan(REMOVE, nth, Event::Fault(Fault::Wordless));
    }
    journey.begin(Stage::Delete).await;
    let app = &journey.site.app;
    let parked = eventually("the deletion is parked", WITHIN, async || {
        let flows = app.command_json(&["flows", "list", "--json"]);
        flows.as_array()?.iter().find(|flow| flow["state"] == "parked").cloned()
    })
    .await;
    let cause = parked["cause"].as_str().unwrap();
    assert!(parked["kind"] == "delete" && cause.contains(REMOVE) && cause.contains("500"), "{parked}");
    let attempts = 100 - journey.site.account.unplan();
    assert!((2..=10).contains(&attempts), "{attempts} attempts");
    let said = app.command(&["flows", "retry", parked["id"].as_str().unwrap()]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    journey.end(Stage::Delete).await;
    journey.site.tally().await;
}

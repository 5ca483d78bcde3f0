//! Each call of each flow goes wrong in each way that a call can. The flow ends right all the same, and the
//! account holds what the ledger says: nothing else, and nothing twice.

use std::sync::Arc;
use std::time::Duration;

use stackpro_testkit::aws::{Event, Fault, Moto};

use crate::in_parallel;
use crate::stages::{Calls, Journey, PATIENCE, STAGES, at, longest, recorded};

const FAULTS: [Fault; 6] = [
    Fault::Throttled,
    Fault::ServerError,
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
    // One of each kind is drawn.
    in_parallel(SIDE_BY_SIDE, FAULTS.len(), FAULTS.len() * all, name, |number| {
        one(&moto, &calls, number % all, FAULTS[number / all])
    });
}

/// A journey in which the call of this number goes wrong in every stage that has one.
async fn one(moto: &Arc<Moto>, calls: &Calls, number: usize, fault: Fault) {
    let mut journey = Journey::open(moto).await;
    for stage in STAGES {
        let point = calls[&stage].get(number);
        if let Some(point) = point {
            journey.plan(point, Event::Fault(fault));
        }
        journey.begin(stage).await;
        journey.end(stage).await;
        let left = journey.site.account.unplan();
        let missed = left > 0 && point.is_some_and(|point| !point.by_the_clock);
        assert!(!missed, "{stage:?}: {point:?} did not come");
        journey.site.tally().await;
    }
}

//! The server dies, as by kill -9, before and after every call to AWS; instances live on. What was begun ends
//! right, and the account holds what the ledger says: nothing else, and nothing twice.

use std::sync::Arc;

use stackpro_testkit::aws::{Event, Moment, Moto};

use crate::in_parallel;
use crate::stages::{Calls, Journey, STAGES, at, longest, recorded};

const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];
/// Most of their time is waiting for a dead server's leases.
const SIDE_BY_SIDE: usize = 4;

#[test]
fn the_server_dies_at_each_call() {
    let moto = Arc::new(Moto::start());
    let calls = recorded(&moto);
    let all = longest(&calls);
    let name = |number| format!("{:?} {}", MOMENTS[number / all], at(&calls, number % all));
    // Two of each kind are drawn.
    in_parallel(SIDE_BY_SIDE, 2 * MOMENTS.len(), MOMENTS.len() * all, name, |number| {
        one(&moto, &calls, number % all, MOMENTS[number / all])
    });
}

/// A journey in which the server dies at the call of this number, in every stage that has one.
async fn one(moto: &Arc<Moto>, calls: &Calls, number: usize, moment: Moment) {
    let mut journey = Journey::open(moto).await;
    for stage in STAGES {
        let Some(point) = calls[&stage].get(number) else {
            journey.begin(stage).await;
            journey.end(stage).await;
            continue;
        };
        journey.plan(point, Event::Kill(journey.site.app.info().pid, moment));
        journey.begin_and_die(stage).await;
        journey.end(stage).await;
        journey.site.tally().await;
    }
}

//! Flows as the server's own journal tells them.

use std::time::{Duration, Instant};

use stackpro_domain::Time;
use stackpro_store::Timeline;

use crate::site::Site;

/// All of them.
const LIMIT: u32 = 10_000;

/// Every flow that began so far, with its steps.
pub(crate) async fn flows(site: &Site) -> Vec<Timeline> {
    let store = site.store().await;
    let flows = store.flows(None, None, LIMIT).await.expect("flows are listed").rows;
    let flows = store.with_steps(flows).await.expect("flows have steps");
    store.close().await;
    flows
}

/// The journal's times on the clock by which calls are recorded.
pub(crate) struct Clocks {
    instant: Instant,
    ms: i64,
}

impl Clocks {
    pub(crate) fn now() -> Self {
        Self { instant: Instant::now(), ms: jiff::Timestamp::now().as_millisecond() }
    }

    pub(crate) fn at(&self, time: Time) -> Instant {
        let distance = Duration::from_millis(time.ms().abs_diff(self.ms));
        if time.ms() >= self.ms { self.instant + distance } else { earlier(self.instant, distance) }
    }
}

/// This process ran by then.
pub(crate) fn earlier(instant: Instant, by: Duration) -> Instant {
    instant.checked_sub(by).expect("the clock was not at its beginning")
}

//! From pressing the button to a stack that answers: 100 sign-ups, 20 at a time, on warm shared instances;
//! beside it one that has to wait for a new instance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use stackpro_testkit::{TestApp, eventually};

use crate::{line, ms, percentile, product, quick};

const AT_ONCE: usize = 20;
const COLD_RUNS: usize = 5;

pub(crate) async fn measure() -> Value {
    let count = if quick() { 20 } else { 100 };
    let warm = warm(count).await;
    let mut cold = Vec::new();
    for _ in 0..COLD_RUNS {
        // Nothing is launched ahead: the sign-up itself causes the first instance.
        let app = product().env("STACKPRO_WARM_PLACES", 0).start().await;
        cold.push(sign_up(&app, "Cold Ltd").await);
    }
    let (p50, p99) = (percentile(&warm, 0.5), percentile(&warm, 0.99));
    let pass = p50 <= Duration::from_secs(1) && p99 <= Duration::from_secs(3);
    let figures = json!({
        "signUps": count, "atOnce": AT_ONCE, "p50Ms": ms(p50), "p99Ms": ms(p99), "longestMs": ms(percentile(&warm, 1.0)),
        "coldP50Ms": ms(percentile(&cold, 0.5)), "coldLongestMs": ms(percentile(&cold, 1.0)),
    });
    line("signup", pass, figures)
}

async fn warm(count: usize) -> Vec<Duration> {
    let app = product().env("STACKPRO_WARM_PLACES", count).start().await;
    eventually("instances are warm", Duration::from_mins(2), async || {
        let flows = app.command_json(&["flows", "list", "--json"]);
        let flows = flows.as_array()?;
        let done = flows.iter().filter(|f| f["kind"] == "launch" && f["state"] == "done").count();
        (done >= count.div_ceil(10)).then_some(())
    })
    .await;
    let app = Arc::new(app);
    let sign_ups = (0..count).map(|number| {
        let app = Arc::clone(&app);
        async move { sign_up(&app, &format!("Company {number}")).await }
    });
    futures::stream::iter(sign_ups).buffer_unordered(AT_ONCE).collect().await
}

/// The time until the API says that the stack is ready, which it does only after a probe.
async fn sign_up(app: &TestApp, company: &str) -> Duration {
    let began = Instant::now();
    let person = app.sign_up(company).await;
    app.wait_for(&person, "ready", "shared").await;
    began.elapsed()
}

//! Waiting for something to become true, with a bound.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer; panics when `within` is over.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    // Soon at first, then less often, and no more than a quarter of the time: what is asked may be a whole process.
    let mut pause = Duration::from_millis(10);
    loop {
        let asked = Instant::now();
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(pause.max(asked.elapsed() * 3)).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(300));
    }
}

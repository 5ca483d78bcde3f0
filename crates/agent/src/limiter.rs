//! Slows down whoever tries passwords: failures are counted by the minute, per address and per stack.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(1);
/// Failures a minute from one address, and of a whole stack. The password itself is beyond guessing.
const PER_ADDRESS: u32 = 10;
const PER_STACK: u32 = 200;

#[derive(Default)]
pub(crate) struct Limiter(Mutex<Option<Window>>);

struct Window {
    began: Instant,
    failures: HashMap<IpAddr, u32>,
}

impl Limiter {
    /// Seconds to wait when there were too many failures.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Window { began, failures }) = window.as_ref() else { return Ok(()) };
        let left = WINDOW.saturating_sub(began.elapsed());
        if left.is_zero() {
            *window = None;
        } else if failures.get(&address).is_some_and(|count| *count >= PER_ADDRESS)
            || failures.values().sum::<u32>() >= PER_STACK
        {
            return Err(left.as_secs() + 1);
        }
        Ok(())
    }

    pub(crate) fn fail(&self, address: IpAddr) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert_with(|| Window { began: Instant::now(), failures: HashMap::new() });
        *window.failures.entry(address).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_failures_a_minute_and_no_more() {
        let limiter = Limiter::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..PER_ADDRESS {
            assert!(limiter.check(one).is_ok());
            limiter.fail(one);
        }
        assert_eq!(limiter.check(one), Err(61));
        assert!(limiter.check(other).is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(limiter.check(one).is_ok());
        (0..=255).for_each(|last| limiter.fail(IpAddr::from([10, 0, 1, last])));
        assert!(limiter.check(other).is_err());
    }
}

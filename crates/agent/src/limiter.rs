//! Slows down whoever does something too often: it is counted by the minute, per address and per stack.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(1);

/// How often it may be done in a minute.
#[derive(Clone, Copy)]
pub(crate) struct PerMinute {
    pub(crate) of_an_address: u32,
    pub(crate) in_all: u32,
}

pub(crate) struct Limiter {
    most: PerMinute,
    window: Mutex<Option<Window>>,
}

struct Window {
    began: Instant,
    counts: HashMap<IpAddr, u32>,
}

impl Limiter {
    pub(crate) fn new(most: PerMinute) -> Self {
        Self { most, window: Mutex::new(None) }
    }

    /// Seconds to wait when it was done too often.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Window { began, counts }) = window.as_ref() else { return Ok(()) };
        let left = WINDOW.saturating_sub(began.elapsed());
        if left.is_zero() {
            *window = None;
        } else if counts.get(&address).is_some_and(|count| *count >= self.most.of_an_address)
            || counts.values().sum::<u32>() >= self.most.in_all
        {
            return Err(left.as_secs() + 1);
        }
        Ok(())
    }

    pub(crate) fn count(&self, address: IpAddr) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert_with(|| Window { began: Instant::now(), counts: HashMap::new() });
        *window.counts.entry(address).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_often_a_minute_and_no_more() {
        let limiter = Limiter::new(PerMinute { of_an_address: 10, in_all: 200 });
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..10 {
            assert!(limiter.check(one).is_ok());
            limiter.count(one);
        }
        assert_eq!(limiter.check(one), Err(61));
        assert!(limiter.check(other).is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(limiter.check(one).is_ok());
        (0..=255).for_each(|last| limiter.count(IpAddr::from([10, 0, 1, last])));
        assert!(limiter.check(other).is_err());
    }
}

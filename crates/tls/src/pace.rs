//! When to order, so that no CA is ever asked more than it allows.

use stackpro_domain::Time;
use stackpro_domain::time::{DAY, HOUR, MINUTE};

use crate::Facts;
use crate::acme::AcmeError;

/// The longest pause between two orders.
const LONGEST: i64 = DAY;
/// The longest pause while the CA does not answer, or does not get to an end with an order.
const LONGEST_UNREACHABLE: i64 = 15 * MINUTE;
const LIMITED: i64 = HOUR;
/// So long before the end of a certificate the next one is ordered, unless its life is short.
const AHEAD: i64 = 30 * DAY;

/// The pause before a new order when so many have failed in a row: `first_ms`, and twice as long each time.
///
/// With Let's Encrypt's limit of 5 failed validations of a name in an hour, `first_ms` must be 4 minutes at
/// least (<https://letsencrypt.org/docs/rate-limits/>).
pub fn pause(first_ms: i64, failures: u32) -> i64 {
    let doubled = first_ms.max(1).saturating_mul(1 << failures.saturating_sub(1).min(30));
    doubled.min(LONGEST)
}

/// The pause after this error.
pub fn pause_after(error: &AcmeError, first_ms: i64, failures: u32) -> i64 {
    let pause = pause(first_ms, failures);
    match error {
        AcmeError::Refused(_) => pause,
        AcmeError::Limited(_) => pause.max(LIMITED),
        AcmeError::Unreachable(_) | AcmeError::Ours(_) => pause.min(LONGEST_UNREACHABLE),
    }
}

/// When to renew: 30 days before the end, or when two thirds of a short life are over.
pub fn renew_at(facts: &Facts) -> Time {
    let life = facts.not_after.since(facts.not_before);
    facts.not_after.plus(-(life / 3).min(AHEAD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyedChain;

    #[test]
    fn failures_in_an_hour_stay_below_the_limit() {
        let first = 4 * MINUTE;
        let (mut at, mut failures) = (0, 0);
        while at < HOUR {
            failures += 1;
            at += pause(first, failures);
        }
        assert!(failures < 5, "{failures} failed orders in an hour");
        assert_eq!(pause(first, 1_000_000), DAY);
        assert_eq!(pause(0, 1), 1);
        let unreachable = AcmeError::Unreachable(String::new());
        assert_eq!(pause_after(&unreachable, first, 40), 15 * MINUTE);
        assert_eq!(pause_after(&AcmeError::Limited(String::new()), first, 1), HOUR);
    }

    #[test]
    fn a_long_life_is_renewed_a_month_ahead_and_a_short_one_in_time() {
        let facts = KeyedChain::self_signed(&["a.example"]).unwrap().facts().unwrap();
        let lasting = |days: i64| Facts { not_before: Time(0), not_after: Time(days * DAY), ..facts.clone() };
        assert_eq!(renew_at(&lasting(90)), Time(60 * DAY));
        assert_eq!(renew_at(&lasting(365)), Time(335 * DAY));
        assert_eq!(renew_at(&lasting(6)), Time(4 * DAY));
    }
}

//! What Stripe should have charged, told a second time and independently of the simulated Stripe: from what
//! people did, by Stripe's documented rules (<https://docs.stripe.com/billing/subscriptions/billing-cycle>).

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use stackpro_domain::plan::Interval;
use stackpro_domain::time::DAY;
use stackpro_domain::{Cents, Time};

/// A failed renewal is tried again so many days after it; then the subscription ends.
const TRIES_DAYS: [i64; 4] = [0, 3, 8, 15];

/// One subscription, as those who pay see it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) price: Cents,
    pub(crate) interval: Interval,
    /// When it was paid for the first time: the anchor of all periods.
    pub(crate) since: Time,
    /// Renewals fail, and from when on they don't.
    pub(crate) card_fails: bool,
    pub(crate) repaired_at: Option<Time>,
    /// From when on no further period is wanted, and from when on one is after all.
    pub(crate) cancelled: Vec<(Time, bool)>,
    /// We ended it, because the client was deleted.
    pub(crate) ended_at: Option<Time>,
}

impl Account {
    /// What was charged until `now`, the first payment included, and whether it goes on.
    pub(crate) fn charged(&self, now: Time) -> (Cents, bool) {
        let mut total = self.price.0;
        for period in 1.. {
            let at = self.period_start(period);
            if at > now {
                return (Cents(total), self.ended_at.is_none_or(|end| end > now));
            }
            if self.ended_at.is_some_and(|end| end <= at) || self.is_cancelled(at) {
                return (Cents(total), false);
            }
            match self.paid_at(at) {
                Some(paid) if paid <= now && self.ended_at.is_none_or(|end| paid < end) => total += self.price.0,
                Some(_) => return (Cents(total), self.ended_at.is_none_or(|end| end > now)),
                None => {
                    let last = at.plus(TRIES_DAYS[TRIES_DAYS.len() - 1] * DAY);
                    return (Cents(total), last > now && self.ended_at.is_none_or(|end| end > now));
                }
            }
        }
        (Cents(total), false)
    }

    /// Of the renewal at `at`: when its payment succeeded; never, when the card was repaired too late.
    fn paid_at(&self, at: Time) -> Option<Time> {
        if !self.card_fails {
            return Some(at);
        }
        let repaired = self.repaired_at?;
        // A new card pays at once what is overdue.
        let paid = at.max(repaired);
        (paid <= at.plus(TRIES_DAYS[TRIES_DAYS.len() - 1] * DAY)).then_some(paid)
    }

    fn is_cancelled(&self, at: Time) -> bool {
        self.cancelled.iter().rev().find(|(when, _)| *when <= at).is_some_and(|(_, cancels)| *cancels)
    }

    /// Periods begin on the anchor's day and hour, or on the month's last day where there is no such day. In whole
    /// seconds, as Stripe counts.
    fn period_start(&self, period: i64) -> Time {
        let anchor = Timestamp::from_second(self.since.ms().div_euclid(1000)).unwrap_or_default();
        let months = if self.interval == Interval::Month { period } else { 12 * period };
        let moved = anchor.to_zoned_datetime(TimeZone::UTC).checked_add(Span::new().months(months));
        Time(moved.map_or(i64::MAX, |moved| moved.timestamp().as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(since: &str) -> Account {
        let since = Time(since.parse::<Timestamp>().unwrap().as_millisecond());
        Account {
            price: Cents(100),
            interval: Interval::Month,
            since,
            card_fails: false,
            repaired_at: None,
            cancelled: Vec::new(),
            ended_at: None,
        }
    }

    fn at(text: &str) -> Time {
        Time(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn each_period_is_charged_once_when_it_begins() {
        let account = account("2026-01-31T10:00:00Z");
        assert_eq!(account.charged(at("2026-02-28T09:59:59Z")), (Cents(100), true));
        assert_eq!(account.charged(at("2026-02-28T10:00:00Z")), (Cents(200), true));
        assert_eq!(account.charged(at("2026-03-31T10:00:00Z")), (Cents(300), true));
    }

    #[test]
    fn a_cancelled_one_ends_with_its_period_unless_they_change_their_mind() {
        let mut account = account("2026-01-01T00:00:00Z");
        account.cancelled.push((at("2026-01-20T00:00:00Z"), true));
        assert_eq!(account.charged(at("2026-01-25T00:00:00Z")), (Cents(100), true));
        assert_eq!(account.charged(at("2026-06-01T00:00:00Z")), (Cents(100), false));
        account.cancelled.push((at("2026-01-30T00:00:00Z"), false));
        assert_eq!(account.charged(at("2026-02-15T00:00:00Z")), (Cents(200), true));
    }

    #[test]
    fn a_card_that_fails_is_charged_when_it_is_repaired_in_time() {
        let mut account = Account { card_fails: true, ..account("2026-01-01T00:00:00Z") };
        assert_eq!(account.charged(at("2026-02-10T00:00:00Z")), (Cents(100), true));
        assert_eq!(account.charged(at("2026-02-16T00:00:00Z")), (Cents(100), false));
        account.repaired_at = Some(at("2026-02-10T00:00:00Z"));
        assert_eq!(account.charged(at("2026-02-09T00:00:00Z")), (Cents(100), true));
        assert_eq!(account.charged(at("2026-02-16T00:00:00Z")), (Cents(200), true));
        account.repaired_at = Some(at("2026-02-17T00:00:00Z"));
        assert_eq!(account.charged(at("2026-03-16T00:00:00Z")), (Cents(100), false));
    }
}

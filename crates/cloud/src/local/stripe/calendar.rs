//! Billing periods: months and years counted from an anchor, in UTC.
//!
//! Stripe keeps the anchor's day and takes the month's last day where that day does not exist, so that
//! 31 January is followed by 28 February and 31 March
//! (<https://docs.stripe.com/billing/subscriptions/billing-cycle>).

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{Span, Timestamp};

fn civil(at: i64) -> DateTime {
    Offset::UTC.to_datetime(Timestamp::from_second(at).unwrap_or_default())
}

/// `anchor` and `times` intervals later, all in seconds. The last instant that can be told, if it is later.
fn step(anchor: i64, interval: &str, times: i64) -> i64 {
    let span = match interval {
        "day" => Span::new().try_days(times),
        "week" => Span::new().try_weeks(times),
        "month" => Span::new().try_months(times),
        _ => Span::new().try_years(times),
    };
    let moved = span.and_then(|span| civil(anchor).checked_add(span)).and_then(|moved| Offset::UTC.to_timestamp(moved));
    moved.map_or(i64::MAX, Timestamp::as_second)
}

/// The first end of a period of the cycle of `anchor` that is later than `after`.
pub(super) fn period_end(anchor: i64, after: i64, interval: &str, count: i64) -> i64 {
    let days = match interval {
        "day" => 1,
        "week" => 7,
        "month" => 31,
        _ => 366,
    };
    let longest = count.max(1) * days * 86_400;
    // No period is longer than this, so fewer cannot have passed.
    let mut times = (after - anchor).max(0) / longest;
    loop {
        let end = step(anchor, interval, times * count.max(1));
        if end > after {
            return end;
        }
        times += 1;
    }
}

/// The same day and hour so many months later, or that month's last day.
pub(super) fn months_later(at: i64, months: i64) -> i64 {
    step(at, "month", months)
}

pub(super) fn year_month(at: i64) -> (i64, i64) {
    let date = civil(at);
    (i64::from(date.year()), i64::from(date.month()))
}

/// `24 Nov 2026`
pub(super) fn date(at: i64) -> String {
    civil(at).strftime("%-d %b %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn the_anchor_day_survives_short_months() {
        let anchor = at("2026-01-31T10:00:00Z");
        let mut ends = Vec::new();
        let mut end = anchor;
        for _ in 0..4 {
            end = period_end(anchor, end, "month", 1);
            ends.push(date(end));
        }
        assert_eq!(ends, ["28 Feb 2026", "31 Mar 2026", "30 Apr 2026", "31 May 2026"]);
    }

    #[test]
    fn a_leap_day_comes_back_after_four_years() {
        let anchor = at("2024-02-29T00:00:00Z");
        assert_eq!(date(period_end(anchor, anchor, "year", 1)), "28 Feb 2025");
        assert_eq!(date(period_end(anchor, at("2027-06-01T00:00:00Z"), "year", 1)), "29 Feb 2028");
    }

    #[test]
    fn a_trial_ends_at_its_anchor() {
        let anchor = at("2026-03-15T00:00:00Z");
        assert_eq!(period_end(anchor, anchor - 14 * 86_400, "month", 1), anchor);
        assert_eq!(date(period_end(anchor, anchor, "week", 2)), "29 Mar 2026");
    }
}

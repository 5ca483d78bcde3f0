//! Time as StackPro counts it: whole milliseconds since the Unix epoch, in UTC.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds in a second, a minute, an hour and a day.
pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// An instant: milliseconds since 1970-01-01T00:00:00Z. In JSON it is an RFC 3339 string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// Where the current time comes from. Everything that depends on the business's time is given one,
/// so that tests and the time machine can move it.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Time;
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Time {
        (**self).now()
    }
}

impl Time {
    /// Later than anything: until when what has no end lasts.
    pub const NEVER: Self = Self(i64::MAX);

    /// Milliseconds since the Unix epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }

    #[must_use]
    pub const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    #[must_use]
    pub const fn plus_days(self, days: i64) -> Self {
        self.plus(days.saturating_mul(DAY))
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole days left until `self`, rounded up, never below 0: 14 right after a trial of 14 days began.
    pub const fn days_left(self, now: Self) -> i64 {
        let left = self.since(now);
        if left <= 0 { 0 } else { (left + DAY - 1) / DAY }
    }

    /// When the month that it is in began, in UTC.
    pub fn month_start(self) -> Self {
        let month =
            self.timestamp().to_zoned_datetime(TimeZone::UTC).first_of_month().and_then(|day| day.start_of_day());
        month.map_or(self, |start| Self(start.timestamp().as_millisecond()))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }

    /// The month as a person reads it, in UTC: `November 2026`.
    pub fn month(self) -> String {
        self.timestamp().strftime("%B %Y").to_string()
    }

    /// The date alone as a person reads it, in UTC: `24 November 2026`.
    pub fn date(self) -> String {
        self.timestamp().strftime("%-d %B %Y").to_string()
    }

    /// Date and time in UTC: `24 Nov 2026 23:16:44`.
    pub fn date_time(self) -> String {
        self.timestamp().strftime("%-d %b %Y %H:%M:%S").to_string()
    }
}

/// From one instant until before another; empty when that is not later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Time,
    pub until: Time,
}

impl Span {
    /// The month, in UTC, that an instant is in.
    pub fn month_of(at: Time) -> Self {
        let from = at.month_start();
        // No month has 32 days, and none has fewer than 28.
        Self { from, until: from.plus_days(32).month_start() }
    }

    /// Milliseconds.
    pub const fn ms(self) -> u64 {
        let ms = self.until.since(self.from);
        if ms > 0 { ms as u64 } else { 0 }
    }

    /// What both have in common.
    pub fn within(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// The parts of it that are in each month, in their order; none when it is empty.
    pub fn months(self) -> impl Iterator<Item = Self> {
        let first = Self::month_of(self.from);
        std::iter::successors(Some(first), |month| Some(Self::month_of(month.until)))
            .take_while(move |month| month.from < self.until && self.from < self.until)
            .map(move |month| self.within(month))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse::<Timestamp>()?.as_millisecond()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_rfc_3339_and_round_trips() {
        let time = Time(1_795_562_204_123);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "\"2026-11-24T23:16:44.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
    }

    #[test]
    fn a_month_begins_at_midnight_of_its_first_day() {
        let start: Time = "2026-11-01T00:00:00Z".parse().unwrap();
        assert_eq!(Time(1_795_562_204_123).month_start(), start);
        assert_eq!(start.month_start(), start);
        assert_eq!(start.plus(-1).month_start(), "2026-10-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_span_has_its_part_in_each_month() {
        let time = |text: &str| text.parse::<Time>().unwrap();
        let span = Span { from: time("2026-11-30T12:00:00Z"), until: time("2027-02-01T00:00:00Z") };
        let parts: Vec<(String, u64)> = span.months().map(|part| (part.from.date(), part.ms() / HOUR as u64)).collect();
        let expected = [("30 November 2026", 12), ("1 December 2026", 31 * 24), ("1 January 2027", 31 * 24)];
        assert_eq!(parts, expected.map(|(date, hours)| (date.to_owned(), hours)));
        assert_eq!(parts.iter().map(|part| part.1).sum::<u64>(), span.ms() / HOUR as u64);
        assert_eq!(Span { from: span.until, until: span.from }.months().count(), 0);
        assert_eq!(Span::month_of(time("2028-02-29T23:59:59Z")).ms(), 29 * DAY as u64);
    }

    #[test]
    fn days_left_rounds_up_and_never_goes_below_zero() {
        let start = Time(1_000);
        assert_eq!(start.plus_days(14).days_left(start), 14);
        assert_eq!(start.plus_days(14).days_left(start.plus(1)), 14);
        assert_eq!(start.plus_days(14).days_left(start.plus_days(13)), 1);
        assert_eq!(start.plus_days(14).days_left(start.plus_days(14)), 0);
        assert_eq!(start.days_left(start.plus_days(1)), 0);
    }
}

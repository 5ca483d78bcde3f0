//! Where a client's day is: their time zone, and when they may be written to.

use jiff::civil::{Date, Time as TimeOfDay, time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};
use serde::{Deserialize, Serialize};

use crate::time::Time;

/// The day begins at eight, and nobody is written to from 20:00 on.
const MORNING: TimeOfDay = time(8, 0, 0, 0);
const NIGHT: TimeOfDay = time(20, 0, 0, 0);
/// When to write on the evening before: the day's last hour, so that a loop that comes late still writes by day.
const EVENING: TimeOfDay = time(19, 0, 0, 0);

/// A time zone by its name in IANA's database: `Europe/Berlin`. One that this machine's database does not know
/// (any more) counts as UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(String);

impl Default for Zone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl Zone {
    /// None when the database has no such zone; upper and lower case do not matter.
    pub fn parse(name: &str) -> Option<Self> {
        const LONGEST: usize = 64;
        let name = name.trim();
        if name.len() > LONGEST {
            return None;
        }
        let zone = TimeZone::get(name).ok()?;
        Some(Self(zone.iana_name()?.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Every zone that this machine knows by a place's name, in their order.
    pub fn all() -> Vec<String> {
        let names = jiff::tz::db().available().map(|name| name.as_str().to_owned());
        let mut names: Vec<String> = names.filter(|name| is_place(name)).chain(["UTC".to_owned()]).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The date as a person there reads it: `24 November 2026`.
    pub fn date(&self, at: Time) -> String {
        self.local(at).strftime("%-d %B %Y").to_string()
    }

    /// From 20:00 until before 08:00 there.
    pub fn is_night(&self, at: Time) -> bool {
        !is_day(&self.local(at))
    }

    /// When to write what is due at `due` and tells of something at `event`: then, if it is day there; else the
    /// next morning at eight; and if that is too late, in the evening before.
    pub fn send_at(&self, due: Time, event: Time) -> Time {
        let local = self.local(due);
        if is_day(&local) {
            return due;
        }
        let morning = self.first_day_from(&local, due);
        if morning < event { morning } else { self.last_day_before(&local, due) }
    }

    fn first_day_from(&self, local: &ZonedDateTime, due: Time) -> Time {
        let from = i32::from(local.time() >= NIGHT);
        let mut days =
            (from..=from + 2).filter_map(|days| self.at(local.date().checked_add(days.days()).ok()?, MORNING));
        days.find(|at| *at >= due).unwrap_or(due)
    }

    fn last_day_before(&self, local: &ZonedDateTime, due: Time) -> Time {
        let from = i32::from(local.time() < NIGHT);
        let mut days =
            (from..=from + 2).filter_map(|days| self.at(local.date().checked_sub(days.days()).ok()?, EVENING));
        days.find(|at| *at <= due).unwrap_or(due)
    }

    /// None when it is not day there at this time of that date: a zone may skip it.
    fn at(&self, date: Date, time: TimeOfDay) -> Option<Time> {
        let local = date.to_datetime(time).to_zoned_datetime(self.zone()).ok().filter(is_day)?;
        Some(Time(local.timestamp().as_millisecond()))
    }

    fn local(&self, at: Time) -> ZonedDateTime {
        let latest = if at.ms() < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_millisecond(at.ms()).unwrap_or(latest).to_zoned_datetime(self.zone())
    }

    fn zone(&self) -> TimeZone {
        TimeZone::get(&self.0).unwrap_or(TimeZone::UTC)
    }
}

fn is_day(local: &ZonedDateTime) -> bool {
    (MORNING..NIGHT).contains(&local.time())
}

/// `Europe/Berlin`, and not `EST5EDT`, `Etc/GMT-3` or a copy of the database under another name.
fn is_place(name: &str) -> bool {
    const CONTINENTS: [&str; 10] =
        ["Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"];
    name.split_once('/').is_some_and(|(first, _)| CONTINENTS.contains(&first))
}

#[cfg(test)]
#[path = "zone_tests.rs"]
pub(crate) mod tests;

use proptest::prelude::*;

use super::*;
use crate::time::{DAY, HOUR};

fn at(text: &str) -> Time {
    text.parse().unwrap()
}

fn zone(name: &str) -> Zone {
    Zone::parse(name).unwrap()
}

#[test]
fn only_known_zones_are_taken() {
    for (text, name) in [
        ("Europe/Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        (" America/New_York ", "America/New_York"),
        ("UTC", "UTC"),
    ] {
        assert_eq!(zone(text).as_str(), name);
    }
    let long = "Europe/".repeat(20);
    for text in ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "+02:00", "Europe", &long] {
        assert_eq!(Zone::parse(text), None, "{text:?}");
    }
    let all = Zone::all();
    assert!(all.len() > 300, "{}", all.len());
    assert!(
        ["Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "UTC"]
            .map(String::from)
            .iter()
            .all(|name| all.contains(name))
    );
    assert!(all.iter().all(|name| Zone::parse(name).is_some()));
}

#[test]
fn the_night_is_waited_for_also_when_clocks_change() {
    let never = Time::NEVER;
    for (name, due, sent) in [
        ("Europe/Berlin", "2026-11-25T18:59:59Z", "2026-11-25T18:59:59Z"),
        ("Europe/Berlin", "2026-11-25T19:00:00Z", "2026-11-26T07:00:00Z"),
        ("Europe/Berlin", "2026-11-26T06:59:59Z", "2026-11-26T07:00:00Z"),
        ("Europe/Berlin", "2026-11-26T07:00:00Z", "2026-11-26T07:00:00Z"),
        // The night in which summer begins, and the one in which it ends.
        ("Europe/Berlin", "2026-03-28T19:30:00Z", "2026-03-29T06:00:00Z"),
        ("Europe/Berlin", "2026-10-24T18:30:00Z", "2026-10-25T07:00:00Z"),
        ("America/New_York", "2026-11-26T03:00:00Z", "2026-11-26T13:00:00Z"),
        ("Asia/Kolkata", "2026-11-25T20:00:00Z", "2026-11-26T02:30:00Z"),
        // Samoa had no 30 December 2011.
        ("Pacific/Apia", "2011-12-30T08:00:00Z", "2011-12-30T18:00:00Z"),
        ("UTC", "2026-11-25T23:00:00Z", "2026-11-26T08:00:00Z"),
    ] {
        assert_eq!(zone(name).send_at(at(due), never), at(sent), "{name} {due}");
    }
}

#[test]
fn what_would_come_too_late_in_the_morning_is_sent_the_evening_before() {
    let berlin = zone("Europe/Berlin");
    for (due, event, sent) in [
        ("2026-11-25T21:00:00Z", "2026-11-26T07:00:00Z", "2026-11-25T18:00:00Z"),
        ("2026-11-26T03:00:00Z", "2026-11-26T05:00:00Z", "2026-11-25T18:00:00Z"),
        ("2026-11-26T03:00:00Z", "2026-11-26T07:00:01Z", "2026-11-26T07:00:00Z"),
    ] {
        assert_eq!(berlin.send_at(at(due), at(event)), at(sent), "{due} {event}");
    }
}

pub(crate) fn zones() -> impl Strategy<Value = Zone> {
    proptest::sample::select(Zone::all()).prop_map(|name| zone(&name))
}

proptest! {
    #[test]
    fn never_at_night_and_never_after_what_it_tells_of(
        zone in zones(),
        due in 0i64..(80 * 366 * DAY),
        before in 0i64..(30 * DAY),
    ) {
        let (due, event) = (Time(due), Time(due + before));
        let sent = zone.send_at(due, event);
        prop_assert!(!zone.is_night(sent), "{} {due} {sent}", zone.as_str());
        prop_assert!(sent <= event);
        // A day is skipped by zones at the date line alone.
        prop_assert!(sent.since(due).abs() <= 13 * HOUR + DAY, "{} {due} {sent}", zone.as_str());
        if !zone.is_night(due) {
            prop_assert_eq!(sent, due);
        }
    }

    #[test]
    fn what_is_due_earlier_is_sent_no_later(zone in zones(), due in 0i64..(80 * 366 * DAY), later in 0i64..(2 * DAY)) {
        let sent = |at: i64| zone.send_at(Time(at), Time::NEVER);
        prop_assert!(sent(due) <= sent(due + later));
    }
}

use proptest::prelude::*;

use super::*;
use crate::plan::{DEFAULT_PLANS, Plans};
use crate::time::DAY;

fn trial() -> Trial {
    Plans::parse(DEFAULT_PLANS).unwrap().trial
}

fn day(n: i64) -> Time {
    Time(0).plus_days(n)
}

fn mails(effects: &[Effect]) -> Vec<Reminder> {
    effects.iter().filter_map(|e| if let Effect::Mail(m) = e { Some(*m) } else { None }).collect()
}

#[test]
fn an_unpaid_life_day_by_day() {
    let trial = trial();
    let mut life = Life::begin(&trial, day(0));
    let mut told = Vec::new();
    for today in 0..=60 {
        let (next, effects) = life.apply(Event::DateCame, &trial, day(today)).unwrap();
        told.extend(mails(&effects).into_iter().map(|mail| (today, mail)));
        life = next;
    }
    assert_eq!(
        told,
        [
            (7, Reminder::TrialEndsIn { days: 7 }),
            (11, Reminder::TrialEndsIn { days: 3 }),
            (13, Reminder::TrialEndsIn { days: 1 }),
            (14, Reminder::GraceBegan),
            (17, Reminder::Suspended),
            (40, Reminder::DeletionIn { days: 7 }),
            (46, Reminder::DeletionIn { days: 1 }),
            (47, Reminder::Deleted),
        ]
    );
    assert_eq!(life.state, State::Deleted);
}

#[test]
fn a_late_loop_does_not_move_the_dates_and_tells_only_the_last() {
    let trial = trial();
    let life = Life::begin(&trial, day(0));
    let (late, effects) = life.apply(Event::DateCame, &trial, day(13).plus(5)).unwrap();
    assert_eq!(mails(&effects), [Reminder::TrialEndsIn { days: 1 }]);
    let (later, _) = late.apply(Event::DateCame, &trial, day(20)).unwrap();
    assert_eq!((later.state, later.suspended_at, later.delete_at), (State::Suspended, Some(day(17)), Some(day(47))));
}

#[test]
fn paying_moves_once_and_is_kept() {
    let trial = trial();
    let life = Life::begin(&trial, day(0));
    let paid = Event::Paid { until: day(40) };
    let (life, effects) = life.apply(paid, &trial, day(10)).unwrap();
    assert_eq!(effects, [Effect::RunDedicated]);
    assert_eq!(life.apply(paid, &trial, day(11)).unwrap(), (life.clone(), vec![]));
    // An older payment told late shortens nothing.
    assert_eq!(life.apply(Event::Paid { until: day(30) }, &trial, day(11)).unwrap().0, life);
    assert_eq!(life.apply(Event::DateCame, &trial, day(1000)).unwrap().0.state, State::Active);
}

#[test]
fn a_shorter_interval_ends_sooner() {
    let trial = trial();
    let (life, _) = Life::begin(&trial, day(0)).apply(Event::Paid { until: day(366) }, &trial, day(1)).unwrap();
    let (life, effects) = life.apply(Event::PeriodChanged { until: day(41) }, &trial, day(10)).unwrap();
    assert_eq!((life.state, life.paid_until, effects), (State::Active, Some(day(41)), vec![]));
    let (life, _) = life.apply(Event::CancelsAtPeriodEnd(true), &trial, day(11)).unwrap();
    assert_eq!(life.apply(Event::DateCame, &trial, day(41)).unwrap().0.state, State::Suspended);
    let unpaid = Life::begin(&trial, day(0));
    assert!(unpaid.apply(Event::PeriodChanged { until: day(41) }, &trial, day(2)).is_err());
}

#[test]
fn dunning_then_suspension_then_payment() {
    let trial = trial();
    let (life, _) = Life::begin(&trial, day(0)).apply(Event::Paid { until: day(31) }, &trial, day(1)).unwrap();
    let failed = Event::PaymentFailed { dunning_ends_at: day(46) };
    let (life, effects) = life.apply(failed, &trial, day(31)).unwrap();
    assert_eq!(effects, [Effect::Notice, Effect::Mail(Reminder::PaymentFailed)]);
    assert_eq!(life.apply(failed, &trial, day(34)).unwrap().1, []);
    let (life, effects) = life.apply(Event::DateCame, &trial, day(46)).unwrap();
    assert_eq!((life.state, effects[0]), (State::Suspended, Effect::Suspend));
    let (life, effects) = life.apply(Event::Paid { until: day(80) }, &trial, day(50)).unwrap();
    assert_eq!((life.state, life.delete_at, effects), (State::Active, None, vec![Effect::RunDedicated]));
}

#[test]
fn nothing_brings_a_deleted_client_back() {
    let trial = trial();
    let (life, _) = Life::begin(&trial, day(0)).apply(Event::Deleted, &trial, day(1)).unwrap();
    for event in [Event::Paid { until: day(9) }, Event::Suspended, Event::Resumed { extra_days: 3 }] {
        let error = life.apply(event, &trial, day(2)).unwrap_err();
        assert!(error.to_string().starts_with("a client that is deleted cannot be"), "{error}");
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::DateCame),
        2 => (0i64..400).prop_map(|d| Event::Paid { until: day(d) }),
        1 => (0i64..400).prop_map(|d| Event::PaymentFailed { dunning_ends_at: day(d) }),
        1 => any::<bool>().prop_map(Event::CancelsAtPeriodEnd),
        1 => Just(Event::SubscriptionEnded),
        1 => Just(Event::TrialCancelled),
        1 => Just(Event::Suspended),
        1 => (0i64..10).prop_map(|d| Event::Resumed { extra_days: d }),
    ]
}

proptest! {
    #[test]
    fn every_history_is_lawful(history in proptest::collection::vec((event(), 0i64..20 * DAY), 1..60)) {
        let trial = trial();
        let mut life = Life::begin(&trial, Time(0));
        let mut now = Time(0);
        for (event, passed) in history {
            now = now.plus(passed);
            let Ok((next, effects)) = life.apply(event, &trial, now) else { continue };
            // A life that keeps paying is never suspended by a date.
            if event == Event::DateCame && life.state == State::Active && !life.cancels_at_period_end {
                prop_assert_eq!(next.state, State::Active);
            }
            // Stopping to serve and starting again are always told to the machines.
            if life.state.is_served() && next.state == State::Suspended {
                prop_assert!(effects.contains(&Effect::Suspend));
            }
            if !life.state.is_served() && next.state.is_served() {
                prop_assert!(effects.iter().any(|e| matches!(e, Effect::RunDedicated | Effect::RunShared)));
            }
            // Nothing is deleted by a date before its retention is over.
            if next.state == State::Deleted && life.state != State::Deleted {
                prop_assert!(effects.contains(&Effect::Delete));
                prop_assert!(next.delete_at.is_some_and(|at| at <= now));
                prop_assert!(next.delete_at.unwrap().since(next.suspended_at.unwrap()) >= trial.retention_days * DAY);
            }
            // What is due is done, and doing it again changes nothing.
            if event == Event::DateCame {
                prop_assert!(next.next().is_none_or(|n| n.at > now));
                let (again, more) = next.apply(event, &trial, now).unwrap();
                prop_assert_eq!(&again, &next);
                prop_assert!(more.is_empty());
            }
            life = next;
        }
    }
}

use proptest::prelude::*;

use super::*;
use crate::plan::{DEFAULT_PLANS, Plans};
use crate::time::{DAY, HOUR};
use crate::zone::Zone;

fn trial() -> Trial {
    Plans::parse(DEFAULT_PLANS).unwrap().trial
}

/// Noon in UTC.
fn day(n: i64) -> Time {
    Time(12 * HOUR).plus_days(n)
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
fn an_extended_trial_is_reminded_of_again() {
    let trial = trial();
    let mut life = Life::begin(&trial, day(0));
    life = life.apply(Event::DateCame, &trial, day(15)).unwrap().0;
    assert_eq!(life.state, State::Grace);
    let (extended, effects) = life.apply(Event::TrialExtended { days: 5 }, &trial, day(15)).unwrap();
    assert_eq!((extended.state, extended.trial_ends_at, extended.grace_ends_at), (State::Trial, day(20), day(23)));
    assert_eq!(effects, [Effect::Notice]);
    let told = extended.apply(Event::DateCame, &trial, day(17)).unwrap().1;
    assert_eq!(mails(&told), [Reminder::TrialEndsIn { days: 3 }]);
    let (graced, _) = extended.apply(Event::GraceGranted { days: 7 }, &trial, day(16)).unwrap();
    assert_eq!((graced.trial_ends_at, graced.grace_ends_at), (day(20), day(30)));
    for days in [0, -1, 91] {
        assert!(life.apply(Event::TrialExtended { days }, &trial, day(15)).is_err(), "{days}");
    }
    let (paid, _) = life.apply(Event::Paid { until: day(50) }, &trial, day(15)).unwrap();
    assert!(paid.apply(Event::GraceGranted { days: 3 }, &trial, day(16)).is_err());
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
fn what_a_subscription_that_was_ended_early_had_paid_counts_no_more() {
    let trial = trial();
    let (year, _) = Life::begin(&trial, day(0)).apply(Event::Paid { until: day(366) }, &trial, day(1)).unwrap();
    let (paused, _) = year.apply(Event::Suspended, &trial, day(10)).unwrap();
    for (life, ended) in [(year, true), (paused, false)] {
        let (life, effects) = life.apply(Event::SubscriptionEnded, &trial, day(20)).unwrap();
        assert_eq!((life.state, life.paid_until), (State::Suspended, Some(day(20))));
        assert_eq!(effects.contains(&Effect::Suspend), ended, "who was suspended is not suspended anew");
        assert_eq!(life.apply(Event::SubscriptionEnded, &trial, day(21)).unwrap(), (life.clone(), vec![]));
        let (resumed, _) = life.apply(Event::Resumed { extra_days: 7 }, &trial, day(25)).unwrap();
        assert_eq!((resumed.state, resumed.trial_ends_at), (State::Trial, day(32)), "the till would end it again");
        let (month, effects) = life.apply(Event::Paid { until: day(60) }, &trial, day(30)).unwrap();
        assert_eq!(
            (month.state, month.paid_until, effects),
            (State::Active, Some(day(60)), vec![Effect::RunDedicated])
        );
    }
}

#[test]
fn who_is_suspended_while_their_subscription_runs_comes_back_by_its_next_period() {
    let trial = trial();
    let paid = |until| Life::begin(&trial, day(0)).apply(Event::Paid { until: day(until) }, &trial, day(1)).unwrap().0;
    let suspended = |life: &Life| life.apply(Event::Suspended, &trial, day(5)).unwrap().0;
    assert_eq!(paid(31).renews_at(day(5)), None, "they are not suspended");
    let life = suspended(&paid(31));
    assert_eq!((life.renews_at(day(5)), life.renews_at(day(31))), (Some(day(31)), None));
    let (back, _) = life.apply(Event::Paid { until: day(62) }, &trial, day(31)).unwrap();
    assert_eq!((back.state, back.renews_at(day(31))), (State::Active, None));
    let (cancelled, _) = paid(31).apply(Event::CancelsAtPeriodEnd(true), &trial, day(4)).unwrap();
    let (ended, _) = life.apply(Event::SubscriptionEnded, &trial, day(6)).unwrap();
    for life in [suspended(&cancelled), ended, suspended(&Life::begin(&trial, day(0)))] {
        assert_eq!(life.renews_at(day(7)), None, "{life:?}");
    }
    assert_eq!(suspended(&paid(365)).renews_at(day(5)), None, "they are deleted before");
}

#[test]
fn a_plan_that_was_given_ends_as_a_trial_does() {
    let trial = trial();
    let life = Life::begin(&trial, day(0)).apply(Event::DateCame, &trial, day(18)).unwrap().0;
    assert_eq!(life.state, State::Suspended);
    let (mut life, effects) = life.apply(Event::PlanGiven { until: Some(day(100)) }, &trial, day(20)).unwrap();
    assert_eq!((life.state, life.pays(), effects), (State::Active, false, vec![Effect::RunDedicated]));
    // What the till says of a subscription that is over or never began changes nothing.
    for event in [Event::SubscriptionEnded, Event::PaymentFailed { dunning_ends_at: day(30) }] {
        assert_eq!(life.apply(event, &trial, day(21)).unwrap(), (life.clone(), vec![]), "{event:?}");
    }
    assert!(life.apply(Event::CancelsAtPeriodEnd(true), &trial, day(21)).is_err());
    let mut told = Vec::new();
    for today in 21..=140 {
        let (next, effects) = life.apply(Event::DateCame, &trial, day(today)).unwrap();
        told.extend(mails(&effects).into_iter().map(|mail| (today, mail)));
        life = next;
    }
    assert_eq!(
        told,
        [
            (93, Reminder::GivenEndsIn { days: 7 }),
            (97, Reminder::GivenEndsIn { days: 3 }),
            (99, Reminder::GivenEndsIn { days: 1 }),
            (100, Reminder::GivenEnded),
            (103, Reminder::Suspended),
            (126, Reminder::DeletionIn { days: 7 }),
            (132, Reminder::DeletionIn { days: 1 }),
            (133, Reminder::Deleted),
        ]
    );
}

#[test]
fn a_plan_for_ever_has_no_date_and_can_be_paid_for_or_shortened() {
    let trial = trial();
    let given = Event::PlanGiven { until: None };
    let (life, _) = Life::begin(&trial, day(0)).apply(given, &trial, day(1)).unwrap();
    assert_eq!((life.next(), life.apply(given, &trial, day(2)).unwrap().1), (None, vec![]));
    let (shorter, effects) = life.apply(Event::PlanGiven { until: Some(day(9)) }, &trial, day(3)).unwrap();
    assert_eq!((shorter.ends().map(|end| end.at), effects), (Some(day(9)), vec![]));
    let (paid, effects) = life.apply(Event::Paid { until: day(40) }, &trial, day(4)).unwrap();
    assert_eq!((paid.pays(), paid.given, effects), (true, None, vec![]), "they are on an instance of their own");
    assert!(paid.apply(given, &trial, day(5)).unwrap_err().to_string().contains("it pays for one"));
    assert!(life.apply(Event::PlanGiven { until: Some(day(2)) }, &trial, day(3)).is_err());
    assert_eq!(life.apply(Event::TrialCancelled, &trial, day(3)).unwrap().0.state, State::Suspended);
}

#[test]
fn who_has_no_trial_is_paused_and_told_why_by_day() {
    let trial = trial();
    let life = Life::begin(&trial, day(0));
    let (lost, effects) = life.apply(Event::TrialHadAlready, &trial, day(1)).unwrap();
    assert_eq!((lost.state, lost.delete_at), (State::Suspended, Some(day(1).plus_days(trial.retention_days))));
    assert_eq!(effects, [Effect::Suspend, Effect::Mail(Reminder::TrialHadAlready)]);
    assert_eq!(lost.apply(Event::TrialHadAlready, &trial, day(2)).unwrap(), (lost.clone(), vec![]));
    let (paid, _) = lost.apply(Event::Paid { until: day(40) }, &trial, day(3)).unwrap();
    assert!(paid.apply(Event::TrialHadAlready, &trial, day(4)).is_err(), "who pays needs none");
    let (given, _) = life.apply(Event::PlanGiven { until: None }, &trial, day(1)).unwrap();
    assert!(given.apply(Event::TrialHadAlready, &trial, day(4)).is_err(), "and neither who was given a plan");
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
        1 => Just(Event::TrialHadAlready),
        1 => Just(Event::Suspended),
        1 => (0i64..10).prop_map(|d| Event::Resumed { extra_days: d }),
        1 => (0i64..400).prop_map(|d| Event::PeriodChanged { until: day(d) }),
        1 => (-5i64..100).prop_map(|days| Event::TrialExtended { days }),
        1 => (-5i64..100).prop_map(|days| Event::GraceGranted { days }),
        2 => proptest::option::of(0i64..400).prop_map(|until| Event::PlanGiven { until: until.map(day) }),
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
            // What an operator gives is given whole, to one who has not paid, and takes nothing away.
            if let Event::TrialExtended { days } | Event::GraceGranted { days } = event {
                let (before, after) = match event {
                    Event::TrialExtended { .. } => (life.trial_ends_at, next.trial_ends_at),
                    _ => (life.grace_ends_at, next.grace_ends_at),
                };
                prop_assert!(matches!(life.state, State::Trial | State::Grace) && GIVEN_DAYS.contains(&days));
                prop_assert_eq!(after, before.max(now).plus_days(days));
                prop_assert!(next.grace_ends_at >= life.grace_ends_at && next.trial_ends_at <= next.grace_ends_at);
                prop_assert!(after > now);
            }
            // A life that keeps paying is never suspended by a date.
            if event == Event::DateCame && life.pays() && life.state == State::Active && !life.cancels_at_period_end {
                prop_assert_eq!(next.state, State::Active);
            }
            // A plan is given to one who pays for none, and is no payment.
            if let Event::PlanGiven { until } = event {
                prop_assert!(!life.pays() && until.is_none_or(|until| until > now));
                prop_assert_eq!((next.state, next.given), (State::Active, Some(Given { until })));
            }
            prop_assert!(next.given.is_none() || next.state == State::Active && !next.pays());
            // While it holds, nothing but the operator, the client or a payment ends it, whatever the till says.
            let ended = matches!(event, Event::Suspended | Event::TrialCancelled | Event::Deleted | Event::Paid { .. });
            let holds = life.given.is_some_and(|given| given.until.is_none_or(|until| until > now));
            if holds && !ended {
                prop_assert!(next.given.is_some() && next.state == State::Active, "{event:?}");
            }
            // When it ends, the days of grace are whole.
            if let (State::Grace, Some(Given { until: Some(until) })) = (next.state, life.given) {
                prop_assert_eq!(next.grace_ends_at, until.plus_days(trial.grace_days));
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

/// Every mail of a life that nobody pays for, when the loop comes at each of these times.
fn told(life: Life, visits: impl Iterator<Item = Time>, zones: &[Zone]) -> Vec<(Time, Reminder, Life)> {
    let (trial, mut life, mut told) = (trial(), life, Vec::new());
    for (n, now) in visits.enumerate() {
        let (next, effects) = life.apply(Event::DateCame, &trial, now).unwrap();
        told.extend(mails(&effects).into_iter().map(|mail| (now, mail, next.clone())));
        life = next;
        if let Some(zone) = zones.get(n % zones.len().max(1)) {
            life.zone = zone.clone();
        }
    }
    told.retain(|(_, mail, _)| *mail != Reminder::Deleted);
    told
}

/// When what a mail tells of happens.
fn event_of(mail: Reminder, life: &Life) -> Time {
    match mail {
        Reminder::TrialEndsIn { .. } | Reminder::GivenEndsIn { .. } => life.trial_ends_at,
        Reminder::GraceBegan | Reminder::GivenEnded => life.grace_ends_at,
        Reminder::PaymentFailed => life.dunning_ends_at.unwrap(),
        Reminder::Suspended | Reminder::TrialHadAlready | Reminder::DeletionIn { .. } | Reminder::Deleted => {
            life.delete_at.unwrap()
        }
    }
}

fn any_life() -> impl Strategy<Value = Life> {
    let begin = |(zone, at): (Zone, i64)| Life { zone, ..Life::begin(&trial(), Time(at)) };
    (crate::zone::tests::zones(), 0..60 * 366 * DAY).prop_map(begin)
}

proptest! {
    #[test]
    fn each_mail_is_told_once_by_day_and_in_time(life in any_life()) {
        let (trial, mut at, mut visits) = (trial(), life.clone(), Vec::new());
        while let Some(next) = at.next() {
            visits.push(next.at);
            at = at.apply(Event::DateCame, &trial, next.at).unwrap().0;
        }
        let mut kinds = Vec::new();
        for (now, mail, after) in told(life, visits.into_iter(), &[]) {
            prop_assert!(!after.zone.is_night(now), "{mail:?} {now}");
            prop_assert!(now < event_of(mail, &after), "{mail:?} {now}");
            kinds.push(mail);
        }
        prop_assert_eq!(kinds, [
            Reminder::TrialEndsIn { days: 7 },
            Reminder::TrialEndsIn { days: 3 },
            Reminder::TrialEndsIn { days: 1 },
            Reminder::GraceBegan,
            Reminder::Suspended,
            Reminder::DeletionIn { days: 7 },
            Reminder::DeletionIn { days: 1 },
        ]);
    }

    #[test]
    fn no_mail_is_told_twice_or_at_night_however_late_the_loop_and_wherever_they_move(
        life in any_life(),
        pauses in proptest::collection::vec(0i64..4 * DAY, 1..200),
        zones in proptest::collection::vec(crate::zone::tests::zones(), 0..4),
    ) {
        let visits = pauses.into_iter().scan(life.trial_started_at, |now, pause| {
            *now = now.plus(pause);
            Some(*now)
        });
        let mut seen = Vec::new();
        for (now, mail, after) in told(life, visits, &zones) {
            prop_assert!(!after.zone.is_night(now), "{mail:?} {now}");
            prop_assert!(now <= event_of(mail, &after), "{mail:?} {now}");
            prop_assert!(!seen.contains(&mail), "{mail:?} twice");
            seen.push(mail);
        }
    }
}

#[test]
fn who_pays_in_the_night_is_not_told_in_the_morning_that_the_trial_is_over() {
    let trial = trial();
    let berlin = Zone::parse("Europe/Berlin").unwrap();
    let night = day(0).plus(9 * HOUR);
    let life = Life { zone: berlin, ..Life::begin(&trial, night.plus_days(-14)) };
    let life = Life { reminded_until: night.plus(-1), ..life };
    let (life, effects) = life.apply(Event::DateCame, &trial, night).unwrap();
    assert_eq!((life.state, effects), (State::Grace, vec![Effect::Notice]));
    assert_eq!(life.next().map(|next| next.what), Some(Due::Reminder(Reminder::GraceBegan)));
    let morning = life.next().unwrap().at;
    assert_eq!(life.apply(Event::DateCame, &trial, morning).unwrap().1, [Effect::Mail(Reminder::GraceBegan)]);
    let (paid, _) = life.apply(Event::Paid { until: night.plus_days(30) }, &trial, night.plus(HOUR)).unwrap();
    assert_eq!(paid.apply(Event::DateCame, &trial, morning).unwrap().1, []);
}

#[test]
fn a_life_that_was_written_before_there_were_zones_can_be_read() {
    let mut old = serde_json::to_value(Life::begin(&trial(), day(0))).unwrap();
    for new in ["zone", "untold", "given"] {
        old.as_object_mut().unwrap().remove(new).unwrap();
    }
    assert_eq!(serde_json::from_value::<Life>(old).unwrap(), Life::begin(&trial(), day(0)));
}

//! A paying client's way from one plan to another: whether it is open, before the till is asked.

use crate::lifecycle::{Life, State};
use crate::limits::{LimitReached, Limits, bytes};
use crate::plan::{Interval, Plan};

/// What a client uses of what plans limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub storage_bytes: u64,
    pub members: u32,
}

/// Why a plan cannot be changed, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChange {
    #[error("This client pays for no plan yet: choose one and pay for it.")]
    PaysNothing,
    #[error("The last payment did not succeed. Pay it first; then the plan can be changed.")]
    PaymentDue,
    #[error("This plan is cancelled. Keep it first; then it can be changed.")]
    Cancelled,
    #[error("This is the plan that you have, paid as you pay it. Choose another.")]
    Same,
    #[error(transparent)]
    TooSmall(#[from] LimitReached),
}

/// Whether a client on the plan `from` may change to `to`.
pub fn check(
    life: &Life,
    from: (&str, Option<Interval>),
    to: (&Plan, Interval),
    used: Used,
) -> std::result::Result<(), NoChange> {
    match life.state {
        State::Active if life.given.is_none() => {}
        State::PastDue => return Err(NoChange::PaymentDue),
        _ => return Err(NoChange::PaysNothing),
    }
    if life.cancels_at_period_end {
        return Err(NoChange::Cancelled);
    }
    let (plan, interval) = to;
    if from == (plan.id.as_str(), Some(interval)) {
        return Err(NoChange::Same);
    }
    Ok(holds(&plan.limits, used)?)
}

/// Whether what is used has room within `limits`.
fn holds(limits: &Limits, used: Used) -> std::result::Result<(), LimitReached> {
    if let Some(limit) = limits.storage_bytes.filter(|limit| used.storage_bytes > *limit) {
        return Err(LimitReached {
            what: "The plan has too little storage",
            used: bytes(used.storage_bytes),
            limit: bytes(limit),
            more: bytes(used.storage_bytes - limit),
            way_on: "Remove files first, or choose a larger plan.",
        });
    }
    if let Some(limit) = limits.members.filter(|limit| used.members > *limit) {
        return Err(LimitReached {
            what: "The plan has too few places in the team",
            used: used.members.to_string(),
            limit: limit.to_string(),
            more: (used.members - limit).to_string(),
            way_on: "Remove members first, or choose a larger plan.",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use crate::lifecycle::Event;
    use crate::plan::{DEFAULT_PLANS, Plans};

    fn paying(plans: &Plans) -> Life {
        let paid = Event::Paid { until: Time(0).plus_days(30) };
        Life::begin(&plans.trial, Time(0)).apply(paid, &plans.trial, Time(0)).unwrap().0
    }

    #[test]
    fn only_who_pays_and_goes_on_paying_changes() {
        let plans = Plans::parse(DEFAULT_PLANS).unwrap();
        let (life, business) = (paying(&plans), plans.get("business").unwrap());
        let ask = |life: &Life, interval| {
            check(life, ("business", Some(Interval::Month)), (business, interval), Used::default())
        };
        assert_eq!(ask(&life, Interval::Year), Ok(()));
        assert_eq!(ask(&life, Interval::Month), Err(NoChange::Same));
        let cancelled = Life { cancels_at_period_end: true, ..life.clone() };
        assert_eq!(ask(&cancelled, Interval::Year), Err(NoChange::Cancelled));
        let late = Life { state: State::PastDue, ..life.clone() };
        assert_eq!(ask(&late, Interval::Year), Err(NoChange::PaymentDue));
        for state in [State::Trial, State::Grace, State::Suspended, State::Deleted] {
            assert_eq!(ask(&Life { state, ..life.clone() }, Interval::Year), Err(NoChange::PaysNothing));
        }
    }

    #[test]
    fn what_does_not_fit_is_said_with_limit_use_and_way_on() {
        let plans = Plans::parse(DEFAULT_PLANS).unwrap();
        let mut small = plans.get("starter").unwrap().clone();
        small.limits = Limits { storage_bytes: Some(1 << 30), members: Some(3), ..Limits::default() };
        let ask = |used| check(&paying(&plans), ("business", None), (&small, Interval::Month), used);
        assert_eq!(ask(Used { storage_bytes: 1 << 30, members: 3 }), Ok(()));
        let said = ask(Used { storage_bytes: (1 << 30) + 1024, members: 3 }).unwrap_err().to_string();
        assert!(said.contains("of 1 GB used") && said.contains("1 KB more") && said.contains("Remove files"), "{said}");
        let said = ask(Used { storage_bytes: 0, members: 5 }).unwrap_err().to_string();
        assert!(said.contains("5 of 3 used") && said.contains("2 more"), "{said}");
    }
}

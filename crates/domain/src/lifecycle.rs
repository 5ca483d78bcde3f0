//! A client's life: the states, the dates, and every lawful move between them.
//!
//! [`Life`] is a plain value; [`Life::apply`] takes what happened and returns the life that follows with the
//! effects that must be written with it, or says why the move is refused. Nothing here acts.
//!
//! Moves come on their dates, by day and by night. Mails about them are due by day alone, where the client is
//! ([`Zone::send_at`]): what is to be told meanwhile is kept in [`Life::untold`].
//!
//! | state | ends when |
//! |---|---|
//! | trial | paid → active · its days are over → grace · cancelled → suspended |
//! | grace | paid → active · its days are over → suspended |
//! | active | payment fails → past due · cancelled → suspended at the period's end |
//! | past due | paid → active · dunning is over → suspended |
//! | active, given | paid → active · its date comes → grace |
//! | suspended | paid, or resumed by the operator → active or trial · retention is over → deleted |
//! | deleted | never |

use serde::{Deserialize, Serialize};

use crate::plan::Trial;
use crate::time::Time;
use crate::zone::Zone;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Trial,
    Grace,
    Active,
    PastDue,
    Suspended,
    Deleted,
}

impl State {
    pub const ALL: [Self; 6] = [Self::Trial, Self::Grace, Self::Active, Self::PastDue, Self::Suspended, Self::Deleted];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::Grace => "grace",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// The client's stack answers its visitors.
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Trial | Self::Grace | Self::Active | Self::PastDue)
    }

    /// An instance of its own, and its plan's limits: paid for, or given ([`Life::pays`]).
    pub const fn is_paying(self) -> bool {
        matches!(self, Self::Active | Self::PastDue)
    }
}

/// Where a client stands, with every date that matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub state: State,
    pub trial_started_at: Time,
    pub trial_ends_at: Time,
    pub grace_ends_at: Time,
    /// Until when they have paid.
    pub paid_until: Option<Time>,
    /// Until when the till tries again after a payment failed.
    pub dunning_ends_at: Option<Time>,
    /// They pay no further period.
    pub cancels_at_period_end: bool,
    pub suspended_at: Option<Time>,
    pub delete_at: Option<Time>,
    /// Every reminder due up to here, by day or by night, has been dealt with.
    pub reminded_until: Time,
    /// Where it is day or night for them.
    #[serde(default)]
    pub zone: Zone,
    /// What they are to be told when it is day; of several things only the last.
    #[serde(default)]
    pub untold: Option<Untold>,
    /// Active for nothing: the operator gave the plan.
    #[serde(default)]
    pub given: Option<Given>,
}

/// A plan for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// None is for ever.
    pub until: Option<Time>,
}

/// Something that waits for the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untold {
    pub reminder: Reminder,
    pub since: Time,
}

/// So many days an operator gives at a time.
pub const GIVEN_DAYS: std::ops::RangeInclusive<i64> = 1..=90;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A date came: whatever is due at `now` is done.
    DateCame,
    /// The till says that they have paid until then.
    Paid { until: Time },
    /// They pay by another interval from now on: the period that they have paid ends then, be it sooner.
    PeriodChanged { until: Time },
    /// The till could not charge them, and tries until then.
    PaymentFailed { dunning_ends_at: Time },
    /// They pay no further period, or do so after all.
    CancelsAtPeriodEnd(bool),
    /// The till ended the subscription, at its period's end or sooner.
    SubscriptionEnded,
    /// The client ended their trial.
    TrialCancelled,
    /// Another client has the one trial of their company.
    TrialHadAlready,
    /// By the operator.
    Suspended,
    /// By the operator. `extra_days` of trial when they have not paid.
    Resumed { extra_days: i64 },
    /// By the operator: so many days more of trial, from its end or from now, whichever is later.
    TrialExtended { days: i64 },
    /// By the operator: so many days more until the suspension of one who has not paid.
    GraceGranted { days: i64 },
    /// By the operator: a plan for nothing, to one who pays for none, until a date or for ever. Given again it
    /// lasts as long as was said last.
    PlanGiven { until: Option<Time> },
    /// By the operator, or by the client.
    Deleted,
}

/// What must be written in the same transaction as the new life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Move to an instance of their own (or, after a suspension, come back on one).
    RunDedicated,
    /// Come back on a shared instance.
    RunShared,
    /// Stop serving, keep the data.
    Suspend,
    /// Remove everything, with a receipt for each resource.
    Delete,
    /// The line above their portal changes.
    Notice,
    Mail(Reminder),
}

/// Mails about dates and moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reminder {
    TrialEndsIn {
        days: i64,
    },
    GraceBegan,
    /// Of a plan that was given.
    GivenEndsIn {
        days: i64,
    },
    GivenEnded,
    Suspended,
    /// Suspended, because their company has had its trial.
    TrialHadAlready,
    DeletionIn {
        days: i64,
    },
    Deleted,
    PaymentFailed,
}

/// A move that a client's state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a client that is {} cannot be {what}", .from.as_str())]
pub struct Refused {
    pub from: State,
    pub what: &'static str,
}

/// A life and what follows from how it came about.
pub type Moved = (Life, Vec<Effect>);

impl Life {
    /// The life of a client who signs up now.
    pub fn begin(trial: &Trial, now: Time) -> Self {
        let trial_ends_at = now.plus_days(trial.days);
        Self {
            state: State::Trial,
            trial_started_at: now,
            trial_ends_at,
            grace_ends_at: trial_ends_at.plus_days(trial.grace_days),
            paid_until: None,
            dunning_ends_at: None,
            cancels_at_period_end: false,
            suspended_at: None,
            delete_at: None,
            reminded_until: now,
            zone: Zone::default(),
            untold: None,
            given: None,
        }
    }

    /// They pay for their plan, or are about to be charged for it again.
    pub const fn pays(&self) -> bool {
        self.state.is_paying() && self.given.is_none()
    }

    /// When the till charges a suspended client for their next period, and that brings them back: an operator
    /// suspended them while they paid, and their subscription runs on.
    pub fn renews_at(&self, now: Time) -> Option<Time> {
        let is_left = |at: &Time| *at > now && self.delete_at.is_none_or(|deleted| *at < deleted);
        self.paid_until.filter(is_left).filter(|_| self.state == State::Suspended && !self.cancels_at_period_end)
    }

    /// Applies what happened. The same event twice changes nothing the second time.
    pub fn apply(&self, event: Event, trial: &Trial, now: Time) -> Result<Moved, Refused> {
        self.moved(event, trial, now).map(|moved| tell(moved, now))
    }

    fn moved(&self, event: Event, trial: &Trial, now: Time) -> Result<Moved, Refused> {
        if self.state == State::Deleted {
            let same = matches!(event, Event::Deleted | Event::DateCame | Event::SubscriptionEnded);
            return if same { Ok((self.clone(), Vec::new())) } else { Err(self.refuse(event)) };
        }
        match event {
            Event::DateCame => Ok(self.until(trial, now)),
            Event::Paid { until } => Ok(self.paid(until)),
            Event::PeriodChanged { until } if self.pays() => {
                let (life, effects) = self.paid(until);
                Ok((Self { paid_until: Some(until), ..life }, effects))
            }
            Event::PaymentFailed { dunning_ends_at } => Ok(self.payment_failed(dunning_ends_at, now)),
            Event::CancelsAtPeriodEnd(cancels) if self.pays() => {
                Ok((Self { cancels_at_period_end: cancels, ..self.clone() }, Vec::new()))
            }
            Event::PeriodChanged { .. } | Event::CancelsAtPeriodEnd(_) => Err(self.refuse(event)),
            Event::SubscriptionEnded => {
                // Ended before its period was over, it leaves nothing paid that a later, shorter one would have to outlast.
                let life = Self { paid_until: self.paid_until.map(|until| until.min(now)), ..self.clone() };
                Ok(if self.pays() { life.suspend(trial, now) } else { (life, Vec::new()) })
            }
            Event::TrialCancelled => match self.state {
                State::Trial | State::Grace => Ok(self.suspend(trial, now)),
                State::Active if self.given.is_some() => Ok(self.suspend(trial, now)),
                State::Suspended => Ok((self.clone(), Vec::new())),
                _ => Err(self.refuse(event)),
            },
            Event::TrialHadAlready => match self.state {
                State::Trial | State::Grace => {
                    let (life, effects) = self.suspend(trial, now);
                    let untold = Some(Untold { reminder: Reminder::TrialHadAlready, since: now });
                    Ok((Self { untold, ..life }, effects))
                }
                State::Suspended => Ok((self.clone(), Vec::new())),
                _ => Err(self.refuse(event)),
            },
            Event::Suspended if self.state == State::Suspended => Ok((self.clone(), Vec::new())),
            Event::Suspended => Ok(self.suspend(trial, now)),
            Event::Resumed { extra_days } => self.resume(extra_days, trial, now),
            Event::TrialExtended { days } => self.extend_trial(days, trial, now),
            Event::GraceGranted { days } => self.grant_grace(days, now),
            Event::PlanGiven { until } => self.give(until, trial, now),
            Event::Deleted => Ok((
                Self { state: State::Deleted, untold: None, ..self.clone() },
                vec![Effect::Delete, Effect::Mail(Reminder::Deleted)],
            )),
        }
    }

    fn refuse(&self, event: Event) -> Refused {
        let what = match event {
            Event::DateCame => "moved by a date",
            Event::Paid { .. } => "paid for",
            Event::PeriodChanged { .. } => "given another period: it pays for none",
            Event::PaymentFailed { .. } => "dunned",
            Event::CancelsAtPeriodEnd(_) => "cancelled at its period's end: it pays for none",
            Event::SubscriptionEnded => "ended by the till",
            Event::TrialCancelled => "cancelled as a trial",
            Event::TrialHadAlready => "left without a trial",
            Event::Suspended => "suspended",
            Event::Resumed { .. } => "resumed",
            Event::TrialExtended { .. } => "given more days of trial",
            Event::GraceGranted { .. } => "given more days of grace",
            Event::PlanGiven { .. } if self.pays() => "given a plan: it pays for one",
            Event::PlanGiven { .. } => "given a plan that ends before now",
            Event::Deleted => "deleted",
        };
        Refused { from: self.state, what }
    }

    fn paid(&self, until: Time) -> Moved {
        let paid_until = Some(self.paid_until.map_or(until, |before| before.max(until)));
        let life = Self {
            state: State::Active,
            paid_until,
            dunning_ends_at: None,
            suspended_at: None,
            delete_at: None,
            cancels_at_period_end: self.cancels_at_period_end && self.pays(),
            untold: None,
            given: None,
            ..self.clone()
        };
        let effects = match self.state {
            State::Active => Vec::new(),
            State::PastDue => vec![Effect::Notice],
            _ => vec![Effect::RunDedicated],
        };
        (life, effects)
    }

    fn payment_failed(&self, dunning_ends_at: Time, now: Time) -> Moved {
        if !self.pays() {
            return (self.clone(), Vec::new()); // A first payment that fails changes nothing: they stay where they are.
        }
        let life = Self { state: State::PastDue, dunning_ends_at: Some(dunning_ends_at), ..self.clone() };
        if self.state == State::PastDue {
            return (life, Vec::new());
        }
        (Self { untold: Some(Untold { reminder: Reminder::PaymentFailed, since: now }), ..life }, vec![Effect::Notice])
    }

    fn suspend(&self, trial: &Trial, at: Time) -> Moved {
        let life = Self {
            state: State::Suspended,
            suspended_at: Some(at),
            delete_at: Some(at.plus_days(trial.retention_days)),
            dunning_ends_at: None,
            reminded_until: self.reminded_until.max(at),
            untold: Some(Untold { reminder: Reminder::Suspended, since: at }),
            given: None,
            ..self.clone()
        };
        (life, vec![Effect::Suspend])
    }

    fn resume(&self, extra_days: i64, trial: &Trial, now: Time) -> Result<Moved, Refused> {
        if self.state != State::Suspended {
            return Err(self.refuse(Event::Resumed { extra_days }));
        }
        let mut life = Self { suspended_at: None, delete_at: None, reminded_until: now, untold: None, ..self.clone() };
        if self.paid_until.is_some_and(|until| until > now) {
            life.state = State::Active;
            return Ok((life, vec![Effect::RunDedicated]));
        }
        life.state = State::Trial;
        life.trial_ends_at = self.trial_ends_at.max(now.plus_days(extra_days.max(1)));
        life.grace_ends_at = life.trial_ends_at.plus_days(trial.grace_days);
        Ok((life, vec![Effect::RunShared]))
    }

    fn extend_trial(&self, days: i64, trial: &Trial, now: Time) -> Result<Moved, Refused> {
        if !matches!(self.state, State::Trial | State::Grace) || !GIVEN_DAYS.contains(&days) {
            return Err(self.refuse(Event::TrialExtended { days }));
        }
        let trial_ends_at = self.trial_ends_at.max(now).plus_days(days);
        let life = Self {
            state: State::Trial,
            trial_ends_at,
            // Days of grace that were given before stay given.
            grace_ends_at: self.grace_ends_at.max(trial_ends_at.plus_days(trial.grace_days)),
            reminded_until: now,
            ..self.clone()
        };
        Ok((life, if self.state == State::Grace { vec![Effect::Notice] } else { Vec::new() }))
    }

    fn give(&self, until: Option<Time>, trial: &Trial, now: Time) -> Result<Moved, Refused> {
        if self.pays() || until.is_some_and(|until| until <= now) {
            return Err(self.refuse(Event::PlanGiven { until }));
        }
        let trial_ends_at = until.unwrap_or(self.trial_ends_at);
        let life = Self {
            state: State::Active,
            given: Some(Given { until }),
            // What follows is what follows a trial.
            trial_ends_at,
            grace_ends_at: trial_ends_at.plus_days(trial.grace_days),
            cancels_at_period_end: false,
            suspended_at: None,
            delete_at: None,
            reminded_until: now,
            untold: None,
            ..self.clone()
        };
        Ok((life, if self.state == State::Active { Vec::new() } else { vec![Effect::RunDedicated] }))
    }

    fn grant_grace(&self, days: i64, now: Time) -> Result<Moved, Refused> {
        if !matches!(self.state, State::Trial | State::Grace) || !GIVEN_DAYS.contains(&days) {
            return Err(self.refuse(Event::GraceGranted { days }));
        }
        let life = Self { grace_ends_at: self.grace_ends_at.max(now).plus_days(days), ..self.clone() };
        Ok((life, if self.state == State::Grace { vec![Effect::Notice] } else { Vec::new() }))
    }

    /// Does all that is due at `now`, each move on its own date, so that dates never drift when the loop
    /// comes late. Of several mails that are due only the last is sent.
    fn until(&self, trial: &Trial, now: Time) -> Moved {
        let (mut life, mut effects) = (self.clone(), Vec::new());
        while let Some(due) = life.next_move().filter(|due| due.at <= now) {
            match due.what {
                Due::Reminder(reminder) => {
                    life.reminded_until = life.reminded_until.max(life.wanted_at(reminder).unwrap_or(due.at));
                    life.untold = Some(Untold { reminder, since: due.at });
                }
                Due::Grace | Due::GivenEnds => {
                    let reminder = if due.what == Due::Grace { Reminder::GraceBegan } else { Reminder::GivenEnded };
                    life.state = State::Grace;
                    life.given = None;
                    life.untold = Some(Untold { reminder, since: due.at });
                    effects.push(Effect::Notice);
                }
                Due::Suspension => {
                    let (next, more) = life.suspend(trial, due.at);
                    life = next;
                    effects.extend(more);
                }
                Due::Deletion => {
                    life.state = State::Deleted;
                    life.untold = None;
                    effects = vec![Effect::Delete, Effect::Mail(Reminder::Deleted)];
                }
            }
        }
        (life, effects)
    }

    /// What comes next by itself, and when. The store keeps its date in an indexed column.
    pub fn next(&self) -> Option<Next> {
        self.dates().into_iter().min_by_key(|next| next.at)
    }

    fn next_move(&self) -> Option<Next> {
        self.moves().into_iter().min_by_key(|next| next.at)
    }

    /// When the present state ends by itself, and what follows.
    pub fn ends(&self) -> Option<Next> {
        let (at, what) = match self.state {
            State::Trial => (Some(self.trial_ends_at), Due::Grace),
            State::Grace => (Some(self.grace_ends_at), Due::Suspension),
            State::Active if self.given.is_some() => (self.given.and_then(|given| given.until), Due::GivenEnds),
            // The till says when a period is paid; only a cancelled one ends by its date alone.
            State::Active => (self.paid_until.filter(|_| self.cancels_at_period_end), Due::Suspension),
            State::PastDue => (self.dunning_ends_at, Due::Suspension),
            State::Suspended => (self.delete_at, Due::Deletion),
            State::Deleted => (None, Due::Deletion),
        };
        at.map(|at| Next { at, what })
    }

    /// Every date ahead, reminders included, in no order.
    pub fn dates(&self) -> Vec<Next> {
        let untold = self.untold.and_then(|untold| {
            let at = self.tells_at(untold)?;
            Some(Next { at, what: Due::Reminder(untold.reminder) })
        });
        self.moves().into_iter().chain(untold).collect()
    }

    fn moves(&self) -> Vec<Next> {
        let Some(end) = self.ends() else { return Vec::new() };
        let (days_before, reminder): (&[i64], fn(i64) -> Reminder) = match end.what {
            Due::Grace => (&[7, 3, 1], |days| Reminder::TrialEndsIn { days }),
            Due::GivenEnds => (&[7, 3, 1], |days| Reminder::GivenEndsIn { days }),
            Due::Deletion => (&[7, 1], |days| Reminder::DeletionIn { days }),
            Due::Suspension | Due::Reminder(_) => return vec![end],
        };
        let reminders = days_before.iter().filter_map(|&days| {
            let wanted_at = end.at.plus_days(-days);
            let at = self.zone.send_at(wanted_at, end.at);
            (wanted_at > self.reminded_until).then_some(Next { at, what: Due::Reminder(reminder(days)) })
        });
        reminders.chain([end]).collect()
    }

    /// When a reminder would be due if there were no night.
    fn wanted_at(&self, reminder: Reminder) -> Option<Time> {
        match reminder {
            Reminder::TrialEndsIn { days } | Reminder::GivenEndsIn { days } | Reminder::DeletionIn { days } => {
                Some(self.ends()?.at.plus_days(-days))
            }
            _ => None,
        }
    }

    /// None when the day comes too late for it.
    fn tells_at(&self, untold: Untold) -> Option<Time> {
        let event = self.ends().map_or(Time::NEVER, |end| end.at);
        Some(self.zone.send_at(untold.since, event)).filter(|at| *at >= untold.since)
    }
}

/// Sends what is untold and due, unless it is night: then it waits for the day.
fn tell((mut life, mut effects): Moved, now: Time) -> Moved {
    let Some(untold) = life.untold.filter(|untold| life.tells_at(*untold).is_some_and(|at| at <= now)) else {
        return (life, effects);
    };
    if life.zone.is_night(now) {
        life.untold = Some(Untold { since: now, ..untold });
    } else {
        life.untold = None;
        effects.push(Effect::Mail(untold.reminder));
    }
    (life, effects)
}

/// A date ahead and what it brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    pub at: Time,
    pub what: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Reminder(Reminder),
    Grace,
    /// The plan that was given ends.
    GivenEnds,
    Suspension,
    Deletion,
}

impl Due {
    /// For people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Reminder(_) => "We send a reminder",
            Self::Grace => "The trial ends; the site stays up for the days of grace",
            Self::GivenEnds => "The plan that was given to you ends; the site stays up for the days of grace",
            Self::Suspension => "The site is suspended; the data is kept",
            Self::Deletion => "The data is deleted",
        }
    }
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;

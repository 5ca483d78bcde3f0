//! What Stripe should have charged, told a second time and independently of the simulated Stripe: from what
//! people did, by Stripe's documented rules (<https://docs.stripe.com/billing/subscriptions/billing-cycle>).

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use stackpro_domain::plan::Interval;
use stackpro_domain::time::DAY;
use stackpro_domain::{Cents, Time};

/// A failed renewal is tried again so many days after it; then the subscription ends.
const TRIES_DAYS: [i64; 4] = [0, 3, 8, 15];

/// What a promotion code takes off, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    pub(crate) off: Off,
    pub(crate) lasts: Lasts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Off {
    Percent(i64),
    Amount(Cents),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// For the first invoice.
    Once,
    /// For so many months from the first payment on.
    Months(i64),
    Forever,
}

/// The codes of the run: each way to take something off, for each length that Stripe allows.
pub(crate) const CODES: [Code; 5] = [
    Code { name: "HALF", off: Off::Percent(50), lasts: Lasts::Once },
    Code { name: "THIRD", off: Off::Percent(33), lasts: Lasts::Months(3) },
    Code { name: "TENTH", off: Off::Percent(10), lasts: Lasts::Forever },
    Code { name: "FIFTY", off: Off::Amount(Cents(5_000)), lasts: Lasts::Months(2) },
    // More than the smallest plan costs in a month.
    Code { name: "WELCOME", off: Off::Amount(Cents(40_000)), lasts: Lasts::Once },
];

impl Lasts {
    /// As Stripe's API takes it.
    pub(crate) fn form(self) -> String {
        match self {
            Self::Once => "duration=once".into(),
            Self::Months(months) => format!("duration=repeating&duration_in_months={months}"),
            Self::Forever => "duration=forever".into(),
        }
    }
}

impl Code {
    /// What a period costs with it; half a cent less is a cent less.
    fn reduced(&self, price: Cents) -> Cents {
        let off = match self.off {
            Off::Percent(percent) => (price.0 * percent * 2 + 100).div_euclid(200),
            Off::Amount(amount) => amount.0,
        };
        Cents((price.0 - off).max(0))
    }
}

/// One subscription, as those who pay see it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// What it costs, at first and since each change; never empty.
    pub(crate) terms: Vec<Term>,
    /// Typed at the first payment.
    pub(crate) code: Option<&'static Code>,
    /// Renewals fail, and from when on they don't.
    pub(crate) card_fails: bool,
    pub(crate) repaired_at: Option<Time>,
    /// From when on no further period is wanted, and from when on one is after all.
    pub(crate) cancelled: Vec<(Time, bool)>,
    /// We ended it, because the client was deleted.
    pub(crate) ended_at: Option<Time>,
}

/// A plan from some moment on: of the first payment, or of a change.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) from: Time,
    pub(crate) plan: String,
    pub(crate) price: Cents,
    pub(crate) interval: Interval,
}

/// What an account came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charged {
    pub(crate) total: Cents,
    /// What Stripe keeps for the customer, also after this account's end.
    pub(crate) credit: Cents,
    pub(crate) goes_on: bool,
}

/// Periods from an anchor on: the number of the present one, and what is charged.
struct Course<'a> {
    term: &'a Term,
    /// What the present period came to, or would have if all of it were at this price.
    cost: Cents,
    anchor: Time,
    period: i64,
    total: i64,
    credit: i64,
}

impl Course<'_> {
    fn start(&self) -> Time {
        period_start(self.anchor, self.term.interval, self.period)
    }

    fn end(&self) -> Time {
        period_start(self.anchor, self.term.interval, self.period + 1)
    }

    /// What is owed after the credit; below 0 it is credit.
    fn owe(&mut self, amount: i64) -> i64 {
        let due = amount - self.credit;
        self.credit = (-due).max(0);
        due.max(0)
    }
}

impl Account {
    /// What was charged until `now`, the first payment included, when `credit` was in their favour at the start.
    pub(crate) fn charged(&self, credit: Cents, now: Time) -> Charged {
        let mut terms = self.terms.iter();
        let Some(first) = terms.next() else { return Charged { total: Cents(0), credit, goes_on: false } };
        let cost = self.code.map_or(first.price, |code| code.reduced(first.price));
        let anchor = in_seconds(first.from);
        let mut course = Course { term: first, cost, anchor, period: 0, total: 0, credit: credit.0 };
        course.total = course.owe(cost.0);
        let mut changes = terms.filter(|term| term.from <= now).peekable();
        loop {
            while let Some(term) = changes.next_if(|term| in_seconds(term.from) <= course.end()) {
                let cost = self.cost(term.price, in_seconds(term.from));
                change(&mut course, term, cost);
            }
            let at = course.end();
            let alive = self.ended_at.is_none_or(|end| end > now);
            let told = |course: &Course<'_>, goes_on| Charged {
                total: Cents(course.total),
                credit: Cents(course.credit),
                goes_on,
            };
            if at > now {
                return told(&course, alive);
            }
            if self.ended_at.is_some_and(|end| end <= at) || self.is_cancelled(at) {
                return told(&course, false);
            }
            course.cost = self.cost(course.term.price, at);
            let due = course.owe(course.cost.0);
            match self.paid_at(at, due) {
                Some(paid) if paid <= now && self.ended_at.is_none_or(|end| paid < end) => course.total += due,
                Some(_) => return told(&course, alive),
                None => return told(&course, at.plus(TRIES_DAYS[TRIES_DAYS.len() - 1] * DAY) > now && alive),
            }
            course.period += 1;
        }
    }

    /// What a period costs that is charged at `at`, after the first one.
    fn cost(&self, price: Cents, at: Time) -> Cents {
        let began = in_seconds(self.terms[0].from);
        let counts = |code: &&&Code| match code.lasts {
            Lasts::Once => false,
            Lasts::Months(months) => at < period_start(began, Interval::Month, months),
            Lasts::Forever => true,
        };
        self.code.as_ref().filter(counts).map_or(price, |code| code.reduced(price))
    }

    /// Whether it began less than so long (ms) ago.
    pub(crate) fn began_within(&self, ms: i64, now: Time) -> bool {
        self.terms.first().is_some_and(|first| now.since(first.from) < ms)
    }

    /// The plan that it is on now.
    pub(crate) fn plan(&self) -> &str {
        self.terms.last().map_or("", |term| &term.plan)
    }

    /// Of the renewal at `at`: when its payment succeeded; never, when the card was repaired too late.
    fn paid_at(&self, at: Time, due: i64) -> Option<Time> {
        if !self.card_fails || due == 0 {
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
}

/// Another plan in the middle of a period: what is left of what the old one came to is given back, and the rest of the
/// period is charged at what the new one costs now, to the second, both at once. Another interval begins a period of
/// its own instead.
fn change<'a>(course: &mut Course<'a>, to: &'a Term, cost: Cents) {
    let (at, start, end) = (in_seconds(to.from), course.start(), course.end());
    let share = |price: Cents| {
        let (left, whole) = (i128::from(end.since(at)), i128::from(end.since(start)));
        // Half a cent is rounded up.
        i64::try_from((i128::from(price.0) * left * 2 + whole).div_euclid(2 * whole)).unwrap_or(i64::MAX)
    };
    let unused = share(course.cost);
    let amount = if course.term.interval == to.interval { share(cost) } else { cost.0 } - unused;
    if course.term.interval != to.interval {
        course.anchor = at;
        course.period = 0;
    }
    course.term = to;
    course.cost = cost;
    course.total += course.owe(amount);
}

/// Stripe counts in whole seconds.
fn in_seconds(at: Time) -> Time {
    Time(at.ms().div_euclid(1000) * 1000)
}

/// Periods begin on the anchor's day and hour, or on the month's last day where there is no such day.
fn period_start(anchor: Time, interval: Interval, period: i64) -> Time {
    let from = Timestamp::from_millisecond(anchor.ms()).unwrap_or_default();
    let months = if interval == Interval::Month { period } else { 12 * period };
    let moved = from.to_zoned_datetime(TimeZone::UTC).checked_add(Span::new().months(months));
    Time(moved.map_or(i64::MAX, |moved| moved.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(since: &str) -> Account {
        Account {
            terms: vec![term(since, 100, Interval::Month)],
            code: None,
            card_fails: false,
            repaired_at: None,
            cancelled: Vec::new(),
            ended_at: None,
        }
    }

    fn term(from: &str, price: i64, interval: Interval) -> Term {
        Term { from: at(from), plan: price.to_string(), price: Cents(price), interval }
    }

    fn charged(account: &Account, now: &str) -> (i64, bool) {
        let charged = account.charged(Cents(0), at(now));
        (charged.total.0, charged.goes_on)
    }

    #[test]
    fn a_change_is_settled_at_once_to_the_second() {
        let mut account = account("2026-11-01T00:00:00Z");
        account.terms[0].price = Cents(29_900);
        // A third of November is left, and half a second does not count.
        account.terms.push(term("2026-11-21T00:00:00.500Z", 59_900, Interval::Month));
        assert_eq!(charged(&account, "2026-11-30T00:00:00Z"), (29_900 + 19_967 - 9_967, true));
        assert_eq!(charged(&account, "2026-12-01T00:00:00Z"), (39_900 + 59_900, true));
        // Back: what they have too much is taken off the next invoice.
        account.terms.push(term("2026-12-16T12:00:00Z", 29_900, Interval::Month));
        let before = account.charged(Cents(0), at("2026-12-31T00:00:00Z"));
        assert_eq!((before.total, before.credit), (Cents(99_800), Cents(15_000)));
        assert_eq!(charged(&account, "2027-01-01T00:00:00Z"), (99_800 + 14_900, true));
    }

    #[test]
    fn a_code_lowers_what_is_charged_and_what_is_given_back() {
        static HALF: Code = Code { name: "HALF", off: Off::Percent(50), lasts: Lasts::Once };
        static FIVE: Code = Code { name: "FIVE", off: Off::Amount(Cents(5)), lasts: Lasts::Months(2) };
        assert_eq!((HALF.reduced(Cents(29_901)), FIVE.reduced(Cents(3))), (Cents(14_950), Cents(0)));
        let mut account = account("2026-01-31T10:00:00Z");
        account.code = Some(&FIVE);
        assert_eq!(charged(&account, "2026-03-30T00:00:00Z"), (95 + 95, true));
        assert_eq!(charged(&account, "2026-03-31T10:00:00Z"), (95 + 95 + 100, true));
        let mut account = Account { code: Some(&HALF), ..self::account("2026-11-01T00:00:00Z") };
        account.terms[0].price = Cents(30_000);
        // A third of November is left of the 150 that were paid, and the new price is whole.
        account.terms.push(term("2026-11-21T00:00:00Z", 60_000, Interval::Month));
        assert_eq!(charged(&account, "2026-11-30T00:00:00Z"), (15_000 - 5_000 + 20_000, true));
    }

    #[test]
    fn another_interval_begins_a_period_and_credit_outlives_it() {
        let mut account = account("2026-01-01T00:00:00Z");
        account.terms[0] = term("2026-01-01T00:00:00Z", 36_500, Interval::Year);
        account.terms.push(term("2026-01-11T00:00:00Z", 3_000, Interval::Month));
        let after = account.charged(Cents(0), at("2026-01-12T00:00:00Z"));
        assert_eq!((after.total, after.credit), (Cents(36_500), Cents(32_500)));
        // A card that fails is not asked while the credit lasts: ten more months, and then it is.
        account.card_fails = true;
        let later = account.charged(Cents(0), at("2026-11-12T00:00:00Z"));
        assert_eq!((later.total, later.credit, later.goes_on), (Cents(36_500), Cents(2_500), true));
        assert_eq!(charged(&account, "2026-12-30T00:00:00Z"), (36_500, false));
        assert_eq!(account.charged(Cents(40_000), at("2026-01-02T00:00:00Z")).credit, Cents(3_500));
    }

    fn at(text: &str) -> Time {
        Time(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn each_period_is_charged_once_when_it_begins() {
        let account = account("2026-01-31T10:00:00Z");
        assert_eq!(charged(&account, "2026-02-28T09:59:59Z"), (100, true));
        assert_eq!(charged(&account, "2026-02-28T10:00:00Z"), (200, true));
        assert_eq!(charged(&account, "2026-03-31T10:00:00Z"), (300, true));
    }

    #[test]
    fn a_cancelled_one_ends_with_its_period_unless_they_change_their_mind() {
        let mut account = account("2026-01-01T00:00:00Z");
        account.cancelled.push((at("2026-01-20T00:00:00Z"), true));
        assert_eq!(charged(&account, "2026-01-25T00:00:00Z"), (100, true));
        assert_eq!(charged(&account, "2026-06-01T00:00:00Z"), (100, false));
        account.cancelled.push((at("2026-01-30T00:00:00Z"), false));
        assert_eq!(charged(&account, "2026-02-15T00:00:00Z"), (200, true));
    }

    #[test]
    fn a_card_that_fails_is_charged_when_it_is_repaired_in_time() {
        let mut account = Account { card_fails: true, ..account("2026-01-01T00:00:00Z") };
        assert_eq!(charged(&account, "2026-02-10T00:00:00Z"), (100, true));
        assert_eq!(charged(&account, "2026-02-16T00:00:00Z"), (100, false));
        account.repaired_at = Some(at("2026-02-10T00:00:00Z"));
        assert_eq!(charged(&account, "2026-02-09T00:00:00Z"), (100, true));
        assert_eq!(charged(&account, "2026-02-16T00:00:00Z"), (200, true));
        account.repaired_at = Some(at("2026-02-17T00:00:00Z"));
        assert_eq!(charged(&account, "2026-03-16T00:00:00Z"), (100, false));
    }
}

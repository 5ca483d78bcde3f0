//! Who the clients are: what each will do, and when, drawn from the seed before they do it.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stackpro_domain::Time;
use stackpro_domain::plan::{Interval, Plans};
use stackpro_domain::time::{DAY, HOUR, MINUTE};

use crate::model::CODES;

/// What someone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    SignUp,
    CancelTrial,
    Pay,
    /// They pay no further period, or do so after all.
    CancelAtPeriodEnd(bool),
    RepairCard,
    /// To the plan of this number, paid so.
    Change(usize, Interval),
    /// The operator's.
    Suspend,
    /// The operator gives them the plan of this number for nothing, for so many days or for ever.
    Give(usize, Option<i64>),
    /// The operator ends what was given.
    TakeBack,
    Resume,
    Delete,
}

/// Of Stripe's test cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Card {
    Good,
    /// The first one that they try is declined.
    DeclinedFirst,
    /// Taken at first, refused at every renewal.
    FailsLater,
}

#[derive(Clone, Debug)]
pub(crate) struct Persona {
    pub(crate) plan: String,
    pub(crate) interval: Interval,
    pub(crate) card: Card,
    /// The promotion code that they type when they pay, by its place in [`CODES`].
    pub(crate) code: Option<usize>,
    /// Everything that they and the operator will do about them, from the sign-up on.
    pub(crate) acts: Vec<(Time, Act)>,
}

impl Persona {
    /// The `number`-th client of a run.
    pub(crate) fn draw(seed: u64, number: u32, start: Time, days: u32, plans: &Plans) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let signs_up = start.plus(dice.random_range(0..(i64::from(days) * DAY).max(1)));
        let mut acts = vec![(signs_up, Act::SignUp)];
        let card = match dice.random_range(0..100) {
            0..80 => Card::Good,
            80..90 => Card::DeclinedFirst,
            _ => Card::FailsLater,
        };
        // Most who pay do so in the trial, some in the days of grace, few after the suspension.
        let pays = match dice.random_range(0..100) {
            0..35 => Some(dice.random_range(HOUR..14 * DAY)),
            35..42 => Some(dice.random_range(14 * DAY..17 * DAY)),
            42..47 => Some(dice.random_range(17 * DAY + HOUR..46 * DAY)),
            _ => None,
        };
        match pays {
            Some(after) => {
                Self::stay(&mut dice, &mut acts, signs_up.plus(after), card);
                Self::change(&mut dice, &mut acts, signs_up.plus(after), plans.plans.len());
            }
            None if dice.random_bool(0.2) => {
                acts.push((signs_up.plus(dice.random_range(HOUR..10 * DAY)), Act::CancelTrial));
            }
            None => {}
        }
        if dice.random_bool(0.03) {
            let at = signs_up.plus(dice.random_range(HOUR..100 * DAY));
            acts.push((at, Act::Suspend));
            acts.push((at.plus(dice.random_range(MINUTE..20 * DAY)), Act::Resume));
        }
        if dice.random_bool(0.03) {
            acts.push((signs_up.plus(dice.random_range(HOUR..200 * DAY)), Act::Delete));
        }
        let (code, gifts) = Self::kindness(seed, number, signs_up, plans.plans.len());
        acts.extend(gifts);
        let plan = &plans.plans[dice.random_range(0..plans.plans.len())];
        let interval = if dice.random_bool(0.8) { Interval::Month } else { Interval::Year };
        Self { plan: plan.id.clone(), interval, card, code, acts }
    }

    /// What the operator does for them: a code that they hear of, and a plan for nothing. Drawn apart, so that the
    /// rest of what they do is the same without it.
    fn kindness(seed: u64, number: u32, signs_up: Time, plans: usize) -> (Option<usize>, Vec<(Time, Act)>) {
        let mut dice = StdRng::seed_from_u64(seed ^ (u64::from(number) + 1).wrapping_mul(0xd1b5_4a32_d192_ed03));
        let mut acts = Vec::new();
        if dice.random_bool(0.15) {
            let at = signs_up.plus(dice.random_range(HOUR..120 * DAY));
            let days = dice.random_bool(0.7).then(|| dice.random_range(1..90));
            acts.push((at, Act::Give(dice.random_range(0..plans), days)));
            if dice.random_bool(0.4) {
                acts.push((at.plus(dice.random_range(MINUTE..60 * DAY)), Act::TakeBack));
            }
        }
        (dice.random_bool(0.3).then(|| dice.random_range(0..CODES.len())), acts)
    }

    /// Some change their plan, or how they pay for it, and some of them more than once.
    fn change(dice: &mut StdRng, acts: &mut Vec<(Time, Act)>, pays: Time, plans: usize) {
        let mut at = pays;
        while dice.random_bool(0.4) {
            at = at.plus(dice.random_range(MINUTE..90 * DAY));
            let interval = if dice.random_bool(0.7) { Interval::Month } else { Interval::Year };
            acts.push((at, Act::Change(dice.random_range(0..plans), interval)));
        }
    }

    /// From the first payment on: how long they stay, and whether they come back.
    fn stay(dice: &mut StdRng, acts: &mut Vec<(Time, Act)>, pays: Time, card: Card) {
        acts.push((pays, Act::Pay));
        if card == Card::FailsLater && dice.random_bool(0.6) {
            acts.push((pays.plus(dice.random_range(30 * DAY..50 * DAY)), Act::RepairCard));
        }
        if dice.random_bool(0.35) {
            let leaves = pays.plus(dice.random_range(DAY..300 * DAY));
            acts.push((leaves, Act::CancelAtPeriodEnd(true)));
            match dice.random_range(0..10) {
                0..2 => acts.push((leaves.plus(dice.random_range(MINUTE..5 * DAY)), Act::CancelAtPeriodEnd(false))),
                2..4 => acts.push((leaves.plus(dice.random_range(32 * DAY..55 * DAY)), Act::Pay)),
                _ => {}
            }
        }
    }
}

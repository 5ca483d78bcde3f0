//! What the month brings and costs, as the operator reads it.

use askama::Template;
use stackpro_domain::cost::{Amount, Balance};
use stackpro_domain::{Cents, ClientId, Micros, ResourceId, Time};
use stackpro_store::SetupFailure;

use super::console::InstanceRow;
use super::frame::ConsoleFrame;
use super::{assets, money, show};

/// The same of the month so far, and of all of it if everything goes on as it does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Both<T> {
    pub so_far: T,
    pub in_all: T,
}

/// One thing that costs.
#[derive(Clone, Debug)]
pub struct CostLine {
    pub what: String,
    pub detail: String,
    /// Where it is explained.
    pub instance: Option<ResourceId>,
    pub cost: Both<Amount>,
}

/// The month, on the overview.
#[derive(Clone, Debug)]
pub struct ThisMonth {
    /// In it.
    pub now: Time,
    pub day: u64,
    pub days: u64,
    /// With what is the operator's own.
    pub balance: Both<Balance>,
    /// What is the operator's own.
    pub overhead: Vec<CostLine>,
    /// What has no price, and what to do about it.
    pub unpriced: Vec<String>,
}

impl ThisMonth {
    pub(super) fn own(&self) -> Both<Amount> {
        let sum = |of: fn(&CostLine) -> Amount| self.overhead.iter().map(of).sum();
        Both { so_far: sum(|line| line.cost.so_far), in_all: sum(|line| line.cost.in_all) }
    }
}

/// A client's part of an instance; none is the operator's, of the time in which nobody was there.
#[derive(Clone, Debug)]
pub struct Share {
    pub client: Option<ClientId>,
    pub cost: Both<Amount>,
}

/// `GET /console/instances/{instance}`
#[derive(Template)]
#[template(path = "console/instance.html")]
pub struct InstancePage {
    pub frame: ConsoleFrame,
    pub row: InstanceRow,
    pub version: Option<String>,
    /// Why its agent has not enrolled.
    pub setup_failure: Option<SetupFailure>,
    /// None before it is launched.
    pub launched_at: Option<Time>,
    pub released_at: Option<Time>,
    /// What it costs this month.
    pub lines: Vec<CostLine>,
    pub shares: Vec<Share>,
}

impl InstancePage {
    fn whole(&self) -> Both<Amount> {
        let sum = |of: fn(&CostLine) -> Amount| self.lines.iter().map(of).sum();
        Both { so_far: sum(|line| line.cost.so_far), in_all: sum(|line| line.cost.in_all) }
    }
}

/// To the cent, so that columns align: `$1,234.50`, `-$0.75`.
pub fn cents(cents: impl std::borrow::Borrow<Cents>) -> String {
    let cents = *cents.borrow();
    let text = cents.to_string();
    if cents.0 % 100 == 0 { format!("{text}.00") } else { text }
}

/// What it is, or that it is not known; what is less than half a cent is not called nothing.
pub fn amount(amount: impl std::borrow::Borrow<Amount>) -> String {
    match amount.borrow().whole() {
        None => "unknown".into(),
        Some(micros) => known(micros),
    }
}

fn known(micros: Micros) -> String {
    match micros.cents() {
        Cents(0) if micros.0 > 0 => "under 1¢".into(),
        amount => cents(amount),
    }
}

/// A sum of which a part may not be known.
pub fn sum(amount: impl std::borrow::Borrow<Amount>) -> String {
    let amount = amount.borrow();
    if amount.complete { known(amount.known) } else { format!("at least {}", cents(amount.known.cents())) }
}

/// What is left, or that it is not known.
pub fn margin(balance: impl std::borrow::Borrow<Balance>) -> String {
    balance.borrow().margin().map_or_else(|| "unknown".into(), cents)
}

/// The tone of what is left: red below nothing.
pub fn tone(balance: impl std::borrow::Borrow<Balance>) -> &'static str {
    if balance.borrow().margin().is_some_and(|margin| margin < Cents(0)) { "loss" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_cent_and_never_as_nothing() {
        let shown = [0, 1, 4_999, 5_000, 1_234_567, 41_236_950_000].map(|micros| amount(Amount::known(Micros(micros))));
        assert_eq!(shown, ["$0.00", "under 1¢", "under 1¢", "$0.01", "$1.23", "$41,236.95"]);
        let part = Amount { known: Micros(1_500_000), complete: false };
        assert_eq!(
            (amount(part), sum(part), sum(Amount::known(Micros(2)))),
            ("unknown".to_owned(), "at least $1.50".to_owned(), "under 1¢".to_owned())
        );
        let balance = |complete| Balance {
            revenue: Amount::known(Micros(10_000_000)),
            cost: Amount { known: Micros(12_000_000), complete },
        };
        assert_eq!((margin(balance(true)), tone(balance(true))), ("-$2.00".to_owned(), "loss"));
        assert_eq!((margin(balance(false)), tone(balance(false))), ("unknown".to_owned(), ""));
    }
}

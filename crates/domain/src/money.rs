//! Money: whole cents of US dollars, and whole micro-dollars for what costs less than a cent.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// An amount in cents of US dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cents(pub i64);

impl Add for Cents {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Cents {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Sum for Cents {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self(0), Add::add)
    }
}

/// An amount in millionths of a US dollar: what things cost. A cost is computed exactly and rounded once, half
/// up, to these; sums of them are exact, and only what is shown is rounded again, half up, to cents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// In one cent.
    const CENT: i64 = 10_000;

    /// `part / whole` rounded half up; `whole` is not 0.
    pub(crate) fn rounded(part: u128, whole: u128) -> Self {
        let doubled = part.saturating_mul(2).saturating_add(whole) / whole.saturating_mul(2);
        Self(i64::try_from(doubled).unwrap_or(i64::MAX))
    }

    /// Rounded half up.
    pub const fn cents(self) -> Cents {
        Cents(self.0.saturating_add(Self::CENT / 2).div_euclid(Self::CENT))
    }
}

impl From<Cents> for Micros {
    fn from(cents: Cents) -> Self {
        Self(cents.0.saturating_mul(Self::CENT))
    }
}

impl Add for Micros {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Micros {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self(0), Add::add)
    }
}

/// `$299`, `$2,990`, `$0.50`, `-$3`.
impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (dollars, cents) = (self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100);
        let digits = dollars.to_string();
        let mut grouped = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        write!(f, "{sign}${grouped}")?;
        if cents > 0 { write!(f, ".{cents:02}") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_on_a_price_list() {
        let shown: Vec<String> = [29_900, 299_000, 50, -300, 123_456_789].map(|c| Cents(c).to_string()).into();
        assert_eq!(shown, ["$299", "$2,990", "$0.50", "-$3", "$1,234,567.89"]);
    }

    #[test]
    fn halves_are_rounded_up_once() {
        assert_eq!([4_999, 5_000, 15_000, 0].map(|m| Micros(m).cents().0), [0, 1, 2, 0]);
        assert_eq!([(1, 2), (1, 3), (2, 3), (5, 10), (0, 7)].map(|(a, b)| Micros::rounded(a, b).0), [1, 0, 1, 1, 0]);
        assert_eq!(Micros::from(Cents(1_234)).cents(), Cents(1_234));
    }
}

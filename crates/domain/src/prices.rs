//! Prices: what a cloud charges for what a client causes. They come from one file (`prices.toml`, which the
//! operator may replace), in dollars with up to six decimals, and are kept as whole [`Micros`].

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::money::Micros;
use crate::plan::Plans;

/// The price file that is used where the operator gives none: AWS's list prices for us-east-1.
pub const DEFAULT_PRICES: &str = include_str!("prices.toml");

/// What everything costs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// An hour, by the cloud's name of the instance's size.
    instance_hour: BTreeMap<String, Price>,
    instance: Instance,
    storage: Storage,
    traffic: Traffic,
    dns: Dns,
    mail: Mail,
    /// A month, by the name under which it is shown.
    #[serde(default)]
    fixed_month: BTreeMap<String, Price>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    disk_gb: u32,
    disk_gb_month: Price,
    address_hour: Price,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Storage {
    gb_month: Price,
    puts_1000: Price,
    gets_1000: Price,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Traffic {
    gb: Price,
    free_gb: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    queries_million: Price,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mail {
    mails_1000: Price,
}

/// Why a price file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPrices {
    #[error("the price file cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("the price file has no line below [instance_hour]: write there what each instance type costs an hour")]
    NoInstance,
}

/// A type of instance that a plan asks for and the price file does not know: what it costs cannot be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{instance_type} ({used_by}) has no price, so its cost is unknown: write \"{instance_type}\" = … (dollars an hour) \
     below [instance_hour] in the price file"
)]
pub struct Unpriced {
    pub instance_type: String,
    /// `the trial`, `plan starter`.
    pub used_by: String,
}

pub(crate) const HOUR_MS: u64 = crate::time::HOUR as u64;
pub(crate) const GB: u128 = 1 << 30;

impl Prices {
    /// Reads and checks a price file.
    pub fn parse(text: &str) -> Result<Self, BadPrices> {
        let prices: Self = toml::from_str(text)?;
        if prices.instance_hour.is_empty() { Err(BadPrices::NoInstance) } else { Ok(prices) }
    }

    /// Each instance type of the plans that has no price here.
    pub fn unpriced(&self, plans: &Plans) -> Vec<Unpriced> {
        let trial = [(plans.trial.instance_type.as_str(), "the trial".to_owned())];
        let paid = plans.plans.iter().map(|plan| (plan.instance_type.as_str(), format!("plan {}", plan.id)));
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (kind, used_by) in trial.into_iter().chain(paid).filter(|(kind, _)| !self.instance_hour.contains_key(*kind))
        {
            missing.entry(kind).or_default().push(used_by);
        }
        let unpriced = |(kind, used_by): (&str, Vec<String>)| Unpriced {
            instance_type: kind.to_owned(),
            used_by: used_by.join(", "),
        };
        missing.into_iter().map(unpriced).collect()
    }

    /// The same of an instance's type, whoever asked for it.
    pub fn unpriced_instance(&self, instance_type: &str) -> Option<Unpriced> {
        let unpriced = || Unpriced { instance_type: instance_type.to_owned(), used_by: "an instance".to_owned() };
        (!self.instance_hour.contains_key(instance_type)).then(unpriced)
    }

    /// An instance's own hours; none when the file does not know its type.
    pub fn compute(&self, instance_type: &str, ms: u64) -> Option<Micros> {
        self.instance_hour.get(instance_type).map(|price| price.times(u128::from(ms), u128::from(HOUR_MS)))
    }

    /// An instance's public address.
    pub fn address(&self, ms: u64) -> Micros {
        self.instance.address_hour.times(u128::from(ms), u128::from(HOUR_MS))
    }

    /// An instance's disk, of a month of `month_ms`.
    pub fn disk(&self, ms: u64, month_ms: u64) -> Micros {
        self.instance.disk_gb_month.times(u128::from(self.instance.disk_gb) * u128::from(ms), u128::from(month_ms))
    }

    /// What a client stores: KiB times seconds, of a month of `month_ms`.
    pub fn storage(&self, kib_seconds: u64, month_ms: u64) -> Micros {
        self.storage.gb_month.times(u128::from(kib_seconds) * 1000, (GB >> 10) * u128::from(month_ms))
    }

    /// Requests to a bucket: those that write or list, and those that read.
    pub fn bucket_requests(&self, puts: u64, gets: u64) -> Micros {
        self.storage.puts_1000.times(u128::from(puts), 1000) + self.storage.gets_1000.times(u128::from(gets), 1000)
    }

    /// What a client sends, of the `total` that all clients send in that month. It has as large a part of what
    /// is free as it has of the total, in whole bytes rounded down.
    pub fn traffic(&self, bytes: u64, total: u64) -> Micros {
        let (bytes, total) = (u128::from(bytes), u128::from(total.max(bytes)));
        let free = (u128::from(self.traffic.free_gb) * GB).min(total);
        let own_free = (bytes * free).checked_div(total).unwrap_or(0);
        self.traffic.gb.times(bytes - own_free, GB)
    }

    pub fn dns(&self, queries: u64) -> Micros {
        self.dns.queries_million.times(u128::from(queries), 1_000_000)
    }

    pub fn mail(&self, mails: u64) -> Micros {
        self.mail.mails_1000.times(u128::from(mails), 1000)
    }

    /// What is the same each month, for `ms` of a month of `month_ms`, each with its name.
    pub fn fixed(&self, ms: u64, month_ms: u64) -> Vec<(String, Micros)> {
        let part = |(name, price): (&String, &Price)| (name.clone(), price.times(u128::from(ms), u128::from(month_ms)));
        self.fixed_month.iter().map(part).collect()
    }
}

/// The price of one unit of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Price(u64);

impl Price {
    /// The dearest: ten thousand dollars a unit. With it no product here leaves 128 bits.
    const MAX: u64 = 10_000_000_000;

    /// `units / per` units of it: exact until the end, and then rounded half up to a whole micro-dollar.
    fn times(self, units: u128, per: u128) -> Micros {
        Micros::rounded(u128::from(self.0) * units, per)
    }

    /// From dollars as a person writes them: `0.0104`.
    fn parse(text: &str) -> Result<Self, String> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) {
            return Err(format!("{text} is not a price: write dollars, such as 0.0104"));
        }
        if decimals.len() > 6 {
            return Err(format!("{text} has more than six decimals: the smallest price is 0.000001 dollars"));
        }
        let micros = format!("{whole}{decimals:0<6}").parse().ok().filter(|micros| *micros <= Self::MAX);
        micros.map(Self).ok_or_else(|| format!("{text} is more than {} dollars", Self::MAX / 1_000_000))
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Dollars)
    }
}

/// Reads a number by its shortest decimals: those that were written, up to 15 digits.
struct Dollars;

impl de::Visitor<'_> for Dollars {
    type Value = Price;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a price in dollars, such as 0.0104")
    }

    fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Price, E> {
        Price::parse(&dollars.to_string()).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Price, E> {
        Price::parse(&dollars.to_string()).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, dollars: &str) -> Result<Price, E> {
        Price::parse(dollars).map_err(E::custom)
    }
}

#[cfg(test)]
#[path = "prices_tests.rs"]
mod tests;

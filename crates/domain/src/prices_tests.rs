use proptest::prelude::*;

use super::*;
use crate::plan::{DEFAULT_PLANS, Plans};

const MONTH_MS: u64 = 30 * 24 * HOUR_MS;

fn prices() -> Prices {
    Prices::parse(DEFAULT_PRICES).unwrap()
}

/// The built-in file with one thing said otherwise.
fn with(from: &str, to: &str) -> Result<Prices, BadPrices> {
    assert_eq!(DEFAULT_PRICES.matches(from).count(), 1, "{from}");
    Prices::parse(&DEFAULT_PRICES.replace(from, to))
}

#[test]
fn a_month_of_each_thing_costs_what_the_price_list_says() {
    let prices = prices();
    let instance = prices.compute("t3.micro", MONTH_MS).unwrap();
    assert_eq!(instance, Micros(7_488_000), "720 hours at $0.0104");
    assert_eq!(prices.address(MONTH_MS), Micros(3_600_000));
    assert_eq!(prices.disk(MONTH_MS / 2, MONTH_MS), Micros(1_200_000));
    let gb_month = (1 << 20) * MONTH_MS / 1000;
    assert_eq!(prices.storage(10 * gb_month, MONTH_MS), Micros(230_000));
    assert_eq!(prices.bucket_requests(2_000, 10_000), Micros(10_000 + 4_000));
    assert_eq!(prices.dns(2_500_000), Micros(1_000_000));
    assert_eq!(prices.mail(1_234), Micros(123_400));
    assert_eq!(prices.fixed(MONTH_MS / 2, MONTH_MS), [("Hosted zone".to_owned(), Micros(250_000))]);
}

#[test]
fn everyone_has_their_part_of_what_is_free() {
    let (prices, gb) = (prices(), 1_u64 << 30);
    assert_eq!(prices.traffic(100 * gb, 100 * gb), Micros(0));
    assert_eq!(prices.traffic(200 * gb, 200 * gb), Micros(9_000_000));
    assert_eq!(prices.traffic(50 * gb, 200 * gb), Micros(2_250_000));
    assert_eq!(prices.traffic(0, 0), Micros(0));
}

#[test]
fn every_built_in_plan_has_a_price_and_another_is_named() {
    let plans = Plans::parse(DEFAULT_PLANS).unwrap();
    assert_eq!(prices().unpriced(&plans), []);
    let missing = with("\"t3.medium\" = 0.0416\n", "").unwrap();
    let unpriced = missing.unpriced(&plans);
    assert_eq!(unpriced.len(), 1);
    let said = unpriced[0].to_string();
    assert!(said.starts_with("t3.medium (the trial, plan enterprise) has no price"), "{said}");
    assert!(said.contains("\"t3.medium\" = …") && said.contains("[instance_hour]"), "{said}");
    assert_eq!(missing.compute("t3.medium", HOUR_MS), None);
}

#[test]
fn prices_are_read_to_the_last_digit_however_they_are_written() {
    for written in ["0.0104", "\"0.0104\"", "1.04e-2"] {
        assert_eq!(with("\"t3.micro\" = 0.0104", &format!("\"t3.micro\" = {written}")).unwrap(), prices(), "{written}");
    }
    let whole = with("\"Hosted zone\" = 0.50", "\"Hosted zone\" = 11").unwrap();
    assert_eq!(whole.fixed(1, 1), [("Hosted zone".to_owned(), Micros(11_000_000))]);
    let hundred_thousandths = with("\"t3.micro\" = 0.0104", "\"t3.micro\" = 0.089251").unwrap();
    assert_eq!(hundred_thousandths.compute("t3.micro", HOUR_MS), Some(Micros(89_251)));
}

#[test]
fn a_bad_price_file_is_refused_and_says_what_to_do() {
    let price = |written: &str| with("\"t3.micro\" = 0.0104", &format!("\"t3.micro\" = {written}"));
    for (wrong, said) in [
        (price("-0.0104"), "is not a price: write dollars"),
        (price("0.00000104"), "more than six decimals"),
        (price("10001"), "more than 10000 dollars"),
        (price("nan"), "is not a price"),
        (price("\"cheap\""), "is not a price"),
        (price("true"), "a price in dollars"),
        (with("gb = 0.09\n", ""), "missing field `gb`"),
        (with("[traffic]\n", "[traffic]\ngbb = 0.09\n"), "gbb"),
        (with("disk_gb = 30", "disk_gb = -8"), "disk_gb"),
        (Prices::parse(""), "instance_hour"),
    ] {
        let error = wrong.unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("price file"), "{said}: {error}");
    }
    let (before, rest) = DEFAULT_PRICES.split_once("\"t3.nano\"").unwrap();
    let (_, after) = rest.split_once("[instance]").unwrap();
    let empty = Prices::parse(&format!("{before}[instance]{after}")).unwrap_err().to_string();
    assert!(empty.contains("no line below [instance_hour]"), "{empty}");
}

proptest! {
    /// More of anything never costs less, and nothing costs less than nothing.
    #[test]
    fn costs_grow_with_use(less in 0_u64..1 << 50, more in 0_u64..1 << 50, others in 0_u64..1 << 50) {
        let prices = prices();
        let (most, ms) = (less + more, MONTH_MS);
        let costs = |n: u64| [
            prices.traffic(n, n + others),
            prices.storage(n, ms),
            prices.bucket_requests(n, n),
            prices.dns(n),
            prices.mail(n),
            prices.compute("t3.medium", n % ms).unwrap() + prices.address(n % ms) + prices.disk(n % ms, ms),
        ];
        let (a, b) = (costs(less), costs(most));
        prop_assert!(a.iter().chain(&b).all(|cost| cost.0 >= 0));
        prop_assert!(a[..5].iter().zip(&b[..5]).all(|(a, b)| a <= b), "{a:?} {b:?}");
    }

    /// The parts of the traffic cost what the whole costs but for rounding: half a micro-dollar each.
    #[test]
    fn traffic_is_paid_once(parts in proptest::collection::vec(0_u64..1 << 44, 1..40)) {
        let (prices, total) = (prices(), parts.iter().sum::<u64>());
        let sum: i64 = parts.iter().map(|&part| prices.traffic(part, total).0).sum();
        let whole = prices.traffic(total, total).0;
        prop_assert!((sum - whole).unsigned_abs() <= parts.len() as u64, "{sum} {whole}");
    }
}

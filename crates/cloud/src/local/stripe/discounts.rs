//! What a redeemed coupon takes off invoices, and for how long: <https://docs.stripe.com/billing/subscriptions/coupons>.
//!
//! A discount is taken off the lines of periods. Prorations are not discounted again: they are made of prices that are
//! discounted already, what is given back of what the period had cost, what is charged of what it costs from then on
//! (<https://docs.stripe.com/billing/subscriptions/prorations#prorations-and-discounts>).

use serde_json::{Value, json};

use super::calendar;
use super::state::{Tx, int, text};

/// Begins a discount of a subscription. It keeps the coupon's terms, which outlive the coupon.
pub(super) fn begin(tx: &mut Tx<'_>, coupon: &Value, code: &Value, subscription: &Value) -> Value {
    let months = coupon["duration_in_months"].as_i64();
    let discount = json!({
        "id": Tx::id("di_"), "object": "discount", "checkout_session": null, "customer": subscription["customer"],
        "customer_account": null, "end": months.map(|months| calendar::months_later(tx.now, months)), "invoice": null,
        "invoice_item": null, "promotion_code": code["id"], "source": {"type": "coupon", "coupon": coupon["id"]},
        "start": tx.now, "subscription": subscription["id"], "subscription_item": null,
        "_coupon": coupon, "_code": code["code"],
    });
    tx.created(discount, "customer.discount.created")
}

/// A subscription's discounts that count at an instant.
pub(super) fn at(tx: &Tx<'_>, subscription: &Value, at: i64) -> Vec<Value> {
    let ids = subscription["discounts"].as_array().into_iter().flatten();
    let found = ids.filter_map(|id| tx.get(id.as_str()?));
    found.filter(|discount| discount["end"].as_i64().is_none_or(|end| end > at)).cloned().collect()
}

/// Takes discounts off the lines that may be discounted, and says of each what it came to.
pub(super) fn take_off(lines: &mut [Value], discounts: &[Value]) -> Vec<Value> {
    let mut open: Vec<&mut Value> = lines.iter_mut().filter(|line| line["discountable"] == true).collect();
    let mut amounts = Vec::new();
    if open.is_empty() {
        return amounts;
    }
    for discount in discounts {
        let coupon = &discount["_coupon"];
        let mut whole: i64 = open.iter().map(|line| net(line)).sum();
        let mut off = taken(coupon, whole);
        amounts.push(json!({"amount": off, "discount": discount["id"]}));
        for line in &mut open {
            // Each line bears its share of what is left, so that the shares come to the whole.
            let left = net(line);
            let share = if whole == 0 { 0 } else { rounded(off, left, whole) };
            (whole, off) = (whole - left, off - share);
            if let Some(own) = line["discount_amounts"].as_array_mut() {
                own.push(json!({"amount": share, "discount": discount["id"]}));
            }
        }
    }
    amounts
}

/// What a coupon takes off an amount: never more than it is.
pub(super) fn taken(coupon: &Value, amount: i64) -> i64 {
    let off = match coupon["percent_off"].as_f64() {
        // Hundredths of a percent are whole.
        Some(percent) => rounded(amount, (percent * 100.0).round() as i64, 10_000),
        None => int(coupon, "amount_off"),
    };
    off.clamp(0, amount.max(0))
}

/// `amount` times `part` of `whole`; half a cent is rounded up.
fn rounded(amount: i64, part: i64, whole: i64) -> i64 {
    let (amount, part, whole) = (i128::from(amount), i128::from(part), i128::from(whole));
    i64::try_from((amount * part * 2 + whole).div_euclid(whole * 2)).unwrap_or(i64::MAX)
}

/// A line's amount without what is taken off it.
pub(super) fn net(line: &Value) -> i64 {
    let off = line["discount_amounts"].as_array().into_iter().flatten();
    int(line, "amount") - off.map(|one| int(one, "amount")).sum::<i64>()
}

/// Ends the discounts whose time is over, and those for one invoice that something was taken off by. Their objects
/// stay, since invoices name them. The caller stores the subscription.
pub(super) fn settle(tx: &mut Tx<'_>, subscription: &mut Value, amounts: &[Value]) {
    let ids: Vec<String> = subscription["discounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    let mut kept = Vec::new();
    for id in ids {
        let Some(discount) = tx.get(&id).cloned() else { continue };
        let used = amounts.iter().any(|one| text(one, "discount") == id && int(one, "amount") > 0);
        let once = discount["_coupon"]["duration"] == "once" && used;
        if once || discount["end"].as_i64().is_some_and(|end| end <= tx.now) {
            tx.emit("customer.discount.deleted", &discount, None);
        } else {
            kept.push(id);
        }
    }
    subscription["discounts"] = kept.into();
}

/// A discount in words: `LAUNCH20, 20% off`.
pub(super) fn words(discount: &Value) -> String {
    let coupon = &discount["_coupon"];
    let code = text(discount, "_code");
    format!("{code}, {}", terms(coupon))
}

/// `20% off`, `$50.00 off for 3 months`
pub(super) fn terms(coupon: &Value) -> String {
    let off = match coupon["percent_off"].as_f64() {
        Some(percent) => format!("{percent}% off"),
        None => format!("{} off", super::catalog::money(int(coupon, "amount_off"), text(coupon, "currency"))),
    };
    match (text(coupon, "duration"), int(coupon, "duration_in_months")) {
        ("repeating", 1) => format!("{off} for a month"),
        ("repeating", months) => format!("{off} for {months} months"),
        ("once", _) => format!("{off} once"),
        _ => off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(amount: i64, discountable: bool) -> Value {
        json!({"amount": amount, "discountable": discountable, "discount_amounts": []})
    }

    fn coupon(percent: Option<f64>, amount: Option<i64>) -> Value {
        json!({"id": "di_1", "_coupon": {"percent_off": percent, "amount_off": amount}})
    }

    #[test]
    fn each_line_bears_its_share_and_prorations_bear_none() {
        let mut lines = [line(1_000, true), line(-500, false), line(333, true), line(0, true)];
        let amounts = take_off(&mut lines, &[coupon(None, Some(100))]);
        assert_eq!(amounts[0]["amount"], 100);
        assert_eq!(lines.each_ref().map(net), [925, -500, 308, 0]);
        let amounts = take_off(&mut lines, &[coupon(Some(12.5), None)]);
        assert_eq!(amounts[0]["amount"], 154, "of 1,233 that are left");
    }

    #[test]
    fn nothing_costs_less_than_nothing() {
        assert_eq!(taken(&json!({"amount_off": 5_000}), 299), 299);
        assert_eq!(taken(&json!({"percent_off": 100.0}), 299), 299);
        assert_eq!(taken(&json!({"percent_off": 50}), 299), 150, "half a cent is rounded up");
        assert_eq!(taken(&json!({"amount_off": 5}), 0), 0);
        let mut nothing = [line(0, true)];
        assert_eq!(take_off(&mut nothing, &[coupon(None, Some(100))])[0]["amount"], 0);
    }
}

//! What changing a subscription's items in the middle of a period costs.
//!
//! Unused time of the old price is given back and the rest of the period is charged at the new one, to the
//! second (<https://docs.stripe.com/billing/subscriptions/prorations>). A price with another interval
//! starts a new period at once, which is invoiced at once.

use serde_json::Value;

use super::error::{ApiError, Result};
use super::form::Params;
use super::invoices::{cost, draft, line, period_lines, product_name};
use super::state::{Tx, int, text};
use super::subscriptions::{self, items};
use super::{calendar, discounts};

/// New items and how to bill them.
pub(super) struct Change {
    items: Vec<Value>,
    behavior: &'static str,
    /// The moment (seconds) from which on the new items count.
    date: i64,
}

/// What a change does: the subscription after it, what it adds to the next invoice, and whether that is
/// sent at once.
pub(super) struct Outcome {
    pub(super) subscription: Value,
    pub(super) lines: Vec<Value>,
    pub(super) at_once: bool,
}

/// Reads `items`, `proration_behavior` and `proration_date`; none when the items stay as they are.
pub(super) fn read(tx: &Tx<'_>, subscription: &Value, params: &mut Params) -> Result<Option<Change>> {
    let behaviors = ["create_prorations", "always_invoice", "none"];
    let behavior = params.one_of("proration_behavior", &behaviors)?.unwrap_or("create_prorations");
    let date = proration_date(tx, subscription, params)?;
    let levels = params.levels("items")?;
    if levels.is_empty() {
        return Ok(None);
    }
    let mut changed = items(subscription).to_vec();
    for mut level in levels {
        change_item(tx, subscription, &mut changed, &mut level)?;
        level.finish()?;
    }
    let first = changed.first().map(|item| item["price"]["recurring"].clone());
    let Some(first) = first else { return Err(ApiError::state("A subscription must have at least one active plan.")) };
    if changed.iter().any(|item| item["price"]["recurring"] != first) {
        return Err(ApiError::state("All prices of a subscription must have the same billing interval."));
    }
    Ok(Some(Change { items: changed, behavior, date }))
}

/// As previewed a moment ago, or now.
fn proration_date(tx: &Tx<'_>, subscription: &Value, params: &mut Params) -> Result<i64> {
    let Some(date) = params.int("proration_date")? else { return Ok(tx.now) };
    let item = &items(subscription)[0];
    if (int(item, "current_period_start")..=int(item, "current_period_end")).contains(&date) {
        return Ok(date);
    }
    let message = "Cannot specify proration date outside of current subscription period.";
    Err(ApiError::invalid("parameter_invalid_integer", message, &params.name("proration_date")))
}

fn change_item(tx: &Tx<'_>, subscription: &Value, changed: &mut Vec<Value>, level: &mut Params) -> Result<()> {
    let price = level.text("price")?;
    let quantity = level.int("quantity")?;
    let param = level.name("price");
    let Some(id) = level.text("id")? else {
        let price = subscriptions::recurring_price(tx, &price.ok_or_else(|| level.absent("price"))?, &param)?;
        let first = &items(subscription)[0];
        let period = (int(first, "current_period_start"), int(first, "current_period_end"));
        changed.push(subscriptions::new_item(tx, text(subscription, "id"), &price, quantity.unwrap_or(1), period));
        return Ok(());
    };
    let missing =
        || ApiError::invalid("resource_missing", format!("No such subscription item: '{id}'"), &level.name("id"));
    let at = changed.iter().position(|item| item["id"] == id.as_str()).ok_or_else(missing)?;
    if level.flag("deleted")? == Some(true) {
        changed.remove(at);
        return Ok(());
    }
    let before = changed[at].clone();
    if let Some(price) = price {
        changed[at]["price"] = subscriptions::recurring_price(tx, &price, &param)?;
    }
    if let Some(quantity) = quantity {
        changed[at]["quantity"] = quantity.into();
    }
    if changed[at] != before {
        changed[at]["_period_cost"] = Value::Null;
    }
    Ok(())
}

/// What `change` does to `subscription` now.
pub(super) fn apply(tx: &Tx<'_>, mut subscription: Value, change: Change) -> Outcome {
    let old = items(&subscription).to_vec();
    let new_interval = old[0]["price"]["recurring"] != change.items[0]["price"]["recurring"];
    let trial = subscription["status"] == "trialing";
    let free = trial || change.behavior == "none";
    let mut lines = Vec::new();
    for before in old.iter().filter(|_| !free) {
        let after = change.items.iter().find(|item| item["id"] == before["id"]);
        if new_interval || after != Some(before) {
            lines.push(part(tx, before, period_cost(before), change.date, -1, "Unused time on"));
        }
    }
    let discounts = discounts::at(tx, &subscription, change.date);
    subscription["items"]["data"] = change.items.into();
    if !free && !new_interval {
        // What the whole period would cost is what a later change gives back a part of.
        let mut periods = period_lines(tx, &subscription);
        discounts::take_off(&mut periods, &discounts);
        for (after, period) in subscription["items"]["data"].as_array_mut().into_iter().flatten().zip(&periods) {
            if !old.contains(after) {
                let cost = discounts::net(period);
                lines.push(part(tx, after, cost, change.date, 1, "Remaining time on"));
                after["_period_cost"] = cost.into();
            }
        }
    }
    if new_interval && !trial {
        let recurring = subscription["items"]["data"][0]["price"]["recurring"].clone();
        let (interval, count) = (text(&recurring, "interval"), int(&recurring, "interval_count"));
        let end = calendar::period_end(tx.now, tx.now, interval, count);
        subscription["billing_cycle_anchor"] = tx.now.into();
        subscriptions::set_period(&mut subscription, (tx.now, end));
        lines.extend(period_lines(tx, &subscription));
    }
    let at_once = !lines.is_empty() && (new_interval || change.behavior == "always_invoice");
    Outcome { subscription, lines, at_once }
}

/// What an item's period came to, discounts taken off.
fn period_cost(item: &Value) -> i64 {
    item["_period_cost"].as_i64().unwrap_or_else(|| cost(item))
}

/// The share of `item`, whose whole period costs so much, from `date` to the period's end.
fn part(tx: &Tx<'_>, item: &Value, period: i64, date: i64, sign: i64, words: &str) -> Value {
    let (start, end) = (int(item, "current_period_start"), int(item, "current_period_end"));
    let (left, whole) = (i128::from((end - date).clamp(0, end - start)), i128::from((end - start).max(1)));
    let share = (i128::from(period) * left * 2 + whole) / (whole * 2);
    let amount = sign * i64::try_from(share).unwrap_or(i64::MAX);
    let description = format!("{words} {} after {}", product_name(tx, &item["price"]), calendar::date(date));
    line(item, amount, description, (date, end), true)
}

/// The next invoice, if `change` were made now and nothing else later.
pub(super) fn preview(tx: &Tx<'_>, subscription: Value, change: Option<Change>) -> Value {
    let mut lines = pending(&subscription);
    let (mut subscription, at_once) = match change {
        None => (subscription, false),
        Some(change) => {
            let outcome = apply(tx, subscription, change);
            lines.extend(outcome.lines);
            (outcome.subscription, outcome.at_once)
        }
    };
    let reason = if at_once { "subscription_update" } else { "upcoming" };
    if !at_once {
        subscriptions::next_period(&mut subscription);
        subscription["status"] = "active".into();
        lines.extend(period_lines(tx, &subscription));
    }
    let mut invoice = draft(tx, &subscription, reason, lines);
    invoice["id"] = Tx::id("upcoming_in_").into();
    invoice["next_payment_attempt"] = items(&subscription)[0]["current_period_start"].clone();
    invoice
}

/// Lines that wait for the next invoice.
pub(super) fn pending(subscription: &Value) -> Vec<Value> {
    subscription["_pending"].as_array().cloned().unwrap_or_default()
}

//! Subscriptions: made, changed, cancelled. What time does to them is in `renewals`.

use serde_json::{Value, json};

use super::api::{Call, page_of};
use super::customers::living;
use super::error::{ApiError, Result};
use super::form::{Params, nullable};
use super::state::{Tx, int, list_of, text};
use super::{calendar, coupons, discounts, invoices, payments, proration};

const STATUSES: [&str; 9] =
    ["active", "past_due", "unpaid", "canceled", "incomplete", "incomplete_expired", "trialing", "paused", "all"];
const DAY: i64 = 86_400;
const ERROR_IF_INCOMPLETE: &str = "error_if_incomplete";

/// What a subscription is made of.
pub(super) struct Wanted {
    pub(super) customer: String,
    /// Prices and quantities.
    pub(super) items: Vec<(Value, i64)>,
    pub(super) method: Option<String>,
    pub(super) metadata: Value,
    pub(super) description: Value,
    pub(super) trial_end: Option<i64>,
    /// A promotion code that is redeemed for it.
    pub(super) code: Option<Value>,
}

pub(super) fn items(subscription: &Value) -> &[Value] {
    subscription["items"]["data"].as_array().map_or(&[], Vec::as_slice)
}

/// Whether nothing can happen to it any more.
pub(super) fn is_over(subscription: &Value) -> bool {
    matches!(text(subscription, "status"), "canceled" | "incomplete_expired")
}

pub(super) fn recurring_price(tx: &Tx<'_>, id: &str, param: &str) -> Result<Value> {
    let price = tx.need("price", id, param)?;
    if price["recurring"].is_null() {
        let message = format!(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`: {id}"
        );
        return Err(ApiError::invalid("parameter_invalid", message, param));
    }
    if price["active"] == false {
        let message = format!("The price specified is inactive. This field only accepts active prices: {id}");
        return Err(ApiError::invalid("parameter_invalid", message, param));
    }
    Ok(price)
}

/// Reads `items` or `line_items`: prices and quantities.
pub(super) fn read_items(tx: &Tx<'_>, params: &mut Params, name: &str) -> Result<Vec<(Value, i64)>> {
    let mut wanted: Vec<(Value, i64)> = Vec::new();
    for mut level in params.levels(name)? {
        let id = level.required("price")?;
        let price = recurring_price(tx, &id, &level.name("price"))?;
        let quantity = level.int("quantity")?.unwrap_or(1);
        if !(1..=999_999).contains(&quantity) {
            let message = "This value must be greater than or equal to 1.";
            return Err(ApiError::invalid("parameter_invalid_integer", message, &level.name("quantity")));
        }
        level.metadata(&Value::Null)?;
        level.finish()?;
        if wanted.first().is_some_and(|(first, _)| first["recurring"] != price["recurring"]) {
            return Err(ApiError::state("All prices of a subscription must have the same billing interval."));
        }
        wanted.push((price, quantity));
    }
    if wanted.is_empty() { Err(params.absent(name)) } else { Ok(wanted) }
}

pub(super) fn new_item(tx: &Tx<'_>, subscription: &str, price: &Value, quantity: i64, period: (i64, i64)) -> Value {
    json!({
        "id": Tx::id("si_"), "object": "subscription_item", "billing_thresholds": null, "created": tx.now,
        "current_period_end": period.1, "current_period_start": period.0, "discounts": [], "metadata": {},
        "price": price, "quantity": quantity, "subscription": subscription, "tax_rates": [],
    })
}

/// A subscription that has begun and has not been billed. It is not stored yet.
fn new_subscription(tx: &Tx<'_>, wanted: Wanted) -> Value {
    let id = Tx::id("sub_");
    let recurring = &wanted.items[0].0["recurring"];
    let anchor = wanted.trial_end.unwrap_or(tx.now);
    let end = calendar::period_end(anchor, tx.now, text(recurring, "interval"), int(recurring, "interval_count"));
    let item = |(price, quantity): &(Value, i64)| new_item(tx, &id, price, *quantity, (tx.now, end));
    let data = wanted.items.iter().map(item).collect();
    json!({
        "id": id, "object": "subscription", "application": null, "application_fee_percent": null,
        "automatic_tax": {"enabled": false, "liability": null}, "billing_cycle_anchor": anchor,
        "billing_cycle_anchor_config": null, "cancel_at": null, "cancel_at_period_end": false, "canceled_at": null,
        "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": "charge_automatically", "created": tx.now, "currency": wanted.items[0].0["currency"],
        "customer": wanted.customer, "days_until_due": null, "default_payment_method": wanted.method,
        "default_source": null, "description": wanted.description, "discounts": [], "ended_at": null,
        "items": list_of(data, &format!("/v1/subscription_items?subscription={id}")), "latest_invoice": null,
        "livemode": false, "metadata": wanted.metadata, "next_pending_invoice_item_invoice": null,
        "pause_collection": null, "payment_settings": {"payment_method_options": null, "payment_method_types": null,
            "save_default_payment_method": "off"},
        "pending_invoice_item_interval": null, "pending_setup_intent": null, "pending_update": null,
        "schedule": null, "start_date": tx.now, "test_clock": null, "trial_end": wanted.trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": wanted.trial_end.map(|_| tx.now),
        "status": if wanted.trial_end.is_some() { "trialing" } else { "active" },
        "_pending": [], "_retry_at": null, "_retries": 0,
    })
}

/// Makes a subscription and bills its first period. When that fails and `strict` is not set, it is
/// `incomplete` for 23 hours, as at Stripe.
pub(super) fn start(tx: &mut Tx<'_>, wanted: Wanted, entered: bool, strict: bool) -> Result<Value> {
    let code = wanted.code.clone();
    let mut subscription = new_subscription(tx, wanted);
    if let Some(code) = code {
        let coupon = coupons::redeem(tx, &code)?;
        let discount = discounts::begin(tx, &coupon, &code, &subscription);
        subscription["discounts"] = json!([discount["id"]]);
    }
    let method = method_of(tx, &subscription);
    let lines = invoices::period_lines(tx, &subscription);
    let free = lines.iter().all(|line| int(line, "amount") == 0);
    if !free && method.is_none() && strict {
        return Err(invoices::no_method());
    }
    let will_pay = free || method.as_ref().is_some_and(|method| entered || method["_fails_later"] != true);
    if !will_pay {
        subscription["status"] = "incomplete".into();
    }
    tx.created(subscription.clone(), "customer.subscription.created");
    let invoice = invoices::issue(tx, &mut subscription, "subscription_create", lines);
    tx.put(subscription.clone());
    let outcome = invoices::collect(tx, text(&invoice, "id"), method.as_ref(), entered);
    match outcome {
        Err(error) if strict => Err(ApiError { keep: false, ..error }),
        _ => Ok(subscription),
    }
}

/// The payment method that is charged: the subscription's own, else the customer's default.
pub(super) fn method_of(tx: &Tx<'_>, subscription: &Value) -> Option<Value> {
    let customer = tx.get(text(subscription, "customer"));
    let of_customer = customer.map_or("", |customer| text(&customer["invoice_settings"], "default_payment_method"));
    let own = text(subscription, "default_payment_method");
    tx.get(if own.is_empty() { of_customer } else { own }).cloned()
}

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let customer = params.required("customer")?;
    living(tx, &customer, "customer")?;
    let method = params.text("default_payment_method")?.filter(|method| !method.is_empty());
    payments::of_customer(tx, method.as_deref().unwrap_or(""), &customer, "default_payment_method")?;
    let behavior = payment_behavior(params)?;
    params.one_of("collection_method", &["charge_automatically"])?;
    let wanted = Wanted {
        items: read_items(tx, params, "items")?,
        metadata: params.metadata(&Value::Null)?,
        description: nullable(params.text("description")?.unwrap_or_default()),
        trial_end: trial_end(tx, params)?,
        code: None,
        customer,
        method,
    };
    let at_period_end = params.flag("cancel_at_period_end")?.unwrap_or(false);
    if wanted.trial_end.is_none() && no_method(tx, &wanted) && behavior != "default_incomplete" {
        return Err(invoices::no_method());
    }
    let mut subscription = start(tx, wanted, false, behavior == ERROR_IF_INCOMPLETE)?;
    if at_period_end {
        cancel_at_period_end(tx, &mut subscription, true);
        tx.put(subscription.clone());
    }
    Ok(subscription)
}

fn no_method(tx: &Tx<'_>, wanted: &Wanted) -> bool {
    wanted.method.is_none()
        && method_of(tx, &json!({"customer": wanted.customer})).is_none()
        && wanted.items.iter().any(|(price, _)| int(price, "unit_amount") > 0)
}

/// `trial_period_days` or `trial_end`, as an instant.
pub(super) fn trial_end(tx: &Tx<'_>, params: &mut Params) -> Result<Option<i64>> {
    let days = params.int("trial_period_days")?.filter(|days| *days > 0);
    let end = params.int("trial_end")?.or(days.map(|days| tx.now.saturating_add(days.saturating_mul(DAY))));
    match end {
        Some(end) if end <= tx.now || end > tx.now + 730 * DAY => {
            let message = "The trial must end in the future, and within two years.";
            Err(ApiError::invalid("parameter_invalid_integer", message, "trial_end"))
        }
        other => Ok(other),
    }
}

pub(super) fn cancel_at_period_end(tx: &Tx<'_>, subscription: &mut Value, yes: bool) {
    if subscription["cancel_at_period_end"] == yes {
        return;
    }
    let end = items(subscription)[0]["current_period_end"].clone();
    subscription["cancel_at_period_end"] = yes.into();
    subscription["cancel_at"] = if yes { end } else { Value::Null };
    subscription["canceled_at"] = if yes { tx.now.into() } else { Value::Null };
    let reason = if yes { "cancellation_requested".into() } else { Value::Null };
    subscription["cancellation_details"]["reason"] = reason;
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = call.params.text("customer")?;
    let price = call.params.text("price")?;
    let status = call.params.one_of("status", &STATUSES)?;
    page_of(tx, call, "subscription", customer.as_deref(), |one| {
        let in_status = match status {
            None => one["status"] != "canceled" && one["status"] != "incomplete_expired",
            Some("all") => true,
            Some(status) => one["status"] == status,
        };
        in_status && price.as_ref().is_none_or(|id| items(one).iter().any(|item| item["price"]["id"] == id.as_str()))
    })
}

pub(super) fn update(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut subscription = tx.need("subscription", call.id(), "id")?;
    let params = &mut call.params;
    subscription["metadata"] = params.metadata(&subscription["metadata"])?;
    if is_over(&subscription) {
        params.finish().map_err(|_| ApiError::state("A canceled subscription can only update its metadata."))?;
        return Ok(tx.updated(subscription, "customer.subscription.updated"));
    }
    if let Some(method) = params.text("default_payment_method")? {
        payments::of_customer(tx, &method, text(&subscription, "customer"), "default_payment_method")?;
        subscription["default_payment_method"] = nullable(method);
    }
    if let Some(description) = params.text("description")? {
        subscription["description"] = nullable(description);
    }
    if let Some(yes) = params.flag("cancel_at_period_end")? {
        cancel_at_period_end(tx, &mut subscription, yes);
    }
    let strict = payment_behavior(params)? == ERROR_IF_INCOMPLETE;
    let change = proration::read(tx, &subscription, params)?;
    params.finish()?;
    match change {
        Some(change) => change_items(tx, subscription, change, strict),
        None => Ok(tx.updated(subscription, "customer.subscription.updated")),
    }
}

/// What happens when the first payment fails: an error, or a subscription that waits for it.
fn payment_behavior(params: &mut Params) -> Result<&'static str> {
    let allowed = ["allow_incomplete", "default_incomplete", ERROR_IF_INCOMPLETE];
    Ok(params.one_of("payment_behavior", &allowed)?.unwrap_or("allow_incomplete"))
}

fn change_items(tx: &mut Tx<'_>, subscription: Value, change: proration::Change, strict: bool) -> Result<Value> {
    let outcome = proration::apply(tx, subscription, change);
    let mut subscription = outcome.subscription;
    let mut lines = proration::pending(&subscription);
    lines.extend(outcome.lines);
    if subscription["cancel_at_period_end"] == true {
        subscription["cancel_at"] = items(&subscription)[0]["current_period_end"].clone();
    }
    if !outcome.at_once {
        subscription["_pending"] = lines.into();
        return Ok(tx.updated(subscription, "customer.subscription.updated"));
    }
    subscription["_pending"] = json!([]);
    let invoice = invoices::issue(tx, &mut subscription, "subscription_update", lines);
    let method = method_of(tx, &subscription);
    match invoices::collect(tx, text(&invoice, "id"), method.as_ref(), false) {
        Err(error) if strict => return Err(ApiError { keep: false, ..error }),
        Err(_) => super::renewals::fall_behind(tx, &mut subscription),
        Ok(_) => {}
    }
    Ok(tx.updated(subscription, "customer.subscription.updated"))
}

pub(super) fn cancel(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let subscription = tx.need("subscription", call.id(), "id")?;
    call.params.flag("invoice_now")?;
    call.params.flag("prorate")?;
    if is_over(&subscription) {
        return Err(ApiError::missing("subscription", call.id(), "id"));
    }
    Ok(end(tx, subscription, "cancellation_requested"))
}

/// Ends it now.
pub(super) fn end(tx: &mut Tx<'_>, mut subscription: Value, reason: &str) -> Value {
    subscription["status"] = "canceled".into();
    subscription["ended_at"] = tx.now.into();
    if subscription["canceled_at"].is_null() {
        subscription["canceled_at"] = tx.now.into();
    }
    subscription["cancellation_details"]["reason"] = reason.into();
    subscription["_retry_at"] = Value::Null;
    tx.put(subscription.clone());
    tx.emit("customer.subscription.deleted", &subscription, None);
    subscription
}

/// Its invoice was paid: it is in good standing again.
pub(super) fn settled(tx: &mut Tx<'_>, mut subscription: Value) {
    if !matches!(text(&subscription, "status"), "past_due" | "incomplete" | "unpaid") {
        return;
    }
    clear(&mut subscription);
    tx.updated(subscription, "customer.subscription.updated");
}

/// In good standing, with no payment to try again. The caller stores it.
pub(super) fn clear(subscription: &mut Value) {
    subscription["status"] = "active".into();
    subscription["_retry_at"] = Value::Null;
    subscription["_retries"] = 0.into();
}

pub(super) fn set_period(subscription: &mut Value, period: (i64, i64)) {
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        item["current_period_start"] = period.0.into();
        item["current_period_end"] = period.1.into();
    }
}

/// Moves to the period that follows the current one.
pub(super) fn next_period(subscription: &mut Value) {
    let first = &items(subscription)[0];
    let (start, recurring) = (int(first, "current_period_end"), &first["price"]["recurring"]);
    let anchor = int(subscription, "billing_cycle_anchor");
    let end = calendar::period_end(anchor, start, text(recurring, "interval"), int(recurring, "interval_count"));
    set_period(subscription, (start, end));
}

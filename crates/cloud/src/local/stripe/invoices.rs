//! Invoices: what a subscription owes, and how it is collected.

use serde_json::{Value, json};

use super::api::{Call, page_of};
use super::catalog::{every, money};
use super::error::{ApiError, Result};
use super::state::{Tx, int, list_of, text, together};
use super::{discounts, payments, proration, subscriptions, tax_ids};

/// One line, for `item` between two instants (seconds).
pub(super) fn line(item: &Value, amount: i64, description: String, period: (i64, i64), proration: bool) -> Value {
    let price = &item["price"];
    json!({
        "id": Tx::id("il_"), "object": "line_item", "amount": amount, "currency": price["currency"],
        "description": description, "discount_amounts": [], "discountable": !proration, "discounts": [],
        "livemode": false, "metadata": {},
        "parent": {"type": "subscription_item_details", "subscription_item_details": {"proration": proration,
            "subscription": item["subscription"], "subscription_item": item["id"]}},
        "period": {"start": period.0, "end": period.1},
        "pricing": {"type": "price_details", "unit_amount_decimal": price["unit_amount_decimal"],
            "price_details": {"price": price["id"], "product": price["product"]}},
        "quantity": item["quantity"], "subtotal": amount, "taxes": [],
    })
}

/// What each item costs for its current period; nothing while the trial lasts.
pub(super) fn period_lines(tx: &Tx<'_>, subscription: &Value) -> Vec<Value> {
    let trial = subscription["status"] == "trialing";
    let of_item = |item: &Value| {
        let (price, quantity) = (&item["price"], int(item, "quantity"));
        let period = (int(item, "current_period_start"), int(item, "current_period_end"));
        let name = product_name(tx, price);
        if trial {
            return line(item, 0, format!("Trial period for {name}"), period, false);
        }
        let unit = money(int(price, "unit_amount"), text(price, "currency"));
        let description = format!("{quantity} × {name} (at {unit} / {})", every(price));
        line(item, cost(item), description, period, false)
    };
    subscriptions::items(subscription).iter().map(of_item).collect()
}

pub(super) fn cost(item: &Value) -> i64 {
    int(&item["price"], "unit_amount").saturating_mul(int(item, "quantity"))
}

pub(super) fn product_name<'t>(tx: &'t Tx<'_>, price: &Value) -> &'t str {
    tx.get(text(price, "product")).map_or("", |product| text(product, "name"))
}

/// An invoice that nobody has seen yet. Discounts and what the customer's balance pays are taken off.
pub(super) fn draft(tx: &Tx<'_>, subscription: &Value, reason: &str, mut lines: Vec<Value>) -> Value {
    let id = Tx::id("in_");
    let customer = tx.get(text(subscription, "customer")).cloned().unwrap_or_default();
    // One that is only previewed may be of a period that has not begun.
    let starts = subscriptions::items(subscription).first().map_or(0, |item| int(item, "current_period_start"));
    let discounts = discounts::at(tx, subscription, tx.now.max(starts));
    let subtotal: i64 = lines.iter().map(|line| int(line, "amount")).sum();
    let discounted = discounts::take_off(&mut lines, &discounts);
    let total = lines.iter().map(discounts::net).sum::<i64>();
    let balance = int(&customer, "balance");
    let due = total.saturating_add(balance).max(0);
    let ending = total.saturating_add(balance).min(0);
    let start = lines.iter().map(|line| int(&line["period"], "start")).min();
    let end = lines.iter().map(|line| int(&line["period"], "end")).max();
    let page = format!("{}/i/{id}", tx.settings.base_url);
    let ids: Vec<&Value> = discounts.iter().map(|discount| &discount["id"]).collect();
    let amounts = json!({
        "amount_due": due, "amount_overpaid": 0, "amount_paid": 0, "amount_remaining": due, "amount_shipping": 0,
        "ending_balance": ending, "starting_balance": balance, "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal, "total": total, "total_discount_amounts": discounted,
        "total_excluding_tax": total, "total_taxes": [],
    });
    let state = json!({
        "attempt_count": 0, "attempted": false, "auto_advance": true, "effective_at": null, "due_date": null,
        "last_finalization_error": null, "next_payment_attempt": null, "number": null, "status": "draft",
        "status_transitions": {"finalized_at": null, "marked_uncollectible_at": null, "paid_at": null,
            "voided_at": null},
        "webhooks_delivered_at": null,
    });
    let invoice = json!({
        "id": id, "object": "invoice", "account_country": "US", "account_name": tx.settings.publishable_name,
        "billing_reason": reason, "collection_method": "charge_automatically", "created": tx.now,
        "currency": subscription["currency"], "customer": subscription["customer"],
        "customer_address": customer["address"], "customer_email": customer["email"],
        "customer_name": customer["name"], "customer_phone": customer["phone"], "customer_tax_exempt": "none",
        "customer_tax_ids": tax_ids::shown(&customer), "default_payment_method": null,
        "description": null, "discounts": ids, "hosted_invoice_url": page, "invoice_pdf": null,
        "lines": list_of(lines.clone(), &format!("/v1/invoices/{id}/lines")), "livemode": false, "metadata": {},
        "parent": {"type": "subscription_details", "quote_details": null, "subscription_details": {
            "metadata": subscription["metadata"], "subscription": subscription["id"]}},
        "payments": list_of(Vec::new(), &format!("/v1/invoice_payments?invoice={id}")),
        "period_end": end.unwrap_or(tx.now), "period_start": start.unwrap_or(tx.now), "receipt_number": null,
        "test_clock": null,
    });
    together([invoice, state, amounts])
}

/// Makes an invoice and finalizes it, which makes it the subscription's latest one. The caller stores the
/// subscription.
pub(super) fn issue(tx: &mut Tx<'_>, subscription: &mut Value, reason: &str, lines: Vec<Value>) -> Value {
    let draft = draft(tx, subscription, reason, lines);
    let mut invoice = tx.created(draft, "invoice.created");
    discounts::settle(tx, subscription, invoice["total_discount_amounts"].as_array().map_or(&[], Vec::as_slice));
    remember_costs(subscription, &invoice);
    if let Some(mut customer) = tx.get(text(subscription, "customer")).cloned() {
        let number = int(&customer, "next_invoice_sequence");
        invoice["number"] = format!("{}-{number:04}", text(&customer, "invoice_prefix")).into();
        customer["next_invoice_sequence"] = (number + 1).into();
        customer["balance"] = invoice["ending_balance"].clone();
        tx.put(customer);
    }
    invoice["status"] = "open".into();
    invoice["effective_at"] = tx.now.into();
    invoice["invoice_pdf"] = format!("{}/pdf", text(&invoice, "hosted_invoice_url")).into();
    invoice["status_transitions"]["finalized_at"] = tx.now.into();
    tx.put(invoice.clone());
    tx.emit("invoice.finalized", &invoice, None);
    subscription["latest_invoice"] = invoice["id"].clone();
    invoice
}

/// What each item's period came to, which is what is given back of it when the item changes.
fn remember_costs(subscription: &mut Value, invoice: &Value) {
    let lines = invoice["lines"]["data"].as_array().into_iter().flatten();
    let periods: Vec<(&Value, i64)> = lines
        .map(|line| (&line["parent"]["subscription_item_details"], discounts::net(line)))
        .filter(|(of, _)| of["proration"] == false)
        .collect();
    for item in subscription["items"]["data"].as_array_mut().into_iter().flatten() {
        if let Some((_, net)) = periods.iter().find(|(of, _)| of["subscription_item"] == item["id"]) {
            item["_period_cost"] = (*net).into();
        }
    }
}

/// Whether the customer has paid anything yet.
pub(super) fn has_paid(tx: &Tx<'_>, customer: &str) -> bool {
    tx.list_of("invoice", customer).any(|one| int(one, "amount_paid") > 0)
}

/// Takes the money for an open invoice from `method`. A decline is recorded and returned; what it means
/// for the subscription is the caller's. `entered` says that the card was typed a moment ago.
pub(super) fn collect(tx: &mut Tx<'_>, id: &str, method: Option<&Value>, entered: bool) -> Result<Value> {
    let mut invoice = tx.need("invoice", id, "invoice")?;
    match text(&invoice, "status") {
        "open" => {}
        "paid" => return Err(already_paid()),
        status => return Err(ApiError::state(format!("This invoice can't be paid: it is {status}."))),
    }
    if int(&invoice, "amount_due") > 0 {
        let Some(method) = method else { return Err(no_method()) };
        let (intent, outcome) = payments::charge(tx, &invoice, method, entered);
        invoice["attempt_count"] = (int(&invoice, "attempt_count") + 1).into();
        let status = if outcome.is_ok() { "paid" } else { "open" };
        let payment = payment_of(tx, &invoice, &intent, status);
        invoice["payments"]["data"] = json!([payment]);
        if let Err(error) = outcome {
            invoice["attempted"] = true.into();
            tx.put(invoice.clone());
            tx.emit("invoice.payment_failed", &invoice, None);
            return Err(error);
        }
    }
    invoice["attempted"] = true.into();
    invoice["status"] = "paid".into();
    invoice["auto_advance"] = false.into();
    invoice["amount_paid"] = invoice["amount_due"].clone();
    invoice["amount_remaining"] = 0.into();
    invoice["next_payment_attempt"] = Value::Null;
    invoice["status_transitions"]["paid_at"] = tx.now.into();
    tx.put(invoice.clone());
    tx.emit("invoice.paid", &invoice, None);
    tx.emit("invoice.payment_succeeded", &invoice, None);
    Ok(invoice)
}

fn payment_of(tx: &Tx<'_>, invoice: &Value, intent: &str, status: &str) -> Value {
    let paid = status == "paid";
    json!({
        "id": Tx::id("inpay_"), "object": "invoice_payment", "amount_paid": if paid { invoice["amount_due"].clone() } else { Value::Null },
        "amount_requested": invoice["amount_due"], "created": tx.now, "currency": invoice["currency"],
        "invoice": invoice["id"], "is_default": true, "livemode": false, "status": status,
        "payment": {"type": "payment_intent", "payment_intent": intent},
        "status_transitions": {"canceled_at": null, "paid_at": if paid { tx.now.into() } else { Value::Null }},
    })
}

fn already_paid() -> ApiError {
    ApiError { code: Some("invoice_already_paid"), ..ApiError::state("Invoice is already paid") }
}

/// As Stripe says it when there is nothing to charge.
pub(super) fn no_method() -> ApiError {
    let message = "This customer has no attached payment source or default payment method. Please consider adding a \
                   default payment method.";
    ApiError { code: Some("resource_missing"), ..ApiError::state(message) }
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = call.params.text("customer")?;
    let subscription = call.params.text("subscription")?;
    let status = call.params.one_of("status", &["draft", "open", "paid", "uncollectible", "void"])?;
    page_of(tx, call, "invoice", customer.as_deref(), |invoice| {
        subscription.as_ref().is_none_or(|id| subscription_of(invoice) == id)
            && status.is_none_or(|status| text(invoice, "status") == status)
    })
}

pub(super) fn subscription_of(invoice: &Value) -> &str {
    text(&invoice["parent"]["subscription_details"], "subscription")
}

pub(super) fn pay(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let invoice = tx.need("invoice", call.id(), "id")?;
    let subscription = tx.need("subscription", subscription_of(&invoice), "subscription")?;
    let method = match call.params.text("payment_method")? {
        Some(id) => payments::of_customer(tx, &id, text(&invoice, "customer"), "payment_method")?,
        None => subscriptions::method_of(tx, &subscription),
    };
    call.params.finish()?;
    let paid = collect(tx, call.id(), method.as_ref(), false)?;
    subscriptions::settled(tx, subscription);
    Ok(paid)
}

/// What the next invoice would be, with the given changes; nothing is kept.
pub(super) fn preview(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let id = params.required("subscription")?;
    let customer = params.text("customer")?;
    let subscription = tx.need("subscription", &id, "subscription")?;
    if customer.is_some_and(|customer| customer != text(&subscription, "customer")) {
        let message = "The subscription does not belong to the customer.";
        return Err(ApiError::invalid("parameter_invalid", message, "customer"));
    }
    let mut details = params.level("subscription_details")?.unwrap_or_default();
    let change = proration::read(tx, &subscription, &mut details)?;
    details.finish()?;
    let preview = proration::preview(tx, subscription, change);
    Ok(preview)
}

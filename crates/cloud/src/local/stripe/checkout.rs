//! Checkout sessions: made by the business, paid by the customer on a page.

use serde_json::{Value, json};

use super::api::{Call, page_of};
use super::buyer_form::Business;
use super::cards::Entered;
use super::customers::{living, new_customer};
use super::error::{ApiError, Result};
use super::events::check_url;
use super::form::Params;
use super::state::{Tx, int, list_of, random, text};
use super::subscriptions::{self, Wanted};
use super::{coupons, discounts, invoices, payments, tax_ids};

/// A session that nobody pays expires after a day (seconds).
const LIFE: i64 = 24 * 60 * 60;
/// Taken as Stripe takes them, and without an effect on a page this simple.
const IGNORED: [&str; 2] = ["locale", "submit_type"];

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    params.one_of("mode", &["subscription"])?.ok_or_else(|| params.absent("mode"))?;
    params.one_of("ui_mode", &["hosted", "hosted_page"])?;
    params.one_of("payment_method_collection", &["always"])?;
    params.texts("payment_method_types")?;
    for name in IGNORED {
        params.text(name)?;
    }
    let customer = params.text("customer")?;
    let customer_email = params.text("customer_email")?;
    if customer.is_some() && customer_email.is_some() {
        return Err(ApiError::state("You may only specify one of these parameters: customer, customer_email."));
    }
    let known = customer.as_deref().map(|id| living(tx, id, "customer")).transpose()?;
    let address = params.one_of("billing_address_collection", &["auto", "required"])?;
    let collects = collected(params, known.is_some())?;
    let takes_codes = params.flag("allow_promotion_codes")?;
    let items = subscriptions::read_items(tx, params, "line_items")?;
    let success_url = params.required("success_url")?;
    check_url(&success_url, "success_url")?;
    let cancel_url = params.text("cancel_url")?.filter(|url| !url.is_empty());
    cancel_url.as_deref().map(|url| check_url(url, "cancel_url")).transpose()?;
    let expires_at = params.int("expires_at")?.unwrap_or(tx.now + LIFE);
    if !(tx.now + 30 * 60..=tx.now + LIFE).contains(&expires_at) {
        let message =
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.";
        return Err(ApiError::invalid("parameter_invalid_integer", message, "expires_at"));
    }
    let mut data = params.level("subscription_data")?.unwrap_or_default();
    let future = json!({"metadata": data.metadata(&Value::Null)?, "description": data.text("description")?,
        "trial_end": subscriptions::trial_end(tx, &mut data)?});
    data.finish()?;
    let id = format!("cs_test_{}", random(58));
    let total = total(&items, &future);
    let mut session = json!({
        "id": id, "object": "checkout.session", "allow_promotion_codes": takes_codes, "amount_subtotal": total,
        "billing_address_collection": address, "cancel_url": cancel_url, "client_reference_id": params.text("client_reference_id")?, "created": tx.now,
        "currency": items[0].0["currency"], "customer": customer, "customer_email": customer_email,
        "customer_details": known.as_ref().map(known_details),
        "expires_at": expires_at, "invoice": null, "livemode": false, "metadata": params.metadata(&Value::Null)?,
        "mode": "subscription", "payment_intent": null, "payment_method_collection": "always",
        "payment_method_types": ["card"], "payment_status": "unpaid", "status": "open", "subscription": null,
        "success_url": success_url, "ui_mode": "hosted", "url": format!("{}/c/pay/{id}", tx.settings.base_url),
        "_line_items": list_of(line_objects(tx, &items), &format!("/v1/checkout/sessions/{id}/line_items")),
        "tax_id_collection": {"enabled": collects.tax_id, "required": "never"},
        "_subscription_data": future, "_keeps": {"name": collects.keeps_name, "address": collects.keeps_address},
    });
    price(&mut session, None);
    tx.put(session.clone());
    Ok(session)
}

/// Prices a session with a promotion code and its coupon, or without one.
fn price(session: &mut Value, code: Option<(&Value, &Value)>) {
    let trial = !session["_subscription_data"]["trial_end"].is_null();
    let mut discounted = 0;
    for line in session["_line_items"]["data"].as_array_mut().into_iter().flatten() {
        let amount = int(line, "amount_subtotal");
        // What an amount has left after the lines before.
        let off = match code {
            Some((_, coupon)) if coupon["percent_off"].is_null() => {
                (int(coupon, "amount_off") - discounted).clamp(0, amount)
            }
            Some((_, coupon)) => discounts::taken(coupon, amount),
            None => 0,
        };
        line["amount_discount"] = off.into();
        line["amount_total"] = (amount - off).into();
        discounted += off;
    }
    let due = if trial { 0 } else { discounted };
    session["amount_total"] = (int(session, "amount_subtotal") - due).into();
    session["total_details"] = json!({"amount_discount": due, "amount_shipping": 0, "amount_tax": 0});
    session["discounts"] =
        code.map_or_else(|| json!([]), |(code, _)| json!([{"coupon": null, "promotion_code": code["id"]}]));
    session["_discount"] = code.map_or(Value::Null, |(code, coupon)| {
        json!({"words": format!("{}, {}", text(code, "code"), discounts::terms(coupon)), "amount": discounted})
    });
}

/// Takes a promotion code off the session's price, or, for an empty one, none. The error is for the page.
pub(super) fn use_code(tx: &mut Tx<'_>, mut session: Value, typed: &str) -> std::result::Result<Value, String> {
    if session["allow_promotion_codes"] != true {
        return Err("This checkout takes no codes.".into());
    }
    let code = if typed.trim().is_empty() { None } else { Some(coupons::find(tx, typed, &purchase(&session))?) };
    let coupon = code.as_ref().and_then(|code| tx.get(text(&code["promotion"], "coupon"))).cloned();
    price(&mut session, code.as_ref().zip(coupon.as_ref()));
    tx.put(session.clone());
    Ok(session)
}

fn purchase(session: &Value) -> coupons::Purchase<'_> {
    coupons::Purchase {
        customer: text(session, "customer"),
        currency: text(session, "currency"),
        subtotal: int(session, "amount_subtotal"),
    }
}

/// The session's promotion code, if it may still be redeemed.
fn code_of(tx: &Tx<'_>, session: &Value) -> Result<Option<Value>> {
    let Some(code) = tx.get(text(&session["discounts"][0], "promotion_code")) else { return Ok(None) };
    match coupons::allowed(tx, code, &purchase(session)) {
        Ok(()) => Ok(Some(code.clone())),
        Err(reason) => Err(ApiError::invalid("promotion_code_invalid", reason, "promotion_code")),
    }
}

/// What a session collects, and what of it is kept with the customer.
struct Collected {
    tax_id: bool,
    keeps_name: bool,
    keeps_address: bool,
}

/// Whether a tax id is asked for, and what becomes of what is typed. Of a customer that exists already nothing is
/// overwritten without permission, and no tax id is asked for without the one to write the name that belongs to it:
/// <https://docs.stripe.com/tax/checkout/tax-ids#existing-customers>.
fn collected(params: &mut Params, known: bool) -> Result<Collected> {
    let mut tax = params.level("tax_id_collection")?.unwrap_or_default();
    let tax_id = tax.flag("enabled")?.unwrap_or(false);
    tax.finish()?;
    let update = params.level("customer_update")?;
    if update.is_some() && !known {
        return Err(ApiError::state("`customer_update` can only be used with `customer`."));
    }
    let mut update = update.unwrap_or_default();
    let kept = ["auto", "never"];
    let (name, address) = (update.one_of("name", &kept)?, update.one_of("address", &kept)?);
    update.one_of("shipping", &kept)?;
    update.finish()?;
    let (keeps_name, keeps_address) = (!known || name == Some("auto"), !known || address == Some("auto"));
    if tax_id && !keeps_name { Err(name_needed()) } else { Ok(Collected { tax_id, keeps_name, keeps_address }) }
}

fn name_needed() -> ApiError {
    ApiError::state(
        "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an \
         existing customer, please set `customer_update[name]` to `auto`.",
    )
}

/// What is due now: nothing while a trial lasts.
fn total(items: &[(Value, i64)], future: &Value) -> i64 {
    if !future["trial_end"].is_null() {
        return 0;
    }
    items.iter().map(|(price, quantity)| int(price, "unit_amount").saturating_mul(*quantity)).sum()
}

/// Who pays, as far as the customer tells.
fn known_details(customer: &Value) -> Value {
    json!({"address": customer["address"], "email": customer["email"], "name": customer["name"], "phone": null,
        "tax_exempt": "none", "tax_ids": tax_ids::shown(customer)})
}

/// Who paid, as they typed it.
fn typed_details(payer: &Payer) -> Value {
    let name = payer.business.as_ref().map_or(&payer.name, |business| &business.name);
    let ids = payer.business.iter().map(|one| json!({"type": one.kind, "value": one.tax_id}));
    json!({"address": payer.address, "email": payer.email, "name": name, "phone": null, "tax_exempt": "none",
        "tax_ids": ids.collect::<Value>()})
}

fn line_objects(tx: &Tx<'_>, items: &[(Value, i64)]) -> Vec<Value> {
    let line = |(price, quantity): &(Value, i64)| {
        let amount = int(price, "unit_amount").saturating_mul(*quantity);
        json!({"id": Tx::id("li_"), "object": "item", "amount_discount": 0, "amount_subtotal": amount,
            "amount_tax": 0, "amount_total": amount, "currency": price["currency"],
            "description": invoices::product_name(tx, price), "price": price, "quantity": quantity})
    };
    items.iter().map(line).collect()
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = call.params.text("customer")?;
    let subscription = call.params.text("subscription")?;
    let status = call.params.one_of("status", &["open", "complete", "expired"])?;
    page_of(tx, call, "checkout.session", customer.as_deref(), |session| {
        subscription.as_ref().is_none_or(|id| text(session, "subscription") == id)
            && status.is_none_or(|status| text(session, "status") == status)
    })
}

pub(super) fn line_items(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    call.params.int("limit")?;
    Ok(tx.need("checkout.session", call.id(), "id")?["_line_items"].clone())
}

pub(super) fn expire(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let session = tx.need("checkout.session", call.id(), "id")?;
    if session["status"] != "open" {
        let status = text(&session, "status");
        let message = format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of {status}."
        );
        return Err(ApiError::state(message));
    }
    Ok(expire_session(tx, session))
}

pub(super) fn expire_session(tx: &mut Tx<'_>, mut session: Value) -> Value {
    session["status"] = "expired".into();
    session["url"] = Value::Null;
    tx.put(session.clone());
    tx.emit("checkout.session.expired", &session, None);
    session
}

/// Where the customer goes when they have paid.
pub(super) fn success_url(session: &Value) -> String {
    text(session, "success_url").replace("{CHECKOUT_SESSION_ID}", text(session, "id"))
}

/// Pays an open session: the customer, the card, the subscription and its first invoice, all or nothing.
/// The card was checked.
pub(super) fn complete(tx: &mut Tx<'_>, mut session: Value, card: &Entered, payer: &Payer) -> Result<Value> {
    let customer = paying_customer(tx, &session, payer)?;
    let mut billing = payments::billing_details(&payer.name, &payer.email, "");
    billing["address"] = payer.address.clone();
    let method = payments::new_method(tx, card, billing);
    let method = payments::attach(tx, text(&method, "id"), &customer, "payment_method")?;
    let future = session["_subscription_data"].clone();
    let lines = session["_line_items"]["data"].as_array().cloned().unwrap_or_default();
    let wanted = Wanted {
        customer: customer.clone(),
        items: lines.iter().map(|line| (line["price"].clone(), int(line, "quantity"))).collect(),
        method: Some(text(&method, "id").to_owned()),
        metadata: future["metadata"].clone(),
        description: future["description"].clone(),
        trial_end: future["trial_end"].as_i64().filter(|end| *end > tx.now),
        code: code_of(tx, &session)?,
    };
    let subscription = subscriptions::start(tx, wanted, true, true)?;
    session["customer"] = customer.into();
    session["customer_details"] = typed_details(payer);
    session["subscription"] = subscription["id"].clone();
    session["invoice"] = subscription["latest_invoice"].clone();
    session["status"] = "complete".into();
    session["payment_status"] = if int(&session, "amount_total") == 0 { "no_payment_required" } else { "paid" }.into();
    session["url"] = Value::Null;
    tx.put(session.clone());
    tx.emit("checkout.session.completed", &session, None);
    Ok(session)
}

/// The session's customer, or a new one; what was not known of them is taken from the page, and what was is replaced
/// where the session may.
fn paying_customer(tx: &mut Tx<'_>, session: &Value, payer: &Payer) -> Result<String> {
    let known = match text(session, "customer") {
        "" => None,
        id => Some(living(tx, id, "customer")?),
    };
    let is_new = known.is_none();
    let mut customer = known.unwrap_or_else(|| new_customer(tx));
    for (field, typed) in [("email", &payer.email), ("name", &payer.name)] {
        if customer[field].is_null() {
            customer[field] = typed.as_str().into();
        }
    }
    if let Some(business) = payer.business.as_ref().filter(|_| session["_keeps"]["name"] == true) {
        customer["name"] = business.name.as_str().into();
    }
    if session["_keeps"]["address"] == true {
        customer["address"] = payer.address.clone();
    }
    let id = text(&customer, "id").to_owned();
    let customer =
        if is_new { tx.created(customer, "customer.created") } else { tx.updated(customer, "customer.updated") };
    if let Some(business) = &payer.business {
        tax_ids::add(tx, customer, &business.kind, &business.tax_id);
    }
    Ok(id)
}

/// Who pays, as typed on the page.
#[derive(Clone, Debug)]
pub(super) struct Payer {
    pub(super) email: String,
    pub(super) name: String,
    pub(super) address: Value,
    pub(super) business: Option<Business>,
}

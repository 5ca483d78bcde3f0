//! Payment methods and charges: the money that does not move.

use serde_json::{Value, json};

use super::api::{Call, page_of};
use super::cards::{self, Entered, Fate, Stage};
use super::customers::living;
use super::disputes;
use super::error::{ApiError, Result};
use super::form::Params;
use super::state::{Tx, int, text};

pub(super) fn account(tx: &Tx<'_>) -> Value {
    json!({"id": "acct_simulated", "object": "account", "business_type": "company", "charges_enabled": true,
        "country": "US", "default_currency": "usd", "details_submitted": true, "email": null, "metadata": {},
        "payouts_enabled": true, "settings": {"dashboard": {"display_name": tx.settings.publishable_name}},
        "type": "standard"})
}

pub(super) fn balance(tx: &Tx<'_>) -> Value {
    let received: i64 = tx.list("charge").map(|one| int(one, "amount_captured") - int(one, "amount_refunded")).sum();
    let received = received + tx.list("dispute").map(disputes::moved).sum::<i64>();
    let funds = |amount: i64| json!([{"amount": amount, "currency": "usd", "source_types": {"card": amount}}]);
    json!({"object": "balance", "available": funds(received), "livemode": false, "pending": funds(0)})
}

/// A payment method of a card that was checked. Its number is not kept, what it does is.
pub(super) fn new_method(tx: &mut Tx<'_>, card: &Entered, billing: Value) -> Value {
    let fate = cards::fate(&card.digits());
    let disputed = match fate {
        Fate::Disputed(reason, stage) => json!({"reason": reason, "inquiry": stage == Stage::Inquiry}),
        _ => Value::Null,
    };
    let method = json!({
        "id": Tx::id("pm_"), "object": "payment_method", "allow_redisplay": "unspecified", "billing_details": billing,
        "card": card.object(), "created": tx.now, "customer": null, "livemode": false, "metadata": {}, "type": "card",
        "_fails_later": fate == Fate::FailsLater, "_disputed": disputed,
    });
    tx.put(method.clone());
    method
}

pub(super) fn billing_details(name: &str, email: &str, country: &str) -> Value {
    let or_null = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    json!({"address": {"city": null, "country": or_null(country), "line1": null, "line2": null, "postal_code": null,
        "state": null}, "email": or_null(email), "name": or_null(name), "phone": null, "tax_id": null})
}

pub(super) fn create_method(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    params.one_of("type", &["card"])?.ok_or_else(|| params.absent("type"))?;
    let mut level = params.level("card")?.ok_or_else(|| params.absent("card"))?;
    let card = match level.text("token")? {
        Some(token) => test_card(&token).ok_or_else(|| ApiError::missing("token", &token, "card[token]"))?,
        None => Entered {
            number: level.required("number")?,
            month: level.int("exp_month")?.ok_or_else(|| level.absent("exp_month"))?,
            year: level.int("exp_year")?.ok_or_else(|| level.absent("exp_year"))?,
            cvc: level.text("cvc")?.unwrap_or_default(),
        },
    };
    level.finish()?;
    card.check(tx.now)?;
    let billing = read_billing(params)?;
    let mut method = new_method(tx, &card, billing);
    method["metadata"] = params.metadata(&method["metadata"])?;
    tx.put(method.clone());
    Ok(method)
}

fn read_billing(params: &mut Params) -> Result<Value> {
    let Some(mut level) = params.level("billing_details")? else { return Ok(billing_details("", "", "")) };
    let (name, email) = (level.text("name")?.unwrap_or_default(), level.text("email")?.unwrap_or_default());
    level.finish()?;
    Ok(billing_details(&name, &email, ""))
}

/// Stripe's ready-made test cards: `pm_card_visa` and its like, `tok_visa`.
fn test_card(name: &str) -> Option<Entered> {
    let number = match name {
        "pm_card_visa" | "tok_visa" => "4242424242424242",
        "pm_card_mastercard" | "tok_mastercard" => "5555555555554444",
        "pm_card_visa_chargeDeclined" | "tok_chargeDeclined" => "4000000000000002",
        "pm_card_visa_chargeDeclinedInsufficientFunds" | "tok_chargeDeclinedInsufficientFunds" => "4000000000009995",
        "pm_card_chargeDeclinedExpiredCard" | "tok_chargeDeclinedExpiredCard" => "4000000000000069",
        "pm_card_chargeDeclinedIncorrectCvc" | "tok_chargeDeclinedIncorrectCvc" => "4000000000000127",
        "pm_card_createDispute" | "tok_createDispute" => "4000000000000259",
        "pm_card_createDisputeInquiry" | "tok_createDisputeInquiry" => "4000000000001976",
        "pm_card_chargeCustomerFail" | "tok_chargeCustomerFail" => "4000000000000341",
        _ => return None,
    };
    Some(Entered { number: number.to_owned(), month: 12, year: 2099, cvc: "123".to_owned() })
}

/// Makes `method` the customer's own. A ready-made test card becomes a new payment method.
pub(super) fn attach(tx: &mut Tx<'_>, method: &str, customer: &str, param: &str) -> Result<Value> {
    let mut found = match test_card(method) {
        Some(card) => {
            cards::fate(&card.digits()).check_entry()?;
            new_method(tx, &card, billing_details("", "", ""))
        }
        None => tx.need("payment_method", method, param)?,
    };
    match text(&found, "customer") {
        "" => found["customer"] = customer.into(),
        owner if owner == customer => return Ok(found),
        _ => return Err(ApiError::state("The payment method you provided has already been attached to a customer.")),
    }
    tx.put(found.clone());
    tx.emit("payment_method.attached", &found, None);
    Ok(found)
}

pub(super) fn attach_method(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = call.params.required("customer")?;
    living(tx, &customer, "customer")?;
    attach(tx, call.id(), &customer, "id")
}

pub(super) fn detach_method(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut method = tx.need("payment_method", call.id(), "id")?;
    method["customer"] = Value::Null;
    Ok(tx.updated(method, "payment_method.detached"))
}

pub(super) fn list_methods(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    call.params.one_of("type", &["card"])?;
    let customer = match call.ids.first() {
        Some(id) => Some(id.clone()),
        None => call.params.text("customer")?,
    };
    let customer = customer.ok_or_else(|| call.params.absent("customer"))?;
    page_of(tx, call, "payment_method", Some(&customer), |_| true)
}

/// The payment method, which must be the customer's; nothing for an empty id.
pub(super) fn of_customer(tx: &Tx<'_>, method: &str, customer: &str, param: &str) -> Result<Option<Value>> {
    if method.is_empty() {
        return Ok(None);
    }
    let found = tx.need("payment_method", method, param)?;
    if text(&found, "customer") != customer {
        let message = "The customer does not have a payment method with the ID ".to_owned() + method + ".";
        return Err(ApiError::invalid("resource_missing", message, param));
    }
    Ok(Some(found))
}

/// Charges `method` for an invoice, by the invoice's payment intent, which is made if there is none yet.
/// What fails is recorded too. Entered says that the card was typed a moment ago.
pub(super) fn charge(tx: &mut Tx<'_>, invoice: &Value, method: &Value, entered: bool) -> (String, Result<()>) {
    let outcome = if method["_fails_later"] == true && !entered { Fate::FailsLater.check_charge() } else { Ok(()) };
    let mut intent = intent_of(tx, invoice);
    let (id, charge_id) = (text(&intent, "id").to_owned(), Tx::id("ch_"));
    let amount = int(invoice, "amount_remaining");
    let paid = outcome.is_ok();
    let failure = outcome.as_ref().err();
    let charge = json!({
        "id": charge_id, "object": "charge", "amount": amount, "amount_captured": if paid { amount } else { 0 },
        "amount_refunded": 0, "billing_details": method["billing_details"], "captured": paid, "created": tx.now,
        "currency": invoice["currency"], "customer": invoice["customer"], "disputed": false,
        "failure_code": failure.and_then(|error| error.code),
        "failure_message": failure.map(|error| error.message.as_str()), "livemode": false, "metadata": {},
        "paid": paid, "payment_intent": id, "payment_method": method["id"],
        "payment_method_details": {"type": "card", "card": method["card"]}, "refunded": false,
        "status": if paid { "succeeded" } else { "failed" },
    });
    tx.created(charge, if paid { "charge.succeeded" } else { "charge.failed" });
    intent["status"] = if paid { "succeeded" } else { "requires_payment_method" }.into();
    intent["amount_received"] = if paid { amount } else { 0 }.into();
    intent["latest_charge"] = charge_id.as_str().into();
    intent["payment_method"] = if paid { method["id"].clone() } else { Value::Null };
    intent["last_payment_error"] = failure.map_or(Value::Null, |error| error.body()["error"].clone());
    tx.put(intent.clone());
    tx.emit(if paid { "payment_intent.succeeded" } else { "payment_intent.payment_failed" }, &intent, None);
    if paid && method["_disputed"].is_object() {
        disputes::open(tx, &charge_id, &method["_disputed"]);
    }
    (id, outcome)
}

fn intent_of(tx: &Tx<'_>, invoice: &Value) -> Value {
    let known = text(&invoice["payments"]["data"][0]["payment"], "payment_intent");
    tx.get(known).cloned().unwrap_or_else(|| {
        let id = Tx::id("pi_");
        json!({
            "id": id, "object": "payment_intent", "amount": invoice["amount_remaining"], "amount_received": 0,
            "capture_method": "automatic", "client_secret": format!("{id}_secret_{}", super::state::random(24)),
            "confirmation_method": "automatic", "created": tx.now, "currency": invoice["currency"],
            "customer": invoice["customer"], "description": "Subscription update", "last_payment_error": null,
            "latest_charge": null, "livemode": false, "metadata": {}, "payment_method": null,
            "payment_method_types": ["card"], "setup_future_usage": "off_session",
            "status": "requires_payment_method",
        })
    })
}

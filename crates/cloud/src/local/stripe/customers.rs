//! Customers.

use serde_json::{Value, json};

use super::api::{Call, page};
use super::error::Result;
use super::form::{Params, nullable};
use super::state::{Tx, list_of, random, text};
use super::{payments, subscriptions};

const ADDRESS: [&str; 6] = ["city", "country", "line1", "line2", "postal_code", "state"];

/// A customer of whom nothing is known yet.
pub(super) fn new_customer(tx: &Tx<'_>) -> Value {
    let id = Tx::id("cus_");
    json!({
        "id": id, "object": "customer", "address": null, "balance": 0, "created": tx.now, "currency": null,
        "default_source": null, "delinquent": false, "description": null, "discount": null, "email": null,
        "invoice_prefix": random(8).to_uppercase(), "next_invoice_sequence": 1,
        "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null,
            "rendering_options": null},
        "livemode": false, "metadata": {}, "name": null, "phone": null, "preferred_locales": [], "shipping": null,
        "tax_exempt": "none", "test_clock": null,
        "_tax_ids": list_of(Vec::new(), &format!("/v1/customers/{id}/tax_ids")),
    })
}

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut customer = new_customer(tx);
    let id = text(&customer, "id").to_owned();
    let method = call.params.text("payment_method")?;
    describe(&mut customer, &mut call.params)?;
    tx.created(customer, "customer.created");
    if let Some(method) = method {
        payments::attach(tx, &method, &id, "payment_method")?;
    }
    let customer = tx.need("customer", &id, "id")?;
    set_default_method(tx, customer, &mut call.params)
}

pub(super) fn update(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut customer = living(tx, call.id(), "id")?;
    describe(&mut customer, &mut call.params)?;
    set_default_method(tx, customer, &mut call.params)
}

/// The customer, unless it was deleted.
pub(super) fn living(tx: &Tx<'_>, id: &str, param: &str) -> Result<Value> {
    let customer = tx.need("customer", id, param)?;
    if customer["deleted"] == true {
        return Err(super::error::ApiError::missing("customer", id, param));
    }
    Ok(customer)
}

fn describe(customer: &mut Value, params: &mut Params) -> Result<()> {
    for field in ["email", "name", "description", "phone"] {
        if let Some(text) = params.text(field)? {
            customer[field] = nullable(text);
        }
    }
    if let Some(balance) = params.int("balance")? {
        customer["balance"] = balance.into();
    }
    if let Some(mut level) = params.level("address")? {
        let mut address = json!({});
        for field in ADDRESS {
            address[field] = nullable(level.text(field)?.unwrap_or_default());
        }
        level.finish()?;
        customer["address"] = address;
    }
    customer["metadata"] = params.metadata(&customer["metadata"])?;
    Ok(())
}

fn set_default_method(tx: &mut Tx<'_>, mut customer: Value, params: &mut Params) -> Result<Value> {
    if let Some(mut level) = params.level("invoice_settings")? {
        if let Some(method) = level.text("default_payment_method")? {
            payments::of_customer(tx, &method, text(&customer, "id"), "invoice_settings[default_payment_method]")?;
            customer["invoice_settings"]["default_payment_method"] = nullable(method);
        }
        level.finish()?;
    }
    Ok(tx.updated(customer, "customer.updated"))
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let email = call.params.text("email")?;
    page(tx, call, "customer", |customer| email.as_ref().is_none_or(|email| text(customer, "email") == email))
}

/// Ends its subscriptions and leaves a stub, as Stripe does.
pub(super) fn delete(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = living(tx, call.id(), "id")?;
    let own = tx.list_of("subscription", call.id());
    let own: Vec<Value> = own.filter(|one| !subscriptions::is_over(one)).cloned().collect();
    for subscription in own {
        subscriptions::end(tx, subscription, "cancellation_requested");
    }
    let stub = json!({"id": call.id(), "object": "customer", "deleted": true});
    tx.put(stub.clone());
    tx.emit("customer.deleted", &customer, None);
    Ok(stub)
}

//! Products and their prices.

use serde_json::{Value, json};

use super::api::{Call, page};
use super::error::{ApiError, Result};
use super::form::{Params, nullable};
use super::state::{Tx, int, text};

/// The highest price, in a currency's smallest unit; Stripe takes eight digits.
const MOST: i64 = 99_999_999;

pub(super) fn create_product(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let id = call.params.text("id")?.filter(|id| !id.is_empty());
    if let Some(id) = id.as_ref().filter(|id| tx.get(id).is_some()) {
        let message = format!("Product already exists: {id}");
        return Err(ApiError::invalid("resource_already_exists", message, "id"));
    }
    let name = call.params.required("name")?;
    let mut product = new_product(tx, id, &name);
    describe_product(&mut product, &mut call.params)?;
    Ok(tx.created(product, "product.created"))
}

fn new_product(tx: &Tx<'_>, id: Option<String>, name: &str) -> Value {
    json!({
        "id": id.unwrap_or_else(|| Tx::id("prod_")), "object": "product", "active": true, "attributes": [],
        "created": tx.now, "default_price": null, "description": null, "images": [], "livemode": false,
        "marketing_features": [], "metadata": {}, "name": name, "package_dimensions": null, "shippable": null,
        "statement_descriptor": null, "tax_code": null, "type": "service", "unit_label": null, "updated": tx.now,
        "url": null,
    })
}

fn describe_product(product: &mut Value, params: &mut Params) -> Result<()> {
    for field in ["description", "statement_descriptor", "tax_code", "unit_label", "url", "default_price"] {
        if let Some(text) = params.text(field)? {
            product[field] = nullable(text);
        }
    }
    if let Some(active) = params.flag("active")? {
        product["active"] = active.into();
    }
    product["metadata"] = params.metadata(&product["metadata"])?;
    Ok(())
}

pub(super) fn list_products(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let active = call.params.flag("active")?;
    let ids = call.params.texts("ids")?;
    page(tx, call, "product", |product| {
        active.is_none_or(|active| product["active"] == active)
            && (ids.is_empty() || ids.iter().any(|id| product["id"] == id.as_str()))
    })
}

pub(super) fn update_product(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut product = tx.need("product", call.id(), "id")?;
    if let Some(name) = call.params.text("name")?.filter(|name| !name.is_empty()) {
        product["name"] = name.into();
    }
    describe_product(&mut product, &mut call.params)?;
    Ok(tx.updated(product, "product.updated"))
}

pub(super) fn create_price(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let currency = params.required("currency")?.to_lowercase();
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Err(ApiError::invalid("parameter_invalid", format!("Invalid currency: {currency}"), "currency"));
    }
    let amount = params.int("unit_amount")?.ok_or_else(|| params.absent("unit_amount"))?;
    if !(0..=MOST).contains(&amount) {
        let message = "This value must be greater than or equal to 0 and no more than 99999999.";
        return Err(ApiError::invalid("parameter_invalid_integer", message, "unit_amount"));
    }
    let product = price_product(tx, params)?;
    let recurring = recurring(params)?;
    let mut price = json!({
        "id": Tx::id("price_"), "object": "price", "active": true, "billing_scheme": "per_unit", "created": tx.now,
        "currency": currency, "custom_unit_amount": null, "livemode": false, "lookup_key": null, "metadata": {},
        "nickname": null, "product": product, "recurring": recurring, "tax_behavior": "unspecified",
        "tiers_mode": null, "transform_quantity": null,
        "type": if recurring.is_null() { "one_time" } else { "recurring" },
        "unit_amount": amount, "unit_amount_decimal": amount.to_string(),
    });
    if let Some(behavior) = params.one_of("tax_behavior", &["inclusive", "exclusive", "unspecified"])? {
        price["tax_behavior"] = behavior.into();
    }
    describe_price(tx, &mut price, params)?;
    Ok(tx.created(price, "price.created"))
}

fn price_product(tx: &mut Tx<'_>, params: &mut Params) -> Result<String> {
    if let Some(mut data) = params.level("product_data")? {
        let name = data.required("name")?;
        let mut product = new_product(tx, data.text("id")?, &name);
        describe_product(&mut product, &mut data)?;
        data.finish()?;
        return Ok(text(&tx.created(product, "product.created"), "id").to_owned());
    }
    let id = params.required("product")?;
    tx.need("product", &id, "product")?;
    Ok(id)
}

fn recurring(params: &mut Params) -> Result<Value> {
    let Some(mut level) = params.level("recurring")? else { return Ok(Value::Null) };
    let interval = level.one_of("interval", &["day", "week", "month", "year"])?;
    let interval = interval.ok_or_else(|| level.absent("interval"))?;
    let count = level.int("interval_count")?.unwrap_or(1);
    // Stripe allows three years at most.
    let most = match interval {
        "day" => 1_095,
        "week" => 156,
        "month" => 36,
        _ => 3,
    };
    if !(1..=most).contains(&count) {
        let param = level.name("interval_count");
        let message = "Invalid interval_count: must be between 1 and three years.";
        return Err(ApiError::invalid("parameter_invalid_integer", message, &param));
    }
    level.one_of("usage_type", &["licensed"])?;
    level.finish()?;
    Ok(json!({"interval": interval, "interval_count": count, "meter": null, "trial_period_days": null,
        "usage_type": "licensed"}))
}

fn describe_price(tx: &mut Tx<'_>, price: &mut Value, params: &mut Params) -> Result<()> {
    if let Some(nickname) = params.text("nickname")? {
        price["nickname"] = nullable(nickname);
    }
    if let Some(active) = params.flag("active")? {
        price["active"] = active.into();
    }
    price["metadata"] = params.metadata(&price["metadata"])?;
    let transfer = params.flag("transfer_lookup_key")?.unwrap_or(false);
    if let Some(key) = params.text("lookup_key")? {
        let has_it = |other: &&Value| !key.is_empty() && text(other, "lookup_key") == key && other["id"] != price["id"];
        let other = tx.list("price").find(has_it).cloned();
        if let Some(mut other) = other {
            if !transfer {
                let message = format!("A price (`{}`) already uses that lookup key.", text(&other, "id"));
                return Err(ApiError::invalid("resource_already_exists", message, "lookup_key"));
            }
            other["lookup_key"] = Value::Null;
            tx.updated(other, "price.updated");
        }
        price["lookup_key"] = nullable(key);
    }
    Ok(())
}

pub(super) fn update_price(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut price = tx.need("price", call.id(), "id")?;
    describe_price(tx, &mut price, &mut call.params)?;
    Ok(tx.updated(price, "price.updated"))
}

pub(super) fn list_prices(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let keys = params.texts("lookup_keys")?;
    let product = params.text("product")?;
    let active = params.flag("active")?;
    let currency = params.text("currency")?;
    let kind = params.one_of("type", &["one_time", "recurring"])?;
    page(tx, call, "price", |price| {
        (keys.is_empty() || keys.iter().any(|key| price["lookup_key"] == key.as_str()))
            && product.as_ref().is_none_or(|id| price["product"] == id.as_str())
            && active.is_none_or(|active| price["active"] == active)
            && currency.as_ref().is_none_or(|currency| price["currency"] == currency.as_str())
            && kind.is_none_or(|kind| price["type"] == kind)
    })
}

/// An amount in a currency's smallest unit, for a person to read: `$299.00`, `EUR 12.50`.
pub(super) fn money(amount: i64, currency: &str) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let (whole, cents) = (amount.unsigned_abs() / 100, amount.unsigned_abs() % 100);
    match currency {
        "usd" => format!("{sign}${}.{cents:02}", thousands(whole)),
        // Stripe's zero-decimal currencies.
        "jpy" | "krw" | "vnd" | "clp" | "xaf" | "xof" => {
            format!("{sign}{} {}", currency.to_uppercase(), thousands(amount.unsigned_abs()))
        }
        _ => format!("{sign}{} {}.{cents:02}", currency.to_uppercase(), thousands(whole)),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// How often a recurring price is due: `month`, `3 months`.
pub(super) fn every(price: &Value) -> String {
    let recurring = &price["recurring"];
    match (text(recurring, "interval"), int(recurring, "interval_count")) {
        (interval, 1) => interval.to_owned(),
        (interval, count) => format!("{count} {interval}s"),
    }
}

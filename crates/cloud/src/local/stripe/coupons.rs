//! Coupons, and the promotion codes by which customers redeem them: <https://docs.stripe.com/api/coupons>,
//! <https://docs.stripe.com/api/promotion_codes>.
//!
//! What a coupon takes off is in `discounts`. Amounts are in a currency's smallest unit, dates in seconds.

use serde_json::{Value, json};

use super::api::{Call, page, page_of};
use super::catalog::money;
use super::customers::living;
use super::error::{ApiError, Result};
use super::form::{Params, nullable};
use super::invoices;
use super::state::{Tx, int, random, text};

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let id = params.text("id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| random(8));
    if tx.get(&id).is_some() {
        return Err(ApiError::invalid("resource_already_exists", "Coupon already exists.", "id"));
    }
    let duration = params.one_of("duration", &["once", "repeating", "forever"])?.unwrap_or("once");
    let months = params.int("duration_in_months")?;
    if (duration == "repeating") != months.is_some_and(|months| months > 0) {
        let message = "`duration_in_months` must be a positive integer if `duration` is `repeating`, and only then.";
        return Err(ApiError::invalid("parameter_invalid_integer", message, "duration_in_months"));
    }
    let percent_off = percent(params)?;
    let amount_off = positive(params, "amount_off")?;
    let currency = params.text("currency")?.map(|currency| currency.to_lowercase());
    match (percent_off, amount_off) {
        (None, Some(_)) if currency.is_none() => return Err(params.absent("currency")),
        // Since version 2025-03-31: https://docs.stripe.com/changelog/basil/2025-03-31/restrict-coupon-duration
        (None, Some(_)) if duration == "forever" => {
            return Err(ApiError::state("Coupons with `amount_off` cannot have the duration `forever`."));
        }
        (Some(_), None) | (None, Some(_)) => {}
        _ => return Err(ApiError::state("You must pass either `percent_off` or `amount_off`, and not both.")),
    }
    let mut coupon = json!({
        "id": id, "object": "coupon", "amount_off": amount_off, "created": tx.now,
        "currency": currency.filter(|_| amount_off.is_some()), "duration": duration, "duration_in_months": months,
        "livemode": false, "max_redemptions": positive(params, "max_redemptions")?, "metadata": {}, "name": null,
        "percent_off": percent_off, "redeem_by": in_future(tx, params, "redeem_by")?, "times_redeemed": 0,
        "valid": true,
    });
    describe(&mut coupon, params)?;
    Ok(tx.created(coupon, "coupon.created"))
}

fn describe(coupon: &mut Value, params: &mut Params) -> Result<()> {
    if let Some(name) = params.text("name")? {
        coupon["name"] = nullable(name);
    }
    coupon["metadata"] = params.metadata(&coupon["metadata"])?;
    Ok(())
}

/// More than 0 and at most 100, with at most two decimals.
fn percent(params: &mut Params) -> Result<Option<f64>> {
    let param = params.name("percent_off");
    let Some(text) = params.text("percent_off")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let percent = text.parse::<f64>().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0);
    let message = "Invalid percent_off: must be greater than 0 and at most 100.";
    percent
        .map(|percent| Some((percent * 100.0).round() / 100.0))
        .ok_or_else(|| ApiError::invalid("parameter_invalid", message, &param))
}

fn positive(params: &mut Params, name: &str) -> Result<Option<i64>> {
    let number = params.int(name)?;
    if number.is_some_and(|number| number < 1) {
        let message = "This value must be greater than or equal to 1.";
        return Err(ApiError::invalid("parameter_invalid_integer", message, &params.name(name)));
    }
    Ok(number)
}

fn in_future(tx: &Tx<'_>, params: &mut Params, name: &str) -> Result<Option<i64>> {
    let at = params.int(name)?;
    if at.is_some_and(|at| at <= tx.now) {
        let message = format!("Invalid {name}: must be in the future.");
        return Err(ApiError::invalid("parameter_invalid_integer", message, &params.name(name)));
    }
    Ok(at)
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    page(tx, call, "coupon", |_| true)
}

pub(super) fn update(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut coupon = tx.need("coupon", call.id(), "id")?;
    describe(&mut coupon, &mut call.params)?;
    Ok(tx.updated(coupon, "coupon.updated"))
}

/// Nobody can redeem it any more; who did so keeps what they have.
pub(super) fn delete(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut coupon = tx.need("coupon", call.id(), "id")?;
    coupon["valid"] = false.into();
    close_codes(tx, &coupon);
    tx.remove(call.id());
    tx.emit("coupon.deleted", &coupon, None);
    Ok(json!({"id": call.id(), "object": "coupon", "deleted": true}))
}

/// A code is active only while its coupon is valid.
fn close_codes(tx: &mut Tx<'_>, coupon: &Value) {
    let open = |code: &&Value| code["active"] == true && code["promotion"]["coupon"] == coupon["id"];
    let open: Vec<Value> = tx.list("promotion_code").filter(open).cloned().collect();
    for mut code in open {
        code["active"] = false.into();
        tx.updated(code, "promotion_code.updated");
    }
}

/// When a coupon or a code can be redeemed no longer.
pub(super) fn due(object: &Value) -> Option<i64> {
    match text(object, "object") {
        "coupon" if object["valid"] == true => object["redeem_by"].as_i64(),
        "promotion_code" if object["active"] == true => object["expires_at"].as_i64(),
        _ => None,
    }
}

pub(super) fn expire(tx: &mut Tx<'_>, mut object: Value) {
    if object["object"] == "promotion_code" {
        object["active"] = false.into();
        tx.updated(object, "promotion_code.updated");
        return;
    }
    object["valid"] = false.into();
    let coupon = tx.updated(object, "coupon.updated");
    close_codes(tx, &coupon);
}

pub(super) fn create_code(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let mut promotion = params.level("promotion")?.ok_or_else(|| params.absent("promotion"))?;
    promotion.one_of("type", &["coupon"])?.ok_or_else(|| promotion.absent("type"))?;
    let coupon = promotion.required("coupon")?;
    promotion.finish()?;
    let coupon = tx.need("coupon", &coupon, "promotion[coupon]")?;
    if coupon["valid"] != true {
        return Err(ApiError::state("This coupon is not valid and cannot be used for a promotion code."));
    }
    let customer = params.text("customer")?.filter(|id| !id.is_empty());
    customer.as_deref().map(|id| living(tx, id, "customer")).transpose()?;
    let code = new_code(tx, params, customer.as_deref())?;
    let expires_at = in_future(tx, params, "expires_at")?;
    let redeem_by = coupon["redeem_by"].as_i64();
    if expires_at.zip(redeem_by).is_some_and(|(expires, redeem)| expires > redeem) {
        let message = "A promotion code cannot expire after its coupon.";
        return Err(ApiError::invalid("parameter_invalid_integer", message, "expires_at"));
    }
    let code = json!({
        "id": Tx::id("promo_"), "object": "promotion_code", "active": params.flag("active")?.unwrap_or(true),
        "code": code, "created": tx.now, "customer": customer, "customer_account": null,
        "expires_at": expires_at.or(redeem_by), "livemode": false,
        "max_redemptions": positive(params, "max_redemptions")?, "metadata": params.metadata(&Value::Null)?,
        "promotion": {"type": "coupon", "coupon": coupon["id"]}, "restrictions": restrictions(params)?,
        "times_redeemed": 0,
    });
    Ok(tx.created(code, "promotion_code.created"))
}

/// The code that is asked for, or one of our own. No two active ones that one customer can use are alike, whatever
/// their case.
fn new_code(tx: &Tx<'_>, params: &mut Params, customer: Option<&str>) -> Result<String> {
    let Some(code) = params.text("code")?.filter(|code| !code.is_empty()) else {
        return Ok(random(8).to_uppercase());
    };
    if !code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || code.len() > 500 {
        let message = "Invalid code: only letters, digits and dashes are allowed.";
        return Err(ApiError::invalid("parameter_invalid", message, "code"));
    }
    let taken = tx.list("promotion_code").any(|other| {
        let meets = customer.is_none() || other["customer"].is_null() || other["customer"].as_str() == customer;
        other["active"] == true && meets && text(other, "code").eq_ignore_ascii_case(&code)
    });
    if taken {
        let message = format!("An active promotion code with `code: {code}` already exists.");
        return Err(ApiError::invalid("resource_already_exists", message, "code"));
    }
    Ok(code)
}

fn restrictions(params: &mut Params) -> Result<Value> {
    let mut level = params.level("restrictions")?.unwrap_or_default();
    let minimum = positive(&mut level, "minimum_amount")?;
    let currency = level.text("minimum_amount_currency")?.map(|currency| currency.to_lowercase());
    if minimum.is_some() != currency.is_some() {
        return Err(level.absent(if minimum.is_some() { "minimum_amount_currency" } else { "minimum_amount" }));
    }
    let first = level.flag("first_time_transaction")?.unwrap_or(false);
    level.finish()?;
    Ok(json!({"first_time_transaction": first, "minimum_amount": minimum, "minimum_amount_currency": currency}))
}

pub(super) fn list_codes(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let (active, code) = (params.flag("active")?, params.text("code")?);
    let (coupon, customer) = (params.text("coupon")?, params.text("customer")?);
    page_of(tx, call, "promotion_code", customer.as_deref(), |one| {
        active.is_none_or(|active| one["active"] == active)
            && code.as_ref().is_none_or(|code| text(one, "code").eq_ignore_ascii_case(code))
            && coupon.as_ref().is_none_or(|id| text(&one["promotion"], "coupon") == id)
    })
}

pub(super) fn update_code(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut code = tx.need("promotion_code", call.id(), "id")?;
    if let Some(active) = call.params.flag("active")? {
        let coupon = tx.get(text(&code["promotion"], "coupon"));
        if active && coupon.is_none_or(|coupon| coupon["valid"] != true) {
            return Err(ApiError::state("This promotion code cannot be activated: its coupon is not valid."));
        }
        code["active"] = active.into();
    }
    code["metadata"] = call.params.metadata(&code["metadata"])?;
    Ok(tx.updated(code, "promotion_code.updated"))
}

/// What a code is to be redeemed for.
pub(super) struct Purchase<'a> {
    /// None yet: empty.
    pub(super) customer: &'a str,
    pub(super) currency: &'a str,
    pub(super) subtotal: i64,
}

/// The promotion code that a customer typed, if they may redeem it; else why not, as the page says it.
pub(super) fn find(tx: &Tx<'_>, typed: &str, purchase: &Purchase<'_>) -> std::result::Result<Value, String> {
    let theirs = |code: &&Value| {
        let meant = code["customer"].is_null() || text(code, "customer") == purchase.customer;
        meant && text(code, "code").eq_ignore_ascii_case(typed.trim())
    };
    let mut found: Vec<&Value> = tx.list("promotion_code").filter(theirs).collect();
    found.sort_by_key(|code| code["active"] != true);
    let code = *found.first().ok_or("This code is invalid.")?;
    allowed(tx, code, purchase).map(|()| code.clone())
}

/// Whether a code may be redeemed now for this; else why not.
pub(super) fn allowed(tx: &Tx<'_>, code: &Value, purchase: &Purchase<'_>) -> std::result::Result<(), String> {
    let coupon = tx.get(text(&code["promotion"], "coupon")).cloned().unwrap_or_default();
    let over = |at: &Value| at.as_i64().is_some_and(|at| at <= tx.now);
    let used_up = |one: &Value| one["max_redemptions"].as_i64().is_some_and(|most| int(one, "times_redeemed") >= most);
    if over(&code["expires_at"]) || over(&coupon["redeem_by"]) {
        return Err("This code has expired.".into());
    }
    if used_up(code) || used_up(&coupon) {
        return Err("This code has been redeemed as often as it can be.".into());
    }
    if code["active"] != true || coupon["valid"] != true {
        return Err("This code is invalid.".into());
    }
    if coupon["currency"].as_str().is_some_and(|currency| currency != purchase.currency) {
        return Err("This code is for another currency.".into());
    }
    let limits = &code["restrictions"];
    let least =
        limits["minimum_amount"].as_i64().filter(|_| text(limits, "minimum_amount_currency") == purchase.currency);
    if let Some(least) = least.filter(|least| purchase.subtotal < *least) {
        return Err(format!("This code is for purchases of {} and more.", money(least, purchase.currency)));
    }
    if limits["first_time_transaction"] == true && invoices::has_paid(tx, purchase.customer) {
        return Err("This code is for a first purchase.".into());
    }
    Ok(())
}

/// Counts a redemption; whatever has been redeemed as often as it may be ends with it.
pub(super) fn redeem(tx: &mut Tx<'_>, code: &Value) -> Result<Value> {
    let coupon = tx.need("coupon", text(&code["promotion"], "coupon"), "coupon")?;
    for (object, open, event) in
        [(code.clone(), "active", "promotion_code.updated"), (coupon.clone(), "valid", "coupon.updated")]
    {
        let mut object = object;
        let times = int(&object, "times_redeemed") + 1;
        object["times_redeemed"] = times.into();
        if object["max_redemptions"].as_i64().is_some_and(|most| times >= most) {
            object[open] = false.into();
        }
        let object = tx.updated(object, event);
        if object["object"] == "coupon" && object["valid"] == false {
            close_codes(tx, &object);
        }
    }
    Ok(coupon)
}

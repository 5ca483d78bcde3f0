//! What time does: periods end and are billed, failed payments are tried again, what waits expires.

use serde_json::Value;

use super::state::{Tx, int, text};
use super::subscriptions::{self, items};
use super::{checkout, coupons, disputes, invoices, proration};

const DAY: i64 = 86_400;
/// A failed payment is tried again so many days after the attempt before; then the subscription ends.
const RETRY_DAYS: [i64; 3] = [3, 5, 7];
/// A subscription whose first payment fails waits this long for it (seconds).
const INCOMPLETE_LIFE: i64 = 23 * 60 * 60;

/// When time will do something to this object (seconds).
pub(super) fn due(object: &Value) -> Option<i64> {
    match (text(object, "object"), text(object, "status")) {
        ("dispute", _) => disputes::due(object),
        ("coupon" | "promotion_code", _) => coupons::due(object),
        ("checkout.session", "open") => Some(int(object, "expires_at")),
        ("subscription", "incomplete") => Some(int(object, "created") + INCOMPLETE_LIFE),
        ("subscription", "active" | "trialing" | "past_due") => {
            let end = items(object).first().map(|item| int(item, "current_period_end"));
            end.into_iter().chain(object["_retry_at"].as_i64()).min()
        }
        _ => None,
    }
}

/// Does the one thing that is due to the object now.
pub(super) fn happen(tx: &mut Tx<'_>, id: &str) {
    let Some(object) = tx.get(id).filter(|object| due(object).is_some_and(|at| at <= tx.now)).cloned() else { return };
    if object["object"] == "checkout.session" {
        checkout::expire_session(tx, object);
    } else if object["object"] == "dispute" {
        disputes::expire(tx, object);
    } else if object["object"] == "coupon" || object["object"] == "promotion_code" {
        coupons::expire(tx, object);
    } else if object["status"] == "incomplete" {
        let mut subscription = object;
        subscription["status"] = "incomplete_expired".into();
        subscription["ended_at"] = tx.now.into();
        void_latest(tx, &subscription);
        tx.updated(subscription, "customer.subscription.updated");
    } else if object["_retry_at"].as_i64().is_some_and(|at| at <= tx.now) {
        retry(tx, object);
    } else if object["cancel_at_period_end"] == true {
        subscriptions::end(tx, object, "cancellation_requested");
    } else {
        renew(tx, object);
    }
}

fn void_latest(tx: &mut Tx<'_>, subscription: &Value) {
    let Some(mut invoice) = tx.get(text(subscription, "latest_invoice")).cloned() else { return };
    if invoice["status"] == "open" {
        invoice["status"] = "void".into();
        invoice["status_transitions"]["voided_at"] = tx.now.into();
        tx.put(invoice.clone());
        tx.emit("invoice.voided", &invoice, None);
    }
}

/// The period is over: the next one begins and is billed.
fn renew(tx: &mut Tx<'_>, mut subscription: Value) {
    subscriptions::next_period(&mut subscription);
    // No longer trialing, so that the lines are paid ones.
    subscription["status"] = "active".into();
    let mut lines = proration::pending(&subscription);
    subscription["_pending"] = serde_json::json!([]);
    lines.extend(invoices::period_lines(tx, &subscription));
    let invoice = invoices::issue(tx, &mut subscription, "subscription_cycle", lines);
    let method = subscriptions::method_of(tx, &subscription);
    match invoices::collect(tx, text(&invoice, "id"), method.as_ref(), false) {
        Ok(_) => subscriptions::clear(&mut subscription),
        Err(_) => fall_behind(tx, &mut subscription),
    }
    tx.updated(subscription, "customer.subscription.updated");
}

/// A payment failed: the latest invoice will be tried again. The caller stores the subscription.
pub(super) fn fall_behind(tx: &mut Tx<'_>, subscription: &mut Value) {
    subscription["status"] = "past_due".into();
    let retries = usize::try_from(int(subscription, "_retries")).unwrap_or(usize::MAX);
    let next = RETRY_DAYS.get(retries).map(|days| tx.now + days * DAY);
    subscription["_retry_at"] = next.into();
    if let Some(mut invoice) = tx.get(text(subscription, "latest_invoice")).cloned() {
        invoice["next_payment_attempt"] = next.into();
        tx.updated(invoice, "invoice.updated");
    }
}

/// Tries the latest invoice again; after the last time the subscription ends.
fn retry(tx: &mut Tx<'_>, mut subscription: Value) {
    subscription["_retries"] = (int(&subscription, "_retries") + 1).into();
    subscription["_retry_at"] = Value::Null;
    let (invoice, method) =
        (text(&subscription, "latest_invoice").to_owned(), subscriptions::method_of(tx, &subscription));
    if invoices::collect(tx, &invoice, method.as_ref(), false).is_ok() {
        return subscriptions::settled(tx, subscription);
    }
    fall_behind(tx, &mut subscription);
    if subscription["_retry_at"].is_null() {
        subscriptions::end(tx, subscription, "payment_failed");
    } else {
        tx.updated(subscription, "customer.subscription.updated");
    }
}

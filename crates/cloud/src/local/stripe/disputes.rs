//! Disputes: what a client's bank takes back, and how it ends. <https://docs.stripe.com/api/disputes>,
//! <https://docs.stripe.com/testing#disputes>.

use serde_json::{Value, json};

use super::api::{Call, page};
use super::error::{ApiError, Result};
use super::state::{Tx, int, text};

/// So long evidence is taken (seconds); at Stripe it is 7 to 21 days, by the card's network.
const ANSWER_WITHIN: i64 = 14 * 86_400;
/// An inquiry that nobody turned into a dispute ends after so long (seconds).
const INQUIRY_LIFE: i64 = 120 * 86_400;
/// What a dispute costs besides (cents).
const FEE: i64 = 1_500;
/// What can be said in evidence, as far as it is taken here.
const EVIDENCE: [&str; 5] =
    ["uncategorized_text", "product_description", "customer_name", "customer_email_address", "service_date"];

/// The bank of the charge's payer takes it back, or asks about it.
pub(super) fn open(tx: &mut Tx<'_>, charge: &str, wanted: &Value) {
    let Some(mut charge) = tx.get(charge).cloned() else { return };
    let inquiry = wanted["inquiry"] == true;
    let amount = int(&charge, "amount_captured");
    let moved = if inquiry { json!([]) } else { json!([movement(tx, -amount, FEE)]) };
    let dispute = json!({
        "id": Tx::id("du_"), "object": "dispute", "amount": amount, "balance_transactions": moved,
        "charge": charge["id"], "created": tx.now, "currency": charge["currency"], "enhanced_eligibility_types": [],
        "evidence": EVIDENCE.iter().map(|name| ((*name).to_owned(), Value::Null)).collect::<serde_json::Map<_, _>>(),
        "evidence_details": {"due_by": tx.now + ANSWER_WITHIN, "enhanced_eligibility": {}, "has_evidence": false,
            "past_due": false, "submission_count": 0},
        "is_charge_refundable": inquiry, "livemode": false, "metadata": {}, "payment_intent": charge["payment_intent"],
        "payment_method_details": {"type": "card", "card": {"brand": "visa", "case_type":
            if inquiry { "inquiry" } else { "chargeback" }, "network_reason_code": "10.4"}},
        "reason": wanted["reason"], "status": if inquiry { "warning_needs_response" } else { "needs_response" },
    });
    charge["disputed"] = (!inquiry).into();
    tx.put(charge);
    tx.created(dispute.clone(), "charge.dispute.created");
    if !inquiry {
        tx.emit("charge.dispute.funds_withdrawn", &dispute, None);
    }
}

fn movement(tx: &Tx<'_>, amount: i64, fee: i64) -> Value {
    json!({"id": Tx::id("txn_"), "object": "balance_transaction", "amount": amount, "created": tx.now,
        "currency": "usd", "fee": fee, "net": amount - fee, "reporting_category":
            if amount < 0 { "dispute" } else { "dispute_reversal" }, "status": "available", "type": "adjustment"})
}

/// What disputes moved on our balance, fees included (cents).
pub(super) fn moved(dispute: &Value) -> i64 {
    dispute["balance_transactions"].as_array().into_iter().flatten().map(|one| int(one, "net")).sum()
}

/// When time ends it (seconds).
pub(super) fn due(dispute: &Value) -> Option<i64> {
    match text(dispute, "status") {
        "needs_response" => Some(int(&dispute["evidence_details"], "due_by")),
        "warning_needs_response" | "warning_under_review" => Some(int(dispute, "created") + INQUIRY_LIFE),
        _ => None,
    }
}

/// Nobody answered in time, or nobody asks any more.
pub(super) fn expire(tx: &mut Tx<'_>, mut dispute: Value) {
    if dispute["status"] == "needs_response" {
        dispute["evidence_details"]["past_due"] = true.into();
        end(tx, dispute, "lost");
    } else {
        end(tx, dispute, "warning_closed");
    }
}

fn end(tx: &mut Tx<'_>, mut dispute: Value, status: &str) -> Value {
    dispute["status"] = status.into();
    if status == "won" {
        let back = movement(tx, int(&dispute, "amount"), -FEE);
        if let Some(moved) = dispute["balance_transactions"].as_array_mut() {
            moved.push(back);
        }
    }
    let dispute = tx.updated(dispute, "charge.dispute.closed");
    if status == "won" {
        tx.emit("charge.dispute.funds_reinstated", &dispute, None);
    }
    dispute
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let of = [("charge", call.params.text("charge")?), ("payment_intent", call.params.text("payment_intent")?)];
    page(tx, call, "dispute", |dispute| {
        of.iter().all(|(field, id)| id.as_ref().is_none_or(|id| text(dispute, field) == id))
    })
}

fn open_one(tx: &Tx<'_>, call: &Call) -> Result<Value> {
    let dispute = tx.need("dispute", call.id(), "id")?;
    if text(&dispute, "status").ends_with("needs_response") {
        return Ok(dispute);
    }
    Err(ApiError::state("This dispute is already closed, or its evidence was submitted."))
}

/// Takes evidence. As in Stripe's test mode, `winning_evidence` wins and `losing_evidence` loses; anything else is
/// looked at by nobody.
pub(super) fn update(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let mut dispute = open_one(tx, call)?;
    if let Some(mut level) = call.params.level("evidence")? {
        for name in EVIDENCE {
            if let Some(said) = level.text(name)? {
                dispute["evidence"][name] = said.into();
                dispute["evidence_details"]["has_evidence"] = true.into();
            }
        }
        level.finish()?;
    }
    dispute["metadata"] = call.params.metadata(&dispute["metadata"])?;
    if call.params.flag("submit")? == Some(false) || dispute["evidence_details"]["has_evidence"] == false {
        return Ok(tx.updated(dispute, "charge.dispute.updated"));
    }
    dispute["evidence_details"]["submission_count"] = 1.into();
    let inquiry = dispute["status"] == "warning_needs_response";
    dispute["status"] = if inquiry { "warning_under_review" } else { "under_review" }.into();
    let said = text(&dispute["evidence"], "uncategorized_text").to_owned();
    let dispute = tx.updated(dispute, "charge.dispute.updated");
    Ok(match (said.as_str(), inquiry) {
        ("winning_evidence", false) => end(tx, dispute, "won"),
        ("losing_evidence", false) => end(tx, dispute, "lost"),
        ("winning_evidence", true) => end(tx, dispute, "warning_closed"),
        _ => dispute,
    })
}

/// Gives in.
pub(super) fn close(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let dispute = open_one(tx, call)?;
    let status = if dispute["status"] == "needs_response" { "lost" } else { "warning_closed" };
    Ok(end(tx, dispute, status))
}

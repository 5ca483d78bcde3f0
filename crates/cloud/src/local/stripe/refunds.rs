//! Refunds: <https://docs.stripe.com/api/refunds>.

use serde_json::{Value, json};

use super::api::{Call, page};
use super::error::{ApiError, Result};
use super::state::{Tx, int, text};

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let (intent, charge) = (params.text("payment_intent")?, params.text("charge")?);
    let id = match (intent, charge) {
        (Some(intent), None) => {
            text(&tx.need("payment_intent", &intent, "payment_intent")?, "latest_charge").to_owned()
        }
        (None, Some(charge)) => charge,
        _ => {
            return Err(ApiError::state(
                "One of the following params should be provided for this request: payment_intent or charge.",
            ));
        }
    };
    let mut charge = tx.need("charge", &id, "charge")?;
    let left = int(&charge, "amount_captured") - int(&charge, "amount_refunded");
    if left == 0 {
        let message = format!("Charge {id} has already been refunded.");
        return Err(ApiError::invalid("charge_already_refunded", message, "charge"));
    }
    let amount = params.int("amount")?.unwrap_or(left);
    if amount < 1 || amount > left {
        let message =
            format!("Refund amount ({amount}) is not between 1 and the unrefunded amount on the charge ({left})");
        return Err(ApiError::invalid("parameter_invalid_integer", message, "amount"));
    }
    let reason = params.one_of("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
    if charge["disputed"] == true {
        let message = format!("Charge {id} has been disputed and can no longer be refunded.");
        return Err(ApiError::invalid("charge_disputed", message, "charge"));
    }
    let refund = json!({
        "id": Tx::id("re_"), "object": "refund", "amount": amount, "balance_transaction": Tx::id("txn_"),
        "charge": id, "created": tx.now, "currency": charge["currency"],
        "destination_details": {"type": "card", "card": {"reference_status": "pending", "reference_type":
            "acquirer_reference_number", "type": "refund"}},
        "metadata": params.metadata(&Value::Null)?, "payment_intent": charge["payment_intent"], "reason": reason,
        "receipt_number": null, "source_transfer_reversal": null, "status": "succeeded", "transfer_reversal": null,
    });
    charge["amount_refunded"] = (int(&charge, "amount_refunded") + amount).into();
    charge["refunded"] = (amount == left).into();
    tx.updated(charge, "charge.refunded");
    Ok(tx.created(refund, "refund.created"))
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let of = [("charge", call.params.text("charge")?), ("payment_intent", call.params.text("payment_intent")?)];
    page(tx, call, "refund", |refund| {
        of.iter().all(|(field, id)| id.as_ref().is_none_or(|id| text(refund, field) == id))
    })
}

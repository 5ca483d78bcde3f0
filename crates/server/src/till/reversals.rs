//! Refunds and disputes: made at the till's own pages or by a bank, read here. Neither says whose it is; the charge
//! that it takes back does, so that is asked for with them.

use serde_json::Value;
use stackpro_domain::reversal::{Reversal, ReversalKind};
use stackpro_domain::{Cents, Time};

use super::stripe::{Result, Till};
use super::subscription::{id_of, seconds, text};

/// Which ones.
#[derive(Clone, Copy, Debug)]
pub enum Reversed<'a> {
    /// Of this charge.
    Charge(&'a str),
    /// That began at this time or later.
    Since(Time),
}

/// With the till's customer whose money it was; none for what has no customer, which is nobody's of ours.
pub type Found = (Option<String>, Reversal);

impl Till {
    /// Refunds and disputes as they are now.
    pub async fn reversals(&self, which: Reversed<'_>) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for (kind, path) in [(ReversalKind::Refund, "/v1/refunds"), (ReversalKind::Dispute, "/v1/disputes")] {
            found.extend(self.all_of(kind, path, which).await?);
        }
        Ok(found)
    }

    async fn all_of(&self, kind: ReversalKind, path: &str, which: Reversed<'_>) -> Result<Vec<Found>> {
        let (name, value) = match which {
            Reversed::Charge(id) => ("charge", id.to_owned()),
            Reversed::Since(at) => ("created[gte]", at.ms().div_euclid(1000).to_string()),
        };
        self.pages(path, &[(name, &value), ("expand[]", "data.charge")], |row| read(kind, row)).await
    }
}

/// None when what makes one is missing, or when it takes back no charge.
fn read(kind: ReversalKind, value: &Value) -> Option<Found> {
    let charge = value.get("charge");
    let customer = charge.and_then(|charge| id_of(charge.get("customer")));
    let reversal = Reversal {
        id: text(value.get("id"))?,
        kind,
        charge: id_of(charge)?,
        amount: Cents(value.get("amount")?.as_i64().filter(|cents| *cents >= 0)?),
        state: text(value.get("status"))?,
        reason: text(value.get("reason")),
        created_at: value.get("created").and_then(seconds)?,
        due_at: value.pointer("/evidence_details/due_by").and_then(seconds),
    };
    Some((customer, reversal))
}

/// The charge that an event is about; none when it is about none.
pub fn charge_of(kind: &str, object: &Value) -> Option<String> {
    let of_charge = kind == "charge.refunded";
    let of_reversal = ["charge.refund.", "charge.dispute.", "refund."].iter().any(|start| kind.starts_with(start));
    match (of_charge, of_reversal) {
        (true, _) => text(object.get("id")),
        (_, true) => id_of(object.get("charge")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_are_read_or_not_believed() {
        let refund = json!({"id": "re_1", "amount": 500, "created": 7, "status": "succeeded", "reason": null,
            "charge": {"id": "ch_1", "customer": "cus_1"}});
        let (customer, read_one) = read(ReversalKind::Refund, &refund).unwrap();
        assert_eq!((customer.as_deref(), read_one.charge.as_str()), (Some("cus_1"), "ch_1"));
        assert_eq!((read_one.amount, read_one.created_at, read_one.due_at), (Cents(500), Time(7_000), None));
        let dispute = json!({"id": "du_1", "amount": 500, "created": 7, "status": "needs_response", "charge": "ch_1",
            "reason": "fraudulent", "evidence_details": {"due_by": 9}});
        let (customer, read_one) = read(ReversalKind::Dispute, &dispute).unwrap();
        assert_eq!((customer, read_one.answer_by()), (None, Some(Time(9_000))));
        for missing in ["id", "amount", "created", "status", "charge"] {
            let mut bad = refund.clone();
            bad[missing] = Value::Null;
            assert_eq!(read(ReversalKind::Refund, &bad), None, "{missing}");
        }
        assert_eq!(read(ReversalKind::Refund, &json!({"amount": -1})), None);
    }

    #[test]
    fn an_event_leads_to_its_charge() {
        let (charge, about) = (json!({"id": "ch_1", "charge": "ch_2"}), json!({"id": "du_1", "charge": "ch_1"}));
        assert_eq!(charge_of("charge.refunded", &charge).as_deref(), Some("ch_1"));
        for kind in ["charge.dispute.closed", "charge.refund.updated", "refund.failed"] {
            assert_eq!(charge_of(kind, &about).as_deref(), Some("ch_1"), "{kind}");
        }
        assert_eq!(charge_of("charge.succeeded", &charge), None);
        assert_eq!(charge_of("refund.created", &json!({"charge": null})), None);
    }
}

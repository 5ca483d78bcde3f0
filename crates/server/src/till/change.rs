//! Another plan for a subscription: what it would cost, and the change itself; and the invoices that result.
//!
//! The difference is settled at once (`proration_behavior=always_invoice`), and a change whose payment fails does
//! not happen (`payment_behavior=error_if_incomplete`): why is in `docs/decisions/changes-settle-at-once.md`. What
//! was previewed is what is charged, since both name the same moment (`proration_date`):
//! <https://docs.stripe.com/billing/subscriptions/prorations#preview-proration>.

use serde_json::Value;
use stackpro_domain::plan::{Interval, Plan, Plans};
use stackpro_domain::{Cents, Time};

use super::stripe::{Form, Result, Till, rows, segment, unreadable};
use super::subscription::{Subscription, seconds, text};

/// A subscription's way to another plan.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub subscription: &'a Subscription,
    pub plan: &'a Plan,
    pub interval: Interval,
    /// From when on the new plan counts; whole seconds.
    pub at: Time,
}

/// What a change would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub lines: Vec<Line>,
    /// Charged at once.
    pub due: Cents,
    /// What is left in the client's favour and taken off their next invoices.
    pub credit: Cents,
}

/// One line of an invoice, in the till's words; below 0 it is in the client's favour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub what: String,
    pub amount: Cents,
}

/// An invoice as the till has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    pub id: String,
    /// `ACME-0001`.
    pub number: Option<String>,
    pub created_at: Time,
    /// Stripe's word: `draft`, `open`, `paid`, `uncollectible`, `void`.
    pub status: String,
    pub total: Cents,
    pub paid: Cents,
    /// Where it is shown, and paid when it is open.
    pub page: Option<String>,
    pub pdf: Option<String>,
}

impl Till {
    /// What the change would cost; nothing is changed.
    pub async fn preview_change(&self, plans: &Plans, change: &Change<'_>) -> Result<Preview> {
        let mut form: Form<'_> = vec![("subscription", change.subscription.id.clone())];
        form.extend([
            ("subscription_details[items][0][id]", item(change.subscription)?),
            ("subscription_details[items][0][price]", self.price(plans, change.plan, change.interval).await?),
            ("subscription_details[proration_behavior]", "always_invoice".to_owned()),
            ("subscription_details[proration_date]", in_seconds(change.at)),
        ]);
        let invoice = self.post("/v1/invoices/create_preview", &form, &super::stripe::fresh_key()).await?;
        preview(&invoice).ok_or_else(|| unreadable("a preview of an invoice"))
    }

    /// Changes the plan, and charges or credits the difference at once. The same change of the same moment is made
    /// once, however often it is asked for.
    pub async fn change_plan(&self, plans: &Plans, change: &Change<'_>) -> Result<Subscription> {
        let form = vec![
            ("items[0][id]", item(change.subscription)?),
            ("items[0][price]", self.price(plans, change.plan, change.interval).await?),
            ("proration_behavior", "always_invoice".to_owned()),
            ("proration_date", in_seconds(change.at)),
            ("payment_behavior", "error_if_incomplete".to_owned()),
            ("metadata[plan]", change.plan.id.clone()),
        ];
        let (id, to) = (&change.subscription.id, change.plan.lookup_key(change.interval));
        let key = format!("change-{id}-{to}-{}", in_seconds(change.at));
        let value = self.post(&format!("/v1/subscriptions/{}", segment(id)), &form, &key).await?;
        Subscription::read(&value).ok_or_else(|| unreadable("a subscription"))
    }

    /// A customer's invoices, the newest first: at most `limit`, which is at most 100.
    pub async fn invoices(&self, customer: &str, limit: u32) -> Result<Vec<Invoice>> {
        let limit = limit.to_string();
        let list = self.get("/v1/invoices", &[("customer", customer), ("limit", &limit)]).await?;
        Ok(rows(&list).filter_map(Invoice::read).collect())
    }
}

impl Invoice {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: text(value.get("id"))?,
            number: text(value.get("number")),
            created_at: value.get("created").and_then(seconds)?,
            status: text(value.get("status"))?,
            total: cents(value, "total")?,
            paid: cents(value, "amount_paid").unwrap_or_default(),
            page: text(value.get("hosted_invoice_url")),
            pdf: text(value.get("invoice_pdf")),
        })
    }
}

fn preview(invoice: &Value) -> Option<Preview> {
    let lines = invoice.pointer("/lines/data")?.as_array()?;
    let line = |line: &Value| {
        Some(Line { what: text(line.get("description")).unwrap_or_default(), amount: cents(line, "amount")? })
    };
    let left = cents(invoice, "ending_balance").unwrap_or_default();
    let off = invoice.get("total_discount_amounts").and_then(Value::as_array).into_iter().flatten();
    let off: i64 = off.filter_map(|one| cents(one, "amount")).map(|cents| cents.0).sum();
    let discount = (off > 0).then(|| Line { what: "Discount".into(), amount: Cents(-off) });
    Some(Preview {
        lines: lines.iter().map(line).chain(discount.map(Some)).collect::<Option<_>>()?,
        due: cents(invoice, "amount_due")?,
        credit: Cents(left.0.min(0).saturating_neg()),
    })
}

fn cents(value: &Value, field: &str) -> Option<Cents> {
    value.get(field)?.as_i64().map(Cents)
}

fn item(subscription: &Subscription) -> Result<String> {
    subscription.item.clone().ok_or_else(|| unreadable("a subscription without an item"))
}

fn in_seconds(at: Time) -> String {
    at.ms().div_euclid(1000).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preview_is_read_or_not_believed() {
        let good = json!({"lines": {"data": [{"description": "Unused time", "amount": -500}, {"amount": 200}]},
            "amount_due": 0, "ending_balance": -300});
        let read = preview(&good).unwrap();
        assert_eq!((read.lines.len(), read.due, read.credit), (2, Cents(0), Cents(300)));
        let mut less = good.clone();
        less["total_discount_amounts"] = json!([{"amount": 50, "discount": "di_1"}, {"amount": 0, "discount": "di_2"}]);
        let last = preview(&less).unwrap().lines.pop().unwrap();
        assert_eq!((last.what.as_str(), last.amount), ("Discount", Cents(-50)), "the lines come to what is due");
        for missing in ["lines", "amount_due"] {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(missing);
            assert_eq!(preview(&bad), None, "{missing}");
        }
        assert_eq!(preview(&json!({"lines": {"data": [{"amount": "1"}]}, "amount_due": 1})), None);
    }
}

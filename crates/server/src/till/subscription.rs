//! What a subscription at the till means for a client's life. Read leniently: API versions differ in where
//! a field is, and a webhook of any version only says that something happened.

use serde_json::Value;
use stackpro_domain::lifecycle::Event;
use stackpro_domain::plan::Interval;
use stackpro_domain::{Cents, ClientId, Time};

/// Stripe's default retry schedule for a failed payment ends within so many days.
const DUNNING_DAYS: i64 = 14;

/// A subscription as the till has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub id: String,
    pub customer: String,
    /// Stripe's word: `active`, `past_due`, `canceled` …
    pub status: String,
    pub created: Time,
    pub period_end: Option<Time>,
    pub cancels_at_period_end: bool,
    pub latest_invoice: Option<String>,
    /// The id of its first item, which a change of plan changes.
    pub item: Option<String>,
    pub price_lookup_key: Option<String>,
    pub plan: Option<String>,
    pub interval: Option<Interval>,
    /// A coupon lowers what it costs.
    pub discounted: bool,
    /// What the present period comes to, where a coupon lowers it and the newest invoice, given whole, tells.
    pub charged: Option<Cents>,
    /// From the metadata that we gave it.
    pub client_id: Option<ClientId>,
}

impl Subscription {
    /// `None` when what makes a subscription is missing.
    pub fn read(value: &Value) -> Option<Self> {
        let item = value.pointer("/items/data/0").unwrap_or(&Value::Null);
        let price = item.get("price").unwrap_or(&Value::Null);
        // Moved from the subscription to its items in API version 2025-03-31.
        let period_end = value.get("current_period_end").and_then(seconds);
        let interval = match price.pointer("/recurring/interval").and_then(Value::as_str) {
            Some("month") => Some(Interval::Month),
            Some("year") => Some(Interval::Year),
            _ => None,
        };
        Some(Self {
            id: text(value.get("id"))?,
            customer: id_of(value.get("customer"))?,
            status: text(value.get("status"))?,
            created: value.get("created").and_then(seconds).unwrap_or_default(),
            period_end: period_end.or_else(|| item.get("current_period_end").and_then(seconds)),
            cancels_at_period_end: value.get("cancel_at_period_end").and_then(Value::as_bool).unwrap_or(false),
            latest_invoice: id_of(value.get("latest_invoice")),
            item: text(item.get("id")),
            price_lookup_key: text(price.get("lookup_key")),
            plan: text(price.pointer("/metadata/plan")).or_else(|| text(value.pointer("/metadata/plan"))),
            interval,
            discounted: value.get("discounts").and_then(Value::as_array).is_some_and(|all| !all.is_empty()),
            charged: charged(value, item),
            client_id: value.pointer("/metadata/client_id").and_then(Value::as_str).and_then(|id| id.parse().ok()),
        })
    }

    /// What happened to the client, as far as this subscription tells, in the order to apply it.
    /// `invoiced_at` is when the newest invoice was made.
    pub fn events(&self, invoiced_at: Option<Time>, now: Time) -> Vec<Event> {
        match (self.status.as_str(), self.period_end) {
            ("active" | "trialing", Some(until)) => {
                vec![Event::Paid { until }, Event::CancelsAtPeriodEnd(self.cancels_at_period_end)]
            }
            ("past_due", _) => {
                vec![Event::PaymentFailed { dunning_ends_at: invoiced_at.unwrap_or(now).plus_days(DUNNING_DAYS) }]
            }
            ("canceled" | "unpaid" | "paused", _) => vec![Event::SubscriptionEnded],
            // `incomplete` and `incomplete_expired`: a first payment that has not succeeded changes nothing.
            _ => Vec::new(),
        }
    }

    /// It is paid for.
    pub fn is_running(&self) -> bool {
        matches!(self.status.as_str(), "active" | "trialing")
    }

    /// It charges, or tries to, for this period or the next.
    pub fn charges(&self) -> bool {
        self.is_running() || self.status == "past_due"
    }

    /// A checkout of ours made it, not the operator at Stripe.
    pub fn is_ours(&self) -> bool {
        self.client_id.is_some()
    }

    /// Of several subscriptions of one customer, the one that counts: what runs before what ended, then ours, then the
    /// newest.
    pub fn rank(&self) -> (u8, bool, Time) {
        let running = match self.status.as_str() {
            "active" | "trialing" => 3,
            "past_due" => 2,
            "canceled" | "unpaid" | "paused" => 1,
            _ => 0,
        };
        (running, self.is_ours(), self.created)
    }
}

/// The newest invoice is of a period, and its line says what was taken off; or of a change of plan, whose prorations
/// are of the lowered price already, so that the part for the rest of the period tells the whole.
fn charged(subscription: &Value, item: &Value) -> Option<Cents> {
    let lines = subscription.pointer("/latest_invoice/lines/data")?.as_array()?;
    let is_proration = |line: &&Value| {
        line.pointer("/parent/subscription_item_details/proration").and_then(Value::as_bool).unwrap_or(false)
    };
    let amount = |line: &Value| line.get("amount").and_then(Value::as_i64);
    if let Some(line) = lines.iter().find(|line| !is_proration(line)) {
        let off = line.get("discount_amounts").and_then(Value::as_array).into_iter().flatten();
        let off: i64 = off.filter_map(amount).sum();
        return (off > 0).then(|| amount(line).map(|amount| Cents(amount - off))).flatten();
    }
    let discounts = subscription.get("discounts").and_then(Value::as_array)?;
    let rest = lines.iter().find(|line| amount(line).is_some_and(|amount| amount > 0));
    let rest = rest.filter(|_| !discounts.is_empty())?;
    let at = |value: &Value, name: &str| value.pointer(name).and_then(Value::as_i64);
    let left = at(rest, "/period/end")? - at(rest, "/period/start")?;
    let whole = at(item, "/current_period_end")? - at(item, "/current_period_start")?;
    let price = i128::from(amount(rest)?) * i128::from(whole);
    (left > 0 && whole > 0).then(|| i64::try_from(price / i128::from(left)).ok().map(Cents)).flatten()
}

pub(super) fn seconds(value: &Value) -> Option<Time> {
    value.as_i64().map(|seconds| Time(seconds.saturating_mul(1000)))
}

pub(super) fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A reference is an id, or the whole object when it was expanded.
pub fn id_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Object(object) => text(object.get("id")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Time = Time(1_795_562_204_000);

    fn subscription(status: &str) -> Value {
        json!({
            "id": "sub_1", "customer": "cus_1", "status": status, "created": 1, "cancel_at_period_end": true,
            "latest_invoice": {"id": "in_1"}, "metadata": {"client_id": "acme-7f3k"},
            "items": {"data": [{"current_period_end": 2_000_000_000, "price": {
                "lookup_key": "stackpro_starter_year", "recurring": {"interval": "year"}, "metadata": {"plan": "starter"}}}]},
        })
    }

    #[test]
    fn both_places_of_the_period_end_are_read() {
        let read = Subscription::read(&subscription("active")).unwrap();
        assert_eq!(read.period_end, Some(Time(2_000_000_000_000)));
        assert_eq!((read.interval, read.latest_invoice.as_deref()), (Some(Interval::Year), Some("in_1")));
        let mut older = subscription("active");
        older["current_period_end"] = json!(1_900_000_000);
        assert_eq!(Subscription::read(&older).unwrap().period_end, Some(Time(1_900_000_000_000)));
    }

    #[test]
    fn what_a_code_leaves_of_the_price_is_read_from_the_newest_invoice() {
        let mut value = subscription("active");
        let line = |amount: i64, off: i64, proration: bool| {
            json!({"amount": amount, "discount_amounts": [{"amount": off, "discount": "di_1"}],
                "period": {"start": 1_999_999_000, "end": 2_000_000_000},
                "parent": {"subscription_item_details": {"proration": proration}}})
        };
        let mut charged = |lines: Value, discounts: Value| {
            value["items"]["data"][0]["current_period_start"] = json!(1_999_997_000);
            value["latest_invoice"] = json!({"id": "in_1", "lines": {"data": lines}});
            value["discounts"] = discounts;
            Subscription::read(&value).unwrap().charged
        };
        assert_eq!(charged(json!([line(29_900, 5_980, false)]), json!([])), Some(Cents(23_920)), "once");
        assert_eq!(charged(json!([line(29_900, 0, false)]), json!([])), None, "the plan's price");
        let changed = json!([line(-5_000, 0, true), line(10_000, 0, true)]);
        assert_eq!(charged(changed.clone(), json!(["di_1"])), Some(Cents(30_000)), "a third is left");
        assert_eq!(charged(changed, json!([])), None);
        assert_eq!(charged(json!("lines"), json!(["di_1"])), None);
        value["latest_invoice"] = json!("in_1");
        assert_eq!(Subscription::read(&value).unwrap().charged, None, "not given whole");
    }

    #[test]
    fn of_several_the_one_that_counts_runs_is_ours_and_new() {
        let one = |status: &str, created: i64, ours: bool| {
            let mut value = subscription(status);
            value["created"] = json!(created);
            if !ours {
                value["metadata"] = json!({});
            }
            Subscription::read(&value).unwrap()
        };
        let rising = [
            one("incomplete", 9, true),
            one("canceled", 9, true),
            one("past_due", 8, true),
            one("active", 7, false),
            one("active", 1, true),
            one("trialing", 2, true),
        ];
        assert!(rising.windows(2).all(|pair| pair[0].rank() < pair[1].rank()), "{rising:#?}");
        let charging = rising.map(|one| one.charges());
        assert_eq!(charging, [false, false, true, true, true, true]);
    }

    #[test]
    fn what_is_no_subscription_is_not_read_as_one() {
        for bad in [json!(null), json!([]), json!({"id": 1}), json!({"id": "s", "status": "active"})] {
            assert_eq!(Subscription::read(&bad), None, "{bad}");
        }
        let mut odd = subscription("active");
        odd["items"] = json!("none");
        odd["metadata"] = json!({"client_id": "../etc"});
        let read = Subscription::read(&odd).unwrap();
        assert_eq!((read.client_id.clone(), read.period_end), (None, None));
        assert_eq!(read.events(None, NOW), [], "an active one without a period says nothing");
    }

    #[test]
    fn each_status_has_its_effect() {
        let events = |status: &str| Subscription::read(&subscription(status)).unwrap().events(Some(NOW), NOW);
        let until = Time(2_000_000_000_000);
        assert_eq!(events("active"), [Event::Paid { until }, Event::CancelsAtPeriodEnd(true)]);
        assert_eq!(events("past_due"), [Event::PaymentFailed { dunning_ends_at: NOW.plus_days(14) }]);
        assert_eq!(events("canceled"), [Event::SubscriptionEnded]);
        for silent in ["incomplete", "incomplete_expired", "something new"] {
            assert_eq!(events(silent), [], "{silent}");
        }
    }
}

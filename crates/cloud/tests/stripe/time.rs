//! What time does: renewals, dunning, expiry, and what changing a plan costs.

use serde_json::Value;
use stackpro_domain::Clock;
use tempfile::tempdir;

use super::support::{DAY, Hand, Receiver, Till, id, text, until};

#[tokio::test]
async fn thirteen_months_renew_thirteen_times_on_the_anchor_day() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-01-31T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let subscription = till.subscribe().await;
    let due = till.stripe.next_due(clock.now()).unwrap();
    assert_eq!(due.to_string(), "2026-02-28T10:00:00.000Z");
    let events = till.list("events").await.len();
    till.stripe.tick(due.plus(-1)).unwrap();
    assert_eq!(till.list("events").await.len(), events, "nothing happens early");

    clock.set("2027-02-28T10:00:00Z");
    let mut invoices = till.list("invoices").await;
    invoices.reverse();
    let dates: Vec<String> = invoices.iter().map(created).collect();
    let wanted = [
        "01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31", "08-31", "09-30", "10-31", "11-30", "12-31",
        "01-31", "02-28",
    ];
    assert_eq!(dates, wanted);
    assert!(invoices.iter().all(|invoice| invoice["status"] == "paid" && invoice["amount_paid"] == 29_900));
    let now = till.get(&format!("subscriptions/{}", text(&subscription, "id"))).await;
    assert_eq!(now["status"], "active");
    assert_eq!(now["items"]["data"][0]["current_period_start"], clock.now().ms() / 1_000);
    let of_a_renewal = till.events_after(till.list("events").await.len() - 7).await;
    assert_eq!(
        of_a_renewal,
        [
            "invoice.created",
            "invoice.finalized",
            "charge.succeeded",
            "payment_intent.succeeded",
            "invoice.paid",
            "invoice.payment_succeeded",
            "customer.subscription.updated",
        ]
    );
}

/// Month and day on which an object was made.
fn created(object: &Value) -> String {
    let at = object["created"].as_i64().unwrap();
    stackpro_domain::Time(at * 1_000).to_string()[5..10].to_owned()
}

/// A subscription whose card will fail from now on.
async fn doomed(till: &Till) -> (Value, String) {
    let subscription = till.subscribe().await;
    let form = [("customer", text(&subscription, "customer"))];
    let portal = till.post("billing_portal/sessions", &form).await;
    let card = format!("{}/card", text(&portal, "url"));
    assert_eq!(till.submit(&card, "4000000000000341").await.0, 303);
    let path = format!("subscriptions/{}", text(&subscription, "id"));
    (subscription, path)
}

#[tokio::test]
async fn an_unpaid_subscription_is_tried_again_and_then_ends() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let (_, path) = doomed(&till).await;
    clock.set("2026-12-24T10:00:00Z");
    for (attempts, wait) in [(1, 3), (2, 5), (3, 7)] {
        let subscription = till.get(&format!("{path}?expand[]=latest_invoice")).await;
        let invoice = &subscription["latest_invoice"];
        assert_eq!((text(&subscription, "status"), text(invoice, "status")), ("past_due", "open"));
        assert_eq!(invoice["attempt_count"], attempts);
        let next = clock.now().plus_days(wait);
        assert_eq!(invoice["next_payment_attempt"], next.ms() / 1_000);
        assert_eq!(till.stripe.next_due(clock.now()), Some(next));
        clock.advance(wait * DAY);
    }
    let subscription = till.get(&format!("{path}?expand[]=latest_invoice")).await;
    assert_eq!((text(&subscription, "status"), text(&subscription["latest_invoice"], "status")), ("canceled", "open"));
    assert_eq!(subscription["cancellation_details"]["reason"], "payment_failed");
    assert_eq!(till.list("events?type=invoice.payment_failed").await.len(), 4);
    assert_eq!(till.list("events?type=customer.subscription.deleted").await.len(), 1);
    assert_eq!(till.stripe.next_due(clock.now()), None);
}

#[tokio::test]
async fn a_new_card_pays_what_is_overdue() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let (subscription, path) = doomed(&till).await;
    clock.set("2026-12-28T10:00:00Z");
    let invoice = text(&till.get(&path).await, "latest_invoice").to_owned();
    let (status, declined) = till.try_post(&format!("invoices/{invoice}/pay"), &[]).await;
    assert_eq!((status, text(&declined["error"], "code")), (402, "card_declined"));
    assert_eq!(till.get(&format!("invoices/{invoice}")).await["attempt_count"], 3, "the failure is kept");
    let portal = till.post("billing_portal/sessions", &[("customer", text(&subscription, "customer"))]).await;
    let card = format!("{}/card", text(&portal, "url"));
    assert!(till.submit(&card, "4242424242424242").await.1.ends_with("?done=paid"));
    assert_eq!(till.get(&path).await["status"], "active");
    let period_end = till.get(&path).await["items"]["data"][0]["current_period_end"].as_i64().unwrap();
    assert_eq!(till.stripe.next_due(clock.now()).unwrap().ms(), period_end * 1_000, "no retry is left");
}

#[tokio::test]
async fn cancelled_at_the_periods_end_it_ends_then() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let path = format!("subscriptions/{}", text(&till.subscribe().await, "id"));
    till.post(&path, &[("cancel_at_period_end", "true")]).await;
    clock.set("2026-12-24T09:59:59Z");
    assert_eq!(till.get(&path).await["status"], "active");
    clock.set("2026-12-24T10:00:00Z");
    assert_eq!(till.get(&path).await["status"], "canceled");
    assert_eq!(till.list("invoices").await.len(), 1);
}

#[tokio::test]
async fn a_checkout_that_nobody_pays_expires_and_run_notices_by_itself() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let (receiver, url) = Receiver::start(0).await;
    let till = Till::open(dir.path(), clock.clone()).await;
    till.post("webhook_endpoints", &[("url", &url), ("enabled_events[]", "checkout.session.expired")]).await;
    let session = till.checkout(&till.price().await).await;
    clock.advance(DAY);
    // No request is made: the loop of `run` sees the clock.
    until("the expiry", || receiver.types() == ["checkout.session.expired"]).await;
    let (status, _, page) = till.submit(text(&session, "url"), "4242424242424242").await;
    assert!(status == 410 && page.contains("has expired"), "{page}");
    assert!(till.list("subscriptions").await.is_empty());
}

#[tokio::test]
async fn an_upgrade_in_the_middle_costs_the_difference_of_what_is_left() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-01T00:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let subscription = till.subscribe().await;
    let path = format!("subscriptions/{}", text(&subscription, "id"));
    let item = id(&subscription["items"]["data"][0]);
    let price = [
        ("currency", "usd"),
        ("unit_amount", "59900"),
        ("recurring[interval]", "month"),
        ("product_data[name]", "Business"),
    ];
    let price = id(&till.post("prices", &price).await);
    // A third of November is left.
    clock.set("2026-11-21T00:00:00Z");
    let change =
        [("items[0][id]", item.as_str()), ("items[0][price]", &price), ("proration_behavior", "always_invoice")];
    let preview = till
        .post(
            "invoices/create_preview",
            &[
                ("subscription", text(&subscription, "id")),
                ("subscription_details[items][0][id]", &item),
                ("subscription_details[items][0][price]", &price),
                ("subscription_details[proration_behavior]", "always_invoice"),
            ],
        )
        .await;
    let changed = till.post(&path, &change).await;
    let invoice = till.get(&format!("invoices/{}", text(&changed, "latest_invoice"))).await;
    assert_eq!(invoice["amount_paid"], 19_967 - 9_967);
    assert_eq!(preview["amount_due"], invoice["amount_paid"]);
    let (status, kind, file) = till.file(text(&invoice, "invoice_pdf")).await;
    assert_eq!((status, kind.as_str()), (200, "application/pdf"));
    assert!(file.starts_with("%PDF-1.4") && file.contains("$100.00"), "{file}");

    // Back down, with what is given back on the next invoice.
    let back = text(&subscription["items"]["data"][0]["price"], "id").to_owned();
    till.post(&path, &[("items[0][id]", item.as_str()), ("items[0][price]", &back)]).await;
    assert_eq!(till.list("invoices").await.len(), 2);
    clock.set("2026-12-01T00:00:00Z");
    assert_eq!(till.list("invoices").await[0]["amount_paid"], 29_900 - 10_000);
}

#[tokio::test]
async fn a_change_counts_from_the_moment_that_was_previewed() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-01T00:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let subscription = till.subscribe().await;
    let path = format!("subscriptions/{}", text(&subscription, "id"));
    let item = id(&subscription["items"]["data"][0]);
    let yearly = [
        ("currency", "usd"),
        ("unit_amount", "599000"),
        ("recurring[interval]", "year"),
        ("product_data[name]", "Business"),
    ];
    let yearly = id(&till.post("prices", &yearly).await);
    clock.set("2026-11-16T00:00:00Z");
    let previewed = (clock.now().ms() / 1_000).to_string();
    clock.set("2026-11-16T00:14:00Z");
    let change = |date: &str| {
        let date = date.to_owned();
        let (item, yearly) = (item.clone(), yearly.clone());
        [
            ("items[0][id]", item),
            ("items[0][price]", yearly),
            ("proration_behavior", "always_invoice".to_owned()),
            ("proration_date", date),
        ]
    };
    let outside = change("1793491199");
    let outside: Vec<(&str, &str)> = outside.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = till.refused(&path, &outside).await;
    assert_eq!(refused["error"]["param"], "proration_date", "{refused}");
    let good = change(&previewed);
    let good: Vec<(&str, &str)> = good.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let changed = till.post(&path, &good).await;
    let invoice = till.get(&format!("invoices/{}", text(&changed, "latest_invoice"))).await;
    // Exactly half of November is given back, and a year begins now.
    assert_eq!(invoice["amount_paid"], 599_000 - 14_950, "{invoice}");
    assert_eq!(changed["items"]["data"][0]["current_period_start"], clock.now().ms() / 1_000);
}

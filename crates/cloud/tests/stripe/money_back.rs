//! Refunds and disputes: what they say, what they move, and how they end.

use serde_json::Value;
use tempfile::tempdir;

use super::support::{DAY, Hand, Till, id, text};

/// Who bought with this card, and the charge.
async fn bought(till: &Till, card: &str) -> Value {
    let price = till.price().await;
    let session = till.checkout(&price).await;
    let (status, ..) = till.submit(text(&session, "url"), card).await;
    assert_eq!(status, 303);
    let invoice = till.list("invoices").await.remove(0);
    let intent = text(&invoice["payments"]["data"][0]["payment"], "payment_intent").to_owned();
    let intent = till.get(&format!("payment_intents/{intent}")).await;
    till.get(&format!("charges/{}", text(&intent, "latest_charge"))).await
}

#[tokio::test]
async fn a_refund_is_listed_by_its_charge_and_shows_whose_it_is() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let charge = bought(&till, "4242424242424242").await;
    let before = till.list("events").await.len();
    let one = till.post("refunds", &[("charge", &id(&charge)), ("amount", "500")]).await;
    let rest = till.post("refunds", &[("payment_intent", text(&charge, "payment_intent"))]).await;
    let again = till.refused("refunds", &[("charge", &id(&charge))]).await;
    assert_eq!(text(&again["error"], "code"), "charge_already_refunded");
    let charge = till.get(&format!("charges/{}", id(&charge))).await;
    assert_eq!((&charge["amount_refunded"], &charge["refunded"]), (&charge["amount"], &true.into()));
    let listed = till.get(&format!("refunds?charge={}&expand[]=data.charge", id(&charge))).await;
    let ids: Vec<String> = listed["data"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [id(&rest), id(&one)], "newest first");
    assert_eq!(listed["data"][0]["charge"]["customer"], charge["customer"]);
    assert_eq!(till.get("refunds?charge=ch_other").await["data"], Value::Array(Vec::new()));
    let told = till.events_after(before).await;
    assert_eq!(told.iter().filter(|kind| *kind == "charge.refunded").count(), 2, "{told:?}");
}

#[tokio::test]
async fn a_dispute_takes_the_money_until_it_is_won() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let charge = bought(&till, "4000000000000259").await;
    let dispute = till.list("disputes").await.remove(0);
    assert_eq!((text(&dispute, "status"), text(&dispute, "reason")), ("needs_response", "fraudulent"));
    assert_eq!((&dispute["charge"], &dispute["amount"]), (&charge["id"], &charge["amount"]));
    assert_eq!(charge["disputed"], true);
    let refused = till.refused("refunds", &[("charge", &id(&charge))]).await;
    assert_eq!(text(&refused["error"], "code"), "charge_disputed");
    let balance = async || till.get("balance").await["available"][0]["amount"].as_i64().unwrap();
    assert_eq!(balance().await, -1_500, "its fee");
    let path = format!("disputes/{}", id(&dispute));
    let won = till.post(&path, &[("evidence[uncategorized_text]", "winning_evidence")]).await;
    assert_eq!(text(&won, "status"), "won");
    assert_eq!(balance().await, charge["amount"].as_i64().unwrap());
    till.refused(&path, &[("evidence[uncategorized_text]", "losing_evidence")]).await;
    let told = till.events_after(0).await;
    let told: Vec<&str> = told.iter().filter_map(|kind| kind.strip_prefix("charge.dispute.")).collect();
    assert_eq!(told, ["created", "funds_withdrawn", "updated", "closed", "funds_reinstated"]);
}

#[tokio::test]
async fn who_does_not_answer_loses_and_an_inquiry_moves_nothing() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let charge = bought(&till, "4000000000001976").await;
    assert_eq!(charge["disputed"], false);
    let inquiry = till.list("disputes").await.remove(0);
    assert_eq!(text(&inquiry, "status"), "warning_needs_response");
    bought(&till, "4000000000002685").await;
    let dispute = till.list("disputes").await.remove(0);
    clock.advance(14 * DAY);
    let states = async || {
        [
            text(&till.get(&format!("disputes/{}", id(&dispute))).await, "status").to_owned(),
            text(&till.get(&format!("disputes/{}", id(&inquiry))).await, "status").to_owned(),
        ]
    };
    till.stripe.tick(stackpro_domain::Clock::now(&*clock)).unwrap();
    assert_eq!(states().await, ["lost", "warning_needs_response"]);
    clock.advance(106 * DAY);
    till.stripe.tick(stackpro_domain::Clock::now(&*clock)).unwrap();
    assert_eq!(states().await, ["lost", "warning_closed"]);
}

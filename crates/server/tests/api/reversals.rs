//! Refunds and disputes: read from the till anew, shown to the operator, and missing from the margin.

use axum::http::StatusCode;
use serde_json::{Value, json};
use stackpro_domain::{Cents, ClientId};
use stackpro_server::reconcilers::reversals;
use stackpro_store::{TillEventState, Whose};

use crate::common::{PASSWORD, Server};
use crate::pages::operator;
use crate::till::{buy, client, hint, tell};

/// Asks the simulated Stripe itself, as the operator does on its pages.
pub(crate) async fn stripe(server: &Server, method: &str, path: &str, form: &[(&str, &str)]) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/{path}", server.world.till.page_origins()[0]);
    let request =
        http.request(method.parse().unwrap(), url).bearer_auth(server.world.secrets.till_api_key()).form(form);
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// A client who pays by this card, and their charge.
async fn paid(server: &Server, card: &str) -> (ClientId, String) {
    let id = buy(server, card).await;
    let customer = client(server, &id).await.customer_id.unwrap();
    hint(server, "evt_paid", "invoice.paid", &customer).await;
    let list = stripe(server, "GET", &format!("invoices?customer={customer}"), &[]).await;
    let intent = list["data"][0]["payments"]["data"][0]["payment"]["payment_intent"].as_str().unwrap().to_owned();
    let intent = stripe(server, "GET", &format!("payment_intents/{intent}"), &[]).await;
    (id.parse().unwrap(), intent["latest_charge"].as_str().unwrap().to_owned())
}

async fn returned(server: &Server, id: &ClientId) -> (Cents, Cents) {
    let month = server.world.month(Whose::Clients(std::slice::from_ref(id))).await.unwrap();
    let cost = &month.so_far.clients[id];
    (cost.returned.cents(), cost.revenue.whole().unwrap().cents())
}

#[tokio::test]
async fn a_refund_is_seen_whoever_tells_of_it_and_is_no_revenue() {
    let server = Server::start().await;
    let (id, charge) = paid(&server, "4242424242424242").await;
    let before = returned(&server, &id).await;
    assert_eq!(before.0, Cents(0));
    stripe(&server, "POST", "refunds", &[("charge", &charge), ("amount", "12345")]).await;
    // Twice, and with amounts that are not so: only what the till says now counts.
    for n in 0..2 {
        let object = json!({"id": charge, "amount_refunded": 1, "customer": "cus_other"});
        tell(&server, &format!("evt_{n}"), "charge.refunded", &object).await;
    }
    let after = returned(&server, &id).await;
    assert_eq!(after.0, Cents(12_345));
    let drop = before.1 - after.1;
    assert!((12_300..=12_345).contains(&drop.0), "{drop}: and some seconds of revenue");
    assert_eq!(server.world.store.till_event("evt_1").await.unwrap().unwrap().state, TillEventState::Handled);

    // What no event told, the hourly look finds.
    stripe(&server, "POST", "refunds", &[("charge", &charge), ("amount", "55")]).await;
    reversals::sweep(&server.world).await.unwrap();
    reversals::sweep(&server.world).await.unwrap();
    assert_eq!(returned(&server, &id).await.0, Cents(12_400));

    let olga = operator(&server).await;
    let page = olga.get(&format!("/console/clients/{id}")).await;
    for shown in ["Refunds and disputes", "$123.45", "$0.55", "less $124.00 of refunds and disputes", "-0001"] {
        assert!(page.text.contains(shown), "{shown} is missing");
    }
}

#[tokio::test]
async fn a_dispute_waits_for_the_operator_until_it_is_over() {
    let server = Server::start().await;
    let (id, charge) = paid(&server, "4000000000000259").await;
    let dispute = stripe(&server, "GET", &format!("disputes?charge={charge}"), &[]).await["data"][0].clone();
    tell(&server, "evt_1", "charge.dispute.created", &dispute).await;
    let olga = operator(&server).await;
    let overview = olga.get("/console").await.text;
    assert!(overview.contains("A dispute") && overview.contains(id.as_str()), "it needs the operator");
    let page = olga.get(&format!("/console/clients/{id}")).await.text;
    assert!(page.contains("Answer it") && page.contains("fraudulent"));
    assert_eq!(returned(&server, &id).await.0, Cents(599_000));

    let login = json!({"email": "op@stackpro.example", "password": PASSWORD});
    let token = server.post("/api/auth/login", "", &login).await.json()["token"].as_str().unwrap().to_owned();
    let path = format!("/api/operator/clients/{id}/reversals");
    let listed = server.get(&path, &token).await.json();
    assert_eq!((&listed[0]["kind"], &listed[0]["status"]), (&json!("dispute"), &json!("needs_response")));
    assert_eq!((&listed[0]["takenCents"], listed[0]["answerBy"].is_string()), (&json!(599_000), true));
    assert_eq!(server.get("/api/operator/clients/nobody-1234/reversals", &token).await.status, StatusCode::NOT_FOUND);

    let evidence = [("evidence[uncategorized_text]", "winning_evidence")];
    let won = stripe(&server, "POST", &format!("disputes/{}", dispute["id"].as_str().unwrap()), &evidence).await;
    // An old event that comes late changes nothing: what counts is how it is now.
    tell(&server, "evt_3", "charge.dispute.closed", &won).await;
    tell(&server, "evt_2", "charge.dispute.created", &dispute).await;
    let listed = server.get(&path, &token).await.json();
    assert_eq!((&listed[0]["status"], &listed[0]["takenCents"]), (&json!("won"), &json!(0)));
    assert_eq!(listed[0]["answerBy"], Value::Null);
    assert!(!olga.get("/console").await.text.contains("A dispute"));
    assert_eq!(returned(&server, &id).await.0, Cents(0));
}

#[tokio::test]
async fn what_is_taken_back_from_someone_elses_payment_is_nobodys() {
    let server = Server::start().await;
    tell(&server, "evt_1", "charge.refunded", &json!({"id": "ch_of_nobody"})).await;
    let event = server.world.store.till_event("evt_1").await.unwrap().unwrap();
    assert_eq!(event.state, TillEventState::Ignored);
}

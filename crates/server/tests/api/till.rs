//! The till: checkout, webhooks, and what they do to a client's life.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use stackpro_domain::lifecycle::{Event, State};
use stackpro_domain::plan::Interval;
use stackpro_domain::time::{DAY, MINUTE};
use stackpro_server::lives;
use stackpro_server::reconcilers::till_events;
use stackpro_server::till::Order;
use stackpro_server::till::signature::sign;
use stackpro_store::{MailFilter, StackPhase, TillEventState};

use crate::common::{Answer, Server, request};
use crate::gifts::operators_token;
use crate::reversals::stripe;

async fn deliver(server: &Server, body: &str, header: &str) -> Answer {
    let request = request(Method::POST, "/api/stripe-webhook", "").header("stripe-signature", header);
    server.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

fn signed(server: &Server, body: &str) -> String {
    sign(body.as_bytes(), &server.world.secrets.till_webhook_secret(), server.world.now())
}

#[tokio::test]
async fn a_webhook_is_stored_once_or_clearly_refused() {
    let server = Server::start().await;
    let body = r#"{"id":"evt_1","type":"charge.refunded","data":{"object":{}}}"#;
    let header = signed(&server, body);
    let all = futures::future::join_all((0..10).map(|_| deliver(&server, body, &header))).await;
    assert!(all.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(server.world.store.till_events_due(server.world.now().ms(), 10).await.unwrap().len(), 1);

    let rotated = sign(body.as_bytes(), "whsec_next", server.world.now());
    assert_eq!(deliver(&server, body, &rotated).await.status, StatusCode::OK);
    let other = body.replace("evt_1", "evt_2");
    let stale = sign(other.as_bytes(), "whsec_next", server.world.now().plus(-301_000));
    for (what, body, header) in [
        ("one byte", other.as_str(), header.as_str()),
        ("stale", &other, &stale),
        ("wrong secret", &other, &sign(other.as_bytes(), "whsec_other", server.world.now())),
        ("no signature", &other, ""),
        ("no event", "[]", &signed(&server, "[]")),
    ] {
        let answer = deliver(&server, body, header).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{what}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    assert!(server.world.store.till_event("evt_2").await.unwrap().is_none());
}

#[tokio::test]
async fn without_a_database_a_webhook_is_to_be_sent_again() {
    let server = Server::start().await;
    server.world.store.close().await;
    let body = r#"{"id":"evt_1","type":"invoice.paid"}"#;
    assert_eq!(deliver(&server, body, &signed(&server, body)).await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// Signs up and pays for a year; returns the client's id.
pub(crate) async fn buy(server: &Server, card: &str) -> String {
    let made = server.sign_up("Acme Law").await;
    pay(server, made["token"].as_str().unwrap(), ["business", "year"], card).await;
    made["clientId"].as_str().unwrap().to_owned()
}

/// Goes to the till and pays there as a browser would.
pub(crate) async fn pay(server: &Server, token: &str, choice: [&str; 2], card: &str) {
    let paid = submit(&page_to_pay(server, token, choice).await, card).await;
    assert!(matches!(paid, 200 | 303 | 402), "{paid}");
}

/// The address of a page at the till.
async fn page_to_pay(server: &Server, token: &str, [plan, interval]: [&str; 2]) -> String {
    let body = json!({"planId": plan, "interval": interval});
    let answer = server.post("/api/create-checkout-session", token, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let checkout = answer.json();
    assert!(checkout["id"].as_str().unwrap().starts_with("cs_"));
    checkout["url"].as_str().unwrap().to_owned()
}

/// What such a page answers to a card: 303 when it is paid.
async fn submit(url: &str, card: &str) -> u16 {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    http.post(url).form(&card_form(card)).send().await.unwrap().status().as_u16()
}

/// The token of Acme Law's owner, signed in anew.
pub(crate) async fn owner(server: &Server) -> String {
    let login = json!({"email": "owner@acmelaw.example", "password": crate::common::PASSWORD});
    server.post("/api/auth/login", "", &login).await.json()["token"].as_str().unwrap().to_owned()
}

/// What is typed on a checkout page.
pub(crate) fn card_form(card: &str) -> Vec<(&'static str, &str)> {
    let who = [("number", card), ("expiry", "12 / 34"), ("cvc", "123"), ("name", "Ann Other"), ("country", "DE")];
    let address = [("line1", "Hauptstr. 1"), ("city", "Berlin"), ("postal_code", "10115")];
    who.into_iter().chain(address).collect()
}

pub(crate) async fn client(server: &Server, id: &str) -> stackpro_store::Client {
    server.world.store.client(&id.parse().unwrap()).await.unwrap().unwrap()
}

/// A webhook that says no more than whose it is.
pub(crate) async fn hint(server: &Server, id: &str, kind: &str, customer: &str) {
    tell(server, id, kind, &json!({"customer": customer})).await;
}

/// A webhook about an object, and its handling.
pub(crate) async fn tell(server: &Server, id: &str, kind: &str, object: &Value) {
    let body = json!({"id": id, "type": kind, "data": {"object": object}}).to_string();
    assert_eq!(deliver(server, &body, &signed(server, &body)).await.status, StatusCode::OK);
    till_events::round(&server.world).await.unwrap();
}

#[tokio::test]
async fn paying_makes_a_client_active_however_the_events_come() {
    let server = Server::start().await;
    let id = buy(&server, "4242424242424242").await;
    let row = client(&server, &id).await;
    assert_eq!(row.life.state, State::Trial, "nothing is believed before the till is asked");
    let customer = row.customer_id.unwrap();
    for n in 0..3 {
        hint(&server, &format!("evt_late_{n}"), "invoice.paid", &customer).await;
        hint(&server, &format!("evt_odd_{n}"), "customer.subscription.deleted", &customer).await;
    }
    let row = client(&server, &id).await;
    assert_eq!((row.life.state, row.plan.as_str()), (State::Active, "business"));
    assert_eq!(row.interval.unwrap().as_str(), "year");
    assert!(row.life.paid_until.unwrap() > server.world.now().plus_days(364));
    assert!(row.subscription_id.unwrap().starts_with("sub_"));
    let flows = server.world.store.timelines(&id.parse().unwrap(), 10).await.unwrap();
    assert_eq!(flows.iter().filter(|t| t.flow.kind == "migrate").count(), 1, "one effect");
    let event = server.world.store.till_event("evt_late_0").await.unwrap().unwrap();
    assert_eq!(event.state, TillEventState::Handled);

    // They come back from the till before the flow has taken its first step.
    let mut tx = server.world.store.begin().await.unwrap();
    let mut ready = tx.client(&row.id).await.unwrap().unwrap();
    ready.stack = StackPhase::Ready;
    tx.update_client(&ready).await.unwrap();
    tx.commit().await.unwrap();
    let token = owner(&server).await;
    let seen = server.get(&format!("/api/deployment-status/{id}"), &token).await.json();
    assert_eq!(seen["status"], "migrating", "{seen}");

    let again = json!({"planId": "starter", "interval": "month"});
    let refused = server.post("/api/create-checkout-session", &token, &again).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
}

#[tokio::test]
async fn who_pays_for_a_month_after_a_year_that_was_ended_early_is_served_again() {
    // The end of the year is heard of before the month is paid, or never, and then they were suspended by the operator.
    for heard in [true, false] {
        let server = Server::start().await;
        let id = buy(&server, "4242424242424242").await;
        let sync = async || till_events::sync_client(&server.world, &client(&server, &id).await).await.unwrap();
        sync().await;
        server.world.time_machine.as_ref().unwrap().advance(20 * DAY).unwrap();
        if !heard {
            let mut tx = server.world.store.begin().await.unwrap();
            let mut row = tx.client(&id.parse().unwrap()).await.unwrap().unwrap();
            lives::apply(&server.world, &mut tx, &mut row, Event::Suspended).await.unwrap();
            tx.commit().await.unwrap();
        }
        let year = client(&server, &id).await.subscription_id.unwrap();
        server.world.till.end_subscription(&year).await.unwrap();
        if heard {
            sync().await;
        }
        assert_eq!(client(&server, &id).await.life.state, State::Suspended);
        pay(&server, &owner(&server).await, ["business", "month"], "4242424242424242").await;
        sync().await;
        let row = client(&server, &id).await;
        assert_eq!((row.life.state, row.life.pays()), (State::Active, true), "heard: {heard}");
        assert_ne!(row.subscription_id.unwrap(), year);
        assert!(row.life.paid_until.unwrap() < server.world.now().plus_days(32), "the month alone is paid");
    }
}

#[tokio::test]
async fn nobody_is_led_to_pay_twice() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    let (id, token) = (made["clientId"].as_str().unwrap(), made["token"].as_str().unwrap());
    let business = ["business", "month"];
    let first = page_to_pay(&server, token, business).await;
    let second = page_to_pay(&server, token, ["starter", "month"]).await;
    assert_ne!(submit(&first, "4242424242424242").await, 303, "of two pages the older is closed");
    assert_eq!(submit(&second, "4242424242424242").await, 303);

    let again = json!({"planId": "business", "interval": "month"});
    let refused = server.post("/api/create-checkout-session", token, &again).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert!(refused.text.contains("pays already"), "no event has told of it: {}", refused.text);
    let row = client(&server, id).await;
    assert_eq!((row.life.pays(), row.plan.as_str()), (true, "starter"));

    let mut tx = server.world.store.begin().await.unwrap();
    let mut row = tx.client(&row.id).await.unwrap().unwrap();
    lives::apply(&server.world, &mut tx, &mut row, Event::Suspended).await.unwrap();
    tx.commit().await.unwrap();
    let refused = server.post("/api/create-checkout-session", token, &again).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    assert!(refused.text.contains("paused by us"), "{}", refused.text);
}

#[tokio::test]
async fn who_pays_on_two_pages_at_once_has_one_subscription_and_the_operators_are_told() {
    // By an event, or, where none came, by the hourly look.
    for heard in [true, false] {
        let server = Server::start().await;
        let made = server.sign_up("Acme Law").await;
        let (id, token) = (made["clientId"].as_str().unwrap(), made["token"].as_str().unwrap());
        crate::pages::operator(&server).await;
        let first = page_to_pay(&server, token, ["business", "year"]).await;
        let row = client(&server, id).await;
        let (world, customer) = (&server.world, row.customer_id.unwrap());
        let plan = world.plans.get("starter").unwrap();
        let order = Order { client: &row.id, customer: &customer, plan, interval: Interval::Month };
        let back = || "http://127.0.0.1/".to_owned();
        let second = world.till.create_checkout(&world.plans, &order, back(), back()).await.unwrap().url;
        assert_eq!(submit(&first, "4242424242424242").await, 303);
        world.time_machine.as_ref().unwrap().advance(MINUTE).unwrap();
        assert_eq!(submit(&second, "4242424242424242").await, 303);
        let statuses = async || {
            let found = world.till.subscriptions_of(&customer).await.unwrap();
            found.into_iter().map(|one| (one.plan.unwrap(), one.status)).collect::<Vec<_>>()
        };
        let of = |plan: &str, status: &str| (plan.to_owned(), status.to_owned());
        assert_eq!(statuses().await, [of("starter", "active"), of("business", "active")]);

        for n in 0..2 {
            if heard {
                hint(&server, &format!("evt_{n}"), "checkout.session.completed", &customer).await;
            } else {
                till_events::sweep_all(world).await.unwrap();
            }
            assert_eq!(statuses().await, [of("starter", "active"), of("business", "canceled")]);
            let row = client(&server, id).await;
            assert_eq!((row.life.pays(), row.plan.as_str()), (true, "starter"));
        }
        let told = attention(&server).await;
        assert_eq!(told.len(), 1, "once: {told:?}");
        assert!(told[0].contains("paid for two subscriptions"), "{told:?}");
    }
}

#[tokio::test]
async fn who_is_deleted_pays_no_more() {
    // By the operator, which closes open pages; or by its date, after which one may still be paid.
    for by_operator in [true, false] {
        let server = Server::start().await;
        let id = buy(&server, "4000000000000002").await;
        crate::pages::operator(&server).await;
        let token = operators_token(&server).await;
        let page = page_to_pay(&server, &owner(&server).await, ["business", "month"]).await;
        if by_operator {
            let deleted = server.post(&format!("/api/operator/clients/{id}/delete"), &token, &json!({})).await;
            assert_eq!(deleted.status, StatusCode::ACCEPTED, "{}", deleted.text);
            assert_ne!(submit(&page, "4242424242424242").await, 303);
            continue;
        }
        let mut tx = server.world.store.begin().await.unwrap();
        let mut row = tx.client(&id.parse().unwrap()).await.unwrap().unwrap();
        lives::apply(&server.world, &mut tx, &mut row, Event::Deleted).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(submit(&page, "4242424242424242").await, 303);
        for _ in 0..2 {
            till_events::sweep_all(&server.world).await.unwrap();
            let found = server.world.till.subscriptions_of(row.customer_id.as_ref().unwrap()).await.unwrap();
            assert!(found.iter().all(|one| !one.charges()), "{found:?}");
        }
        let told = attention(&server).await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("deleted already"), "{told:?}");
    }
}

#[tokio::test]
async fn a_till_that_says_nothing_keeps_no_operator_waiting() {
    let server = Server::start().await;
    let id = buy(&server, "4242424242424242").await;
    crate::pages::operator(&server).await;
    let token = operators_token(&server).await;
    let _silent = server.silence_the_till().await;
    let began = Instant::now();
    let deleted = server.post(&format!("/api/operator/clients/{id}/delete"), &token, &json!({})).await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED, "{}", deleted.text);
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}: a call to the till takes 10 s at most", began.elapsed());
    assert_eq!(client(&server, &id).await.life.state, State::Deleted);
}

/// The subjects of mails that ask an operator to look at something.
async fn attention(server: &Server) -> Vec<String> {
    let mails = server.world.store.mails(&MailFilter::default(), None, 50).await.unwrap().rows;
    mails.into_iter().filter(|mail| mail.kind == "attention").map(|mail| mail.subject).collect()
}

#[tokio::test]
async fn what_an_operator_sold_at_the_till_beside_ours_is_left_alone() {
    let server = Server::start().await;
    let id = buy(&server, "4242424242424242").await;
    let row = client(&server, &id).await;
    let (world, customer) = (&server.world, row.customer_id.unwrap());
    world.time_machine.as_ref().unwrap().advance(MINUTE).unwrap();
    let method = stripe(&server, "GET", &format!("payment_methods?customer={customer}&type=card"), &[]).await;
    let prices = stripe(&server, "GET", "prices?lookup_keys[]=stackpro_starter_month", &[]).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (method, price) = (text(&method["data"][0]["id"]), text(&prices["data"][0]["id"]));
    let form = [("customer", &*customer), ("items[0][price]", &price), ("default_payment_method", &method)];
    let theirs = text(&stripe(&server, "POST", "subscriptions", &form).await["id"]);
    for _ in 0..2 {
        till_events::sweep_all(world).await.unwrap();
        let found = world.till.subscriptions_of(&customer).await.unwrap();
        assert!(found.iter().all(|one| one.status == "active") && found.len() == 2, "{found:?}");
        assert_ne!(client(&server, &id).await.subscription_id.unwrap(), theirs);
    }
    // Where it is all that they have, it counts, and ends with them.
    world.till.end_subscription(&client(&server, &id).await.subscription_id.unwrap()).await.unwrap();
    till_events::sweep_all(world).await.unwrap();
    let row = client(&server, &id).await;
    assert_eq!((row.life.pays(), row.subscription_id), (true, Some(theirs)));
    let mut tx = world.store.begin().await.unwrap();
    let mut row = tx.client(&row.id).await.unwrap().unwrap();
    lives::apply(world, &mut tx, &mut row, Event::Deleted).await.unwrap();
    tx.commit().await.unwrap();
    till_events::sweep_all(world).await.unwrap();
    let found = world.till.subscriptions_of(&customer).await.unwrap();
    assert!(found.iter().all(|one| one.status == "canceled"), "{found:?}");
}

#[tokio::test]
async fn a_declined_card_changes_nothing() {
    let server = Server::start().await;
    let id = buy(&server, "4000000000000002").await;
    let customer = client(&server, &id).await.customer_id.unwrap();
    hint(&server, "evt_1", "invoice.payment_failed", &customer).await;
    assert_eq!(client(&server, &id).await.life.state, State::Trial);
}

#[tokio::test]
async fn strange_events_are_put_aside() {
    let server = Server::start().await;
    server.sign_up("Acme Law").await;
    hint(&server, "evt_1", "invoice.paid", "cus_of_nobody").await;
    hint(&server, "evt_2", "account.updated", "cus_of_nobody").await;
    for id in ["evt_1", "evt_2"] {
        let event = server.world.store.till_event(id).await.unwrap().unwrap();
        assert!(matches!(event.state, TillEventState::Ignored | TillEventState::Received), "{event:?}");
    }
}

#[tokio::test]
async fn a_code_lowers_the_revenue_as_it_lowers_the_invoices() {
    let server = Server::start().await;
    let key = server.world.secrets.till_api_key();
    let base = server.world.till.page_origins()[0].to_owned();
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let coupon = [("id", "HALF"), ("percent_off", "50"), ("duration", "forever")];
    let code = [("promotion[type]", "coupon"), ("promotion[coupon]", "HALF"), ("code", "HALF")];
    for (path, form) in [("coupons", coupon), ("promotion_codes", code)] {
        let made = http.post(format!("{base}/v1/{path}")).bearer_auth(&key).form(&form).send().await.unwrap();
        assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    }
    let made = server.sign_up("Acme Law").await;
    let (token, id) = (made["token"].as_str().unwrap(), made["clientId"].as_str().unwrap());
    let order = json!({"planId": "business", "interval": "month"});
    let checkout = server.post("/api/create-checkout-session", token, &order).await.json();
    let url = checkout["url"].as_str().unwrap();
    let applied = http.post(format!("{url}/code")).form(&[("code", "half")]).send().await.unwrap();
    assert!(applied.status().is_redirection(), "{applied:?}");
    let paid = http.post(url).form(&card_form("4242424242424242")).send().await.unwrap();
    assert!(paid.status().is_redirection(), "{paid:?}");
    let row = client(&server, id).await;
    till_events::sync_client(&server.world, &row).await.unwrap();
    let row = client(&server, id).await;
    assert_eq!(row.price, Some(stackpro_domain::Cents(29_950)));
    let revenue = crate::gifts::revenue(&server, id).await;
    assert!((1..=29_950).contains(&revenue.0), "{revenue:?}");
    let invoices = server.get(&format!("/api/clients/{id}/invoices"), token).await.json();
    assert_eq!((&invoices[0]["totalCents"], &invoices[0]["paidCents"]), (&29_950.into(), &29_950.into()));

    // Half of what the other plan costs is what is previewed, and what it brings from then on.
    let path = format!("/api/clients/{id}/plan/preview");
    let order = json!({"planId": "enterprise", "interval": "year"});
    let shown = server.post(&path, token, &order).await.json();
    assert_eq!(shown["discounted"], true, "{shown}");
    let lines: i64 = shown["lines"].as_array().unwrap().iter().map(|line| line["amountCents"].as_i64().unwrap()).sum();
    assert_eq!(shown["dueCents"], lines, "{shown}");
    assert!(shown["lines"].as_array().unwrap().iter().any(|line| line["what"] == "Discount"), "{shown}");
}

//! A plan that the operator gives for nothing.

use axum::http::StatusCode;
use serde_json::{Value, json};
use stackpro_domain::lifecycle::State;
use stackpro_domain::time::DAY;
use stackpro_domain::{Cents, ClientId};
use stackpro_server::reconcilers::{lifecycle, till_events};
use stackpro_store::{TillEventState, Whose};

use crate::common::{Answer, PASSWORD, Server, request};
use crate::pages::operator;
use crate::till::{buy, client, hint, owner, pay};

async fn give(server: &Server, token: &str, id: &str, body: &Value) -> Answer {
    let put = request(axum::http::Method::PUT, &format!("/api/operator/clients/{id}/plan"), token);
    let put = put.header("content-type", "application/json").body(axum::body::Body::from(body.to_string()));
    server.send(put.unwrap()).await
}

pub(crate) async fn operators_token(server: &Server) -> String {
    let login = json!({"email": "op@stackpro.example", "password": PASSWORD});
    server.post("/api/auth/login", "", &login).await.json()["token"].as_str().unwrap().to_owned()
}

pub(crate) async fn revenue(server: &Server, id: &str) -> Cents {
    let ids: [ClientId; 1] = [id.parse().unwrap()];
    let month = server.world.month(Whose::Clients(&ids)).await.unwrap();
    month.projected.clients.get(&ids[0]).map(|cost| cost.revenue.whole().unwrap().cents()).unwrap_or_default()
}

async fn at(server: &Server, days: i64) {
    server.world.time_machine.as_ref().unwrap().advance(days * DAY).unwrap();
    lifecycle::round(&server.world).await.unwrap();
}

#[tokio::test]
async fn a_given_plan_runs_earns_nothing_and_ends_as_a_trial_does() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    let (id, owner) = (made["clientId"].as_str().unwrap(), made["token"].as_str().unwrap());
    let olga = operator(&server).await;
    let page = format!("/console/clients/{id}");
    let csrf = olga.csrf(&page).await;
    let day = server.world.now().plus_days(40).to_string()[..10].to_owned();
    let fields = [("csrf", csrf.as_str()), ("planId", "business"), ("until", &day)];
    assert_eq!(olga.post(&format!("{page}/plan"), &fields).await.status, StatusCode::SEE_OTHER);
    assert!(olga.get(&page).await.text.contains("given for nothing"));
    let row = client(&server, id).await;
    assert_eq!((row.life.state, row.plan.as_str(), row.life.pays()), (State::Active, "business", false));
    let flows = server.world.store.timelines(&row.id, 10).await.unwrap();
    assert_eq!(flows.iter().filter(|timeline| timeline.flow.kind == "migrate").count(), 1);
    let seen = server.get(&format!("/api/dashboard/{id}"), owner).await.json();
    assert_eq!((&seen["client"]["given"], &seen["usage"]["membersLimit"]), (&json!(true), &Value::Null), "{seen}");
    assert_eq!(revenue(&server, id).await, Cents(0));

    at(&server, 39).await;
    assert_eq!(client(&server, id).await.life.state, State::Active, "not a day sooner");
    at(&server, 1).await;
    let row = client(&server, id).await;
    assert_eq!((row.life.state, row.life.given), (State::Grace, None));
    at(&server, 3).await;
    assert_eq!(client(&server, id).await.life.state, State::Suspended);
    assert_eq!(revenue(&server, id).await, Cents(0));
}

#[tokio::test]
async fn what_the_till_says_does_not_end_it_until_they_pay() {
    let server = Server::start().await;
    let id = buy(&server, "4000000000000002").await;
    operator(&server).await;
    let token = operators_token(&server).await;
    assert_eq!(give(&server, &token, &id, &json!({"planId": "starter"})).await.status, StatusCode::NO_CONTENT);
    let customer = client(&server, &id).await.customer_id.unwrap();
    hint(&server, "evt_1", "invoice.payment_failed", &customer).await;
    let row = client(&server, &id).await;
    assert_eq!((row.life.state, row.life.next(), row.plan.as_str()), (State::Active, None, "starter"), "for ever");
    assert!(matches!(
        server.world.store.till_event("evt_1").await.unwrap().unwrap().state,
        TillEventState::Handled | TillEventState::Ignored
    ));
    assert_eq!(give(&server, &token, &id, &json!({"planId": "enterprise"})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(client(&server, &id).await.plan, "enterprise");

    pay(&server, &owner(&server).await, ["business", "month"], "4242424242424242").await;
    till_events::sync_client(&server.world, &client(&server, &id).await).await.unwrap();
    let row = client(&server, &id).await;
    assert_eq!((row.life.pays(), row.life.given, row.plan.as_str()), (true, None, "business"));
    assert!(revenue(&server, &id).await > Cents(0));
    let refused = give(&server, &token, &id, &json!({"planId": "starter"})).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
    for (wrong, field) in [
        (json!({"planId": "none"}), "planId"),
        (json!({"planId": "starter", "until": "2001-01-01T00:00:00Z"}), "until"),
        (json!({"planId": "starter", "until": "tomorrow"}), "until"),
    ] {
        let answer = give(&server, &token, &id, &wrong).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn a_plan_is_given_to_nobody_whose_subscription_runs() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    pay(&server, made["token"].as_str().unwrap(), ["business", "month"], "4242424242424242").await;
    let id = made["clientId"].as_str().unwrap().to_owned();
    let olga = operator(&server).await;
    let token = operators_token(&server).await;
    let starter = json!({"planId": "starter"});
    let give = async || give(&server, &token, &id, &starter).await;
    let running = give().await;
    assert_eq!(running.status, StatusCode::CONFLICT, "paid, and not yet told: {}", running.text);
    assert!(running.text.contains("still runs"), "{}", running.text);

    till_events::sync_client(&server.world, &client(&server, &id).await).await.unwrap();
    let suspended = server.post(&format!("/api/operator/clients/{id}/suspend"), &token, &json!({})).await;
    assert_eq!(suspended.status, StatusCode::ACCEPTED, "{}", suspended.text);
    assert_eq!(give().await.status, StatusCode::CONFLICT);
    assert_eq!(client(&server, &id).await.life.state, State::Suspended);
    let page = olga.get(&format!("/console/clients/{id}")).await;
    assert!(page.text.contains("the till charges them again on"), "{}", page.text);

    let subscription = client(&server, &id).await.subscription_id.unwrap();
    server.world.till.end_subscription(&subscription).await.unwrap();
    assert_eq!(give().await.status, StatusCode::NO_CONTENT);
    till_events::sync_client(&server.world, &client(&server, &id).await).await.unwrap();
    let row = client(&server, &id).await;
    assert_eq!((row.life.state, row.life.pays(), row.plan.as_str()), (State::Active, false, "starter"));
}

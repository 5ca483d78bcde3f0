//! What the till tells: often, late, out of order, forged. One effect, or a clear refusal.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde_json::Value;
use stackpro_domain::Time;
use stackpro_server::secrets::Secrets;
use stackpro_server::till::signature::sign;
use stackpro_testkit::{Builder, Fault, FaultProxy, Person, TestApp, eventually, free_address};

use crate::api::expect_problem;
use crate::product;

const KEY: [u8; 32] = [7; 32];
const GOOD_CARD: &str = "4242 4242 4242 4242";
const WITHIN: Duration = Duration::from_secs(30);

fn secrets() -> Secrets {
    Secrets::new(KEY)
}

fn known_keys() -> Builder {
    product().env("STACKPRO_SECRET_KEY", "07".repeat(32))
}

/// A product whose webhooks come through a proxy, so that they can be kept from it.
async fn behind_a_proxy() -> (TestApp, FaultProxy) {
    let listen = free_address();
    let proxy = FaultProxy::to(listen).await.unwrap();
    let public = format!("http://{}", proxy.address);
    let builder = known_keys().listen(&listen.to_string()).env("STACKPRO_PUBLIC_URL", public);
    (builder.env("STACKPRO_STRIPE_LISTEN", "127.0.0.1:0").start().await, proxy)
}

/// All that the till has to tell, oldest first.
async fn events(app: &TestApp) -> Vec<Value> {
    let url = format!("{}/v1/events?limit=100", app.info().stripe_url.as_deref().unwrap());
    let answer = app.http().get(url).bearer_auth(secrets().till_api_key()).send().await.unwrap();
    let mut events = answer.json::<Value>().await.unwrap()["data"].as_array().unwrap().clone();
    events.reverse();
    events
}

/// Seconds since the epoch by the machine's clock, which the till's signatures go by.
fn now() -> Time {
    let output = std::process::Command::new("date").arg("+%s").output().unwrap();
    let seconds: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    Time(seconds * 1_000)
}

async fn tell(app: &TestApp, event: &Value) -> Response {
    let body = event.to_string();
    let signature = sign(body.as_bytes(), &secrets().till_webhook_secret(), now());
    deliver(app, body, Some(signature)).await.unwrap()
}

async fn deliver(app: &TestApp, body: String, signature: Option<String>) -> reqwest::Result<Response> {
    let mut request = app.http().post(app.url("/api/stripe-webhook")).header("content-type", "application/json");
    if let Some(signature) = signature {
        request = request.header("stripe-signature", signature);
    }
    request.body(body).send().await
}

/// How many flows of this kind this client ever had.
fn flows(app: &TestApp, person: &Person, kind: &str) -> usize {
    let flows = app.command_json(&["flows", "list", "--json"]);
    flows.as_array().unwrap().iter().filter(|f| f["kind"] == kind && f["subject"] == person.client.as_str()).count()
}

async fn active(app: &TestApp, person: &Person) {
    eventually("the payment is in effect", WITHIN, async || {
        (app.trial(person).await["accountStatus"] == "active").then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_effect_however_often_it_is_told() {
    let app = known_keys().start().await;
    let person = app.ready_client("Acme Law").await;
    app.pay(&person, "starter").await;
    app.wait_for(&person, "ready", "dedicated").await;
    let events = events(&app).await;
    assert!(events.len() >= 2, "{events:#?}");
    for event in events.iter().rev() {
        for _ in 0..10 {
            assert!(tell(&app, event).await.status().is_success());
        }
    }
    assert_eq!(app.trial(&person).await["accountStatus"], "active");
    assert_eq!(flows(&app, &person, "migrate"), 1);
}

#[tokio::test]
async fn what_is_told_backwards_has_the_same_effect() {
    let (app, proxy) = behind_a_proxy().await;
    let person = app.ready_client("Acme Law").await;
    proxy.set(Fault::CutBefore);
    assert!(app.pay_with(&person, "starter", GOOD_CARD).await.status().is_redirection());
    let events = events(&app).await;
    for event in events.iter().rev() {
        assert!(tell(&app, event).await.status().is_success(), "{event:#}");
    }
    active(&app, &person).await;
    app.wait_for(&person, "ready", "dedicated").await;
    assert_eq!(flows(&app, &person, "migrate"), 1);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let (mut app, proxy) = behind_a_proxy().await;
    let person = app.ready_client("Acme Law").await;
    proxy.set(Fault::CutBefore);
    assert!(app.pay_with(&person, "starter", GOOD_CARD).await.status().is_redirection());
    for event in events(&app).await {
        assert!(tell(&app, &event).await.status().is_success());
    }
    app.kill9();
    app.restart().await;
    active(&app, &person).await;
    app.wait_for(&person, "ready", "dedicated").await;
    assert_eq!(flows(&app, &person, "migrate"), 1);
}

#[tokio::test]
async fn a_lost_answer_is_told_again_and_has_one_effect() {
    let (app, proxy) = behind_a_proxy().await;
    let person = app.ready_client("Acme Law").await;
    proxy.set(Fault::CutAnswer);
    assert!(app.pay_with(&person, "starter", GOOD_CARD).await.status().is_redirection());
    active(&app, &person).await;
    proxy.set(Fault::None);
    app.wait_for(&person, "ready", "dedicated").await;
    assert_eq!(flows(&app, &person, "migrate"), 1);
}

#[tokio::test]
async fn what_is_not_the_tills_own_word_is_refused() {
    let (app, proxy) = behind_a_proxy().await;
    let person = app.ready_client("Acme Law").await;
    proxy.set(Fault::CutBefore);
    assert!(app.pay_with(&person, "starter", GOOD_CARD).await.status().is_redirection());
    let secret = secrets().till_webhook_secret();
    for event in events(&app).await {
        let body = event.to_string();
        let bytes = body.as_bytes();
        let right = sign(bytes, &secret, now());
        let changed = body.replacen('1', "2", 1);
        let refused = [
            ("no signature", body.clone(), None),
            ("an empty signature", body.clone(), Some(String::new())),
            ("another secret", body.clone(), Some(sign(bytes, "whsec_other", now()))),
            ("301 seconds old", body.clone(), Some(sign(bytes, &secret, now().plus(-301_000)))),
            ("from the future", body.clone(), Some(sign(bytes, &secret, now().plus(310_000)))),
            ("one byte changed", changed, Some(right.clone())),
            ("one byte more", format!("{body} "), Some(right.clone())),
            ("the old scheme alone", body.clone(), Some(right.replace("v1=", "v0="))),
            ("signed nothing", "not json".into(), Some(right)),
        ];
        for (what, body, signature) in refused {
            let answer = deliver(&app, body, signature).await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{what}");
            expect_problem(answer, what).await;
        }
    }
    // Well signed, and of no sense: refused or noted, never a 5xx.
    for body in ["{}", "[]", "null", r#"{"id":7}"#, r#"{"id":"evt_x","type":"invoice.paid","data":{"object":{}}}"#] {
        let answer = deliver(&app, body.into(), Some(sign(body.as_bytes(), &secret, now()))).await.unwrap();
        assert!(!answer.status().is_server_error(), "{body}: {}", answer.status());
    }
    assert_eq!(app.trial(&person).await["accountStatus"], "trial", "nothing of it had an effect");
    assert_eq!(flows(&app, &person, "migrate"), 0);
}

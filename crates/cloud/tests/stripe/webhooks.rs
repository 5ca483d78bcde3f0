//! Webhooks: signed, tried again, remembered over a restart, and badly delivered on request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use stackpro_cloud::local::stripe::{Stripe, WebhookEndpoint, WebhookFaults};
use tempfile::tempdir;
use tower::ServiceExt;

use super::support::{Hand, KEY, Receiver, SECRET, Till, settings, text, until};

fn is_signed(body: &[u8], signature: &str, at: i64) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{at}.").as_bytes());
    mac.update(body);
    let hex = mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    signature == format!("t={at},v1={hex}")
}

#[tokio::test]
async fn a_receiver_that_fails_first_gets_it_later_and_the_api_does_not_wait() {
    let dir = tempdir().unwrap();
    let (receiver, url) = Receiver::start(1).await;
    let endpoint = WebhookEndpoint { url, secret: SECRET.to_owned() };
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::with(dir.path(), clock, |settings| settings.webhook_endpoints = vec![endpoint]).await;
    let customer = till.post("customers", &[("email", "a@example.com")]).await;
    let event = till.list("events").await.remove(0);
    assert_eq!((text(&event, "type"), event["pending_webhooks"].as_i64()), ("customer.created", Some(1)));
    assert_eq!(event["data"]["object"], customer);
    until("the second try", || !receiver.types().is_empty()).await;
    assert_eq!(receiver.tries.load(Ordering::SeqCst), 2);
    let (body, signature) = receiver.received.lock().unwrap()[0].clone();
    assert!(is_signed(&body, &signature, 1_795_514_400), "{signature}");
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), event);
    for _ in 0..500 {
        let event = till.get(&format!("events/{}", text(&event, "id"))).await;
        if event["pending_webhooks"] == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the delivery was never noted");
}

#[tokio::test]
async fn what_was_not_delivered_before_a_restart_is_afterwards() {
    let dir = tempdir().unwrap();
    let (receiver, url) = Receiver::start(0).await;
    let clock = Hand::at("2026-11-24T10:00:00Z");
    {
        // Answers, and never delivers: it dies first.
        let stripe =
            Stripe::open(dir.path(), settings("http://127.0.0.1:1", Some(url.clone())), clock.clone()).unwrap();
        let request = axum::http::Request::post("/v1/customers").header("authorization", format!("Bearer {KEY}"));
        let answer = stripe.router().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert!(receiver.types().is_empty());
    let endpoint = WebhookEndpoint { url, secret: SECRET.to_owned() };
    let _till = Till::with(dir.path(), clock, |settings| settings.webhook_endpoints = vec![endpoint]).await;
    until("the delivery", || receiver.types() == ["customer.created"]).await;
}

#[tokio::test]
async fn events_come_several_times_late_and_out_of_order_on_request() {
    let dir = tempdir().unwrap();
    let (receiver, url) = Receiver::start(0).await;
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let delay = Duration::from_millis(300);
    let till = Till::with(dir.path(), clock, |settings| {
        settings.webhook_endpoints = vec![WebhookEndpoint { url, secret: SECRET.to_owned() }];
        settings.faults = WebhookFaults { copies: 3, shuffle: true, delay };
    });
    let till = till.await;
    let begun = std::time::Instant::now();
    till.subscribe().await;
    let events = till.events_after(0).await;
    until("all copies", || receiver.types().len() == 3 * events.len()).await;
    assert!(begun.elapsed() >= delay);
    let mut received = receiver.types();
    received.sort();
    let mut wanted = [events.clone(), events.clone(), events].concat();
    wanted.sort();
    assert_eq!(received, wanted);
}

#[tokio::test]
async fn an_endpoint_gets_what_it_asked_for_and_nothing_when_it_is_gone() {
    let dir = tempdir().unwrap();
    let (receiver, url) = Receiver::start(0).await;
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let form = [("url", url.as_str()), ("enabled_events[0]", "customer.updated")];
    let endpoint = till.post("webhook_endpoints", &form).await;
    assert!(text(&endpoint, "secret").starts_with("whsec_"));
    let path = format!("webhook_endpoints/{}", text(&endpoint, "id"));
    assert_eq!(till.get(&path).await["secret"], Value::Null, "shown once");
    let customer = till.post("customers", &[("name", "a")]).await;
    let customer = format!("customers/{}", text(&customer, "id"));
    till.post(&customer, &[("name", "b")]).await;
    until("the delivery", || receiver.types().len() == 1).await;
    let event: Value = serde_json::from_slice(&receiver.received.lock().unwrap()[0].0).unwrap();
    assert_eq!(event["data"]["previous_attributes"], serde_json::json!({"name": "a"}));
    till.request("DELETE", &path).send().await.unwrap();
    till.post(&customer, &[("name", "c")]).await;
    assert_eq!(till.list("events").await[0]["pending_webhooks"], 0);
}

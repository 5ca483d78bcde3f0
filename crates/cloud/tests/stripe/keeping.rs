//! Idempotency, crashes, and who is let in.

use std::fs;
use std::path::Path;

use serde_json::Value;
use stackpro_cloud::local::stripe::{OpenError, Stripe};
use tempfile::tempdir;

use super::support::{DAY, Hand, KEY, Till, answer, id, settings, text};

#[tokio::test]
async fn the_same_key_happens_once_for_a_day_and_over_a_restart() {
    let (dir, copy) = (tempdir().unwrap(), tempdir().unwrap());
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let create = |till: &Till, email: &'static str| {
        till.request("POST", "customers").header("idempotency-key", "k1").form(&[("email", email)])
    };
    let first = create(&till, "a@example.com").send().await.unwrap();
    assert!(first.headers().get("idempotent-replayed").is_none());
    assert!(first.headers()["request-id"].to_str().unwrap().starts_with("req_"));
    let first: Value = first.json().await.unwrap();
    let again = create(&till, "a@example.com").send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), first);
    let (status, other) = answer(create(&till, "b@example.com")).await;
    assert_eq!((status, text(&other["error"], "type")), (400, "idempotency_error"));

    crash_image(dir.path(), copy.path());
    let reborn = Till::open(copy.path(), clock.clone()).await;
    assert_eq!(answer(create(&reborn, "a@example.com")).await, (200, first.clone()));
    assert_eq!(reborn.list("customers").await.len(), 1);

    clock.advance(DAY + 1_000);
    let (status, later) = answer(create(&till, "b@example.com")).await;
    assert_eq!(status, 200);
    assert_ne!(later["id"], first["id"]);
}

#[tokio::test]
async fn a_refused_parameter_does_not_use_the_key_up() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let with_key =
        |form: &'static [(&str, &str)]| till.request("POST", "customers").header("idempotency-key", "k2").form(form);
    let (status, refused) = answer(with_key(&[("email", "a@example.com"), ("colour", "red")])).await;
    assert_eq!((status, text(&refused["error"], "code")), (400, "parameter_unknown"));
    assert_eq!(text(&refused["error"], "param"), "colour");
    assert_eq!(answer(with_key(&[("email", "a@example.com")])).await.0, 200);
    assert_eq!(till.list("customers").await.len(), 1, "nothing was left of the refused one");
}

/// What a killed process leaves: the files as they are at this instant.
fn crash_image(from: &Path, to: &Path) {
    for name in ["snapshot.jsonl", "journal.jsonl"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_that_was_answered() {
    let (dir, copy) = (tempdir().unwrap(), tempdir().unwrap());
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let subscription = till.subscribe().await;
    let writers = futures::future::join_all((0..8).map(|_| async {
        let mut answered = Vec::new();
        for _ in 0..5 {
            answered.push(id(&till.post("customers", &[("name", "x")]).await));
        }
        answered
    }));
    let answered = writers.await.concat();
    // Still writing while it dies.
    let (_, ()) = tokio::join!(till.post("customers", &[("name", "late")]), async {
        crash_image(dir.path(), copy.path());
    });
    let reborn = Till::open(copy.path(), clock).await;
    let customers: Vec<String> = reborn.list("customers").await.iter().map(id).collect();
    assert!(answered.iter().all(|id| customers.contains(id)));
    let same = reborn.get(&format!("subscriptions/{}", text(&subscription, "id"))).await;
    assert_eq!(same, subscription);
}

#[tokio::test]
async fn a_torn_line_is_dropped_wherever_it_is_torn() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let kept = id(&till.post("customers", &[("name", "kept")]).await);
    let whole = fs::metadata(dir.path().join("journal.jsonl")).unwrap().len() as usize;
    till.post("customers", &[("name", "torn")]).await;
    let journal = fs::read(dir.path().join("journal.jsonl")).unwrap();
    for cut in [whole + 1, whole + 100, journal.len() - 2, journal.len() - 1] {
        let copy = tempdir().unwrap();
        fs::write(copy.path().join("journal.jsonl"), &journal[..cut]).unwrap();
        // What is written after the tear must be read by the life after that.
        let second = {
            let reborn = Till::open(copy.path(), clock.clone()).await;
            id(&reborn.post("customers", &[("name", "second")]).await)
        };
        let third_dir = tempdir().unwrap();
        crash_image(copy.path(), third_dir.path());
        let third = Till::open(third_dir.path(), clock.clone()).await;
        let customers: Vec<String> = third.list("customers").await.iter().map(id).collect();
        assert_eq!(customers, [second, kept.clone()], "cut at {cut}");
    }
}

#[tokio::test]
async fn damage_in_the_middle_and_a_second_process_are_refused() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let open = |dir: &Path| Stripe::open(dir, settings("http://127.0.0.1:1", None), clock.clone());
    let first = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Locked(_))));
    drop(first);
    drop(open(dir.path()).unwrap());
    fs::write(dir.path().join("journal.jsonl"), "{\"put\":[]}\nnonsense\n{\"put\":[]}\n").unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt { line: 2, .. })));
}

#[tokio::test]
async fn only_the_key_opens_the_api() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let balance = || till.client.get(format!("{}/v1/balance", till.base));
    assert_eq!(answer(balance()).await.0, 401);
    assert_eq!(answer(balance().bearer_auth("sk_test_other")).await.0, 401);
    assert_eq!(answer(balance().basic_auth("", Some(KEY))).await.0, 401);
    assert_eq!(answer(balance().bearer_auth(KEY)).await.0, 200);
    assert_eq!(answer(balance().basic_auth(KEY, Some(""))).await.0, 200);
    let version = balance().bearer_auth(KEY).header("stripe-version", "2024-06-20").send().await.unwrap();
    assert_eq!(version.headers()["stripe-version"], "2024-06-20");
    let (status, missing) = answer(till.request("GET", "customers/cus_none")).await;
    assert_eq!((status, text(&missing["error"], "code")), (404, "resource_missing"));
    assert_eq!(answer(till.request("GET", "nothing/here")).await.0, 404);
}

#[tokio::test]
async fn lists_page_in_both_directions() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(0, id(&till.post("customers", &[]).await));
    }
    let ids = async |path: String| {
        let list = till.get(&path).await;
        let ids: Vec<String> = list["data"].as_array().unwrap().iter().map(id).collect();
        (ids, list["has_more"].as_bool().unwrap())
    };
    assert_eq!(ids("customers?limit=2".into()).await, (made[..2].to_vec(), true));
    assert_eq!(ids(format!("customers?limit=3&starting_after={}", made[1])).await, (made[2..].to_vec(), false));
    assert_eq!(ids(format!("customers?limit=2&ending_before={}", made[3])).await, (made[1..3].to_vec(), true));
    assert_eq!(ids("customers?created[gt]=1795514400".into()).await, (vec![], false));
    assert_eq!(answer(till.request("GET", "customers?limit=101")).await.0, 400);
}

//! The same product on PostgreSQL, and two nodes that share it.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use stackpro_testkit::{Person, eventually, postgres};

use crate::product;
use crate::travel::travel;

#[tokio::test]
async fn the_whole_journey_on_postgresql() {
    let app = product().database(&postgres::database().await).start().await;
    travel(&app).await;
}

#[tokio::test]
async fn two_nodes_share_one_database() {
    let url = postgres::database().await;
    let first = product().database(&url).env("STACKPRO_SECRET_KEY", "07".repeat(32)).start().await;
    // One machine, one local cloud: the second node has the same data folder, and leaves the till to the first.
    let till = first.info().stripe_url.clone().unwrap();
    let second = product()
        .database(&url)
        .env("STACKPRO_SECRET_KEY", "07".repeat(32))
        .env("STRIPE_API_BASE", till)
        .start_beside(&first)
        .await;
    // Whoever signs up at one node is known at the other, and whichever node is free does the work.
    let mut people = Vec::new();
    for number in 0..6 {
        let node = if number % 2 == 0 { &first } else { &second };
        people.push(node.sign_up(&format!("Company {number}")).await);
    }
    for person in &people {
        first.wait_for(person, "ready", "shared").await;
        second.wait_for(person, "ready", "shared").await;
    }
    each_once(&first.command_json(&["clients", "list", "--json"]), &people);
    // One node dies in the middle of its work: the other takes it over.
    let orphan = first.sign_up("Orphan Ltd").await;
    let mut first = first;
    first.kill9();
    eventually("the other node takes over", Duration::from_mins(1), async || {
        (second.deployment(&orphan).await["status"] == "ready").then_some(())
    })
    .await;
    let answer = second.get("/ready").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // The first cleans up what both used.
    drop(second);
}

fn each_once(clients: &Value, people: &[Person]) {
    for person in people {
        let count = clients.as_array().unwrap().iter().filter(|c| c["id"] == person.client.as_str()).count();
        assert_eq!(count, 1, "{}", person.client);
    }
}

//! Names that others have.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use stackpro_testkit::Person;

use crate::product;
use crate::travel::{gone, healthy};

#[tokio::test]
async fn a_buckets_name_that_somebody_has_gives_way_to_the_next() {
    let mut app = product().crash_at("provision/bucket/before").start().await;
    // It may die before it answers, and has signed them up by then.
    let form = Person::form("Acme Law");
    app.post("/api/auth/signup", &form).send().await.ok();
    app.wait_exit(Duration::from_secs(30)).await;
    let listed = app.command_json(&["clients", "list", "--json"]);
    let [client, email] = [&listed[0]["id"], &form["email"]].map(|text| text.as_str().unwrap().to_owned());
    let mut person = Person { client, email, token: String::new(), dashboard_url: String::new() };
    let name = format!("stackpro-{}", person.client);
    let buckets = app.data().join("cloud/buckets");
    let theirs = buckets.join(&name);
    fs::create_dir_all(theirs.join("objects")).unwrap();
    fs::write(theirs.join("bucket.json"), r#"{"tags": {"resource_id": "theirs", "client_id": null}}"#).unwrap();
    app.set_env("STACKPRO_CRASH_AT", None);
    app.restart().await;
    person.token = app.log_in(&person.email).await;
    app.wait_for(&person, "ready", "shared").await;

    let ours = fs::read(buckets.join(format!("{name}-2/bucket.json"))).unwrap();
    let ours: Value = serde_json::from_slice(&ours).unwrap();
    assert_eq!(ours["tags"]["client_id"], person.client.as_str());
    let shown = app.command_json(&["clients", "show", &person.client, "--json"]);
    let resources = shown["resources"].as_array().unwrap();
    let bucket = resources.iter().find(|resource| resource["kind"] == "bucket").unwrap();
    assert_eq!((&bucket["name"], &bucket["state"]), (&format!("{name}-2").into(), &"created".into()));

    let said = app.command(&["clients", "delete", &person.client, "--yes"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    gone(&app, &person.client).await;
    assert!(!buckets.join(format!("{name}-2")).exists());
    assert!(theirs.join("bucket.json").exists(), "what is not ours stays");
    fs::remove_dir_all(&theirs).unwrap();
    healthy(&app).await;
}

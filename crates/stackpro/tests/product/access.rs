//! What instances may use: the buckets of the clients on them, and no others, from the first to the last day.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;
use stackpro_testkit::{TestApp, eventually};

use crate::product;
use crate::travel::gone;

/// The buckets that each role of the local cloud may use.
fn roles(app: &TestApp) -> BTreeMap<String, Vec<String>> {
    let mut roles = BTreeMap::new();
    for entry in fs::read_dir(app.data().join("cloud/roles")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // Gone since, or being written.
        let Ok(text) = fs::read(entry.path()) else { continue };
        if let Some(name) = name.strip_suffix(".json")
            && !name.starts_with('.')
        {
            let file: Value = serde_json::from_slice(&text).unwrap();
            let names = file["buckets"].as_array().unwrap().iter();
            roles.insert(name.to_owned(), names.map(|bucket| bucket.as_str().unwrap().to_owned()).collect());
        }
    }
    roles
}

/// The roles that may use a client's bucket.
pub(crate) fn roles_of(app: &TestApp, client: &str) -> Vec<String> {
    let bucket = format!("stackpro-{client}");
    roles(app).into_iter().filter(|(_, buckets)| buckets.contains(&bucket)).map(|(role, _)| role).collect()
}

#[tokio::test]
async fn an_instance_may_use_the_buckets_of_its_clients_and_no_others() {
    let app = product().start().await;
    let (one, two) = tokio::join!(app.ready_client("One"), app.ready_client("Two"));
    let shared = roles_of(&app, &one.client);
    assert_eq!(shared.len(), 1, "{:?}", roles(&app));
    assert_eq!(roles_of(&app, &two.client), shared);

    app.pay(&one, "starter").await;
    app.wait_for(&one, "ready", "dedicated").await;
    let own = eventually("the old instance may not use the bucket any more", Duration::from_secs(30), async || {
        let may = roles_of(&app, &one.client);
        (may.len() == 1 && may != shared).then_some(may)
    })
    .await;
    assert_eq!(roles_of(&app, &two.client), shared);
    assert_eq!(roles(&app)[&own[0]], [format!("stackpro-{}", one.client)]);

    for person in [&one, &two] {
        assert!(app.command(&["clients", "delete", &person.client, "--yes"]).status.success());
        gone(&app, &person.client).await;
        assert!(roles_of(&app, &person.client).is_empty());
    }
    assert!(!roles(&app).contains_key(&own[0]), "it went with its instance");
}

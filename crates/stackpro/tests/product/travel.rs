//! The main job, end to end: from a sign-up to an instance of one's own, and to the receipts of a deletion. The
//! same on any cloud, any database and any number of nodes.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use stackpro_testkit::{PASSWORD, Person, Portal, TestApp, eventually};

pub(crate) async fn travel(app: &TestApp) {
    let person = app.sign_up("Acme Law & Söhne").await;
    let ready = app.wait_for(&person, "ready", "shared").await;
    let site = ready["url"].as_str().unwrap().to_owned();
    let welcome = app.at_host(Method::GET, &site, "/").send().await.unwrap();
    assert_eq!(welcome.status(), StatusCode::OK);
    let page = welcome.text().await.unwrap();
    assert!(page.contains("Acme Law &amp; Söhne") || page.contains("Acme Law &#38; Söhne"), "{page}");
    let portal = store_files(app, &person, &site).await;
    let moved = never_silent(app, &site, async {
        declined_then_paid(app, &person).await;
        let moved = app.wait_for(&person, "ready", "dedicated").await;
        // Where it was is released.
        app.at_rest().await;
        moved
    });
    let moved = moved.await;
    assert_eq!(moved["url"], ready["url"], "the address stays");
    let certificate = &moved["certificate"];
    assert_eq!(certificate["sourceHash"], certificate["copyHash"], "{moved}");
    assert!(certificate["files"].as_u64().unwrap() >= 3, "{certificate}");
    files_are_there(app, &site, &portal).await;
    delete_with_receipts(app, &person, &site).await;
}

/// Paths as they stand in an address.
const FILES: [(&str, &[u8]); 3] = [
    ("files/contract.txt", b"We agree."),
    ("files/M%C3%BCller%20%26%20S%C3%B6hne.txt", b"Their letter."),
    ("site/index.html", b"<!doctype html><title>Acme</title><h1>Acme Law</h1>"),
];

async fn store_files(app: &TestApp, person: &Person, site: &str) -> Portal {
    let browser = app.browser();
    browser.log_in(&person.email, PASSWORD).await;
    let portal = browser.portal(&person.client).await;
    for (path, body) in FILES {
        let status = app.put_file(site, &portal, path, body.to_vec()).await;
        assert!(status.is_success(), "{path}: {status}");
    }
    let wrong = Portal { password: "wrong".into(), ..portal.clone() };
    assert_eq!(app.put_file(site, &wrong, "files/x", Vec::new()).await, StatusCode::UNAUTHORIZED);
    files_are_there(app, site, &portal).await;
    portal
}

async fn files_are_there(app: &TestApp, site: &str, portal: &Portal) {
    for (path, body) in FILES {
        let (status, found) = app.get_file(site, portal, path).await;
        assert_eq!((status, found.as_slice()), (StatusCode::OK, body), "{path}");
    }
    let page = app.at_host(Method::GET, site, "/").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("<h1>Acme Law</h1>"), "the uploaded page is the site: {page}");
}

/// Visits the site until that is over, on connections that are kept as browsers keep theirs.
async fn never_silent<T>(app: &TestApp, site: &str, until: impl Future<Output = T>) -> T {
    let visit = async || {
        let answer = app.at_host(Method::GET, site, "/").send().await.expect("an answer");
        let (status, page) = (answer.status(), answer.text().await.expect("all of it"));
        assert!(status.is_success() && page.contains("<h1>Acme Law</h1>"), "{status}: {page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    tokio::pin!(until);
    let over = loop {
        tokio::select! {
            over = &mut until => break over,
            () = visit() => {}
        }
    };
    visit().await;
    over
}

async fn declined_then_paid(app: &TestApp, person: &Person) {
    let answer = app.pay_with(person, "starter", "4000 0000 0000 0002").await;
    assert!(!answer.status().is_redirection(), "a declined card leads nowhere");
    let page = answer.text().await.unwrap();
    assert!(page.to_lowercase().contains("declined"), "the reason is shown: {page}");
    assert_eq!(app.trial(person).await["accountStatus"], "trial");
    app.pay(person, "starter").await;
}

async fn delete_with_receipts(app: &TestApp, person: &Person, site: &str) {
    let said = app.command(&["clients", "delete", &person.client, "--yes"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let client = gone(app, &person.client).await;
    let kinds: Vec<&str> = client["resources"].as_array().unwrap().iter().filter_map(|r| r["kind"].as_str()).collect();
    for kind in ["bucket", "record", "instance"] {
        assert!(kinds.iter().any(|k| k.to_lowercase().contains(kind)), "a receipt for the {kind}: {kinds:?}");
    }
    match app.at_host(Method::GET, site, "/").send().await {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::NOT_FOUND, "nothing answers there any more"),
        // The world's DNS knows the name no more.
        Err(error) => assert!(error.is_connect(), "{error}"),
    }
    healthy(app).await;
}

/// Waits until nothing of a client's exists, and returns what is known of it.
pub(crate) async fn gone(app: &TestApp, client: &str) -> Value {
    eventually("everything of the client's is deleted", Duration::from_mins(3), async || {
        let shown = app.command_json(&["clients", "show", client, "--json"]);
        let deleted = |r: &Value| r["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("deleted"));
        let over = shown["stack"].as_str().is_some_and(|stack| stack.eq_ignore_ascii_case("deleted"));
        (over && shown["resources"].as_array().unwrap().iter().all(deleted)).then_some(shown)
    })
    .await
}

/// Nothing needs attention, and the ledger and the cloud agree.
pub(crate) async fn healthy(app: &TestApp) {
    eventually("the doctor is content", Duration::from_mins(1), async || {
        let output = app.command(&["doctor", "--json"]);
        let checks: Value = serde_json::from_slice(&output.stdout).ok()?;
        // What the till says depends on whether it still runs where this node was told.
        let ill = checks.as_array()?.iter().find(|c| c["ok"] == false && c["check"] != "till").cloned();
        ill.is_none().then_some(())
    })
    .await;
}

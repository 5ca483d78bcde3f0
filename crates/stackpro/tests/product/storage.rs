//! A client's own way to their bucket: their files, nobody else's, and not for ever.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use stackpro_testkit::{Person, TestApp};

use crate::product;

async fn ask(app: &TestApp, person: &Person, client: &str, what: &str, body: &Value) -> Response {
    let path = format!("/api/clients/{client}/storage/{what}");
    app.post(&path, body).bearer_auth(&person.token).send().await.unwrap()
}

async fn link(app: &TestApp, person: &Person, what: &str, body: &Value) -> Value {
    let answer = ask(app, person, &person.client, what, body).await;
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

/// As whoever has the link does it. Its name leads to the local cloud's door.
async fn follow(app: &TestApp, link: &Value, body: &'static str) -> (StatusCode, String) {
    let (host, path) = link["url"].as_str().unwrap().split_once("://").unwrap().1.split_once('/').unwrap();
    let method: Method = link["method"].as_str().unwrap().parse().unwrap();
    let mut request = app.request(method, &format!("/{path}")).header("host", host);
    for header in link["headers"].as_array().unwrap() {
        request = request.header(header["name"].as_str().unwrap(), header["value"].as_str().unwrap());
    }
    let answer = request.body(body).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_client_reads_and_writes_their_own_files_by_links_that_end() {
    let app = product().start().await;
    let (one, two) = tokio::join!(app.ready_client("One"), app.ready_client("Two"));
    let file = json!({ "key": "files/hello.txt", "contentType": "text/plain", "contentLength": 5 });
    let (up, down) = (link(&app, &one, "uploads", &file).await, link(&app, &one, "downloads", &file).await);
    assert_eq!(follow(&app, &down, "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(follow(&app, &up, "hello").await.0, StatusCode::OK);
    assert_eq!(follow(&app, &down, "").await, (StatusCode::OK, "hello".into()));

    // The same key is another's own.
    let theirs = link(&app, &two, "downloads", &file).await;
    assert_eq!(follow(&app, &theirs, "").await.0, StatusCode::NOT_FOUND);
    for what in ["uploads", "downloads", "credentials"] {
        assert_eq!(ask(&app, &two, &one.client, what, &file).await.status(), StatusCode::NOT_FOUND, "{what}");
    }
    for key in ["backups/a", "files/", "files/../backups/a", "/files/a", "files//a", "files/./a"] {
        let body = json!({ "key": key, "contentType": "text/plain", "contentLength": 5 });
        let answer = ask(&app, &one, &one.client, "uploads", &body).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{key}");
    }
    let answer = ask(&app, &one, &one.client, "credentials", &json!({})).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT, "the local cloud has links alone");

    assert!(app.command(&["clients", "suspend", &one.client]).status.success());
    app.wait_for(&one, "suspended", "shared").await;
    let answer = ask(&app, &one, &one.client, "downloads", &file).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT, "it is closed with the site");
}

//! What holds for every answer.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use serde_json::json;

use crate::common::Server;

#[tokio::test]
async fn every_answer_has_an_id_and_is_safe() {
    let server = Server::start().await;
    let requests = [
        (Method::GET, "/health", 200),
        (Method::GET, "/ready", 200),
        (Method::GET, "/api/openapi.json", 200),
        (Method::GET, "/api/nothing", 404),
        (Method::GET, "/nothing", 404),
        (Method::DELETE, "/api/auth/login", 405),
        (Method::POST, "/api/auth/login", 415),
        (Method::GET, "/api/dashboard/acme-7f3k", 401),
        (Method::GET, "/api/dashboard/%00", 401),
    ];
    for (method, path, status) in requests {
        let answer = server.send(Request::builder().method(&method).uri(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        for header in ["x-request-id", "content-security-policy", "x-content-type-options", "referrer-policy"] {
            assert!(answer.headers.contains_key(header), "{header} of {path}");
        }
        if status >= 400 {
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
            let problem = answer.json();
            assert_eq!(problem["status"], status);
            assert_eq!(problem["requestId"], answer.headers["x-request-id"].to_str().unwrap());
            assert!(!problem["detail"].as_str().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_others_are_not() {
    let server = Server::start().await;
    for (given, kept) in
        [("0190-abcd_EF.1", true), ("short", false), ("has a space in it", false), (&"x".repeat(65), false)]
    {
        let request = Request::builder().uri("/health").header("x-request-id", given).body(Body::empty()).unwrap();
        assert_eq!(server.send(request).await.headers["x-request-id"] == given, kept, "{given}");
    }
}

#[tokio::test]
async fn people_get_pages_and_programs_problems() {
    let server = Server::start().await;
    let get = |path: &str| Request::builder().uri(path).header("accept", "text/html,*/*").body(Body::empty()).unwrap();
    let page = server.send(get("/nothing-here")).await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.text.contains("There is nothing here"));
    let problem = server.send(get("/api/nothing-here")).await;
    assert_eq!(problem.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn only_listed_origins_may_read_the_api() {
    let server = Server::start().await;
    let ask = |origin: &str| {
        Request::builder()
            .method(Method::OPTIONS)
            .uri("/api/auth/login")
            .header("origin", origin)
            .body(Body::empty())
            .unwrap()
    };
    let ours = server.send(ask("https://site.example")).await;
    assert_eq!(ours.status, StatusCode::NO_CONTENT);
    assert_eq!(ours.headers["access-control-allow-origin"], "https://site.example");
    let other = server.send(ask("https://evil.example")).await;
    assert!(!other.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn readiness_tells_what_is_missing() {
    let server = Server::start().await;
    assert!(server.world.runner.set(Box::new(|| false)).is_ok());
    let answer = server.get("/ready", "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json(), json!({"ready": false, "database": true, "runner": false}));
    server.world.store.close().await;
    assert_eq!(server.get("/ready", "").await.json()["database"], false);
    assert_eq!(server.get("/health", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_without_detail() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    server.world.store.close().await;
    let path = format!("/api/deployment-status/{}", made["clientId"].as_str().unwrap());
    let answer = server.get(&path, made["token"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers.contains_key("retry-after"));
    assert!(!answer.text.contains("pool") && !answer.text.contains("sql"), "{}", answer.text);
}

//! Nobody sees what is not theirs: every documented route, asked with nobody's and with a stranger's token.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;

use crate::common::{Server, request};

/// What needs no token.
const OPEN: [&str; 7] = [
    "/api/auth/signup",
    "/api/auth/login",
    "/api/contact",
    "/api/stripe-webhook",
    "/api/mail-events",
    "/health",
    "/ready",
];

#[tokio::test]
async fn every_route_refuses_nobody_and_strangers() {
    let server = Server::start().await;
    let acme = server.sign_up("Acme Law").await;
    let stranger = server.sign_up("Other Law").await;
    let (id, token) = (acme["clientId"].as_str().unwrap(), stranger["token"].as_str().unwrap());
    let document = server.get("/api/openapi.json", "").await.json();
    let mut walked = 0;
    for (template, item) in document["paths"].as_object().unwrap() {
        if OPEN.contains(&template.as_str()) {
            continue;
        }
        let order = if template.contains("flows") { "retry" } else { "delete" };
        let path = template.replace("{client_id}", id).replace("{flow_id}", "f1").replace("{order}", order);
        for (method, _) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let ask = |token: &str| {
                let body = json!({"planId": "starter", "interval": "month"}).to_string();
                let request = request(method.clone(), &path, token).header("content-type", "application/json");
                request.body(Body::from(body)).unwrap()
            };
            for token in ["", "x.y.z"] {
                let answer = server.send(ask(token)).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} as nobody");
            }
            walked += 1;
            // What is about the caller themselves is theirs to do.
            if matches!(template.as_str(), "/api/auth/logout" | "/api/create-checkout-session") {
                continue;
            }
            let answer = server.send(ask(token)).await;
            let refused = matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN);
            assert!(refused, "{method} {path} as a stranger: {}", answer.status);
            assert!(!answer.text.contains("Acme"), "{path} tells of another client");
        }
    }
    assert!(walked >= 8, "{walked} routes were walked");
    let stream = format!("/api/clients/{id}/steps");
    let fresh = server.sign_up("Third Law").await;
    assert_eq!(server.get(&stream, "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.get(&stream, fresh["token"].as_str().unwrap()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.world.store.client(&id.parse().unwrap()).await.unwrap().unwrap().life.state.as_str(), "trial");
}

#[tokio::test]
async fn a_client_that_does_not_exist_looks_like_one_that_is_not_yours() {
    let server = Server::start().await;
    let acme = server.sign_up("Acme Law").await;
    let other = server.sign_up("Other Law").await;
    let token = other["token"].as_str().unwrap();
    let detail = async |id: &str| {
        let answer = server.get(&format!("/api/dashboard/{id}"), token).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        answer.json()["detail"].clone()
    };
    let theirs = detail(acme["clientId"].as_str().unwrap()).await;
    assert_eq!(theirs, detail("nobody-2222").await);
    assert_eq!(theirs, detail("..%2f..%2fetc").await);
}

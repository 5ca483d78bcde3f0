//! Bad input to every endpoint: a 4xx that names the field, nothing stored, never a 5xx.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use stackpro_server::world::{Rate, Rates};
use stackpro_store::ClientFilter;

use crate::common::{Server, request, signup};

fn bad_values() -> Vec<Value> {
    let markup = "<script>alert(1)</script>\u{0}";
    vec![
        json!(null),
        json!(""),
        json!("   "),
        json!(7),
        json!(-1.5e300),
        json!(true),
        json!([]),
        json!({"a": 1}),
        json!("x".repeat(50_000)),
        json!("a\u{0}b"),
        json!("\u{202e}\u{7}"),
        json!(markup),
        json!("line\nbreak\r\nBcc: a@b.c"),
    ]
}

async fn patient() -> Server {
    let many = Rate { limit: 1_000_000, window_ms: 60_000 };
    let rates = Rates {
        login_account: many,
        login_address: many,
        signup_address: many,
        signup_network: many,
        contact_address: many,
        messages_client: many,
        mail_member: many,
    };
    Server::with(|settings| settings.rates = rates).await
}

#[tokio::test]
async fn each_field_is_named_when_it_is_wrong() {
    let server = patient().await;
    let bodies = [
        ("/api/auth/signup", signup("Acme Law")),
        ("/api/auth/login", json!({"email": "a@b.example", "password": "something long"})),
        ("/api/contact", json!({"name": "Ann", "email": "a@b.example", "message": "Hello"})),
    ];
    for (path, good) in bodies {
        for field in good.as_object().unwrap().keys() {
            for bad in bad_values() {
                // A log-in's password may be any text, and a message may have lines.
                let lines = field == "message" && bad.as_str().is_some_and(|text| text.contains('\n'));
                if path.ends_with("login") && field == "password" && bad.is_string() || lines {
                    continue;
                }
                let mut body = good.clone();
                body[field] = bad.clone();
                let answer = server.post(path, "", &body).await;
                assert_eq!(
                    answer.status,
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "{path} {field} = {bad:.60}: {}",
                    answer.text
                );
                assert_eq!(answer.json()["errors"][0]["field"], *field, "{path} {field} = {bad:.60}");
            }
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(field);
            let answer = server.post(path, "", &body).await;
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert_eq!(answer.json()["errors"][0], json!({"field": field, "message": "is missing"}), "{path}");
        }
    }
    assert!(server.world.store.clients(&ClientFilter::default(), None, 1).await.unwrap().rows.is_empty());
    assert!(server.world.store.contacts(None, 1).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn what_is_no_json_object_is_refused_everywhere() {
    let server = patient().await;
    let acme = server.sign_up("Acme Law").await;
    let token = acme["token"].as_str().unwrap();
    let large = vec![b' '; 70_000];
    let bodies: [(&[u8], u16); 6] =
        [(b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"null", 400), (b"\"text\"", 400), (&large, 413)];
    for path in [
        "/api/auth/signup",
        "/api/auth/login",
        "/api/contact",
        "/api/create-checkout-session",
        "/api/agents/enrol",
        "/api/agents/report",
        "/api/agents/messages",
    ] {
        for (body, status) in bodies {
            if path.ends_with("report") && status == 413 {
                continue; // A report may be larger.
            }
            let request = request(Method::POST, path, token).header("content-type", "application/json");
            let answer = server.send(request.body(Body::from(body.to_vec())).unwrap()).await;
            assert_eq!(answer.status.as_u16(), status, "{path} {:?}: {}", &body[..body.len().min(9)], answer.text);
        }
    }
}

#[tokio::test]
async fn a_weak_password_is_refused_with_advice() {
    let server = patient().await;
    for password in ["short", "password123", "acmelawacmelaw", &"x".repeat(201)] {
        let mut body = signup("Acme Law");
        body["password"] = json!(password);
        let answer = server.post("/api/auth/signup", "", &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{password}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["field"], "password");
    }
}

#[tokio::test]
async fn an_unknown_plan_or_interval_is_named_at_the_checkout() {
    let server = patient().await;
    let acme = server.sign_up("Acme Law").await;
    let body = json!({"planId": "gold", "interval": "week"});
    let answer = server.post("/api/create-checkout-session", acme["token"].as_str().unwrap(), &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let fields: Vec<_> = answer.json()["errors"].as_array().unwrap().iter().map(|e| e["field"].clone()).collect();
    assert_eq!(fields, ["planId", "interval"]);
}

#[tokio::test]
async fn names_in_any_script_are_kept_as_they_are() {
    let server = patient().await;
    let mut body = signup("Acme Law");
    body["company"] = json!("  株式会社 <b>&\"Söhne\"</b> 🚀 ");
    let answer = server.post("/api/auth/signup", "", &body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let made = answer.json();
    let path = format!("/api/dashboard/{}", made["clientId"].as_str().unwrap());
    let company = server.get(&path, made["token"].as_str().unwrap()).await.json()["client"]["company"].clone();
    assert_eq!(company, "株式会社 <b>&\"Söhne\"</b> 🚀");
}

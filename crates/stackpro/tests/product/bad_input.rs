//! Bad input, to every endpoint that the API's own document lists: a new endpoint is covered by being in it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stackpro_testkit::{PASSWORD, Person, TestApp};

use crate::api::{Endpoint, document, endpoints, expect_problem};
use crate::product;

/// What is wrong with a text field, whatever it means.
fn bad_values() -> Vec<(&'static str, Option<Value>)> {
    vec![
        ("missing", None),
        ("null", Some(Value::Null)),
        ("a number", Some(json!(7))),
        ("a boolean", Some(json!(true))),
        ("a list", Some(json!(["a"]))),
        ("an object", Some(json!({ "a": "b" }))),
        ("empty", Some(json!(""))),
        ("blank", Some(json!(" \t "))),
        ("huge", Some(json!("x".repeat(50_000)))),
        ("with NUL", Some(json!("a\0b"))),
    ]
}

/// What may be right or wrong, and must never do harm.
const HOSTILE: [&str; 7] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; DROP TABLE clients; --",
    "株式会社 Ünï ✨ \u{202e}evil",
    "a\r\nBcc: victim@acme.example",
    "{{7*7}} ${7*7} %s %n",
    "../../../../etc/passwd",
];

/// A good body for each endpoint that takes one, so that exactly one thing is wrong at a time.
fn good_body(endpoint: &Endpoint, person: &Person) -> Value {
    let contact = json!({ "name": "Ann", "email": "ann@acme.example", "message": "Do you also host mail?" });
    match endpoint.path.as_str() {
        "/api/auth/signup" => Person::form("Acme Law"),
        "/api/auth/login" => json!({ "email": person.email, "password": PASSWORD }),
        "/api/clients/{client_id}/plan" => {
            json!({ "planId": "starter", "interval": "month", "at": "2026-01-01T00:00:00Z" })
        }
        "/api/operator/clients/{client_id}/plan" => {
            json!({ "planId": "starter", "until": "2100-01-01T00:00:00Z" })
        }
        "/api/create-checkout-session" | "/api/clients/{client_id}/plan/preview" => {
            json!({ "planId": "starter", "interval": "month" })
        }
        "/api/clients/{client_id}/storage/downloads" => json!({ "key": "files/a.txt" }),
        "/api/clients/{client_id}/storage/uploads" => {
            json!({ "key": "files/a.txt", "contentType": "text/plain", "contentLength": 5 })
        }
        "/api/contact" => contact,
        "/api/deploy" => {
            let mut form = Person::form("Deployed Ltd");
            form.as_object_mut().unwrap().remove("password");
            form
        }
        other => panic!("{other} takes a body: give a good one here"),
    }
}

/// Of who may ask there.
fn token_for<'a>(endpoint: &Endpoint, client: &'a str, operator: &'a str) -> &'a str {
    let is_operators = endpoint.path == "/api/deploy" || endpoint.path.starts_with("/api/operator/");
    if is_operators { operator } else { client }
}

async fn send(app: &TestApp, endpoint: &Endpoint, person: &Person, token: &str, body: String) -> reqwest::Response {
    let path = endpoint.with_client(&person.client);
    let request = app.request(endpoint.method.clone(), &path).bearer_auth(token);
    request.header("content-type", "application/json").body(body).send().await.unwrap()
}

fn clients(app: &TestApp) -> usize {
    app.command_json(&["clients", "list", "--json"]).as_array().unwrap().len()
}

#[tokio::test]
async fn every_field_of_every_body_is_checked_and_named() {
    let app = product().start().await;
    let person = app.ready_client("Victim Ltd").await;
    let operator = app.operator().await;
    let document = document(&app).await;
    let before = clients(&app);
    let mut checked = 0;
    for endpoint in endpoints(&document).iter().filter(|e| e.takes_json()) {
        let token = token_for(endpoint, &person.token, &operator.token);
        for field in &endpoint.fields {
            for (what, value) in bad_values() {
                // The one field that is a number.
                if field == "contentLength" && what == "a number" {
                    continue;
                }
                // What may be left out is none when it is.
                if !endpoint.required.contains(field) && value.as_ref().is_none_or(Value::is_null) {
                    continue;
                }
                let mut body = good_body(endpoint, &person);
                match value {
                    Some(value) => body[field] = value,
                    None => drop(body.as_object_mut().unwrap().remove(field)),
                }
                let said = format!("{} {} with {field} {what}", endpoint.method, endpoint.path);
                let answer = send(&app, endpoint, &person, token, body.to_string()).await;
                let status = answer.status();
                let problem = expect_problem(answer, &said).await;
                // A password may be any text that fits; whether it is the right one is another matter.
                if endpoint.path == "/api/auth/login" && status == StatusCode::UNAUTHORIZED {
                    continue;
                }
                let named = problem["errors"].as_array().is_some_and(|e| e.iter().any(|e| e["field"] == **field));
                assert!(named, "{said}: the field is not named: {problem}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} were checked");
    assert_eq!(clients(&app), before, "something was stored");
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_refused() {
    let app = product().start().await;
    let person = app.sign_up("Victim Ltd").await;
    let operator = app.operator().await;
    let document = document(&app).await;
    for endpoint in endpoints(&document).iter().filter(|e| e.takes_json()) {
        let token = token_for(endpoint, &person.token, &operator.token);
        for body in ["", "{", "null", "[]", "7", "\"text\"", "\u{feff}{}", "{\"a\":1,}", &"[".repeat(100_000)] {
            let said = format!("{} with {:.20}", endpoint.path, body);
            let answer = send(&app, endpoint, &person, token, body.to_owned()).await;
            expect_problem(answer, &said).await;
        }
        let path = endpoint.with_client(&person.client);
        let request = app.request(endpoint.method.clone(), &path).bearer_auth(token);
        let answer = request.header("content-type", "text/plain").body("{}").send().await.unwrap();
        expect_problem(answer, &format!("{} as text", endpoint.path)).await;
        let invalid = app.request(endpoint.method.clone(), &path).bearer_auth(token);
        let invalid = invalid.header("content-type", "application/json").body(vec![b'{', b'"', 0xff, 0xfe, b'"', b'}']);
        expect_problem(invalid.send().await.unwrap(), &format!("{} with invalid UTF-8", endpoint.path)).await;
    }
    assert_eq!(clients(&app), 1);
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let app = product().start().await;
    let answer = app
        .request(Method::POST, "/api/auth/signup")
        .header("content-type", "application/json")
        .body(format!("{{\"company\":\"{}\"}}", "x".repeat(8 << 20)))
        .send()
        .await;
    // Either it is told so, or the connection is closed while it is still sending.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert_eq!(clients(&app), 0);
    assert_eq!(app.get("/health").send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn hostile_text_is_refused_or_shown_as_text() {
    let app = product().start().await;
    let operator = app.operator().await;
    let mut accepted = Vec::new();
    for text in HOSTILE {
        for field in ["company", "firstName", "lastName", "email", "plan"] {
            let mut form = Person::form("Acme Law");
            form[field] = json!(text);
            let answer = app.post("/api/auth/signup", &form).send().await.unwrap();
            let said = format!("{field} = {text:?}");
            if answer.status() == StatusCode::CREATED {
                assert!(!matches!(field, "email" | "plan"), "{said} was accepted");
                accepted.push(form);
            } else {
                expect_problem(answer, &said).await;
            }
        }
    }
    assert!(!accepted.is_empty(), "a company may well have such a name");
    for form in accepted {
        let browser = app.browser();
        browser.log_in(form["email"].as_str().unwrap(), PASSWORD).await;
        let client = app.command_json(&["clients", "list", "--json", "--search", form["email"].as_str().unwrap()]);
        let client = client[0]["id"].as_str().unwrap();
        for page in ["", "/upgrade", "/members", "/settings"] {
            let path = format!("/dashboard/{client}{page}");
            assert_no_markup(&browser.page(&path).await, &path);
        }
    }
    let console = app.browser();
    console.log_in(&operator.email, PASSWORD).await;
    for path in ["/console", "/console/clients", "/console/mailbox", "/console/flows", "/console/resources"] {
        assert_no_markup(&console.page(path).await, path);
    }
}

fn assert_no_markup(page: &str, path: &str) {
    for harm in ["<script>alert(1)", "<img src=x onerror"] {
        assert!(!page.contains(harm), "{path} shows {harm} unescaped");
    }
}

#[tokio::test]
async fn ids_in_paths_and_queries_can_be_anything() {
    let app = product().start().await;
    let person = app.sign_up("Victim Ltd").await;
    let document = document(&app).await;
    let hostile =
        ["%00", "..%2f..%2fetc", "%27%20OR%201=1--", "%F0%9F%98%80", "%ff%fe", "A%0d%0aX:1", &"a".repeat(5_000)];
    for endpoint in endpoints(&document).iter().filter(|e| e.path.contains('{')) {
        for id in hostile {
            let path = endpoint.with_client(id);
            let answer = app.request(endpoint.method.clone(), &path).bearer_auth(&person.token).send().await.unwrap();
            expect_problem(answer, &format!("{} {path:.60}", endpoint.method)).await;
        }
    }
}

//! The API as its own document describes it: shapes, authority, what every answer bears.

use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use stackpro_testkit::{PASSWORD, Person, TestApp};

use crate::product;

/// What anyone may call. Everything else needs a token, and a test fails until a new endpoint is told apart.
const PUBLIC: [&str; 9] = [
    "/api/auth/signup",
    "/api/auth/login",
    "/api/auth/logout",
    "/api/contact",
    "/api/stripe-webhook",
    "/api/mail-events",
    "/api/openapi.json",
    "/health",
    "/ready",
];

/// One row of the API's document.
pub(crate) struct Endpoint {
    pub method: Method,
    pub path: String,
    /// Names of the fields of its JSON body.
    pub fields: Vec<String>,
    /// Those of them without which a body is refused.
    pub required: Vec<String>,
}

impl Endpoint {
    pub(crate) fn takes_json(&self) -> bool {
        !self.fields.is_empty()
    }

    /// With this in place of every parameter of the path.
    pub(crate) fn with_client(&self, id: &str) -> String {
        let mut path = String::new();
        for part in self.path.split('/').skip(1) {
            path.push('/');
            path.push_str(if part.starts_with('{') { id } else { part });
        }
        path
    }
}

pub(crate) async fn document(app: &TestApp) -> Value {
    app.get("/api/openapi.json").send().await.unwrap().json().await.unwrap()
}

pub(crate) fn endpoints(document: &Value) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let body = resolve(document, schema);
            let fields = body["properties"].as_object().map(|f| f.keys().cloned().collect()).unwrap_or_default();
            let required = body["required"].as_array().into_iter().flatten();
            let required = required.filter_map(|field| field.as_str().map(str::to_owned)).collect();
            found.push(Endpoint { method, path: path.clone(), fields, required });
        }
    }
    assert!(found.len() >= 12, "the document lists only {}", found.len());
    found
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect("what is referred to"),
        None => schema,
    }
}

/// A clear refusal: 4xx, RFC 9457, a request id, and nothing of our insides.
pub(crate) async fn expect_problem(answer: Response, said: &str) -> Value {
    let status = answer.status();
    let id = answer.headers().get("x-request-id").cloned();
    let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let text = answer.text().await.unwrap();
    assert!(status.is_client_error(), "{said}: {status} {text}");
    assert!(kind.starts_with("application/problem+json"), "{said}: {status} is {kind}: {text}");
    let problem: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{said}: {e}: {text}"));
    for field in ["type", "title", "detail", "requestId"] {
        assert!(problem[field].as_str().is_some_and(|t| !t.is_empty()), "{said}: no {field}: {text}");
    }
    assert_eq!(problem["status"], status.as_u16(), "{said}");
    assert_eq!(id.unwrap().to_str().unwrap(), problem["requestId"], "{said}");
    for inside in ["sqlx", "SELECT ", "panicked", "crates/", ".rs:"] {
        assert!(!text.contains(inside), "{said} tells of our insides: {text}");
    }
    problem
}

#[tokio::test]
async fn every_route_but_the_public_ones_refuses_whoever_has_no_token() {
    let app = product().start().await;
    let victim = app.sign_up("Secretive Victims Ltd").await;
    let document = document(&app).await;
    for endpoint in endpoints(&document) {
        if PUBLIC.contains(&endpoint.path.as_str()) {
            continue;
        }
        let path = endpoint.with_client(&victim.client);
        let said = format!("{} {path}", endpoint.method);
        for token in [None, Some(""), Some("x"), Some("a.b.c"), Some(tampered(&victim.token).as_str())] {
            let mut request = app.request(endpoint.method.clone(), &path).header("content-type", "application/json");
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let answer = request.body("{}").send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{said} with the token {token:?}");
            assert!(!expect_problem(answer, &said).await.to_string().contains("Secretive"), "{said}");
        }
    }
}

/// The same token with another payload's worth of trust: one character of the signature changed.
fn tampered(token: &str) -> String {
    let mut text = token.to_owned();
    let last = if text.pop() == Some('A') { 'B' } else { 'A' };
    // The last character may carry unused bits, so an earlier one is changed too.
    let at = text.len() - 5;
    let other = if text.as_bytes()[at] == b'x' { "y" } else { "x" };
    text.replace_range(at..=at, other);
    text.push(last);
    text
}

#[tokio::test]
async fn every_route_refuses_another_clients_token_and_tells_nothing() {
    let app = product().start().await;
    let victim = app.sign_up("Secretive Victims Ltd").await;
    let thief = app.sign_up("Thieves Ltd").await;
    let document = document(&app).await;
    let mut walked = 0;
    for endpoint in endpoints(&document).iter().filter(|e| e.path.contains('{')) {
        let path = endpoint.with_client(&victim.client);
        let said = format!("{} {path}", endpoint.method);
        let request = app.as_person(&thief, endpoint.method.clone(), &path).header("content-type", "application/json");
        let answer = request.body("{}").send().await.unwrap();
        let status = answer.status();
        // The operator's routes are forbidden whoever is named in them.
        let refused = [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        assert!(refused.contains(&status), "{said}: {status}");
        let stolen = expect_problem(answer, &said).await;
        // Whether such a client exists is not told either.
        let nobody = endpoint.with_client("nobody-here-0000");
        let request =
            app.as_person(&thief, endpoint.method.clone(), &nobody).header("content-type", "application/json");
        let answer = request.body("{}").send().await.unwrap();
        assert_eq!(answer.status(), status, "{said} tells that the client exists");
        let absent = expect_problem(answer, &said).await;
        assert_eq!(absent["detail"], stolen["detail"], "{said} tells that the client exists");
        walked += 1;
    }
    assert!(walked >= 3, "only {walked} routes have a client in their path");
}

#[tokio::test]
async fn the_operators_routes_are_no_clients() {
    let app = product().start().await;
    let person = app.sign_up("Acme Law").await;
    let body = serde_json::json!({ "email": "x@acme.example", "firstName": "A", "lastName": "B", "company": "C Ltd", "plan": "starter" });
    let answer = app.as_person(&person, Method::POST, "/api/deploy").json(&body).send().await.unwrap();
    assert!(matches!(answer.status(), StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED));
    expect_problem(answer, "deploy by a client").await;
    let browser = app.browser();
    browser.log_in(&person.email, PASSWORD).await;
    for path in ["/console", "/console/clients", "/console/mailbox", "/console/flows", "/console/time"] {
        let status = browser.get(path).await.status();
        assert!(status.is_client_error() || status.is_redirection(), "{path} answers a client with {status}");
    }
}

#[tokio::test]
async fn answers_have_the_documented_shapes() {
    let app = product().start().await;
    let form = Person::form("Acme Law");
    let answer = app.post("/api/auth/signup", &form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert!(answer.headers().contains_key("x-request-id"));
    let signed_up: Value = answer.json().await.unwrap();
    assert_eq!(signed_up["user"]["email"], form["email"]);
    assert_eq!(signed_up["user"]["role"], "owner");
    assert_eq!(signed_up["user"]["emailVerified"], false);
    let client = signed_up["clientId"].as_str().unwrap();
    assert!(client.starts_with("acme-law-"));
    let token = signed_up["token"].as_str().unwrap();
    let get = async |path: String| -> Value {
        let answer = app.get(&path).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    };
    let dashboard = get(format!("/api/dashboard/{client}")).await;
    for part in ["user", "client", "deployment", "trial", "usage"] {
        assert!(dashboard[part].is_object(), "{part}: {dashboard}");
    }
    assert_eq!(dashboard["client"]["state"], "trial");
    assert_eq!(dashboard["usage"]["storageLimitBytes"], 1_u64 << 30);
    let trial = get(format!("/api/trial-status/{client}")).await;
    assert_eq!(trial["daysRemaining"], 14);
    assert_eq!(trial["accountStatus"], "trial");
    assert_eq!(trial["isExpired"], false);
    assert_eq!(trial["isInGracePeriod"], false);
    assert_eq!(trial["requiresPayment"], false);
    let deployment = get(format!("/api/deployment-status/{client}")).await;
    assert_eq!(deployment["deploymentType"], "shared");
    assert!(deployment["url"].as_str().unwrap().contains(client));
    let steps = deployment["steps"].as_array().unwrap();
    assert!(steps.len() >= 5, "{deployment}");
    assert!(steps.iter().all(|s| s["name"].is_string() && s["status"].is_string()), "{deployment}");
    let login = serde_json::json!({ "email": form["email"], "password": PASSWORD });
    let answer = app.post("/api/auth/login", &login).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let logged_in: Value = answer.json().await.unwrap();
    assert_eq!(logged_in["clientId"], client);
    let contact = serde_json::json!({ "name": "Ann", "email": "ann@acme.example", "message": "Do you host mail too?" });
    let answer = app.post("/api/contact", &contact).send().await.unwrap();
    assert!(answer.status().is_success(), "contact: {}", answer.status());
    for path in ["/health", "/ready"] {
        assert_eq!(app.get(path).send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_alike() {
    let app = product().start().await;
    let person = app.sign_up("Acme Law").await;
    let mut said = Vec::new();
    for email in [person.email.as_str(), "nobody@acme.example"] {
        let body = serde_json::json!({ "email": email, "password": "wrong wrong wrong 1" });
        let answer = app.post("/api/auth/login", &body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let mut problem = expect_problem(answer, email).await;
        problem.as_object_mut().unwrap().remove("requestId");
        said.push(problem);
    }
    assert_eq!(said[0], said[1]);
}

#[tokio::test]
async fn an_address_signs_up_once() {
    let app = product().start().await;
    let form = Person::form("Acme Law");
    assert_eq!(app.post("/api/auth/signup", &form).send().await.unwrap().status(), StatusCode::CREATED);
    let mut again = form.clone();
    again["email"] = form["email"].as_str().unwrap().to_uppercase().into();
    for body in [form, again] {
        let problem = expect_problem(app.post("/api/auth/signup", &body).send().await.unwrap(), "again").await;
        assert_eq!(problem["errors"][0]["field"], "email", "{problem}");
    }
}

#[tokio::test]
async fn the_document_can_be_read_and_names_every_route_of_the_issue() {
    let app = product().start().await;
    let document = document(&app).await;
    let paths = document["paths"].as_object().unwrap();
    let told: Vec<&str> = paths.keys().map(String::as_str).collect();
    for part in [
        "/api/auth/signup",
        "/api/auth/login",
        "/api/auth/logout",
        "/api/dashboard/",
        "/api/deployment-status/",
        "/api/trial-status/",
        "/api/create-checkout-session",
        "/api/stripe-webhook",
        "/api/mail-events",
        "/api/deploy",
        "/api/contact",
        "/health",
        "/ready",
    ] {
        assert!(told.iter().any(|path| path.starts_with(part)), "{part} is not in {told:?}");
    }
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
}

#[tokio::test]
async fn every_answer_bears_the_headers_that_protect_a_browser() {
    let app = product().start().await;
    for path in ["/", "/plans", "/signup", "/login", "/api/openapi.json", "/health", "/nowhere", "/api/nowhere"] {
        let answer = app.get(path).send().await.unwrap();
        let headers = answer.headers();
        assert!(headers.contains_key("x-request-id"), "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let page = headers.get("content-type").is_some_and(|v| v.to_str().unwrap().starts_with("text/html"));
        assert!(!page || headers.contains_key("content-security-policy"), "{path}");
    }
}

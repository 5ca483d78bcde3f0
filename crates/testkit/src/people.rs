//! What people do with the product, over HTTP as they do it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::browser::Portal;
use crate::forms::Form;
use crate::wait::eventually;

/// Long enough for a cold instance on a busy machine; a healthy run takes a tenth of it.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// Where everyone is billed who pays by card.
const ADDRESS: [(&str, &str); 4] =
    [("line1", "1 Main Street"), ("city", "Springfield"), ("state", "IL"), ("postal_code", "62701")];

/// Everyone's, since strength is not what most tests are about.
pub const PASSWORD: &str = "correct horse battery staple 7";

/// A member who signed up, with what they were answered.
#[derive(Clone, Debug)]
pub struct Person {
    pub client: String,
    pub email: String,
    pub token: String,
    pub dashboard_url: String,
}

/// Who runs this installation.
#[derive(Clone, Debug)]
pub struct Operator {
    pub email: String,
    pub token: String,
}

impl Person {
    /// What signing up says, for a company of this name and an address never used before.
    pub fn form(company: &str) -> Value {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        json!({
            "email": format!("owner{number}.{}@acme.example", std::process::id()),
            "password": PASSWORD, "firstName": "Ann", "lastName": "Meyer", "company": company, "plan": "starter",
        })
    }
}

impl TestApp {
    /// Signs up over the API, and returns before anything runs.
    pub async fn sign_up(&self, company: &str) -> Person {
        self.sign_up_with(&Person::form(company)).await
    }

    /// As [`Person::form`] gives it, and more.
    pub async fn sign_up_with(&self, form: &Value) -> Person {
        let answer = self.post("/api/auth/signup", form).send().await.expect("an answer to a sign-up");
        let body = json_of(answer, StatusCode::CREATED).await;
        Person {
            client: text(&body["clientId"]),
            email: text(&form["email"]),
            token: text(&body["token"]),
            dashboard_url: text(&body["dashboardUrl"]),
        }
    }

    /// Signs up and waits until the stack is ready.
    pub async fn ready_client(&self, company: &str) -> Person {
        let person = self.sign_up(company).await;
        self.wait_for(&person, "ready", "shared").await;
        person
    }

    /// A request with this person's token. Tokens are short-lived: see [`TestApp::log_in`].
    pub fn as_person(&self, person: &Person, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(&person.token)
    }

    /// A fresh token for the same person.
    pub async fn log_in(&self, email: &str) -> String {
        let form = json!({ "email": email, "password": PASSWORD });
        let answer = self.post("/api/auth/login", &form).send().await.expect("an answer to a log-in");
        text(&json_of(answer, StatusCode::OK).await["token"])
    }

    pub async fn deployment(&self, person: &Person) -> Value {
        let path = format!("/api/deployment-status/{}", person.client);
        let answer = self.as_person(person, Method::GET, &path).send().await.expect("a deployment's state");
        json_of(answer, StatusCode::OK).await
    }

    pub async fn trial(&self, person: &Person) -> Value {
        let path = format!("/api/trial-status/{}", person.client);
        let answer = self.as_person(person, Method::GET, &path).send().await.expect("a trial's state");
        json_of(answer, StatusCode::OK).await
    }

    /// Waits until the deployment has this status on this kind of instance, and returns it. Says what it
    /// saw last when it never comes.
    pub async fn wait_for(&self, person: &Person, status: &str, kind: &str) -> Value {
        let deadline = std::time::Instant::now() + READY_WITHIN;
        loop {
            let last = self.deployment(person).await;
            if last["status"] == status && last["deploymentType"] == kind {
                return last;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{} is not {status} on a {kind} instance: {last:#}\n{}",
                person.client,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Presses upgrade and pays with this card at the simulated Stripe. Returns the answer to the payment:
    /// a redirect back to us, or the page again with the reason.
    pub async fn pay_with(&self, person: &Person, plan: &str, card: &str) -> Response {
        let wish = json!({ "planId": plan, "interval": "month" });
        let request = self.as_person(person, Method::POST, "/api/create-checkout-session").json(&wish);
        let session = json_of(request.send().await.expect("a checkout session"), StatusCode::OK).await;
        self.pay_session(&text(&session["url"]), card).await
    }

    /// The first operator, made with the link that the start prints. To be called once.
    pub async fn operator(&self) -> Operator {
        let link = self.info().operator_link.clone().expect("the link that makes the first operator");
        let path = link.strip_prefix(&self.info().url).unwrap_or(&link).to_owned();
        let email = "operator@stackpro.example".to_owned();
        let who = [("firstName", "Olga"), ("lastName", "Ops"), ("email", email.as_str()), ("password", PASSWORD)];
        let answer = self.browser().fill(&path, "/console/", &who).await;
        assert!(answer.status().is_redirection(), "the first operator: {}", answer.text().await.unwrap_or_default());
        let token = self.log_in(&email).await;
        Operator { email, token }
    }

    /// Stores a file through the client's public name, and returns the answer once it is whole.
    pub async fn put_file(&self, site: &str, portal: &Portal, path: &str, body: Vec<u8>) -> StatusCode {
        let request = self.at_host(Method::PUT, site, &format!("/dav/{path}"));
        let request = request.basic_auth(&portal.user, Some(&portal.password)).body(body);
        request.send().await.map_or(StatusCode::BAD_GATEWAY, |answer| answer.status())
    }

    /// Makes a folder through the client's public name.
    pub async fn make_folder(&self, site: &str, portal: &Portal, path: &str) {
        let method = Method::from_bytes(b"MKCOL").expect("a method of WebDAV");
        let request = self.at_host(method, site, &format!("/dav/{path}/"));
        let answer = request.basic_auth(&portal.user, Some(&portal.password)).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    /// Waits until no flow runs, waits or needs attention.
    pub async fn at_rest(&self) {
        eventually("nothing is under way", Duration::from_mins(3), async || {
            let flows = self.command_json(&["flows", "list", "--json"]);
            let over = |flow: &Value| matches!(flow["state"].as_str(), Some("done" | "undone" | "abandoned"));
            flows.as_array()?.iter().all(over).then_some(())
        })
        .await;
    }

    /// A file's content through the client's public name.
    pub async fn get_file(&self, site: &str, portal: &Portal, path: &str) -> (StatusCode, Vec<u8>) {
        let request = self.at_host(Method::GET, site, &format!("/dav/{path}"));
        let Ok(answer) = request.basic_auth(&portal.user, Some(&portal.password)).send().await else {
            return (StatusCode::BAD_GATEWAY, Vec::new());
        };
        (answer.status(), answer.bytes().await.map(|bytes| bytes.to_vec()).unwrap_or_default())
    }

    /// Fills in and sends the form of a checkout page.
    pub async fn pay_session(&self, url: &str, card: &str) -> Response {
        let page = self.http().get(url).send().await.expect("the checkout page").text().await.expect("its text");
        let forms = Form::all(&page);
        let form = forms.into_iter().find(|form| form.fields.iter().any(|(name, _)| is_card(name)));
        let mut form = form.unwrap_or_else(|| panic!("no card can be typed in: {page}"));
        for (name, value) in &mut form.fields {
            match name.to_lowercase() {
                name if is_card(&name) => card.clone_into(value),
                name if name.contains("exp") => "12 / 34".clone_into(value),
                name if name.contains("cvc") => "123".clone_into(value),
                name if name == "name" && value.is_empty() => "Ann Meyer".clone_into(value),
                name => {
                    if let Some((_, typed)) = ADDRESS.iter().find(|(field, _)| *field == name) {
                        (*typed).clone_into(value);
                    }
                }
            }
        }
        self.submit(url, &form).await
    }

    /// Pays with the card that always works, and waits until the webhook is in effect.
    pub async fn pay(&self, person: &Person, plan: &str) {
        let answer = self.pay_with(person, plan, "4242 4242 4242 4242").await;
        assert!(answer.status().is_redirection(), "the payment: {}", answer.text().await.unwrap_or_default());
        eventually("the payment is in effect", READY_WITHIN, async || {
            (self.trial(person).await["accountStatus"] == "active").then_some(())
        })
        .await;
    }

    /// Sends a form as a browser on page `page` would.
    pub async fn submit(&self, page: &str, form: &Form) -> Response {
        let base = reqwest::Url::parse(page).expect("a page's address");
        let target = base.join(&form.action).expect("a form's action");
        let request = if form.method == "post" {
            let origin = base.origin().ascii_serialization();
            self.http().post(target).header("origin", origin).form(&form.fields)
        } else {
            self.http().get(target).query(&form.fields)
        };
        request.send().await.expect("an answer to a form")
    }
}

fn is_card(name: &str) -> bool {
    let name = name.to_lowercase();
    name == "card" || name == "number" || name.contains("card") && name.contains("number")
}

/// The body of an answer that must have this status.
pub(crate) async fn json_of(answer: Response, status: StatusCode) -> Value {
    let (got, url) = (answer.status(), answer.url().clone());
    let body = answer.text().await.expect("a whole answer");
    assert_eq!(got, status, "{url}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url} is no JSON: {error}: {body}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text was expected: {value}")).to_owned()
}

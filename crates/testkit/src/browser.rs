//! A browser without JavaScript: cookies, pages, forms.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};

use crate::app::TestApp;
use crate::forms::Form;

/// How many redirects a page may take.
const HOPS: usize = 5;

/// One person's browser, at one [`TestApp`].
pub struct Browser<'a> {
    app: &'a TestApp,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// What a client sees of their file portal.
#[derive(Clone, Debug)]
pub struct Portal {
    pub user: String,
    pub password: String,
}

impl TestApp {
    pub fn browser(&self) -> Browser<'_> {
        Browser { app: self, cookies: Mutex::default() }
    }
}

impl Browser<'_> {
    /// One request with the cookies, and no redirect followed.
    pub async fn send(&self, request: RequestBuilder) -> Response {
        self.try_send(request).await.expect("an answer")
    }

    /// The same where the server may die meanwhile.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Response> {
        let cookies = self.jar().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let request = if cookies.is_empty() { request } else { request.header(COOKIE, cookies) };
        let answer = request.header("accept", "text/html").send().await?;
        self.keep(answer.headers());
        Ok(answer)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(self.app.request(Method::GET, path)).await
    }

    /// A page's text, redirects followed. It must be there.
    pub async fn page(&self, path: &str) -> String {
        let answer = self.follow(self.get(path).await).await;
        let (status, url) = (answer.status(), answer.url().clone());
        let text = answer.text().await.expect("a whole page");
        assert_eq!(status, StatusCode::OK, "{url}: {text}");
        text
    }

    /// Where an answer leads in the end.
    pub async fn follow(&self, mut answer: Response) -> Response {
        for _ in 0..HOPS {
            let Some(target) = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else { break };
            let target = answer.url().join(target).expect("an address");
            let ours = target.as_str().strip_prefix(self.app.origin()).map(|path| self.app.url(path));
            answer = self.send(self.app.http().get(ours.unwrap_or_else(|| target.to_string()))).await;
        }
        answer
    }

    /// Fills in the form of `page` whose action contains `action`, sends it, and returns the bare answer.
    pub async fn fill(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Response {
        let text = self.page(page).await;
        let form = Form::find(&text, action).unwrap_or_else(|| panic!("{page} has no form for {action}: {text}"));
        let form = fields.iter().fold(form, |form, (name, value)| form.fill(name, value));
        self.submit(page, &form).await
    }

    /// Sends a form of `page` as it is.
    pub async fn submit(&self, page: &str, form: &Form) -> Response {
        self.try_submit(page, form).await.expect("an answer")
    }

    /// The same where the server may die meanwhile.
    pub async fn try_submit(&self, page: &str, form: &Form) -> reqwest::Result<Response> {
        let target = if form.action.is_empty() { page } else { &form.action };
        let target = target.split('#').next().unwrap_or(target);
        let request = if form.method == "post" {
            let request = self.app.request(Method::POST, target).header("origin", self.app.origin());
            request.header("sec-fetch-site", "same-origin").form(&form.fields)
        } else {
            self.app.request(Method::GET, target).query(&form.fields)
        };
        self.try_send(request).await
    }

    pub async fn log_in(&self, email: &str, password: &str) {
        let answer = self.fill("/login", "/login", &[("email", email), ("password", password)]).await;
        assert!(answer.status().is_redirection(), "the log-in: {}", answer.text().await.unwrap_or_default());
    }

    /// The user name and the password of a client's file portal, as the dashboard shows them on demand.
    pub async fn portal(&self, client: &str) -> Portal {
        let page = format!("/dashboard/{client}");
        let answer = self.follow(self.fill(&page, "portal-password", &[]).await).await;
        let text = answer.text().await.expect("the dashboard");
        let password = between(&text, "id=\"portal-password\">", "<").unwrap_or_else(|| panic!("no password: {text}"));
        let user = between(&text, "<dt>User name</dt><dd><code>", "<").unwrap_or_else(|| panic!("no user: {text}"));
        Portal { user, password }
    }

    fn keep(&self, headers: &HeaderMap) {
        let mut jar = self.jar();
        for value in headers.get_all(SET_COOKIE) {
            let text = value.to_str().expect("a cookie of plain text");
            let (name, rest) = text.split_once('=').expect("a cookie with a name");
            let value = rest.split(';').next().unwrap_or_default();
            if value.is_empty() || rest.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn jar(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands between two texts.
pub(crate) fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let start = text.find(before)? + before.len();
    let end = text[start..].find(after)? + start;
    Some(text[start..end].to_owned())
}

//! The recipe that is sold: WordPress, with its database, as a visitor and its owner see it.

use std::time::Instant;

use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::{Value, json};
use stackpro_protocol::agent::*;

use crate::stacks::*;
use crate::support::*;

/// Someone who is signed in at a WordPress.
pub(crate) struct Author {
    http: reqwest::Client,
    base: String,
    host: String,
    cookies: String,
    nonce: String,
}

impl Author {
    /// Signs in, and gets what the REST API wants of a browser.
    pub(crate) async fn sign_in(agent: &TestAgent, spec: &StackSpec) -> Self {
        let host = spec.hosts[0].clone();
        let password = spec.compose.as_ref().unwrap().variables["ADMIN_PASSWORD"].clone();
        let form = [("log", "admin"), ("pwd", &password), ("wp-submit", "Log In"), ("testcookie", "1")];
        let sign_in =
            agent.visit("POST", &host, "/wp-login.php").header(COOKIE, "wordpress_test_cookie=WP%20Cookie%20check");
        let answer = sign_in.form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 302, "signed in");
        let cookies = answer.headers().get_all(SET_COOKIE).iter();
        let cookies: Vec<String> = cookies.map(|c| c.to_str().unwrap().split(';').next().unwrap().to_owned()).collect();
        let cookies = cookies.join("; ");
        let nonce = agent.visit("GET", &host, "/wp-admin/admin-ajax.php?action=rest-nonce").header(COOKIE, &cookies);
        let nonce = text(nonce.send().await.unwrap()).await;
        assert!(nonce.len() == 10, "{nonce}");
        Self { http: agent.http.clone(), base: format!("http://{}", agent.plain()), host, cookies, nonce }
    }

    fn post(&self, what: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/index.php?rest_route=/wp/v2/{what}", self.base);
        let post = self.http.post(url).header("host", &self.host);
        post.header(COOKIE, &self.cookies).header("x-wp-nonce", &self.nonce)
    }

    /// The address of a new post, once it is acknowledged.
    pub(crate) async fn publish(&self, title: &str) -> Result<u64, String> {
        let post = self.post("posts").json(&json!({ "title": title, "content": title, "status": "publish" }));
        let answer = post.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| format!("{status}: {error}"))?;
        body["id"].as_u64().filter(|_| status == 201).ok_or_else(|| format!("{status}: {body}"))
    }

    /// The path of an uploaded file, once it is acknowledged.
    pub(crate) async fn upload(&self, name: &str, content: Vec<u8>) -> Result<String, String> {
        let disposition = format!("attachment; filename=\"{name}\"");
        let upload =
            self.post("media").header("content-disposition", disposition).header("content-type", "application/pdf");
        let answer = upload.body(content).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| format!("{status}: {error}"))?;
        let url =
            body["source_url"].as_str().filter(|_| status == 201).ok_or_else(|| format!("{name}: {status}: {body}"))?;
        Ok(url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap())
    }
}

/// What WordPress takes for a PDF: it looks at the content.
pub(crate) fn pdf(text: &str, bytes: usize) -> Vec<u8> {
    let mut content = format!("%PDF-1.4\n% {text}\n").into_bytes();
    content.resize(bytes, b'\n');
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn wordpress_is_installed_and_ready_to_write_in() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let spec = stack("acme-law-7f3k", "wordpress");
    let began = Instant::now();
    agent.put_stack(&spec).await;
    // Nobody else can install it first: until it is set up nothing is let through.
    let early = agent.visit("GET", &spec.hosts[0], "/wp-admin/install.php").send().await.unwrap();
    assert!(early.status() == 503 || text(early).await.contains("already installed"));
    let page = agent.answers(&spec, "/").await;
    println!("WordPress answers after {} ms", began.elapsed().as_millis());
    assert!(page.contains("Sons"), "the company's name is on its page: {page}");
    let author = Author::sign_in(&agent, &spec).await;
    let post = author.publish("A first post").await.unwrap();
    assert!(agent.answers(&spec, &format!("/?p={post}")).await.contains("A first post"));
    let file = author.upload("notes.pdf", pdf("noted", 3_000_000)).await.unwrap();
    assert_eq!(agent.answers(&spec, &file).await.len(), 3_000_000, "more than PHP's usual 2 MB");
    let problem = author.publish("").await;
    assert!(problem.is_err(), "an author hears what WordPress says");
    assert_eq!(agent.status(&spec).await.problem, None);
}

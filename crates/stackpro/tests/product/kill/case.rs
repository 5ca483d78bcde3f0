//! A client to whom a flow happens, who works on meanwhile, and how all of it must end.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use stackpro_testkit::{Browser, Form, PASSWORD, Person, Portal, TestApp, eventually};

use super::writer::{Site, Writer};
use super::{COMMIT_OF_A_MOVE, Point, WITHIN};
use crate::access::roles_of;
use crate::travel::{gone, healthy};

pub(super) struct Case {
    person: Person,
    /// None while there is no site.
    work: Option<Work>,
}

struct Work {
    site: String,
    portal: Portal,
    writer: Writer,
}

impl Case {
    /// Makes the flow of this point begin.
    pub(super) async fn begin(app: &mut TestApp, point: &Point) -> Self {
        let kind = point.kind.as_str();
        if matches!(kind, "provision" | "launch") {
            return Self { person: sign_up_whatever_happens(app, point).await, work: None };
        }
        let person = app.ready_client("Acme Law").await;
        if kind == "delete" {
            // So that there is an instance to remove too.
            tell(app, &["clients", "migrate", &person.client]);
            nothing_under_way(app).await;
        }
        let work = Work::begin(app, &person, if kind == "delete" { Site::Goes } else { Site::Stays }).await;
        let case = Self { person, work: Some(work) };
        let client = case.person.client.as_str();
        match kind {
            "resume" => {
                tell(app, &["clients", "suspend", client]);
                case.status(app, "suspended").await;
                tell(app, &["clients", "resume", client]);
            }
            // The notice changes when the trial is over.
            "refresh" => time_passes(app, 15).await,
            "delete" => tell(app, &["clients", "delete", client, "--yes"]),
            "suspend" | "migrate" => tell(app, &["clients", kind, client]),
            other => panic!("say here how a flow of the kind {other} begins"),
        }
        case
    }

    /// The server was restarted.
    pub(super) fn follow(&self, app: &TestApp) {
        if let Some(work) = &self.work {
            work.writer.follow(app);
        }
    }

    pub(super) async fn ends_right(self, app: &mut TestApp, point: &Point) {
        nothing_under_way(app).await;
        let undone = point.failing.as_deref().is_some_and(|step| step != COMMIT_OF_A_MOVE);
        match point.kind.as_str() {
            // What was undone is made anew when the operator says so; nothing is left meanwhile.
            "provision" if undone => self.owns(app, &[]),
            "migrate" if !undone => {
                let client = self.status(app, "ready").await;
                assert!(client["instance"]["kind"].as_str().unwrap().eq_ignore_ascii_case("dedicated"), "{client:#}");
                assert_eq!(client["certificate"]["sourceHash"], client["certificate"]["copyHash"]);
                self.owns(app, &["bucket", "instance", "mail_identity", "record", "role"]);
            }
            "provision" | "launch" | "migrate" | "resume" | "refresh" => {
                self.status(app, "ready").await;
                self.owns(app, &["bucket", "mail_identity", "record"]);
            }
            "suspend" => self.was_suspended(app).await,
            "delete" => drop(gone(app, &self.person.client).await),
            other => panic!("say here how a flow of the kind {other} ends"),
        }
        if let Some(work) = self.work {
            work.end(app, point.kind == "delete").await;
        }
        healthy(app).await;
    }

    async fn was_suspended(&self, app: &TestApp) {
        self.status(app, "suspended").await;
        let work = self.work.as_ref().unwrap();
        let answer = app.at_host(Method::GET, &work.site, "/").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        work.writer.is_refused().await;
        tell(app, &["clients", "resume", &self.person.client]);
        self.status(app, "ready").await;
        nothing_under_way(app).await;
    }

    async fn status(&self, app: &TestApp, status: &str) -> Value {
        eventually(&format!("{} is {status}", self.person.client), WITHIN, async || {
            let shown = app.command_json(&["clients", "show", &self.person.client, "--json"]);
            let found = shown["stack"].as_str().is_some_and(|stack| stack.eq_ignore_ascii_case(status));
            found.then_some(shown)
        })
        .await
    }

    /// Exactly these exist of the client's, each once.
    fn owns(&self, app: &TestApp, kinds: &[&str]) {
        let shown = app.command_json(&["clients", "show", &self.person.client, "--json"]);
        let mut live: Vec<String> = shown["resources"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|r| !r["state"].as_str().unwrap().eq_ignore_ascii_case("deleted"))
            .map(|r| r["kind"].as_str().unwrap().to_owned())
            .collect();
        live.sort();
        assert_eq!(live, kinds, "{shown:#}");
        let may_use = roles_of(app, &self.person.client);
        assert_eq!(may_use.len(), usize::from(kinds.contains(&"bucket")), "{may_use:?}");
    }
}

impl Work {
    async fn begin(app: &TestApp, person: &Person, site: Site) -> Self {
        let url = app.deployment(person).await["url"].as_str().unwrap().to_owned();
        let browser = app.browser();
        browser.log_in(&person.email, PASSWORD).await;
        let portal = browser.portal(&person.client).await;
        let writer = Writer::start(app, &url, &portal, site).await;
        Self { site: url, portal, writer }
    }

    /// All of it is there, and more can be done; or nothing is there and nothing is taken.
    async fn end(self, app: &TestApp, deleted: bool) {
        if deleted {
            self.writer.is_refused().await;
            self.writer.stop().await;
        } else {
            self.writer.is_acknowledged().await;
            self.writer.stop().await.is_there(app, &self.site, &self.portal).await;
        }
    }
}

fn tell(app: &TestApp, arguments: &[&str]) {
    let output = app.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Signs up though the server may die at any moment of it. What was acknowledged must be there later.
async fn sign_up_whatever_happens(app: &mut TestApp, point: &Point) -> Person {
    loop {
        let form = Person::form("Acme Law");
        match app.post("/api/auth/signup", &form).send().await {
            Ok(answer) if answer.status() == StatusCode::CREATED => {
                // The answer's body may be cut; who they are can be asked of the operator's list.
                let email = form["email"].as_str().unwrap().to_owned();
                let body: Value = answer.json().await.unwrap_or_default();
                let client = if let Some(client) = body["clientId"].as_str() {
                    client.to_owned()
                } else {
                    let found = app.command_json(&["clients", "list", "--json", "--search", &email]);
                    found[0]["id"].as_str().unwrap().to_owned()
                };
                let token = body["token"].as_str().unwrap_or_default().to_owned();
                return Person { client, email, token, dashboard_url: String::new() };
            }
            Ok(answer) => panic!("{point}: {}", answer.text().await.unwrap_or_default()),
            Err(_) => app.restart().await,
        }
    }
}

/// The server may die of what a day brings.
async fn time_passes(app: &TestApp, days: usize) {
    let operator = app.operator().await;
    let browser = app.browser();
    browser.log_in(&operator.email, PASSWORD).await;
    for _ in 0..days {
        if a_day_passes(app, &browser).await.is_err() {
            return;
        }
    }
}

async fn a_day_passes(app: &TestApp, browser: &Browser<'_>) -> reqwest::Result<()> {
    let page = browser.try_send(app.get("/console/time")).await?.text().await?;
    let form = Form::find(&page, "/console/time").unwrap().fill("advance", "day");
    let answer = browser.try_submit("/console/time", &form).await?;
    assert!(answer.status().is_redirection(), "the time machine: {}", answer.status());
    Ok(())
}

/// Every flow is over: none runs, waits or needs attention.
pub(super) async fn nothing_under_way(app: &TestApp) {
    let deadline = std::time::Instant::now() + WITHIN;
    loop {
        let flows = app.command_json(&["flows", "list", "--json"]);
        let busy: Vec<&Value> = flows
            .as_array()
            .unwrap()
            .iter()
            .filter(|flow| !matches!(flow["state"].as_str(), Some("done" | "undone" | "abandoned")))
            .collect();
        if busy.is_empty() {
            return;
        }
        let parked = busy.iter().find(|flow| flow["state"] == "parked");
        assert!(parked.is_none() && std::time::Instant::now() < deadline, "{busy:#?}\n{}", app.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

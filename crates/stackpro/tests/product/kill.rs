//! The server killed, as kill -9 does, at every moment of every step of every flow, with agents and without.
//! The flows and their steps come from the binary itself: a new step is covered by being there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use stackpro_testkit::{PASSWORD, Person, Portal, TestApp, eventually, processes_of};

use crate::journey::{gone, healthy};
use crate::product;

/// Whole products at once. Most of their time is waiting for a dead node's lease.
const SIDE_BY_SIDE: usize = 8;
const WITHIN: Duration = Duration::from_mins(2);
const COMMIT_OF_A_MOVE: &str = "cut_over";
const MOMENTS: [&str; 3] = ["before", "after", "recorded"];

/// Where the server dies.
#[derive(Clone, Debug)]
struct Point {
    kind: String,
    step: String,
    moment: &'static str,
    /// Every agent dies with it.
    agents_too: bool,
    /// The step that fails for good, so that the flow turns back; the server dies while it is undone.
    failing: Option<String>,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undo = if self.failing.is_some() { "undo:" } else { "" };
        write!(f, "{undo}{}/{}/{}", self.kind, self.step, self.moment)
    }
}

/// The steps of each kind of flow, in order, and which of them commits.
fn kinds() -> BTreeMap<String, Vec<(String, bool)>> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stackpro")).args(["flows", "kinds", "--json"]).output();
    let kinds: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let step = |step: &Value| (text(&step["name"]), step["commit"] == true);
    let steps = |kind: &Value| kind["steps"].as_array().unwrap().iter().map(step).collect();
    kinds.as_array().unwrap().iter().map(|kind| (text(&kind["kind"]), steps(kind))).collect()
}

fn forward(agents_too: bool) -> Vec<Point> {
    let mut points = Vec::new();
    for (kind, steps) in kinds() {
        for (step, _) in steps {
            for moment in MOMENTS {
                points.push(Point { kind: kind.clone(), step: step.clone(), moment, agents_too, failing: None });
            }
        }
    }
    points
}

/// Every step that has something before it to undo: it fails, and the server dies while each step above
/// is undone. What a commit did is not undone.
fn backward() -> Vec<Point> {
    let mut points = Vec::new();
    for (kind, steps) in kinds() {
        let commit = steps.iter().position(|(_, commit)| *commit).unwrap_or(steps.len());
        let Some((failing, _)) = steps.get(commit.saturating_sub(1)).filter(|_| commit > 0) else { continue };
        for (step, _) in &steps[..commit] {
            for moment in MOMENTS {
                let failing = Some(failing.clone());
                points.push(Point { kind: kind.clone(), step: step.clone(), moment, agents_too: false, failing });
            }
        }
    }
    points
}

#[test]
fn forward_through_every_flow() {
    survive_all(forward(false));
}

#[test]
fn forward_with_every_agent_dying_too() {
    // What agents hold matters where they act.
    let moves = |point: &Point| matches!(point.kind.as_str(), "migrate" | "delete") && point.moment != "recorded";
    survive_all(forward(true).into_iter().filter(moves).collect());
}

#[test]
fn backward_through_every_flow() {
    survive_all(backward());
}

/// The step that commits fails after it took effect. Undoing it learns that it is too late, and the flow goes
/// on: a client is never left between two places.
#[test]
fn backward_from_a_move_that_has_happened() {
    let point = |moment| Point {
        kind: "migrate".into(),
        step: COMMIT_OF_A_MOVE.into(),
        moment,
        agents_too: false,
        failing: Some(COMMIT_OF_A_MOVE.into()),
    };
    survive_all(MOMENTS.map(point).into());
}

/// Tries every point, and tells all that failed together. Each has a thread of its own, named after it.
fn survive_all(points: Vec<Point>) {
    assert!(!points.is_empty());
    let only = std::env::var("KILL_POINT").ok();
    let chosen = points.into_iter().filter(|p| only.as_ref().is_none_or(|only| p.to_string().contains(only)));
    let waiting = Mutex::new(chosen);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(point) = waiting.lock().unwrap().next() else { break };
                    let name = point.to_string();
                    let thread = std::thread::Builder::new().name(name.clone());
                    let work = || tokio::runtime::Runtime::new().unwrap().block_on(survive(point));
                    let survived = thread.spawn(work).unwrap().join().is_ok();
                    println!("{} {name}", if survived { "survived" } else { "NOT SURVIVED" });
                    if !survived {
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "not survived: {failed:#?}");
}

async fn survive(point: Point) {
    let mut product = product().crash_at(&point.to_string());
    if let Some(step) = &point.failing {
        product = product.env("STACKPRO_FAIL_AT", format!("{}/{step}", point.kind));
    }
    let mut app = product.start().await;
    // A server that dies at its start (it launches instances ahead) has seen nobody.
    if app.exited().is_some() {
        assert_eq!(point.kind, "launch", "died too early");
        app.restart().await;
    }
    let case = Case::begin(&mut app, &point).await;
    let marker = app.data().join(format!("crashed-{}", point.to_string().replace(['/', ':'], "-")));
    if !marker.exists() {
        app.wait_exit(WITHIN).await;
    }
    assert!(marker.exists(), "{point}: it ended otherwise:\n{}", app.log_tail());
    if point.agents_too {
        kill_agents(&app);
    }
    app.set_env("STACKPRO_FAIL_AT", None);
    app.restart().await;
    case.ends_right(&mut app, &point).await;
}

/// Ends every agent of this app as kill -9 does.
fn kill_agents(app: &TestApp) {
    for pid in processes_of(app.data()) {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A client to whom a flow happens, and what they were told is stored.
struct Case {
    person: Person,
    site: String,
    portal: Option<Portal>,
}

const FILES: [(&str, &[u8]); 3] =
    [("files/a.txt", b"first"), ("files/b.txt", b"second"), ("site/index.html", b"<h1>Mine</h1>")];

impl Case {
    /// Makes the flow of this point begin.
    async fn begin(app: &mut TestApp, point: &Point) -> Self {
        match point.kind.as_str() {
            "provision" | "launch" => {
                let person = sign_up_whatever_happens(app, point).await;
                Self { person, site: String::new(), portal: None }
            }
            kind => {
                let case = Self::with_files(app).await;
                match kind {
                    "resume" => {
                        tell(app, &["clients", "suspend", &case.person.client]);
                        case.status(app, "suspended").await;
                        tell(app, &["clients", "resume", &case.person.client]);
                    }
                    // The notice changes when the trial is over.
                    "refresh" => time_passes(app, 15).await,
                    "delete" => tell(app, &["clients", "delete", &case.person.client, "--yes"]),
                    "suspend" | "migrate" => tell(app, &["clients", kind, &case.person.client]),
                    other => panic!("say here how a flow of the kind {other} begins"),
                }
                case
            }
        }
    }

    async fn with_files(app: &TestApp) -> Self {
        let person = app.ready_client("Acme Law").await;
        let site = app.deployment(&person).await["url"].as_str().unwrap().to_owned();
        let browser = app.browser();
        browser.log_in(&person.email, PASSWORD).await;
        let portal = browser.portal(&person.client).await;
        let case = Self { person, site, portal: Some(portal.clone()) };
        for (path, body) in FILES {
            assert!(app.put_file(&case.site, &portal, path, body.to_vec()).await.is_success(), "{path}");
        }
        case
    }

    async fn status(&self, app: &TestApp, status: &str) -> Value {
        eventually(&format!("{} is {status}", self.person.client), WITHIN, async || {
            let shown = app.command_json(&["clients", "show", &self.person.client, "--json"]);
            let found = shown["stack"].as_str().is_some_and(|stack| stack.eq_ignore_ascii_case(status));
            found.then_some(shown)
        })
        .await
    }

    async fn ends_right(&self, app: &mut TestApp, point: &Point) {
        nothing_under_way(app).await;
        let undone = point.failing.as_deref().is_some_and(|step| step != COMMIT_OF_A_MOVE);
        match point.kind.as_str() {
            // What was undone is made anew when the operator says so; nothing is left meanwhile.
            "provision" if undone => self.owns(app, &[]),
            "provision" | "launch" => {
                self.status(app, "ready").await;
                self.owns(app, &["bucket", "mail_identity", "record"]);
            }
            "migrate" if !undone => {
                let client = self.status(app, "ready").await;
                assert!(client["instance"]["kind"].as_str().unwrap().eq_ignore_ascii_case("dedicated"), "{client:#}");
                assert_eq!(client["certificate"]["sourceHash"], client["certificate"]["copyHash"]);
                self.owns(app, &["bucket", "instance", "mail_identity", "record"]);
                self.files_are_there(app).await;
            }
            "migrate" | "resume" | "refresh" => {
                self.status(app, "ready").await;
                self.owns(app, &["bucket", "mail_identity", "record"]);
                self.files_are_there(app).await;
            }
            "suspend" => {
                self.status(app, "suspended").await;
                let answer = app.at_host(reqwest::Method::GET, &self.site_now(app), "/").send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                tell(app, &["clients", "resume", &self.person.client]);
                self.status(app, "ready").await;
                nothing_under_way(app).await;
                self.files_are_there(app).await;
            }
            "delete" => drop(gone(app, &self.person.client).await),
            other => panic!("say here how a flow of the kind {other} ends"),
        }
        healthy(app).await;
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
    }

    /// The public address with the port of today.
    fn site_now(&self, app: &TestApp) -> String {
        let host = self.site.split_once("://").unwrap().1.split(':').next().unwrap();
        format!("{host}:{}", app.info().url.rsplit_once(':').unwrap().1)
    }

    async fn files_are_there(&self, app: &TestApp) {
        let portal = self.portal.as_ref().unwrap();
        let site = self.site_now(app);
        for (path, body) in FILES {
            // A revived instance may need a moment; what it answers must be right.
            let found = eventually(&format!("{path} is answered"), WITHIN, async || {
                let (status, found) = app.get_file(&site, portal, path).await;
                (!status.is_server_error()).then_some((status, found))
            })
            .await;
            assert_eq!((found.0, found.1.as_slice()), (StatusCode::OK, body), "{path}");
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

async fn time_passes(app: &TestApp, days: usize) {
    let operator = app.operator().await;
    let browser = app.browser();
    browser.log_in(&operator.email, PASSWORD).await;
    for _ in 0..days {
        let answer = browser.fill("/console/time", "/console/time", &[("advance", "day")]).await;
        assert!(answer.status().is_redirection(), "the time machine: {}", answer.status());
    }
}

/// Every flow is over: none runs, waits or needs attention.
async fn nothing_under_way(app: &TestApp) {
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
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

//! The server, the agents, and both, killed as kill -9 does, at every moment of every step of every flow, while
//! the client works on. The flows and their steps come from the binary itself: a new step is covered by being
//! there.

mod case;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use stackpro_testkit::{TestApp, eventually, processes_of};

use crate::product;
use case::{Case, nothing_under_way};

/// Whole products at once. Most of their time is waiting for a dead node's lease.
const SIDE_BY_SIDE: usize = 8;
/// For whatever must become true. A busy machine takes a multiple of what a quiet one does.
const WITHIN: Duration = Duration::from_mins(5);
const COMMIT_OF_A_MOVE: &str = "cut_over";
const MOMENTS: [&str; 3] = ["before", "after", "recorded"];

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// And is started again.
    Server,
    /// All of them, while the server lives on and has to notice.
    Agents,
    /// The server, then every agent; the server is started again.
    Both,
}

/// Who dies where.
#[derive(Clone, Debug)]
struct Point {
    victim: Victim,
    kind: String,
    step: String,
    moment: &'static str,
    /// The step that fails for good, so that the flow turns back; the kill comes while `step` is undone.
    failing: Option<String>,
}

impl Point {
    /// As the setting wants it.
    fn crash_at(&self) -> String {
        let agents = if self.victim == Victim::Agents { "agents:" } else { "" };
        let undo = if self.failing.is_some() { "undo:" } else { "" };
        format!("{agents}{undo}{}/{}/{}", self.kind, self.step, self.moment)
    }

    /// Before the first instance is launched, and after it is undone, no agent is there to be killed.
    fn has_agents(&self) -> bool {
        match (self.kind.as_str(), self.step.as_str()) {
            ("launch", "role") => false,
            ("launch", "launch") => self.failing.is_some() == (self.moment == "before"),
            _ => true,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both = if self.victim == Victim::Both { "both:" } else { "" };
        write!(f, "{both}{}", self.crash_at())
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

/// Every moment of every step. What is recorded after a step leaves, for who is not the server, the same as
/// what is there before the next one: only after a flow's last step it is a moment of its own.
fn forward(victim: Victim) -> Vec<Point> {
    let mut points = Vec::new();
    for (kind, steps) in kinds() {
        for (at, (step, _)) in steps.iter().enumerate() {
            let is_last = at + 1 == steps.len();
            for moment in MOMENTS.into_iter().filter(|m| victim == Victim::Server || is_last || *m != "recorded") {
                points.push(Point { victim, kind: kind.clone(), step: step.clone(), moment, failing: None });
            }
        }
    }
    points
}

/// Every step that has something before it to undo: it fails, and the kill comes while each step above is
/// undone. What a commit did is not undone.
fn backward(victim: Victim) -> Vec<Point> {
    let mut points = Vec::new();
    for (kind, steps) in kinds() {
        let commit = steps.iter().position(|(_, commit)| *commit).unwrap_or(steps.len());
        let Some((failing, _)) = steps.get(commit.saturating_sub(1)).filter(|_| commit > 0) else { continue };
        for (step, _) in &steps[..commit] {
            for moment in MOMENTS.into_iter().filter(|m| victim == Victim::Server || *m != "recorded") {
                let failing = Some(failing.clone());
                points.push(Point { victim, kind: kind.clone(), step: step.clone(), moment, failing });
            }
        }
    }
    points
}

/// The step that commits fails after it took effect. Undoing it learns that it is too late, and the flow goes
/// on: a client is never left between two places.
fn backward_from_a_move_that_has_happened(victim: Victim) -> Vec<Point> {
    let point = |moment| Point {
        victim,
        kind: "migrate".into(),
        step: COMMIT_OF_A_MOVE.into(),
        moment,
        failing: Some(COMMIT_OF_A_MOVE.into()),
    };
    MOMENTS.map(point).into()
}

#[test]
fn the_server_dies_forward_through_every_flow() {
    survive_all(forward(Victim::Server));
}

#[test]
fn the_server_dies_backward_through_every_flow() {
    survive_all([backward(Victim::Server), backward_from_a_move_that_has_happened(Victim::Server)].concat());
}

#[test]
fn the_agents_die_forward_and_backward_through_every_flow() {
    let forward = forward(Victim::Agents);
    let backward = [backward(Victim::Agents), backward_from_a_move_that_has_happened(Victim::Agents)].concat();
    survive_all(forward.into_iter().chain(backward).filter(Point::has_agents).collect());
}

#[test]
fn both_die_forward_through_every_flow() {
    survive_all(forward(Victim::Both).into_iter().filter(Point::has_agents).collect());
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
                    let began = std::time::Instant::now();
                    let work = || tokio::runtime::Runtime::new().unwrap().block_on(survive(point));
                    let survived = thread.spawn(work).unwrap().join().is_ok();
                    let said = if survived { "survived" } else { "NOT SURVIVED" };
                    println!("{said} {name} in {} s", began.elapsed().as_secs());
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
    let mut product = product().crash_at(&point.crash_at());
    if let Some(step) = &point.failing {
        product = product.env("STACKPRO_FAIL_AT", format!("{}/{step}", point.kind));
    }
    let mut app = product.start().await;
    if point.victim == Victim::Agents {
        // So that there are agents from the first step on.
        if point.kind != "launch" {
            nothing_under_way(&app).await;
        }
        let case = Case::begin(&mut app, &point).await;
        agents_die(&app, &point).await;
        case.ends_right(&mut app, &point).await;
        assert!(app.exited().is_none(), "{point}: the server ended too:\n{}", app.log_tail());
        return;
    }
    // A server that dies at its start (it launches instances ahead) has seen nobody.
    if app.exited().is_some() {
        assert_eq!(point.kind, "launch", "died too early");
        app.restart().await;
    }
    let case = Case::begin(&mut app, &point).await;
    if !marker(&app, &point).exists() {
        app.wait_exit(WITHIN).await;
    }
    assert!(marker(&app, &point).exists(), "{point}: it ended otherwise:\n{}", app.log_tail());
    if point.victim == Victim::Both {
        kill_agents(&app);
    }
    app.restart().await;
    case.follow(&app);
    case.ends_right(&mut app, &point).await;
}

/// Exists once it has happened.
fn marker(app: &TestApp, point: &Point) -> std::path::PathBuf {
    app.data().join(format!("crashed-{}", point.crash_at().replace(['/', ':'], "-")))
}

/// Waits until the server has killed all agents.
async fn agents_die(app: &TestApp, point: &Point) {
    let killed = eventually(&format!("{point}: the agents die"), WITHIN, async || {
        std::fs::read_to_string(marker(app, point)).ok()?.trim().parse::<usize>().ok()
    })
    .await;
    assert!(killed > 0, "{point}: no agent was there");
}

/// Ends every agent of this app as kill -9 does.
fn kill_agents(app: &TestApp) {
    for pid in processes_of(app.data()) {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

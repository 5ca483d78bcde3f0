use proptest::prelude::*;
use serde_json::json;

use super::*;

fn step(name: &str, needs: &[&str], commit: bool) -> Step {
    Step {
        name: name.into(),
        title: name.into(),
        needs: needs.iter().map(|&n| n.into()).collect(),
        commit,
        api: "test".into(),
        max_attempts: 3,
        turn_back: true,
        state: StepState::Pending,
        attempts: 0,
        run_at: 0,
        lease: None,
        fence: 0,
        started_at: None,
        finished_at: None,
        error: None,
        note: None,
        output: Value::Null,
    }
}

fn flow() -> Flow {
    Flow {
        id: "f1".parse().unwrap(),
        kind: "test".into(),
        version: 1,
        subject: "acme".into(),
        params: json!({}),
        state: FlowState::Running,
        undoing: false,
        cause: None,
        created_at: Time(0),
        finished_at: None,
    }
}

/// place → (bucket, record) → commit → release
fn diamond() -> Vec<Step> {
    vec![
        step("place", &[], false),
        step("bucket", &["place"], false),
        step("record", &["place"], false),
        step("commit", &["bucket", "record"], true),
        step("release", &["commit"], false),
    ]
}

fn names<'a>(steps: &'a [Step], picked: &[usize]) -> Vec<&'a str> {
    picked.iter().map(|&i| steps[i].name.as_str()).collect()
}

/// Takes and ends one step.
fn act(flow: &mut Flow, steps: &mut [Step], name: &str, outcome: Outcome, now: i64) {
    let i = steps.iter().position(|s| s.name == name).unwrap();
    assert!(runnable(flow, steps, now).contains(&i), "{name} is not runnable: {steps:#?}");
    let fence = begin(flow, &mut steps[i], "w", now, 100, Time(now));
    end(flow, steps, (name, fence), outcome, now, Time(now)).unwrap();
}

fn done() -> Outcome {
    Outcome::Done(json!(1))
}

#[test]
fn independent_steps_run_side_by_side() {
    let (mut flow, mut steps) = (flow(), diamond());
    assert_eq!(names(&steps, &runnable(&flow, &steps, 0)), ["place"]);
    act(&mut flow, &mut steps, "place", done(), 0);
    assert_eq!(names(&steps, &runnable(&flow, &steps, 0)), ["bucket", "record"]);
    for name in ["bucket", "record", "commit", "release"] {
        act(&mut flow, &mut steps, name, done(), 0);
    }
    assert_eq!(flow.state, FlowState::Done);
    assert_eq!(next_at(&flow, &steps), None);
}

#[test]
fn undo_waits_for_a_forward_step_that_may_still_run() {
    let (mut flow, mut steps) = (flow(), diamond());
    act(&mut flow, &mut steps, "place", done(), 0);
    let fence = begin(&flow, &mut steps[2], "other", 0, 100, Time(0)); // record, slow
    act(&mut flow, &mut steps, "bucket", Outcome::Failed("no".into()), 0);
    assert!(flow.undoing);
    assert_eq!(names(&steps, &runnable(&flow, &steps, 50)), ["bucket"]);
    act(&mut flow, &mut steps, "bucket", Outcome::Undone, 50);
    assert!(runnable(&flow, &steps, 99).is_empty(), "record may still take effect, so place must stay");
    let (mut late_flow, mut late_steps) = (flow.clone(), steps.clone());
    // Either it ends and is undone …
    end(&mut flow, &mut steps, ("record", fence), done(), 99, Time(99)).unwrap();
    act(&mut flow, &mut steps, "record", Outcome::Undone, 99);
    act(&mut flow, &mut steps, "place", Outcome::Undone, 99);
    assert_eq!(flow.state, FlowState::Undone);
    // … or its lease runs out, it is undone as it may have had effect, and its late word is fenced.
    act(&mut late_flow, &mut late_steps, "record", Outcome::Undone, 100);
    assert_eq!(end(&mut late_flow, &mut late_steps, ("record", fence), done(), 101, Time(101)), Err(Fenced));
    act(&mut late_flow, &mut late_steps, "place", Outcome::Undone, 101);
    assert_eq!(late_flow.state, FlowState::Undone);
}

#[test]
fn a_step_that_keeps_failing_parks_with_its_cause_and_can_be_retried() {
    let (mut flow, mut steps) = (flow(), diamond());
    steps[0].turn_back = false;
    let mut now = 0;
    for _ in 0..3 {
        act(&mut flow, &mut steps, "place", Outcome::Retry("no room".into()), now);
        now += 60_000;
    }
    assert_eq!((flow.state, flow.cause.as_deref()), (FlowState::Parked, Some("place: no room")));
    assert!(runnable(&flow, &steps, i64::MAX).is_empty());
    retry(&mut flow, &mut steps, now).unwrap();
    act(&mut flow, &mut steps, "place", done(), now);
    assert_eq!(flow.state, FlowState::Running);
}

#[test]
fn an_undo_that_keeps_failing_parks_and_can_be_retried() {
    let (mut flow, mut steps) = (flow(), diamond());
    act(&mut flow, &mut steps, "place", Outcome::Failed("x".into()), 0);
    let mut now = 0;
    for _ in 0..3 {
        act(&mut flow, &mut steps, "place", Outcome::Retry("busy".into()), now);
        now += 60_000;
    }
    assert_eq!((flow.state, flow.undoing), (FlowState::Parked, true));
    retry(&mut flow, &mut steps, now).unwrap();
    act(&mut flow, &mut steps, "place", Outcome::Undone, now);
    assert_eq!(flow.state, FlowState::Undone);
}

#[test]
fn after_the_commit_a_flow_only_goes_forward() {
    let (mut flow, mut steps) = (flow(), diamond());
    for name in ["place", "bucket", "record", "commit"] {
        act(&mut flow, &mut steps, name, done(), 0);
    }
    act(&mut flow, &mut steps, "release", Outcome::Failed("no".into()), 0);
    assert_eq!((flow.state, flow.undoing), (FlowState::Parked, false));
    assert_eq!(turn_back(&mut flow, &mut steps, 0, Time(0)), Err(Refused::Committed));
    retry(&mut flow, &mut steps, 0).unwrap();
    act(&mut flow, &mut steps, "release", done(), 0);
    assert_eq!(flow.state, FlowState::Done);
}

#[test]
fn an_undo_that_comes_too_late_turns_the_flow_forward_again() {
    let (mut flow, mut steps) = (flow(), diamond());
    for name in ["place", "bucket", "record"] {
        act(&mut flow, &mut steps, name, done(), 0);
    }
    act(&mut flow, &mut steps, "commit", Outcome::Failed("no answer".into()), 0);
    act(&mut flow, &mut steps, "commit", Outcome::TooLate(json!("certificate")), 0);
    assert!(!flow.undoing);
    assert_eq!(steps[3].state, StepState::Done);
    act(&mut flow, &mut steps, "release", done(), 0);
    assert_eq!(flow.state, FlowState::Done);
}

#[test]
fn throttling_and_waiting_are_no_failures() {
    let (mut flow, mut steps) = (flow(), diamond());
    let mut now = 0;
    for _ in 0..10 {
        act(&mut flow, &mut steps, "place", Outcome::Throttled(10, "slow down".into()), now);
        act(&mut flow, &mut steps, "place", Outcome::Later(10, Some("booting".into())), now + 10);
        now += 20;
    }
    assert_eq!((flow.state, steps[0].attempts, next_at(&flow, &steps)), (FlowState::Running, 0, Some(now)));
}

fn outcome(kind: u8, undo: bool) -> Outcome {
    match (kind % 8, undo) {
        (0, _) => Outcome::Later(5, None),
        (1, _) => Outcome::Throttled(5, "t".into()),
        (2, _) => Outcome::Retry("r".into()),
        (3, false) => Outcome::Failed("f".into()),
        (_, false) => done(),
        (_, true) => Outcome::Undone,
    }
}

proptest! {
    /// Whatever happens in whatever order, deaths and late words included: a step never runs before what it
    /// needs, is never undone before what needs it, never executes twice at once, and every flow ends
    /// once failures stop.
    #[test]
    fn every_history_is_lawful_and_ends(moves in proptest::collection::vec((0u8..6, any::<u8>(), any::<u8>()), 0..120)) {
        let (mut flow, mut steps) = (flow(), diamond());
        let mut held: Vec<(String, i64, bool)> = Vec::new();
        let mut now = 0;
        for (kind, a, b) in moves {
            match kind {
                0 | 1 => {
                    let ready = runnable(&flow, &steps, now);
                    if let Some(&i) = ready.get(a as usize % ready.len().max(1)) {
                        let fence = begin(&flow, &mut steps[i], "w", now, 100, Time(now));
                        if flow.undoing {
                            let name = steps[i].name.clone();
                            prop_assert!(!steps.iter().any(|s| s.needs.contains(&name) && s.has_effect()));
                        } else {
                            for need in steps[i].needs.clone() {
                                prop_assert!(steps.iter().any(|s| s.name == need && s.state == StepState::Done));
                            }
                        }
                        held.push((steps[i].name.clone(), fence, flow.undoing));
                    }
                }
                2 | 3 if !held.is_empty() => {
                    let (name, fence, undo) = held.remove(a as usize % held.len());
                    let current = steps.iter().find(|s| s.name == name).unwrap();
                    let valid = current.lease.is_some() && current.fence == fence;
                    let ended = end(&mut flow, &mut steps, (&name, fence), outcome(b, undo), now, Time(now));
                    prop_assert_eq!(ended.is_ok(), valid);
                }
                4 => now += i64::from(a) * 10,
                _ => { let _ = retry(&mut flow, &mut steps, now); }
            }
            prop_assert!(!flow.undoing || !steps.iter().any(|s| s.commit && s.state == StepState::Done && flow.state == FlowState::Undone));
        }
        for _ in 0..60 {
            let _ = retry(&mut flow, &mut steps, now);
            now += 100_000;
            for i in runnable(&flow, &steps, now) {
                let fence = begin(&flow, &mut steps[i], "w", now, 100, Time(now));
                let name = steps[i].name.clone();
                let good = if flow.undoing { Outcome::Undone } else { done() };
                end(&mut flow, &mut steps, (&name, fence), good, now, Time(now)).unwrap();
            }
        }
        prop_assert!(matches!(flow.state, FlowState::Done | FlowState::Undone), "{:?} {:#?}", flow, steps);
        if flow.state == FlowState::Undone {
            prop_assert!(!steps.iter().any(Step::has_effect));
        }
    }
}

//! The store as a journal, with the real runner.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use stackpro_domain::Time;
use stackpro_flow::state::Refused;
use stackpro_flow::{
    Ask, Claim, Ended, FlowSpec, FlowState, Journal, Outcome, Registry, Runner, RunnerConfig, StepState,
};
use stackpro_store::{Store, StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::place::Place;
use crate::sight;
use crate::toy::{self, World};

on_both!(
    every_kind_of_flow_ends_right,
    flows_of_a_subject_run_in_order,
    a_parked_flow_is_retried,
    a_parked_flow_turns_back_only_before_its_commit,
    a_deletion_supersedes_what_is_parked,
    a_deletion_that_parks_waits_for_a_person,
    what_supersedes_waits_for_what_may_still_run,
    an_owner_who_lost_the_lease_is_fenced,
    a_slow_step_keeps_its_lease,
    what_a_node_does_not_know_is_left_for_one_that_does,
    a_flow_goes_on_with_who_knows_it,
    flows_are_listed,
    what_a_dead_node_held_is_taken_over,
);

/// A runner at work, until it is dropped.
pub(crate) struct Working {
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Working {
    pub(crate) fn start(store: &Store, world: &Arc<World>, owner: &str, config: RunnerConfig) -> Self {
        Self::knowing(toy::registry(), store, world, owner, config)
    }

    pub(crate) fn knowing(
        registry: Arc<Registry<World>>,
        store: &Store,
        world: &Arc<World>,
        owner: &str,
        config: RunnerConfig,
    ) -> Self {
        let journal: Arc<dyn Journal> = Arc::new(store.clone());
        let runner = Arc::new(Runner::new(journal, registry, Arc::clone(world), owner.into(), config));
        let (waker, shutdown) = (Arc::clone(&runner), CancellationToken::new());
        store.on_commit(move |committed| {
            if committed.enqueued_flow {
                waker.wake();
            }
        });
        let until = shutdown.clone();
        Self { shutdown, task: Some(tokio::spawn(async move { runner.run(until).await })) }
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn config() -> RunnerConfig {
    RunnerConfig { poll: Duration::from_millis(20), lease: Duration::from_secs(3), ..RunnerConfig::default() }
}

fn ask(owner: &str) -> Ask {
    Ask { owner: owner.into(), lease_ms: 10_000, steps: 8, per_api: 8, known: toy::registry().known() }
}

/// What was claimed by recording an outcome.
fn follows(ended: Ended) -> Vec<Claim> {
    match ended {
        Ended::Recorded(claims) => claims,
        Ended::Fenced => panic!("fenced"),
    }
}

pub(crate) async fn enqueue(store: &Store, flows: &[(&str, &str, &str)]) {
    let mut tx = store.begin().await.unwrap();
    for (id, subject, kind) in flows {
        tx.enqueue_flow(sight::flow(id, subject, kind)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

pub(crate) async fn state(store: &Store, id: &str) -> FlowState {
    store.timeline(&id.parse().unwrap()).await.unwrap().unwrap().flow.state
}

/// Waits until the flow is in this state.
async fn until(store: &Store, id: &str, wanted: FlowState) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while state(store, id).await != wanted {
        let timeline = store.timeline(&id.parse().unwrap()).await.unwrap();
        assert!(tokio::time::Instant::now() < deadline, "{id} is not {wanted:?}: {timeline:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn every_kind_of_flow_ends_right(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let working = Working::start(&store, &world, "w", config());
    let kinds = ["line", "fan", "failing", "too-late", "stumbling"];
    let flows: Vec<_> = kinds.iter().map(|kind| (*kind, *kind, *kind)).collect();
    enqueue(&store, &flows).await;
    enqueue(&store, &flows).await;
    for kind in kinds {
        until(&store, kind, if kind == "failing" { FlowState::Undone } else { FlowState::Done }).await;
    }
    working.stop().await;
    let made = [
        "fan.a",
        "fan.b",
        "fan.c",
        "fan.d",
        "fan.e",
        "fan.z",
        "line.a",
        "line.b",
        "line.c",
        "stumbling.a",
        "too-late.a",
        "too-late.b",
        "too-late.c",
    ];
    assert_eq!(world.made(), made);
    assert_eq!(world.violations(), Vec::<String>::new());

    let failing = store.timeline(&"failing".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(failing.flow.cause.as_deref(), Some("f: no"));
    assert_eq!(failing.flow.finished_at, Some(crate::samples::NOW));
    assert!(failing.steps.iter().all(|step| matches!(step.state, StepState::Undone | StepState::Pending)));
    let stumbling = store.timeline(&"stumbling".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((stumbling.steps[0].attempts, &stumbling.steps[0].output), (1, &json!("made a")));
}

async fn flows_of_a_subject_run_in_order(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let ids: Vec<String> = (0..6).map(|n| format!("f{}", 9 - n)).collect();
    let flows: Vec<_> = ids.iter().map(|id| (id.as_str(), "acme", "line")).collect();
    enqueue(&store, &flows).await;
    enqueue(&store, &[("other", "bolt", "line")]).await;
    assert_eq!(state(&store, "f9").await, FlowState::Running);
    assert_eq!(state(&store, "f8").await, FlowState::Waiting);
    assert_eq!(state(&store, "other").await, FlowState::Running);
    let working = Working::start(&store, &world, "w", config());
    for id in &ids {
        until(&store, id, FlowState::Done).await;
        let later = ids.iter().skip_while(|other| *other != id).skip(2);
        for waiting in later {
            // The one right behind may run by now, but those behind it had to wait for that one.
            let next = store.timeline(&waiting.parse().unwrap()).await.unwrap().unwrap();
            let before = &ids[ids.iter().position(|i| i == waiting).unwrap() - 1];
            assert!(next.flow.state == FlowState::Waiting || state(&store, before).await == FlowState::Done);
        }
    }
    working.stop().await;
}

async fn a_parked_flow_is_retried(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let working = Working::start(&store, &world, "w", config());
    enqueue(&store, &[("f1", "acme", "gated"), ("f2", "acme", "line")]).await;
    until(&store, "f1", FlowState::Parked).await;
    assert_eq!(store.flows_needing_attention().await.unwrap(), 1);
    assert_eq!(state(&store, "f2").await, FlowState::Waiting);
    // Of several who tell of it, one does.
    let (flow, parked_at) = store.untold_flows(10).await.unwrap().remove(0);
    let tellers = (0..4).map(|_| {
        let (store, id) = (store.clone(), flow.id.clone());
        tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            let first = tx.flow_is_told(&id, parked_at).await.unwrap();
            tx.commit().await.unwrap();
            first
        })
    });
    let told = futures::future::join_all(tellers).await;
    assert_eq!(told.into_iter().filter(|first| *first.as_ref().unwrap()).count(), 1);
    assert!(store.untold_flows(10).await.unwrap().is_empty());
    world.open_the_gate();
    let mut tx = store.begin().await.unwrap();
    tx.retry_flow(&"f1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(tx.retry_flow(&"f1".parse().unwrap()).await.unwrap(), Err(Refused::NotParked));
    assert!(matches!(tx.retry_flow(&"none".parse().unwrap()).await, Err(StoreError::Invalid("flow"))));
    tx.commit().await.unwrap();
    until(&store, "f2", FlowState::Done).await;
    assert_eq!(state(&store, "f1").await, FlowState::Done);
    assert_eq!(store.flows_needing_attention().await.unwrap(), 0);
    working.stop().await;
}

async fn a_parked_flow_turns_back_only_before_its_commit(place: Place) {
    let store = place.store().await;
    enqueue(&store, &[("f1", "acme", "gated"), ("f2", "acme", "line")]).await;
    let first = store.claim(&ask("w")).await.unwrap().remove(0);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.turn_back_flow(&"f1".parse().unwrap()).await.unwrap(), Err(Refused::NotParked));
    drop(tx);
    let mut next = follows(store.end(&first.key, Outcome::Done(json!(1)), &ask("w")).await.unwrap());
    store.end(&next.remove(0).key, Outcome::Failed("shut".into()), &ask("w")).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.turn_back_flow(&"f1".parse().unwrap()).await.unwrap(), Err(Refused::Committed));
    drop(tx);

    // Turned back after its undo was refused, it ends, and the next one of its subject starts.
    enqueue(&store, &[("g1", "bolt", "line"), ("g2", "bolt", "line")]).await;
    let claims = store.claim(&ask("w")).await.unwrap();
    let first = claims.iter().find(|claim| claim.flow.id.as_str() == "g1").unwrap();
    let undo = follows(store.end(&first.key, Outcome::Failed("no".into()), &ask("w")).await.unwrap());
    assert!(undo[0].undo);
    let stuck = store.end(&undo[0].key, Outcome::Failed("no undo".into()), &ask("w")).await.unwrap();
    assert!(follows(stuck).is_empty());
    assert_eq!(state(&store, "g1").await, FlowState::Parked);
    let mut tx = store.begin().await.unwrap();
    tx.turn_back_flow(&"g1".parse().unwrap()).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    let undo = store.claim(&ask("w")).await.unwrap();
    store.end(&undo[0].key, Outcome::Undone, &ask("w")).await.unwrap();
    assert_eq!(state(&store, "g1").await, FlowState::Undone);
    assert_eq!(state(&store, "g2").await, FlowState::Running);
}

async fn a_deletion_supersedes_what_is_parked(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let working = Working::start(&store, &world, "w", config());
    // Parked before the deletion comes.
    enqueue(&store, &[("f1", "acme", "gated")]).await;
    until(&store, "f1", FlowState::Parked).await;
    enqueue(&store, &[("f2", "acme", "deleting")]).await;
    until(&store, "f2", FlowState::Done).await;
    assert_eq!(state(&store, "f1").await, FlowState::Abandoned);
    // Parks while the deletion waits.
    enqueue(&store, &[("g1", "bolt", "gated"), ("g2", "bolt", "deleting")]).await;
    until(&store, "g2", FlowState::Done).await;
    assert_eq!(state(&store, "g1").await, FlowState::Abandoned);
    // An ordinary flow waits behind a parked one.
    enqueue(&store, &[("h1", "corp", "gated"), ("h2", "corp", "line")]).await;
    until(&store, "h1", FlowState::Parked).await;
    assert_eq!(state(&store, "h2").await, FlowState::Waiting);
    let untold = store.untold_flows(10).await.unwrap();
    assert_eq!(untold.iter().map(|(flow, _)| flow.id.as_str()).collect::<Vec<_>>(), ["h1"], "the others are abandoned");
    working.stop().await;
}

async fn a_deletion_that_parks_waits_for_a_person(place: Place) {
    let store = place.store().await;
    enqueue(&store, &[("f1", "acme", "deleting")]).await;
    let first = store.claim(&ask("w")).await.unwrap().remove(0);
    let undo = follows(store.end(&first.key, Outcome::Failed("no".into()), &ask("w")).await.unwrap());
    store.end(&undo[0].key, Outcome::Failed("no undo".into()), &ask("w")).await.unwrap();
    assert_eq!(state(&store, "f1").await, FlowState::Parked);
    assert_eq!(store.untold_flows(10).await.unwrap().len(), 1);
    enqueue(&store, &[("f2", "acme", "deleting")]).await;
    assert_eq!(state(&store, "f1").await, FlowState::Abandoned);
    assert!(store.untold_flows(10).await.unwrap().is_empty());
}

async fn what_supersedes_waits_for_what_may_still_run(place: Place) {
    let store = place.store().await;
    enqueue(&store, &[("f1", "acme", "fan")]).await;
    let asking = Ask { lease_ms: 400, ..ask("w") };
    let first = store.claim(&asking).await.unwrap().remove(0);
    let fan = follows(store.end(&first.key, Outcome::Done(json!("made a")), &asking).await.unwrap());
    assert_eq!(fan.len(), 4);
    // b ends the flow's going; c, d and e are still being executed. Its undo fails for good: it parks.
    let undo = follows(store.end(&fan[0].key, Outcome::Failed("no".into()), &asking).await.unwrap());
    assert_eq!(undo.iter().map(|claim| claim.key.step.as_str()).collect::<Vec<_>>(), ["b"]);
    store.end(&undo[0].key, Outcome::Failed("no undo".into()), &asking).await.unwrap();
    assert_eq!(state(&store, "f1").await, FlowState::Parked);
    enqueue(&store, &[("f2", "acme", "deleting")]).await;
    assert_eq!(state(&store, "f1").await, FlowState::Abandoned);
    assert_eq!(state(&store, "f2").await, FlowState::Running);
    assert_eq!(store.claim(&asking).await.unwrap().len(), 0, "steps of f1 may still be running");
    assert!(!store.renew(&fan[1].key, 10_000).await.unwrap(), "what is abandoned comes to rest");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let claims = store.claim(&asking).await.unwrap();
        if !claims.is_empty() {
            assert_eq!(claims[0].flow.id.as_str(), "f2");
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let abandoned = store.timeline(&"f1".parse().unwrap()).await.unwrap().unwrap();
    let latest = abandoned.steps.iter().filter_map(|step| step.lease.as_ref()).map(|lease| lease.until).max();
    assert!(store.now_ms().await.unwrap() >= latest.unwrap());
}

async fn an_owner_who_lost_the_lease_is_fenced(place: Place) {
    let store = place.store().await;
    enqueue(&store, &[("f1", "acme", "line")]).await;
    let brief = Ask { lease_ms: 1, ..ask("slow") };
    let lost = store.claim(&brief).await.unwrap().remove(0);
    let taken = loop {
        if let Some(claim) = store.claim(&ask("fast")).await.unwrap().pop() {
            break claim;
        }
    };
    assert_eq!((taken.key.step.as_str(), taken.key.fence), ("a", lost.key.fence + 1));
    assert!(!store.renew(&lost.key, 1000).await.unwrap());
    store.note(&lost.key, "I am not here").await.unwrap();
    let late = store.end(&lost.key, Outcome::Done(json!("late")), &brief).await.unwrap();
    assert!(matches!(late, Ended::Fenced));
    assert!(store.renew(&taken.key, 1000).await.unwrap());
    store.note(&taken.key, "I am").await.unwrap();
    let timeline = store.timeline(&"f1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(timeline.steps[0].note.as_deref(), Some("I am"));
    let ended = store.end(&taken.key, Outcome::Done(json!("in time")), &ask("fast")).await.unwrap();
    assert_eq!(follows(ended)[0].outputs["a"], json!("in time"));
    let again = store.end(&taken.key, Outcome::Done(json!("again")), &ask("fast")).await.unwrap();
    assert!(matches!(again, Ended::Fenced));
    let unknown = stackpro_flow::LeaseKey { flow_id: "none".parse().unwrap(), ..taken.key };
    assert!(matches!(store.end(&unknown, Outcome::Undone, &ask("x")).await.unwrap(), Ended::Fenced));
}

async fn a_slow_step_keeps_its_lease(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let short = RunnerConfig { lease: Duration::from_millis(400), ..config() };
    let workers = [Working::start(&store, &world, "w1", short.clone()), Working::start(&store, &world, "w2", short)];
    enqueue(&store, &[("f1", "acme", "dawdling")]).await;
    until(&store, "f1", FlowState::Done).await;
    let timeline = store.timeline(&"f1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(timeline.steps[0].fence, 1, "nobody else took it");
    for working in workers {
        working.stop().await;
    }
}

/// Of another build.
static LINE_2: FlowSpec<World> = FlowSpec {
    kind: "line",
    version: 2,
    steps: &[
        toy::step("a", &[], toy::make::<0>, toy::unmake::<0>),
        toy::step("e", &["a"], toy::make::<4>, toy::unmake::<4>),
    ],
    supersedes_parked: false,
};

/// Two builds side by side, as in a rolling deployment: each carries out what it knows.
async fn what_a_node_does_not_know_is_left_for_one_that_does(place: Place) {
    let store = place.store().await;
    let other = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    // More strange ones than a look takes, and due before the one that is known.
    let strange: Vec<String> = (0..70).map(|n| format!("new-{n}")).collect();
    let mut tx = store.begin().await.unwrap();
    for name in &strange {
        tx.enqueue_flow(LINE_2.begin(name.parse().unwrap(), name, &json!(null), Time(1)).unwrap()).await.unwrap();
    }
    tx.commit().await.unwrap();
    enqueue(&store, &[("old", "old", "line")]).await;
    let old = Working::start(&store, &world, "old", config());
    until(&store, "old", FlowState::Done).await;
    // It has nothing to do, and says so: what is strange is not even looked at.
    assert!(store.claim(&ask("old")).await.unwrap().is_empty());
    for name in &strange {
        let timeline = store.timeline(&name.parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((timeline.flow.state, timeline.flow.cause), (FlowState::Running, None));
        assert!(timeline.steps.iter().all(|step| step.state == StepState::Pending && step.attempts == 0));
    }
    let known = toy::registry().known();
    let waiting = store.strange_flows(&known, 0, 9).await.unwrap();
    assert_eq!(waiting.len(), 9);
    assert!(waiting.iter().all(|flow| (flow.kind.as_str(), flow.version) == ("line", 2)));
    assert_eq!(store.strange_flows(&known, 3_600_000, 9).await.unwrap(), [], "not for an hour yet");

    let new = Arc::new(Registry::new(vec![&LINE_2]).unwrap());
    let new = Working::knowing(new, &other, &world, "new", config());
    enqueue(&store, &[("old-2", "old", "line")]).await;
    until(&store, "old-2", FlowState::Done).await;
    for name in &strange {
        until(&store, name, FlowState::Done).await;
    }
    assert_eq!(store.strange_flows(&known, 0, 9).await.unwrap(), []);
    old.stop().await;
    new.stop().await;
    let made = world.made();
    let steps = |step: &str| made.iter().filter(|file| file.split_once('.').is_some_and(|(_, s)| s == step)).count();
    assert_eq!((steps("e"), steps("b")), (70, 2), "the new build's and the old one's: {made:?}");
    assert_eq!(world.violations(), Vec::<String>::new());
}

/// What a node held that died is not taken over by one that does not know it, however long it takes.
async fn a_flow_goes_on_with_who_knows_it(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let mut tx = store.begin().await.unwrap();
    let flow = LINE_2.begin("f1".parse().unwrap(), "acme", &json!(null), Time(1)).unwrap();
    tx.enqueue_flow(flow).await.unwrap();
    tx.commit().await.unwrap();
    let new = Arc::new(Registry::new(vec![&LINE_2]).unwrap());
    let brief = Ask { lease_ms: 1, known: new.known(), ..ask("dead") };
    let claim = store.claim(&brief).await.unwrap().remove(0);
    let claim = follows(store.end(&claim.key, Outcome::Done(json!("made a")), &brief).await.unwrap()).remove(0);
    assert_eq!(claim.key.step, "e");
    let old = Working::start(&store, &world, "old", config());
    enqueue(&store, &[("f2", "bolt", "line"), ("f3", "bolt", "line")]).await;
    until(&store, "f3", FlowState::Done).await;
    let left = store.timeline(&"f1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(
        (left.flow.state, left.steps[1].attempts, left.steps[1].fence),
        (FlowState::Running, 0, claim.key.fence)
    );
    let new = Working::knowing(new, &store, &world, "new", config());
    until(&store, "f1", FlowState::Done).await;
    old.stop().await;
    new.stop().await;
}

async fn flows_are_listed(place: Place) {
    let store = place.store().await;
    enqueue(&store, &[("f1", "acme-law", "line"), ("f2", "acme-law", "fan"), ("f3", "bolt", "line")]).await;
    let ids = |flows: Vec<stackpro_flow::Flow>| flows.into_iter().map(|f| f.id.to_string()).collect::<Vec<_>>();
    let first = store.flows(None, None, 2).await.unwrap();
    let second = store.flows(None, first.next.as_deref(), 2).await.unwrap();
    assert_eq!(
        (ids(first.rows), ids(second.rows), second.next),
        (vec!["f3".into(), "f2".into()], vec!["f1".into()], None)
    );
    assert_eq!(ids(store.flows(Some(FlowState::Waiting), None, 9).await.unwrap().rows), ["f2"]);
    let timelines = store.timelines(&"acme-law".parse().unwrap(), 9).await.unwrap();
    assert_eq!(
        timelines.iter().map(|t| (t.flow.id.as_str(), t.steps.len())).collect::<Vec<_>>(),
        [("f2", 6), ("f1", 3)]
    );
    assert_eq!(store.timeline(&"none".parse().unwrap()).await.unwrap(), None);
}

async fn what_a_dead_node_held_is_taken_over(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    enqueue(&store, &[("f1", "acme", "fan"), ("f2", "bolt", "line")]).await;
    let dead = Ask { lease_ms: 200, ..ask("dead") };
    assert_eq!(store.claim(&dead).await.unwrap().len(), 2);
    let working = Working::start(&store, &world, "alive", config());
    until(&store, "f1", FlowState::Done).await;
    until(&store, "f2", FlowState::Done).await;
    working.stop().await;
    assert_eq!(world.made().len(), 9);
}

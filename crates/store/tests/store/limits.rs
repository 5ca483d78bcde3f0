//! Limits on steps at once, and fairness.

use std::sync::atomic::Ordering;
use std::time::Duration;

use stackpro_flow::{Ask, FlowState, Journal, RunnerConfig};

use crate::flows::{Working, config, state};
use crate::place::Place;
use crate::sight;
use crate::toy::World;

on_both!(an_api_is_never_called_by_more_than_allowed, a_busy_api_holds_up_no_other, who_waits_longest_comes_first);

async fn an_api_is_never_called_by_more_than_allowed(place: Place) {
    let (one, two) = (place.store().await, place.store().await);
    let world = World::new(place.folder.path(), Duration::from_millis(5));
    let mut tx = one.begin().await.unwrap();
    for n in 0..12 {
        tx.enqueue_flow(sight::flow(&format!("f{n}"), &format!("subject-{n}"), "fan")).await.unwrap();
    }
    tx.commit().await.unwrap();
    let few = RunnerConfig { per_api: 3, ..config() };
    let workers = [Working::start(&one, &world, "w1", few.clone()), Working::start(&two, &world, "w2", few)];
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    for n in 0..12 {
        while state(&one, &format!("f{n}")).await != FlowState::Done {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for working in workers {
        working.stop().await;
    }
    assert_eq!(world.busiest.load(Ordering::SeqCst), 3);
    assert_eq!(world.violations(), Vec::<String>::new());
}

async fn a_busy_api_holds_up_no_other(place: Place) {
    let store = place.store().await;
    let mut tx = store.begin().await.unwrap();
    for n in 0..10 {
        tx.enqueue_flow(sight::flow(&format!("f{n}"), &format!("subject-{n}"), "line")).await.unwrap();
    }
    let mut other = sight::flow("z", "other", "line");
    other.steps[0].api = "free".into();
    tx.enqueue_flow(other).await.unwrap();
    tx.commit().await.unwrap();
    let ask = Ask { owner: "w".into(), lease_ms: 60_000, steps: 3, per_api: 2, known: crate::toy::registry().known() };
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.extend(store.claim(&ask).await.unwrap().into_iter().map(|claim| claim.flow.id.to_string()));
    }
    assert!(seen.contains(&"z".to_owned()), "{seen:?}");
    assert_eq!(seen.len(), 3);
}

async fn who_waits_longest_comes_first(place: Place) {
    let store = place.store().await;
    for n in 0..4 {
        let mut tx = store.begin().await.unwrap();
        tx.enqueue_flow(sight::flow(&format!("f{}", 9 - n), &format!("subject-{n}"), "fan")).await.unwrap();
        tx.commit().await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let ask = Ask { owner: "w".into(), lease_ms: 60_000, steps: 2, per_api: 9, known: crate::toy::registry().known() };
    let first: Vec<_> = store.claim(&ask).await.unwrap().into_iter().map(|claim| claim.flow.id.to_string()).collect();
    assert_eq!(first, ["f9", "f8"]);
}

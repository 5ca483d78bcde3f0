//! Nodes that die at any instant: what they held is taken over, everything ends, and nothing is doubled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stackpro_flow::{FlowState, RunnerConfig, StepState};
use stackpro_store::{Options, Store};
use tokio_util::sync::CancellationToken;

use crate::flows::{config, state};
use crate::place::Place;
use crate::sight;
use crate::toy::{self, World};

on_both!(two_nodes_that_die_again_and_again);

const KINDS: [&str; 4] = ["line", "fan", "failing", "too-late"];
const FLOWS: usize = 24;

/// A node with a runtime of its own, whose tasks all end at once when it is dropped, as in a crash.
fn node(place: &Place, world: &Arc<World>, owner: String) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (url, options, world) = (place.url.clone(), Options::new(place.clock.clone()), Arc::clone(world));
    runtime.spawn(async move {
        let store = Store::open(&url, options).await.unwrap();
        let brisk = RunnerConfig { lease: Duration::from_millis(500), concurrency: 8, ..config() };
        let journal: Arc<dyn stackpro_flow::Journal> = Arc::new(store);
        let runner = Arc::new(stackpro_flow::Runner::new(journal, toy::registry(), world, owner, brisk));
        runner.run(CancellationToken::new()).await;
    });
    runtime
}

async fn two_nodes_that_die_again_and_again(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::from_millis(3));
    let mut tx = store.begin().await.unwrap();
    for n in 0..FLOWS {
        let (id, subject) = (format!("f{n:02}"), format!("subject-{}", n % 6));
        tx.enqueue_flow(sight::flow(&id, &subject, KINDS[n % KINDS.len()])).await.unwrap();
    }
    tx.commit().await.unwrap();

    let mut random = StdRng::seed_from_u64(7);
    let mut nodes = [0, 1].map(|n| Some(node(&place, &world, format!("n{n}"))));
    let began = Instant::now();
    let mut deaths = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..120))).await;
        let open = store.flows(Some(FlowState::Running), None, 1).await.unwrap().rows.len();
        if open == 0 {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "not all flows end");
        if deaths < 25 {
            let dies = random.random_range(0..2);
            nodes[dies].take().unwrap().shutdown_background();
            deaths += 1;
            nodes[dies] = Some(node(&place, &world, format!("n{dies}-{deaths}")));
        }
    }
    nodes.into_iter().flatten().for_each(tokio::runtime::Runtime::shutdown_background);
    assert!(deaths > 3, "only {deaths} nodes died");
    check(&store, &world).await;
}

/// Every flow ended as its kind must, and what exists is what those that are done made.
async fn check(store: &Store, world: &World) {
    let mut expected = Vec::new();
    for n in 0..FLOWS {
        let (id, kind) = (format!("f{n:02}"), KINDS[n % KINDS.len()]);
        let timeline = store.timeline(&id.parse().unwrap()).await.unwrap().unwrap();
        let wanted = if kind == "failing" { FlowState::Undone } else { FlowState::Done };
        assert_eq!(state(store, &id).await, wanted, "{timeline:#?}");
        for step in timeline.steps {
            assert_eq!(step.lease, None);
            if step.state == StepState::Done {
                assert_eq!(step.output, format!("made {}", step.name), "{id}");
                expected.push(format!("{id}.{}", step.name));
            }
        }
    }
    expected.sort();
    assert_eq!(world.made(), expected);
    assert_eq!(world.violations(), Vec::<String>::new());
}

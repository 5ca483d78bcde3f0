//! Worker processes that are killed by the operating system in the middle of their work.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stackpro_flow::{FlowState, StepState};

use crate::place::Place;
use crate::sight;
use crate::toy::World;

on_both!(twenty_killed_workers);

const KINDS: [&str; 4] = ["line", "fan", "failing", "too-late"];
const KILLS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(90);

/// Killed when it is dropped, as by `kill -9`.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn worker(place: &Place, owner: usize) -> Worker {
    let mut program: PathBuf = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.push("examples/worker");
    assert!(program.exists(), "{} is missing: cargo build -p stackpro-store --examples", program.display());
    let (folder, owner) = (place.folder.path(), format!("worker-{owner}"));
    Worker(Command::new(program).arg(&place.url).arg(folder).arg(owner).stdin(Stdio::null()).spawn().unwrap())
}

async fn twenty_killed_workers(place: Place) {
    let store = place.store().await;
    let world = World::new(place.folder.path(), Duration::ZERO);
    let mut random = StdRng::seed_from_u64(11);
    let mut enqueued = 0;
    let began = Instant::now();
    for kill in 0..KILLS {
        // Work for each of them, so that each is killed in the middle of some.
        let mut tx = store.begin().await.unwrap();
        for _ in 0..4 {
            let (id, subject) = (format!("f{enqueued:02}"), format!("subject-{}", enqueued % 5));
            tx.enqueue_flow(sight::flow(&id, &subject, KINDS[enqueued % KINDS.len()])).await.unwrap();
            enqueued += 1;
        }
        tx.commit().await.unwrap();
        let killed = worker(&place, kill);
        while !world.worked(killed.0.id()) {
            assert!(began.elapsed() < PATIENCE, "a worker does nothing");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..60))).await;
        drop(killed);
    }
    let last = worker(&place, KILLS);
    loop {
        let open = store.flows(Some(FlowState::Running), None, 1).await.unwrap().rows;
        let Some(first) = open.first() else { break };
        let stuck = store.timeline(&first.id).await.unwrap();
        assert!(began.elapsed() < PATIENCE, "not all flows end: {stuck:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(last);

    let (mut expected, mut taken_over) = (Vec::new(), 0);
    for n in 0..enqueued {
        let id = format!("f{n:02}");
        let timeline = store.timeline(&id.parse().unwrap()).await.unwrap().unwrap();
        let wanted = if KINDS[n % KINDS.len()] == "failing" { FlowState::Undone } else { FlowState::Done };
        assert_eq!(timeline.flow.state, wanted, "{timeline:#?}");
        if ["line", "fan"].contains(&KINDS[n % KINDS.len()]) {
            taken_over += timeline.steps.iter().filter(|step| step.fence > 1).count();
        }
        let done = timeline.steps.iter().filter(|step| step.state == StepState::Done);
        expected.extend(done.map(|step| format!("{id}.{}", step.name)));
    }
    assert!(taken_over > 0, "no worker was killed in the middle of a step");
    expected.sort();
    assert_eq!(world.made(), expected);
    assert_eq!(world.violations(), Vec::<String>::new());
}

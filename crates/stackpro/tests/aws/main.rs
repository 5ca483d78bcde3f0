//! The whole product on AWS: the real binary, real agents, and an emulated account that behaves as AWS is
//! documented to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod boot;
mod emulator;
mod faults;
mod instances;
mod journey;
mod kill;
mod refusals;
mod site;
mod stages;
#[path = "../product/travel.rs"]
mod travel;

use std::sync::Mutex;

/// Tries cases, numbered, some at a time, and tells all that failed together. Each has a thread of its own, named after it.
/// Without more said a few are drawn; `POINT=all` tries all, and `POINT` of a call's name those whose names contain it.
fn in_parallel<F: Future<Output = ()>>(
    side_by_side: usize,
    sample: usize,
    all: usize,
    name: impl Fn(usize) -> String + Sync,
    case: impl Fn(usize) -> F + Sync,
) {
    let chosen: Vec<usize> = match std::env::var("POINT").ok().as_deref() {
        None => drawn(sample, all),
        Some("all") => (0..all).collect(),
        Some(only) => (0..all).filter(|number| name(*number).contains(only)).collect(),
    };
    assert!(!chosen.is_empty(), "there is nothing to try");
    let waiting = Mutex::new(chosen.into_iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..side_by_side {
            scope.spawn(|| {
                loop {
                    let Some(number) = waiting.lock().unwrap().next() else { break };
                    let (name, work) =
                        (name(number), || tokio::runtime::Runtime::new().unwrap().block_on(case(number)));
                    let thread = std::thread::Builder::new().name(name.clone());
                    let survived = std::thread::scope(|inner| thread.spawn_scoped(inner, work).unwrap().join().is_ok());
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

/// One of each section of equal length.
fn drawn(sample: usize, all: usize) -> Vec<usize> {
    let begin = |part: usize| part * all / sample;
    (0..sample).map(|part| rand::random_range(begin(part)..begin(part + 1).max(begin(part) + 1))).collect()
}

//! Executes the toy flows of the store's tests until it is killed: `worker DATABASE-URL FOLDER OWNER`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/store/toy.rs"]
mod toy;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stackpro_domain::{Clock, Time};
use stackpro_flow::{Journal, Runner, RunnerConfig};
use stackpro_store::{Options, Store};
use tokio_util::sync::CancellationToken;

struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time(1)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let [_, url, folder, owner] = std::env::args().collect::<Vec<_>>().try_into().unwrap();
    let store = Store::open(&url, Options::new(Arc::new(Still))).await.unwrap();
    let world = toy::World::new(Path::new(&folder), Duration::from_millis(4));
    let config =
        RunnerConfig { lease: Duration::from_millis(400), poll: Duration::from_millis(10), ..RunnerConfig::default() };
    let journal: Arc<dyn Journal> = Arc::new(store);
    let runner = Arc::new(Runner::new(journal, toy::registry(), world, owner, config));
    runner.run(CancellationToken::new()).await;
}

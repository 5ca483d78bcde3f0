//! Where a test's database is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use stackpro_domain::{Clock, Time};
use stackpro_store::{Options, Store};
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<Hands>,
}

/// A clock that a test sets.
#[derive(Default)]
pub(crate) struct Hands(pub(crate) AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }
}

fn place(url: impl FnOnce(&TempDir) -> String) -> Place {
    let folder = tempfile::tempdir().unwrap();
    Place { url: url(&folder), folder, clock: Arc::new(Hands(AtomicI64::new(crate::samples::NOW.ms()))) }
}

pub(crate) fn sqlite() -> Place {
    place(|folder| format!("sqlite:{}", folder.path().join("stackpro.db").display()))
}

pub(crate) async fn postgres() -> Place {
    let url = stackpro_testkit::postgres::database().await;
    place(|_| url)
}

impl Place {
    pub(crate) async fn store(&self) -> Store {
        Store::open(&self.url, Options::new(self.clock.clone())).await.unwrap()
    }
}

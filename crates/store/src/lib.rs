//! The only crate with SQL: SQLite and PostgreSQL from the same statements.
//!
//! A [`Store`] reads; a [`Tx`] writes rows and enqueues flows, mails and events with them, so that none is
//! ever without the other. It decides nothing: what may follow what is `domain`'s and `flow`'s, as pure
//! functions over the values of [`model`]. The store is also the journal of the flow engine. No call to any
//! other service happens here, so no transaction ever waits for one.
//!
//! Start reading at [`Store::open`]. What differs between the two databases is in `db.rs`, and nowhere else.

mod certificates;
mod clients;
mod costs;
mod db;
mod error;
mod flows;
mod instances;
mod journal;
mod ledger;
mod lists;
mod mail_events;
mod mails;
mod members;
pub mod model;
#[cfg(test)]
mod plans_tests;
mod query;
mod rates;
mod records;
mod reversals;
mod tally;
mod till;
mod trials;
mod usages;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use stackpro_domain::{Clock, Time};

pub use costs::Whose;
use db::{Conn, Db};
pub use error::{Result, StoreError};
pub use model::*;
pub use tally::statements;
pub use trials::Trial;

/// How a store works.
#[derive(Clone)]
pub struct Options {
    /// The business's clock, for the dates that flows and steps show to people. Leases have a clock of their own.
    pub clock: Arc<dyn Clock>,
    /// Connections for reading (SQLite), or for everything (PostgreSQL).
    pub connections: u32,
    /// For a run that is thrown away when it ends (a simulation): this process is the database's only one, so
    /// that leases count on `clock`, too, and SQLite need not wait for the disk.
    pub throwaway: bool,
}

impl Options {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, connections: 8, throwaway: false }
    }
}

/// What a commit brought, for those who wait for it. A hint: whoever acts on it looks for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// There is a step to execute.
    pub enqueued_flow: bool,
    pub queued_mail: bool,
    pub till_event: bool,
    /// Something stopped, and the operators are to be told.
    pub parked: bool,
    /// Clients whose rows or flows changed, by id.
    pub touched: BTreeSet<String>,
}

type Hook = Box<dyn Fn(&Committed) + Send + Sync>;

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    throwaway: bool,
    generation: AtomicU64,
    hooks: RwLock<Vec<Hook>>,
}

/// The database. Cloning it is cheap, and all clones are one.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Opens `sqlite:PATH` (which is made when missing) or `postgres://…`, and brings its tables up to date.
    /// Several processes may do so at once.
    pub async fn open(url: &str, options: Options) -> Result<Self> {
        let db = Db::open(url, options.connections.max(1), options.throwaway).await?;
        Ok(Self(Arc::new(Inner {
            db,
            clock: options.clock,
            throwaway: options.throwaway,
            generation: AtomicU64::new(0),
            hooks: RwLock::new(Vec::new()),
        })))
    }

    /// Grows with every commit of this process, before its hooks are called.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Calls `hook` after every commit that succeeded. It must be quick, and must not wait for the store.
    pub fn on_commit(&self, hook: impl Fn(&Committed) + Send + Sync + 'static) {
        self.0.hooks.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// Begins a transaction. On SQLite it is the only one that writes, and others wait in order.
    pub async fn begin(&self) -> Result<Tx> {
        let conn = self.0.db.begin().await?;
        Ok(Tx { conn, store: self.clone(), committed: Committed::default() })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.read().await?.now().await.map(|_| ())
    }

    /// The database's own time in milliseconds, by which leases are counted.
    pub async fn now_ms(&self) -> Result<i64> {
        self.read().await?.now().await
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.0.db, Db::Pg(_))
    }

    /// Waits for what is under way, and closes all connections.
    pub async fn close(&self) {
        self.0.db.close().await;
    }

    async fn read(&self) -> Result<Conn> {
        self.0.db.read().await
    }

    fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// The time by which leases and waits of the journal count, in milliseconds.
    async fn lease_now(&self, conn: &mut Conn) -> Result<i64> {
        if self.0.throwaway { Ok(self.now().ms()) } else { conn.now().await }
    }
}

/// A transaction: all of it happens, or nothing. Dropping it is taking it back.
pub struct Tx {
    conn: Conn,
    store: Store,
    committed: Committed,
}

impl Tx {
    pub async fn commit(self) -> Result<()> {
        let Self { conn, store, committed } = self;
        let done = conn.commit().await;
        // Also after an error: a commit whose answer was lost may have happened, and caches must not outlive it.
        store.0.generation.fetch_add(1, Ordering::AcqRel);
        done?;
        for hook in store.0.hooks.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(&committed);
        }
        Ok(())
    }

    fn touch(&mut self, subject: &str) {
        if !self.committed.touched.contains(subject) {
            self.committed.touched.insert(subject.to_owned());
        }
    }
}

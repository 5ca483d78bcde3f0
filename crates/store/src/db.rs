//! The one place that knows that there are two databases: how to open, begin, lock, and read their errors.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction};

use crate::error::{Result, StoreError};
use crate::query::q;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a call waits for a connection, and SQLite for another process's transaction.
const PATIENCE: Duration = Duration::from_secs(10);

/// Statements that a connection keeps prepared: all of ours, with some lengths of lists.
const STATEMENTS: usize = 200;

pub(crate) enum Db {
    /// SQLite has one writer at a time: ours queue, in order, for the one connection that writes.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Pg(PgPool),
}

/// A connection to read from, or a transaction.
pub(crate) enum Conn {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
    Pg(PoolConnection<Postgres>),
    PgTx(Transaction<'static, Postgres>),
}

pub(crate) enum Raw<'c> {
    Sqlite(&'c mut SqliteConnection),
    Pg(&'c mut PgConnection),
}

impl Db {
    pub(crate) async fn open(url: &str, connections: u32, throwaway: bool) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return open_sqlite(Path::new(path.trim_start_matches("//")), connections, throwaway).await;
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Unavailable("its address must begin with sqlite: or postgres://".into()));
        }
        let options: PgConnectOptions = url.parse().map_err(error)?;
        let options = options.application_name("stackpro").statement_cache_capacity(STATEMENTS);
        // A connection of its own, because a pool does not say why it has none.
        let mut conn = PgConnection::connect_with(&options).await.map_err(error)?;
        migrate(&mut conn).await?;
        conn.close().await.map_err(error)?;
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
        Ok(Self::Pg(pool.connect_lazy_with(options)))
    }

    pub(crate) async fn read(&self) -> Result<Conn> {
        match self {
            Self::Sqlite { readers, .. } => readers.acquire().await.map(Conn::Sqlite),
            Self::Pg(pool) => pool.acquire().await.map(Conn::Pg),
        }
        .map_err(error)
    }

    pub(crate) async fn begin(&self) -> Result<Conn> {
        match self {
            // A transaction that begins by reading cannot always become a writing one.
            Self::Sqlite { writer, .. } => writer.begin_with("BEGIN IMMEDIATE").await.map(Conn::SqliteTx),
            Self::Pg(pool) => pool.begin().await.map(Conn::PgTx),
        }
        .map_err(error)
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Pg(pool) => pool.close().await,
        }
    }
}

/// `Migrator::run` does the same, and its future cannot be spawned.
async fn migrate(conn: &mut impl Migrate) -> Result<()> {
    MIGRATIONS.run_direct(None, conn, false).await.map_err(migrate_error)
}

async fn open_sqlite(path: &Path, connections: u32, throwaway: bool) -> Result<Db> {
    if path.as_os_str().is_empty() || path.as_os_str().as_encoded_bytes().starts_with(b":memory:") {
        return Err(StoreError::Unavailable("SQLite needs a file: sqlite:PATH".into()));
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if throwaway { SqliteSynchronous::Off } else { SqliteSynchronous::Full })
        .foreign_keys(true)
        .busy_timeout(PATIENCE)
        .statement_cache_capacity(STATEMENTS)
        .pragma("temp_store", "memory")
        // KiB for each connection; what does not fit is in the system's cache, and not in our memory.
        .pragma("cache_size", "-512");
    let pool = |connections| {
        SqlitePoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE).test_before_acquire(false)
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // A new file that gets its journal must be nobody else's for that moment: SQLite does not wait for it.
    let writer = loop {
        match pool(1).connect_with(options.clone()).await.map_err(error) {
            Err(StoreError::Busy(_)) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => break opened?,
        }
    };
    // Two processes may start at once: the second waits here, and finds all done.
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(error)?;
    migrate(&mut *tx).await?;
    tx.commit().await.map_err(error)?;
    let readers = pool(connections).connect_with(options.pragma("query_only", "on")).await.map_err(error)?;
    Ok(Db::Sqlite { writer, readers })
}

/// What is taken one at a time, over all nodes, until the transaction ends.
#[derive(Clone, Copy)]
pub(crate) enum Turn {
    /// Counting the leases of an API, and adding to them.
    Leases = 1,
    /// Counting the clients of an instance, and adding to them.
    Places = 2,
    /// The flows of one subject.
    Subject = 3,
}

impl Conn {
    pub(crate) fn raw(&mut self) -> Raw<'_> {
        match self {
            Self::Sqlite(c) => Raw::Sqlite(c),
            Self::SqliteTx(c) => Raw::Sqlite(c),
            Self::Pg(c) => Raw::Pg(c),
            Self::PgTx(c) => Raw::Pg(c),
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Pg(_) | Self::PgTx(_))
    }

    pub(crate) async fn commit(self) -> Result<()> {
        match self {
            Self::SqliteTx(tx) => tx.commit().await.map_err(error),
            Self::PgTx(tx) => tx.commit().await.map_err(error),
            Self::Sqlite(_) | Self::Pg(_) => Ok(()),
        }
    }

    /// The journal's time in milliseconds: one clock for all who share the database.
    pub(crate) async fn now(&mut self) -> Result<i64> {
        let sql = if self.is_postgres() {
            "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS n"
        } else {
            "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS n"
        };
        q(sql).number(self).await
    }

    /// Waits for its turn at `what`. SQLite's transactions take turns anyway.
    pub(crate) async fn take_turn(&mut self, what: Turn, name: &str) -> Result<()> {
        if self.is_postgres() {
            let sql = "SELECT CAST(0 AS BIGINT) AS n FROM pg_advisory_xact_lock(CAST($1 AS INTEGER), hashtext($2))";
            q(sql).bind(what as i64).bind(name).number(self).await?;
        }
        Ok(())
    }

    /// Waits for its turn at the flows of this flow's subject: before the flow's row is locked, so that all
    /// lock in one order.
    pub(crate) async fn take_turn_of_flow(&mut self, flow: &str) -> Result<()> {
        if self.is_postgres() {
            let sql = "SELECT CAST(0 AS BIGINT) AS n FROM (SELECT pg_advisory_xact_lock(CAST($1 AS INTEGER), hashtext(subject)) \
                FROM flows WHERE id = $2) AS turn";
            q(sql).bind(Turn::Subject as i64).bind(flow).maybe_number(self).await?;
        }
        Ok(())
    }
}

/// What a locking read of the rows called `t` ends with. SQLite's writing transaction is alone already.
pub(crate) const FOR_UPDATE: &str = " FOR UPDATE OF t";
/// The same, leaving out rows that another transaction has.
pub(crate) const FOR_UPDATE_SKIP: &str = " FOR UPDATE OF t SKIP LOCKED";

/// The columns of a violated unique index, as `table_column`, alike on both databases.
pub(crate) fn violated(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error().filter(|e| e.is_unique_violation())?;
    match error.constraint() {
        Some(name) => Some(name.to_owned()),
        None => error.message().rsplit(": ").next().map(|columns| columns.replace('.', "_")),
    }
}

pub(crate) fn error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::PoolTimedOut => StoreError::Busy("no connection became free".into()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
            StoreError::Corrupt(error.to_string())
        }
        sqlx::Error::Database(cause) => {
            let code = cause.code().unwrap_or_default();
            // PostgreSQL: serialization failure, deadlock, lock not available. SQLite: BUSY (5) and LOCKED (6),
            // whose extended codes keep them in the low byte.
            let busy = matches!(&*code, "40001" | "40P01" | "55P03")
                || code.parse::<u32>().is_ok_and(|n| code.len() < 5 && matches!(n & 0xff, 5 | 6));
            if busy { StoreError::Busy(error.to_string()) } else { StoreError::Unavailable(error.to_string()) }
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn migrate_error(cause: MigrateError) -> StoreError {
    match cause {
        MigrateError::Execute(cause) => error(cause),
        MigrateError::VersionMissing(version) => {
            StoreError::Unavailable(format!("it was made by a newer version of this program (migration {version})"))
        }
        other => StoreError::Unavailable(other.to_string()),
    }
}

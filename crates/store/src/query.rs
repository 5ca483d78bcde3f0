//! One statement for both databases: its text, its arguments, and how rows become values.

use std::borrow::Cow;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Row as _, Type};
use stackpro_domain::{ClientId, FlowId, InstanceId, MemberId, ResourceId, Time};

use crate::db::{self, Conn, FOR_UPDATE, FOR_UPDATE_SKIP, Raw};
use crate::error::{Result, StoreError};
use crate::tally;

/// An argument. Each kind keeps its type also when it is NULL, because PostgreSQL plans by types.
pub(crate) enum Arg {
    Number(Option<i64>),
    Bool(bool),
    Text(Option<String>),
}

pub(crate) struct Statement {
    /// Written in this crate: never holds what came from outside.
    sql: Cow<'static, str>,
    args: Vec<Arg>,
    conflicts: &'static [(&'static str, &'static str)],
}

/// A statement with its arguments still to be bound, in the order of `$1`, `$2`…
pub(crate) fn q(sql: &'static str) -> Statement {
    Statement { sql: Cow::Borrowed(sql), args: Vec::new(), conflicts: &[] }
}

/// How many rows one statement writes at most. For each argument SQLite looks through all of them, so that a statement
/// of many takes its time by their square.
pub(crate) const MOST_ROWS: usize = 50;

/// `head ($1,$2),($3,$4) tail`: `rows` rows of `columns` arguments.
pub(crate) fn values(head: &str, columns: usize, rows: usize, tail: &str) -> Statement {
    let mut sql = String::with_capacity(head.len() + tail.len() + columns * rows * 5);
    sql.push_str(head);
    for row in 0..rows {
        sql.push_str(if row == 0 { " (" } else { ", (" });
        push_places(&mut sql, row * columns, columns);
        sql.push(')');
    }
    sql.push_str(tail);
    Statement { sql: Cow::Owned(sql), args: Vec::with_capacity(columns * rows), conflicts: &[] }
}

/// `head ($1,$2,…) tail` with one argument for each key. The list is padded to a power of two, so that few
/// different statements are prepared.
pub(crate) fn among<'k>(head: &str, keys: impl IntoIterator<Item = &'k str>, tail: &str) -> Statement {
    among_after(Vec::new(), head, keys, tail)
}

/// The same, after the arguments that `head` has. Among no keys is nothing.
pub(crate) fn among_after<'k>(
    mut args: Vec<Arg>,
    head: &str,
    keys: impl IntoIterator<Item = &'k str>,
    tail: &str,
) -> Statement {
    let first = args.len();
    args.extend(keys.into_iter().map(Arg::from));
    let padded = first + (args.len() - first).next_power_of_two();
    let last = args[first..].last().map(|arg| if let Arg::Text(text) = arg { text.clone() } else { None });
    args.resize_with(padded, || Arg::Text(last.clone().flatten()));
    let mut sql = format!("{head} (");
    push_places(&mut sql, first, padded - first);
    sql.push(')');
    sql.push_str(tail);
    Statement { sql: Cow::Owned(sql), args, conflicts: &[] }
}

fn push_places(sql: &mut String, from: usize, count: usize) {
    for place in from + 1..=from + count {
        if place > from + 1 {
            sql.push(',');
        }
        sql.push('$');
        sql.push_str(&place.to_string());
    }
}

impl Statement {
    pub(crate) fn bind(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// What a violation of these unique indexes means to the caller.
    pub(crate) fn conflicts(mut self, conflicts: &'static [(&'static str, &'static str)]) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// Locks what it reads (the table called `t`), if `conn` is a transaction.
    pub(crate) fn locking(self, conn: &Conn) -> Self {
        self.ending(matches!(conn, Conn::PgTx(_)), FOR_UPDATE)
    }

    pub(crate) fn locking_free_ones(self, conn: &Conn) -> Self {
        self.ending(matches!(conn, Conn::PgTx(_)), FOR_UPDATE_SKIP)
    }

    fn ending(mut self, wanted: bool, ending: &str) -> Self {
        if wanted {
            self.sql.to_mut().push_str(ending);
        }
        self
    }

    /// Executes it; the number of rows that it touched.
    pub(crate) async fn run(self, conn: &mut Conn) -> Result<u64> {
        tally::count();
        let conflicts = self.conflicts;
        match conn.raw() {
            Raw::Sqlite(c) => self.sqlite().execute(c).await.map(|done| done.rows_affected()),
            Raw::Pg(c) => self.postgres().execute(c).await.map(|done| done.rows_affected()),
        }
        .map_err(|error| explain(error, conflicts))
    }

    pub(crate) async fn all<T: Record>(self, conn: &mut Conn) -> Result<Vec<T>> {
        tally::count();
        let conflicts = self.conflicts;
        match conn.raw() {
            Raw::Sqlite(c) => {
                let rows = self.sqlite().fetch_all(c).await.map_err(|error| explain(error, conflicts))?;
                rows.iter().map(|row| T::read(&Row::Sqlite(row))).collect()
            }
            Raw::Pg(c) => {
                let rows = self.postgres().fetch_all(c).await.map_err(|error| explain(error, conflicts))?;
                rows.iter().map(|row| T::read(&Row::Pg(row))).collect()
            }
        }
    }

    pub(crate) async fn one<T: Record>(self, conn: &mut Conn) -> Result<Option<T>> {
        Ok(self.all(conn).await?.pop())
    }

    /// The column `n` of the one row.
    pub(crate) async fn number(self, conn: &mut Conn) -> Result<i64> {
        let number = self.maybe_number(conn).await?;
        number.ok_or_else(|| StoreError::Corrupt("a count is missing".into()))
    }

    /// The column `n` of the one row, if there is one and it is not NULL.
    pub(crate) async fn maybe_number(self, conn: &mut Conn) -> Result<Option<i64>> {
        Ok(self.one::<Number>(conn).await?.and_then(|number| number.0))
    }

    #[cfg(test)]
    pub(crate) fn explained(mut self, conn: &Conn) -> Self {
        let explain = if conn.is_postgres() { "EXPLAIN " } else { "EXPLAIN QUERY PLAN " };
        self.sql = format!("{explain}{}", self.sql).into();
        self
    }

    fn sqlite(self) -> Query<'static, Sqlite, <Sqlite as sqlx::Database>::Arguments> {
        let query = sqlx::query::<Sqlite>(AssertSqlSafe(self.sql));
        self.args.into_iter().fold(query, |query, arg| match arg {
            Arg::Number(number) => query.bind(number),
            Arg::Bool(bool) => query.bind(bool),
            Arg::Text(text) => query.bind(text),
        })
    }

    fn postgres(self) -> Query<'static, Postgres, <Postgres as sqlx::Database>::Arguments> {
        let query = sqlx::query::<Postgres>(AssertSqlSafe(self.sql));
        self.args.into_iter().fold(query, |query, arg| match arg {
            Arg::Number(number) => query.bind(number),
            Arg::Bool(bool) => query.bind(bool),
            Arg::Text(text) => query.bind(text),
        })
    }
}

fn explain(error: sqlx::Error, conflicts: &[(&str, &'static str)]) -> StoreError {
    let index = db::violated(&error);
    match conflicts.iter().find(|(name, _)| index.as_deref() == Some(name)) {
        Some((_, what)) => StoreError::Conflict(what),
        None => db::error(error),
    }
}

/// A row of either database.
pub(crate) enum Row<'r> {
    Sqlite(&'r SqliteRow),
    Pg(&'r PgRow),
}

/// What a row can be read as.
pub(crate) trait Record: Sized {
    fn read(row: &Row<'_>) -> Result<Self>;
}

struct Number(Option<i64>);

impl Record for Number {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.get("n").map(Self)
    }
}

/// A single column called `id`.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr> Record for Id<T> {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.parse("id").map(Self)
    }
}

impl Row<'_> {
    pub(crate) fn get<T>(&self, column: &'static str) -> Result<T>
    where
        T: for<'d> Decode<'d, Sqlite> + Type<Sqlite> + for<'d> Decode<'d, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Pg(row) => row.try_get(column),
        }
        .map_err(db::error)
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<String> {
        self.get(column)
    }

    pub(crate) fn number(&self, column: &'static str) -> Result<i64> {
        self.get(column)
    }

    /// A count or a size: never below 0.
    pub(crate) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T> {
        let number = self.number(column)?;
        T::try_from(number).map_err(|_| corrupt(column, &number.to_string()))
    }

    pub(crate) fn time(&self, column: &'static str) -> Result<Time> {
        self.number(column).map(Time)
    }

    pub(crate) fn maybe_time(&self, column: &'static str) -> Result<Option<Time>> {
        Ok(self.get::<Option<i64>>(column)?.map(Time))
    }

    pub(crate) fn parse<T: FromStr>(&self, column: &'static str) -> Result<T> {
        let text = self.text(column)?;
        text.parse().map_err(|_| corrupt(column, &text))
    }

    pub(crate) fn maybe_parse<T: FromStr>(&self, column: &'static str) -> Result<Option<T>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| text.parse().map_err(|_| corrupt(column, &text))).transpose()
    }

    pub(crate) fn word<T>(&self, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<T> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| corrupt(column, &text))
    }

    pub(crate) fn maybe_word<T>(&self, column: &'static str, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| parse(&text).ok_or_else(|| corrupt(column, &text))).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        let text = self.text(column)?;
        serde_json::from_str(&text).map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
    }

    pub(crate) fn maybe_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
    }
}

fn corrupt(column: &str, value: &str) -> StoreError {
    StoreError::Corrupt(format!("{column} is {:?}", value.chars().take(80).collect::<String>()))
}

/// What is stored as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(format!("it cannot be written as JSON: {error}")))
}

/// PostgreSQL refuses a NUL in a text, and none of ours has a use for one.
fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

macro_rules! args {
    ($($from:ty => |$value:ident| $arg:expr;)+) => {
        $(impl From<$from> for Arg {
            fn from($value: $from) -> Self {
                $arg
            }
        })+
    };
}

args! {
    i64 => |n| Self::Number(Some(n));
    Option<i64> => |n| Self::Number(n);
    u32 => |n| Self::Number(Some(i64::from(n)));
    // Sizes beyond 8 EiB are stored as that.
    u64 => |n| Self::Number(Some(i64::try_from(n).unwrap_or(i64::MAX)));
    bool => |b| Self::Bool(b);
    Time => |t| Self::Number(Some(t.ms()));
    Option<Time> => |t| Self::Number(t.map(Time::ms));
    &str => |s| Self::Text(Some(clean(s.to_owned())));
    Option<&str> => |s| Self::Text(s.map(str::to_owned).map(clean));
    String => |s| Self::Text(Some(clean(s)));
    Option<String> => |s| Self::Text(s.map(clean));
    &String => |s| Self::Text(Some(clean(s.clone())));
    &Option<String> => |s| Self::Text(s.clone().map(clean));
    &ClientId => |id| Self::Text(Some(id.to_string()));
    &MemberId => |id| Self::Text(Some(id.to_string()));
    &FlowId => |id| Self::Text(Some(id.to_string()));
    &ResourceId => |id| Self::Text(Some(id.to_string()));
    &InstanceId => |id| Self::Text(Some(id.to_string()));
    &Option<ClientId> => |id| Self::Text(id.as_ref().map(ToString::to_string));
    &Option<InstanceId> => |id| Self::Text(id.as_ref().map(ToString::to_string));
    Option<&ClientId> => |id| Self::Text(id.map(ToString::to_string));
}

//! What is known of a month, for [`stackpro_domain::cost`]: for all clients, or for those of a page. The number
//! of statements is the same whatever there is.

use std::collections::BTreeMap;

use stackpro_domain::cost::{Facts, Instance, Returned, Stay, Stored, Term, Used};
use stackpro_domain::{Cents, ClientId, ResourceId, Span, Time};

use crate::Store;
use crate::clients::interval;
use crate::db::Conn;
use crate::error::Result;
use crate::query::{Arg, Id, Record, Row, Statement, among_after, q};

/// Whose month.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    Everyones,
    Clients(&'a [ClientId]),
    /// Of all who were on these instances.
    Instances(&'a [ResourceId]),
}

/// A date, or never.
fn until(row: &Row<'_>, column: &'static str) -> Result<Time> {
    Ok(row.maybe_time(column)?.unwrap_or(Time::NEVER))
}

impl Record for Instance {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            cloud_id: row.maybe_parse("cloud_id")?,
            instance_type: row.text("instance_type")?,
            owner: row.maybe_parse("owner")?,
            span: Span { from: row.time("launched_at")?, until: until(row, "released_at")? },
        })
    }
}

impl Record for Stay {
    fn read(row: &Row<'_>) -> Result<Self> {
        let span = Span { from: row.time("from_at")?, until: until(row, "until_at")? };
        Ok(Self { client: row.parse("client_id")?, instance: row.parse("instance_id")?, span })
    }
}

impl Record for Term {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            client: row.parse("client_id")?,
            plan: row.text("plan")?,
            interval: row.word("billing_interval", interval)?,
            price: row.get::<Option<i64>>("price_cents")?.map(Cents),
            span: Span { from: row.time("from_at")?, until: until(row, "until_at")? },
        })
    }
}

impl Record for Returned {
    fn read(row: &Row<'_>) -> Result<Self> {
        let amount = Cents(row.number("taken_cents")?);
        Ok(Self { client: row.parse("client_id")?, at: row.time("created_at")?, amount })
    }
}

impl Record for Used {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            client: row.parse("client_id")?,
            since: row.time("created_at")?,
            kib_seconds: row.count("kib_seconds")?,
            stores: Vec::new(),
            traffic_bytes: row.count("traffic_bytes")?,
            requests: row.count("requests")?,
            mails: row.count("mails")?,
        })
    }
}

/// What a client stores somewhere now, and when they came.
struct StoredBy(ClientId, Time, Stored);

impl Record for StoredBy {
    fn read(row: &Row<'_>) -> Result<Self> {
        let stored = Stored { bytes: row.count("storage_bytes")?, counted_until: row.time("counted_until")? };
        Ok(Self(row.parse("client_id")?, row.time("created_at")?, stored))
    }
}

/// What was there at any moment of the month: `$1` is its beginning, `$2` its end.
pub(crate) const INSTANCES: &str = "SELECT i.id, i.cloud_id, i.instance_type, i.launched_at, i.released_at, \
    CASE WHEN i.kind = 'dedicated' THEN r.client_id END AS owner FROM instances i LEFT JOIN resources r ON r.id = i.id \
    WHERE i.launched_at < $2 AND (i.released_at IS NULL OR i.released_at > $1)";
pub(crate) const STAYS: &str = "SELECT p.* FROM placements p WHERE p.from_at < $2 \
    AND (p.until_at IS NULL OR p.until_at > $1)";
pub(crate) const TERMS: &str =
    "SELECT t.* FROM terms t WHERE t.from_at < $2 AND (t.until_at IS NULL OR t.until_at > $1)";
pub(crate) const RETURNED: &str = "SELECT r.client_id, r.created_at, r.taken_cents FROM reversals r \
    WHERE r.created_at >= $1 AND r.created_at < $2 AND r.taken_cents > 0";
pub(crate) const USED: &str = "SELECT u.*, c.created_at FROM usage_months u JOIN clients c ON c.id = u.client_id \
    WHERE u.month = $1";
pub(crate) const TRAFFIC: &str =
    "SELECT CAST(coalesce(sum(traffic_bytes), 0) AS BIGINT) AS n FROM usage_months WHERE month = $1";
const STORED: &str = "SELECT u.client_id, u.storage_bytes, u.counted_until, c.created_at FROM stacks s \
    JOIN usages u ON u.client_id = s.client_id AND u.instance_id = s.instance_id JOIN clients c ON c.id = u.client_id \
    WHERE u.counted_until IS NOT NULL";
const OWNED: &str = "SELECT r.id FROM resources r WHERE r.kind = 'instance' AND r.client_id IN";

/// One of the statements above, about all or about these.
fn about<'k>(sql: &'static str, args: &[i64], column: &str, keys: Option<impl Iterator<Item = &'k str>>) -> Statement {
    let bound: Vec<Arg> = args.iter().copied().map(Arg::from).collect();
    match keys {
        Some(keys) => among_after(bound, &format!("{sql} AND {column} IN"), keys, ""),
        None => bound.into_iter().fold(q(sql), Statement::bind),
    }
}

impl Store {
    /// What is known of the month that `now` is in.
    pub async fn month(&self, now: Time, whose: Whose<'_>) -> Result<Facts> {
        let month = Span::month_of(now);
        let conn = &mut self.read().await?;
        let reader = Reader { conn, month };
        reader.read(now, whose).await
    }
}

struct Reader<'c> {
    conn: &'c mut Conn,
    month: Span,
}

impl Reader<'_> {
    async fn read(mut self, now: Time, whose: Whose<'_>) -> Result<Facts> {
        let (from, until) = (self.month.from.ms(), self.month.until.ms());
        let there = match whose {
            Whose::Everyones => None,
            Whose::Instances(ids) => Some(ids.to_vec()),
            Whose::Clients(ids) => Some(self.instances_of(ids).await?),
        };
        let keys = || there.as_ref().map(|ids| ids.iter().map(ResourceId::as_str));
        let instances = about(INSTANCES, &[from, until], "i.id", keys()).all(self.conn).await?;
        let stays: Vec<Stay> = about(STAYS, &[from, until], "p.instance_id", keys()).all(self.conn).await?;
        let clients: Option<Vec<ClientId>> = match whose {
            Whose::Everyones => None,
            Whose::Clients(ids) => Some(ids.to_vec()),
            Whose::Instances(_) => Some(stays.iter().map(|stay| stay.client.clone()).collect()),
        };
        let keys = || clients.as_ref().map(|ids| ids.iter().map(ClientId::as_str));
        let terms = about(TERMS, &[from, until], "t.client_id", keys()).all(self.conn).await?;
        let returned = about(RETURNED, &[from, until], "r.client_id", keys()).all(self.conn).await?;
        let used: Vec<Used> = about(USED, &[from], "u.client_id", keys()).all(self.conn).await?;
        let stored: Vec<StoredBy> = about(STORED, &[], "u.client_id", keys()).all(self.conn).await?;
        let traffic_bytes = q(TRAFFIC).bind(from).number(self.conn).await?.unsigned_abs();
        let used = with_stored(used, stored);
        Ok(Facts { month: self.month, now, instances, stays, used, terms, returned, traffic_bytes })
    }

    /// Where these clients were in the month, and what is their own.
    async fn instances_of(&mut self, clients: &[ClientId]) -> Result<Vec<ResourceId>> {
        let (from, until) = (self.month.from.ms(), self.month.until.ms());
        let keys = || clients.iter().map(ClientId::as_str);
        let stays: Vec<Stay> = about(STAYS, &[from, until], "p.client_id", Some(keys())).all(self.conn).await?;
        let owned: Vec<Id<ResourceId>> = among_after(Vec::new(), OWNED, keys(), "").all(self.conn).await?;
        let mut ids: Vec<ResourceId> = stays.into_iter().map(|stay| stay.instance).collect();
        ids.extend(owned.into_iter().map(|id| id.0));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

fn with_stored(used: Vec<Used>, stored: Vec<StoredBy>) -> Vec<Used> {
    let mut all: BTreeMap<ClientId, Used> = used.into_iter().map(|used| (used.client.clone(), used)).collect();
    for StoredBy(client, since, stored) in stored {
        let new = || Used {
            client: client.clone(),
            since,
            kib_seconds: 0,
            stores: Vec::new(),
            traffic_bytes: 0,
            requests: 0,
            mails: 0,
        };
        all.entry(client.clone()).or_insert_with(new).stores.push(stored);
    }
    all.into_values().collect()
}

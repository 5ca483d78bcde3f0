//! What clients use: as their agents report it, and counted into months.

use std::collections::BTreeMap;

use stackpro_domain::cost::kib_seconds;
use stackpro_domain::{ClientId, ResourceId, Span, Time};

use crate::db::Conn;
use crate::error::Result;
use crate::model::{Counters, Usage, UsageMonth};
use crate::query::{Record, Row, among_after, q, values};
use crate::{Store, Tx};

/// What one instance counted, and whether the client is served from there.
struct UsageThere {
    is_host: bool,
    counted: Usage,
}

impl Record for UsageThere {
    fn read(row: &Row<'_>) -> Result<Self> {
        let counted = Usage {
            storage_bytes: row.count("storage_bytes")?,
            files: row.count("files")?,
            requests: row.count("requests")?,
            traffic_bytes: row.count("traffic_bytes")?,
            reported_at: row.maybe_time("reported_at")?,
        };
        let (host, here): (Option<String>, String) = (row.get("hosting_id")?, row.text("instance_id")?);
        Ok(Self { is_host: host.as_deref() == Some(&here), counted })
    }
}

pub(crate) const USAGE: &str = "SELECT u.*, c.hosting_id FROM usages u JOIN clients c ON c.id = u.client_id \
    WHERE u.client_id = $1";

pub(crate) async fn usage(conn: &mut Conn, client: &ClientId) -> Result<Usage> {
    let mut all: Vec<UsageThere> = q(USAGE).bind(client).all(conn).await?;
    all.sort_by_key(|there| (there.is_host, there.counted.reported_at));
    let Some(present) = all.last().map(|there| there.counted) else { return Ok(Usage::default()) };
    Ok(Usage {
        requests: all.iter().map(|there| there.counted.requests).sum(),
        traffic_bytes: all.iter().map(|there| there.counted.traffic_bytes).sum(),
        ..present
    })
}

impl Record for UsageMonth {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            month: row.time("month")?,
            kib_seconds: row.count("kib_seconds")?,
            storage_bytes: row.count("storage_bytes")?,
            members: row.count("members")?,
            mails: row.count("mails")?,
            requests: row.count("requests")?,
            traffic_bytes: row.count("traffic_bytes")?,
        })
    }
}

pub(crate) const MONTHS: &str = "SELECT * FROM usage_months WHERE client_id = $1 ORDER BY month DESC LIMIT $2";

impl Store {
    pub async fn usage(&self, client: &ClientId) -> Result<Usage> {
        usage(&mut self.read().await?, client).await
    }

    /// The newest month first.
    pub async fn usage_months(&self, client: &ClientId, limit: u32) -> Result<Vec<UsageMonth>> {
        q(MONTHS).bind(client).bind(limit).all(&mut self.read().await?).await
    }
}

/// What is known of a stack since its agent's last report.
#[derive(Default)]
struct Before {
    storage_bytes: u64,
    requests: u64,
    traffic_bytes: u64,
    last_requests: u64,
    last_traffic: u64,
    counted_until: Option<Time>,
}

struct BeforeOf(ClientId, Before);

impl Record for BeforeOf {
    fn read(row: &Row<'_>) -> Result<Self> {
        let before = Before {
            storage_bytes: row.count("storage_bytes")?,
            requests: row.count("requests")?,
            traffic_bytes: row.count("traffic_bytes")?,
            last_requests: row.count("last_requests")?,
            last_traffic: row.count("last_traffic")?,
            counted_until: row.maybe_time("counted_until")?,
        };
        Ok(Self(row.parse("client_id")?, before))
    }
}

/// What is to be added to a month of a client's.
pub(crate) struct Counted {
    pub(crate) client: ClientId,
    pub(crate) month: Time,
    pub(crate) kib_seconds: u64,
    pub(crate) storage_bytes: u64,
    pub(crate) mails: u64,
    pub(crate) requests: u64,
    pub(crate) traffic_bytes: u64,
}

impl Counted {
    pub(crate) fn nothing(client: &ClientId, at: Time) -> Self {
        Self {
            client: client.clone(),
            month: at.month_start(),
            kib_seconds: 0,
            storage_bytes: 0,
            mails: 0,
            requests: 0,
            traffic_bytes: 0,
        }
    }
}

/// Where totals stop, whatever agents say, so that no addition leaves 64 bits.
const MOST: u64 = 1 << 60;
/// Where one count of one thing stops, and what a month adds up of it: 1 PiB. Sums over thousands of clients fit.
const MOST_AT_ONCE: u64 = 1 << 50;

const COUNT: &str = "INSERT INTO usage_months (client_id, month, kib_seconds, storage_bytes, members, mails, requests, \
    traffic_bytes) SELECT v.column1, v.column2, v.column3, v.column4, \
    (SELECT count(*) FROM members m WHERE m.client_id = v.column1), v.column5, v.column6, v.column7 FROM (VALUES";
/// Sums stop at [`MOST`] and [`MOST_AT_ONCE`].
const COUNTED: &str = ") AS v WHERE true ON CONFLICT (client_id, month) DO UPDATE SET \
    kib_seconds = CASE WHEN usage_months.kib_seconds > 1152921504606846976 THEN usage_months.kib_seconds \
        ELSE usage_months.kib_seconds + excluded.kib_seconds END, \
    storage_bytes = CASE WHEN usage_months.storage_bytes > excluded.storage_bytes THEN usage_months.storage_bytes \
        ELSE excluded.storage_bytes END, \
    members = CASE WHEN usage_months.members > excluded.members THEN usage_months.members ELSE excluded.members END, \
    mails = usage_months.mails + excluded.mails, \
    requests = CASE WHEN usage_months.requests > 1125899906842624 THEN usage_months.requests \
        ELSE usage_months.requests + excluded.requests END, \
    traffic_bytes = CASE WHEN usage_months.traffic_bytes > 1125899906842624 THEN usage_months.traffic_bytes \
        ELSE usage_months.traffic_bytes + excluded.traffic_bytes END";

/// Adds a mail to its client's month.
pub(crate) async fn count_mail(conn: &mut Conn, client: &ClientId, at: Time) -> Result<()> {
    count(conn, &[Counted { mails: 1, ..Counted::nothing(client, at) }]).await
}

/// Adds to months. `counted` has no month of a client twice, and comes in the order of the clients, so that two
/// who count the same ones never wait for each other.
pub(crate) async fn count(conn: &mut Conn, counted: &[Counted]) -> Result<()> {
    for chunk in counted.chunks(256) {
        let mut statement = values(COUNT, 7, chunk.len(), COUNTED);
        for row in chunk {
            statement = statement
                .bind(&row.client)
                .bind(row.month)
                .bind(row.kib_seconds.min(MOST))
                .bind(row.storage_bytes)
                .bind(row.mails)
                .bind(row.requests.min(MOST_AT_ONCE))
                .bind(row.traffic_bytes.min(MOST_AT_ONCE));
        }
        statement.run(conn).await?;
    }
    Ok(())
}

/// Counts what was stored since it was last counted, in each month that has passed, and what is new in the last.
fn since(client: &ClientId, before: &Before, now: Time, new: Counted) -> Vec<Counted> {
    let bytes = before.storage_bytes.min(MOST_AT_ONCE);
    let span = Span { from: before.counted_until.unwrap_or(now), until: now };
    let mut months: Vec<Counted> = span
        .months()
        .map(|part| Counted {
            kib_seconds: kib_seconds(bytes, part.ms()),
            storage_bytes: bytes,
            ..Counted::nothing(client, part.from)
        })
        .collect();
    match months.last_mut().filter(|last| last.month == new.month) {
        Some(last) => {
            let (kib_seconds, most) = (last.kib_seconds, last.storage_bytes.max(new.storage_bytes));
            *last = Counted { kib_seconds, storage_bytes: most, ..new };
        }
        None => months.push(new),
    }
    months
}

const BEFORE: &str = "SELECT t.* FROM usages t WHERE t.instance_id = $1 AND t.client_id IN";
const KEEP: &str = "INSERT INTO usages (client_id, instance_id, storage_bytes, files, requests, traffic_bytes, \
    last_requests, last_traffic, reported_at, counted_until) VALUES";
const KEPT: &str = " ON CONFLICT (client_id, instance_id) DO UPDATE SET storage_bytes = excluded.storage_bytes, \
    files = excluded.files, requests = excluded.requests, traffic_bytes = excluded.traffic_bytes, \
    last_requests = excluded.last_requests, last_traffic = excluded.last_traffic, \
    reported_at = excluded.reported_at, counted_until = excluded.counted_until";

impl Tx {
    /// Keeps what an agent counted for its stacks since it started, and counts it into the months. Lock the
    /// instance first: its reports take turns.
    pub async fn record_usages(
        &mut self,
        instance: &ResourceId,
        reported: BTreeMap<ClientId, Counters>,
        reported_at: Time,
    ) -> Result<()> {
        if reported.is_empty() {
            return Ok(());
        }
        let now = self.store.now();
        let mut before = before(&mut self.conn, instance, reported.keys()).await?;
        let mut keep = values(KEEP, 10, reported.len(), KEPT);
        let mut counted = Vec::with_capacity(reported.len());
        for (client, counters) in &reported {
            let before = before.remove(client).unwrap_or_default();
            // A counter below the last one began anew, so all of it is to be added.
            let grown = |now: u64, last: u64| if now < last { now } else { now - last };
            let requests = grown(counters.requests, before.last_requests);
            let traffic_bytes = grown(counters.traffic_bytes, before.last_traffic);
            let counted_until = before.counted_until.map_or(now, |until| until.max(now));
            keep = keep
                .bind(client)
                .bind(instance)
                .bind(counters.storage_bytes)
                .bind(counters.files)
                .bind(before.requests.saturating_add(requests).min(MOST))
                .bind(before.traffic_bytes.saturating_add(traffic_bytes).min(MOST))
                .bind(counters.requests)
                .bind(counters.traffic_bytes)
                .bind(reported_at)
                .bind(counted_until);
            let storage_bytes = counters.storage_bytes.min(MOST_AT_ONCE);
            let new = Counted { storage_bytes, requests, traffic_bytes, ..Counted::nothing(client, now) };
            counted.extend(since(client, &before, now, new));
            self.touch(client.as_str());
        }
        keep.run(&mut self.conn).await?;
        count(&mut self.conn, &counted).await
    }

    /// Counts what the client stored there to its end: it is there no longer.
    pub(crate) async fn end_usage(&mut self, client: &ClientId, instance: &ResourceId) -> Result<()> {
        let now = self.store.now();
        let Some(before) = before(&mut self.conn, instance, [client]).await?.remove(client) else { return Ok(()) };
        let sql = "UPDATE usages SET storage_bytes = 0, files = 0, counted_until = $3 \
            WHERE client_id = $1 AND instance_id = $2";
        q(sql).bind(client).bind(instance).bind(now).run(&mut self.conn).await?;
        count(&mut self.conn, &since(client, &before, now, Counted::nothing(client, now))).await
    }
}

/// What is known of these clients' stacks there; locks it.
async fn before<'c>(
    conn: &mut Conn,
    instance: &ResourceId,
    clients: impl IntoIterator<Item = &'c ClientId>,
) -> Result<BTreeMap<ClientId, Before>> {
    let statement = among_after(vec![instance.into()], BEFORE, clients.into_iter().map(ClientId::as_str), "");
    let rows: Vec<BeforeOf> = statement.locking(conn).all(conn).await?;
    Ok(rows.into_iter().map(|BeforeOf(client, before)| (client, before)).collect())
}

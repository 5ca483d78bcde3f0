//! Pages of long lists, and the dashboard.

use stackpro_domain::lifecycle::State;
use stackpro_domain::{ClientId, MemberId, Time};

use crate::error::{Result, StoreError};
use crate::model::{ClientFilter, ClientSummary, DashboardRow, HostKind, Page, StackPhase};
use crate::query::{Record, Row, q};
use crate::{Store, clients, flows, mail_events, members, usages};

/// Where a page begins: below this row, newest first.
pub(crate) struct Cursor {
    pub(crate) at: i64,
    pub(crate) id: String,
}

impl Cursor {
    pub(crate) fn parse(after: Option<&str>) -> Result<Self> {
        let Some(after) = after else { return Ok(Self { at: i64::MAX, id: String::new() }) };
        let (at, id) = after.split_once('_').ok_or(StoreError::Invalid("cursor"))?;
        let at = at.parse().map_err(|_| StoreError::Invalid("cursor"))?;
        // PostgreSQL refuses a NUL in a text.
        if id.contains('\0') {
            return Err(StoreError::Invalid("cursor"));
        }
        Ok(Self { at, id: id.to_owned() })
    }
}

/// Makes a page of up to `limit` rows, of which one more was asked for.
pub(crate) fn page<T>(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> (Time, &str)) -> Page<T> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| {
        let (at, id) = key(row);
        format!("{}_{id}", at.ms())
    });
    Page { rows, next }
}

impl Record for ClientSummary {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            company: row.text("company")?,
            host: row.text("host")?,
            plan: row.text("plan")?,
            state: row.word("state", State::parse)?,
            stack: row.word("stack", StackPhase::parse)?,
            hosting: row.maybe_word("hosting_kind", HostKind::parse)?,
            owner_email: row.get("owner_email")?,
            next_at: row.maybe_time("next_at")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Store {
    /// The newest first. `after` is an earlier page's `next`; anything else is `Invalid`.
    pub async fn clients(&self, filter: &ClientFilter, after: Option<&str>, limit: u32) -> Result<Page<ClientSummary>> {
        let cursor = Cursor::parse(after)?;
        let sql = "SELECT t.*, i.kind AS hosting_kind, \
            (SELECT min(m.email) FROM members m WHERE m.client_id = t.id AND m.role = 'owner') AS owner_email \
            FROM clients t LEFT JOIN instances i ON i.id = t.hosting_id \
            WHERE (t.created_at < $1 OR (t.created_at = $1 AND t.id < $2)) \
            AND ($3 IS NULL OR t.state = $3) \
            AND ($4 IS NULL OR lower(t.company) LIKE $4 ESCAPE '!' OR t.id LIKE $4 ESCAPE '!' OR EXISTS \
                (SELECT 1 FROM members m WHERE m.client_id = t.id AND m.email LIKE $4 ESCAPE '!')) \
            AND (NOT $5 OR EXISTS (SELECT 1 FROM flows f \
                WHERE f.subject = t.id AND f.finished_at IS NULL AND f.state = 'parked')) \
            ORDER BY t.created_at DESC, t.id DESC LIMIT $6";
        let rows = q(sql)
            .bind(cursor.at)
            .bind(cursor.id)
            .bind(filter.state.map(State::as_str))
            .bind(filter.search.as_deref().and_then(pattern))
            .bind(filter.attention)
            .bind(i64::from(limit) + 1)
            .all(&mut self.read().await?)
            .await?;
        Ok(page(rows, limit, |row: &ClientSummary| (row.created_at, row.id.as_str())))
    }

    /// All that the dashboard of `client` shows to `member`, who need not be theirs. None when there is no
    /// such client or member.
    pub async fn dashboard(&self, client: &ClientId, member: &MemberId) -> Result<Option<DashboardRow>> {
        let since = self.now().month_start();
        let conn = &mut self.read().await?;
        let Some(member) = members::member(conn, member).await? else { return Ok(None) };
        let Some(client) = clients::client(conn, client).await? else { return Ok(None) };
        let timeline = flows::timelines(conn, client.id.as_str(), 1).await?.pop();
        let usage = usages::usage(conn, &client.id).await?;
        let members = members::member_count(conn, &client.id).await?;
        let emails = mail_events::emails_since(conn, &client.id, since).await?;
        Ok(Some(DashboardRow { member, client, timeline, usage, members, emails }))
    }
}

/// `%part%`, with what LIKE would take for more than itself escaped; nothing for an empty search.
fn pattern(search: &str) -> Option<String> {
    let search = search.trim().to_lowercase().replace('\0', "");
    if search.is_empty() {
        return None;
    }
    let escaped = search.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    Some(format!("%{escaped}%"))
}

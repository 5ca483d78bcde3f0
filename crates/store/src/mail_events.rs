//! What the carriers of mails tell about them, and the addresses that get no more mail because of it.

use stackpro_domain::mail::{Fate, MailState};
use stackpro_domain::time::DAY;
use stackpro_domain::{ClientId, Time};

use crate::db::Conn;
use crate::error::Result;
use crate::lists::{Cursor, page};
use crate::model::{MailEvent, Page, Suppression};
use crate::query::{Record, Row, q};
use crate::{Store, Tx, usages};

/// Longer than any carrier tells the same event again.
pub(crate) const KEPT_MS: i64 = 90 * DAY;
pub(crate) const FORGET: &str = "DELETE FROM mail_events WHERE received_at <= $1";
pub(crate) const OF_MAIL: &str = "SELECT * FROM mail_events WHERE mail_id = $1 ORDER BY at, id";
pub(crate) const EMAILS_SINCE: &str = "SELECT count(*) + \
    (SELECT count(*) FROM mails WHERE client_id = $1 AND created_at >= $2 AND kind = 'message') AS n \
    FROM mail_events WHERE client_id = $1 AND at >= $2 AND fate = 'sent'";
pub(crate) const SUPPRESSIONS: &str = "SELECT * FROM suppressions WHERE (since, address) < ($1, $2) \
    ORDER BY since DESC, address DESC LIMIT $3";

impl Record for MailEvent {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            mail_id: row.get("mail_id")?,
            client_id: row.maybe_parse("client_id")?,
            address: row.text("address")?,
            fate: row.word("fate", Fate::parse)?,
            detail: row.text("detail")?,
            at: row.time("at")?,
            received_at: row.time("received_at")?,
        })
    }
}

impl Record for Suppression {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            address: row.text("address")?,
            fate: row.word("fate", Fate::parse)?,
            detail: row.text("detail")?,
            event_id: row.text("event_id")?,
            since: row.time("since")?,
        })
    }
}

/// Where a mail stands before something is told of it.
struct Before {
    state: MailState,
    is_sent: bool,
    client_id: Option<ClientId>,
}

impl Record for Before {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            state: row.word("state", MailState::parse)?,
            is_sent: row.maybe_time("sent_at")?.is_some(),
            client_id: row.maybe_parse("client_id")?,
        })
    }
}

pub(crate) async fn emails_since(conn: &mut Conn, client: &ClientId, since: Time) -> Result<u32> {
    let count = q(EMAILS_SINCE).bind(client).bind(since).number(conn).await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Store {
    /// How many mails this client has sent since then: those that a carrier told of, and what visitors of their
    /// site wrote, from the moment at which it was queued.
    pub async fn emails_since(&self, client: &ClientId, since: Time) -> Result<u32> {
        emails_since(&mut self.read().await?, client, since).await
    }

    /// What was told of a mail of ours, the oldest first.
    pub async fn mail_events(&self, mail: &str) -> Result<Vec<MailEvent>> {
        q(OF_MAIL).bind(mail).all(&mut self.read().await?).await
    }

    /// The newest first. `after` is an earlier page's `next`; anything else is `Invalid`.
    pub async fn suppressions(&self, after: Option<&str>, limit: u32) -> Result<Page<Suppression>> {
        let cursor = Cursor::parse(after)?;
        let statement = q(SUPPRESSIONS).bind(cursor.at).bind(cursor.id).bind(i64::from(limit) + 1);
        let rows = statement.all(&mut self.read().await?).await?;
        Ok(page(rows, limit, |row: &Suppression| (row.since, row.address.as_str())))
    }

    pub async fn suppression(&self, address: &str) -> Result<Option<Suppression>> {
        q("SELECT * FROM suppressions WHERE address = $1").bind(address).one(&mut self.read().await?).await
    }
}

impl Tx {
    /// As [`Store::emails_since`]. Lock the client first: their messages take turns.
    pub async fn emails_since(&mut self, client: &ClientId, since: Time) -> Result<u32> {
        emails_since(&mut self.conn, client, since).await
    }

    /// Keeps what was told, with all that follows from it: where the mail stands, what its client's month counts,
    /// and whether its address gets more. False: it was told before, and nothing changed.
    pub async fn mail_told(&mut self, event: &MailEvent) -> Result<bool> {
        // Whoever has the mail's row writes where it stands: of two events at once each knows the other.
        let locked = q("SELECT t.state, t.sent_at, t.client_id FROM mails t WHERE t.id = $1");
        let locked = locked.bind(&event.mail_id).locking(&self.conn);
        let mail: Option<Before> = locked.one(&mut self.conn).await?;
        let sql = "INSERT INTO mail_events (id, mail_id, client_id, address, fate, detail, at, received_at) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
        let fresh = q(sql)
            .bind(&event.id)
            .bind(&event.mail_id)
            .bind(&event.client_id)
            .bind(&event.address)
            .bind(event.fate.as_str())
            .bind(&event.detail)
            .bind(event.at)
            .bind(event.received_at)
            .run(&mut self.conn)
            .await?;
        if fresh == 0 {
            return Ok(false);
        }
        if let (Some(id), Some(before)) = (&event.mail_id, mail) {
            self.settle_mail(id, before, event.at).await?;
        }
        if let (Some(client), Fate::Sent) = (&event.client_id, event.fate) {
            usages::count_mail(&mut self.conn, client, event.at).await?;
        }
        if event.fate.suppresses() {
            self.suppress(event).await?;
        }
        Ok(true)
    }

    /// Writes where a mail stands by all that was told of it. Whatever is told, it was taken.
    async fn settle_mail(&mut self, mail: &str, before: Before, at: Time) -> Result<()> {
        let told: Vec<MailEvent> = q(OF_MAIL).bind(mail).all(&mut self.conn).await?;
        let Some(weightiest) = told.iter().max_by_key(|event| event.fate) else { return Ok(()) };
        let state = weightiest.fate.state();
        let bad = !matches!(state, MailState::Sent | MailState::Delivered);
        if state != before.state || bad {
            let sql = "UPDATE mails SET state = $2, error = $3, next_at = NULL, sent_at = COALESCE(sent_at, $4) \
                WHERE id = $1";
            let detail = bad.then_some(weightiest.detail.as_str());
            q(sql).bind(mail).bind(state.as_str()).bind(detail).bind(at).run(&mut self.conn).await?;
        }
        match before.client_id {
            Some(client) if !before.is_sent => usages::count_mail(&mut self.conn, &client, at).await,
            _ => Ok(()),
        }
    }

    async fn suppress(&mut self, event: &MailEvent) -> Result<()> {
        let sql = "INSERT INTO suppressions (address, fate, detail, event_id, since) VALUES ($1, $2, $3, $4, $5) \
            ON CONFLICT (address) DO NOTHING";
        q(sql)
            .bind(&event.address)
            .bind(event.fate.as_str())
            .bind(&event.detail)
            .bind(&event.id)
            .bind(event.at)
            .run(&mut self.conn)
            .await?;
        Ok(())
    }

    /// Lets mail through to this address again. False: it was not suppressed.
    pub async fn lift_suppression(&mut self, address: &str) -> Result<bool> {
        Ok(q("DELETE FROM suppressions WHERE address = $1").bind(address).run(&mut self.conn).await? == 1)
    }
}

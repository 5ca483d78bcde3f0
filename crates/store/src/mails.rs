//! Mails to send, messages of visitors, and the audit log.

use stackpro_domain::mail::MailState;
use stackpro_domain::{ClientId, Time};
use uuid::Uuid;

use crate::error::Result;
use crate::lists::{Cursor, page};
use crate::model::{AuditRow, ClaimedMails, Contact, MailAsk, MailFilter, MailLine, OutMail, Page};
use crate::query::{Record, Row, q, values};
use crate::usages;
use crate::{Store, Tx};

impl Record for OutMail {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            client_id: row.maybe_parse("client_id")?,
            kind: row.text("kind")?,
            to: row.text("recipient")?,
            reply_to: row.get("reply_to")?,
            subject: row.text("subject")?,
            text: row.text("text_body")?,
            html: row.text("html_body")?,
            state: row.word("state", MailState::parse)?,
            attempts: row.count("attempts")?,
            error: row.get("error")?,
            created_at: row.time("created_at")?,
            sent_at: row.maybe_time("sent_at")?,
        })
    }
}

impl Record for Contact {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            name: row.text("name")?,
            email: row.text("email")?,
            message: row.text("message")?,
            created_at: row.time("created_at")?,
        })
    }
}

impl Record for AuditRow {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            at: row.time("at")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            client_id: row.maybe_parse("client_id")?,
            detail: row.text("detail")?,
        })
    }
}

impl Record for MailLine {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            client_id: row.maybe_parse("client_id")?,
            kind: row.text("kind")?,
            to: row.text("recipient")?,
            subject: row.text("subject")?,
            state: row.word("state", MailState::parse)?,
            error: row.get("error")?,
            created_at: row.time("created_at")?,
            sent_at: row.maybe_time("sent_at")?,
        })
    }
}

pub(crate) const ANY_DUE: &str = "SELECT next_at AS n FROM mails WHERE next_at <= $1 LIMIT 1";
pub(crate) const DUE: &str = "SELECT t.* FROM mails t WHERE t.next_at <= $1 ORDER BY t.next_at, t.id LIMIT $2";
const SUPPRESS_DUE: &str = "UPDATE mails SET state = 'suppressed', next_at = NULL, error = (SELECT s.fate || ': ' || \
    s.detail FROM suppressions s WHERE s.address = mails.recipient) \
    WHERE next_at <= $1 AND EXISTS (SELECT 1 FROM suppressions s WHERE s.address = mails.recipient)";

macro_rules! select_lines {
    ($condition:literal) => {
        concat!(
            "SELECT id, client_id, kind, recipient, subject, state, error, created_at, sent_at FROM mails \
             WHERE (created_at, id) < ($1, $2)",
            $condition,
            " ORDER BY created_at DESC, id DESC LIMIT $3"
        )
    };
}

/// One statement for each way to narrow the log, so that each is answered from an index.
pub(crate) const LINES: &str = select_lines!("");
pub(crate) const LINES_IN_STATE: &str = select_lines!(" AND state = $4");
pub(crate) const LINES_OF_CLIENT: &str = select_lines!(" AND client_id = $4");
pub(crate) const LINES_OF_CLIENT_IN_STATE: &str = select_lines!(" AND client_id = $4 AND state = $5");

impl Store {
    /// Mails that are to be sent now, the longest due first; nobody else gets them before `ask.until`. Those to
    /// suppressed addresses are marked so, and never among them.
    pub async fn claim_mails(&self, ask: &MailAsk) -> Result<ClaimedMails> {
        let due = q(ANY_DUE).bind(ask.now).maybe_number(&mut self.read().await?).await?;
        if due.is_none() {
            return Ok(ClaimedMails::default());
        }
        let mut tx = self.begin().await?;
        q(SUPPRESS_DUE).bind(ask.now).run(&mut tx.conn).await?;
        let room = match &ask.pace {
            Some(pace) => tx.room("mails", pace.per_second, 1000, pace.at).await?,
            None => ask.limit,
        };
        if room == 0 {
            return Ok(ClaimedMails { full: true, mails: Vec::new() });
        }
        let due = q(DUE).bind(ask.now).bind(room.min(ask.limit)).locking_free_ones(&tx.conn);
        let mails: Vec<OutMail> = due.all(&mut tx.conn).await?;
        if !mails.is_empty() {
            let tail = ") AS v WHERE mails.id = v.column1";
            let update = values("UPDATE mails SET next_at = v.column2 FROM (VALUES", 2, mails.len(), tail);
            let update = mails.iter().fold(update, |update, mail| update.bind(&mail.id).bind(ask.until));
            update.run(&mut tx.conn).await?;
        }
        if ask.pace.is_some() {
            tx.take_room("mails", mails.len() as u32).await?;
        }
        tx.commit().await?;
        Ok(ClaimedMails { full: room < ask.limit && mails.len() as u32 == room, mails })
    }

    /// The log, the newest first. `after` is an earlier page's `next`; anything else is `Invalid`.
    pub async fn mails(&self, filter: &MailFilter, after: Option<&str>, limit: u32) -> Result<Page<MailLine>> {
        let cursor = Cursor::parse(after)?;
        let state = filter.state.map(MailState::as_str);
        let statement = match (&filter.client, state) {
            (None, None) => LINES,
            (None, Some(_)) => LINES_IN_STATE,
            (Some(_), None) => LINES_OF_CLIENT,
            (Some(_), Some(_)) => LINES_OF_CLIENT_IN_STATE,
        };
        let mut statement = q(statement).bind(cursor.at).bind(cursor.id).bind(i64::from(limit) + 1);
        if let Some(client) = &filter.client {
            statement = statement.bind(client);
        }
        if let Some(state) = state {
            statement = statement.bind(state);
        }
        let rows = statement.all(&mut self.read().await?).await?;
        Ok(page(rows, limit, |row: &MailLine| (row.created_at, row.id.as_str())))
    }

    /// How many mails were sent in all.
    pub async fn mails_sent(&self) -> Result<u64> {
        let sql = "SELECT count(*) AS n FROM mails WHERE sent_at IS NOT NULL";
        Ok(q(sql).number(&mut self.read().await?).await?.unsigned_abs())
    }

    /// With its words.
    pub async fn mail(&self, id: &str) -> Result<Option<OutMail>> {
        q("SELECT * FROM mails WHERE id = $1").bind(id).one(&mut self.read().await?).await
    }

    /// The newest first.
    pub async fn contacts(&self, after: Option<&str>, limit: u32) -> Result<Page<Contact>> {
        let cursor = Cursor::parse(after)?;
        let sql = "SELECT * FROM contacts WHERE created_at < $1 OR (created_at = $1 AND id < $2) \
            ORDER BY created_at DESC, id DESC LIMIT $3";
        let statement = q(sql).bind(cursor.at).bind(cursor.id).bind(i64::from(limit) + 1);
        let rows = statement.all(&mut self.read().await?).await?;
        Ok(page(rows, limit, |row: &Contact| (row.created_at, row.id.as_str())))
    }

    /// Of one client, or of all; the newest first.
    pub async fn audit(&self, client: Option<&ClientId>, limit: u32) -> Result<Vec<AuditRow>> {
        let statement = match client {
            Some(client) => {
                q("SELECT * FROM audits WHERE client_id = $1 ORDER BY at DESC, id DESC LIMIT $2").bind(client)
            }
            None => q("SELECT * FROM audits ORDER BY at DESC, id DESC LIMIT $1"),
        };
        statement.bind(limit).all(&mut self.read().await?).await
    }
}

impl Tx {
    /// Idempotent by id. A queued one is due from its `created_at`.
    pub async fn enqueue_mail(&mut self, mail: &OutMail) -> Result<()> {
        let sql = "INSERT INTO mails (id, client_id, kind, recipient, subject, text_body, html_body, state, attempts, \
            error, next_at, created_at, sent_at, reply_to) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
            ON CONFLICT (id) DO NOTHING";
        let queued = mail.state == MailState::Queued;
        q(sql)
            .bind(&mail.id)
            .bind(&mail.client_id)
            .bind(&mail.kind)
            .bind(&mail.to)
            .bind(&mail.subject)
            .bind(&mail.text)
            .bind(&mail.html)
            .bind(mail.state.as_str())
            .bind(mail.attempts)
            .bind(&mail.error)
            .bind(queued.then_some(mail.created_at))
            .bind(mail.created_at)
            .bind(mail.sent_at)
            .bind(&mail.reply_to)
            .run(&mut self.conn)
            .await?;
        self.committed.queued_mail |= queued;
        Ok(())
    }

    /// Whether there is a mail of this id.
    pub async fn has_mail(&mut self, id: &str) -> Result<bool> {
        let found = q("SELECT created_at AS n FROM mails WHERE id = $1").bind(id).maybe_number(&mut self.conn).await?;
        Ok(found.is_some())
    }

    /// A carrier has taken it, which counts in its client's month. What was told of the mail meanwhile says more,
    /// and stays.
    pub async fn mail_sent(&mut self, id: &str, now: Time) -> Result<()> {
        struct Of(Option<ClientId>);
        impl Record for Of {
            fn read(row: &Row<'_>) -> Result<Self> {
                row.maybe_parse("client_id").map(Self)
            }
        }
        let sql = "UPDATE mails SET state = 'sent', sent_at = $2, next_at = NULL, error = NULL \
            WHERE id = $1 AND state = 'queued' RETURNING client_id";
        let sent: Option<Of> = q(sql).bind(id).bind(now).one(&mut self.conn).await?;
        match sent {
            Some(Of(Some(client))) => usages::count_mail(&mut self.conn, &client, now).await,
            _ => Ok(()),
        }
    }

    /// Failed once more: tried again at `next_at`, or never when `give_up`.
    pub async fn mail_failed(&mut self, id: &str, error: &str, next_at: Time, give_up: bool) -> Result<()> {
        let sql = "UPDATE mails SET state = $2, error = $3, next_at = $4, attempts = attempts + 1 \
            WHERE id = $1 AND state = 'queued'";
        let state = if give_up { MailState::Failed } else { MailState::Queued };
        let next_at = (!give_up).then_some(next_at);
        q(sql).bind(id).bind(state.as_str()).bind(error).bind(next_at).run(&mut self.conn).await?;
        Ok(())
    }

    /// Put off without having failed, because the carrier takes no more just now.
    pub async fn mail_put_off(&mut self, id: &str, why: &str, next_at: Time) -> Result<()> {
        let sql = "UPDATE mails SET error = $2, next_at = $3 WHERE id = $1 AND state = 'queued'";
        q(sql).bind(id).bind(why).bind(next_at).run(&mut self.conn).await?;
        Ok(())
    }

    /// Idempotent by id.
    pub async fn insert_contact(&mut self, contact: &Contact) -> Result<()> {
        let sql = "INSERT INTO contacts (id, name, email, message, created_at) VALUES ($1, $2, $3, $4, $5) \
            ON CONFLICT (id) DO NOTHING";
        q(sql)
            .bind(&contact.id)
            .bind(&contact.name)
            .bind(&contact.email)
            .bind(&contact.message)
            .bind(contact.created_at)
            .run(&mut self.conn)
            .await?;
        Ok(())
    }

    pub async fn audit(&mut self, row: &AuditRow) -> Result<()> {
        let sql = "INSERT INTO audits (id, at, actor, action, client_id, detail) VALUES ($1, $2, $3, $4, $5, $6)";
        q(sql)
            .bind(Uuid::now_v7().to_string())
            .bind(row.at)
            .bind(&row.actor)
            .bind(&row.action)
            .bind(&row.client_id)
            .bind(&row.detail)
            .run(&mut self.conn)
            .await?;
        Ok(())
    }
}

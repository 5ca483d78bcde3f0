//! Mails to send, messages of visitors, and the audit log.

use stackpro_domain::{ClientId, Time};
use uuid::Uuid;

use crate::db::Conn;
use crate::error::Result;
use crate::lists::{Cursor, page};
use crate::model::{AuditRow, Contact, MailState, OutMail, Page};
use crate::query::{Record, Row, q};
use crate::usages::{self, Counted};
use crate::{Store, Tx};

impl Record for OutMail {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            client_id: row.maybe_parse("client_id")?,
            kind: row.text("kind")?,
            to: row.text("recipient")?,
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

pub(crate) const QUEUED: &str = "SELECT * FROM mails WHERE next_at <= $1 ORDER BY next_at, id LIMIT $2";
pub(crate) const EMAILS_SINCE: &str =
    "SELECT count(*) AS n FROM mails WHERE client_id = $1 AND created_at >= $2 AND state <> 'failed'";

pub(crate) async fn emails_since(conn: &mut Conn, client: &ClientId, since: Time) -> Result<u32> {
    let count = q(EMAILS_SINCE).bind(client).bind(since).number(conn).await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

impl Store {
    /// Mails that are to be sent now, the longest due first.
    pub async fn queued_mails(&self, now: Time, limit: u32) -> Result<Vec<OutMail>> {
        q(QUEUED).bind(now).bind(limit).all(&mut self.read().await?).await
    }

    /// Those of one client, the newest first.
    pub async fn mails_of(&self, client: &ClientId, limit: u32) -> Result<Vec<OutMail>> {
        let sql = "SELECT * FROM mails WHERE client_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2";
        q(sql).bind(client).bind(limit).all(&mut self.read().await?).await
    }

    /// How many mails were sent in all.
    pub async fn mails_sent(&self) -> Result<u64> {
        let sql = "SELECT count(*) AS n FROM mails WHERE sent_at IS NOT NULL";
        Ok(q(sql).number(&mut self.read().await?).await?.unsigned_abs())
    }

    /// How many mails went to this client, or are about to, since the month began.
    pub async fn emails_this_month(&self, client: &ClientId, since: Time) -> Result<u32> {
        emails_since(&mut self.read().await?, client, since).await
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
            error, next_at, created_at, sent_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
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
            .run(&mut self.conn)
            .await?;
        self.committed.queued_mail |= queued;
        Ok(())
    }

    /// Delivered to whoever carries it; the first time counts, also in its client's month.
    pub async fn mail_sent(&mut self, id: &str, now: Time) -> Result<()> {
        struct Of(Option<ClientId>);
        impl Record for Of {
            fn read(row: &Row<'_>) -> Result<Self> {
                row.maybe_parse("client_id").map(Self)
            }
        }
        let sql = "UPDATE mails SET state = 'sent', sent_at = $2, next_at = NULL, error = NULL \
            WHERE id = $1 AND state <> 'sent' RETURNING client_id";
        let sent: Option<Of> = q(sql).bind(id).bind(now).one(&mut self.conn).await?;
        match sent {
            Some(Of(Some(client))) => {
                let one = Counted { mails: 1, ..Counted::nothing(&client, now) };
                usages::count(&mut self.conn, &[one]).await
            }
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

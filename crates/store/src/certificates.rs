//! Certificates of a CA, and the way to the next one. One node at a time works on a row: it claims it by
//! moving its date on, and writes only as long as nobody claimed it after.

use stackpro_domain::Time;

use crate::db::Conn;
use crate::error::Result;
use crate::model::CertificateRow;
use crate::query::{Record, Row, q};
use crate::{Store, Tx};

impl Record for CertificateRow {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            domain: row.text("domain")?,
            directory: row.get("directory")?,
            sealed: row.get("sealed")?,
            fingerprint: row.maybe_parse("fingerprint")?,
            not_before: row.maybe_time("not_before")?,
            not_after: row.maybe_time("not_after")?,
            renew_at: row.maybe_time("renew_at")?,
            progress: row.get("progress")?,
            ordered_at: row.maybe_time("ordered_at")?,
            published: row.get("published")?,
            attempts: row.count("attempts")?,
            error: row.get("error")?,
            next_at: row.time("next_at")?,
            fence: row.number("fence")?,
        })
    }
}

async fn certificate(conn: &mut Conn, domain: &str) -> Result<Option<CertificateRow>> {
    q("SELECT * FROM certificates WHERE domain = $1").bind(domain).one(conn).await
}

impl Store {
    pub async fn certificate(&self, domain: &str) -> Result<Option<CertificateRow>> {
        certificate(&mut self.read().await?, domain).await
    }
}

impl Tx {
    /// Takes the domain's row, which is made when it is missing, for `lease_ms`. None while someone else has
    /// it, or it is to rest.
    pub async fn claim_certificate(&mut self, domain: &str, lease_ms: i64) -> Result<Option<CertificateRow>> {
        let sql = "INSERT INTO certificates (domain, published, attempts, next_at, fence) VALUES ($1, $2, 0, 0, 0) \
            ON CONFLICT (domain) DO NOTHING";
        q(sql).bind(domain).bind(false).run(&mut self.conn).await?;
        let now = self.conn.now().await?;
        let sql = "UPDATE certificates SET next_at = $2, fence = fence + 1 WHERE domain = $1 AND next_at <= $3";
        let claimed = q(sql).bind(domain).bind(now + lease_ms).bind(now).run(&mut self.conn).await?;
        if claimed == 0 { Ok(None) } else { certificate(&mut self.conn, domain).await }
    }

    /// Writes a row that was claimed, and keeps it for `next_in_ms` from now: a further lease, or how long it
    /// is to rest. False, and nothing is written, when someone else has claimed it meanwhile.
    pub async fn update_certificate(&mut self, row: &CertificateRow, next_in_ms: i64) -> Result<bool> {
        let now = self.conn.now().await?;
        let sql = "UPDATE certificates SET directory = $3, sealed = $4, fingerprint = $5, not_before = $6, \
            not_after = $7, renew_at = $8, progress = $9, ordered_at = $10, published = $11, attempts = $12, \
            error = $13, next_at = $14 WHERE domain = $1 AND fence = $2";
        let written = q(sql)
            .bind(&row.domain)
            .bind(row.fence)
            .bind(&row.directory)
            .bind(&row.sealed)
            .bind(row.fingerprint.as_ref().map(ToString::to_string))
            .bind(row.not_before)
            .bind(row.not_after)
            .bind(row.renew_at)
            .bind(&row.progress)
            .bind(row.ordered_at)
            .bind(row.published)
            .bind(row.attempts)
            .bind(&row.error)
            .bind(Time(now + next_in_ms))
            .run(&mut self.conn)
            .await?;
        Ok(written == 1)
    }
}

//! Refunds and disputes, as the till told of them last.

use stackpro_domain::reversal::{Reversal, ReversalKind};
use stackpro_domain::{Cents, ClientId};

use crate::error::Result;
use crate::query::{Record, Row, q};
use crate::{Store, Tx};

impl Record for Reversal {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            kind: row.word("kind", ReversalKind::parse)?,
            charge: row.text("charge")?,
            amount: Cents(row.number("amount_cents")?),
            state: row.text("state")?,
            reason: row.get("reason")?,
            created_at: row.time("created_at")?,
            due_at: row.maybe_time("due_at")?,
        })
    }
}

/// With whose it is.
struct Of(ClientId, Reversal);

impl Record for Of {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self(row.parse("client_id")?, Reversal::read(row)?))
    }
}

pub(crate) const OF_CLIENT: &str =
    "SELECT * FROM reversals WHERE client_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2";
pub(crate) const UNANSWERED: &str =
    "SELECT * FROM reversals WHERE answer_by IS NOT NULL ORDER BY answer_by, id LIMIT $1";

impl Store {
    /// A client's, the newest first.
    pub async fn reversals_of(&self, client: &ClientId, limit: u32) -> Result<Vec<Reversal>> {
        q(OF_CLIENT).bind(client.as_str()).bind(limit).all(&mut self.read().await?).await
    }

    /// Disputes that wait for an answer, the most urgent first, with whose they are.
    pub async fn unanswered_disputes(&self, limit: u32) -> Result<Vec<(ClientId, Reversal)>> {
        let found: Vec<Of> = q(UNANSWERED).bind(limit).all(&mut self.read().await?).await?;
        Ok(found.into_iter().map(|Of(client, reversal)| (client, reversal)).collect())
    }
}

impl Tx {
    /// As it is at the till now, whether or not it was known. Whose it is never changes.
    pub async fn put_reversal(&mut self, client: &ClientId, reversal: &Reversal) -> Result<()> {
        let sql = "INSERT INTO reversals (id, client_id, kind, charge, amount_cents, taken_cents, state, reason, \
            created_at, due_at, answer_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
            ON CONFLICT (id) DO UPDATE SET amount_cents = excluded.amount_cents, \
            taken_cents = excluded.taken_cents, state = excluded.state, reason = excluded.reason, \
            due_at = excluded.due_at, answer_by = excluded.answer_by";
        q(sql)
            .bind(&reversal.id)
            .bind(client.as_str())
            .bind(reversal.kind.as_str())
            .bind(&reversal.charge)
            .bind(reversal.amount.0)
            .bind(reversal.taken().0)
            .bind(&reversal.state)
            .bind(&reversal.reason)
            .bind(reversal.created_at)
            .bind(reversal.due_at)
            .bind(reversal.answer_by())
            .run(&mut self.conn)
            .await?;
        Ok(())
    }
}

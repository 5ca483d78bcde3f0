//! Who has had their one trial. The row of a claimant is locked by whoever signs up for them or confirms an address of
//! theirs, so that of several at once one comes first.

use stackpro_domain::{ClientId, Time};

use crate::Tx;
use crate::error::Result;
use crate::query::{Id, Record, Row, q};

/// Clients without a confirmed address that lose the same trial at once; more lose it when they confirm theirs.
const RIVALS: i64 = 200;

/// What became of a client's trial when its address was confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// No rule is about this client.
    Free,
    /// It is theirs. These others had signed up for the same.
    Held { rivals: Vec<ClientId> },
    /// Another client's.
    Lost,
}

struct Holder(Option<ClientId>);

impl Record for Holder {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.maybe_parse("holder").map(Self)
    }
}

struct Claimant(String);

impl Record for Claimant {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.text("claimant").map(Self)
    }
}

impl Tx {
    /// Whose trial it is, if anyone's. Until this transaction ends nobody else signs up or confirms for the same
    /// claimant; to be called before anything else is written.
    pub async fn trial_holder(&mut self, claimant: &str) -> Result<Option<ClientId>> {
        let sql = "INSERT INTO trials (claimant) VALUES ($1) \
            ON CONFLICT (claimant) DO UPDATE SET claimant = excluded.claimant RETURNING holder";
        let found: Option<Holder> = q(sql).bind(claimant).one(&mut self.conn).await?;
        Ok(found.and_then(|found| found.0))
    }

    /// This new client signed up for this claimant, whom [`Tx::trial_holder`] was asked about.
    pub async fn claim_trial(&mut self, client: &ClientId, claimant: &str) -> Result<()> {
        let sql = "INSERT INTO trial_claims (client_id, claimant) VALUES ($1, $2)";
        q(sql).bind(client).bind(claimant).run(&mut self.conn).await?;
        Ok(())
    }

    /// The client's owner confirmed their address: the trial is theirs, if it is nobody's yet.
    pub async fn hold_trial(&mut self, client: &ClientId, now: Time) -> Result<Trial> {
        let sql = "SELECT claimant FROM trial_claims WHERE client_id = $1";
        let found: Option<Claimant> = q(sql).bind(client).one(&mut self.conn).await?;
        let Some(Claimant(claimant)) = found else { return Ok(Trial::Free) };
        let holder = self.trial_holder(&claimant).await?;
        if holder.as_ref().is_some_and(|holder| holder != client) {
            return Ok(Trial::Lost);
        }
        let sql = "UPDATE trials SET holder = $2, held_at = $3 WHERE claimant = $1 AND holder IS NULL";
        q(sql).bind(&claimant).bind(client).bind(now).run(&mut self.conn).await?;
        let sql = "SELECT client_id AS id FROM trial_claims WHERE claimant = $1 AND client_id <> $2 \
            ORDER BY client_id LIMIT $3";
        let rivals: Vec<Id<ClientId>> = q(sql).bind(&claimant).bind(client).bind(RIVALS).all(&mut self.conn).await?;
        Ok(Trial::Held { rivals: rivals.into_iter().map(|id| id.0).collect() })
    }
}

//! Events of the till: kept by their id in the transaction that answers for them, handled later.

use stackpro_domain::Time;

use crate::error::Result;
use crate::flows::Untold;
use crate::model::{TillEvent, TillEventState};
use crate::query::{MOST_ROWS, Record, Row, q, values};
use crate::{Store, Tx};

impl Record for TillEvent {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?,
            kind: row.text("kind")?,
            payload: row.text("payload")?,
            state: row.word("state", TillEventState::parse)?,
            attempts: row.count("attempts")?,
            error: row.get("error")?,
            received_at: row.time("received_at")?,
            handled_at: row.maybe_time("handled_at")?,
        })
    }
}

struct New(String);

impl Record for New {
    fn read(row: &Row<'_>) -> Result<Self> {
        row.text("id").map(Self)
    }
}

pub(crate) const DUE: &str = "SELECT * FROM till_events WHERE next_at <= $1 ORDER BY next_at, id LIMIT $2";
pub(crate) const PARKED: &str = "SELECT * FROM till_events WHERE state = 'parked' ORDER BY received_at, id LIMIT $1";
pub(crate) const UNTOLD: &str = "SELECT * FROM till_events WHERE untold_at IS NOT NULL ORDER BY untold_at, id LIMIT $1";
const PARKED_COUNT: &str = "SELECT count(*) AS n FROM till_events WHERE state = 'parked'";

impl Store {
    /// Events to handle now, the longest due first. `now_ms`: milliseconds of the business's clock.
    pub async fn till_events_due(&self, now_ms: i64, limit: u32) -> Result<Vec<TillEvent>> {
        q(DUE).bind(now_ms).bind(limit).all(&mut self.read().await?).await
    }

    /// Events that wait for a person, the oldest first.
    pub async fn till_events_parked(&self, limit: u32) -> Result<Vec<TillEvent>> {
        q(PARKED).bind(limit).all(&mut self.read().await?).await
    }

    /// How many events wait for a person.
    pub async fn till_events_needing_attention(&self) -> Result<u64> {
        Ok(q(PARKED_COUNT).number(&mut self.read().await?).await?.unsigned_abs())
    }

    /// Parked events of which no operator has been told, with when they parked; the longest parked first.
    pub async fn untold_till_events(&self, limit: u32) -> Result<Vec<(TillEvent, Time)>> {
        let found: Vec<Untold<TillEvent>> = q(UNTOLD).bind(limit).all(&mut self.read().await?).await?;
        Ok(found.into_iter().map(|Untold(event, at)| (event, at)).collect())
    }

    pub async fn till_event(&self, id: &str) -> Result<Option<TillEvent>> {
        q("SELECT * FROM till_events WHERE id = $1").bind(id).one(&mut self.read().await?).await
    }
}

impl Tx {
    /// False: it is known already, and nothing changed. A received one is due from its `received_at`.
    pub async fn insert_till_event(&mut self, event: &TillEvent) -> Result<bool> {
        Ok(self.insert_till_events(std::slice::from_ref(event)).await?.pop().unwrap_or(false))
    }

    /// The same for many at once; the answers are in the order of `events`.
    pub async fn insert_till_events(&mut self, events: &[TillEvent]) -> Result<Vec<bool>> {
        let mut fresh = Vec::with_capacity(events.len());
        for chunk in events.chunks(MOST_ROWS) {
            let head = "INSERT INTO till_events (id, kind, payload, state, attempts, error, next_at, received_at, \
                handled_at) VALUES";
            let tail = " ON CONFLICT (id) DO NOTHING RETURNING id";
            let insert = chunk.iter().fold(values(head, 9, chunk.len(), tail), |insert, event| {
                let due = (event.state == TillEventState::Received).then_some(event.received_at);
                insert
                    .bind(&event.id)
                    .bind(&event.kind)
                    .bind(&event.payload)
                    .bind(event.state.as_str())
                    .bind(event.attempts)
                    .bind(&event.error)
                    .bind(due)
                    .bind(event.received_at)
                    .bind(event.handled_at)
            });
            let mut new: Vec<New> = insert.all(&mut self.conn).await?;
            // The same event twice in one group is new once.
            fresh.extend(chunk.iter().map(|event| {
                let at = new.iter().position(|new| new.0 == event.id);
                at.map(|at| new.swap_remove(at)).is_some()
            }));
        }
        self.committed.till_event |= fresh.contains(&true);
        Ok(fresh)
    }

    /// Sets a parked one to be handled again now, with all its attempts before it. False: it is not parked.
    pub async fn retry_till_event(&mut self, id: &str, now: Time) -> Result<bool> {
        let sql = "UPDATE till_events SET state = 'received', attempts = 0, next_at = $2, handled_at = NULL, \
            untold_at = NULL WHERE id = $1 AND state = 'parked'";
        let changed = q(sql).bind(id).bind(now).run(&mut self.conn).await? == 1;
        self.committed.till_event |= changed;
        Ok(changed)
    }

    /// The operators are told, in this transaction, of an event that parked at this time. False: someone told
    /// them, or had it tried again, before.
    pub async fn till_event_is_told(&mut self, id: &str, parked_at: Time) -> Result<bool> {
        let sql = "UPDATE till_events SET untold_at = NULL WHERE id = $1 AND untold_at = $2";
        Ok(q(sql).bind(id).bind(parked_at).run(&mut self.conn).await? == 1)
    }

    /// How handling it ended. `Received` with an error: to be tried again at `next_at`.
    pub async fn till_event_handled(
        &mut self,
        id: &str,
        state: TillEventState,
        now: Time,
        error: Option<&str>,
        next_at: Option<Time>,
    ) -> Result<()> {
        let sql = "UPDATE till_events SET state = $2, handled_at = $3, error = $4, next_at = $5, \
            attempts = attempts + 1, untold_at = $6 WHERE id = $1";
        let parked = state == TillEventState::Parked;
        self.committed.parked |= parked;
        let again = state == TillEventState::Received;
        q(sql)
            .bind(id)
            .bind(state.as_str())
            .bind((!again).then_some(now))
            .bind(error)
            .bind(next_at.filter(|_| again))
            .bind(parked.then_some(now))
            .run(&mut self.conn)
            .await?;
        Ok(())
    }
}

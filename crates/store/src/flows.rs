//! Flows as the business sees them: enqueued with what caused them, read as timelines, set going by a person.

use stackpro_domain::{ClientId, FlowId, Time};
use stackpro_flow::state::{Refused, retry, turn_back};
use stackpro_flow::{Flow, FlowState, NewFlow, Step};

use crate::db::{Conn, Turn};
use crate::error::{Result, StoreError};
use crate::lists::{Cursor, page};
use crate::model::{Page, Timeline};
use crate::query::{Record, Row, among_after, json, q};
use crate::records::{self, Changed};
use crate::{Store, Tx};

pub(crate) async fn timelines(conn: &mut Conn, subject: &str, limit: u32) -> Result<Vec<Timeline>> {
    let flows: Vec<Flow> = q(NEWEST).bind(subject).bind(limit).all(conn).await?;
    let steps = records::steps(conn, &flows).await?;
    Ok(flows.into_iter().zip(steps).map(|(flow, steps)| Timeline { flow, steps }).collect())
}

pub(crate) const NEWEST: &str = "SELECT * FROM flows WHERE subject = $1 ORDER BY place DESC LIMIT $2";

/// Before and after the names of the flows that are known.
pub(crate) const STRANGE: (&str, &str) =
    ("SELECT * FROM flows WHERE next_at <= $1 AND kind || ' v' || version NOT IN", " ORDER BY next_at, id LIMIT $2");

pub(crate) const UNTOLD: &str = "SELECT * FROM flows WHERE untold_at IS NOT NULL ORDER BY untold_at, id LIMIT $1";

/// What parked, and when.
pub(crate) struct Untold<T>(pub T, pub Time);

impl<T: Record> Record for Untold<T> {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self(T::read(row)?, row.time("untold_at")?))
    }
}

impl Store {
    /// The flows of a client, the newest first.
    pub async fn timelines(&self, client: &ClientId, limit: u32) -> Result<Vec<Timeline>> {
        timelines(&mut self.read().await?, client.as_str(), limit).await
    }

    /// These flows with their steps.
    pub async fn with_steps(&self, flows: Vec<Flow>) -> Result<Vec<Timeline>> {
        let steps = records::steps(&mut self.read().await?, &flows).await?;
        Ok(flows.into_iter().zip(steps).map(|(flow, steps)| Timeline { flow, steps }).collect())
    }

    pub async fn timeline(&self, id: &FlowId) -> Result<Option<Timeline>> {
        let conn = &mut self.read().await?;
        let Some(flow) = records::flow(conn, id).await? else { return Ok(None) };
        let steps = records::steps(conn, std::slice::from_ref(&flow)).await?.pop().unwrap_or_default();
        Ok(Some(Timeline { flow, steps }))
    }

    /// In one state, or in any; the newest first.
    pub async fn flows(&self, state: Option<FlowState>, after: Option<&str>, limit: u32) -> Result<Page<Flow>> {
        let cursor = Cursor::parse(after)?;
        let statement = match state {
            Some(state) => q("SELECT * FROM flows WHERE (created_at < $1 OR (created_at = $1 AND id < $2)) \
                AND state = $4 ORDER BY created_at DESC, id DESC LIMIT $3")
            .bind(cursor.at)
            .bind(cursor.id)
            .bind(i64::from(limit) + 1)
            .bind(state.as_str()),
            None => q("SELECT * FROM flows WHERE created_at < $1 OR (created_at = $1 AND id < $2) \
                ORDER BY created_at DESC, id DESC LIMIT $3")
            .bind(cursor.at)
            .bind(cursor.id)
            .bind(i64::from(limit) + 1),
        };
        let rows = statement.all(&mut self.read().await?).await?;
        Ok(page(rows, limit, |row: &Flow| (row.created_at, row.id.as_str())))
    }

    /// Flows of which none of the `known` names says what they are, and of which something should have been
    /// done for `ms` already, the longest due first: no node has come that knows them.
    pub async fn strange_flows(&self, known: &[String], ms: i64, limit: u32) -> Result<Vec<Flow>> {
        let conn = &mut self.read().await?;
        let before = self.lease_now(conn).await?.saturating_sub(ms);
        let names = known.iter().map(String::as_str);
        among_after(vec![before.into(), limit.into()], STRANGE.0, names, STRANGE.1).all(conn).await
    }

    /// Parked flows of which no operator has been told, with when they parked; the longest parked first.
    pub async fn untold_flows(&self, limit: u32) -> Result<Vec<(Flow, Time)>> {
        let found: Vec<Untold<Flow>> = q(UNTOLD).bind(limit).all(&mut self.read().await?).await?;
        Ok(found.into_iter().map(|Untold(flow, at)| (flow, at)).collect())
    }

    /// How many flows wait for a person.
    pub async fn flows_needing_attention(&self) -> Result<u64> {
        let sql = "SELECT count(*) AS n FROM flows WHERE state = 'parked'";
        Ok(q(sql).number(&mut self.read().await?).await?.unsigned_abs())
    }
}

impl Tx {
    /// Idempotent by the flow's id. It waits behind an unfinished flow of the same subject; a parked one is
    /// abandoned when the new flow supersedes it.
    pub async fn enqueue_flow(&mut self, new: NewFlow) -> Result<()> {
        let NewFlow { flow, steps, supersedes_parked } = new;
        self.conn.take_turn(Turn::Subject, &flow.subject).await?;
        let sql = "INSERT INTO flows (id, kind, version, subject, place, supersedes, params, state, undoing, \
            created_at) SELECT $1, $2, $3, $4, \
            (SELECT coalesce(max(place), 0) + 1 FROM flows WHERE subject = $4), $5, $6, 'waiting', $7, $8 \
            WHERE true ON CONFLICT (id) DO NOTHING";
        let inserted = q(sql)
            .bind(&flow.id)
            .bind(&flow.kind)
            .bind(flow.version)
            .bind(&flow.subject)
            .bind(supersedes_parked)
            .bind(json(&flow.params)?)
            .bind(flow.undoing)
            .bind(flow.created_at)
            .run(&mut self.conn)
            .await?;
        if inserted == 0 {
            return Ok(());
        }
        let all: Vec<Changed<'_>> = steps.iter().enumerate().map(|(place, step)| (&flow.id, place, step)).collect();
        records::write_steps(&mut self.conn, &all).await?;
        self.advance(&flow.subject).await
    }

    /// Sets a parked flow going again, in the direction in which it stopped.
    pub async fn retry_flow(&mut self, id: &FlowId) -> Result<std::result::Result<(), Refused>> {
        self.set_going(id, retry).await
    }

    /// Turns a parked flow back.
    pub async fn turn_back_flow(&mut self, id: &FlowId) -> Result<std::result::Result<(), Refused>> {
        let at = self.store.now();
        self.set_going(id, |flow, steps, now| turn_back(flow, steps, now, at)).await
    }

    /// The operators are told, in this transaction, of a flow that parked at this time. False: someone told
    /// them, or set it going, before.
    pub async fn flow_is_told(&mut self, id: &FlowId, parked_at: Time) -> Result<bool> {
        let sql = "UPDATE flows SET untold_at = NULL WHERE id = $1 AND untold_at = $2";
        Ok(q(sql).bind(id).bind(parked_at).run(&mut self.conn).await? == 1)
    }

    async fn set_going(
        &mut self,
        id: &FlowId,
        change: impl FnOnce(&mut Flow, &mut [Step], i64) -> std::result::Result<(), Refused>,
    ) -> Result<std::result::Result<(), Refused>> {
        let Some((mut flow, mut steps)) = self.locked_flow(id).await? else {
            return Err(StoreError::Invalid("flow"));
        };
        let (before, now) = (steps.clone(), self.store.lease_now(&mut self.conn).await?);
        if let Err(refused) = change(&mut flow, &mut steps, now) {
            return Ok(Err(refused));
        }
        self.write(&flow, &before, &steps, now).await?;
        self.committed.enqueued_flow = true;
        self.settle(&flow).await?;
        Ok(Ok(()))
    }

    /// A flow and its steps, locked: first its subject's turn, then the flow, then the steps.
    pub(crate) async fn locked_flow(&mut self, id: &FlowId) -> Result<Option<(Flow, Vec<Step>)>> {
        self.conn.take_turn_of_flow(id.as_str()).await?;
        let Some(flow) = records::flow(&mut self.conn, id).await? else { return Ok(None) };
        let steps = records::steps(&mut self.conn, std::slice::from_ref(&flow)).await?.pop().unwrap_or_default();
        Ok(Some((flow, steps)))
    }

    /// Writes a flow and those of its steps that are not as they were.
    pub(crate) async fn write(&mut self, flow: &Flow, before: &[Step], steps: &[Step], now: i64) -> Result<()> {
        let changed: Vec<Changed<'_>> =
            (0..steps.len()).filter(|&i| before[i] != steps[i]).map(|i| (&flow.id, i, &steps[i])).collect();
        records::write_steps(&mut self.conn, &changed).await?;
        let at = self.store.now();
        records::write_flow(&mut self.conn, flow, steps, now, at).await?;
        self.committed.parked |= flow.state == FlowState::Parked;
        self.touch(&flow.subject);
        Ok(())
    }

    /// After a flow's state was written: lets those that wait behind it go on, if it no longer runs.
    pub(crate) async fn settle(&mut self, flow: &Flow) -> Result<()> {
        if flow.state == FlowState::Running { Ok(()) } else { self.advance(&flow.subject).await }
    }

    /// Starts the subject's next flow if none runs, and abandons a parked one that a later one supersedes.
    async fn advance(&mut self, subject: &str) -> Result<()> {
        self.touch(subject);
        let statement = q(UNFINISHED).bind(subject).locking(&self.conn);
        let mut open: Vec<Unfinished> = statement.all(&mut self.conn).await?;
        open.reverse();
        let now = self.store.lease_now(&mut self.conn).await?;
        let mut not_before = now;
        // By a later one: what supersedes others may park, too.
        let superseded = open.split_last().is_some_and(|(head, behind)| {
            head.state == FlowState::Parked && behind.iter().any(|later| later.supersedes)
        });
        if superseded && let Some(parked) = open.pop() {
            not_before = not_before.max(self.abandon(&parked.id).await?);
        }
        match open.last() {
            Some(next) if next.state == FlowState::Waiting => self.start(&next.id, now, not_before).await,
            _ => Ok(()),
        }
    }

    /// Returns until when a step of it may still be executing: its lease cannot be renewed any more.
    async fn abandon(&mut self, id: &FlowId) -> Result<i64> {
        let at = self.store.now();
        let sql =
            "UPDATE flows SET state = 'abandoned', finished_at = $2, next_at = NULL, untold_at = NULL WHERE id = $1";
        q(sql).bind(id).bind(at).run(&mut self.conn).await?;
        let sql = "SELECT max(lease_until) AS n FROM steps WHERE flow_id = $1";
        Ok(q(sql).bind(id).maybe_number(&mut self.conn).await?.unwrap_or(0))
    }

    async fn start(&mut self, id: &FlowId, now: i64, not_before: i64) -> Result<()> {
        if not_before > now {
            let sql = "UPDATE steps SET run_at = $2 WHERE flow_id = $1 AND run_at < $2";
            q(sql).bind(id).bind(not_before).run(&mut self.conn).await?;
        }
        let sql = "UPDATE flows SET state = 'running', next_at = $2 WHERE id = $1";
        q(sql).bind(id).bind(not_before).run(&mut self.conn).await?;
        self.committed.enqueued_flow = true;
        Ok(())
    }
}

pub(crate) const UNFINISHED: &str =
    "SELECT t.* FROM flows t WHERE t.subject = $1 AND t.finished_at IS NULL ORDER BY t.place";

struct Unfinished {
    id: FlowId,
    state: FlowState,
    supersedes: bool,
}

impl Record for Unfinished {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            state: row.word("state", FlowState::parse)?,
            supersedes: row.get("supersedes")?,
        })
    }
}

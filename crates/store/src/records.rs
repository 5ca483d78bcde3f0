//! Flows and steps as rows.

use stackpro_domain::{FlowId, Time};
use stackpro_flow::state::{Lease, next_at};
use stackpro_flow::{Flow, FlowState, Step, StepState};

use crate::db::Conn;
use crate::error::Result;
use crate::query::{MOST_ROWS, Record, Row, among, json, q, values};

impl Record for Flow {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.parse("id")?,
            kind: row.text("kind")?,
            version: row.count("version")?,
            subject: row.text("subject")?,
            params: row.json("params")?,
            state: row.word("state", FlowState::parse)?,
            undoing: row.get("undoing")?,
            cause: row.get("cause")?,
            created_at: row.time("created_at")?,
            finished_at: row.maybe_time("finished_at")?,
        })
    }
}

impl Record for Step {
    fn read(row: &Row<'_>) -> Result<Self> {
        let lease = match (row.get("lease_owner")?, row.get("lease_until")?) {
            (Some(owner), Some(until)) => Some(Lease { owner, until }),
            _ => None,
        };
        Ok(Self {
            name: row.text("name")?,
            title: row.text("title")?,
            needs: row.json("needs")?,
            commit: row.get("is_commit")?,
            api: row.text("api")?,
            max_attempts: row.count("max_attempts")?,
            turn_back: row.get("turn_back")?,
            state: row.word("state", StepState::parse)?,
            attempts: row.count("attempts")?,
            run_at: row.number("run_at")?,
            lease,
            fence: row.number("fence")?,
            started_at: row.maybe_time("started_at")?,
            finished_at: row.maybe_time("finished_at")?,
            error: row.get("error")?,
            note: row.get("note")?,
            output: row.json("output")?,
        })
    }
}

struct StepOf(FlowId, Step);

impl Record for StepOf {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self(row.parse("flow_id")?, Step::read(row)?))
    }
}

pub(crate) async fn flow(conn: &mut Conn, id: &FlowId) -> Result<Option<Flow>> {
    q("SELECT t.* FROM flows t WHERE t.id = $1").bind(id).locking(conn).one(conn).await
}

/// Before and after the ids of the flows.
pub(crate) const STEPS: (&str, &str) = ("SELECT t.* FROM steps t WHERE t.flow_id IN", " ORDER BY t.flow_id, t.place");

/// The steps of each of these flows, in their order.
pub(crate) async fn steps(conn: &mut Conn, flows: &[Flow]) -> Result<Vec<Vec<Step>>> {
    if flows.is_empty() {
        return Ok(Vec::new());
    }
    let ids = flows.iter().map(|flow| flow.id.as_str());
    let rows: Vec<StepOf> = among(STEPS.0, ids, STEPS.1).locking(conn).all(conn).await?;
    let mut steps = vec![Vec::new(); flows.len()];
    let mut at = 0;
    for StepOf(id, step) in rows {
        if flows[at].id != id {
            let Some(found) = flows.iter().position(|flow| flow.id == id) else { continue };
            at = found;
        }
        steps[at].push(step);
    }
    Ok(steps)
}

/// A step to write: whose it is, which one it is, and what it is now.
pub(crate) type Changed<'s> = (&'s FlowId, usize, &'s Step);

const STEP_COLUMNS: &str = "INSERT INTO steps (flow_id, name, place, title, needs, is_commit, api, max_attempts, \
    turn_back, state, attempts, run_at, lease_owner, lease_until, fence, started_at, finished_at, error, note, \
    output) VALUES";
const STEP_UPDATE: &str = " ON CONFLICT (flow_id, name) DO UPDATE SET state = excluded.state, \
    attempts = excluded.attempts, run_at = excluded.run_at, lease_owner = excluded.lease_owner, \
    lease_until = excluded.lease_until, fence = excluded.fence, started_at = excluded.started_at, \
    finished_at = excluded.finished_at, error = excluded.error, note = excluded.note, output = excluded.output";

pub(crate) async fn write_steps(conn: &mut Conn, changed: &[Changed<'_>]) -> Result<()> {
    for chunk in changed.chunks(MOST_ROWS) {
        let mut insert = values(STEP_COLUMNS, 20, chunk.len(), STEP_UPDATE);
        for &(flow, place, step) in chunk {
            insert = insert
                .bind(flow)
                .bind(&step.name)
                .bind(place as i64)
                .bind(&step.title)
                .bind(json(&step.needs)?)
                .bind(step.commit)
                .bind(&step.api)
                .bind(step.max_attempts)
                .bind(step.turn_back)
                .bind(step.state.as_str())
                .bind(step.attempts)
                .bind(step.run_at)
                .bind(step.lease.as_ref().map(|lease| lease.owner.as_str()))
                .bind(step.lease.as_ref().map(|lease| lease.until))
                .bind(step.fence)
                .bind(step.started_at)
                .bind(step.finished_at)
                .bind(&step.error)
                .bind(&step.note)
                .bind(json(&step.output)?);
        }
        insert.run(conn).await?;
    }
    Ok(())
}

/// Writes what may have changed of a flow, and when to look at it again. What was due long ago counts as due
/// `now`, so that flows come in the order in which they became due. When it parks, which is `at` the business's
/// time, someone has to be told.
pub(crate) async fn write_flow(conn: &mut Conn, flow: &Flow, steps: &[Step], now: i64, at: Time) -> Result<()> {
    let sql = "UPDATE flows SET state = $2, undoing = $3, cause = $4, finished_at = $5, next_at = $6, \
        untold_at = CASE WHEN $2 <> 'parked' THEN NULL WHEN state = 'parked' THEN untold_at ELSE $7 END WHERE id = $1";
    q(sql)
        .bind(&flow.id)
        .bind(flow.state.as_str())
        .bind(flow.undoing)
        .bind(&flow.cause)
        .bind(flow.finished_at)
        .bind(next_at(flow, steps).map(|at| at.max(now)))
        .bind(at)
        .run(conn)
        .await?;
    Ok(())
}

/// Writes when to look at each of these flows again.
pub(crate) async fn write_next(conn: &mut Conn, next: &[(&FlowId, Option<i64>)]) -> Result<()> {
    for chunk in next.chunks(MOST_ROWS) {
        let head = "UPDATE flows SET next_at = v.column2 FROM (VALUES";
        let tail = ") AS v WHERE flows.id = v.column1";
        let update = values(head, 2, chunk.len(), tail);
        chunk.iter().fold(update, |update, (id, at)| update.bind(*id).bind(*at)).run(conn).await?;
    }
    Ok(())
}

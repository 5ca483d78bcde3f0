//! The journal of the flow engine: each call is one transaction over `stackpro_flow::state`.
//!
//! All lock in one order: the turn of a subject, its flows, their steps, the turn of the leases. A claim takes
//! only flows that nobody has locked, so that it waits for none of them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use stackpro_domain::Time;
use stackpro_flow::state::{Fenced, begin, end, next_at, runnable};
use stackpro_flow::{Ask, Claim, Ended, Flow, Journal, JournalError, LeaseKey, Outcome, Step, StepState};

use crate::db::{Conn, Turn};
use crate::error::{Result, StoreError};
use crate::query::{Arg, Record, Row, Statement, among_after, q};
use crate::records::{self, Changed};
use crate::{Store, Tx};

/// Before and after the names of the flows that are known.
pub(crate) const DUE: (&str, &str) = (
    "SELECT t.* FROM flows t WHERE t.next_at <= $1 AND t.kind || ' v' || t.version IN",
    " ORDER BY t.next_at, t.id LIMIT $2",
);
pub(crate) const ANY_DUE: (&str, &str) =
    ("SELECT next_at AS n FROM flows WHERE next_at <= $1 AND kind || ' v' || version IN", " LIMIT 1");
pub(crate) const LEASES: &str = "SELECT api, count(*) AS n FROM steps WHERE lease_until > $1 GROUP BY api";

/// How much later a flow is looked at whose API is busy, when flows behind it would otherwise never be seen.
const BUSY_API_MS: i64 = 50;
/// How often a transaction is made again that others were in the way of.
const TRIES: u32 = 6;

#[async_trait]
impl Journal for Store {
    async fn claim(&self, ask: &Ask) -> std::result::Result<Vec<Claim>, JournalError> {
        let mut tries = Tries(0);
        loop {
            match claim(self, ask).await {
                Err(error) if tries.again(&error).await => {}
                done => return done.map_err(out_of_reach),
            }
        }
    }

    async fn renew(&self, key: &LeaseKey, lease_ms: i64) -> std::result::Result<bool, JournalError> {
        let mut tries = Tries(0);
        loop {
            match renew(self, key, lease_ms).await {
                Err(error) if tries.again(&error).await => {}
                done => return done.map_err(out_of_reach),
            }
        }
    }

    async fn end(&self, key: &LeaseKey, outcome: Outcome, ask: &Ask) -> std::result::Result<Ended, JournalError> {
        let mut tries = Tries(0);
        loop {
            match record(self, key, outcome.clone(), ask).await {
                Err(error) if tries.again(&error).await => {}
                done => return done.map_err(out_of_reach),
            }
        }
    }

    async fn note(&self, key: &LeaseKey, text: &str) -> std::result::Result<(), JournalError> {
        let mut tries = Tries(0);
        loop {
            match note(self, key, text).await {
                Err(error) if tries.again(&error).await => {}
                done => return done.map_err(out_of_reach),
            }
        }
    }
}

fn out_of_reach(error: StoreError) -> JournalError {
    JournalError(error.to_string())
}

struct Tries(u32);

impl Tries {
    /// Whether to try again after this error; waits a little if so.
    async fn again(&mut self, error: &StoreError) -> bool {
        self.0 += 1;
        let again = matches!(error, StoreError::Busy(_)) && self.0 < TRIES;
        if again {
            tokio::time::sleep(Duration::from_millis(2 << self.0)).await;
        }
        again
    }
}

async fn claim(store: &Store, ask: &Ask) -> Result<Vec<Claim>> {
    if ask.steps == 0 || !anything_due(store, ask).await? {
        return Ok(Vec::new());
    }
    let mut tx = store.begin().await?;
    tx.conn.take_turn(Turn::Leases, "").await?;
    let now = store.lease_now(&mut tx.conn).await?;
    let due = about_known(DUE, vec![now.into(), (ask.steps as i64).into()], ask).locking_free_ones(&tx.conn);
    let flows: Vec<Flow> = due.all(&mut tx.conn).await?;
    let mut steps = records::steps(&mut tx.conn, &flows).await?;
    let mut taker = Taker::new(&mut tx.conn, ask, now, store.now()).await?;
    let (mut claims, mut changed, mut next) = (Vec::new(), Vec::new(), Vec::new());
    let others_behind = flows.len() == ask.steps;
    for (flow, steps) in flows.iter().zip(&mut steps) {
        let taken = taker.take(flow, steps, &mut claims);
        let wait = if taken.is_empty() && others_behind { BUSY_API_MS } else { 0 };
        next.push((&flow.id, next_at(flow, steps).map(|at| at.max(now + wait))));
        changed.push(taken);
    }
    let changed: Vec<Changed<'_>> = flows
        .iter()
        .zip(&steps)
        .zip(changed)
        .flat_map(|((flow, steps), taken)| taken.into_iter().map(move |i| (&flow.id, i, &steps[i])))
        .collect();
    records::write_steps(&mut tx.conn, &changed).await?;
    records::write_next(&mut tx.conn, &next).await?;
    touch_all(&mut tx, &claims);
    tx.commit().await?;
    Ok(claims)
}

/// Looked up without a transaction: a node that has nothing to do is in nobody's way.
async fn anything_due(store: &Store, ask: &Ask) -> Result<bool> {
    let conn = &mut store.read().await?;
    let now = store.lease_now(conn).await?;
    Ok(about_known(ANY_DUE, vec![now.into()], ask).maybe_number(conn).await?.is_some())
}

fn about_known((head, tail): (&str, &str), args: Vec<Arg>, ask: &Ask) -> Statement {
    among_after(args, head, ask.known.iter().map(String::as_str), tail)
}

fn touch_all(tx: &mut Tx, claims: &[Claim]) {
    for claim in claims {
        tx.touch(&claim.flow.subject);
    }
}

async fn record(store: &Store, key: &LeaseKey, outcome: Outcome, ask: &Ask) -> Result<Ended> {
    let mut tx = store.begin().await?;
    let Some((mut flow, mut steps)) = tx.locked_flow(&key.flow_id).await? else { return Ok(Ended::Fenced) };
    let (before, now, at) = (steps.clone(), store.lease_now(&mut tx.conn).await?, store.now());
    if let Err(Fenced) = end(&mut flow, &mut steps, (&key.step, key.fence), outcome, now, at) {
        return Ok(Ended::Fenced);
    }
    let mut claims = Vec::new();
    if !runnable(&flow, &steps, now).is_empty() {
        tx.conn.take_turn(Turn::Leases, "").await?;
        let mut taker = Taker::new(&mut tx.conn, ask, now, at).await?;
        taker.take(&flow, &mut steps, &mut claims);
        tx.committed.enqueued_flow |= !runnable(&flow, &steps, now).is_empty();
    }
    tx.write(&flow, &before, &steps, now).await?;
    tx.settle(&flow).await?;
    tx.commit().await?;
    Ok(Ended::Recorded(claims))
}

/// Takes steps for one who asks, within all limits.
struct Taker<'a> {
    ask: &'a Ask,
    now: i64,
    at: Time,
    left: usize,
    /// Live leases by API, over all nodes.
    leases: HashMap<String, usize>,
}

impl<'a> Taker<'a> {
    /// The turn of the leases must be taken.
    async fn new(conn: &mut Conn, ask: &'a Ask, now: i64, at: Time) -> Result<Self> {
        struct Leases(String, usize);
        impl Record for Leases {
            fn read(row: &Row<'_>) -> Result<Self> {
                Ok(Self(row.text("api")?, row.count("n")?))
            }
        }
        let leases: Vec<Leases> = q(LEASES).bind(now).all(conn).await?;
        let leases = leases.into_iter().map(|Leases(api, count)| (api, count)).collect();
        Ok(Self { ask, now, at, left: ask.steps, leases })
    }

    /// Takes what it may of one flow, adds it to `claims`, and returns the indexes of the steps it took.
    fn take(&mut self, flow: &Flow, steps: &mut [Step], claims: &mut Vec<Claim>) -> Vec<usize> {
        let mut taken = Vec::new();
        for i in runnable(flow, steps, self.now) {
            let leases = self.leases.entry(steps[i].api.clone()).or_default();
            if self.left == 0 || *leases >= self.ask.per_api {
                continue;
            }
            *leases += 1;
            self.left -= 1;
            let fence = begin(flow, &mut steps[i], &self.ask.owner, self.now, self.ask.lease_ms, self.at);
            claims.push(claim_of(flow, steps, i, fence));
            taken.push(i);
        }
        taken
    }
}

fn claim_of(flow: &Flow, steps: &[Step], i: usize, fence: i64) -> Claim {
    let done = steps.iter().filter(|step| step.state == StepState::Done);
    let outputs: BTreeMap<_, _> = done.map(|step| (step.name.clone(), step.output.clone())).collect();
    Claim {
        key: LeaseKey { flow_id: flow.id.clone(), step: steps[i].name.clone(), fence },
        flow: flow.clone(),
        undo: steps[i].state == StepState::Undoing,
        attempts: steps[i].attempts,
        outputs,
    }
}

/// A lease that ran out and that nobody took is still its owner's.
async fn renew(store: &Store, key: &LeaseKey, lease_ms: i64) -> Result<bool> {
    let mut tx = store.begin().await?;
    let now = store.lease_now(&mut tx.conn).await?;
    // What was abandoned must come to rest: a flow that superseded it waits for its leases to run out.
    let sql = "UPDATE steps SET lease_until = $4 WHERE flow_id = $1 AND name = $2 AND fence = $3 \
        AND lease_until IS NOT NULL AND EXISTS (SELECT 1 FROM flows WHERE id = $1 AND finished_at IS NULL)";
    let update = q(sql).bind(&key.flow_id).bind(&key.step).bind(key.fence).bind(now.saturating_add(lease_ms));
    let renewed = update.run(&mut tx.conn).await? == 1;
    if renewed {
        tx.commit().await?;
    }
    Ok(renewed)
}

async fn note(store: &Store, key: &LeaseKey, text: &str) -> Result<()> {
    struct Subject(String);
    impl Record for Subject {
        fn read(row: &Row<'_>) -> Result<Self> {
            row.text("subject").map(Self)
        }
    }
    let mut tx = store.begin().await?;
    let sql = "UPDATE steps SET note = $4 WHERE flow_id = $1 AND name = $2 AND fence = $3 AND lease_until IS NOT NULL \
        RETURNING (SELECT subject FROM flows WHERE id = flow_id) AS subject";
    let update = q(sql).bind(&key.flow_id).bind(&key.step).bind(key.fence).bind(text);
    if let Some(Subject(subject)) = update.one(&mut tx.conn).await? {
        tx.touch(&subject);
        tx.commit().await?;
    }
    Ok(())
}

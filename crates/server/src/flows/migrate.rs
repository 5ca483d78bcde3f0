//! Migrate: from where a client is to an instance of their own, with proof, while their site answers.
//!
//! ```text
//! role ── launch ── enrol ── receive ─┬─ copy ───┬─ cut_over ══ record ── settle ── release
//!                                     └─ access ─┘      ▲ the commit: before it everything can be undone
//! ```
//!
//! The source is the judge of whether the move happened. Undoing `cut_over` asks it, and learns either that
//! it will never happen, or that it has: then the flow goes forward again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stackpro_cloud::Record;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::recipe::HoldBy;
use stackpro_domain::{ClientId, ResourceId};
use stackpro_flow::{FlowSpec, StepCtx, StepError, StepResult, StepSpec, UndoError, UndoResult};
use stackpro_protocol::agent::{AbortAnswer, MoveOrder, MovePhase, MoveStatus, Wanted as WantedState};
use stackpro_store::{Client, HostKind, Hosting, InstancePhase, InstanceRow, ResourceKind, StackPhase};

use super::fleet::NewInstance;
use super::{act, cloud_error, fleet, ledger, stacks, store_error};
use crate::agents::Agent;
use crate::world::World;

/// The longest hold of writes. The source enforces it; the promise to clients is 2 s.
const MAX_HOLD_MS: u64 = 1_500;
/// The same for programs that are frozen, and started elsewhere; and for those that end in their own way first.
const MAX_FREEZE_MS: u64 = 8_000;
const MAX_STOP_MS: u64 = 25_000;
/// How long one execution follows a copy before it reports that it takes longer.
const WATCH: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(100);

/// Decided with the payment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Migrate {
    pub client: ClientId,
    pub instance: NewInstance,
}

/// What a cut-over leaves behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CutOver {
    certificate: Certificate,
}

pub static MIGRATE: FlowSpec<World> = FlowSpec {
    kind: "migrate",
    version: 1,
    supersedes_parked: false,
    steps: &[
        StepSpec::new("role", "Give your server a role of its own", "roles", act!(role))
            .undo(act!(remove_role))
            .turns_back(),
        StepSpec::new("launch", "Launch your own server", "compute", act!(launch))
            .after(&["role"])
            .undo(act!(terminate))
            .turns_back(),
        StepSpec::new("enrol", "Wait for your server", "store", act!(enrol)).after(&["launch"]).turns_back(),
        StepSpec::new("receive", "Prepare your server", "agent", act!(receive))
            .after(&["enrol"])
            .undo(act!(unreceive))
            .turns_back(),
        StepSpec::new("access", "Let your server use your storage", "roles", act!(access))
            .after(&["receive"])
            .turns_back(),
        StepSpec::new("copy", "Copy your data while your site runs", "agent", act!(copy))
            .after(&["receive"])
            .turns_back(),
        StepSpec::new("cut_over", "Move your site, with proof", "agent", act!(cut_over))
            .after(&["copy", "access"])
            .undo(act!(abort))
            .turns_back()
            .commits(),
        StepSpec::new("record", "Point your address to your server", "dns", act!(record)).after(&["cut_over"]),
        StepSpec::new("settle", "Check that it answers", "store", act!(settle)).after(&["record"]),
        StepSpec::new("release", "Release the old place", "agent", act!(release)).after(&["settle"]),
    ],
};

async fn role(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    fleet::create_role(&ctx.world, &params.instance).await?;
    Ok(Value::Null)
}

async fn remove_role(ctx: &StepCtx<World>) -> UndoResult {
    let params: Migrate = ctx.params()?;
    Ok(fleet::remove_role(&ctx.world, &params.instance.id).await?)
}

/// Undone with the role itself.
async fn access(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    fleet::grant(&ctx.world, &params.instance.id).await?;
    Ok(Value::Null)
}

async fn launch(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    // Where they are is known only now: the flow may have waited for the one that provisioned them.
    let client = stacks::client(world, &ctx.subject).await?;
    let source = client.hosting.ok_or_else(|| StepError::Failed("the client runs nowhere yet".into()))?.instance_id;
    stacks::update(world, &params.client, |client| client.stack = StackPhase::Migrating).await?;
    fleet::launch(world, &params.instance).await?;
    Ok(json!(source))
}

async fn terminate(ctx: &StepCtx<World>) -> UndoResult {
    let params: Migrate = ctx.params()?;
    ledger::remove_by_id(&ctx.world, &params.instance.id).await?;
    stacks::update(&ctx.world, &params.client, |client| client.stack = StackPhase::Ready).await?;
    Ok(())
}

async fn enrol(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    fleet::enrolled(world, &params.instance.id).await?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    if let Some(mut row) = tx.instance(&params.instance.id).await.map_err(store_error)? {
        row.state = InstancePhase::Ready;
        tx.update_instance(&row).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(Value::Null)
}

async fn receive(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.add_stack(&params.client, &params.instance.id).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    let client = stacks::client(world, &ctx.subject).await?;
    let row = fleet::row(world, &params.instance.id).await?;
    stacks::put(world, &client, &row, WantedState::Receiving).await?;
    Ok(Value::Null)
}

async fn unreceive(ctx: &StepCtx<World>) -> UndoResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    let row = fleet::row(world, &params.instance.id).await?;
    let agent = world.agents.of(&row).map_err(StepError::from)?;
    agent.delete_stack(&params.client).await.map_err(StepError::from)?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.remove_stack(&params.client, &params.instance.id).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    Ok(())
}

/// Where the client was when the flow began to run.
fn source(ctx: &StepCtx<World>) -> Result<ResourceId, StepError> {
    ctx.output("launch")
}

/// Both ends of a move.
struct Ends {
    source_row: InstanceRow,
    source: Agent,
    copy_row: InstanceRow,
    copy: Agent,
}

async fn ends(ctx: &StepCtx<World>, params: &Migrate) -> Result<Ends, StepError> {
    let world = &ctx.world;
    let source_row = fleet::row(world, &source(ctx)?).await?;
    let copy_row = fleet::row(world, &params.instance.id).await?;
    Ok(Ends { source: world.agents.of(&source_row)?, copy: world.agents.of(&copy_row)?, source_row, copy_row })
}

fn longest_hold(world: &World, client: &Client) -> u64 {
    let run = world.recipes.get(&client.recipe).and_then(|recipe| recipe.run.as_ref());
    match run.map(|run| run.hold) {
        None => MAX_HOLD_MS,
        Some(HoldBy::Freeze) => MAX_FREEZE_MS,
        Some(HoldBy::Stop) => MAX_STOP_MS,
    }
}

/// Tells the copy to go as far as that, and looks until it has, gives up, or `WATCH` is over.
async fn drive(ctx: &StepCtx<World>, cut_over: bool) -> Result<MoveStatus, StepError> {
    let params: Migrate = ctx.params()?;
    // One job a flow: what a crash interrupted goes on, and what was given up begins again under its name.
    let job_id = ctx.flow_id.as_str();
    let ends = ends(ctx, &params).await?;
    let doors = (ends.source_row.control, ends.copy_row.front);
    let (Some(source), Some(front)) = doors else {
        return Err(StepError::Retry("an instance has not said where it answers".into()));
    };
    let ticket = ends.source.ticket(&params.client, job_id).await?;
    let source_fingerprint = ends.source_row.fingerprint.clone();
    let client = stacks::client(&ctx.world, &ctx.subject).await?;
    let (job, max_hold_ms) = (job_id.to_owned(), longest_hold(&ctx.world, &client));
    let order = MoveOrder { job_id: job, source, source_fingerprint, ticket, cut_over, front, max_hold_ms };
    let mut status = ends.copy.put_move(&params.client, &order).await?;
    let deadline = tokio::time::Instant::now() + WATCH;
    loop {
        match status.phase {
            MovePhase::Committed | MovePhase::Failed => return Ok(status),
            MovePhase::InStep if !cut_over => return Ok(status),
            _ => {}
        }
        let progress =
            format!("{} of {} files copied", status.files_copied, status.files_total.max(status.files_copied));
        if tokio::time::Instant::now() >= deadline {
            // A copy that makes its way takes as long as it takes; one that keeps failing is a failure.
            return Err(status.error.map_or(StepError::Later { ms: 0, note: Some(progress) }, StepError::Retry));
        }
        ctx.note(&progress).await;
        tokio::time::sleep(GLANCE).await;
        status = match ends.copy.move_status(&params.client).await? {
            Some(status) if status.job_id == job_id => status,
            _ => ends.copy.put_move(&params.client, &order).await?,
        };
    }
}

fn gave_up(status: &MoveStatus) -> StepError {
    StepError::Retry(status.error.clone().unwrap_or_else(|| "the copy was given up".into()))
}

async fn copy(ctx: &StepCtx<World>) -> StepResult {
    let status = drive(ctx, false).await?;
    match status.phase {
        MovePhase::Failed => Err(gave_up(&status)),
        _ => Ok(json!({ "files": status.files_copied, "bytes": status.bytes_copied })),
    }
}

async fn cut_over(ctx: &StepCtx<World>) -> StepResult {
    let status = drive(ctx, true).await?;
    match (status.phase, status.certificate.clone()) {
        (MovePhase::Committed, Some(certificate)) => Ok(json!(CutOver { certificate })),
        _ => Err(gave_up(&status)),
    }
}

/// Makes sure that this flow's job will never commit, or learns that it has.
async fn abort(ctx: &StepCtx<World>) -> UndoResult {
    let params: Migrate = ctx.params()?;
    let ends = ends(ctx, &params).await?;
    let answer = ends.source.abort_move(&params.client, ctx.flow_id.as_str()).await.map_err(StepError::from)?;
    if answer == AbortAnswer::Aborted {
        return Ok(());
    }
    let status = ends.copy.move_status(&params.client).await.map_err(StepError::from)?;
    match status.and_then(|status| status.certificate) {
        Some(certificate) => Err(UndoError::TooLate(json!(CutOver { certificate }))),
        None => Err(UndoError::Retry("the move happened; waiting for its certificate".into())),
    }
}

async fn record(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    let client = stacks::client(world, &ctx.subject).await?;
    let row = fleet::row(world, &params.instance.id).await?;
    // What the copy shall be from now on, whether or not it ever asks the source again.
    stacks::put(world, &client, &row, WantedState::Serving).await?;
    let target = row.front.ok_or_else(|| StepError::Retry("the instance has not said where it answers".into()))?;
    let resources = world.store.resources_of(&params.client).await.map_err(store_error)?;
    let ledger = resources.iter().find(|r| r.kind == ResourceKind::Record && r.name == client.host);
    let ledger = ledger.ok_or_else(|| StepError::Failed(format!("{} is not in the ledger", client.host)))?;
    let tags = stackpro_cloud::Tags { resource_id: ledger.id.to_string(), client_id: Some(params.client.to_string()) };
    let record = Record { name: client.host.clone(), target, ttl_seconds: world.settings.dns_ttl_seconds, tags };
    world.cloud.dns.upsert(&record).await.map_err(cloud_error)?;
    Ok(Value::Null)
}

async fn settle(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    let CutOver { certificate } = ctx.output("cut_over")?;
    let client = stacks::client(world, &ctx.subject).await?;
    stacks::probe(world, &client).await?;
    let row = fleet::row(world, &params.instance.id).await?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    if let Some(mut client) = tx.client(&params.client).await.map_err(store_error)? {
        client.stack = StackPhase::Ready;
        client.hosting =
            Some(Hosting { instance_id: row.id.clone(), cloud_id: row.cloud_id.clone(), kind: HostKind::Dedicated });
        client.certificate = Some(certificate.clone());
        tx.update_client(&client).await.map_err(store_error)?;
        crate::letters::moved(world, &mut tx, &client, &certificate, ctx.flow_id.as_str())
            .await
            .map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(Value::Null)
}

/// After every resolver has forgotten the old address.
async fn release(ctx: &StepCtx<World>) -> StepResult {
    let params: Migrate = ctx.params()?;
    let world = &ctx.world;
    ctx.note("Waiting until the old address is forgotten").await;
    tokio::time::sleep(Duration::from_secs(u64::from(world.settings.dns_ttl_seconds))).await;
    let source = source(ctx)?;
    let old = fleet::row(world, &source).await?;
    // An instance of their own goes as a whole, and cannot be asked any more once it has.
    if old.kind == HostKind::Shared {
        world.agents.of(&old)?.delete_stack(&params.client).await?;
    }
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.remove_stack(&params.client, &source).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    fleet::grant(world, &source).await?;
    if old.kind == HostKind::Dedicated {
        ledger::remove_by_id(world, &old.id).await?;
        fleet::remove_role(world, &old.id).await?;
    }
    Ok(Value::Null)
}

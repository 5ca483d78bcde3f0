//! Launch a shared instance. Its subject is the instance, so that clients who wait for it wait for one thing.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stackpro_flow::{FlowSpec, StepCtx, StepResult, StepSpec, UndoResult};
use stackpro_store::InstancePhase;

use super::fleet::NewInstance;
use super::{act, fleet, ledger, store_error};
use crate::world::World;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    pub instance: NewInstance,
}

pub static LAUNCH: FlowSpec<World> = FlowSpec {
    kind: "launch",
    version: 1,
    supersedes_parked: false,
    steps: &[
        StepSpec::new("role", "Give it a role of its own", "roles", act!(role)).undo(act!(remove_role)),
        StepSpec::new("launch", "Launch a shared server", "compute", act!(launch))
            .after(&["role"])
            .undo(act!(terminate)),
        StepSpec::new("enrol", "Wait for its agent", "store", act!(enrol)).after(&["launch"]).commits(),
    ],
};

async fn role(ctx: &StepCtx<World>) -> StepResult {
    let params: Launch = ctx.params()?;
    fleet::create_role(&ctx.world, &params.instance).await?;
    Ok(Value::Null)
}

async fn remove_role(ctx: &StepCtx<World>) -> UndoResult {
    let params: Launch = ctx.params()?;
    Ok(fleet::remove_role(&ctx.world, &params.instance.id).await?)
}

async fn launch(ctx: &StepCtx<World>) -> StepResult {
    let params: Launch = ctx.params()?;
    fleet::launch(&ctx.world, &params.instance).await?;
    Ok(Value::Null)
}

async fn terminate(ctx: &StepCtx<World>) -> UndoResult {
    let params: Launch = ctx.params()?;
    Ok(ledger::remove_by_id(&ctx.world, &params.instance.id).await?)
}

async fn enrol(ctx: &StepCtx<World>) -> StepResult {
    let params: Launch = ctx.params()?;
    let world = &ctx.world;
    let row = fleet::enrolled(world, &params.instance.id).await?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    if let Some(mut row) =
        tx.instance(&row.id).await.map_err(store_error)?.filter(|r| r.state == InstancePhase::Launching)
    {
        row.state = InstancePhase::Ready;
        tx.update_instance(&row).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(json!({ "instance": row.cloud_id }))
}

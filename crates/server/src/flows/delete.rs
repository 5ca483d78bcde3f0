//! Delete: everything of a client's goes, and the ledger keeps a receipt for each resource. It works from
//! the ledger, not from what an earlier flow said, so that whatever is there goes, however it came to be.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stackpro_domain::ClientId;
use stackpro_flow::{FlowSpec, StepCtx, StepResult, StepSpec};
use stackpro_store::{InstancePhase, ResourceKind, ResourceState, StackPhase};

use super::{act, fleet, ledger, stacks, store_error};
use crate::world::World;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delete {
    pub client: ClientId,
}

pub static DELETE: FlowSpec<World> = FlowSpec {
    kind: "delete",
    version: 1,
    supersedes_parked: true,
    steps: &[
        StepSpec::new("record", "Remove the address", "dns", act!(record)).commits(),
        StepSpec::new("stacks", "Remove the site and its files", "agent", act!(remove_stacks)).after(&["record"]),
        StepSpec::new("mail", "Remove the mail identity", "mail", act!(mail)).after(&["record"]),
        StepSpec::new("bucket", "Remove the storage", "buckets", act!(bucket)).after(&["stacks"]),
        StepSpec::new("instance", "Remove the server", "compute", act!(instance)).after(&["stacks"]),
        StepSpec::new("role", "Remove the server's role", "roles", act!(role)).after(&["instance"]),
        StepSpec::new("mark", "Deleted", "store", act!(mark)).after(&["mail", "bucket", "role"]),
    ],
};

/// Removes all of the client's resources of one kind.
async fn remove_all(ctx: &StepCtx<World>, kind: ResourceKind) -> StepResult {
    let params: Delete = ctx.params()?;
    let resources = ctx.world.store.resources_of(&params.client).await.map_err(store_error)?;
    let mut receipts = Vec::new();
    for resource in resources.iter().filter(|r| r.kind == kind && r.state != ResourceState::Deleted) {
        ledger::remove(&ctx.world, resource).await?;
        receipts.push(resource.name.clone());
    }
    Ok(json!({ "removed": receipts }))
}

async fn record(ctx: &StepCtx<World>) -> StepResult {
    let params: Delete = ctx.params()?;
    stacks::update(&ctx.world, &params.client, |client| client.stack = StackPhase::Deleting).await?;
    remove_all(ctx, ResourceKind::Record).await
}

async fn mail(ctx: &StepCtx<World>) -> StepResult {
    remove_all(ctx, ResourceKind::MailIdentity).await
}

async fn bucket(ctx: &StepCtx<World>) -> StepResult {
    remove_all(ctx, ResourceKind::Bucket).await
}

async fn instance(ctx: &StepCtx<World>) -> StepResult {
    remove_all(ctx, ResourceKind::Instance).await
}

async fn role(ctx: &StepCtx<World>) -> StepResult {
    remove_all(ctx, ResourceKind::Role).await
}

/// Wherever the client has a stack. One on an instance that is gone is gone with it.
async fn remove_stacks(ctx: &StepCtx<World>) -> StepResult {
    let params: Delete = ctx.params()?;
    let world = &ctx.world;
    let places = world.store.stacks_of(&params.client).await.map_err(store_error)?;
    // First, so that no instance is allowed to use it any more while some are told.
    let resources = world.store.resources_of(&params.client).await.map_err(store_error)?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    for bucket in resources.iter().filter(|r| r.kind == ResourceKind::Bucket) {
        tx.resource_deleting(&bucket.id).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    for id in places {
        let row = fleet::row(world, &id).await?;
        if row.state != InstancePhase::Released && row.control.is_some() {
            world.agents.of(&row)?.delete_stack(&params.client).await?;
        }
        fleet::grant(world, &id).await?;
        let mut tx = world.store.begin().await.map_err(store_error)?;
        tx.remove_stack(&params.client, &id).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
    }
    Ok(Value::Null)
}

/// The client is deleted, and the receipts go to whoever owned it.
async fn mark(ctx: &StepCtx<World>) -> StepResult {
    let params: Delete = ctx.params()?;
    let world = &ctx.world;
    let resources = world.store.resources_of(&params.client).await.map_err(store_error)?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    if let Some(mut client) = tx.client(&params.client).await.map_err(store_error)? {
        client.stack = StackPhase::Deleted;
        client.hosting = None;
        tx.update_client(&client).await.map_err(store_error)?;
        crate::letters::deleted(world, &mut tx, &client, &resources, ctx.flow_id.as_str())
            .await
            .map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(Value::Null)
}

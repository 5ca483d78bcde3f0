//! Suspend, resume and refresh: the same stack, told to be something else.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stackpro_domain::ClientId;
use stackpro_flow::{FlowSpec, StepCtx, StepError, StepResult, StepSpec};
use stackpro_protocol::agent::Wanted;
use stackpro_store::{InstanceRow, StackPhase};

use super::{act, fleet, stacks};
use crate::world::World;

/// Parameters of all three.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Power {
    pub client: ClientId,
}

pub static SUSPEND: FlowSpec<World> = FlowSpec {
    kind: "suspend",
    version: 1,
    supersedes_parked: false,
    steps: &[
        StepSpec::new("stop", "Pause the site, keep the data", "agent", act!(stop)).commits(),
        StepSpec::new("mark", "Suspended", "store", act!(mark_suspended)).after(&["stop"]),
    ],
};

pub static RESUME: FlowSpec<World> = FlowSpec {
    kind: "resume",
    version: 1,
    supersedes_parked: false,
    steps: &[
        StepSpec::new("start", "Start the site again", "agent", act!(start)).commits(),
        StepSpec::new("probe", "Check that it answers", "probe", act!(probe)).after(&["start"]),
        StepSpec::new("mark", "Ready", "store", act!(mark_ready)).after(&["probe"]),
    ],
};

/// What the client's pages say changed, and nothing else.
pub static REFRESH: FlowSpec<World> = FlowSpec {
    kind: "refresh",
    version: 1,
    supersedes_parked: false,
    steps: &[StepSpec::new("tell", "Update the notice", "agent", act!(tell)).commits()],
};

/// Where the client's stack is.
async fn home(ctx: &StepCtx<World>) -> Result<(stackpro_store::Client, InstanceRow), StepError> {
    let client = stacks::client(&ctx.world, &ctx.subject).await?;
    let hosting = client.hosting.as_ref();
    let hosting = hosting.ok_or_else(|| StepError::Failed("the client runs nowhere".into()))?;
    let row = fleet::row(&ctx.world, &hosting.instance_id).await?;
    Ok((client, row))
}

async fn stop(ctx: &StepCtx<World>) -> StepResult {
    let (client, row) = home(ctx).await?;
    stacks::put(&ctx.world, &client, &row, Wanted::Suspended).await?;
    Ok(Value::Null)
}

async fn mark_suspended(ctx: &StepCtx<World>) -> StepResult {
    let params: Power = ctx.params()?;
    stacks::update(&ctx.world, &params.client, |client| client.stack = StackPhase::Suspended).await?;
    Ok(Value::Null)
}

async fn start(ctx: &StepCtx<World>) -> StepResult {
    let (client, row) = home(ctx).await?;
    stacks::put(&ctx.world, &client, &row, Wanted::Serving).await?;
    Ok(Value::Null)
}

async fn probe(ctx: &StepCtx<World>) -> StepResult {
    let (client, row) = home(ctx).await?;
    stacks::probe_start(&ctx.world, &client, &row).await?;
    Ok(Value::Null)
}

async fn mark_ready(ctx: &StepCtx<World>) -> StepResult {
    let params: Power = ctx.params()?;
    stacks::update(&ctx.world, &params.client, |client| client.stack = StackPhase::Ready).await?;
    Ok(Value::Null)
}

async fn tell(ctx: &StepCtx<World>) -> StepResult {
    let (client, row) = home(ctx).await?;
    let wanted = if client.life.state.is_served() { Wanted::Serving } else { Wanted::Suspended };
    stacks::put(&ctx.world, &client, &row, wanted).await?;
    Ok(Value::Null)
}

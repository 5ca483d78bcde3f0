//! Suspend, resume and refresh: the same stack, told to be something else.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stackpro_domain::ClientId;
use stackpro_flow::{FlowSpec, StepCtx, StepError, StepResult, StepSpec};
use stackpro_protocol::agent::Wanted;
use stackpro_store::{InstanceRow, StackPhase};

use super::{act, fleet, nothing, stacks};
use crate::world::World;

/// Parameters of all three.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Power {
    pub client: ClientId,
}

const fn step(
    name: &'static str,
    title: &'static str,
    needs: &'static [&'static str],
    api: &'static str,
    run: stackpro_flow::StepFn<World>,
) -> StepSpec<World> {
    let undo: stackpro_flow::UndoFn<World> = act!(nothing);
    StepSpec { name, title, needs, commit: false, api, max_attempts: 8, turn_back: false, run, undo }
}

pub static SUSPEND: FlowSpec<World> = FlowSpec {
    kind: "suspend",
    version: 1,
    supersedes_parked: false,
    steps: &[
        StepSpec { commit: true, ..step("stop", "Pause the site, keep the data", &[], "agent", act!(stop)) },
        step("mark", "Suspended", &["stop"], "store", act!(mark_suspended)),
    ],
};

pub static RESUME: FlowSpec<World> = FlowSpec {
    kind: "resume",
    version: 1,
    supersedes_parked: false,
    steps: &[
        StepSpec { commit: true, ..step("start", "Start the site again", &[], "agent", act!(start)) },
        step("probe", "Check that it answers", &["start"], "probe", act!(probe)),
        step("mark", "Ready", &["probe"], "store", act!(mark_ready)),
    ],
};

/// What the client's pages say changed, and nothing else.
pub static REFRESH: FlowSpec<World> = FlowSpec {
    kind: "refresh",
    version: 1,
    supersedes_parked: false,
    steps: &[StepSpec { commit: true, ..step("tell", "Update the notice", &[], "agent", act!(tell)) }],
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
    let client = stacks::client(&ctx.world, &ctx.subject).await?;
    stacks::probe(&ctx.world, &client).await?;
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

//! Provision: from a sign-up to a stack that answers at its own name.
//!
//! ```text
//! place ── server ─┬─ stack ──┐
//!                  ├─ record ─┤
//!                  ├─ access ─┼─ probe ── ready
//! bucket ──────────┘          │
//! mail ───────────────────────┘
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stackpro_cloud::{CloudError, Record};
use stackpro_domain::{ClientId, ResourceId, Time};
use stackpro_flow::{FlowSpec, StepCtx, StepError, StepResult, StepSpec, UndoResult};
use stackpro_protocol::agent::Wanted as WantedState;
use stackpro_store::{HostKind, Hosting, Resource, ResourceKind, StackPhase, Tx};

use super::ledger::{self, Wanted};
use super::{LAUNCH, Launch, act, cloud_error, fleet, stacks, store_error};
use crate::world::World;

/// So many names are tried when others have them. Nobody knows a client's before they sign up: more would be
/// somebody's doing.
const BUCKET_NAMES: u32 = 5;

/// Decided at the sign-up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provision {
    pub client: ClientId,
    pub bucket: ResourceId,
    /// The first that is tried.
    pub bucket_name: String,
    pub record: ResourceId,
    pub mail: ResourceId,
    pub host: String,
}

impl Provision {
    /// Everything that it makes in a cloud.
    fn resources(&self) -> [Wanted<'_>; 3] {
        [self.bucket(), self.mail(), self.record()]
    }

    /// The ledger's rows, to be written with the flow.
    pub fn rows(&self, now: Time) -> [Resource; 3] {
        self.resources().map(|wanted| wanted.row(now))
    }

    fn bucket(&self) -> Wanted<'_> {
        self.wanted(&self.bucket, ResourceKind::Bucket, &self.bucket_name)
    }

    fn mail(&self) -> Wanted<'_> {
        self.wanted(&self.mail, ResourceKind::MailIdentity, &self.host)
    }

    fn record(&self) -> Wanted<'_> {
        self.wanted(&self.record, ResourceKind::Record, &self.host)
    }

    fn wanted<'a>(&'a self, id: &'a ResourceId, kind: ResourceKind, name: &'a str) -> Wanted<'a> {
        Wanted { id, kind, name, client: Some(&self.client) }
    }
}

pub static PROVISION: FlowSpec<World> = FlowSpec {
    kind: "provision",
    version: 1,
    supersedes_parked: true,
    steps: &[
        StepSpec::new("place", "Find a place", "store", act!(place)).undo(act!(unplace)),
        StepSpec::new("bucket", "Create storage", "buckets", act!(bucket)).undo(act!(remove_bucket)),
        StepSpec::new("mail", "Set up mail", "mail", act!(mail)).undo(act!(remove_mail)),
        StepSpec::new("server", "Reach the server", "store", act!(server)).after(&["place"]),
        StepSpec::new("stack", "Start your site", "agent", act!(stack)).after(&["server"]).undo(act!(remove_stack)),
        StepSpec::new("record", "Publish your address", "dns", act!(record))
            .after(&["server"])
            .undo(act!(remove_record)),
        StepSpec::new("access", "Let the server use your storage", "roles", act!(access))
            .after(&["server", "bucket"])
            .undo(act!(withdraw)),
        StepSpec::new("probe", "Check that it answers", "probe", act!(probe))
            .after(&["stack", "record", "access", "mail"]),
        StepSpec::new("ready", "Ready", "store", act!(ready)).after(&["probe"]).commits(),
    ],
};

async fn place(ctx: &StepCtx<World>) -> StepResult {
    let params: Provision = ctx.params()?;
    let mut tx = ctx.world.store.begin().await.map_err(store_error)?;
    let instance = find_place(&ctx.world, &mut tx, &params.client).await?;
    tx.commit().await.map_err(store_error)?;
    Ok(json!(instance))
}

/// Finds a shared instance with room, or decides on a new one, in one transaction: of many who sign up at
/// once the first decides, and the others find what it decided.
async fn find_place(world: &World, tx: &mut Tx, client: &ClientId) -> Result<ResourceId, StepError> {
    if let Some(instance) = tx.place_on_shared(client).await.map_err(store_error)? {
        return Ok(instance.id);
    }
    let new = decide_on_instance(world, tx).await?;
    tx.add_stack(client, &new).await.map_err(store_error)?;
    Ok(new)
}

async fn decide_on_instance(world: &World, tx: &mut Tx) -> Result<ResourceId, StepError> {
    let trial = &world.plans.trial;
    let instance = fleet::new_instance(world, tx, None, &trial.instance_type, trial.clients_per_instance);
    let instance = instance.await.map_err(store_error)?;
    let (now, id) = (world.clock.now(), instance.id.clone());
    let flow = LAUNCH
        .begin(world.ids.flow(now), id.as_str(), &Launch { instance }, now)
        .map_err(|error| StepError::Failed(error.to_string()))?;
    tx.enqueue_flow(flow).await.map_err(store_error)?;
    Ok(id)
}

async fn unplace(ctx: &StepCtx<World>) -> UndoResult {
    let params: Provision = ctx.params()?;
    let world = &ctx.world;
    let places = world.store.stacks_of(&params.client).await.map_err(store_error)?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    for instance in places {
        tx.remove_stack(&params.client, &instance).await.map_err(store_error)?;
    }
    if let Some(mut client) = tx.client(&params.client).await.map_err(store_error)? {
        client.stack = StackPhase::Failed;
        client.hosting = None;
        tx.update_client(&client).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(())
}

/// Under the ledger's name. When somebody else has it, the next one is in the ledger before it is tried: so whatever
/// dies in between, the ledger names what was made.
async fn bucket(ctx: &StepCtx<World>) -> StepResult {
    let params: Provision = ctx.params()?;
    let world = &ctx.world;
    let tags = params.bucket().tags();
    loop {
        let row = world.store.resource(&params.bucket).await.map_err(store_error)?;
        let row = row.ok_or_else(|| StepError::Failed(format!("{} is not in the ledger", params.bucket_name)))?;
        let taken = match world.cloud.buckets.create(&row.name, &tags).await {
            Ok(()) => return Ok(Value::Null),
            Err(taken @ CloudError::Taken { .. }) => taken,
            Err(error) => return Err(cloud_error(error)),
        };
        let Some(next) = next_bucket_name(&params.bucket_name, &row.name) else { return Err(cloud_error(taken)) };
        tracing::warn!(client = %params.client, %taken, next, "a bucket's name is taken");
        ledger::rename(world, &row, &next).await?;
    }
}

/// The name after this one, of those that are tried: `first`, `first-2` and so on.
fn next_bucket_name(first: &str, now: &str) -> Option<String> {
    let number = match now.strip_prefix(first)? {
        "" => 1,
        rest => rest.strip_prefix('-')?.parse::<u32>().ok()?,
    };
    (number < BUCKET_NAMES).then(|| format!("{first}-{}", number + 1))
}

async fn remove_bucket(ctx: &StepCtx<World>) -> UndoResult {
    let params: Provision = ctx.params()?;
    Ok(ledger::remove_by_id(&ctx.world, &params.bucket).await?)
}

async fn mail(ctx: &StepCtx<World>) -> StepResult {
    let params: Provision = ctx.params()?;
    let wanted = params.mail();
    ctx.world.cloud.mail.create_identity(wanted.name, &wanted.tags()).await.map_err(cloud_error)?;
    Ok(Value::Null)
}

async fn remove_mail(ctx: &StepCtx<World>) -> UndoResult {
    let params: Provision = ctx.params()?;
    Ok(ledger::remove_by_id(&ctx.world, &params.mail).await?)
}

/// Waits for the instance. One whose launch was taken back gives way to another, for which the next attempt waits:
/// so the place is where the database says, and not where it was found first.
async fn server(ctx: &StepCtx<World>) -> StepResult {
    let params: Provision = ctx.params()?;
    let world = &ctx.world;
    let places = world.store.stacks_of(&params.client).await.map_err(store_error)?;
    let instance = places.into_iter().next().map_or_else(|| ctx.output("place"), Ok)?;
    if let Some(row) = fleet::launched(world, &instance).await? {
        return Ok(json!(row.id));
    }
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.remove_stack(&params.client, &instance).await.map_err(store_error)?;
    find_place(world, &mut tx, &params.client).await?;
    tx.commit().await.map_err(store_error)?;
    Err(StepError::Retry("the server that was being launched did not come up: another one is taken".into()))
}

async fn access(ctx: &StepCtx<World>) -> StepResult {
    fleet::grant(&ctx.world, &ctx.output("server")?).await?;
    Ok(Value::Null)
}

/// Nobody may use a bucket that is on its way out.
async fn withdraw(ctx: &StepCtx<World>) -> UndoResult {
    let params: Provision = ctx.params()?;
    let world = &ctx.world;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.resource_deleting(&params.bucket).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    Ok(fleet::grant(world, &ctx.output("server")?).await?)
}

async fn stack(ctx: &StepCtx<World>) -> StepResult {
    let world = &ctx.world;
    let client = stacks::client(world, &ctx.subject).await?;
    let row = fleet::row(world, &ctx.output("server")?).await?;
    stacks::put(world, &client, &row, WantedState::Serving).await?;
    Ok(Value::Null)
}

async fn remove_stack(ctx: &StepCtx<World>) -> UndoResult {
    let params: Provision = ctx.params()?;
    let row = fleet::row(&ctx.world, &ctx.output("server")?).await?;
    let agent = ctx.world.agents.of(&row).map_err(StepError::from)?;
    agent.delete_stack(&params.client).await.map_err(StepError::from)?;
    Ok(())
}

async fn record(ctx: &StepCtx<World>) -> StepResult {
    let params: Provision = ctx.params()?;
    let world = &ctx.world;
    let row = fleet::row(world, &ctx.output("server")?).await?;
    let target = row.front.ok_or_else(|| StepError::Retry("the instance has not said where it answers".into()))?;
    let tags = params.record().tags();
    let record = Record { name: params.host, target, ttl_seconds: world.settings.dns_ttl_seconds, tags };
    world.cloud.dns.upsert(&record).await.map_err(cloud_error)?;
    Ok(Value::Null)
}

async fn remove_record(ctx: &StepCtx<World>) -> UndoResult {
    let params: Provision = ctx.params()?;
    Ok(ledger::remove_by_id(&ctx.world, &params.record).await?)
}

async fn probe(ctx: &StepCtx<World>) -> StepResult {
    let client = stacks::client(&ctx.world, &ctx.subject).await?;
    let row = fleet::row(&ctx.world, &ctx.output("server")?).await?;
    stacks::probe_start(&ctx.world, &client, &row).await?;
    Ok(Value::Null)
}

/// The probe has shown that everything is there: the ledger and the client say so together.
async fn ready(ctx: &StepCtx<World>) -> StepResult {
    let params: Provision = ctx.params()?;
    let world = &ctx.world;
    let row = fleet::row(world, &ctx.output("server")?).await?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    for wanted in params.resources() {
        // The ledger's name, which may be another than was wanted first.
        if let Some(row) = tx.resource(wanted.id).await.map_err(store_error)? {
            tx.resource_created(wanted.id, Some(&row.name)).await.map_err(store_error)?;
        }
    }
    if let Some(mut client) = tx.client(&params.client).await.map_err(store_error)? {
        client.stack = StackPhase::Ready;
        client.hosting =
            Some(Hosting { instance_id: row.id.clone(), cloud_id: row.cloud_id.clone(), kind: HostKind::Shared });
        tx.update_client(&client).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)?;
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tried_one_after_another_and_not_for_ever() {
        let next = |now: &str| next_bucket_name("stackpro-acme-7f3k", now);
        assert_eq!(next("stackpro-acme-7f3k").as_deref(), Some("stackpro-acme-7f3k-2"));
        assert_eq!(next("stackpro-acme-7f3k-4").as_deref(), Some("stackpro-acme-7f3k-5"));
        assert_eq!(next("stackpro-acme-7f3k-5"), None);
        assert_eq!(next("stackpro-other-2"), None);
    }
}

//! Instances: launching one with a role of its own, waiting until its agent has enrolled, and saying what its
//! role may use. Shared by the flow that launches a shared instance and by the one that moves a client to an
//! instance of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stackpro_cloud::LaunchSpec;
use stackpro_domain::{ClientId, ResourceId};
use stackpro_flow::StepError;
use stackpro_store::{HostKind, InstancePhase, InstanceRow, Purpose, ResourceKind, ResourceState, StoreError, Tx};

use super::ledger::{self, Wanted};
use super::{cloud_error, store_error};
use crate::certificates::handout;
use crate::world::World;

const GLANCE: Duration = Duration::from_millis(30);
/// How often the clients of an instance may change while its role is told of them.
const GRANTS: u32 = 10;

/// An enrolment token outlives any launch that may still succeed.
const ENROL_TOKEN_MS: i64 = 24 * stackpro_domain::time::HOUR;

/// An instance that is to be launched, decided before the first step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewInstance {
    pub id: ResourceId,
    /// The cloud's idempotency token.
    pub token: String,
    pub instance_type: String,
    /// The name of its role.
    pub role: String,
    /// Whose own it is; none when it is shared.
    pub client: Option<ClientId>,
}

impl NewInstance {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { id: &self.id, kind: ResourceKind::Instance, name: &self.token, client: self.client.as_ref() }
    }

    fn wanted_role<'a>(&'a self, id: &'a ResourceId) -> Wanted<'a> {
        Wanted { id, kind: ResourceKind::Role, name: &self.role, client: self.client.as_ref() }
    }
}

/// Decides on an instance and writes all that must be there before it is launched: its row, the ledger's two,
/// and the hash of the token with which its agent will enrol.
pub async fn new_instance(
    world: &World,
    tx: &mut Tx,
    client: Option<&ClientId>,
    instance_type: &str,
    capacity: u32,
) -> Result<NewInstance, StoreError> {
    let now = world.clock.now();
    let id = world.ids.resource(now);
    let new = NewInstance {
        token: format!("launch-{id}"),
        role: format!("{}-{id}", world.cloud.installation),
        id,
        instance_type: instance_type.to_owned(),
        client: client.cloned(),
    };
    tx.insert_resource(&new.wanted_role(&new.id.role()).row(now)).await?;
    tx.insert_resource(&new.wanted().row(now)).await?;
    tx.insert_instance(&InstanceRow {
        id: new.id.clone(),
        cloud_id: None,
        kind: if client.is_some() { HostKind::Dedicated } else { HostKind::Shared },
        instance_type: new.instance_type.clone(),
        capacity,
        state: InstancePhase::Launching,
        front: None,
        control: None,
        fingerprint: None,
        edition: None,
        version: None,
        enrolled_at: None,
        last_report_at: None,
        created_at: now,
        clients: 0,
    })
    .await?;
    let token = world.secrets.enrol_token(&new.id);
    let hash = crate::auth::hash_token(&token);
    tx.insert_token(Purpose::Enrol, &hash, new.id.as_str(), world.real_now().plus(ENROL_TOKEN_MS)).await?;
    Ok(new)
}

/// What is wrong with a cloud is said before the first launch, and not by an instance that never comes up.
/// Looked at once a process, and no more once an instance has enrolled: then it was all right.
async fn may_launch(world: &World) -> Result<(), StepError> {
    if world.launch_checked.get().is_some() {
        return Ok(());
    }
    let instances = world.store.instances(false).await.map_err(store_error)?;
    if !instances.iter().any(|row| row.enrolled_at.is_some()) {
        for check in world.cloud.checks.before_launch().await {
            if let Err(wrong) = check.found {
                return Err(StepError::Retry(format!("{}: {wrong}", check.name)));
            }
        }
    }
    let _ = world.launch_checked.set(());
    Ok(())
}

/// Makes the role that it will have, which may use nothing yet.
pub(super) async fn create_role(world: &World, new: &NewInstance) -> Result<(), StepError> {
    let id = new.id.role();
    let wanted = new.wanted_role(&id);
    world.cloud.roles.create(wanted.name, &wanted.tags()).await.map_err(cloud_error)?;
    ledger::created(world, &id, Some(wanted.name)).await
}

/// After its instance.
pub(super) async fn remove_role(world: &World, instance: &ResourceId) -> Result<(), StepError> {
    ledger::remove_by_id(world, &instance.role()).await
}

/// Lets the instance's role use the buckets of all who are placed there, and no others. When several do so at
/// once, the last one to say it has looked since, so that in the end it is right.
pub(super) async fn grant(world: &World, instance: &ResourceId) -> Result<(), StepError> {
    let role = world.store.resource(&instance.role()).await.map_err(store_error)?;
    // One that is not there yet may use nothing, and neither may one that is gone.
    let Some(role) = role.filter(|role| role.state == ResourceState::Created) else { return Ok(()) };
    let on = async || world.store.buckets_on(instance).await.map_err(store_error);
    let mut buckets = on().await?;
    for _ in 0..GRANTS {
        world.cloud.roles.allow(&role.name, &buckets).await.map_err(cloud_error)?;
        let now = on().await?;
        if now == buckets {
            return Ok(());
        }
        buckets = now;
    }
    Err(StepError::Retry("the clients on the instance keep changing".into()))
}

/// Launches it, or finds what an earlier execution launched.
pub(super) async fn launch(world: &World, new: &NewInstance) -> Result<(), StepError> {
    may_launch(world).await?;
    let wanted = new.wanted();
    let spec = LaunchSpec {
        token: new.token.clone(),
        instance_type: new.instance_type.clone(),
        role: new.role.clone(),
        enrol_token: world.secrets.enrol_token(&new.id),
        tags: wanted.tags(),
    };
    let instance = world.cloud.compute.launch(&spec).await.map_err(cloud_error)?;
    ledger::created(world, &new.id, Some(instance.id.as_str())).await?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    let Some(mut row) = tx.instance(&new.id).await.map_err(store_error)? else {
        return Err(StepError::Failed(format!("instance {} is not in the database", new.id)));
    };
    row.cloud_id = Some(instance.id);
    tx.update_instance(&row).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)
}

/// Waits until its agent has enrolled and shows our certificate, if there is one.
pub(super) async fn enrolled(world: &World, id: &ResourceId) -> Result<InstanceRow, StepError> {
    let row = becomes(world, id, |row| row.enrolled_at.is_some() && row.control.is_some()).await?;
    row.ok_or_else(|| StepError::Failed(format!("instance {id} was released")))
}

/// Waits until its launch is over: before that it may still be taken back, whatever its agent says. None when it was.
pub(super) async fn launched(world: &World, id: &ResourceId) -> Result<Option<InstanceRow>, StepError> {
    becomes(world, id, |row| matches!(row.state, InstancePhase::Ready | InstancePhase::Draining)).await
}

/// As it is once it is so; none when it was released.
async fn becomes(
    world: &World,
    id: &ResourceId,
    is_so: impl Fn(&InstanceRow) -> bool,
) -> Result<Option<InstanceRow>, StepError> {
    let deadline = tokio::time::Instant::now() + world.settings.patience;
    loop {
        let row = world.store.instance(id).await.map_err(store_error)?;
        match row {
            Some(row) if row.state == InstancePhase::Released => return Ok(None),
            Some(row) if is_so(&row) => {
                handout::equip(world, &row).await.map_err(|error| StepError::Retry(error.to_string()))?;
                return Ok(Some(row));
            }
            Some(_) => {}
            None => return Err(StepError::Failed(format!("instance {id} is not in the database"))),
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(StepError::Retry(not_enrolled(world, id).await?));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn not_enrolled(world: &World, id: &ResourceId) -> Result<String, StepError> {
    let failure = world.store.setup_failure(id).await.map_err(store_error)?;
    let last = failure.as_ref().and_then(|failure| failure.log.lines().last());
    Ok(last.map_or_else(
        || "the instance runs, and its agent has not enrolled yet".to_owned(),
        |said| format!("the setup of instance {id} fails: {said} (its log is on the console, under Instances)"),
    ))
}

/// The instance's row, of which a step knows that it exists.
pub(super) async fn row(world: &World, id: &ResourceId) -> Result<InstanceRow, StepError> {
    let row = world.store.instance(id).await.map_err(store_error)?;
    row.ok_or_else(|| StepError::Failed(format!("instance {id} is not in the database")))
}

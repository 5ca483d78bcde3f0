//! Resources and their rows: the row is committed, with whatever decides on it, before the call that makes the
//! thing, and stays until the call that removes it has succeeded. So whatever dies in between, nothing exists that is not written down.

use stackpro_cloud::Tags;
use stackpro_domain::{ClientId, ResourceId, Time};
use stackpro_flow::StepError;
use stackpro_store::{Resource, ResourceKind, ResourceState};

use super::{cloud_error, store_error};
use crate::world::World;

/// A resource to be made.
pub(super) struct Wanted<'a> {
    pub id: &'a ResourceId,
    pub kind: ResourceKind,
    /// Deterministic, or a token: by it a call that is made twice makes one thing.
    pub name: &'a str,
    pub client: Option<&'a ClientId>,
}

impl Wanted<'_> {
    pub(super) fn tags(&self) -> Tags {
        Tags { resource_id: self.id.to_string(), client_id: self.client.map(ToString::to_string) }
    }

    /// The row as it stands before anything exists.
    pub(super) fn row(&self, now: Time) -> Resource {
        Resource {
            id: self.id.clone(),
            kind: self.kind,
            name: self.name.to_owned(),
            cloud_id: None,
            client_id: self.client.cloned(),
            state: ResourceState::Intended,
            created_at: now,
            deleted_at: None,
        }
    }
}

/// Commits that it exists.
pub(super) async fn created(world: &World, id: &ResourceId, cloud_id: Option<&str>) -> Result<(), StepError> {
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.resource_created(id, cloud_id).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)
}

/// Commits another name for what does not exist yet under its own.
pub(super) async fn rename(world: &World, resource: &Resource, name: &str) -> Result<(), StepError> {
    let mut tx = world.store.begin().await.map_err(store_error)?;
    if !tx.rename_resource(&resource.id, &resource.name, name).await.map_err(store_error)? {
        return Err(StepError::Retry(format!("the ledger's row of {} was changed meanwhile", resource.name)));
    }
    tx.commit().await.map_err(store_error)
}

/// Removes what a row stands for, whatever its kind, and commits that it is gone: the receipt.
pub(super) async fn remove(world: &World, resource: &Resource) -> Result<(), StepError> {
    if resource.state == ResourceState::Deleted {
        return Ok(());
    }
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.resource_deleting(&resource.id).await.map_err(store_error)?;
    tx.commit().await.map_err(store_error)?;
    let cloud = &world.cloud;
    match resource.kind {
        ResourceKind::Bucket => cloud.buckets.delete(&resource.name, resource.id.as_str()).await,
        ResourceKind::Record => cloud.dns.delete(&resource.name).await,
        ResourceKind::MailIdentity => cloud.mail.delete_identity(&resource.name).await,
        ResourceKind::Role => cloud.roles.delete(&resource.name).await,
        ResourceKind::Instance => terminate(world, resource).await,
    }
    .map_err(cloud_error)?;
    let mut tx = world.store.begin().await.map_err(store_error)?;
    tx.resource_deleted(&resource.id, world.clock.now()).await.map_err(store_error)?;
    if resource.kind == ResourceKind::Instance
        && let Some(mut instance) = tx.instance(&resource.id).await.map_err(store_error)?
    {
        instance.state = stackpro_store::InstancePhase::Released;
        tx.update_instance(&instance).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)
}

/// An instance whose launch was answered is known by its id; one whose answer was lost, by its tag.
async fn terminate(world: &World, resource: &Resource) -> stackpro_cloud::Result<()> {
    let compute = &world.cloud.compute;
    if let Some(id) = resource.cloud_id.as_deref().and_then(|id| id.parse().ok()) {
        return compute.terminate(&id).await;
    }
    let ours = compute.list().await?;
    for instance in ours.iter().filter(|i| i.tags.resource_id == resource.id.as_str()) {
        compute.terminate(&instance.id).await?;
    }
    Ok(())
}

/// Removes a resource by its id; nothing happens when it was never intended.
pub(super) async fn remove_by_id(world: &World, id: &ResourceId) -> Result<(), StepError> {
    let resources = world.store.resource(id).await.map_err(store_error)?;
    match resources {
        Some(resource) => remove(world, &resource).await,
        None => Ok(()),
    }
}

//! Instances: keeps room for the next trials, and starts what stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use stackpro_cloud::InstanceState;
use stackpro_domain::InstanceId;
use stackpro_domain::placement::{Room, headroom};
use stackpro_flow::StepError;
use stackpro_store::{HostKind, InstancePhase, InstanceRow, StoreError};
use tokio_util::sync::CancellationToken;

use super::every;
use crate::flows::{LAUNCH, Launch, new_instance};
use crate::world::World;

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cloud(#[from] stackpro_cloud::CloudError),
    #[error(transparent)]
    Flow(#[from] serde_json::Error),
    #[error(transparent)]
    Step(#[from] StepError),
}

pub async fn run(world: &World, shutdown: CancellationToken) {
    every("fleet", Duration::from_secs(2), &world.wakes.fleet, shutdown, || round(world)).await;
}

pub async fn round(world: &World) -> Result<(), FleetError> {
    let instances = world.store.instances(false).await?;
    warm(world, &instances).await?;
    revive(world, &instances).await
}

/// Launches shared instances until so many trials as the settings say would find a place at once.
async fn warm(world: &World, instances: &[InstanceRow]) -> Result<(), FleetError> {
    let trial = &world.plans.trial;
    let rooms: Vec<Room> = instances.iter().filter(|i| i.kind == HostKind::Shared).map(room).collect();
    let missing = headroom(&rooms, world.settings.warm_places, trial.clients_per_instance);
    for _ in 0..missing {
        let mut tx = world.store.begin().await?;
        let new = new_instance(world, &mut tx, None, &trial.instance_type, trial.clients_per_instance).await?;
        let now = world.clock.now();
        let subject = new.id.to_string();
        tx.enqueue_flow(LAUNCH.begin(world.ids.flow(now), &subject, &Launch { instance: new }, now)?).await?;
        tx.commit().await?;
    }
    Ok(())
}

fn room(instance: &InstanceRow) -> Room {
    Room {
        // A row that has no cloud id yet is one that is being launched: room all the same.
        instance: instance.cloud_id.clone().unwrap_or_else(|| unlaunched(instance)),
        clients: instance.clients,
        capacity: instance.capacity,
        open: matches!(instance.state, InstancePhase::Launching | InstancePhase::Ready),
    }
}

#[allow(clippy::expect_used)] // Both are plain ids of the same alphabet.
fn unlaunched(instance: &InstanceRow) -> stackpro_domain::InstanceId {
    instance.id.as_str().parse().expect("a resource id is an id")
}

/// Starts every instance of the ledger that its cloud says has stopped, also one whose agent has not enrolled
/// yet: nobody else would, and the flow that launched it waits. One call tells of all; an edge tries a door that
/// is closed for longer than this takes, so that a crashed agent is not noticed by visitors.
async fn revive(world: &World, instances: &[InstanceRow]) -> Result<(), FleetError> {
    let states = world.cloud.compute.list().await?.into_iter().map(|i| (i.id, i.state)).collect();
    let launched = instances.iter().filter_map(|i| Some((i.state, i.cloud_id.as_ref()?)));
    for instance in stopped(launched, &states) {
        tracing::warn!(%instance, "an instance stopped; starting it");
        // The others are not to wait for one that cannot be started: it may be terminated by now.
        if let Err(error) = world.cloud.compute.start(instance).await {
            tracing::warn!(%instance, %error, "an instance could not be started");
        }
    }
    Ok(())
}

/// Of these instances those that stopped. One that is being launched may not be listed yet.
fn stopped<'a>(
    instances: impl Iterator<Item = (InstancePhase, &'a InstanceId)>,
    states: &BTreeMap<InstanceId, InstanceState>,
) -> Vec<&'a InstanceId> {
    let is_stopped = |(phase, id): &(InstancePhase, &InstanceId)| match states.get(*id) {
        None if *phase != InstancePhase::Launching => {
            tracing::error!(instance = %id, "an instance of the ledger is not in the cloud");
            false
        }
        state => state == Some(&InstanceState::Stopped),
    };
    instances.filter(is_stopped).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stopped_is_started_wherever_it_stands() {
        let phases = [InstancePhase::Launching, InstancePhase::Ready, InstancePhase::Draining];
        let ids: Vec<InstanceId> = (0..3).map(|n| format!("i-{n}").parse().unwrap()).collect();
        let found = |states| stopped(phases.into_iter().zip(&ids), &states);
        let all = |state| ids.iter().map(|id| (id.clone(), state)).collect::<BTreeMap<_, _>>();
        assert_eq!(found(all(InstanceState::Stopped)), ids.iter().collect::<Vec<_>>());
        for other in [InstanceState::Pending, InstanceState::Running] {
            assert!(found(all(other)).is_empty());
        }
        assert!(found(BTreeMap::new()).is_empty());
    }
}

//! Leaks: compares the ledger with what the cloud lists under our tag. What nobody owns is shown to the
//! operator at once, and removed when it is still there after a delay; what is missing is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use stackpro_cloud::{Cloud, InstanceState};
use stackpro_domain::Time;
use stackpro_store::{ResourceKind, StoreError};
use tokio_util::sync::CancellationToken;

use super::every;
use crate::drift::{Comparison, Drift, Found};
use crate::world::World;

/// So long an ownerless resource may stay: longer than any launch whose row might come late.
const DELAY_MS: i64 = 10 * 60 * 1000;
/// Rows of the ledger that are in memory at once.
const PAGE: u32 = 500;

#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cloud(#[from] stackpro_cloud::CloudError),
}

pub async fn run(world: &World, shutdown: CancellationToken) {
    every("sweeper", Duration::from_secs(30), &world.wakes.sweeper, shutdown, || round(world)).await;
}

pub async fn round(world: &World) -> Result<(), SweepError> {
    let now = world.real_now();
    let mut drift = drift(world, &world.drift.get(), now).await?;
    for (found, since) in drift.ownerless.clone() {
        if now.since(since) >= DELAY_MS {
            tracing::warn!(kind = found.kind, name = found.name, "removing a resource that nobody owns");
            // What cannot be removed stays in sight, and keeps neither the others nor itself from the next round.
            match remove(&world.cloud, &found).await {
                Ok(()) => drop(drift.ownerless.remove(&found)),
                Err(error) => tracing::warn!(kind = found.kind, name = found.name, %error, "it stays for now"),
            }
        }
    }
    world.drift.set(drift);
    Ok(())
}

/// Where the ledger and the cloud differ now; `before` is what the last look saw.
pub async fn drift(world: &World, before: &Drift, now: Time) -> Result<Drift, SweepError> {
    // The cloud first: what is made in between has its row already, and is not taken for ownerless.
    let mut comparison = Comparison::with(inventory(&world.cloud).await?);
    let mut last = None;
    loop {
        let rows = world.store.live_resources(last.as_ref(), PAGE).await?;
        for row in &rows {
            comparison.see(row);
        }
        last = match rows.last() {
            Some(row) if rows.len() == PAGE as usize => Some(row.id.clone()),
            _ => return Ok(comparison.end(before, now)),
        };
    }
}

/// Everything in the cloud under our tag.
async fn inventory(cloud: &Cloud) -> Result<BTreeSet<Found>, stackpro_cloud::CloudError> {
    let found = |kind: ResourceKind, name: String, tags: &stackpro_cloud::Tags| Found {
        kind: kind.as_str().to_owned(),
        name,
        resource_id: tags.resource_id.clone(),
    };
    let mut all = BTreeSet::new();
    for instance in cloud.compute.list().await? {
        if instance.state != InstanceState::Terminated {
            all.insert(found(ResourceKind::Instance, instance.id.to_string(), &instance.tags));
        }
    }
    all.extend(cloud.buckets.list().await?.into_iter().map(|b| found(ResourceKind::Bucket, b.name, &b.tags)));
    all.extend(cloud.dns.list().await?.into_iter().map(|r| found(ResourceKind::Record, r.name, &r.tags)));
    let identities = cloud.mail.list_identities().await?;
    all.extend(identities.into_iter().map(|i| found(ResourceKind::MailIdentity, i.domain, &i.tags)));
    all.extend(cloud.roles.list().await?.into_iter().map(|r| found(ResourceKind::Role, r.name, &r.tags)));
    // Untagged ones are the operator's own.
    all.retain(|found| !found.resource_id.is_empty());
    Ok(all)
}

async fn remove(cloud: &Cloud, found: &Found) -> Result<(), stackpro_cloud::CloudError> {
    match ResourceKind::parse(&found.kind) {
        Some(ResourceKind::Instance) => match found.name.parse() {
            Ok(id) => cloud.compute.terminate(&id).await,
            Err(_) => Ok(()),
        },
        Some(ResourceKind::Bucket) => cloud.buckets.delete(&found.name, &found.resource_id).await,
        Some(ResourceKind::Record) => cloud.dns.delete(&found.name).await,
        Some(ResourceKind::MailIdentity) => cloud.mail.delete_identity(&found.name).await,
        Some(ResourceKind::Role) => cloud.roles.delete(&found.name).await,
        None => Ok(()),
    }
}

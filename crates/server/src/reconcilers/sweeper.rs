//! Leaks: compares the ledger with what the cloud lists under our tag. What nobody owns is shown to the
//! operator at once, and removed when it is still there after a delay; what is missing is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use stackpro_cloud::{Cloud, InstanceState};
use stackpro_domain::Time;
use stackpro_store::{Resource, ResourceKind, ResourceState, StoreError};
use tokio_util::sync::CancellationToken;

use super::every;
use crate::world::World;

/// So long an ownerless resource may stay: longer than any launch whose row might come late.
const DELAY_MS: i64 = 10 * 60 * 1000;

/// Something that exists in the cloud under our tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Found {
    pub kind: String,
    /// What the cloud calls it.
    pub name: String,
    /// Of the ledger's row that it was made for.
    pub resource_id: String,
}

/// Where ledger and cloud differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// In the cloud, without a row that says that it may exist; and since when that is known.
    pub ownerless: BTreeMap<Found, Time>,
    /// Rows whose resource is not in the cloud.
    pub missing: Vec<String>,
}

/// What the last round saw.
#[derive(Default)]
pub struct LastDrift(Mutex<Drift>);

impl LastDrift {
    pub fn get(&self) -> Drift {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, drift: Drift) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = drift;
    }
}

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
    // The cloud first: what is made in between has its row already, and is not taken for ownerless.
    let found = inventory(&world.cloud).await?;
    let rows = world.store.live_resources().await?;
    let before = world.drift.get();
    let now = world.real_now();
    let mut drift = compare(&rows, found, &before, now);
    for (found, since) in drift.ownerless.clone() {
        if now.since(since) >= DELAY_MS {
            tracing::warn!(kind = found.kind, name = found.name, "removing a resource that nobody owns");
            remove(&world.cloud, &found).await?;
            drift.ownerless.remove(&found);
        }
    }
    world.drift.set(drift);
    Ok(())
}

/// Everything in the cloud under our tag.
pub async fn inventory(cloud: &Cloud) -> Result<BTreeSet<Found>, stackpro_cloud::CloudError> {
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
    // Untagged ones are the operator's own.
    all.retain(|found| !found.resource_id.is_empty());
    Ok(all)
}

fn compare(rows: &[Resource], found: BTreeSet<Found>, before: &Drift, now: Time) -> Drift {
    let owned: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let seen: BTreeSet<String> = found.iter().map(|f| f.resource_id.clone()).collect();
    let missing = rows
        .iter()
        .filter(|row| row.state == ResourceState::Created && !seen.contains(row.id.as_str()))
        .map(|row| format!("{} {}", row.kind.as_str(), row.cloud_id.as_deref().unwrap_or(&row.name)))
        .collect();
    let ownerless = found
        .into_iter()
        .filter(|f| !owned.contains(f.resource_id.as_str()))
        .map(|f| {
            let since = before.ownerless.get(&f).copied().unwrap_or(now);
            (f, since)
        })
        .collect();
    Drift { ownerless, missing }
}

async fn remove(cloud: &Cloud, found: &Found) -> Result<(), stackpro_cloud::CloudError> {
    match ResourceKind::parse(&found.kind) {
        Some(ResourceKind::Instance) => match found.name.parse() {
            Ok(id) => cloud.compute.terminate(&id).await,
            Err(_) => Ok(()),
        },
        Some(ResourceKind::Bucket) => cloud.buckets.delete(&found.name).await,
        Some(ResourceKind::Record) => cloud.dns.delete(&found.name).await,
        Some(ResourceKind::MailIdentity) => cloud.mail.delete_identity(&found.name).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, state: ResourceState) -> Resource {
        Resource {
            id: id.parse().unwrap(),
            kind: ResourceKind::Bucket,
            name: format!("bucket-{id}"),
            cloud_id: None,
            client_id: None,
            state,
            created_at: Time(0),
            deleted_at: None,
        }
    }

    fn found(id: &str) -> Found {
        Found { kind: "bucket".into(), name: format!("bucket-{id}"), resource_id: id.into() }
    }

    #[test]
    fn what_nobody_owns_and_what_is_missing_are_told_apart_from_what_is_on_its_way() {
        let rows =
            [row("a", ResourceState::Created), row("b", ResourceState::Created), row("c", ResourceState::Intended)];
        let first = compare(&rows, [found("a"), found("x")].into(), &Drift::default(), Time(5));
        assert_eq!(first.missing, ["bucket bucket-b"]);
        assert_eq!(first.ownerless, [(found("x"), Time(5))].into());
        // The delay counts from when it was first seen.
        let second = compare(&rows, [found("a"), found("x")].into(), &first, Time(9));
        assert_eq!(second.ownerless[&found("x")], Time(5));
    }
}

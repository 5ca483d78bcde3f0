//! Where the ledger and the cloud differ: compared as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use stackpro_domain::{ResourceId, Time};
use stackpro_store::{Resource, ResourceKind, ResourceState};

/// So many missing ones are kept by name: when more are, something greater is wrong than any of them.
const NAMED: usize = 1_000;

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
    /// Rows whose resource is not in the cloud: the first thousand.
    pub missing: BTreeSet<ResourceId>,
    /// How many there are in all.
    pub missing_count: u64,
}

impl Drift {
    /// How many things are not as the ledger says.
    pub fn count(&self) -> u64 {
        self.ownerless.len() as u64 + self.missing_count
    }
}

/// What the last round saw.
#[derive(Default)]
pub struct LastDrift(Mutex<Arc<Drift>>);

impl LastDrift {
    pub fn get(&self) -> Arc<Drift> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, drift: Drift) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(drift);
    }
}

/// Compares the ledger's live rows, one by one in any order, with what was found: there are many, and none
/// is kept.
pub struct Comparison {
    unseen: BTreeMap<String, Vec<Found>>,
    drift: Drift,
}

impl Comparison {
    pub fn with(found: impl IntoIterator<Item = Found>) -> Self {
        let mut unseen: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        for found in found {
            unseen.entry(found.resource_id.clone()).or_default().push(found);
        }
        Self { unseen, drift: Drift::default() }
    }

    pub fn see(&mut self, row: &Resource) {
        let mut found = self.unseen.remove(row.id.as_str()).unwrap_or_default();
        let is_there = !found.is_empty();
        // A launch whose answers were lost may, against all care, have made a second instance.
        if let (ResourceKind::Instance, Some(known)) = (row.kind, &row.cloud_id) {
            found.retain(|found| found.name != *known);
            if !found.is_empty() {
                self.unseen.insert(row.id.to_string(), found);
            }
        }
        if !is_there && row.state == ResourceState::Created {
            self.drift.missing_count += 1;
            if self.drift.missing.len() < NAMED {
                self.drift.missing.insert(row.id.clone());
            }
        }
    }

    /// What no row claimed is ownerless, and keeps the time of when it was first seen `before`.
    pub fn end(mut self, before: &Drift, now: Time) -> Drift {
        for found in self.unseen.into_values().flatten() {
            let since = before.ownerless.get(&found).copied().unwrap_or(now);
            self.drift.ownerless.insert(found, since);
        }
        self.drift
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
        let compare = |before: &Drift, now| {
            let mut comparison = Comparison::with([found("a"), found("x")]);
            for row in &rows {
                comparison.see(row);
            }
            comparison.end(before, now)
        };
        let first = compare(&Drift::default(), Time(5));
        assert_eq!(first.missing, ["b".parse().unwrap()].into());
        assert_eq!(first.ownerless, [(found("x"), Time(5))].into());
        assert_eq!(first.count(), 2);
        // The delay counts from when it was first seen.
        let second = compare(&first, Time(9));
        assert_eq!(second.ownerless[&found("x")], Time(5));
    }

    #[test]
    fn a_second_instance_for_one_row_is_ownerless_once_the_first_is_known() {
        let instance = |name: &str| Found { kind: "instance".into(), name: name.into(), resource_id: "a".into() };
        let mut row = Resource { kind: ResourceKind::Instance, ..row("a", ResourceState::Intended) };
        let compare = |row: &Resource| {
            let mut comparison = Comparison::with([instance("i-1"), instance("i-2")]);
            comparison.see(row);
            comparison.end(&Drift::default(), Time(5))
        };
        assert_eq!(compare(&row).count(), 0);
        row.cloud_id = Some("i-2".into());
        assert_eq!(compare(&row).ownerless, [(instance("i-1"), Time(5))].into());
    }
}

//! Where the ledger and the cloud differ: compared as plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use stackpro_domain::Time;
use stackpro_store::{Resource, ResourceState};

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

    pub fn set(&self, drift: Drift) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = drift;
    }
}

/// Compares the ledger's live rows with what was found. What is ownerless keeps the time of when it was first
/// seen `before`.
pub fn compare(rows: &[Resource], found: BTreeSet<Found>, before: &Drift, now: Time) -> Drift {
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

#[cfg(test)]
mod tests {
    use stackpro_store::ResourceKind;

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

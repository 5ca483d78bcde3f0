//! The flows: what is done for a client, step by step. Each file is one table; what they share is in
//! [`ledger`] (make and remove resources), [`fleet`] (instances and their agents) and [`stacks`].

mod delete;
mod fleet;
mod launch;
mod ledger;
mod migrate;
mod power;
mod provision;
mod stacks;

use std::sync::{Arc, LazyLock};

use stackpro_cloud::CloudError;
use stackpro_flow::{Flow, Registry, StepError};
use stackpro_store::{Store, StoreError};

use crate::world::World;

pub use delete::{DELETE, Delete};
pub use fleet::new_instance;
pub use launch::{LAUNCH, Launch};
pub use migrate::{MIGRATE, Migrate};
pub use power::{Power, REFRESH, RESUME, SUSPEND};
pub use provision::{PROVISION, Provision};
pub use stacks::probe;

/// Every flow that this build can carry out. Tests walk it: a step is covered by being here.
pub fn registry() -> Result<Registry<World>, String> {
    Registry::new(vec![&PROVISION, &MIGRATE, &SUSPEND, &RESUME, &REFRESH, &DELETE, &LAUNCH])
}

/// What this build says of itself when it asks for work: `provision v1`, …
pub fn known() -> &'static [String] {
    static KNOWN: LazyLock<Arc<[String]>> =
        LazyLock::new(|| registry().map(|registry| registry.known()).unwrap_or_default());
    &KNOWN
}

/// So long a flow that this build does not know may wait before someone should look: a deployment takes less.
const STRANGE_MS: i64 = stackpro_domain::time::MINUTE;

/// Flows that wait for a node that knows them, and that none has taken for a while: the longest due first.
pub async fn strange(store: &Store, limit: u32) -> Result<Vec<Flow>, StoreError> {
    store.strange_flows(known(), STRANGE_MS, limit).await
}

/// A call to a cloud that is refused will not work later either.
fn cloud_error(error: CloudError) -> StepError {
    match error {
        CloudError::Throttled { after, .. } => {
            StepError::Throttled { ms: after.as_millis() as i64, cause: error.to_string() }
        }
        CloudError::Transient { .. } => StepError::Retry(error.to_string()),
        CloudError::Pending { what, after, .. } => StepError::Later { ms: after.as_millis() as i64, note: Some(what) },
        CloudError::Taken { .. } | CloudError::Refused { .. } => StepError::Failed(error.to_string()),
    }
}

fn store_error(error: StoreError) -> StepError {
    StepError::Retry(error.to_string())
}

/// Writes a step as a table wants it: an async function that takes the context.
macro_rules! act {
    ($function:path) => {
        |ctx| Box::pin($function(ctx))
    };
}
use act;

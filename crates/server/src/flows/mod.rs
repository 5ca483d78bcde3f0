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

use stackpro_cloud::CloudError;
use stackpro_flow::{Registry, StepError};
use stackpro_store::StoreError;

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

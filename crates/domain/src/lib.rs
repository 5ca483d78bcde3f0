//! What StackPro knows: ids, plans, a client's life, limits, placement, manifests.
//!
//! Everything here is a plain value or a pure function. There is no IO, no async and no clock:
//! the time and every random choice are arguments. Start reading at [`lifecycle`].

pub mod admission;
pub mod change;
pub mod cost;
pub mod ids;
pub mod lifecycle;
pub mod limits;
pub mod mail;
pub mod manifest;
pub mod money;
pub mod names;
pub mod placement;
pub mod plan;
pub mod prices;
pub mod recipe;
pub mod reversal;
pub mod time;
pub mod zone;

pub use ids::{ClientId, Fingerprint, FlowId, InstanceId, MemberId, ResourceId};
pub use money::{Cents, Micros};
pub use time::{Clock, Span, Time};

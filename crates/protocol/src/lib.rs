//! Wire types: what the public API says ([`api`]) and what control plane and agents say to each other
//! ([`agent`]). Plain data with serde, and nothing that acts.

pub mod agent;
pub mod api;

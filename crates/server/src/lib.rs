//! The control plane: the API, the pages, the flows, the reconcilers and the till.
//!
//! It acts through one [`world::World`] and holds no SQL, no cloud's name and no clock of its own. Start
//! reading at [`world`], then [`http`] for how a request walks through, [`lives`] for how a client's life
//! moves, and [`flows`] for what is done about it.

pub mod admission;
pub mod agents;
pub mod auth;
pub mod cache;
pub mod certificates;
pub mod costs;
pub mod drift;
pub mod flows;
pub mod http;
pub mod ids;
pub mod letters;
pub mod lives;
pub mod pages;
pub mod prober;
pub mod problem;
pub mod recipes;
pub mod reconcilers;
pub mod secrets;
pub mod till;
pub mod web;
pub mod world;

pub use http::router;

#[cfg(test)]
mod testing;

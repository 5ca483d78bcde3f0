//! The control plane: the API, the pages, the flows, the reconcilers and the till.
//!
//! It acts through one [`world::World`] and holds no SQL, no cloud's name and no clock of its own. Start
//! reading at [`world`], then [`http`] for how a request walks through, [`lives`] for how a client's life
//! moves, and [`flows`] for what is done about it.

pub mod auth;
pub mod ids;
pub mod secrets;
pub mod till;
pub mod web;

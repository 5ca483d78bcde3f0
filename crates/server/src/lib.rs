//! The control plane: API, pages, flows, reconcilers, till.

pub mod web;

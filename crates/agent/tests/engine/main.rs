//! Stacks in containers, with a real engine and real programs. `./test recipes` makes what these need.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod isolation;
mod moves;
mod running;
mod stacks;
#[path = "../agent/support.rs"]
mod support;
mod wordpress;

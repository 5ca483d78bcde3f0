//! The agent from outside: real processes, real sockets, real folders.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod contact;
mod limits;
mod moves;
mod portal;
mod public;
mod serving;
mod support;

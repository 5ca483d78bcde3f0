//! The API, asked over its router, with a real database, a real local cloud and the simulated till.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod costs;

mod accounts;
mod admission;
mod agents;
mod attention;
mod authority;
mod bad_input;
mod certificates;
mod edge;
mod gifts;
mod mails;
mod pages;
mod plans;
mod reversals;
mod strange;
mod till;

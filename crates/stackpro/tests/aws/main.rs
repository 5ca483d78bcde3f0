//! The whole product on AWS: the real binary, real agents, and an emulated account that behaves as AWS is
//! documented to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod emulator;
mod instances;
mod journey;
mod refusals;
mod site;
#[path = "../product/travel.rs"]
mod travel;

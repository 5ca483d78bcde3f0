//! The whole product, from outside: the real binary, real sockets, real folders, real processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod access;
mod api;
mod bad_input;
#[cfg(not(feature = "aws"))]
mod clouds;
mod costs;
mod journey;
mod kill;
mod mails;
mod names;
mod postgres;
mod recipes;
mod restart;
mod storage;
mod tls;
mod travel;
mod webhooks;

use stackpro_testkit::{Builder, TestApp};

/// The product of this build, to be set up and started.
fn product() -> Builder {
    TestApp::with(env!("CARGO_BIN_EXE_stackpro"))
}

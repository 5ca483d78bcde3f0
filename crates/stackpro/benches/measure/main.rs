//! The figures that we promise, each measured on the real product and printed as one line of JSON.
//!
//! `./measure` lists them. Speed is given as a share of something measured in the same run, because
//! machines differ. Each measure starts products of its own, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod figures;
mod footprint;
mod lifecycle;
mod load;
mod logins;
mod migration;
mod signup;
mod simulate;
mod throughput;

use std::process::ExitCode;

use stackpro_testkit::{Builder, TestApp};

pub(crate) use figures::{line, ms, percentile, quick, rounded};

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let measured = match arguments.as_slice() {
        ["bare", file] => {
            runtime.block_on(bare::serve(file));
            return ExitCode::SUCCESS;
        }
        ["signup"] => runtime.block_on(signup::measure()),
        ["migration"] => runtime.block_on(migration::measure()),
        ["dashboard"] => runtime.block_on(throughput::dashboard()),
        ["trial-status"] => runtime.block_on(throughput::trial_status()),
        ["webhooks"] => runtime.block_on(throughput::webhooks()),
        ["logins"] => runtime.block_on(logins::measure()),
        ["simulate"] => simulate::measure(),
        ["lifecycle"] => runtime.block_on(lifecycle::measure()),
        ["footprint"] => runtime.block_on(footprint::measure()),
        other => {
            eprintln!("there is no measure {other:?}; ./measure lists them");
            return ExitCode::FAILURE;
        }
    };
    figures::print(&measured)
}

/// The product of this build, quiet, so that writing logs is not what is measured.
fn product() -> Builder {
    TestApp::with(env!("CARGO_BIN_EXE_stackpro")).env("STACKPRO_LOG", "warn")
}

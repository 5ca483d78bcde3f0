//! The figures that we promise, each measured on the real product and printed as one line of JSON.
//!
//! `./measure` lists them. Speed is given as a share of something measured in the same run, because
//! machines differ. Each measure starts products of its own, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod bare;
mod footprint;
mod lifecycle;
mod load;
mod logins;
mod migration;
mod signup;
mod simulate;
mod throughput;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use stackpro_testkit::{Builder, TestApp};

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
    println!("{measured}");
    if measured["pass"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The product of this build, quiet, so that writing logs is not what is measured.
fn product() -> Builder {
    TestApp::with(env!("CARGO_BIN_EXE_stackpro")).env("STACKPRO_LOG", "warn")
}

/// One measure's line: its name, its figures, and whether it keeps the promise.
fn line(name: &str, pass: bool, figures: Value) -> Value {
    let mut line = json!({ "measure": name });
    let fields = line.as_object_mut().expect("an object");
    fields.extend(figures.as_object().expect("figures are an object").clone());
    fields.insert("pass".to_owned(), pass.into());
    line
}

/// The time that this share of all took at most: `percentile(&times, 0.99)`.
fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

/// Small runs for trying the measure itself; their figures prove nothing.
fn quick() -> bool {
    std::env::var_os("QUICK").is_some()
}

//! What we promise of AWS, each measured on the real product and an emulated account, and printed as one line of JSON.
//!
//! `./measure` lists them. They are a target of their own, so that no other measure builds the SDK.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod burst;
mod calls;
#[path = "../measure/figures.rs"]
mod figures;
mod journal;
mod path;
#[path = "../../tests/aws/site.rs"]
mod site;

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;
use stackpro_testkit::aws::Moto;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let measure: fn(&Arc<Moto>) -> Value = match arguments.as_slice() {
        ["aws-calls"] => |moto| run(calls::measure(moto)),
        ["aws-path"] => |moto| run(path::measure(moto)),
        ["aws-burst"] => |moto| run(burst::measure(moto)),
        other => {
            eprintln!("there is no measure {other:?}; ./measure lists them");
            return ExitCode::FAILURE;
        }
    };
    figures::print(&measure(&Arc::new(Moto::start())))
}

fn run(measured: impl Future<Output = Value>) -> Value {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(measured)
}

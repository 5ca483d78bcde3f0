//! `stackpro`: the command line, the configuration and the wiring. What it wires lives in the other crates.
//!
//! Start reading at [`app`] (what a process is made of), then [`serve`].

mod app;
mod aws;
mod command;
mod config;
mod crash;
mod edge;
mod local;
mod serve;
mod served;
mod simulated;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}

//! `stackpro`: the command line, the configuration and the wiring.

fn main() {}

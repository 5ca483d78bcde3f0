//! Load generators: `wrk` on a core of its own, and processes pinned to one.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The core on which what is measured runs; the load comes from the other.
pub(crate) const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
const CONNECTIONS: usize = 32;

/// Requests per second that were answered with 2xx, for so long.
pub(crate) fn wrk(url: &str, headers: &[String], script: Option<&Path>, time: Duration) -> f64 {
    let mut command = Command::new("taskset");
    command.args(["-c", &LOAD_CORE.to_string(), "wrk", "-t1"]);
    command.arg(format!("-c{CONNECTIONS}")).arg(format!("-d{}s", time.as_secs()));
    for header in headers {
        command.args(["-H", header]);
    }
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(url).output().expect("wrk and taskset are installed (./measure sees to it)");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains("Non-2xx"), "not every request was answered well:\n{said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok()).unwrap_or_else(|| panic!("no rate: {said}"))
}

/// The middle one.
pub(crate) fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

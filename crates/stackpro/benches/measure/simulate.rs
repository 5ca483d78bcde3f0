//! Many businesses in virtual time, each with a seed of its own: how many days of one pass in a second, and that no
//! invariant breaks in any. As many run side by side as there are cores.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::{line, quick, rounded};

pub(crate) fn measure() -> Value {
    let (seeds, clients, days) = if quick() { (4, 60, 90) } else { (100, 1_000, 365) };
    let (seeds, clients, days) = (asked("SEEDS", seeds), asked("CLIENTS", clients), asked("DAYS", days));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let (next, told) = (AtomicU64::new(1), Mutex::new((Vec::new(), Vec::new())));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores.min(seeds) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    let found = simulate(clients, days, seed);
                    let (done, broken) = &mut *told.lock().expect("no other thread failed");
                    match found {
                        Ok(report) => done.push(report),
                        Err(why) => {
                            eprintln!("{why}");
                            broken.push(why);
                        }
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (done, broken) = told.into_inner().expect("no thread failed");
    let sum = |field: &str| done.iter().filter_map(|report: &Value| report[field].as_u64()).sum::<u64>();
    let figures = json!({
        "seeds": seeds, "clients": clients, "days": days, "sideBySide": cores, "seconds": rounded(seconds),
        "daysPerSecond": rounded((seeds * days) as f64 / seconds), "brokenInvariants": broken.len(),
        "events": sum("events"), "steps": sum("steps"), "checks": sum("checks"), "crashes": sum("crashes"),
        "changesOfPlan": sum("changes"),
    });
    line("simulate", broken.is_empty() && done.len() as u64 == seeds, figures)
}

/// A number of the environment's, in place of the promised one.
fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The run's report, or why it broke off and how to see that again.
fn simulate(clients: u64, days: u64, seed: u64) -> Result<Value, String> {
    let [clients, days, seed] = [clients, days, seed].map(|number| number.to_string());
    let arguments = ["simulate", "--json", "--clients", &clients, "--days", &days, "--seed", &seed];
    let output = Command::new(env!("CARGO_BIN_EXE_stackpro")).args(arguments).output().expect("the product starts");
    if !output.status.success() {
        return Err(format!("seed {seed}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let reports: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("seed {seed}: {error}"))?;
    Ok(reports[0].clone())
}

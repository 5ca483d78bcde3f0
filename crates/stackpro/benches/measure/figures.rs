//! What every measure prints, and how its figures are made.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

/// Prints a measure's line; fails when it falls short of the promise.
pub(crate) fn print(measured: &Value) -> ExitCode {
    println!("{measured}");
    if measured["pass"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One measure's line: its name, its figures, and whether it keeps the promise.
pub(crate) fn line(name: &str, pass: bool, figures: Value) -> Value {
    let mut line = json!({ "measure": name });
    let fields = line.as_object_mut().expect("an object");
    fields.extend(figures.as_object().expect("figures are an object").clone());
    fields.insert("pass".to_owned(), pass.into());
    line
}

/// The time that this share of all took at most: `percentile(&times, 0.99)`.
pub(crate) fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

pub(crate) fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

/// Small runs for trying the measure itself; their figures prove nothing.
pub(crate) fn quick() -> bool {
    std::env::var_os("QUICK").is_some()
}

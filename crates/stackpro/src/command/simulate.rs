//! `stackpro simulate`: a whole business in virtual time.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use stackpro_simulation::{Plan, Report};

use super::show;
use crate::app::{Fatal, Result};

/// Where a run is kept while it lasts, if there is such a thing: memory.
const MEMORY: &str = "/dev/shm";

#[derive(Args)]
pub(crate) struct Simulate {
    /// How many sign up
    #[arg(long, default_value_t = 200)]
    clients: u32,
    /// How many days
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// The same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many runs, each with the next seed
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How often each call goes wrong, in each way that it can (0 to 0.3)
    #[arg(long, default_value_t = 0.01)]
    faults: f64,
    /// How often a node dies, at each instant of each step (0 to 0.3)
    #[arg(long, default_value_t = 0.002)]
    crashes: f64,
    /// Draw the (last) run into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) async fn run(options: Simulate, as_json: bool) -> Result<()> {
    for (name, odds) in [("faults", options.faults), ("crashes", options.crashes)] {
        if !(0.0..=0.3).contains(&odds) {
            return Err(Fatal(format!("--{name} is {odds}, and must be from 0 to 0.3")));
        }
    }
    let mut reports = Vec::new();
    for seed in (options.seed..).take(options.seeds.max(1) as usize) {
        let mut plan = Plan::new(options.clients, options.days, seed);
        (plan.faults, plan.crashes) = (options.faults, options.crashes);
        let began = Instant::now();
        let report = one(&plan, as_json).await?;
        let seconds = began.elapsed().as_secs_f64();
        if !as_json {
            tell(&report, seconds);
        }
        reports.push(report);
    }
    if as_json {
        show::json(&reports)?;
    }
    if let (Some(file), Some(report)) = (&options.svg, reports.last()) {
        std::fs::write(file, report.svg()).map_err(|e| Fatal::new(&format!("writing {}", file.display()), e))?;
    }
    Ok(())
}

async fn one(plan: &Plan, quiet: bool) -> Result<Report> {
    let place = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("stackpro-simulation-").tempdir_in(place);
    let folder = folder.map_err(|e| Fatal::new("making a folder for the run", e))?;
    let bar = if quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(u64::from(plan.days))
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} day {pos} of {len}, {eta} left") {
        bar.set_style(style);
    }
    let report = stackpro_simulation::run(plan, folder.path(), |day| bar.set_position(u64::from(day))).await;
    bar.finish_and_clear();
    report.map_err(|failed| Fatal(failed.to_string()))
}

fn tell(report: &Report, seconds: f64) {
    let head =
        ["month", "trial", "grace", "active", "past due", "suspended", "deleted", "shared", "dedicated", "revenue"];
    let rows = report.months.iter().map(|month| {
        let mut row = vec![show::cell(&month.month)];
        row.extend(month.states.iter().map(|(_, count)| show::cell(&count.to_string())));
        row.push(show::cell(&month.shared_instances.to_string()));
        row.push(show::cell(&month.dedicated_instances.to_string()));
        row.push(show::cell(&month.revenue.to_string()));
        row
    });
    show::table(&head, rows.collect());
    show::line(&format!(
        "Seed {}: {} clients, {} days, revenue {}, {} changes of plan, {} codes used, {} plans given, {} mails, {} events, {} steps, {} nodes died, {} checks: no invariant is broken.",
        report.seed,
        report.clients,
        report.days,
        report.revenue,
        report.changes,
        report.codes,
        report.gifts,
        report.mails,
        report.events,
        report.steps,
        report.crashes,
        report.checks
    ));
    show::line(&format!("{:.1} days a second.\n", f64::from(report.days) / seconds));
}

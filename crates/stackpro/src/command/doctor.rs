//! `stackpro doctor`: what must be so for StackPro to work, each a line with what to do about it.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use stackpro_cloud::Check;
use stackpro_server::certificates;
use stackpro_server::drift::Drift;
use stackpro_server::flows;
use stackpro_server::reconcilers::sweeper;
use stackpro_server::world::World;

use super::show;
use crate::app::{App, Result};
use crate::config::Config;

/// How often the cloud is asked for what it holds, and how long is waited in between.
const LOOKS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(config: Config, as_json: bool) -> Result<ExitCode> {
    let checks = checks(config).await;
    let healthy = checks.iter().all(|check| check.found.is_ok());
    if as_json {
        let rows: Vec<_> = checks
            .iter()
            .map(|check| json!({ "check": check.name, "ok": check.found.is_ok(), "detail": text(check) }))
            .collect();
        show::json(&rows)?;
    } else {
        let rows = checks.iter().map(|check| {
            vec![
                show::state(if check.found.is_ok() { "ready" } else { "failed" }),
                show::cell(&check.name),
                show::cell(text(check)),
            ]
        });
        show::table(&["", "check", "found, or what to do"], rows.collect());
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(check: &Check) -> &str {
    match &check.found {
        Ok(text) | Err(text) => text,
    }
}

async fn checks(config: Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |name: &str, found| checks.push(Check { name: name.to_owned(), found });
    let data = config.data.display().to_string();
    let app = match App::beside(config).await {
        Ok(app) => app,
        Err(error) => {
            add("data folder and database", Err(error.to_string()));
            return checks;
        }
    };
    add("data folder", Ok(data));
    let world = &app.world;
    let database =
        world.store.ping().await.map(|()| if world.store.is_postgres() { "PostgreSQL" } else { "SQLite" }.to_owned());
    add("database", database.map_err(|error| format!("does not answer ({error}); check DATABASE_URL")));
    add("flows", flows_go_on(world).await);
    add("ledger", ledger(world).await);
    add("prices", prices(world));
    let till = world.till.check().await;
    add("till", till.map_err(|error| format!("{error}; is `stackpro serve` running, or STRIPE_SECRET_KEY set?")));
    if let Some(state) = certificates::state(world).await {
        add("certificate", state);
    }
    for check in world.cloud.checks.all().await {
        add(&format!("{} cloud: {}", world.cloud.name, check.name), check.found);
    }
    checks
}

/// Whether no flow stands still.
async fn flows_go_on(world: &World) -> std::result::Result<String, String> {
    let parked = world.store.flows_needing_attention().await.map_err(|error| error.to_string())?;
    if parked > 0 {
        return Err(format!("{parked} parked; `stackpro flows list --state parked` shows why"));
    }
    match flows::strange(&world.store, 1).await.map_err(|error| error.to_string())?.first() {
        None => Ok("none needs attention".into()),
        Some(flow) => {
            Err(format!("{} waits for a node that knows {}: start one of that version", flow.id, flow.name()))
        }
    }
}

/// Whether what a client costs can be said.
fn prices(world: &World) -> std::result::Result<String, String> {
    let unpriced: Vec<String> = world.prices.unpriced(&world.plans).iter().map(ToString::to_string).collect();
    if unpriced.is_empty() { Ok("every plan's instance type has one".into()) } else { Err(unpriced.join("; ")) }
}

/// Whether the cloud holds what the ledger says, and nothing else.
async fn ledger(world: &World) -> std::result::Result<String, String> {
    // A call that fails once is no illness.
    let look = async || sweeper::drift(world, &Drift::default(), world.real_now()).await;
    let mut found = look().await;
    for _ in 1..LOOKS {
        if found.is_ok() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        found = look().await;
    }
    let drift = found.map_err(|error| error.to_string())?;
    if drift.count() == 0 {
        return Ok("the cloud holds what it says, and nothing else".into());
    }
    let ownerless = drift.ownerless.keys().map(|found| format!("{} {} has no row", found.kind, found.name));
    let missing = drift.missing.iter().map(|id| format!("row {id} has no resource"));
    let first: Vec<String> = ownerless.chain(missing).take(5).collect();
    Err(format!("{} differences: {}; the console's resources page shows them", drift.count(), first.join(", ")))
}

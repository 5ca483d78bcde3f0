//! `serve`: everything in one process; `worker`: the flows and reconcilers alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use stackpro_flow::{Runner, RunnerConfig};
use stackpro_server::world::World;
use stackpro_server::{flows, reconcilers};
use stackpro_store::Purpose;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Fatal, Reached, Result, bind};
use crate::config::Config;
use crate::crash::{CrashAt, FailAt};
use crate::served::Served;
use crate::simulated::SimulatedStripe;

/// How long what is under way may take to end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(10);
const OPERATOR_LINK_MS: i64 = stackpro_domain::time::DAY;

pub(crate) async fn serve(config: Config) -> Result<()> {
    let listener = bind(config.listen).await?;
    let listen = listener.local_addr().map_err(|e| Fatal::new("asking for the address", e))?;
    let simulated = SimulatedStripe::bind(&config).await?;
    let stripe = simulated.base();
    let data = config.data.clone();
    let app = App::open(config, &Reached { listen, stripe: stripe.clone() }).await?;
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let router = stackpro_server::router(Arc::clone(&app.world));
    let router = match &app.local {
        Some(local) => local.serve(router, simulated, (&app.config, &app.world), &shutdown, &tasks)?,
        None => router,
    };
    start_work(&app, &shutdown, &tasks)?;
    let link = operator_link(&app.world).await?;
    let served = Served {
        listen,
        url: &app.world.settings.public_url,
        stripe_url: &stripe,
        pid: std::process::id(),
        operator_link: link.as_deref(),
    };
    served.write(&data).map_err(|e| Fatal::new("writing serve.json", e))?;
    announce(&served, app.world.mailbox.is_some());
    let stop = shutdown.clone();
    tokio::spawn(async move {
        until_told().await;
        stop.cancel();
    });
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        result = serving => result.map_err(|e| Fatal::new("serving", e))?,
        () = async { shutdown.cancelled().await; tokio::time::sleep(PATIENCE).await; } => {
            tracing::warn!("some connections did not end and are cut");
        }
    }
    end(&app, tasks).await
}

pub(crate) async fn work(config: Config) -> Result<()> {
    let app = App::beside(config).await?;
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    start_work(&app, &shutdown, &tasks)?;
    tracing::info!("working; Ctrl-C ends it");
    until_told().await;
    shutdown.cancel();
    end(&app, tasks).await
}

/// The flow runner and the reconcilers.
fn start_work(app: &App, shutdown: &CancellationToken, tasks: &TaskTracker) -> Result<()> {
    let world = &app.world;
    for unpriced in world.prices.unpriced(&world.plans) {
        tracing::warn!("{unpriced}");
    }
    let registry = Arc::new(flows::registry().map_err(Fatal)?);
    let owner = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
    let journal = Arc::new(world.store.clone());
    let mut runner = Runner::new(journal, registry, Arc::clone(world), owner, RunnerConfig::default());
    if let Some(text) = &app.config.crash_at {
        let crash = CrashAt::parse(text, &app.config.data).map_err(Fatal)?;
        let local = app.local.as_ref().map(|local| local.cloud.clone());
        runner = runner.with_hook(move |claim, moment| crash.at(claim, moment, local.as_ref()));
    }
    if let Some(text) = &app.config.fail_at {
        let fail = FailAt::parse(text, &app.config.data).map_err(Fatal)?;
        runner = runner.with_fault(move |claim| fail.cause(claim));
    }
    let runner = Arc::new(runner);
    let alive = Arc::clone(&runner);
    let _ = world.runner.set(Box::new(move || alive.is_alive()));
    let (wakes, waker) = (Arc::clone(world), Arc::clone(&runner));
    world.store.on_commit(move |committed| {
        if committed.enqueued_flow {
            waker.wake();
        }
        wakes.committed(committed);
    });
    let stop = shutdown.clone();
    tasks.spawn(async move { runner.run(stop).await });
    tasks.spawn(reconcilers::run(Arc::clone(world), shutdown.clone()));
    Ok(())
}

async fn end(app: &App, tasks: TaskTracker) -> Result<()> {
    tasks.close();
    if tokio::time::timeout(PATIENCE, tasks.wait()).await.is_err() {
        tracing::warn!("some work did not end in time; it goes on at the next start");
    }
    app.world.store.close().await;
    Ok(())
}

/// Ctrl-C or SIGTERM.
async fn until_told() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A one-time link with which the first operator is made, as long as there is none.
async fn operator_link(world: &World) -> Result<Option<String>> {
    let failed = |e| Fatal::new("preparing the operator's link", e);
    if world.store.operators_exist().await.map_err(failed)? {
        return Ok(None);
    }
    let token = world.ids.token();
    let hash = stackpro_server::auth::hash_token(&token);
    let mut tx = world.store.begin().await.map_err(failed)?;
    let expires_at = world.real_now().plus(OPERATOR_LINK_MS);
    tx.insert_token(Purpose::MakeOperator, &hash, "first", expires_at).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(Some(format!("{}/console/make-operator?token={token}", world.settings.public_url)))
}

#[allow(clippy::print_stdout)] // This is what a person who starts it looks at.
fn announce(served: &Served<'_>, mailbox: bool) {
    println!("StackPro runs. Ctrl-C stops it; your data and your clients' servers stay.\n");
    println!("  Site      {}", served.url);
    println!("  Console   {}/console", served.url);
    if let Some(link) = served.operator_link {
        println!("            make the first operator: {link}");
    }
    if mailbox {
        println!("  Mailbox   {}/console/mailbox", served.url);
    }
    println!("  Stripe    {}\n", served.stripe_url);
}

//! The command line.

mod clients;
mod doctor;
mod flows;
mod follow;
mod show;
mod simulate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use stackpro_domain::ClientId;

use crate::app::{App, Fatal, Result};
use crate::config::{CloudName, Config, LogFormat, Overrides};
use crate::serve;

/// The control plane of a managed-hosting business. Without a command it serves.
#[derive(Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Options {
    /// The folder that holds everything [default: data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where resources live [default: local]
    #[arg(long, global = true)]
    cloud: Option<CloudName>,
    /// Where the site, the API and the console listen [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// A file of settings (TOML); .env.example explains each
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the site, the API and the console, and do the work (the default)
    Serve,
    /// Do the work (flows, mails, dates) without serving
    Worker,
    /// Run the stacks of one instance; clouds start this
    #[command(hide = true)]
    Agent {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Clients: who they are and where they stand
    #[command(subcommand)]
    Clients(Clients),
    /// Flows: what is done for clients, step by step
    #[command(subcommand)]
    Flows(Flows),
    /// Check that everything is as it must be
    Doctor,
    /// End the local instances of a data folder; their data stays
    Stop,
    /// A whole business in virtual time: sign-ups, payments, faults and crashes, checked after every event
    Simulate(simulate::Simulate),
}

#[derive(Subcommand)]
pub(crate) enum Clients {
    /// All clients, newest first
    List {
        /// Only those in this state (trial, grace, active, past_due, suspended, deleted)
        #[arg(long)]
        state: Option<String>,
        /// Part of the company's name, the id or a member's address
        #[arg(long)]
        search: Option<String>,
    },
    /// One client
    Show { client: ClientId },
    /// Move to an instance of their own
    Migrate { client: ClientId },
    /// Stop serving; the data stays
    Suspend { client: ClientId },
    /// Serve again
    Resume {
        client: ClientId,
        /// Days of trial that they get, when they have not paid
        #[arg(long, default_value_t = 7)]
        days: i64,
    },
    /// Give one who has not paid more days of trial
    ExtendTrial {
        client: ClientId,
        /// How many (1 to 90)
        #[arg(long, default_value_t = 7)]
        days: i64,
    },
    /// Give one who has not paid more days until the suspension
    GrantGrace {
        client: ClientId,
        /// How many (1 to 90)
        #[arg(long, default_value_t = 3)]
        days: i64,
    },
    /// Give one who pays for none a plan for nothing; given again, it lasts as long as was said last
    GivePlan {
        client: ClientId,
        /// Which (starter, business, enterprise, or what the plan file has)
        plan: String,
        /// The first day without it (2027-01-31, in UTC); left out, it is for ever
        #[arg(long)]
        until: Option<String>,
    },
    /// Remove everything, for good
    Delete {
        client: ClientId,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum Flows {
    /// All flows, newest first
    List {
        /// Only those in this state (waiting, running, parked, done, undone, abandoned)
        #[arg(long)]
        state: Option<String>,
    },
    /// One flow with its steps
    Show { flow: stackpro_domain::FlowId },
    /// Set a parked flow going again
    Retry { flow: stackpro_domain::FlowId },
    /// Turn a parked flow back: undo what it did
    TurnBack { flow: stackpro_domain::FlowId },
    /// Every kind of flow and its steps
    Kinds,
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            show::error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode> {
    let Options { data, cloud, listen, config, json } = cli.options;
    let config =
        Config::read(config.as_deref(), &Overrides { data, cloud, listen }).map_err(|e| Fatal::new("settings", e))?;
    // One crypto provider for every TLS connection of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = cli.command.unwrap_or(Command::Serve);
    let is_service = matches!(command, Command::Serve | Command::Worker | Command::Agent { .. });
    log(&config, is_service, &command)?;
    if !matches!(command, Command::Simulate(_)) {
        std::fs::create_dir_all(&config.data)
            .map_err(|e| Fatal::new(&format!("making the data folder {}", config.data.display()), e))?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Fatal::new("starting", e))?
        .block_on(run(command, config, json))
}

async fn run(command: Command, config: Config, json: bool) -> Result<ExitCode> {
    match command {
        Command::Serve => serve::serve(config).await?,
        Command::Worker => serve::work(config).await?,
        Command::Agent { dir } => {
            let engine = stackpro_agent::EngineOptions { socket: config.engine, compose: config.compose };
            let options = stackpro_agent::Options { engine, ..stackpro_agent::Options::default() };
            stackpro_agent::run(&dir, options).await.map_err(|e| Fatal(e.to_string()))?;
        }
        Command::Clients(command) => clients::run(command, &App::beside(config).await?, json).await?,
        Command::Flows(Flows::Kinds) => flows::kinds(json)?,
        Command::Flows(command) => flows::run(command, &App::beside(config).await?, json).await?,
        Command::Simulate(options) => simulate::run(options, json).await?,
        Command::Doctor => return doctor::run(config, json).await,
        Command::Stop => {
            let local = App::beside(config).await?.local;
            let local =
                local.ok_or_else(|| Fatal("only the local cloud's instances can be stopped like this".into()))?;
            let failed = local.cloud.stop_all().await;
            for (instance, error) in &failed {
                show::error(&format!("{instance} did not end: {error}"));
            }
            show::line("The local instances have ended; their data stays.");
            return Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Services log what they do; commands only what is wrong, beside their answer.
fn log(config: &Config, is_service: bool, command: &Command) -> Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter = match command {
        _ if is_service => config.log.as_str(),
        // What goes wrong there goes wrong on purpose.
        Command::Simulate(_) => "off",
        _ => "warn",
    };
    let filter = EnvFilter::try_new(filter).map_err(|e| Fatal::new("reading the setting log", e))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

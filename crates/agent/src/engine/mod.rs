//! Stacks in containers: whatever Compose can run, with Docker or Podman.
//!
//! One project a client: a network that reaches no other client's, users of its own (Podman), and limits on
//! each service. Nothing is published: the front door reaches a stack at its address on its own network. [`model`]
//! says what is run, [`project`] runs it, [`names`] lets its programs find each other, [`keeper`] makes what is into
//! what shall be, again and again: containers outlive the agent, and are found by their labels. Compose itself makes
//! and replaces containers; everything else is the engine's own API ([`socket`]).

pub(crate) mod front;
pub(crate) mod keeper;
mod model;
mod names;
pub(crate) mod project;
pub(crate) mod setup;
mod socket;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub(crate) use socket::EngineError;
use socket::{Result, Socket};

/// Where engines listen unless a setting says otherwise. Podman first: it gives each stack users of its own.
const SOCKETS: [&str; 2] = ["/run/podman/podman.sock", "/var/run/docker.sock"];
const COMPOSE: [&str; 6] = [
    "/usr/local/bin/docker-compose",
    "/usr/bin/docker-compose",
    "/usr/libexec/docker/cli-plugins/docker-compose",
    "/usr/lib/docker/cli-plugins/docker-compose",
    "/usr/local/lib/docker/cli-plugins/docker-compose",
    "/usr/local/libexec/docker/cli-plugins/docker-compose",
];
/// The longest that Compose may take: it may have to download images.
const PATIENCE: Duration = Duration::from_mins(15);
/// How long a container may take to end before it is killed.
const GRACE_SECONDS: u32 = 20;
/// Between attempts to remove a container that is busy, in milliseconds.
const REMOVAL_PAUSES: [u64; 4] = [100, 300, 900, 2700];

/// Where the engine and Compose are; none is looked for in the usual places.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    pub socket: Option<PathBuf>,
    pub compose: Option<PathBuf>,
}

/// The engine, once something needs one.
pub(crate) struct Engines {
    options: EngineOptions,
    /// The value of the label of everything that is this agent's.
    agent: String,
    found: OnceCell<Engine>,
}

impl Engines {
    pub(crate) fn new(options: EngineOptions, agent: String) -> Self {
        Self { options, agent, found: OnceCell::new() }
    }

    /// If it was needed so far.
    pub(crate) fn found(&self) -> Option<&Engine> {
        self.found.get()
    }

    /// Looked for until it is found: an engine may start after the agent.
    pub(crate) async fn get(&self) -> Result<&Engine> {
        self.found.get_or_try_init(|| Engine::find(&self.options, &self.agent)).await
    }
}

pub(crate) struct Engine {
    socket: Socket,
    compose: PathBuf,
    podman: bool,
    agent: String,
}

/// A container of a stack, as the engine last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub id: String,
    pub client: String,
    pub service: String,
    /// The model from which it was made.
    pub model: String,
    pub state: String,
    /// While it runs.
    pub networks: Vec<Network>,
}

/// Where a container is on a network, and by which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub name: String,
    pub address: IpAddr,
    pub aliases: Vec<String>,
}

impl Engine {
    async fn find(options: &EngineOptions, agent: &str) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(EngineError::NotRoot);
        }
        let usual = || SOCKETS.iter().map(PathBuf::from).find(|path| path.exists());
        let socket = options.socket.clone().or_else(usual).filter(|path| path.exists());
        let named = || options.socket.as_ref().map_or_else(|| SOCKETS.join(" or "), |path| path.display().to_string());
        let socket = Socket(socket.ok_or_else(|| EngineError::None(named()))?);
        let installed = || COMPOSE.iter().map(PathBuf::from).find(|program| program.is_file());
        let compose = options.compose.clone().or_else(installed).ok_or(EngineError::NoCompose)?;
        let version = socket.get("/version").await?;
        let components = version["Components"].as_array();
        let podman = components.into_iter().flatten().any(|part| part["Name"] == "Podman Engine");
        tracing::info!(socket = %socket.0.display(), podman, version = %version["Version"], "an engine runs stacks");
        Ok(Self { socket, compose, podman, agent: agent.to_owned() })
    }

    /// Whether each stack has users of its own on the machine.
    pub(crate) fn has_users(&self) -> bool {
        self.podman
    }

    /// The containers of one client, or of all.
    pub(crate) async fn containers(&self, client: Option<&str>) -> Result<Vec<Container>> {
        let listed = self.socket.get(&format!("/containers/json?all=true&filters={}", self.labels(client))).await?;
        Ok(listed.as_array().into_iter().flatten().filter_map(container).collect())
    }

    /// `start`, `pause` or `unpause`: each container, side by side.
    pub(crate) async fn all(&self, what: &str, containers: &[Container]) -> Result<()> {
        let act = async |container: &Container| {
            let path = format!("/containers/{}/{what}", container.id);
            self.socket.act(Method::POST, &path).await
        };
        join_all(containers.iter().map(act)).await.into_iter().collect()
    }

    /// Ends and removes what a client has here; their data stays. `gently`: each program may end in its own
    /// way. Otherwise none runs another instruction.
    pub(crate) async fn remove(&self, client: &str, gently: bool) -> Result<()> {
        let containers = self.containers(Some(client)).await?;
        if gently {
            let paused: Vec<_> = containers.iter().filter(|c| c.state == "paused").cloned().collect();
            self.all("unpause", &paused).await?;
            self.all(&format!("stop?t={GRACE_SECONDS}"), &containers).await?;
        }
        // Podman refuses while a program's own memory is still being unmounted, which takes it a moment.
        let remove = async |container: &Container| {
            let path = format!("/containers/{}?force=true&v=true", container.id);
            for pause in REMOVAL_PAUSES {
                match self.socket.act(Method::DELETE, &path).await {
                    Err(EngineError::Refused(_, cause)) if cause.contains("busy") => {
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                    removed => return removed,
                }
            }
            self.socket.act(Method::DELETE, &path).await
        };
        join_all(containers.iter().map(remove)).await.into_iter().collect::<Result<()>>()?;
        let networks = self.socket.get(&format!("/networks?filters={}", self.labels(Some(client)))).await?;
        for id in networks.as_array().into_iter().flatten().filter_map(|network| network["Id"].as_str()) {
            self.socket.act(Method::DELETE, &format!("/networks/{id}")).await?;
        }
        Ok(())
    }

    /// Every client who has something here.
    pub(crate) async fn clients(&self) -> Result<Vec<String>> {
        let mut clients: Vec<String> = self.containers(None).await?.into_iter().map(|c| c.client).collect();
        let networks = self.socket.get(&format!("/networks?filters={}", self.labels(None))).await?;
        let of = |network: &Value| network["Labels"][model::CLIENT].as_str().map(str::to_owned);
        clients.extend(networks.as_array().into_iter().flatten().filter_map(of));
        clients.sort();
        clients.dedup();
        Ok(clients)
    }

    fn labels(&self, client: Option<&str>) -> String {
        let mut labels = vec![format!("{}={}", model::AGENT, self.agent)];
        labels.extend(client.map(|client| format!("{}={client}", model::CLIENT)));
        utf8_percent_encode(&json!({ "label": labels }).to_string(), NON_ALPHANUMERIC).to_string()
    }

    /// Runs Compose on a file, with these variables and no others. Gives what it prints.
    pub(crate) async fn compose(
        &self,
        project: &str,
        file: &Path,
        args: &[&'static str],
        variables: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>> {
        let what = args.first().copied().unwrap_or_default();
        let mut command = Command::new(&self.compose);
        command.args(["--project-name", project, "--progress", "plain", "--file"]).arg(file).args(args);
        command.env_clear().envs(variables);
        // Its own settings, which no variable of a recipe may be.
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        command.env("DOCKER_HOST", format!("unix://{}", self.socket.0.display()));
        command.current_dir(file.parent().unwrap_or(Path::new("/")));
        command.stdin(Stdio::null()).kill_on_drop(true);
        let failed = |cause: String| EngineError::Compose(what, cause);
        let output = timeout(PATIENCE, command.output()).await.map_err(|_| failed("it took too long".into()))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).rev().take(3).collect();
        Err(failed(last.into_iter().rev().collect::<Vec<_>>().join("; ")))
    }
}

fn container(listed: &Value) -> Option<Container> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = &listed["Labels"];
    let none = serde_json::Map::new();
    let networks = listed["NetworkSettings"]["Networks"].as_object().unwrap_or(&none);
    Some(Container {
        id: listed["Id"].as_str()?.to_owned(),
        client: text(&labels[model::CLIENT]),
        service: text(&labels[model::SERVICE]),
        model: text(&labels[model::MODEL]),
        state: text(&listed["State"]),
        networks: networks.iter().filter_map(network).collect(),
    })
}

fn network((name, listed): (&String, &Value)) -> Option<Network> {
    let address = listed["IPAddress"].as_str()?.parse().ok()?;
    let aliases = listed["Aliases"].as_array().into_iter().flatten().filter_map(|alias| alias.as_str());
    let is_name = |alias: &&str| alias.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    Some(Network { name: name.clone(), address, aliases: aliases.filter(is_name).map(str::to_owned).collect() })
}

//! Agents that use the tests' engine, and recipes for them to run.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

use stackpro_domain::recipe::Recipe;
use stackpro_protocol::agent::*;
use stackpro_testkit::Engine;

use crate::support::*;

pub(crate) fn podman(args: &[&str]) -> String {
    Engine::podman(args)
}

/// An agent with an engine. When it goes, what it made at the engine goes too.
pub(crate) struct EngineAgent(TestAgent);

impl Deref for EngineAgent {
    type Target = TestAgent;

    fn deref(&self) -> &TestAgent {
        &self.0
    }
}

impl AsRef<TestAgent> for EngineAgent {
    fn as_ref(&self) -> &TestAgent {
        &self.0
    }
}

impl EngineAgent {
    pub(crate) async fn start(server_url: &str) -> Self {
        Self::start_with(server_url, Doors::Local).await
    }

    pub(crate) async fn start_with(server_url: &str, doors: Doors) -> Self {
        let agent = TestAgent::prepare(server_url, doors);
        let engine = format!("{}\n{}", Engine::socket().display(), Engine::compose().display());
        std::fs::write(agent.dir.path().join(ENGINE), engine).unwrap();
        agent.launch();
        agent.enrolled().await;
        Self(agent)
    }

    pub(crate) fn id(&self) -> String {
        format!("i-{}", self.front.port())
    }

    pub(crate) fn label(&self) -> String {
        format!("com.stackpro.agent={}", self.id())
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        Engine::containers(&self.label())
    }

    pub(crate) fn networks(&self) -> Vec<String> {
        Engine::networks(&self.label())
    }

    /// The container of a client's service.
    pub(crate) fn container(&self, spec: &StackSpec, service: &str) -> String {
        Engine::container(spec.client_id.as_str(), &self.id(), service)
    }

    pub(crate) async fn get(&self, spec: &StackSpec, path: &str) -> (u16, String) {
        let answer = self.visit("GET", &spec.hosts[0], path).send().await.unwrap();
        (answer.status().as_u16(), text(answer).await)
    }

    pub(crate) async fn post(&self, spec: &StackSpec, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let answer = self.visit("POST", &spec.hosts[0], path).body(body).send().await.unwrap();
        (answer.status().as_u16(), text(answer).await)
    }

    /// Runs a shell script in the plain recipe's web service.
    pub(crate) async fn run(&self, spec: &StackSpec, script: &str) -> String {
        let (status, output) = self.post(spec, "/run", script.to_owned()).await;
        assert_eq!(status, 200, "{output}");
        output.trim().to_owned()
    }

    /// Waits until the stack answers with 200.
    pub(crate) async fn answers(&self, spec: &StackSpec, path: &str) -> String {
        let mut last = String::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(150) && !self.has_ended() {
            let answer = self.visit("GET", &spec.hosts[0], path).timeout(Duration::from_secs(30)).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => return text(answer).await,
                Ok(answer) => last = answer.status().to_string(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let problem = self.status(spec).await.problem;
        panic!("{} does not answer: {last}, {problem:?}", spec.client_id);
    }
}

impl Drop for EngineAgent {
    fn drop(&mut self) {
        self.0.end();
        Engine::remove(&self.label());
    }
}

/// What the control plane would send for a client of this recipe.
pub(crate) fn stack(client: &str, recipe: &str) -> StackSpec {
    let spec = spec(client);
    let folder = match recipe {
        "plain" => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/plain"),
        name => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes").join(name),
    };
    let mut files: BTreeMap<String, String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read_to_string(file.path()).unwrap()))
        .collect();
    let toml = files.remove("recipe.toml").unwrap();
    let recipe = Recipe::parse(recipe, &toml, files).unwrap();
    let secrets =
        recipe.run.as_ref().unwrap().secrets.iter().map(|name| (name.clone(), format!("{name}$x\"'{client}")));
    let given = [
        ("CLIENT", client.to_owned()),
        ("HOST", spec.hosts[0].clone()),
        ("URL", format!("http://{}", spec.hosts[0])),
        ("COMPANY", format!("{client} ${{PASSWORD}} <b>\" & Sons")),
        ("EMAIL", format!("owner@{client}.example")),
    ];
    let variables = given.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(secrets).collect();
    StackSpec { recipe: recipe.name.clone(), compose: recipe.compose(None, variables), ..spec }
}

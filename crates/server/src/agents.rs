//! The control plane's side of the agents' control doors (see [`stackpro_protocol::agent`]).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stackpro_domain::{ClientId, Fingerprint};
use stackpro_flow::StepError;
use stackpro_protocol::agent::{
    AbortAnswer, AbortMove, CONTROL_NAME, Certificates, MoveOrder, MoveStatus, StackSpec, StackStatus, Ticket,
    TicketRequest,
};
use stackpro_store::InstanceRow;
use stackpro_tls::ChainError;

use crate::secrets::Secrets;

/// Longest wait for an agent's answer. Long work is a job that is asked for again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that are kept for agents with TLS.
const CLIENTS: usize = 1_000;

/// Why an agent did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the agent of instance {0} has not enrolled yet")]
    NotEnrolled(String),
    /// It would be told secrets that anyone on the way could read.
    #[error("the agent of instance {0} enrolled without a certificate, and is not on this machine")]
    WithoutTls(String),
    #[error(transparent)]
    Tls(#[from] ChainError),
    /// No answer: it may have happened or not.
    #[error("the agent at {at} did not answer: {cause}")]
    Unreachable { at: SocketAddr, cause: String },
    #[error("the agent at {at} answered {status}: {message}")]
    Refused { at: SocketAddr, status: StatusCode, message: String },
}

/// A refusal that trying again will not mend is for good; everything else may pass.
impl From<AgentError> for StepError {
    fn from(error: AgentError) -> Self {
        match &error {
            AgentError::Refused { status, .. } if *status == StatusCode::UNPROCESSABLE_ENTITY => {
                Self::Failed(error.to_string())
            }
            AgentError::WithoutTls(_) => Self::Failed(error.to_string()),
            _ => Self::Retry(error.to_string()),
        }
    }
}

/// Makes clients of agents.
#[derive(Clone)]
pub struct Agents {
    /// For the agents of the local cloud, whose doors are on loopback and without TLS.
    plain: reqwest::Client,
    /// For each of the others a client of its own, which keeps its connections.
    pinned: Arc<Mutex<HashMap<(SocketAddr, Fingerprint), reqwest::Client>>>,
    secrets: Secrets,
}

/// One agent's control door.
pub struct Agent {
    http: reqwest::Client,
    at: SocketAddr,
    /// `http://127.0.0.1:20001`
    door: String,
    key: String,
}

impl Agents {
    pub fn new(secrets: Secrets) -> Result<Self, reqwest::Error> {
        Ok(Self { plain: client().build()?, pinned: Arc::default(), secrets })
    }

    /// The agent of an instance that has enrolled.
    pub fn of(&self, instance: &InstanceRow) -> Result<Agent, AgentError> {
        let (Some(cloud_id), Some(at)) = (&instance.cloud_id, instance.control) else {
            return Err(AgentError::NotEnrolled(instance.id.to_string()));
        };
        let (http, door) = match &instance.fingerprint {
            Some(fingerprint) => (self.pinned(at, fingerprint)?, format!("https://{CONTROL_NAME}:{}", at.port())),
            None if at.ip().is_loopback() => (self.plain.clone(), format!("http://{at}")),
            None => return Err(AgentError::WithoutTls(instance.id.to_string())),
        };
        Ok(Agent { http, at, door, key: self.secrets.agent_key(cloud_id) })
    }

    fn pinned(&self, at: SocketAddr, fingerprint: &Fingerprint) -> Result<reqwest::Client, AgentError> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (at, fingerprint.clone());
        if let Some(known) = pinned.get(&whose) {
            return Ok(known.clone());
        }
        if pinned.len() >= CLIENTS {
            pinned.clear();
        }
        let made = stackpro_tls::http_client(client(), CONTROL_NAME, at, fingerprint)?;
        pinned.insert(whose, made.clone());
        Ok(made)
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .connect_timeout(Duration::from_secs(2))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

impl Agent {
    pub async fn put_stack(&self, spec: &StackSpec) -> Result<StackStatus, AgentError> {
        self.call(Method::PUT, &format!("stacks/{}", spec.client_id), Some(spec)).await
    }

    /// What it shows to visitors from now on.
    pub async fn put_certificate(&self, certificates: &Certificates) -> Result<(), AgentError> {
        self.send(Method::PUT, "certificate", Some(certificates)).await.map(drop)
    }

    pub async fn stack(&self, client: &ClientId) -> Result<StackStatus, AgentError> {
        self.call(Method::GET, &format!("stacks/{client}"), None::<&()>).await
    }

    /// Nothing happens when there is none.
    pub async fn delete_stack(&self, client: &ClientId) -> Result<(), AgentError> {
        let path = format!("stacks/{client}");
        match self.send(Method::DELETE, &path, None::<&()>).await {
            Err(AgentError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    pub async fn ticket(&self, client: &ClientId, job_id: &str) -> Result<Ticket, AgentError> {
        let ask = TicketRequest { job_id: job_id.to_owned() };
        self.call(Method::POST, &format!("stacks/{client}/tickets"), Some(&ask)).await
    }

    /// At the destination.
    pub async fn put_move(&self, client: &ClientId, order: &MoveOrder) -> Result<MoveStatus, AgentError> {
        self.call(Method::PUT, &format!("stacks/{client}/move"), Some(order)).await
    }

    /// At the destination; none when it knows of no move.
    pub async fn move_status(&self, client: &ClientId) -> Result<Option<MoveStatus>, AgentError> {
        match self.call(Method::GET, &format!("stacks/{client}/move"), None::<&()>).await {
            Ok(status) => Ok(Some(status)),
            Err(AgentError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// At the source, whose word is final. A source that has no such stack (any more) cannot commit.
    pub async fn abort_move(&self, client: &ClientId, job_id: &str) -> Result<AbortAnswer, AgentError> {
        let ask = AbortMove { job_id: job_id.to_owned() };
        match self.call(Method::POST, &format!("stacks/{client}/abort"), Some(&ask)).await {
            Err(AgentError::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(AbortAnswer::Aborted),
            other => other,
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, AgentError> {
        let answer = self.send(method, path, body).await?;
        answer.json().await.map_err(|error| self.unreachable(&error))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<reqwest::Response, AgentError> {
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.door)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        Err(AgentError::Refused { at: self.at, status, message: text.chars().take(300).collect() })
    }

    fn unreachable(&self, error: &reqwest::Error) -> AgentError {
        AgentError::Unreachable { at: self.at, cause: deepest(error) }
    }
}

/// What reqwest says is the last of a chain, and the first is the cause: another certificate, say.
pub(crate) fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

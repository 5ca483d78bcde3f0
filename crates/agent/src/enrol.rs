//! The agent's word to the control plane: it enrols once, then reports.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Serialize;
use stackpro_protocol::agent::{AgentFile, Enrol, Enrolled, Report};
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::{blocking, disk};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long one call may take, and how large its answer may be.
const CALL: Duration = Duration::from_secs(10);
const ANSWER: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the server's answer is not what it should be: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// Enrols, with growing pauses, and then reports for as long as the agent runs.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut wait = FIRST_WAIT;
    while agent.key().is_none() {
        match enrol(&agent).await {
            Ok(()) => tracing::info!("enrolled"),
            Err(error) => {
                tracing::warn!(%error, "not enrolled yet");
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
    loop {
        let every = Duration::from_secs(agent_file(&agent).await.report_seconds.clamp(1, 3600));
        if let Err(error) = report(&agent).await {
            tracing::warn!(%error, "report not delivered");
        }
        // Whichever comes first: the time, or a change worth telling.
        let _ = timeout(every, agent.changed.notified()).await;
    }
}

async fn enrol(agent: &Agent) -> Result<(), CallError> {
    let AgentFile { instance_id, server_url, enrol_token, .. } = agent_file(agent).await;
    let AgentFile { front, control, .. } = agent.file;
    let fingerprint = agent.identity.as_ref().map(|identity| identity.fingerprint.clone());
    let version = agent.version.clone();
    let words = Enrol { instance_id, token: enrol_token, front, control, fingerprint, version };
    let request = agent.http.post(format!("{server_url}/api/agents/enrol")).json(&words);
    let Enrolled { key } = serde_json::from_slice(&call(request).await?)?;
    if key.is_empty() || key.len() > 1_000 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::other("the key is not one").into());
    }
    Ok(agent.enrolled(key)?)
}

async fn report(agent: &Arc<Agent>) -> Result<(), CallError> {
    let AgentFile { instance_id, front, control, .. } = agent.file.clone();
    let of = Arc::clone(agent);
    let stacks = blocking(move || of.stacks().iter().map(|stack| stack.status()).collect()).await?;
    let edition = agent.certificates.told().map(|told| told.edition.clone());
    let words = Report { instance_id, front, control, version: agent.version.clone(), edition, stacks };
    tell(agent, "report", &words).await
}

/// Says something to the control plane, as who this agent is.
pub(crate) async fn tell(agent: &Agent, what: &str, words: &impl Serialize) -> Result<(), CallError> {
    let AgentFile { server_url, .. } = agent_file(agent).await;
    let request = agent.http.post(format!("{server_url}/api/agents/{what}")).json(words);
    call(request.bearer_auth(agent.key().unwrap_or_default())).await.map(drop)
}

/// The body of a successful answer.
async fn call(request: reqwest::RequestBuilder) -> Result<Vec<u8>, CallError> {
    let mut response = request.timeout(CALL).send().await?;
    if !response.status().is_success() {
        return Err(CallError::Status(response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER {
            return Err(io::Error::other("the answer is too large").into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// As it is now on the disk: the server's address may have changed.
async fn agent_file(agent: &Agent) -> AgentFile {
    let path = agent.dir.join("agent.json");
    let read = blocking(move || disk::read_json(&path)).await;
    read.ok().and_then(Result::ok).flatten().unwrap_or_else(|| agent.file.clone())
}

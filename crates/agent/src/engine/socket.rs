//! The engine's own HTTP, over its Unix socket: Docker's API, which Podman speaks too.
//!
//! Six calls need no library: a request is a connection, and what is read of an answer is a few fields.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Bytes of an answer.
const ANSWER: usize = 16 * 1024 * 1024;
/// The longest that an engine may take to answer. Stopping a container is the slowest.
const CALL: Duration = Duration::from_mins(1);

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("there is neither Docker nor Podman here (no {0}): start one of them, or say where its socket is")]
    None(String),
    #[error("there is no Compose here: install docker-compose version 2 or newer")]
    NoCompose,
    #[error("only root may run stacks in containers: start the agent as root")]
    NotRoot,
    #[error("the engine at {0} does not answer: {1}")]
    Unreachable(PathBuf, String),
    #[error("the engine refused {0}: {1}")]
    Refused(String, String),
    #[error("compose {0} failed: {1}")]
    Compose(&'static str, String),
    #[error("the recipe cannot be run: {0}")]
    Recipe(String),
    #[error("it started, and does not work: {0}")]
    NotHealthy(String),
    #[error("its setup did not succeed: {0}")]
    Setup(String),
    #[error("the disk refused: {0}")]
    Disk(#[from] std::io::Error),
}

pub(crate) type Result<T> = std::result::Result<T, EngineError>;

#[derive(Clone, Debug)]
pub(crate) struct Socket(pub PathBuf);

impl Socket {
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path).await.map(|(_, answer)| answer)
    }

    /// Does something that may be done already (304), or to something that is gone already (404).
    pub(crate) async fn act(&self, method: Method, path: &str) -> Result<()> {
        self.call(method, path).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str) -> Result<(StatusCode, Value)> {
        let what = format!("{method} {path}");
        let unreachable = |cause: String| EngineError::Unreachable(self.0.clone(), cause);
        let (status, body) = match timeout(CALL, self.send(method.clone(), path)).await {
            Ok(answered) => answered.map_err(unreachable)?,
            Err(_) => return Err(unreachable(format!("no answer within {} s", CALL.as_secs()))),
        };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let gone = status == StatusCode::NOT_FOUND && method != Method::GET;
        if status.is_success() || status == StatusCode::NOT_MODIFIED || gone {
            return Ok((status, answer));
        }
        let message = answer["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(EngineError::Refused(what, message))
    }

    async fn send(&self, method: Method, path: &str) -> std::result::Result<(StatusCode, Bytes), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = UnixStream::connect(&self.0).await.map_err(|e| text(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "engine").body(Body::empty());
        let answered = async {
            let response = sender.send_request(request.map_err(|e| text(&e))?).await.map_err(|e| text(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(|e| text(&e))?;
            Ok((status, body.to_bytes()))
        };
        let answered = answered.await;
        driver.abort();
        answered
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};

    use super::*;

    #[tokio::test]
    async fn what_is_done_or_gone_already_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let routes = Router::new()
            .route("/version", get(async || "{\"Version\":\"1\"}"))
            .route("/stopped", post(async || StatusCode::NOT_MODIFIED))
            .route("/broken", post(async || (StatusCode::INTERNAL_SERVER_ERROR, "{\"message\":\"no disk\"}")));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let socket = Socket(path);
        assert_eq!(socket.get("/version").await.unwrap()["Version"], "1");
        socket.act(Method::POST, "/stopped").await.unwrap();
        socket.act(Method::DELETE, "/gone").await.unwrap();
        assert!(socket.get("/gone").await.is_err());
        let broken = socket.act(Method::POST, "/broken").await.unwrap_err().to_string();
        assert!(broken.contains("no disk"), "{broken}");
        let nowhere = Socket(dir.path().join("nowhere")).get("/version").await.unwrap_err().to_string();
        assert!(nowhere.contains("nowhere"), "{nowhere}");
    }
}

//! What two agents say to each other during a move, and the source's side of it.
//!
//! Everything is below `/v1/transfer/{client}/{job}` at the source's control door, opened by the job's
//! ticket. Both ends are the same program, so the words are free to change with it.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stackpro_domain::manifest::{Certificate, FileFacts};
use stackpro_domain::{ClientId, Fingerprint};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::blocks;
use super::source::{self, NotNow};
use crate::agent::Agent;
use crate::certificates::OfHost;
use crate::path::DataPath;
use crate::sessions::Kept;
use crate::stack::Stack;
use crate::tree::{Changes, Cursor, Sums, Tree, TreeError};
use crate::{blocking, secret};

/// Changes in one answer.
const PAGE: usize = 5_000;
/// Bytes of a request's body: the paths of one batch.
const BODY: usize = 4 * 1024 * 1024;
/// Bytes that are sent in one piece; small files share one.
const PIECE: usize = 256 * 1024;

/// `POST changes` [`Cursor`] → what changed after it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub changes: Changes,
    pub files: u64,
    pub bytes: u64,
}

/// `POST files` (paths) → for each a length (32 bits, little endian), so many bytes of this as JSON, and
/// the content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileHead {
    pub path: String,
    /// `None`: there is no such file any more.
    pub facts: Option<FileFacts>,
}

/// `POST hold` → [`Held`], or 409 while the stack cannot be held.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HoldRequest {
    pub max_hold_ms: u64,
}

/// Writes are held. The source stands at this cursor, with these sums.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Held {
    pub hold_id: u64,
    pub cursor: Cursor,
    pub sums: Sums,
    pub sessions: Kept,
    /// Of hosts that no wildcard covers.
    #[serde(default)]
    pub certificates: Vec<OfHost>,
}

/// `POST release`
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Release {
    pub hold_id: u64,
}

/// `POST commit` → [`Certificate`], or 409.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitRequest {
    pub hold_id: u64,
    /// Where the source shall forward to, and the certificate there.
    pub front: SocketAddr,
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
    pub copy: Sums,
    pub rounds: u32,
    pub held_files: u64,
}

/// `GET state`
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobState {
    /// `None`: not committed so far.
    pub certificate: Option<Certificate>,
}

pub(crate) fn routes(agent: &Arc<Agent>) -> Router<Arc<Agent>> {
    let routes = Router::new()
        .route("/state", get(get_state))
        .route("/changes", post(list_changes))
        .route("/files", post(send_files))
        .route("/volumes/changes", post(blocks::list_changes))
        .route("/volumes/blocks", post(blocks::send_blocks))
        .route("/hold", post(hold))
        .route("/release", post(release))
        .route("/commit", post(commit))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(Arc::clone(agent));
    Router::new().nest("/v1/transfer/{client}/{job}", routes)
}

/// A job that has a ticket for this stack. A handler that takes one cannot be reached without.
pub(super) struct Admitted {
    pub stack: Arc<Stack>,
    job: String,
}

#[derive(Deserialize)]
struct JobPath {
    client: ClientId,
    job: String,
}

impl FromRequestParts<Arc<Agent>> for Admitted {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, agent: &Arc<Agent>) -> Result<Self, StatusCode> {
        let path = Path::<JobPath>::from_request_parts(parts, agent).await;
        let Path(JobPath { client, job }) = path.map_err(|_| StatusCode::GONE)?;
        let secret =
            secret::bearer(&parts.headers).filter(|_| agent.key().is_some()).ok_or(StatusCode::UNAUTHORIZED)?;
        let stack = agent.stack(&client).ok_or(StatusCode::GONE)?;
        if stack.outgoing.admits(&job, secret) { Ok(Self { stack, job }) } else { Err(StatusCode::GONE) }
    }
}

impl IntoResponse for NotNow {
    fn into_response(self) -> Response {
        let status =
            if matches!(self, Self::Disk(_)) { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::CONFLICT };
        (status, self.to_string()).into_response()
    }
}

async fn get_state(Admitted { stack, job }: Admitted) -> Json<JobState> {
    let forwarding = stack.outgoing.forwarding().filter(|to| to.committed.job_id == job);
    Json(JobState { certificate: forwarding.map(|to| to.committed.certificate.clone()) })
}

async fn list_changes(Admitted { stack, .. }: Admitted, Json(cursor): Json<Cursor>) -> Result<Json<Page>, NotNow> {
    let listed = blocking(move || {
        stack.tree.hash_all()?;
        let (bytes, files, _) = stack.tree.usage();
        Ok::<_, io::Error>(Page { changes: stack.tree.changes_since(&cursor, PAGE), files, bytes })
    });
    Ok(Json(listed.await??))
}

async fn hold(
    State(agent): State<Arc<Agent>>,
    Admitted { stack, job }: Admitted,
    Json(ask): Json<HoldRequest>,
) -> Result<Json<Held>, NotNow> {
    let held = source::hold(&agent, &stack, &job, Duration::from_millis(ask.max_hold_ms)).await?;
    Ok(Json(Held { certificates: agent.certificates.export(&stack.spec().hosts), ..held }))
}

async fn release(Admitted { stack, .. }: Admitted, Json(ask): Json<Release>) -> StatusCode {
    stack.gate.release(ask.hold_id);
    StatusCode::NO_CONTENT
}

async fn commit(
    State(agent): State<Arc<Agent>>,
    Admitted { stack, job }: Admitted,
    Json(ask): Json<CommitRequest>,
) -> Result<Json<Certificate>, NotNow> {
    let certificate = source::commit(&stack, job, ask, agent.clock.now()).await?;
    agent.changed.notify_one();
    Ok(Json(certificate))
}

async fn send_files(Admitted { stack, .. }: Admitted, Json(paths): Json<Vec<String>>) -> Body {
    let (sender, receiver) = mpsc::channel(4);
    let tree = Arc::clone(&stack.tree);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { sender, piece: Vec::with_capacity(PIECE * 2) };
        let sent = paths.iter().try_for_each(|path| send_file(&tree, path, &mut out)).and_then(|()| out.flush());
        if let Err(error) = sent {
            // The receiver sees a body that ends too early.
            let _ = out.sender.blocking_send(Err(error));
        }
    });
    Body::from_stream(ReceiverStream::new(receiver))
}

struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pieces {
    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE * 2));
        self.sender.blocking_send(Ok(piece.into())).map_err(io::Error::other)
    }
}

fn send_file(tree: &Tree, path: &str, out: &mut Pieces) -> io::Result<()> {
    let opened = DataPath::new(path).map(|path| tree.read(&path));
    let (file, node) = match opened {
        Some(Ok(opened)) => opened,
        None | Some(Err(TreeError::Missing | TreeError::Refused)) => return send_head(path, None, out),
        Some(Err(TreeError::Disk(error))) if error.kind() == io::ErrorKind::NotFound => {
            return send_head(path, None, out);
        }
        Some(Err(error)) => return Err(io::Error::other(error)),
    };
    let facts = node.entry(path).and_then(|entry| entry.file);
    let Some(facts) = facts else { return send_head(path, None, out) };
    let bytes = facts.bytes;
    send_head(path, Some(facts), out)?;
    let mut content = file.take(bytes);
    let mut sent = 0;
    while sent < bytes {
        let before = out.piece.len();
        (&mut content).take(PIECE as u64).read_to_end(&mut out.piece)?;
        let read = (out.piece.len() - before) as u64;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file is shorter than it was written"));
        }
        sent += read;
        if out.piece.len() >= PIECE {
            out.flush()?;
        }
    }
    Ok(())
}

fn send_head(path: &str, facts: Option<FileFacts>, out: &mut Pieces) -> io::Result<()> {
    let head = serde_json::to_vec(&FileHead { path: path.to_owned(), facts })?;
    out.piece.extend_from_slice(&(head.len() as u32).to_le_bytes());
    out.piece.extend_from_slice(&head);
    Ok(())
}

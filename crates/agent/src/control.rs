//! The control door: what the control plane tells the agent, as [`stackpro_protocol::agent`] lists it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use stackpro_domain::ClientId;
use stackpro_protocol::agent::{
    AbortAnswer, AbortMove, CONTROL_NAME, Certificates, Health, MoveOrder, MoveStatus, StackSpec, StackStatus, Ticket,
    TicketRequest,
};
use tokio::net::TcpListener;

use crate::agent::{Agent, SpecError};
use crate::certificates::PutError;
use crate::engine::{EngineError, keeper};
use crate::front::{self, Arrival};
use crate::moves::{destination, source, transfer};
use crate::stack::Stack;
use crate::{blocking, secret};

/// Bytes of a body.
const BODY: usize = 256 * 1024;
/// How long a stack may take to become what it shall be before the answer says that it is not yet.
const SETTLE: Duration = Duration::from_secs(6);

type Answer<T> = Result<T, ControlError>;

/// Why a request at the control door failed: who is at fault, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("there is no such stack here")]
    NoStack,
    #[error("the path and the body name different clients")]
    WrongClient,
    #[error("this move is not known here, or was given up")]
    NoMove,
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Certificate(#[from] PutError),
    #[error("the disk refused: {0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Engine(#[from] EngineError),
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoStack | Self::NoMove => StatusCode::NOT_FOUND,
            Self::Conflict(_) | Self::Spec(SpecError::HostTaken(_)) => StatusCode::CONFLICT,
            Self::Engine(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Disk(_) | Self::Spec(SpecError::Disk(_)) | Self::Certificate(PutError::Disk(_)) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::WrongClient | Self::Spec(_) | Self::Certificate(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        if status.is_server_error() {
            tracing::error!(error = %self, "a request at the control door failed");
        }
        (status, Json(serde_json::json!({ "detail": self.to_string() }))).into_response()
    }
}

/// Serves the door on loopback until the agent stops.
pub(crate) async fn serve(agent: &Arc<Agent>, listener: TcpListener) {
    let door = door(agent).layer(Extension(Arrival::Local));
    let stop = agent.stop.clone().cancelled_owned();
    if let Err(error) = axum::serve(listener, door).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the control door closed");
    }
}

/// The door, for whichever listener.
pub(crate) fn door(agent: &Arc<Agent>) -> Router {
    let for_control_plane = Router::new()
        .route("/v1/stacks/{client}", put(put_stack).get(get_stack).delete(delete_stack))
        .route("/v1/stacks/{client}/tickets", post(make_ticket))
        .route("/v1/stacks/{client}/move", put(put_move).get(get_move))
        .route("/v1/stacks/{client}/abort", post(abort_move))
        .route("/v1/certificate", put(put_certificate))
        .route("/v1/stop", post(stop))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(agent), check_key));
    Router::new()
        .route("/v1/health", get(health))
        .merge(for_control_plane)
        .merge(transfer::routes(agent))
        .layer(middleware::from_fn(check_name))
        .with_state(Arc::clone(agent))
}

/// On a public network the door answers by its own name alone, both in the handshake and in the request.
async fn check_name(Extension(arrival): Extension<Arrival>, request: Request, next: Next) -> Response {
    let asked = match &arrival {
        Arrival::Local => return next.run(request).await,
        Arrival::Http => None,
        Arrival::Https(name) => Some(&**name),
    };
    let host = front::host(&request);
    if asked == Some(CONTROL_NAME) && host.as_deref() == asked {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    }
}

async fn check_key(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    let given = secret::bearer(request.headers());
    match (agent.key(), given) {
        (Some(key), Some(given)) if secret::same(key, given) => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}

async fn health(State(agent): State<Arc<Agent>>) -> Json<Health> {
    let instance_id = agent.file.instance_id.clone();
    Json(Health { instance_id, version: agent.version.clone(), enrolled: agent.key().is_some() })
}

async fn put_stack(
    State(agent): State<Arc<Agent>>,
    Path(client): Path<ClientId>,
    Json(spec): Json<StackSpec>,
) -> Answer<Json<StackStatus>> {
    if spec.client_id != client {
        return Err(ControlError::WrongClient);
    }
    let lock = agent.lock(&client).await;
    let of = Arc::clone(&agent);
    let made = blocking(move || {
        let _lock = lock;
        of.put_stack(spec)
    });
    let stack = made.await??;
    keeper::settle(&agent, &stack, SETTLE).await;
    Ok(Json(blocking(move || stack.status()).await?))
}

async fn get_stack(State(agent): State<Arc<Agent>>, Path(client): Path<ClientId>) -> Answer<Json<StackStatus>> {
    let stack = stack(&agent, &client)?;
    Ok(Json(blocking(move || stack.status()).await?))
}

async fn delete_stack(State(agent): State<Arc<Agent>>, Path(client): Path<ClientId>) -> Answer<StatusCode> {
    let lock = agent.lock(&client).await;
    keeper::end(&agent, &client).await?;
    let removed = blocking(move || {
        let _lock = lock;
        agent.remove_stack(&client)
    });
    removed.await??;
    Ok(StatusCode::NO_CONTENT)
}

async fn make_ticket(
    State(agent): State<Arc<Agent>>,
    Path(client): Path<ClientId>,
    Json(request): Json<TicketRequest>,
) -> Answer<Json<Ticket>> {
    let stack = stack(&agent, &client)?;
    let ticket = blocking(move || stack.outgoing.ticket(&request.job_id)).await??;
    Ok(Json(ticket.ok_or(ControlError::NoMove)?))
}

async fn abort_move(
    State(agent): State<Arc<Agent>>,
    Path(client): Path<ClientId>,
    Json(abort): Json<AbortMove>,
) -> Answer<Json<AbortAnswer>> {
    let stack = stack(&agent, &client)?;
    let answer = blocking(move || source::abort(&stack, &abort.job_id)).await??;
    Ok(Json(answer))
}

async fn put_move(
    State(agent): State<Arc<Agent>>,
    Path(client): Path<ClientId>,
    Json(order): Json<MoveOrder>,
) -> Answer<Json<MoveStatus>> {
    let lock = agent.lock(&client).await;
    let stack = stack(&agent, &client)?;
    let ordered = blocking(move || {
        let _lock = lock;
        destination::order(&agent, &stack, order)
    });
    Ok(Json(ordered.await?.map_err(|error| match error {
        destination::OrderError::Disk(cause) => ControlError::Disk(cause),
        other => ControlError::Conflict(other.to_string()),
    })?))
}

async fn get_move(State(agent): State<Arc<Agent>>, Path(client): Path<ClientId>) -> Answer<Json<MoveStatus>> {
    Ok(Json(stack(&agent, &client)?.incoming.status().ok_or(ControlError::NoMove)?))
}

async fn put_certificate(
    State(agent): State<Arc<Agent>>,
    Json(certificates): Json<Certificates>,
) -> Answer<StatusCode> {
    if certificates.edition.len() > 100 {
        return Err(ControlError::Spec(SpecError::TooLong));
    }
    let of = Arc::clone(&agent);
    blocking(move || of.certificates.put(certificates)).await??;
    agent.ordering.notify_one();
    agent.changed.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn stop(State(agent): State<Arc<Agent>>) -> StatusCode {
    agent.stop.cancel();
    StatusCode::ACCEPTED
}

fn stack(agent: &Agent, client: &ClientId) -> Answer<Arc<Stack>> {
    agent.stack(client).ok_or(ControlError::NoStack)
}

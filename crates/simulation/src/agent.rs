//! The doors of fast instances: the control door as [`stackpro_protocol::agent`] lists it, and the edge through
//! which the prober asks by public name.

use std::collections::BTreeSet;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{post as on_post, put};
use axum::{Json, Router};
use serde::Serialize;
use stackpro_cloud::local::LocalCloud;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::{ClientId, InstanceId};
use stackpro_protocol::agent::{
    AbortAnswer, AbortMove, MoveOrder, MovePhase, MoveStatus, STACK_HEADER, StackSpec, StackState, StackStatus,
    StackUsage, Ticket, TicketRequest, Wanted,
};
use tower::ServiceExt;

use crate::fleet::{Fleet, Stack};

/// Which machine's door it is.
#[derive(Clone)]
struct Door {
    fleet: Fleet,
    id: InstanceId,
}

pub(crate) fn router(fleet: Fleet, id: InstanceId) -> Router {
    let door = Door { fleet, id };
    Router::new()
        .route("/v1/stacks/{client}", put(put_stack).delete(delete_stack))
        .route("/v1/stacks/{client}/tickets", on_post(ticket))
        .route("/v1/stacks/{client}/move", put(put_move).get(get_move))
        .route("/v1/stacks/{client}/abort", on_post(abort))
        .layer(middleware::from_fn_with_state(door.clone(), around))
        .with_state(door)
}

/// Checks the key, and lets things go wrong before and after.
async fn around(State(door): State<Door>, request: Request, next: Next) -> Response {
    let key = door.fleet.with(|machines| machines.get(&door.id).map(|machine| format!("Bearer {}", machine.key)));
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if key.is_none() || key.as_deref() != given {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let (before, after) = door.fleet.fate();
    if before {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let answer = next.run(request).await;
    if after { StatusCode::BAD_GATEWAY.into_response() } else { answer }
}

type Answer<T> = Result<Json<T>, StatusCode>;

impl Door {
    /// Something about a stack that is here.
    fn stack<T>(&self, client: &ClientId, work: impl FnOnce(&mut Stack) -> T) -> Result<T, StatusCode> {
        self.fleet.with(|machines| {
            let stack = machines.get_mut(&self.id).and_then(|machine| machine.stacks.get_mut(client));
            stack.map(work).ok_or(StatusCode::NOT_FOUND)
        })
    }
}

async fn put_stack(
    State(door): State<Door>,
    Path(client): Path<ClientId>,
    Json(spec): Json<StackSpec>,
) -> Answer<StackStatus> {
    let made = door.fleet.with(|machines| {
        let machine = machines.get_mut(&door.id)?;
        let new =
            || Stack { spec: spec.clone(), incoming: None, aborted: BTreeSet::new(), moved: None, bytes: 2_000_000 };
        let stack = machine.stacks.entry(client.clone()).or_insert_with(new);
        stack.spec = spec.clone();
        Some(status(&client, stack))
    });
    made.map(Json).ok_or(StatusCode::NOT_FOUND)
}

fn status(client: &ClientId, stack: &Stack) -> StackStatus {
    let state = match stack.spec.wanted {
        _ if stack.moved.is_some() => StackState::Forwarding,
        Wanted::Suspended => StackState::Suspended,
        _ if stack.serves() => StackState::Serving,
        _ => StackState::Receiving,
    };
    let usage = StackUsage { storage_bytes: stack.bytes, files: 20, requests: 0, traffic_bytes: 0 };
    StackStatus { client_id: client.clone(), state, usage, problem: None, starting: false }
}

async fn delete_stack(State(door): State<Door>, Path(client): Path<ClientId>) -> StatusCode {
    door.fleet.with(|machines| machines.get_mut(&door.id).map(|machine| machine.stacks.remove(&client)));
    StatusCode::NO_CONTENT
}

async fn ticket(
    State(door): State<Door>,
    Path(client): Path<ClientId>,
    Json(ask): Json<TicketRequest>,
) -> Answer<Ticket> {
    door.stack(&client, |_| Json(Ticket { secret: format!("ticket-{}", ask.job_id) }))
}

async fn get_move(State(door): State<Door>, Path(client): Path<ClientId>) -> Answer<MoveStatus> {
    door.stack(&client, |stack| stack.incoming.clone())?.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn abort(
    State(door): State<Door>,
    Path(client): Path<ClientId>,
    Json(ask): Json<AbortMove>,
) -> Answer<AbortAnswer> {
    door.stack(&client, |stack| {
        if stack.moved.as_ref().is_some_and(|(job, _)| *job == ask.job_id) {
            return Json(AbortAnswer::Committed);
        }
        stack.aborted.insert(ask.job_id);
        Json(AbortAnswer::Aborted)
    })
}

/// A copy takes no time here; whether it may commit is the source's word, as with real agents.
async fn put_move(
    State(door): State<Door>,
    Path(client): Path<ClientId>,
    Json(order): Json<MoveOrder>,
) -> Answer<MoveStatus> {
    let now = door.fleet.now();
    door.fleet.with(|machines| {
        let here =
            machines.get(&door.id).and_then(|machine| machine.stacks.get(&client)).ok_or(StatusCode::NOT_FOUND)?;
        if let Some(done) = here.incoming.as_ref().filter(|s| s.job_id == order.job_id && s.certificate.is_some()) {
            return Ok(Json(done.clone()));
        }
        let source = machines.values_mut().find(|machine| machine.running && machine.door == order.source);
        let source = source.and_then(|machine| machine.stacks.get_mut(&client));
        let bytes = source.as_ref().map_or(0, |stack| stack.bytes);
        let mut status = MoveStatus {
            job_id: order.job_id.clone(),
            phase: MovePhase::InStep,
            files_copied: 20,
            bytes_copied: bytes,
            files_total: 20,
            bytes_total: bytes,
            rounds: 2,
            error: None,
            certificate: None,
        };
        match source {
            None => fail(&mut status, "the source has no such stack"),
            Some(source) if source.aborted.contains(&order.job_id) => fail(&mut status, "the source gave it up"),
            Some(source) if order.cut_over => {
                source.moved = Some((order.job_id.clone(), order.front));
                status.phase = MovePhase::Committed;
                status.certificate = Some(Certificate {
                    files: 20,
                    bytes,
                    source_hash: format!("hash-{client}"),
                    copy_hash: format!("hash-{client}"),
                    rounds: 2,
                    held_files: 1,
                    held_ms: 1,
                    committed_at: now,
                });
            }
            Some(_) => {}
        }
        if let Some(here) = machines.get_mut(&door.id).and_then(|machine| machine.stacks.get_mut(&client)) {
            here.bytes = bytes;
            here.incoming = Some(status.clone());
        }
        Ok(Json(status))
    })
}

fn fail(status: &mut MoveStatus, cause: &str) {
    status.phase = MovePhase::Failed;
    status.error = Some(cause.to_owned());
}

/// What every public name leads to: asks the zone, and then whoever answers there.
pub(crate) fn edge(fleet: Fleet, cloud: LocalCloud) -> Router {
    Router::new().fallback(async move |headers: HeaderMap| {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        match visit(&fleet, &cloud, host) {
            Some(client) => ([(STACK_HEADER, client.to_string())], "").into_response(),
            None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    })
}

/// Whose stack a visitor of this host sees.
pub(crate) fn visit(fleet: &Fleet, cloud: &LocalCloud, host: &str) -> Option<ClientId> {
    fleet.who_answers(cloud.lookup(host)?, host)
}

/// A request to the control plane without a socket.
pub(crate) async fn post(server: &Router, path: &str, body: &impl Serialize) -> (StatusCode, Bytes) {
    send(
        server,
        Request::post(path).header("content-type", "application/json"),
        serde_json::to_vec(body).unwrap_or_default(),
    )
    .await
}

pub(crate) async fn send(server: &Router, request: axum::http::request::Builder, body: Vec<u8>) -> (StatusCode, Bytes) {
    let Ok(request) = request.body(Body::from(body)) else { return (StatusCode::BAD_REQUEST, Bytes::new()) };
    let Ok(answer) = server.clone().oneshot(request).await;
    let status = answer.status();
    (status, axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap_or_default())
}

//! A client's own view: dashboard, deployment, trial, and the live stream of its steps.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream};
use stackpro_domain::ClientId;
use stackpro_protocol::api::{Dashboard, Deployment, Problem, TrialStatus};
use stackpro_store::{DashboardRow, Timeline};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{App, shape};
use crate::auth::ClientAccess;
use crate::cache::View;
use crate::flows::REFRESH;
use crate::problem::{Error, Result};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Everything that a client's dashboard shows.
#[utoipa::path(get, path = "/api/dashboard/{client_id}", tag = "client", security(("bearer" = [])),
    params(("client_id" = String, Path, description = "`acme-law-7f3k`")), responses(
    (status = 200, body = Dashboard),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
))]
pub(super) async fn get_dashboard(State(app): State<App>, access: ClientAccess) -> Result<Response> {
    cached(&app, View::Dashboard, &access, async |app, access| {
        let row = row(app, access).await?;
        to_json(&shape::dashboard(&app.world, &row))
    })
    .await
}

/// How far the client's stack is, step by step.
#[utoipa::path(get, path = "/api/deployment-status/{client_id}", tag = "client", security(("bearer" = [])),
    params(("client_id" = String, Path, description = "`acme-law-7f3k`")), responses(
    (status = 200, body = Deployment),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
))]
pub(super) async fn get_deployment_status(
    State(app): State<App>,
    access: ClientAccess,
) -> Result<axum::Json<Deployment>> {
    Ok(axum::Json(deployment(&app, &access.client).await?))
}

pub async fn deployment(app: &App, client: &ClientId) -> Result<Deployment> {
    let row = app.world.store.client(client).await?.ok_or(Error::NotFound)?;
    let timeline = telling(app, client).await?;
    Ok(shape::deployment(&app.world, &row, timeline.as_ref()))
}

/// The newest flow that has something to tell: a notice that was changed on a page has not.
async fn telling(app: &App, client: &ClientId) -> Result<Option<Timeline>> {
    let newest = app.world.store.timelines(client, 10).await?;
    Ok(newest.into_iter().find(|timeline| timeline.flow.kind != REFRESH.kind))
}

/// Where the client stands with its trial.
#[utoipa::path(get, path = "/api/trial-status/{client_id}", tag = "client", security(("bearer" = [])),
    params(("client_id" = String, Path, description = "`acme-law-7f3k`")), responses(
    (status = 200, body = TrialStatus),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
))]
pub(super) async fn get_trial_status(State(app): State<App>, access: ClientAccess) -> Result<Response> {
    cached(&app, View::Trial, &access, async |app, access| {
        let client = app.world.store.client(&access.client).await?.ok_or(Error::NotFound)?;
        to_json(&shape::trial(&client, app.world.now()))
    })
    .await
}

/// The finished answer, from the cache while it is good.
async fn cached(
    app: &App,
    view: View,
    access: &ClientAccess,
    make: impl AsyncFnOnce(&App, &ClientAccess) -> Result<Bytes>,
) -> Result<Response> {
    let (generation, now) = (app.world.store.generation(), app.world.now());
    let who = (&access.client, &access.claims.member);
    let bytes = if let Some(bytes) = app.cache.get(view, who, generation, now) {
        bytes
    } else {
        let bytes = make(app, access).await?;
        app.cache.put(view, who, generation, now, bytes.clone());
        bytes
    };
    Ok(([(CONTENT_TYPE, JSON)], bytes).into_response())
}

pub async fn row(app: &App, access: &ClientAccess) -> Result<DashboardRow> {
    let row = app.world.store.dashboard(&access.client, &access.claims.member).await?;
    let mut row = row.ok_or(Error::NotFound)?;
    if row.timeline.as_ref().is_some_and(|timeline| timeline.flow.kind == REFRESH.kind) {
        row.timeline = telling(app, &access.client).await?;
    }
    Ok(row)
}

fn to_json(value: &impl serde::Serialize) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| Error::Internal(error.to_string()))
}

/// How long one stream lasts; browsers come again by themselves.
const STREAM_LIFE: Duration = Duration::from_mins(10);
/// Least time between two looks, and longest time without one (another process may have written).
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// `GET /api/clients/{client_id}/steps`: event `deployment` with a [`Deployment`], at once and on every change.
pub(super) async fn follow_steps(State(app): State<App>, access: ClientAccess) -> Result<impl IntoResponse> {
    let first = look(&app, &access.client).await?;
    let follower = Follower {
        commits: app.world.events.subscribe(),
        app,
        client: access.client,
        said: None,
        next: Some(first),
        until: Instant::now() + STREAM_LIFE,
    };
    Ok(Sse::new(events(follower)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Follower {
    app: App,
    client: ClientId,
    commits: watch::Receiver<u64>,
    /// What was sent last.
    said: Option<String>,
    next: Option<String>,
    until: Instant,
}

fn events(follower: Follower) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
    stream::unfold(follower, |mut follower| async move {
        let json = follower.next_change().await?;
        let event = Event::default().event("deployment").data(&json);
        follower.said = Some(json);
        Some((Ok(event), follower))
    })
}

impl Follower {
    /// Waits for a change; `None` when the stream is over.
    async fn next_change(&mut self) -> Option<String> {
        loop {
            if let Some(json) = self.next.take().filter(|json| self.said.as_ref() != Some(json)) {
                return Some(json);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            // It fails only when the server ends.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_ANYWAY, self.commits.changed()).await {
                return None;
            }
            if Instant::now() >= self.until {
                return None;
            }
            self.commits.mark_unchanged();
            match look(&self.app, &self.client).await {
                Ok(json) => self.next = Some(json),
                Err(Error::NotFound) => return None,
                Err(error) => tracing::debug!(%error, "a live stream could not look"),
            }
        }
    }
}

async fn look(app: &App, client: &ClientId) -> Result<String> {
    let deployment = deployment(app, client).await?;
    serde_json::to_string(&deployment).map_err(|error| Error::Internal(error.to_string()))
}

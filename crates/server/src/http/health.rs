//! Whether it runs, for whoever watches it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use stackpro_protocol::api::Ready;

use super::App;

/// The process answers.
#[utoipa::path(get, path = "/health", tag = "service", responses((status = 200, description = "It runs")))]
pub(super) async fn get_health() -> &'static str {
    "ok\n"
}

/// The database answers and work is being done.
#[utoipa::path(get, path = "/ready", tag = "service", responses(
    (status = 200, body = Ready), (status = 503, body = Ready, description = "Something is missing"),
))]
pub(super) async fn get_ready(State(app): State<App>) -> impl IntoResponse {
    let ping = tokio::time::timeout(std::time::Duration::from_secs(2), app.world.store.ping());
    let database = matches!(ping.await, Ok(Ok(())));
    let runner = app.world.runner_alive();
    let ready = database && runner;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Ready { ready, database, runner }))
}

//! The way of a request: [`edge`] (request id, headers, one kind of error) → [`router`] → an extractor that
//! carries authority ([`crate::auth`]) → a handler, which reads, decides by the domain and writes in one
//! transaction.
//!
//! Each module here is a group of endpoints: route, handler, and its documentation for OpenAPI.

mod accounts;
mod agents;
mod checkout;
mod clients;
pub mod edge;
pub mod extract;
mod health;
mod mail_events;
mod operator;
mod plan;
pub mod shape;
mod storage;
mod webhook;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use accounts::{contact, home_of, log_in, sign_up};
pub use checkout::begin_checkout;
pub use clients::{deployment, row};
pub use operator::{Gift, Order, REVERSALS, give_days, give_plan, lift_suppression, order, retry_event, set_going};
pub use plan::{change_plan, invoices, preview_plan, set_cancelled};

use crate::auth::token::Tokens;
use crate::cache::Cache;
use crate::problem::Error;
use crate::world::World;

/// What handlers are given.
#[derive(Clone)]
pub struct App(Arc<State>);

pub struct State {
    pub world: Arc<World>,
    pub tokens: Tokens,
    pub cache: Cache,
    webhooks: webhook::Writer,
    headers: edge::Headers,
    /// The OpenAPI document, as it is served.
    openapi: String,
}

impl App {
    pub fn openapi(&self) -> &str {
        &self.0.openapi
    }
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "StackPro",
        description = "The public API. Errors are RFC 9457 problems; every answer bears `x-request-id`; times are \
            RFC 3339 in UTC; sizes are bytes.",
        license(name = "MIT")
    ),
    tags(
        (name = "accounts", description = "Sign up, log in, log out"),
        (name = "client", description = "A client's own view"),
        (name = "till", description = "Payment"),
        (name = "mail", description = "What becomes of mails"),
        (name = "operator", description = "For whoever runs StackPro"),
        (name = "service", description = "Whether it runs"),
    ),
)]
struct Document;

/// Everything that is served under our own host name. Must be called within a Tokio runtime.
pub fn router(world: Arc<World>) -> Router {
    let (api, document) = api().split_for_parts();
    let app = App(Arc::new(State {
        tokens: Tokens::new(&world.secrets),
        cache: Cache::default(),
        webhooks: webhook::Writer::start(world.store.clone()),
        headers: edge::Headers::new(&world),
        openapi: document.to_json().unwrap_or_default(),
        world,
    }));
    let pages = crate::pages::router()
        .layer(axum::middleware::from_fn_with_state(app.clone(), crate::auth::session::with_session));
    let streams = Router::new()
        .route("/api/clients/{client_id}/steps", get(clients::follow_steps))
        .layer(axum::middleware::from_fn_with_state(app.clone(), crate::auth::session::with_session));
    api.merge(agents::router())
        .merge(streams)
        .merge(pages)
        .route("/api/openapi.json", get(openapi))
        .fallback(async || Error::NotFound)
        .layer(axum::middleware::from_fn_with_state(app.clone(), edge::edge))
        .with_state(app)
}

/// The documented endpoints.
fn api() -> OpenApiRouter<App> {
    let mut document = Document::openapi();
    let mut components = document.components.take().unwrap_or_default();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("bearer", bearer);
    document.components = Some(components);
    OpenApiRouter::with_openapi(document)
        .routes(routes!(accounts::sign_up_api))
        .routes(routes!(accounts::log_in_api))
        .routes(routes!(accounts::log_out_api))
        .routes(routes!(accounts::send_contact))
        .routes(routes!(clients::get_dashboard))
        .routes(routes!(clients::get_deployment_status))
        .routes(routes!(clients::get_trial_status))
        .routes(routes!(checkout::create_checkout_session))
        .routes(routes!(plan::preview_plan_api))
        .routes(routes!(plan::change_plan_api))
        .routes(routes!(plan::order_plan))
        .routes(routes!(plan::get_invoices))
        .routes(routes!(storage::link_download))
        .routes(routes!(storage::link_upload))
        .routes(routes!(storage::give_credentials))
        .routes(routes!(webhook::receive_event))
        .routes(routes!(mail_events::receive_mail_events))
        .routes(routes!(operator::deploy))
        .routes(routes!(operator::order_client))
        .routes(routes!(operator::give_days_api))
        .routes(routes!(operator::give_plan_api))
        .routes(routes!(operator::get_reversals))
        .routes(routes!(operator::order_flow))
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_ready))
}

async fn openapi(axum::extract::State(app): axum::extract::State<App>) -> impl IntoResponse {
    ([(axum::http::header::CONTENT_TYPE, "application/json")], app.openapi.clone())
}

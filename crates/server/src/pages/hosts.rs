//! What is said under a client's own host name while nothing of theirs answers there.

use askama::Template;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use stackpro_domain::lifecycle::State;

use crate::web::host::{CSP, Nobody, Starting, Suspended};
use crate::world::World;

/// The name leads nowhere: nobody has it, or its client is being set up or suspended.
pub async fn without_record(world: &World, host: &str) -> Response {
    let label = host.strip_suffix(&format!(".{}", world.settings.client_domain)).unwrap_or_default();
    let client = match label.parse() {
        Ok(id) => world.store.client(&id).await.unwrap_or_default().filter(|client| client.host == host),
        Err(_) => None,
    };
    match client {
        Some(client) if client.life.state == State::Suspended => {
            let login_url = format!("{}/upgrade", world.settings.dashboard_url(&client.id));
            page(StatusCode::SERVICE_UNAVAILABLE, &Suspended { company: client.company, login_url })
        }
        Some(client) if client.life.state != State::Deleted => starting(host),
        _ => {
            let site_url = world.settings.public_url.clone();
            page(StatusCode::NOT_FOUND, &Nobody { host: host.to_owned(), site_url })
        }
    }
}

/// The name leads somewhere, and nobody answers there.
pub fn unreachable(host: &str) -> Response {
    starting(host)
}

fn starting(host: &str) -> Response {
    let mut response = page(StatusCode::SERVICE_UNAVAILABLE, &Starting { host: host.to_owned() });
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

fn page(status: StatusCode, page: &impl Template) -> Response {
    let headers = [(CONTENT_SECURITY_POLICY, CSP.as_str()), (CACHE_CONTROL, "no-store")];
    (status, headers, Html(page.render().unwrap_or_default())).into_response()
}

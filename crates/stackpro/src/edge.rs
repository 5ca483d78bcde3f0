//! The local cloud's routing by host name: what is below the clients' domain goes where their record leads,
//! everything else is the control plane's; what is in buckets has a host name of its own there. On a real
//! network the world's DNS does this, and visitors never come here.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use stackpro_agent::proxy::{self, Target};
use stackpro_cloud::local::LocalCloud;
use stackpro_domain::names;
use stackpro_server::pages::hosts;
use stackpro_server::world::World;

#[derive(Clone)]
struct Edge {
    cloud: LocalCloud,
    world: Arc<World>,
    /// `.stackpro.localhost`
    below: Arc<str>,
}

/// Puts the edge in front of the control plane.
pub(crate) fn before(control_plane: Router, cloud: LocalCloud, world: Arc<World>) -> Router {
    let below = format!(".{}", world.settings.client_domain).into();
    let edge = Edge { cloud, world, below };
    control_plane.layer(axum::middleware::from_fn_with_state(edge, route))
}

async fn route(
    State(edge): State<Edge>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match client_host(&edge, &request) {
        Some(_) if edge.cloud.is_for_storage(request.headers()) => edge.cloud.serve_storage(request).await,
        Some(host) => forward(&edge, &host, peer, request).await,
        None => next.run(request).await,
    }
}

/// The host that the request names, if it is one of the clients'.
fn client_host(edge: &Edge, request: &Request) -> Option<String> {
    let header = request.headers().get(HOST)?.to_str().ok()?;
    // Cheap for the control plane's own requests: nothing is allocated before the name looks like a client's.
    let name = header.split(':').next()?;
    let is_below = name.len() > edge.below.len()
        && name.get(name.len() - edge.below.len()..).is_some_and(|end| end.eq_ignore_ascii_case(&edge.below));
    if is_below { names::host(header) } else { None }
}

async fn forward(edge: &Edge, host: &str, peer: SocketAddr, request: Request) -> Response {
    let Some(target) = edge.cloud.lookup(host) else {
        return hosts::without_record(&edge.world, host).await;
    };
    if edge.cloud.has_tls() {
        // A visitor goes there as on a real network; this edge knows nothing of their certificates.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        return Redirect::temporary(&format!("https://{host}:{}{path}", target.port())).into_response();
    }
    match proxy::forward(request, &Target::plain(target), None, peer.ip()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, host, %target, "a client's instance does not answer");
            edge.world.wakes.fleet.notify_one();
            hosts::unreachable(host)
        }
    }
}

//! The front door: finds the stack that a host name leads to, passes its gate, and has it answer.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::serve::ListenerExt;
use axum::{Extension, Router};
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use stackpro_domain::names;
use stackpro_protocol::agent::{FRONT_NAME, STACK_HEADER};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::gate::Passage;
use crate::site::{self, Visit, pages};
use crate::stack::{Pass, Stack};
use crate::{engine, proxy, secret};

/// By which way a request came to the door. It is an extension of the request.
#[derive(Clone)]
pub(crate) enum Arrival {
    /// By the listener on loopback, where a router of ours stands before it.
    Local,
    /// By port 80.
    Http,
    /// By port 443, after asking for this name.
    Https(Arc<str>),
}

/// Cancelled when the stack that answered is removed from here. It is an extension of the answer.
#[derive(Clone)]
pub(crate) struct Gone(pub CancellationToken);

/// The door, for whichever listener.
pub(crate) fn door(agent: &Arc<Agent>) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::disable()).with_state(Arc::clone(agent))
}

/// Serves the door on loopback until the agent stops.
pub(crate) async fn serve(agent: &Arc<Agent>, listener: TcpListener) {
    let door = door(agent).layer(Extension(Arrival::Local)).into_make_service_with_connect_info::<SocketAddr>();
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    let stop = agent.stop.clone().cancelled_owned();
    if let Err(error) = axum::serve(listener, door).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "the front door closed");
    }
}

async fn handle(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(arrival): Extension<Arrival>,
    mut request: Request,
) -> Response {
    let host = host(&request);
    if arrival.is_misdirected(host.as_deref()) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let Some(host) = host else { return pages::nobody_home() };
    if let Some(page) = challenge(&agent, &host, &request) {
        return page.into_response();
    }
    let Some(stack) = agent.stack_by_host(&host) else { return pages::nobody_home() };
    if matches!(arrival, Arrival::Http) && agent.certificates.is_valid(&host, agent.clock.now()) {
        return to_https(&host, agent.file.front.port(), &request);
    }
    let pass = request.headers().get(proxy::PASS).and_then(|pass| pass.to_str().ok());
    let forwarded = matches!(arrival, Arrival::Local) && peer.ip().is_loopback()
        || pass.is_some_and(|pass| stack.incoming.is_source(pass));
    let passed = stack.pass(is_write(&stack, &request), pass).await;
    arrival.tell_scheme(request.headers_mut(), forwarded);
    if matches!(passed, Pass::Absent) {
        return pages::nobody_home();
    }
    stack.meter.request();
    let expects = request.headers().contains_key("expect");
    let request = request.map(|body| Arriving::body(metered(body, &stack, None), !expects));
    let mut passage = None;
    let response = match passed {
        Pass::Serve(guard) => {
            passage = guard;
            let address = if forwarded { forwarded_for(request.headers()) } else { None }.unwrap_or(peer.ip());
            let secure = request.headers().get(SCHEME).is_some_and(|scheme| scheme == "https");
            let visit = Visit { address, secure, now: agent.clock.now() };
            match &stack.project {
                None => site::handle(&agent, &stack, &visit, request).await,
                Some(project) => engine::front::handle(&agent, &stack, project, &visit, request).await,
            }
        }
        Pass::Forward(to) => {
            let answer = proxy::forward(request, &to.target, Some(&to.committed.secret), peer.ip()).await;
            let mut answer = answer.unwrap_or_else(|error| {
                tracing::warn!(%error, to = %to.committed.front, "a request could not be forwarded");
                pages::unreachable()
            });
            // Who keeps a connection asks no DNS, and would be here still when the stack is removed.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        }
        Pass::Suspended => pages::suspended(&stack.spec()),
        Pass::Absent => pages::nobody_home(),
    };
    // The guard goes with the body: WebDAV may still be deleting while its answer streams.
    let mut response = response.map(|body| metered(body, &stack, passage));
    if let Ok(client) = HeaderValue::from_str(stack.client().as_str()) {
        response.headers_mut().insert(STACK_HEADER, client);
    }
    response.extensions_mut().insert(Gone(stack.gone.clone()));
    response
}

/// Whether a request may change the stack, and so waits while writes are held.
fn is_write(stack: &Stack, request: &Request) -> bool {
    if stack.project.is_none() { site::is_write(request) } else { !is_read(request.method()) }
}

/// The one host that a request names; `None` for none, several or nonsense.
pub(crate) fn host(request: &Request) -> Option<String> {
    let mut named = request.headers().get_all("host").iter();
    let host = named.next()?.to_str().ok()?;
    if named.next().is_some() {
        return None;
    }
    names::host(host)
}

/// The page by which a CA sees that a host leads here (RFC 8555, section 8.3).
fn challenge(agent: &Agent, host: &str, request: &Request) -> Option<String> {
    let token = request.uri().path().strip_prefix("/.well-known/acme-challenge/")?;
    agent.pages.get(host, token)
}

/// The same address by https, by the method that was used (RFC 9110, section 15.4.9).
fn to_https(host: &str, port: u16, request: &Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    Redirect::permanent(&format!("https://{host}{port}{path}")).into_response()
}

/// Says which scheme the visitor came by.
const SCHEME: &str = "x-forwarded-proto";

impl Arrival {
    /// For which name a visitor asked in the handshake.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Https(name) => Some(name),
            Self::Local | Self::Http => None,
        }
    }

    /// Whether a visitor asked for one name in the handshake and for another in the request, which is
    /// answered with 421 (RFC 9110, section 15.5.20). Other agents come by a name of their own.
    fn is_misdirected(&self, host: Option<&str>) -> bool {
        matches!(self, Self::Https(name) if **name != *FRONT_NAME && host != Some(name))
    }

    /// A visitor's own word for it counts only where a router of ours stands between.
    fn tell_scheme(&self, headers: &mut HeaderMap, forwarded: bool) {
        let scheme = match self {
            _ if forwarded && headers.contains_key(SCHEME) => return,
            Self::Local | Self::Http => "http",
            Self::Https(_) => "https",
        };
        headers.insert(SCHEME, HeaderValue::from_static(scheme));
    }
}

/// Who asks, by the word of the router of ours that asks for them.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?.rsplit(',').next()?;
    last.trim().parse().ok()
}

/// A body whose bytes are counted for its stack; `passage` lives as long as it does.
fn metered(body: Body, stack: &Arc<Stack>, passage: Option<Passage>) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let stack = Arc::clone(stack);
    Body::new(body.map_frame(move |frame| {
        let _ = &passage;
        frame.map_data(|bytes: Bytes| {
            stack.meter.traffic(bytes.remaining() as u64);
            bytes
        })
    }))
}

/// A request's body. When its handler has enough of it (the storage is full), the rest is read and thrown
/// away for a while, since most clients see no answer before they have sent everything.
struct Arriving {
    body: Body,
    /// Whether the sender sends already. One that waits for `100 Continue` (RFC 9110, section 10.1.1) does
    /// not, until the body is read.
    sending: bool,
}

/// How long, and how many bytes of, a body that nobody wants is read.
const DRAIN: Duration = Duration::from_secs(10);
const DRAIN_BYTES: usize = 1 << 30;

impl Arriving {
    fn body(body: Body, sending: bool) -> Body {
        if body.is_end_stream() { body } else { Body::new(Self { body, sending }) }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.sending = true;
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.sending = false;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if self.sending && !self.body.is_end_stream() {
            let rest = std::mem::take(&mut self.body);
            tokio::spawn(timeout(DRAIN, throw_away(rest)));
        }
    }
}

async fn throw_away(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DRAIN_BYTES {
            return;
        }
    }
}

/// Whether a browser says that a form was sent from a page of this very host: its `Origin` (RFC 6454), or
/// where that is missing `Sec-Fetch-Site`.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("origin"), text("host")) {
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, from)| secret::same(&from.to_ascii_lowercase(), &host.to_ascii_lowercase())),
        _ => text("sec-fetch-site") == Some("same-origin"),
    }
}

/// An answer to a method that a place does not know.
pub(crate) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert("allow", HeaderValue::from_static(allow));
    response
}

pub(crate) fn is_read(method: &Method) -> bool {
    matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS" | "PROPFIND" | "UNLOCK")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.collect::<Vec<(axum::http::HeaderName, axum::http::HeaderValue)>>().into_iter().collect()
    }

    #[test]
    fn only_a_page_of_the_same_host_may_send_forms() {
        let host = ("host", "acme.example:8080");
        assert!(is_same_origin(&headers(&[host, ("origin", "http://acme.example:8080")])));
        assert!(is_same_origin(&headers(&[host, ("origin", "https://ACME.example:8080")])));
        assert!(is_same_origin(&headers(&[host, ("sec-fetch-site", "same-origin")])));
        for foreign in ["http://acme.example", "http://evil.example:8080", "null", "", "http://acme.example:8080.evil"]
        {
            assert!(!is_same_origin(&headers(&[host, ("origin", foreign)])), "{foreign}");
        }
        assert!(!is_same_origin(&headers(&[host])));
        assert!(!is_same_origin(&headers(&[host, ("sec-fetch-site", "same-site")])));
    }

    #[test]
    fn a_router_of_ours_says_for_whom_it_asks() {
        let forwarded = headers(&[("x-forwarded-for", "1.1.1.1, 10.0.0.9")]);
        assert_eq!(forwarded_for(&forwarded), Some(IpAddr::from([10, 0, 0, 9])));
        assert_eq!(forwarded_for(&headers(&[("x-forwarded-for", "junk")])), None);
        let mut said = headers(&[(SCHEME, "https")]);
        Arrival::Local.tell_scheme(&mut said, true);
        assert_eq!(said[SCHEME], "https");
        Arrival::Http.tell_scheme(&mut said, false);
        assert_eq!(said[SCHEME], "http", "a visitor's own word");
    }

    #[test]
    fn one_name_in_the_handshake_and_another_in_the_request_is_misdirected() {
        let by = |name: &str| Arrival::Https(name.into());
        assert!(by("a.example").is_misdirected(Some("b.example")) && by("a.example").is_misdirected(None));
        assert!(!by("a.example").is_misdirected(Some("a.example")));
        assert!(!by(FRONT_NAME).is_misdirected(Some("a.example")));
        assert!(!Arrival::Http.is_misdirected(Some("a.example")));
    }
}

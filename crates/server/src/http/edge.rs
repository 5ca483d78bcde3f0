//! The outermost layer: what holds for every answer, whatever made it. A request id, security headers, a
//! time limit, and one form of error: a problem for programs, a page for people.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use futures::FutureExt;
use stackpro_protocol::api::Problem;

use super::App;
use crate::problem::Failure;
use crate::web::frame::SiteFrame;
use crate::web::site::ErrorPage;
use crate::world::World;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A handler that has not begun to answer by then is given up.
const TIME_LIMIT: Duration = Duration::from_secs(30);
const API_CSP: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const PERMISSIONS: HeaderValue =
    HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()");
const TWO_YEARS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// Header values that are the same for every answer.
pub struct Headers {
    page_csp: HeaderValue,
    https: bool,
}

impl Headers {
    /// A form's answer may lead to the till or to a client's portal, and browsers apply `form-action` to
    /// where a form is redirected too.
    pub fn new(world: &World) -> Self {
        let sites = world.settings.client_url(&format!("*.{}", world.settings.client_domain));
        let mut targets = vec![sites.as_str()];
        targets.extend(world.till.page_origins());
        let page_csp = HeaderValue::from_str(&crate::web::csp(&targets)).unwrap_or(API_CSP);
        Self { page_csp, https: world.settings.is_https() }
    }
}

pub async fn edge(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = request_id(&app, request.headers());
    let is_api = is_api(request.uri().path());
    let wants_page = !is_api && accepts_html(request.headers());
    let origin = allowed_origin(&app, request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let next_path = next_path(&request);
    request.headers_mut().insert(REQUEST_ID, id.clone());

    let began = tokio::time::Instant::now();
    let mut response =
        if method == Method::OPTIONS && origin.is_some() && is_api { preflight() } else { answer(request, next).await };
    let text = id.to_str().unwrap_or_default();
    if wants_page && response.extensions().get::<Failure>().is_some_and(|f| f.kind == "not_signed_in") {
        response = to_log_in(&next_path);
    } else if is_failure(&response) {
        response = render(response, text, wants_page);
    }
    let status = response.status().as_u16();
    let took_ms = began.elapsed().as_millis() as u64;
    if status >= 500 {
        tracing::warn!(id = text, %method, path, status, took_ms, "answered");
    } else {
        tracing::debug!(id = text, %method, path, status, took_ms, "answered");
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    secure(&app, headers, is_api);
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id, retry-after"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Where a person goes on after they have logged in: what they asked for, when it can be asked for again.
fn next_path(request: &Request) -> String {
    let asked = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
    if request.method() == Method::GET { asked.to_owned() } else { String::new() }
}

fn to_log_in(next: &str) -> Response {
    let next = percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC);
    let to = if next.clone().next().is_some() { format!("/login?next={next}") } else { "/login".to_owned() };
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// Runs the handler; a panic and a lack of an answer are failures like any other.
async fn answer(request: Request, next: Next) -> Response {
    let handled = tokio::time::timeout(TIME_LIMIT, AssertUnwindSafe(next.run(request)).catch_unwind()).await;
    match handled {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let cause = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let cause = cause.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            crate::problem::Error::Internal(format!("a handler panicked: {cause}")).into_response()
        }
        Err(_) => crate::problem::Error::Unavailable("a handler took too long".into()).into_response(),
    }
}

/// One that was given is kept when it is harmless in a log.
fn request_id(app: &App, headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (8..=64).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    };
    if let Some(given) = headers.get(REQUEST_ID).filter(sane) {
        return given.clone();
    }
    let fresh = app.world.ids.uuid(app.world.real_now());
    HeaderValue::from_str(&fresh).unwrap_or(HeaderValue::from_static("unknown"))
}

fn is_api(path: &str) -> bool {
    path.starts_with("/api/") || matches!(path, "/health" | "/ready")
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

fn is_failure(response: &Response) -> bool {
    let status = response.status();
    let said = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    // What the framework says by itself is plain text.
    let bare = said.is_none_or(|kind| kind.starts_with(b"text/plain"));
    (status.is_client_error() || status.is_server_error()) && bare
}

/// What the framework answered by itself (405, …) has no [`Failure`] with it.
fn render(response: Response, id: &str, wants_page: bool) -> Response {
    let (mut parts, _) = response.into_parts();
    let status = parts.status;
    let failure = parts.extensions.remove::<Failure>().unwrap_or_else(|| plain(status));
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    let mut rendered = if wants_page {
        let detail = if status == StatusCode::NOT_FOUND { String::new() } else { failure.detail };
        let page =
            ErrorPage { frame: SiteFrame::default(), status: status.as_u16(), detail, request_id: id.to_owned() };
        Html(page.render().unwrap_or_default()).into_response()
    } else {
        let problem = Problem {
            kind: failure.kind.to_owned(),
            title: failure.title.to_owned(),
            status: status.as_u16(),
            detail: failure.detail,
            errors: failure.errors,
            request_id: id.to_owned(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        ([(header::CONTENT_TYPE, PROBLEM_JSON)], Body::from(body)).into_response()
    };
    *rendered.status_mut() = status;
    for (name, value) in &parts.headers {
        rendered.headers_mut().append(name, value.clone());
    }
    rendered
}

fn plain(status: StatusCode) -> Failure {
    let (kind, title, detail) = match status {
        StatusCode::NOT_FOUND => return crate::problem::Error::NotFound.failure(),
        StatusCode::METHOD_NOT_ALLOWED => (
            "method_not_allowed",
            "This cannot be done here",
            "The address exists, and does not take this method. The Allow header says which it takes.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "Too large", "The body is larger than this address takes."),
        status if status.is_server_error() => {
            ("internal", "Something broke on our side", "Try again; if it stays, tell us the request id.")
        }
        _ => ("bad_request", "The request cannot be read", "Something in the request is not as it must be."),
    };
    Failure { kind, title, detail: detail.to_owned(), errors: Vec::new() }
}

fn secure(app: &App, headers: &mut HeaderMap, is_api: bool) {
    let csp = if is_api { API_CSP } else { app.headers.page_csp.clone() };
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(csp);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("permissions-policy"), PERMISSIONS);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if app.headers.https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, TWO_YEARS);
    }
}

fn allowed_origin(app: &App, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let listed = app.world.settings.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    listed.then(|| origin.clone())
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, x-request-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

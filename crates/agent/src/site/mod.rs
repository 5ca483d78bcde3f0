//! The built-in recipe `site`: the client's website at `/`, its contact form at `/contact`, the file portal at
//! `/portal/`, and WebDAV at `/dav/`.

mod contact;
mod dav;
mod file;
pub(crate) mod pages;
mod portal;
mod website;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::response::Response;
use stackpro_domain::Time;

use crate::agent::Agent;
use crate::front::is_read;
use crate::stack::Stack;
use crate::{front, secret};

/// Who asks, and when.
pub(crate) struct Visit {
    pub address: IpAddr,
    /// Whether they came by https.
    pub secure: bool,
    pub now: Time,
}

/// Whether a request may change the stack, and so must pass its gate.
pub(crate) fn is_write(request: &Request) -> bool {
    // A link that opens the portal is used up, and begins a session.
    !is_read(request.method()) || request.uri().path() == "/portal/enter"
}

pub(crate) async fn handle(agent: &Agent, stack: &Arc<Stack>, visit: &Visit, request: Request) -> Response {
    let path = request.uri().path();
    let mut response = if path == "/portal" || path.starts_with("/portal/") {
        portal::handle(stack, visit, request).await
    } else if path == "/dav" || path.starts_with("/dav/") {
        dav::handle(stack, visit, request).await
    } else if path == contact::PATH && (request.method() == "POST" || !website::has(stack, path)) {
        contact::handle(agent, stack, visit, request).await
    } else {
        website::handle(stack, request).await
    };
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Checks a password for the portal. `Err` holds the seconds to wait after too many failures.
fn check_password(stack: &Stack, visit: &Visit, password: &str) -> Result<bool, u64> {
    stack.attempts.check(visit.address)?;
    let right = secret::same(&secret::sha256(password), &stack.spec().portal_password_sha256.to_ascii_lowercase());
    if !right {
        stack.attempts.count(visit.address);
    }
    Ok(right)
}

/// `GET` and `HEAD`, or the answer to anything else.
fn reads_only(request: &Request) -> Result<(), Box<Response>> {
    match request.method().as_str() {
        "GET" | "HEAD" => Ok(()),
        _ => Err(Box::new(front::method_not_allowed("GET, HEAD"))),
    }
}

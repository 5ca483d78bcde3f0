//! Every page that the agent shows by itself.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use stackpro_domain::limits;
use stackpro_protocol::agent::StackSpec;

use super::contact::Written;
use crate::path::DataPath;
use crate::tree::{Node, TreeError};

/// No script, nothing from elsewhere, in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// One thing to say, and a way on.
#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
    link: Option<(&'a str, &'a str)>,
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome<'a> {
    company: &'a str,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn<'a> {
    company: &'a str,
    notice: Option<&'a str>,
    dashboard: Option<&'a str>,
    error: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "files.html")]
struct Files<'a> {
    company: &'a str,
    notice: Option<&'a str>,
    dashboard: Option<&'a str>,
    said: Option<&'static str>,
    error: Option<&'a str>,
    at: &'a str,
    in_site: bool,
    trail: Vec<(String, String)>,
    rows: Vec<Row>,
    used: String,
    limit: Option<String>,
    percent: u64,
    /// What is in the folder and not shown.
    more: usize,
}

/// What one page of a folder shows.
const ROWS: usize = 1_000;

/// One file or folder in a listing.
struct Row {
    name: String,
    path: String,
    folder: bool,
    link: String,
    size: String,
    changed: String,
}

#[derive(Template)]
#[template(path = "remove.html")]
struct Remove<'a> {
    company: &'a str,
    name: &'a str,
    path: &'a str,
    folder: bool,
    back: String,
}

#[derive(Template)]
#[template(path = "contact.html")]
struct Contact<'a> {
    company: &'a str,
    written: &'a Written,
    error: Option<&'a str>,
}

/// A folder as the portal shows it.
pub(super) struct Listing<'a> {
    pub at: &'a DataPath,
    pub found: Vec<(String, Node)>,
    /// Bytes used, and the limit.
    pub used: u64,
    pub limit: Option<u64>,
    pub said: Option<&'static str>,
    pub error: Option<&'a str>,
}

pub(crate) fn nobody_home() -> Response {
    message(
        StatusCode::NOT_FOUND,
        "Nothing is here",
        "No website answers to this address. Check that it is spelled right.",
        None,
    )
}

pub(super) fn not_found() -> Response {
    message(
        StatusCode::NOT_FOUND,
        "Page not found",
        "There is nothing at this address.",
        Some(("To the start page", "/")),
    )
}

pub(super) fn contact(spec: &StackSpec, status: StatusCode, written: &Written, error: Option<&str>) -> Response {
    page(status, &Contact { company: &spec.company, written, error })
}

pub(super) fn message_taken() -> Response {
    let text = "Thank you. You will be answered at your email address.";
    message(StatusCode::OK, "Your message is on its way", text, Some(("To the start page", "/")))
}

pub(crate) fn suspended(spec: &StackSpec) -> Response {
    let link = dashboard(spec).map(|url| ("To the dashboard", url));
    let text = "This website is paused. Your data is safe: nothing was deleted, and everything is back as soon as the \
                account is active again.";
    with_retry(message(StatusCode::SERVICE_UNAVAILABLE, "Your data is safe", text, link), 3600)
}

pub(crate) fn starting() -> Response {
    let text = "This website is starting. Please try again in a moment.";
    with_retry(message(StatusCode::SERVICE_UNAVAILABLE, "One moment, please", text, None), 3)
}

/// A write that would go beyond the storage limit.
pub(crate) fn full(spec: &StackSpec, reached: &limits::LimitReached) -> Response {
    let link = dashboard(spec).map(|url| ("To the dashboard", url));
    message(StatusCode::INSUFFICIENT_STORAGE, "Storage is full", &reached.to_string(), link)
}

pub(crate) fn unreachable() -> Response {
    let text = "This website is on another machine that does not answer right now. Please try again in a moment.";
    with_retry(message(StatusCode::BAD_GATEWAY, "One moment, please", text, None), 5)
}

pub(super) fn failed(error: &TreeError) -> Response {
    tracing::error!(%error, "a request failed");
    message(
        StatusCode::INTERNAL_SERVER_ERROR,
        "That did not work",
        "Something went wrong here. Please try again.",
        None,
    )
}

pub(super) fn refused(status: StatusCode, text: &str) -> Response {
    message(status, "That did not work", text, Some(("Back to the files", "/portal/")))
}

pub(super) fn welcome(spec: &StackSpec) -> Response {
    page(StatusCode::OK, &Welcome { company: &spec.company })
}

pub(super) fn sign_in(spec: &StackSpec, status: StatusCode, error: Option<&str>) -> Response {
    let (notice, dashboard) = (spec.notice.as_deref(), dashboard(spec));
    page(status, &SignIn { company: &spec.company, notice, dashboard, error })
}

pub(super) fn remove(spec: &StackSpec, path: &DataPath, folder: bool) -> Response {
    let back = path.parent().map(|parent| folder_link(&parent)).unwrap_or_default();
    page(StatusCode::OK, &Remove { company: &spec.company, name: path.name(), path: path.as_str(), folder, back })
}

pub(super) fn files(spec: &StackSpec, status: StatusCode, listing: Listing<'_>) -> Response {
    let Listing { at, found, used, limit, said, error } = listing;
    let mut rows: Vec<Row> = found.into_iter().filter_map(|(name, node)| row(at, name, &node)).collect();
    rows.sort_by_cached_key(|row| (!row.folder, row.name.to_lowercase()));
    let more = rows.len().saturating_sub(ROWS);
    rows.truncate(ROWS);
    let mut trail = Vec::new();
    let mut place = Some(at.clone());
    while let Some(path) = place {
        let name = if path.parent().is_some() { path.name() } else { top_name(&path) };
        trail.push((name.to_owned(), folder_link(&path)));
        place = path.parent();
    }
    trail.reverse();
    let files = Files {
        company: &spec.company,
        notice: spec.notice.as_deref(),
        dashboard: dashboard(spec),
        said,
        error,
        at: at.as_str(),
        in_site: at.as_str().starts_with(crate::path::SITE),
        trail,
        rows,
        used: limits::bytes(used),
        limit: limit.map(limits::bytes),
        percent: limit.map_or(0, |limit| (used.saturating_mul(100) / limit.max(1)).min(100)),
        more,
    };
    page(status, &files)
}

/// Where the portal shows a folder.
pub(super) fn folder_link(folder: &DataPath) -> String {
    format!("/portal/?path={}", folder.url())
}

fn row(at: &DataPath, name: String, node: &Node) -> Option<Row> {
    let path = at.child(&name)?;
    let folder = node.is_folder();
    let link = if folder { folder_link(&path) } else { format!("/portal/file/{}", path.url()) };
    let size = if folder { String::new() } else { limits::bytes(node.bytes()) };
    let changed = stackpro_domain::Time(node.modified_ns() / 1_000_000).date_time();
    Some(Row { name, path: path.as_str().to_owned(), folder, link, size, changed })
}

fn top_name(path: &DataPath) -> &'static str {
    if path.as_str() == crate::path::SITE { "Website" } else { "Files" }
}

/// Only what a link may lead to: never `javascript:`.
fn dashboard(spec: &StackSpec) -> Option<&str> {
    let url = spec.dashboard_url.as_str();
    (url.starts_with("http://") || url.starts_with("https://")).then_some(url)
}

fn message(status: StatusCode, title: &str, text: &str, link: Option<(&str, &str)>) -> Response {
    page(status, &Message { title, text, link })
}

pub(super) fn with_retry(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => {
            let mut response = (status, Html(text)).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            // Not `no-referrer`: browsers would then send forms with `Origin: null`.
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

//! The file portal: pages that work without script. Who may enter, what they may do, and where it leads.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{Form, FromRequest, Multipart, Query, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use stackpro_domain::Time;
use stackpro_domain::time::SECOND;
use stackpro_protocol::agent::PortalLink;

use super::pages::{self, Listing};
use super::{Visit, check_password, file};
use crate::path::{DataPath, FILES};
use crate::stack::Stack;
use crate::tree::TreeError;
use crate::{blocking, front, secret};

const COOKIE: &str = "portal";
/// Bytes of a form without files.
const FORM: usize = 16 * 1024;
/// Files that one form may bring.
const FILES_AT_ONCE: usize = 1_000;

/// A page, or the page that says why not.
type Page = Result<Response, Refusal>;

enum Refusal {
    /// Something that the visitor can change.
    Visitor(StatusCode, String),
    Failure(TreeError),
}

impl From<TreeError> for Refusal {
    fn from(error: TreeError) -> Self {
        let status = match &error {
            TreeError::Limit(_) => StatusCode::INSUFFICIENT_STORAGE,
            TreeError::Missing => StatusCode::NOT_FOUND,
            TreeError::Exists => StatusCode::CONFLICT,
            TreeError::Refused | TreeError::Incomplete => StatusCode::BAD_REQUEST,
            TreeError::Disk(_) => return Self::Failure(error),
        };
        Self::Visitor(status, sentence(&error.to_string()))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Failure(error.into())
    }
}

impl Refusal {
    fn bad(text: &str) -> Self {
        Self::Visitor(StatusCode::BAD_REQUEST, text.to_owned())
    }

    fn page(self) -> Response {
        match self {
            Self::Visitor(status, text) => pages::refused(status, &text),
            Self::Failure(error) => pages::failed(&error),
        }
    }
}

pub(super) async fn handle(stack: &Arc<Stack>, visit: &Visit, request: Request) -> Response {
    route(stack, visit, request).await.unwrap_or_else(Refusal::page)
}

async fn route(stack: &Arc<Stack>, visit: &Visit, request: Request) -> Page {
    let path = request.uri().path().to_owned();
    let post = request.method() == "POST";
    if post && !front::is_same_origin(request.headers()) {
        let text = "This form was not sent from the portal itself. Please open the portal and try again.";
        return Err(Refusal::Visitor(StatusCode::FORBIDDEN, text.into()));
    }
    let open = cookie(request.headers()).is_some_and(|token| stack.sessions.is_open(token, visit.now));
    match (request.method().as_str(), path.trim_start_matches("/portal").trim_matches('/')) {
        ("GET", "enter") => enter(stack, visit, &request),
        ("POST", "sign-in") => sign_in(stack, visit, request).await,
        ("POST", "sign-out") => sign_out(stack, visit, request.headers()),
        ("GET" | "HEAD", _) if !open => Ok(pages::sign_in(&stack.spec(), StatusCode::UNAUTHORIZED, None)),
        ("POST", _) if !open => Ok(Redirect::to("/portal/").into_response()),
        ("GET" | "HEAD", "") => list(stack, &request),
        ("GET" | "HEAD", "remove") => confirm(stack, &request),
        ("GET" | "HEAD", asked) if asked.starts_with("file/") => download(stack, &path, request.headers()).await,
        ("POST", "upload") => upload(stack, request).await,
        ("POST", "folder") => make_folder(stack, request).await,
        ("POST", "remove") => remove(stack, request).await,
        ("GET" | "HEAD" | "POST", _) => Ok(pages::not_found()),
        _ => Ok(front::method_not_allowed("GET, HEAD, POST")),
    }
}

#[derive(Deserialize)]
struct Link {
    expires: i64,
    signature: String,
}

/// Opens the portal by a link of the dashboard's, once.
fn enter(stack: &Stack, visit: &Visit, request: &Request) -> Page {
    let spec = stack.spec();
    let stale = || {
        Ok(pages::sign_in(
            &spec,
            StatusCode::FORBIDDEN,
            Some("This link is no longer valid. Open the portal from your dashboard again, or use the password."),
        ))
    };
    let Ok(Query(link)) = Query::<Link>::try_from_uri(request.uri()) else { return stale() };
    let now = visit.now.ms().div_euclid(SECOND);
    let in_time = link.expires > now && link.expires <= now.saturating_add(PortalLink::MAX_AGE_SECONDS);
    let message = PortalLink::message(&spec.client_id, link.expires);
    if !in_time || !secret::is_signed(&spec.portal_key, &message, &link.signature) {
        return stale();
    }
    if !stack.sessions.use_link(&link.signature, Time(link.expires.saturating_mul(SECOND)), visit.now)? {
        return stale();
    }
    begin_session(stack, visit)
}

#[derive(Deserialize)]
struct Password {
    password: String,
}

async fn sign_in(stack: &Stack, visit: &Visit, request: Request) -> Page {
    let spec = stack.spec();
    let Password { password } = form(request).await?;
    match check_password(stack, visit, password.trim()) {
        Ok(true) => begin_session(stack, visit),
        Ok(false) => Ok(pages::sign_in(&spec, StatusCode::UNAUTHORIZED, Some("That is not the password."))),
        Err(seconds) => {
            let error = "There were too many attempts. Please wait a minute.";
            Ok(pages::with_retry(pages::sign_in(&spec, StatusCode::TOO_MANY_REQUESTS, Some(error)), seconds))
        }
    }
}

fn begin_session(stack: &Stack, visit: &Visit) -> Page {
    let token = stack.sessions.begin(visit.now)?;
    let secure = if visit.secure { "; Secure" } else { "" };
    Ok(with_cookie(Redirect::to("/portal/"), &token, secure))
}

fn sign_out(stack: &Stack, visit: &Visit, headers: &HeaderMap) -> Page {
    if let Some(token) = cookie(headers) {
        stack.sessions.end(token, visit.now)?;
    }
    Ok(with_cookie(Redirect::to("/portal/"), "", "; Max-Age=0"))
}

/// Without a `Domain` the cookie belongs to this host alone.
fn with_cookie(redirect: Redirect, token: &str, more: &str) -> Response {
    let mut response = redirect.into_response();
    let cookie = format!("{COOKIE}={token}; Path=/portal; HttpOnly; SameSite=Lax{more}");
    file::insert(response.headers_mut(), header::SET_COOKIE, &cookie);
    response
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

#[derive(Deserialize)]
struct At {
    path: Option<String>,
    done: Option<String>,
}

fn list(stack: &Stack, request: &Request) -> Page {
    let Query(At { path, done }) =
        Query::try_from_uri(request.uri()).map_err(|_| Refusal::bad("This address is not complete."))?;
    let at = DataPath::new(path.as_deref().unwrap_or(FILES)).ok_or(TreeError::Missing)?;
    let said = match done.as_deref() {
        Some("uploaded") => Some("Uploaded."),
        Some("made") => Some("The folder is made."),
        Some("removed") => Some("Deleted."),
        _ => None,
    };
    show(stack, &at, StatusCode::OK, said, None)
}

fn show(stack: &Stack, at: &DataPath, status: StatusCode, said: Option<&'static str>, error: Option<&str>) -> Page {
    let found = stack.tree.list(at).ok_or(TreeError::Missing)?;
    let (used, _, limit) = stack.tree.usage();
    Ok(pages::files(&stack.spec(), status, Listing { at, found, used, limit, said, error }))
}

async fn download(stack: &Stack, path: &str, headers: &HeaderMap) -> Page {
    let decoded = path.strip_prefix("/portal/file/").and_then(decode).ok_or(TreeError::Missing)?;
    let path = DataPath::new(&decoded).ok_or(TreeError::Missing)?;
    let mut response = file::answer(&stack.tree, &path, headers).await?;
    // What somebody uploaded must not run with the portal's authority.
    let name = format!("attachment; filename*=UTF-8''{}", crate::path::encode_part(path.name()));
    file::insert(response.headers_mut(), header::CONTENT_DISPOSITION, &name);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

fn decode(encoded: &str) -> Option<String> {
    percent_encoding::percent_decode_str(encoded).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The files of a form, each stored as it arrives. The field `to` comes before them.
async fn upload(stack: &Arc<Stack>, request: Request) -> Page {
    let unread = |_| Refusal::bad("The upload did not arrive whole. Please try again.");
    let mut parts = Multipart::from_request(request, &()).await.map_err(|_| Refusal::bad("This is not an upload."))?;
    let mut to = None;
    let mut count = 0;
    while let Some(field) = parts.next_field().await.map_err(unread)? {
        match field.name() {
            Some("to") => to = DataPath::new(&small(field).await?),
            Some("file") if field.file_name().is_some_and(|name| !name.is_empty()) => {
                let folder = to.as_ref().ok_or_else(|| Refusal::bad("The upload does not say where to."))?;
                count += 1;
                if count > FILES_AT_ONCE {
                    return Err(Refusal::bad("These are too many files at once."));
                }
                match store(stack, folder, field).await {
                    Err(Refusal::Visitor(status, text)) => return show(stack, folder, status, None, Some(&text)),
                    stored => stored?,
                }
            }
            _ => {}
        }
    }
    match to {
        Some(folder) if count > 0 => Ok(back_to(&folder, "uploaded")),
        Some(folder) => show(stack, &folder, StatusCode::BAD_REQUEST, None, Some("Choose a file first.")),
        None => Err(Refusal::bad("The upload does not say where to.")),
    }
}

async fn store(stack: &Arc<Stack>, folder: &DataPath, mut field: Field<'_>) -> Result<(), Refusal> {
    // Some browsers send a path; its last part is the name.
    let name = field.file_name().unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let path = folder.child(&name).ok_or_else(|| Refusal::bad("A file of that name cannot be stored."))?;
    let mut upload = stack.tree.upload(&path, None)?;
    let unread = |_| Refusal::bad("The upload did not arrive whole. Please try again.");
    while let Some(chunk) = field.chunk().await.map_err(unread)? {
        upload.write(&chunk).await?;
    }
    upload.finish().await?;
    Ok(())
}

/// The text of a field that is no file.
async fn small(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|_| Refusal::bad("The form did not arrive whole."))? {
        text.extend_from_slice(&chunk);
        if text.len() > FORM {
            return Err(Refusal::bad("The form is too large."));
        }
    }
    String::from_utf8(text).map_err(|_| Refusal::bad("The form is not text."))
}

#[derive(Deserialize)]
struct NewFolder {
    to: String,
    name: String,
}

async fn make_folder(stack: &Arc<Stack>, request: Request) -> Page {
    let NewFolder { to, name } = form(request).await?;
    let to = DataPath::new(&to).ok_or(TreeError::Missing)?;
    let Some(path) = to.child(name.trim()) else {
        return show(stack, &to, StatusCode::BAD_REQUEST, None, Some("A folder cannot have that name."));
    };
    let of = Arc::clone(stack);
    match blocking(move || of.tree.make_folder(&path)).await? {
        Ok(()) => Ok(back_to(&to, "made")),
        Err(TreeError::Exists) => {
            show(stack, &to, StatusCode::CONFLICT, None, Some("There is something of that name already."))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct Named {
    path: String,
}

fn confirm(stack: &Stack, request: &Request) -> Page {
    let Query(Named { path }) =
        Query::try_from_uri(request.uri()).map_err(|_| Refusal::bad("This address is not complete."))?;
    let path = DataPath::new(&path).filter(|path| path.parent().is_some()).ok_or(TreeError::Missing)?;
    let node = stack.tree.get(&path).ok_or(TreeError::Missing)?;
    Ok(pages::remove(&stack.spec(), &path, node.is_folder()))
}

async fn remove(stack: &Arc<Stack>, request: Request) -> Page {
    let Named { path } = form(request).await?;
    let path = DataPath::new(&path).ok_or(TreeError::Missing)?;
    let parent = path.parent().ok_or(TreeError::Refused)?;
    let of = Arc::clone(stack);
    match blocking(move || of.tree.remove(&path)).await? {
        // Gone already, by another window: what was wanted.
        Ok(()) | Err(TreeError::Missing) => Ok(back_to(&parent, "removed")),
        Err(error) => Err(error.into()),
    }
}

fn back_to(folder: &DataPath, done: &str) -> Response {
    Redirect::to(&format!("{}&done={done}", pages::folder_link(folder))).into_response()
}

async fn form<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, FORM).await.map_err(|_| Refusal::bad("The form is too large."))?;
    let request = Request::from_parts(parts, Body::from(body));
    let Form(form) = Form::from_request(request, &()).await.map_err(|_| Refusal::bad("The form is not complete."))?;
    Ok(form)
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

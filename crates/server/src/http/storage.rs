//! A client's own way to their bucket, beside their site: links that are good for one object and a quarter of an hour,
//! and, where the cloud has them, credentials that reach this bucket alone and end after an hour.

use std::time::Duration;

use axum::extract::State;
use secrecy::ExposeSecret;
use stackpro_cloud::{CloudError, LinkUse};
use stackpro_domain::ClientId;
use stackpro_protocol::api::{DownloadRequest, LinkHeader, Problem, StorageCredentials, StorageLink, UploadRequest};
use stackpro_store::{ResourceKind, ResourceState};

use super::App;
use super::extract::{Check, Json};
use crate::auth::Owner;
use crate::problem::{Error, Result};

const LINK: Duration = Duration::from_mins(15);
const CREDENTIALS: Duration = Duration::from_hours(1);
/// Below it a client writes; what lies elsewhere is ours (backups), for them to read.
const WRITABLE: &str = "files/";
/// Of an object's key, and of what one request may upload.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>
const KEY_BYTES: usize = 1024;
const UPLOAD_BYTES: u64 = 5 << 30;
const TYPE_BYTES: usize = 100;

/// A link by which one object of the client's storage is read, whoever has it, for 15 minutes.
#[utoipa::path(post, path = "/api/clients/{client_id}/storage/downloads", tag = "client", security(("bearer" = [])),
    params(("client_id" = String, Path)), request_body = DownloadRequest, responses(
    (status = 200, body = StorageLink),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the client's owner or an admin may"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
    (status = 409, body = Problem, description = "The storage is not there yet, or closed"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 503, body = Problem, description = "The cloud does not answer"),
))]
pub(super) async fn link_download(
    State(app): State<App>,
    owner: Owner,
    Json(request): Json<DownloadRequest>,
) -> Result<axum::Json<StorageLink>> {
    let mut check = Check::default();
    let key = key(&mut check, &request.key);
    check.finish()?;
    link(&app, &owner.client, &key, LinkUse::Get).await
}

/// A link by which one object of this size and type is written below `files/`, whoever has it, for 15 minutes.
#[utoipa::path(post, path = "/api/clients/{client_id}/storage/uploads", tag = "client", security(("bearer" = [])),
    params(("client_id" = String, Path)), request_body = UploadRequest, responses(
    (status = 200, body = StorageLink),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the client's owner or an admin may"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
    (status = 409, body = Problem, description = "The storage is not there yet, or closed"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 503, body = Problem, description = "The cloud does not answer"),
))]
pub(super) async fn link_upload(
    State(app): State<App>,
    owner: Owner,
    Json(request): Json<UploadRequest>,
) -> Result<axum::Json<StorageLink>> {
    let mut check = Check::default();
    let key = key(&mut check, &request.key);
    if !key.is_empty() && key.strip_prefix(WRITABLE).is_none_or(str::is_empty) {
        check.wrong("key", format!("must begin with {WRITABLE}"));
    }
    let is_type = request.content_type.len() <= TYPE_BYTES
        && request.content_type.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
        && request.content_type.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !is_type {
        check.wrong("contentType", "is no media type, such as image/png");
    }
    if request.content_length > UPLOAD_BYTES {
        check.wrong("contentLength", "is more than 5 GiB: use credentials, with a tool that uploads in parts");
    }
    check.finish()?;
    let put = LinkUse::Put { content_type: request.content_type, content_length: request.content_length };
    link(&app, &owner.client, &key, put).await
}

/// Credentials for any tool that speaks S3. They reach the client's bucket alone, write below `files/`, and end after
/// an hour.
#[utoipa::path(post, path = "/api/clients/{client_id}/storage/credentials", tag = "client", security(("bearer" = [])),
    params(("client_id" = String, Path)), responses(
    (status = 200, body = StorageCredentials),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the client's owner or an admin may"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
    (status = 409, body = Problem, description = "The storage is not there yet, or closed, or this cloud has links alone"),
    (status = 503, body = Problem, description = "The cloud does not answer"),
))]
pub(super) async fn give_credentials(State(app): State<App>, owner: Owner) -> Result<axum::Json<StorageCredentials>> {
    let (bucket, world) = (bucket(&app, &owner.client).await?, &app.world);
    let expires_at = world.real_now().plus(millis(CREDENTIALS));
    let given = world.cloud.buckets.credentials(&bucket, CREDENTIALS).await.map_err(unavailable)?;
    let given = given.ok_or_else(|| Error::NotNow("This cloud gives no credentials; use links.".into()))?;
    Ok(axum::Json(StorageCredentials {
        bucket,
        region: given.region,
        endpoint: given.endpoint,
        access_key_id: given.access_key_id,
        secret_access_key: given.secret_access_key.expose_secret().to_owned(),
        session_token: given.session_token.expose_secret().to_owned(),
        writable: given.writable,
        expires_at,
    }))
}

/// One that every tool takes for the same object.
fn key(check: &mut Check, key: &str) -> String {
    let is_plain = !key.chars().any(char::is_control) && key.split('/').all(|part| !["", ".", ".."].contains(&part));
    if key.trim().is_empty() {
        check.wrong("key", "is empty");
    } else if key.len() > KEY_BYTES || !is_plain {
        let what = "must have at most 1024 bytes, none that cannot be printed, and no empty, . or .. between slashes";
        check.wrong("key", what);
    }
    key.to_owned()
}

async fn link(app: &App, client: &ClientId, key: &str, what: LinkUse) -> Result<axum::Json<StorageLink>> {
    let (bucket, world) = (bucket(app, client).await?, &app.world);
    let expires_at = world.real_now().plus(millis(LINK));
    let link = world.cloud.buckets.link(&bucket, key, &what, LINK).await.map_err(unavailable)?;
    let headers = link.headers.into_iter().map(|(name, value)| LinkHeader { name, value }).collect();
    Ok(axum::Json(StorageLink { method: link.method, url: link.url, headers, expires_at }))
}

/// The name of the client's bucket, as the ledger says it.
async fn bucket(app: &App, client: &ClientId) -> Result<String> {
    let store = &app.world.store;
    let row = store.client(client).await?.ok_or(Error::NotFound)?;
    if !row.life.state.is_served() {
        return Err(Error::NotNow("Your storage is closed while your site is paused.".into()));
    }
    let all = store.resources_of(client).await?.into_iter();
    let mut made = all.filter(|found| found.kind == ResourceKind::Bucket && found.state == ResourceState::Created);
    let bucket = made.next().ok_or_else(|| Error::NotNow("Your storage is not there yet: try again soon.".into()))?;
    Ok(bucket.name)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn unavailable(error: CloudError) -> Error {
    Error::Unavailable(error.to_string())
}

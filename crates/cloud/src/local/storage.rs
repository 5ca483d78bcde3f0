//! What is in buckets, for whoever has a link: objects in versions, served under a host name of their own by the
//! local cloud's edge. A link is signed for one request and a time; nothing else is answered.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stackpro_domain::time::DAY;
use stackpro_domain::{Clock, Time};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::clock::LocalClock;
use super::instances::Fleet;
use super::{files, hex};
use crate::{Link, LinkUse};

/// No client's name is like it: theirs end in a hyphen and four letters.
const HOST_LABEL: &str = "storage";
/// So long an old version is kept.
const OLD_VERSIONS_MS: i64 = 30 * DAY;

pub(super) struct Storage {
    /// Of the buckets.
    folder: PathBuf,
    key: String,
    /// `storage.stackpro.localhost`
    host: String,
    fleet: Arc<Fleet>,
    clock: Arc<LocalClock>,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Grant {
    method: String,
    /// Real time, in milliseconds: it does not end sooner because the time machine was used.
    until: i64,
    #[serde(rename = "type")]
    content_type: Option<String>,
    length: Option<u64>,
    /// Not of what it signs.
    #[serde(skip_serializing, default)]
    signature: String,
}

/// `objects/<hash of the key>/<version>.json`, beside its `<version>.bin`.
#[derive(Serialize, Deserialize)]
struct ObjectFile {
    key: String,
    content_type: String,
    at: Time,
}

impl Storage {
    pub(super) fn open(
        root: &Path,
        buckets: &Path,
        zone: &str,
        fleet: Arc<Fleet>,
        clock: Arc<LocalClock>,
    ) -> io::Result<Self> {
        let file = root.join("storage.key");
        files::create(&file, &hex(&rand::random::<[u8; 32]>()))?;
        let key = files::read(&file)?.ok_or(ErrorKind::NotFound)?;
        Ok(Self { folder: buckets.to_owned(), key, host: format!("{HOST_LABEL}.{zone}"), fleet, clock })
    }

    fn real_now(&self) -> i64 {
        self.clock.now().ms() - self.clock.offset()
    }

    pub(super) fn link(&self, bucket: &str, key: &str, what: &LinkUse, lifetime: Duration) -> Link {
        let until = self.real_now() + lifetime.as_millis() as i64;
        let (grant, headers) = match what {
            LinkUse::Get => (
                Grant { method: "GET".into(), until, content_type: None, length: None, signature: String::new() },
                Vec::new(),
            ),
            LinkUse::Put { content_type, content_length } => {
                let length = Some(*content_length);
                let headers = vec![
                    (CONTENT_TYPE.to_string(), content_type.clone()),
                    (CONTENT_LENGTH.to_string(), content_length.to_string()),
                ];
                let (method, content_type) = ("PUT".into(), Some(content_type.clone()));
                (Grant { method, until, content_type, length, signature: String::new() }, headers)
            }
        };
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let path: Vec<String> = key.split('/').map(encoded).collect();
        let server = self.fleet.server_url();
        let port =
            server.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let bound = match (&grant.content_type, grant.length) {
            (Some(kind), Some(length)) => format!("&type={}&length={length}", encoded(kind)),
            _ => String::new(),
        };
        let signature = hex(&self.sign(bucket, key, &grant).finalize().into_bytes());
        let (host, path, method) = (&self.host, path.join("/"), &grant.method);
        let url =
            format!("http://{host}{port}/{bucket}/{path}?method={method}&until={until}{bound}&signature={signature}");
        Link { method: grant.method, url, headers }
    }

    fn sign(&self, bucket: &str, key: &str, grant: &Grant) -> Hmac<Sha256> {
        // A key of any length is one to HMAC.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()).unwrap_or_else(|_| unreachable!());
        mac.update(&serde_json::to_vec(&(bucket, key, grant)).unwrap_or_default());
        mac
    }

    pub(super) fn is_for(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case(&self.host))
    }

    pub(super) async fn serve(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let Some((folder, key, grant)) = self.granted(&parts.method, &parts.uri) else {
            return answer(StatusCode::FORBIDDEN, "This link is not good, or not any more: ask for a new one.");
        };
        let done = match grant.method.as_str() {
            "PUT" => self.put(&folder, &key, &grant, &parts.headers, body).await,
            _ => get(&folder).await,
        };
        done.unwrap_or_else(|error| {
            tracing::warn!(%error, key, "an object of a bucket");
            answer(StatusCode::INTERNAL_SERVER_ERROR, "This did not work. Try again.")
        })
    }

    /// The object's folder, its key and what is allowed, if the link is good.
    fn granted(&self, method: &Method, uri: &Uri) -> Option<(PathBuf, String, Grant)> {
        let Query(grant) = Query::<Grant>::try_from_uri(uri).ok()?;
        let (bucket, key) = uri.path().strip_prefix('/')?.split_once('/')?;
        let key = percent_decode_str(key).decode_utf8().ok()?.into_owned();
        let bytes: Option<Vec<u8>> = (0..grant.signature.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(grant.signature.get(at..at + 2)?, 16).ok())
            .collect();
        self.sign(bucket, &key, &grant).verify_slice(&bytes?).ok()?;
        let asked = if method == Method::HEAD { "GET" } else { method.as_str() };
        if grant.method != asked || self.real_now() >= grant.until {
            return None;
        }
        // Signed by us, so a name of ours; and gone with its bucket.
        let objects = self.folder.join(bucket).join("objects");
        objects.is_dir().then(|| (objects.join(hex(&Sha256::digest(&key))), key, grant))
    }

    async fn put(
        &self,
        folder: &Path,
        key: &str,
        grant: &Grant,
        headers: &HeaderMap,
        body: Body,
    ) -> io::Result<Response> {
        let said = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let length = said(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if said(CONTENT_TYPE) != grant.content_type.as_deref() || length != grant.length {
            return Ok(answer(StatusCode::FORBIDDEN, "The link is for another type or length than was sent."));
        }
        fs::create_dir_all(folder)?;
        let temp = files::hidden(folder, "new");
        let received = receive(&temp, body, grant.length.unwrap_or_default()).await;
        if !matches!(received, Ok(true)) {
            files::remove(&temp)?;
            received?;
            return Ok(answer(StatusCode::BAD_REQUEST, "The content did not arrive whole."));
        }
        let version = uuid::Uuid::now_v7().simple().to_string();
        fs::rename(&temp, folder.join(format!("{version}.bin")))?;
        let at = self.clock.now();
        let content_type = grant.content_type.clone().unwrap_or_default();
        files::write(&folder.join(format!("{version}.json")), &ObjectFile { key: key.to_owned(), content_type, at })?;
        forget_old(folder, at)?;
        Ok(answer(StatusCode::OK, "Stored."))
    }
}

/// True when it was so long, and synced.
async fn receive(path: &Path, body: Body, length: u64) -> io::Result<bool> {
    let mut file = tokio::fs::File::create_new(path).await?;
    let (mut chunks, mut received) = (body.into_data_stream(), 0);
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else { return Ok(false) };
        received += chunk.len() as u64;
        if received > length {
            return Ok(false);
        }
        file.write_all(&chunk).await?;
    }
    file.sync_data().await?;
    Ok(received == length)
}

async fn get(folder: &Path) -> io::Result<Response> {
    let Some((name, object)) = versions(folder)?.pop() else {
        return Ok(answer(StatusCode::NOT_FOUND, "There is no such object."));
    };
    let file = tokio::fs::File::open(folder.join(format!("{name}.bin"))).await?;
    let length = file.metadata().await?.len();
    let headers = [
        (CONTENT_TYPE, object.content_type),
        (CONTENT_LENGTH, length.to_string()),
        // What a client put there is never a page of ours.
        (CONTENT_DISPOSITION, "attachment".to_owned()),
        (CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
        (HeaderName::from_static("x-content-type-options"), "nosniff".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

/// Of one object, the newest last.
fn versions(folder: &Path) -> io::Result<Vec<(String, ObjectFile)>> {
    let names = files::none_if_missing(files::names(folder))?.unwrap_or_default();
    let mut versions = Vec::new();
    for name in names.iter().filter_map(|name| name.strip_suffix(".json")) {
        let object = files::read(&folder.join(format!("{name}.json")))?;
        versions.extend(object.map(|object| (name.to_owned(), object)));
    }
    Ok(versions)
}

/// A version is old from when another took its place.
fn forget_old(folder: &Path, now: Time) -> io::Result<()> {
    let versions = versions(folder)?;
    for pair in versions.windows(2) {
        if let [(name, _), (_, next)] = pair
            && now.since(next.at) > OLD_VERSIONS_MS
        {
            files::remove(&folder.join(format!("{name}.json")))?;
            files::remove(&folder.join(format!("{name}.bin")))?;
        }
    }
    Ok(())
}

fn answer(status: StatusCode, said: &'static str) -> Response {
    (status, said).into_response()
}

//! WebDAV (RFC 4918) over a stack's tree: `/dav/files/` and `/dav/site/`, with the portal's password.
//!
//! The protocol is dav-server's; this file gives it a file system that is the [`Tree`], so that what comes
//! in this way obeys the same limit and is noted like everything else.

use std::fmt;
use std::io::SeekFrom;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use bytes::{Buf, Bytes};
use dav_server::davpath::DavPath;
use dav_server::fakels::FakeLs;
use dav_server::fs::{
    DavDirEntry, DavFile, DavFileSystem, DavMetaData, FsError, FsFuture, FsResult, FsStream, OpenOptions, ReadDirMeta,
};
use dav_server::{DavHandler, DavMethodSet};
use stackpro_domain::limits::LimitReached;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{Visit, check_password, file};
use crate::blocking;
use crate::path::{DataPath, FILES, SITE};
use crate::stack::Stack;
use crate::tree::{Node, Tree, TreeError, Upload};

const PREFIX: &str = "/dav";

/// All that dav-server does, but for PATCH: a file is replaced whole or not at all.
const METHODS: [&str; 12] =
    ["GET", "HEAD", "PUT", "OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "DELETE", "LOCK", "UNLOCK"];

pub(super) async fn handle(stack: &Arc<Stack>, visit: &Visit, request: Request) -> Response {
    match password(&request).map(|password| check_password(stack, visit, &password)) {
        Some(Ok(true)) => {}
        Some(Err(seconds)) => {
            return super::pages::with_retry(StatusCode::TOO_MANY_REQUESTS.into_response(), seconds);
        }
        Some(Ok(false)) | None => return unauthorized(),
    }
    match check(&stack.tree, &request) {
        Ok(()) => {}
        Err(TreeError::Limit(full)) => return (StatusCode::INSUFFICIENT_STORAGE, format!("{full}\n")).into_response(),
        Err(_) => return StatusCode::FORBIDDEN.into_response(),
    }
    let full = Arc::default();
    let files = DavTree { tree: Arc::clone(&stack.tree), full: Arc::clone(&full) };
    let handler = DavHandler::builder()
        .filesystem(Box::new(files))
        // Locks are promised and not kept: clients want them, and they would not survive a move.
        .locksystem(FakeLs::new())
        .strip_prefix(PREFIX)
        .methods(DavMethodSet::from_vec(METHODS.into()).unwrap_or_else(|_| DavMethodSet::none()))
        .build_handler();
    let response = handler.handle(request).await.map(Body::new);
    let full = full.lock().unwrap_or_else(PoisonError::into_inner).take();
    match full {
        Some(full) if response.status() == StatusCode::INSUFFICIENT_STORAGE => {
            (StatusCode::INSUFFICIENT_STORAGE, format!("{full}\n")).into_response()
        }
        _ => response,
    }
}

/// The password of HTTP's basic authentication (RFC 7617); the user name does not matter.
fn password(request: &Request) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    String::from_utf8(decoded).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn unauthorized() -> Response {
    let mut response = StatusCode::UNAUTHORIZED.into_response();
    file::insert(response.headers_mut(), header::WWW_AUTHENTICATE, "Basic realm=\"Files\", charset=\"UTF-8\"");
    response
}

/// Refuses what dav-server would find impossible only after it has removed something: it deletes a folder
/// piece by piece, and what is in the way of a copy or a move before it tries.
fn check(tree: &Tree, request: &Request) -> Result<(), TreeError> {
    let verb = request.method().as_str();
    if !matches!(verb, "DELETE" | "MOVE" | "COPY") {
        return Ok(());
    }
    let place = |encoded: &str| {
        let mut path = DavPath::new(encoded).ok()?;
        path.set_prefix(PREFIX).ok()?;
        DavTree::data(&path).ok()
    };
    let inner = |path: &DataPath| path.parent().is_some();
    let from = place(request.uri().path()).ok_or(TreeError::Refused)?;
    if verb != "COPY" && !inner(&from) {
        return Err(TreeError::Refused);
    }
    if verb == "DELETE" {
        return Ok(());
    }
    let to = request.headers().get("destination").and_then(|to| to.to_str().ok()?.parse::<axum::http::Uri>().ok());
    let to = to.and_then(|to| place(to.path())).filter(inner).ok_or(TreeError::Refused)?;
    if from.contains(&to) || to.contains(&from) {
        return Err(TreeError::Refused);
    }
    if verb == "COPY" { tree.check_copy(&from, &to) } else { Ok(()) }
}

#[derive(Clone)]
struct DavTree {
    tree: Arc<Tree>,
    /// Why the answer is 507.
    full: Arc<Mutex<Option<LimitReached>>>,
}

/// A place in WebDAV's tree.
enum Place {
    /// Holds `site` and `files`.
    Root,
    Data(DataPath),
}

impl DavTree {
    fn place(path: &DavPath) -> FsResult<Place> {
        let text = std::str::from_utf8(path.as_bytes()).map_err(|_| FsError::Forbidden)?;
        match text.trim_matches('/') {
            "" => Ok(Place::Root),
            below if below.split('/').next().is_some_and(|top| matches!(top, SITE | FILES)) => {
                DataPath::new(below).map(Place::Data).ok_or(FsError::Forbidden)
            }
            _ => Err(FsError::NotFound),
        }
    }

    fn data(path: &DavPath) -> FsResult<DataPath> {
        match Self::place(path) {
            Ok(Place::Data(path)) => Ok(path),
            // Nothing can be made beside `site` and `files`.
            Ok(Place::Root) | Err(_) => Err(FsError::Forbidden),
        }
    }

    fn error(&self, error: TreeError) -> FsError {
        match error {
            TreeError::Limit(limit) => {
                *self.full.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
                FsError::InsufficientStorage
            }
            TreeError::Missing => FsError::NotFound,
            TreeError::Exists => FsError::Exists,
            TreeError::Refused => FsError::Forbidden,
            TreeError::Incomplete => FsError::GeneralFailure,
            TreeError::Disk(error) => {
                tracing::error!(%error, "a WebDAV request failed");
                FsError::from(error)
            }
        }
    }

    /// Runs a change of the tree where it may block.
    fn change(&self, change: impl FnOnce(&Tree) -> Result<(), TreeError> + Send + 'static) -> FsFuture<'_, ()> {
        let tree = Arc::clone(&self.tree);
        Box::pin(async move {
            let changed = blocking(move || change(&tree)).await;
            changed.unwrap_or_else(|error| Err(error.into())).map_err(|error| self.error(error))
        })
    }
}

impl DavFileSystem for DavTree {
    fn open<'a>(&'a self, path: &'a DavPath, options: OpenOptions) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(async move {
            let path = Self::data(path)?;
            if !options.write {
                let tree = Arc::clone(&self.tree);
                let opened = blocking(move || tree.read(&path)).await.map_err(FsError::from)?;
                let (file, node) = opened.map_err(|error| self.error(error))?;
                return Ok(Box::new(Reading { file: tokio::fs::File::from_std(file), node }) as Box<dyn DavFile>);
            }
            if options.append || !options.truncate {
                return Err(FsError::NotImplemented);
            }
            match self.tree.get(&path) {
                Some(_) if options.create_new => return Err(FsError::Exists),
                None if !options.create => return Err(FsError::NotFound),
                _ => {}
            }
            let upload = self.tree.upload(&path, options.size).map_err(|error| self.error(error))?;
            Ok(Box::new(Storing { of: self.clone(), upload: Some(upload), node: None }) as Box<dyn DavFile>)
        })
    }

    fn read_dir<'a>(&'a self, path: &'a DavPath, _: ReadDirMeta) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        Box::pin(async move {
            let found = match Self::place(path)? {
                Place::Data(path) => self.tree.list(&path).ok_or(FsError::NotFound)?,
                Place::Root => [SITE, FILES]
                    .into_iter()
                    .filter_map(|top| Some((top.to_owned(), self.tree.get(&DataPath::new(top)?)?)))
                    .collect(),
            };
            let entries = found.into_iter().map(|found| Ok(Box::new(Found(found)) as Box<dyn DavDirEntry>));
            Ok(Box::pin(futures::stream::iter(entries)) as FsStream<Box<dyn DavDirEntry>>)
        })
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        Box::pin(async move {
            let node = match Self::place(path)? {
                Place::Root => Node::Folder { modified_ns: 0 },
                Place::Data(path) => self.tree.get(&path).ok_or(FsError::NotFound)?,
            };
            Ok(Box::new(Facts(node)) as Box<dyn DavMetaData>)
        })
    }

    fn create_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        match Self::data(path) {
            Ok(path) => self.change(move |tree| tree.make_folder(&path)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn remove_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        self.remove_file(path)
    }

    fn remove_file<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        match Self::data(path) {
            Ok(path) => self.change(move |tree| tree.remove(&path)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn rename<'a>(&'a self, from: &'a DavPath, to: &'a DavPath) -> FsFuture<'a, ()> {
        match (Self::data(from), Self::data(to)) {
            (Ok(from), Ok(to)) => self.change(move |tree| tree.rename(&from, &to)),
            (Err(error), _) | (_, Err(error)) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn copy<'a>(&'a self, from: &'a DavPath, to: &'a DavPath) -> FsFuture<'a, ()> {
        Box::pin(async move {
            let (from, to) = (Self::data(from)?, Self::data(to)?);
            copy(&self.tree, &from, &to).await.map_err(|error| self.error(error))
        })
    }

    fn get_quota(&self) -> FsFuture<'_, (u64, Option<u64>)> {
        let (used, _, limit) = self.tree.usage();
        Box::pin(std::future::ready(Ok((used, limit))))
    }
}

async fn copy(tree: &Arc<Tree>, from: &DataPath, to: &DataPath) -> Result<(), TreeError> {
    let (file, node) = tree.read(from)?;
    let mut upload = tree.upload(to, Some(node.bytes()))?;
    let mut file = tokio::fs::File::from_std(file);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).await? {
            0 => return upload.finish().await.map(drop),
            count => upload.write(&buffer[..count]).await?,
        }
    }
}

struct Reading {
    file: tokio::fs::File,
    node: Node,
}

/// A file that is visible once `flush` is called, which dav-server does after the last byte.
struct Storing {
    of: DavTree,
    upload: Option<Upload>,
    node: Option<Node>,
}

#[derive(Clone, Debug)]
struct Facts(Node);

struct Found((String, Node));

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

impl fmt::Debug for Storing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storing")
    }
}

fn refused<T: Send + 'static>() -> FsFuture<'static, T> {
    Box::pin(std::future::ready(Err(FsError::Forbidden)))
}

impl DavFile for Reading {
    fn metadata(&mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        Box::pin(std::future::ready(Ok(Box::new(Facts(self.node.clone())) as Box<dyn DavMetaData>)))
    }

    fn write_buf(&mut self, _: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        refused()
    }

    fn write_bytes(&mut self, _: Bytes) -> FsFuture<'_, ()> {
        refused()
    }

    fn read_bytes(&mut self, count: usize) -> FsFuture<'_, Bytes> {
        Box::pin(async move {
            let mut buffer = vec![0; count.min(256 * 1024)];
            let read = self.file.read(&mut buffer).await?;
            buffer.truncate(read);
            Ok(buffer.into())
        })
    }

    fn seek(&mut self, to: SeekFrom) -> FsFuture<'_, u64> {
        Box::pin(async move { Ok(self.file.seek(to).await?) })
    }

    fn flush(&mut self) -> FsFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

impl DavFile for Storing {
    fn metadata(&mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let node = self.node.clone().ok_or(FsError::NotFound);
        Box::pin(std::future::ready(node.map(|node| Box::new(Facts(node)) as Box<dyn DavMetaData>)))
    }

    fn write_buf(&mut self, mut bytes: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        self.write_bytes(bytes)
    }

    fn write_bytes(&mut self, bytes: Bytes) -> FsFuture<'_, ()> {
        Box::pin(async move {
            let upload = self.upload.as_mut().ok_or(FsError::GeneralFailure)?;
            upload.write(&bytes).await.map_err(|error| self.of.error(error))
        })
    }

    fn read_bytes(&mut self, _: usize) -> FsFuture<'_, Bytes> {
        refused()
    }

    fn seek(&mut self, _: SeekFrom) -> FsFuture<'_, u64> {
        refused()
    }

    fn flush(&mut self) -> FsFuture<'_, ()> {
        Box::pin(async move {
            match self.upload.take().ok_or(FsError::GeneralFailure)?.finish().await {
                Ok(node) => self.node = Some(node),
                // dav-server counts too, and answers 400.
                Err(TreeError::Incomplete) => {}
                Err(error) => return Err(self.of.error(error)),
            }
            Ok(())
        })
    }
}

impl DavMetaData for Facts {
    fn len(&self) -> u64 {
        self.0.bytes()
    }

    fn modified(&self) -> FsResult<SystemTime> {
        Ok(UNIX_EPOCH + Duration::from_nanos(self.0.modified_ns().unsigned_abs()))
    }

    fn created(&self) -> FsResult<SystemTime> {
        self.modified()
    }

    fn is_dir(&self) -> bool {
        self.0.is_folder()
    }
}

impl DavDirEntry for Found {
    fn name(&self) -> Vec<u8> {
        self.0.0.clone().into_bytes()
    }

    fn metadata(&self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        Box::pin(std::future::ready(Ok(Box::new(Facts(self.0.1.clone())) as Box<dyn DavMetaData>)))
    }
}

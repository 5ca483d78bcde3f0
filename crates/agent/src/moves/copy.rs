//! The destination's copy: what the source has, what is here, and how the one becomes the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stackpro_domain::ClientId;
use stackpro_domain::manifest::{Entry, FileFacts, compare};
use stackpro_protocol::agent::{CONTROL_NAME, MoveOrder};
use stackpro_tls::ChainError;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use super::transfer::{FileHead, Page};
use crate::agent::Agent;
use crate::engine::EngineError;
use crate::path::DataPath;
use crate::tree::{Cursor, Tree, TreeError};
use crate::{blocking, disk};

/// Files and bytes that one request asks for, and requests side by side.
const BATCH_FILES: usize = 500;
const BATCH_BYTES: u64 = 16 * 1024 * 1024;
const SIDE_BY_SIDE: usize = 4;
/// A file up to this size is received in memory and written together with others.
const SMALL_FILE: u64 = 1024 * 1024;
const TOGETHER: usize = 4 * 1024 * 1024;
/// Bytes of an answer that is no file.
const ANSWER: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    /// The source knows nothing of this move, or gave it up.
    #[error("the source refuses this move: it was given up there, or the stack is gone")]
    Gone,
    #[error("the source says: {0}")]
    NotNow(String),
    #[error("the source cannot be reached: {0}")]
    Http(#[from] reqwest::Error),
    #[error("the source's answer is not what it should be: {0}")]
    Answer(String),
    #[error("{0} arrived with another content than the source has")]
    Corrupt(String),
    #[error("the copy differs from its source")]
    Differs,
    #[error("the hold was over before the rest was copied")]
    TooSlow,
    #[error("the new place does not answer its probe")]
    Probe,
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Tree(#[from] TreeError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] ChainError),
}

pub(super) type Result<T> = std::result::Result<T, MoveError>;

/// The source's control door, for one job.
#[derive(Clone)]
pub(super) struct Source {
    http: reqwest::Client,
    base: String,
    secret: String,
}

impl Source {
    pub(super) fn new(agent: &Agent, client: &ClientId, order: &MoveOrder) -> std::result::Result<Self, ChainError> {
        let source: SocketAddr = order.source;
        let (http, door) = match &order.source_fingerprint {
            None => (agent.http.clone(), format!("http://{source}")),
            Some(fingerprint) => {
                let http = stackpro_tls::http_client(crate::http(), CONTROL_NAME, source, fingerprint)?;
                (http, format!("https://{CONTROL_NAME}:{}", source.port()))
            }
        };
        let job = crate::path::encode_part(&order.job_id);
        let base = format!("{door}/v1/transfer/{client}/{job}");
        Ok(Self { http, base, secret: order.ticket.secret.clone() })
    }

    /// Calls the source. `None` as a body makes it a `GET`.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        what: &str,
        body: Option<&impl Serialize>,
        longest: Duration,
    ) -> Result<T> {
        let mut response = self.send(what, body, longest).await?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if answer.len() + chunk.len() > ANSWER {
                return Err(MoveError::Answer("too large".into()));
            }
            answer.extend_from_slice(&chunk);
        }
        // 204 has no body, which reads as `()`.
        let answer = if answer.is_empty() { b"null".as_slice() } else { &answer };
        serde_json::from_slice(answer).map_err(|error| MoveError::Answer(error.to_string()))
    }

    pub(super) async fn send(
        &self,
        what: &str,
        body: Option<&impl Serialize>,
        longest: Duration,
    ) -> Result<reqwest::Response> {
        let url = format!("{}/{what}", self.base);
        let request = match body {
            Some(body) => self.http.post(url).json(body),
            None => self.http.get(url),
        };
        let response = request.bearer_auth(&self.secret).timeout(longest).send().await?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::GONE | StatusCode::UNAUTHORIZED => Err(MoveError::Gone),
            status => {
                let text: String = response.text().await.unwrap_or_default().chars().take(200).collect();
                Err(MoveError::NotNow(if text.is_empty() { status.to_string() } else { text }))
            }
        }
    }
}

/// What one round found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Files and folders copied or removed, and the bytes of the files.
    pub changes: u64,
    pub files: u64,
    pub bytes: u64,
    /// At the source.
    pub files_total: u64,
    pub bytes_total: u64,
}

pub(super) struct Copy {
    source: Source,
    tree: Arc<Tree>,
    cursor: Cursor,
    /// The source's manifest as far as it was read.
    mirror: BTreeMap<String, Entry>,
    /// What differed from the mirror when it was last seen.
    dirty: BTreeSet<String>,
    /// What was written and not yet read again, as the source described it.
    unverified: BTreeMap<DataPath, FileFacts>,
    /// Where something was written or removed that may not have reached the disk.
    unsynced: BTreeSet<DataPath>,
}

impl Copy {
    pub(super) fn new(source: Source, tree: Arc<Tree>) -> Self {
        let (mirror, dirty, unverified) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { source, tree, cursor: Cursor::default(), mirror, dirty, unverified, unsynced: BTreeSet::new() }
    }

    /// Reads what changed at the source, and does the same here.
    pub(super) async fn round(&mut self) -> Result<Round> {
        let (files_total, bytes_total) = self.read_changes().await?;
        let entry = |path: &String| (path.clone(), self.mirror.get(path).cloned());
        let wanted: Vec<_> = self.dirty.iter().map(entry).collect();
        let changes = wanted.len() as u64;
        self.unsynced.extend(wanted.iter().filter_map(|(path, _)| DataPath::new(path)));
        let tree = Arc::clone(&self.tree);
        let files = blocking(move || make_folders(&tree, wanted)).await??;
        let bytes = files.iter().map(|(_, bytes)| bytes).sum();
        let round = Round { changes, files: files.len() as u64, bytes, files_total, bytes_total };
        self.fetch(files).await?;
        self.dirty.clear();
        Ok(round)
    }

    /// The source's changes into the mirror, and what follows from them into `dirty`.
    async fn read_changes(&mut self) -> Result<(u64, u64)> {
        let mut restarted = false;
        loop {
            let page: Page = self.source.call("changes", Some(&self.cursor), Duration::from_mins(10)).await?;
            if page.changes.restart {
                restarted = true;
                self.mirror.clear();
            }
            for path in page.changes.removed {
                self.mirror.remove(&path);
                self.dirty.insert(path);
            }
            for entry in page.changes.changed {
                self.dirty.insert(entry.path.clone());
                self.mirror.insert(entry.path.clone(), entry);
            }
            self.cursor = page.changes.next;
            if !page.changes.more {
                if restarted {
                    self.compare_all().await?;
                }
                return Ok((page.files, page.bytes));
            }
        }
    }

    /// What is here against the whole mirror: at the beginning, and when the source began anew.
    async fn compare_all(&mut self) -> Result<()> {
        let tree = Arc::clone(&self.tree);
        let here = blocking(move || tree.hash_all().map(|()| tree.entries())).await??;
        let there: Vec<Entry> = self.mirror.values().cloned().collect();
        let difference = compare(&there, &here);
        self.dirty = difference.to_copy.into_iter().chain(difference.to_remove).collect();
        Ok(())
    }

    /// Forgets how far the source was read, so that the next round compares everything.
    pub(super) fn start_over(&mut self) {
        self.cursor = Cursor::default();
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    async fn fetch(&mut self, files: Vec<(String, u64)>) -> Result<()> {
        let fetch = |batch| fetch_batch(self.source.clone(), Arc::clone(&self.tree), batch);
        let fetches: Vec<_> = batches(files).into_iter().map(fetch).collect();
        let mut fetched = futures::stream::iter(fetches).buffer_unordered(SIDE_BY_SIDE);
        while let Some(stored) = fetched.try_next().await? {
            self.unverified.extend(stored);
        }
        Ok(())
    }

    /// Reads again, from the disk, what was written since the last time, against what the source said of it.
    /// What is not right is removed, and copied anew by the next round.
    pub(super) async fn verify(&mut self) -> Result<()> {
        let written: Vec<(DataPath, FileFacts)> = std::mem::take(&mut self.unverified).into_iter().collect();
        let check = |some: &[(DataPath, FileFacts)]| {
            let (tree, some) = (Arc::clone(&self.tree), some.to_vec());
            blocking(move || wrong_of(&tree, some))
        };
        let checks: Vec<_> = written.chunks(200).map(check).collect();
        let mut checked = futures::stream::iter(checks).buffer_unordered(SIDE_BY_SIDE);
        let mut differs = false;
        while let Some(wrong) = checked.try_next().await? {
            let wrong = wrong?;
            differs |= !wrong.is_empty();
            self.dirty.extend(wrong);
        }
        if differs { Err(MoveError::Differs) } else { Ok(()) }
    }

    /// Makes everything so far survive power loss. As slow as what the file system has in memory.
    pub(super) async fn sync_all(&mut self) -> Result<()> {
        self.unsynced.clear();
        let tree = Arc::clone(&self.tree);
        Ok(blocking(move || tree.sync_all()).await??)
    }

    /// The same for what was done since, piece by piece.
    pub(super) async fn sync_rest(&mut self) -> Result<()> {
        let (tree, rest) = (Arc::clone(&self.tree), std::mem::take(&mut self.unsynced));
        Ok(blocking(move || tree.sync(&rest)).await??)
    }
}

/// Of these files, those whose content on the disk is not what it should be. They are removed here.
fn wrong_of(tree: &Tree, files: Vec<(DataPath, FileFacts)>) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (path, facts) in files {
        match tree.hash_on_disk(&path) {
            Ok(hash) if hash == facts.hash => {}
            Ok(_) => {
                tracing::error!(%path, "a copied file reads otherwise than it was written");
                let _ = tree.remove(&path);
                wrong.push(path.as_str().to_owned());
            }
            Err(TreeError::Disk(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => wrong.push(path.as_str().to_owned()),
        }
    }
    Ok(wrong)
}

/// Removes and makes folders as the source has them; gives the files that are to be fetched, with their
/// sizes. Paths come sorted, so that a folder comes before what is in it.
fn make_folders(tree: &Tree, wanted: Vec<(String, Option<Entry>)>) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for (path, entry) in wanted {
        let Some(place) = DataPath::new(&path) else { return Err(MoveError::Answer("a path leads elsewhere".into())) };
        match entry {
            None => match tree.remove(&place) {
                Ok(()) | Err(TreeError::Missing) => {}
                Err(error) => return Err(error.into()),
            },
            Some(Entry { file: None, .. }) if place.parent().is_some() => tree.put_copy(&place, None)?,
            Some(Entry { file: None, .. }) => {}
            Some(entry) => {
                let here = tree.get(&place).and_then(|node| node.entry(&path));
                if here.as_ref() != Some(&entry) {
                    files.push((path, entry.file.map_or(0, |facts| facts.bytes)));
                }
            }
        }
    }
    Ok(files)
}

fn batches(files: Vec<(String, u64)>) -> Vec<Vec<String>> {
    let mut batches = vec![Vec::new()];
    let mut bytes = 0;
    for (path, size) in files {
        if let Some(batch) = batches.last_mut() {
            if batch.len() < BATCH_FILES && (batch.is_empty() || bytes + size <= BATCH_BYTES) {
                batch.push(path);
                bytes += size;
            } else {
                batches.push(vec![path]);
                bytes = size;
            }
        }
    }
    batches.retain(|batch| !batch.is_empty());
    batches
}

/// A file that was received and is not in its place yet.
struct Received {
    path: DataPath,
    facts: FileFacts,
    content: Content,
}

enum Content {
    Memory(Vec<u8>),
    Staged(PathBuf),
}

/// Gives what was stored.
async fn fetch_batch(source: Source, tree: Arc<Tree>, paths: Vec<String>) -> Result<Vec<(DataPath, FileFacts)>> {
    let longest = Duration::from_hours(1);
    let response = source.send("files", Some(&paths), longest).await?;
    let mut stream = StreamReader::new(response.bytes_stream().map_err(io::Error::other));
    let mut together: Vec<Received> = Vec::new();
    let mut stored = Vec::new();
    let mut held = 0;
    for path in paths {
        let head = read_head(&mut stream).await?;
        if head.path != path {
            return Err(MoveError::Answer("another file than was asked for".into()));
        }
        // Removed meanwhile: the next round hears of it.
        let Some(facts) = head.facts else { continue };
        let path = DataPath::new(&path).ok_or_else(|| MoveError::Answer("a path leads elsewhere".into()))?;
        let content = receive(&mut stream, &tree, &path, &facts).await?;
        if let Content::Memory(bytes) = &content {
            held += bytes.len();
        }
        stored.push((path.clone(), facts.clone()));
        together.push(Received { path, facts, content });
        if held >= TOGETHER {
            held = 0;
            store(&tree, std::mem::take(&mut together)).await?;
        }
    }
    store(&tree, together).await?;
    Ok(stored)
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<FileHead> {
    let length = stream.read_u32_le().await?;
    if length > 64 * 1024 {
        return Err(MoveError::Answer("a head is too large".into()));
    }
    let mut head = vec![0; length as usize];
    stream.read_exact(&mut head).await?;
    serde_json::from_slice(&head).map_err(|error| MoveError::Answer(error.to_string()))
}

/// Reads one file's content, and checks it against its hash.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    tree: &Tree,
    path: &DataPath,
    facts: &FileFacts,
) -> Result<Content> {
    let mut hasher = blake3::Hasher::new();
    let content = if facts.bytes <= SMALL_FILE {
        let mut bytes = vec![0; facts.bytes as usize];
        stream.read_exact(&mut bytes).await?;
        hasher.update(&bytes);
        Content::Memory(bytes)
    } else {
        let staged = tree.staging().join(disk::unique("copy"));
        let mut file = tokio::fs::File::create_new(&staged).await?;
        let mut buffer = vec![0; 256 * 1024];
        let mut left = facts.bytes;
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = stream.read(&mut buffer[..most]).await?;
            if read == 0 {
                return Err(MoveError::Answer("a file ends too early".into()));
            }
            hasher.update(&buffer[..read]);
            tokio::io::AsyncWriteExt::write_all(&mut file, &buffer[..read]).await?;
            left -= read as u64;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await?;
        Content::Staged(staged)
    };
    if hasher.finalize().to_hex().as_str() == facts.hash {
        Ok(content)
    } else {
        Err(MoveError::Corrupt(path.to_string()))
    }
}

/// Puts received files into their places.
async fn store(tree: &Arc<Tree>, files: Vec<Received>) -> Result<()> {
    let tree = Arc::clone(tree);
    blocking(move || {
        for Received { path, facts, content } in files {
            let staged = match content {
                Content::Memory(bytes) => {
                    let staged = tree.staging().join(disk::unique("copy"));
                    File::create_new(&staged)?.write_all(&bytes)?;
                    staged
                }
                Content::Staged(staged) => staged,
            };
            set_modified(&staged, facts.modified_ns)?;
            match tree.put_copy(&path, Some((&staged, &facts))) {
                // Its folder is gone meanwhile: the next round hears of it.
                Err(TreeError::Missing | TreeError::Refused) => fs::remove_file(&staged)?,
                put => put?,
            }
        }
        Ok(())
    })
    .await?
}

fn set_modified(path: &Path, ns: i64) -> io::Result<()> {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time: Option<SystemTime> =
        if ns >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
    File::options().write(true).open(path)?.set_modified(time.unwrap_or(UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_files_and_by_bytes() {
        let many = (0..1_200).map(|n| (n.to_string(), 1)).collect();
        assert_eq!(batches(many).iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 200]);
        let large = vec![("a".into(), BATCH_BYTES * 2), ("b".into(), BATCH_BYTES), ("c".into(), 1), ("d".into(), 1)];
        assert_eq!(batches(large).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2]);
        assert!(batches(Vec::new()).is_empty());
    }
}

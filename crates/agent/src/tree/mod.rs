//! A stack's data on the disk: the folders `site` and `files`, an index of what is in them, and the only
//! ways to change them.
//!
//! Every change goes through [`Tree`], which therefore knows them all: it enforces the storage limit at
//! every way in, counts usage as it changes, and tells a follower what changed since any point
//! ([`Tree::changes_since`]). New content is written beside the visible tree and renamed into it, so a kill
//! at any moment leaves the old content or the new. Symbolic links and special files are neither followed
//! nor seen, and what someone else writes into the folder is found at the next start.
//!
//! All of it blocks on the disk; [`Upload`] is the part for async callers.

mod digest;
mod index;
mod scan;
mod upload;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stackpro_domain::limits::{LimitReached, Limits};
use stackpro_domain::manifest::{Entry, FileFacts};

pub(crate) use digest::Digest;
pub(crate) use index::{Changes, Cursor, Node, Sums};
pub(crate) use upload::Upload;

use crate::disk;
use crate::path::{DataPath, FILES, SITE};
use index::Index;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    #[error(transparent)]
    Limit(#[from] LimitReached),
    #[error("there is no such file or folder")]
    Missing,
    #[error("there is something of that name already")]
    Exists,
    #[error("this cannot be done with that name")]
    Refused,
    #[error("the file arrived incomplete")]
    Incomplete,
    #[error("the disk refused: {0}")]
    Disk(#[from] io::Error),
}

pub(crate) type Result<T> = std::result::Result<T, TreeError>;

pub(crate) struct Tree {
    /// Holds `site` and `files`.
    root: PathBuf,
    /// On the same file system: content on its way in, and what is on its way out.
    staging: PathBuf,
    state: Mutex<State>,
}

struct State {
    index: Index,
    limits: Limits,
    /// Bytes that uploads may still bring in beside what is stored.
    reserved: u64,
}

impl Tree {
    /// Opens, or makes, the tree below `folder` and indexes what is there. Linear in the number of files,
    /// without reading them.
    pub(crate) fn open(folder: &Path, limits: Limits) -> io::Result<Arc<Self>> {
        let (root, staging) = (folder.join("data"), folder.join("staging"));
        // What a killed process left half written.
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&staging)?,
        }
        let mut index = Index::new(disk::unique("epoch"));
        for top in [SITE, FILES] {
            fs::create_dir_all(root.join(top))?;
            if let Some(top) = DataPath::new(top) {
                scan::index_folder(&root, &top, &mut index)?;
            }
        }
        Ok(Arc::new(Self { root, staging, state: Mutex::new(State { index, limits, reserved: 0 }) }))
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.state().limits = limits;
    }

    /// Bytes and files stored, and the limit on the bytes.
    pub(crate) fn usage(&self) -> (u64, u64, Option<u64>) {
        let state = self.state();
        (state.index.bytes(), state.index.files(), state.limits.storage_bytes)
    }

    pub(crate) fn get(&self, path: &DataPath) -> Option<Node> {
        self.state().index.get(path).cloned()
    }

    /// The content of a folder by name; `None` when it is none.
    pub(crate) fn list(&self, folder: &DataPath) -> Option<Vec<(String, Node)>> {
        let state = self.state();
        state.index.get(folder)?.is_folder().then(|| state.index.children(folder))
    }

    /// Opens a file for reading, with what is known of it.
    pub(crate) fn read(&self, path: &DataPath) -> Result<(File, Node)> {
        let node = self.get(path).ok_or(TreeError::Missing)?;
        if node.is_folder() {
            return Err(TreeError::Refused);
        }
        Ok((scan::open_below(&self.root, path)?, node))
    }

    /// Begins to write a file of `expected` bytes, if that is known; refused at once when it cannot fit.
    pub(crate) fn upload(self: &Arc<Self>, path: &DataPath, expected: Option<u64>) -> Result<Upload> {
        Upload::begin(Arc::clone(self), path, expected)
    }

    pub(crate) fn make_folder(&self, path: &DataPath) -> Result<()> {
        let mut state = self.state();
        state.check_place(path)?;
        if state.index.get(path).is_some() {
            return Err(TreeError::Exists);
        }
        fs::create_dir(self.place(path))?;
        state.index.set(path, Node::Folder { modified_ns: now_ns() });
        state.touch_parent(path);
        Ok(())
    }

    /// Removes a file, or a folder with all that is in it, at once for whoever looks.
    pub(crate) fn remove(&self, path: &DataPath) -> Result<()> {
        let trash = self.staging.join(disk::unique("trash"));
        let folder = {
            let mut state = self.state();
            let node = state.index.get(path).ok_or(TreeError::Missing)?;
            let folder = node.is_folder();
            if path.parent().is_none() {
                return Err(TreeError::Refused);
            }
            fs::rename(self.place(path), &trash)?;
            state.index.remove(path);
            state.touch_parent(path);
            folder
        };
        if folder {
            fs::remove_dir_all(trash)?;
        } else {
            fs::remove_file(trash)?;
        }
        Ok(())
    }

    /// Moves a file over a file or to a free name, or a folder to a free name.
    pub(crate) fn rename(&self, from: &DataPath, to: &DataPath) -> Result<()> {
        let mut state = self.state();
        state.check_place(to)?;
        let node = state.index.get(from).ok_or(TreeError::Missing)?.clone();
        if from.parent().is_none() || from.contains(to) {
            return Err(TreeError::Refused);
        }
        if state.index.get(to).is_some_and(|there| there.is_folder() || node.is_folder()) {
            return Err(TreeError::Exists);
        }
        fs::rename(self.place(from), self.place(to))?;
        for old in state.index.below(from) {
            let new = DataPath::new(&format!("{to}{}", &old[from.as_str().len()..]));
            let moved = DataPath::new(&old).and_then(|old| state.index.get(&old).cloned());
            if let (Some(new), Some(moved)) = (new, moved) {
                state.index.set(&new, moved);
            }
        }
        state.index.remove(from);
        state.touch_parent(from);
        state.touch_parent(to);
        Ok(())
    }

    /// Whether a copy of `from`, with all below it, over `to` would fit.
    pub(crate) fn check_copy(&self, from: &DataPath, to: &DataPath) -> Result<()> {
        let state = self.state();
        let more = state.index.bytes_below(from).saturating_sub(state.index.bytes_below(to));
        Ok(state.limits.check_storage(state.index.bytes().saturating_add(state.reserved), more)?)
    }

    /// Changes after a cursor, at most `limit` of them. Files that were found on the disk at the start
    /// appear once [`Tree::hash_all`] has read them.
    pub(crate) fn changes_since(&self, cursor: &Cursor, limit: usize) -> Changes {
        self.state().index.changes_since(cursor, limit)
    }

    /// Where the tree is now, with its sums; `None` while hashes are missing.
    pub(crate) fn now(&self) -> Option<(Cursor, Sums)> {
        let state = self.state();
        Some((state.index.cursor(), state.index.sums()?))
    }

    /// Every entry, sorted by path.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.state().index.entries()
    }

    /// Reads the files whose hash is not known. Linear in their bytes; nothing to do after the first time.
    pub(crate) fn hash_all(&self) -> io::Result<()> {
        let missing = self.state().index.unhashed();
        for (path, node) in missing {
            match self.hash_on_disk(&path) {
                Ok(hash) => self.state().index.set_hash(&path, &node, hash),
                Err(TreeError::Disk(error)) if self.get(&path).as_ref() == Some(&node) => return Err(error),
                // Removed or replaced meanwhile: whoever did that knows the hash.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Reads a file from the disk, whatever the index says of it.
    pub(crate) fn hash_on_disk(&self, path: &DataPath) -> Result<String> {
        let mut file = scan::open_below(&self.root, path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize().to_hex().to_string()),
                count => hasher.update(&buffer[..count]),
            };
        }
    }

    /// Makes an entry so, as a copy of another tree: no limit, what is in its way is removed. `content` is
    /// a file in [`Tree::staging`], its time set already.
    pub(crate) fn put_copy(&self, path: &DataPath, file: Option<(&Path, &FileFacts)>) -> Result<()> {
        let kind = self.get(path).map(|node| node.is_folder());
        if kind.is_some_and(|folder| folder != file.is_none()) {
            self.remove(path)?;
        }
        let Some((content, facts)) = file else {
            return match self.make_folder(path) {
                Err(TreeError::Exists) => Ok(()),
                made => made,
            };
        };
        let FileFacts { bytes, hash, modified_ns } = facts;
        let mut state = self.state();
        state.check_place(path)?;
        fs::rename(content, self.place(path))?;
        state.index.set(path, Node::File { bytes: *bytes, modified_ns: *modified_ns, hash: Some(hash.clone()) });
        Ok(())
    }

    pub(crate) fn staging(&self) -> &Path {
        &self.staging
    }

    /// Makes what is at these paths, that nothing is there included, survive power loss.
    pub(crate) fn sync(&self, paths: &BTreeSet<DataPath>) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for path in paths {
            if let Ok((file, _)) = self.read(path) {
                file.sync_all()?;
            }
            folders.extend(path.parent());
        }
        for folder in folders {
            match disk::sync_folder(&self.place(&folder)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes all of it survive power loss. Costs what the whole file system has in memory.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(File::open(&self.root)?)?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    fn place(&self, path: &DataPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock, and what it guards is changed after the disk was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether something may be at this path: below a folder, and not a top folder itself.
    fn check_place(&self, path: &DataPath) -> Result<()> {
        let parent = path.parent().ok_or(TreeError::Refused)?;
        match self.index.get(&parent) {
            Some(node) if node.is_folder() => Ok(()),
            Some(_) => Err(TreeError::Refused),
            None => Err(TreeError::Missing),
        }
    }

    fn touch_parent(&mut self, path: &DataPath) {
        if let Some(parent) = path.parent() {
            self.index.touch(&parent, now_ns());
        }
    }
}

/// The disk's clock: what a file's times are compared with, never the business's time.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

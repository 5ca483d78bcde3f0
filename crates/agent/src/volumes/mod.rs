//! The data of a stack in containers: a folder for each of its volumes, which its programs change behind our
//! back, with owners, links and databases in it.
//!
//! What changed is found by looking: a file whose inode, size and time of change (in nanoseconds) are as they
//! were is as it was. Two things make that true. Before each look the file system is synced, since a page
//! that is mapped into memory and dirty already changes without a new time; and a file that changed at or
//! after that sync is read again at the next look, whatever its time says by then. Whole seconds, or times
//! alone, lose commits of a running database (measured).
//!
//! All of it blocks on the disk. Symbolic links are never followed, neither here nor on the way: what is in
//! the volumes is the client's, and hostile.

mod index;
mod item;
mod look;
mod place;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use index::Changes;
use index::Index;
pub(crate) use item::{BLOCK, Blocks, Item, Kind, missing_blocks};
use look::Stamp;
pub(crate) use place::{Place, read_block};

use crate::tree::{Cursor, Sums};

pub(crate) struct Volumes {
    root: PathBuf,
    /// The machine's user who stands for the stack's user 0; group likewise.
    first_user: AtomicU32,
    state: Mutex<Index>,
    bytes: AtomicU64,
    files: AtomicU64,
}

impl Volumes {
    pub(crate) fn new(root: PathBuf, first_user: u32) -> Self {
        let state = Mutex::new(Index::new());
        Self { root, first_user: first_user.into(), state, bytes: 0.into(), files: 0.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn set_first_user(&self, first_user: u32) {
        self.first_user.store(first_user, Relaxed);
    }

    /// Bytes on the disk and files, as [`Volumes::measure`] last found them.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.bytes.load(Relaxed), self.files.load(Relaxed))
    }

    /// Counts what is there, without reading it.
    pub(crate) fn measure(&self) -> io::Result<()> {
        let (mut bytes, mut files) = (0, 0);
        look::walk(&self.root, &mut |_, metadata| {
            use std::os::unix::fs::MetadataExt;
            if !metadata.is_dir() {
                // A file with several names counts once.
                bytes += metadata.blocks() * 512 / metadata.nlink().max(1);
                files += 1;
            }
        })?;
        self.bytes.store(bytes, Relaxed);
        self.files.store(files, Relaxed);
        Ok(())
    }

    /// Looks at everything, and reads what changed since the last look. Linear in the number of files, and
    /// in the bytes of those that changed.
    pub(crate) fn look(&self) -> io::Result<()> {
        let mut index = self.index();
        let synced_at = crate::tree::now_ns();
        self.sync_all()?;
        let found = look::look(&self.root, self.first_user.load(Relaxed), &index, synced_at)?;
        index.replace(found);
        Ok(())
    }

    /// Changes after a cursor, at most `limit` of them, as of the last look.
    pub(crate) fn changes_since(&self, cursor: &Cursor, limit: usize) -> Changes {
        self.index().changes_since(cursor, limit)
    }

    /// As of the last look.
    pub(crate) fn now(&self) -> (Cursor, Sums) {
        let index = self.index();
        (index.cursor(), index.sums())
    }

    /// Whatever is known of a path.
    pub(crate) fn get(&self, path: &str) -> Option<Item> {
        self.index().get(path).cloned()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.index().paths()
    }

    /// Opens one thing for a copy to change it. See [`Place`].
    pub(crate) fn place(&self) -> Place<'_> {
        Place::new(&self.root, self.first_user.load(Relaxed))
    }

    /// Notes what a copy made of a path, after it has seen it on the disk.
    pub(crate) fn set(&self, path: &str, item: Option<Item>) {
        let mut index = self.index();
        match item {
            // Its stamp is not known: the next look reads it again.
            Some(item) => index.set(item, Stamp::default()),
            None => index.remove(path),
        }
    }

    /// Makes everything survive power loss. Costs what the whole file system has in memory.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.root)?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(std::fs::File::open(&self.root)?)?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A look that panicked has changed nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

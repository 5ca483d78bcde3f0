//! Reading a tree from the disk without ever leaving it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use super::index::{Index, Node};
use crate::path::DataPath;

/// Adds a folder and all below it to the index. Symbolic links, special files, and names that are no
/// legal path are left out.
pub(super) fn index_folder(root: &Path, top: &DataPath, index: &mut Index) -> io::Result<()> {
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        let place = root.join(folder.as_str());
        index.set(&folder, Node::Folder { modified_ns: modified_ns(&fs::symlink_metadata(&place)?) });
        for found in fs::read_dir(&place)? {
            let found = found?;
            let name = found.file_name();
            let Some(path) = name.to_str().and_then(|name| folder.child(name)) else {
                tracing::warn!(folder = %folder, "a file whose name cannot be served is left out");
                continue;
            };
            let metadata = found.metadata()?;
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                let node = Node::File { bytes: metadata.len(), modified_ns: modified_ns(&metadata), hash: None };
                index.set(&path, node);
            }
        }
    }
    Ok(())
}

/// Opens a file, part by part, refusing symbolic links on the way (`O_NOFOLLOW`).
pub(super) fn open_below(root: &Path, path: &DataPath) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = File::open(root)?;
    let mut parts = path.as_str().split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        // NONBLOCK: a fifo that someone put here must not hang the caller.
        let how = if last { flags | OFlags::NONBLOCK } else { flags | OFlags::DIRECTORY };
        folder = File::from(openat(&folder, part, how, Mode::empty())?);
    }
    Ok(folder)
}

/// Nanoseconds since the Unix epoch.
pub(super) fn modified_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

//! Looking at volumes on the disk: what is there, and the blocks of what changed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::index::Index;
use super::item::{BLOCK, Blocks, Item, Kind, to_text};

/// The disk's times are taken from a clock that ticks every few milliseconds.
const TICK_NS: i64 = 50_000_000;
/// Files are read side by side.
const READERS: usize = 4;

/// What of a file says whether it is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    changed_ns: i64,
    /// It changed so lately that another change may not show: to be read again.
    racy: bool,
}

impl Stamp {
    fn of(metadata: &Metadata, synced_at: i64) -> Self {
        let changed_ns = ns(metadata.ctime(), metadata.ctime_nsec());
        let racy = changed_ns >= synced_at - TICK_NS;
        Self { inode: metadata.ino(), bytes: metadata.len(), changed_ns, racy }
    }

    /// Whether a file that bore `before` is the same now.
    fn proves(self, before: Self) -> bool {
        !before.racy && (self.inode, self.bytes, self.changed_ns) == (before.inode, before.bytes, before.changed_ns)
    }
}

/// Calls back for everything below a folder, with its path relative to it. What vanishes meanwhile is not
/// there; nothing is when there is no such folder.
pub(super) fn walk(root: &Path, found: &mut dyn FnMut(&Path, &Metadata)) -> io::Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let Some(entries) = unless_gone(fs::read_dir(root.join(&folder)))? else { continue };
        for entry in entries {
            let Some(entry) = unless_gone(entry)? else { continue };
            let Some(metadata) = unless_gone(entry.metadata())? else { continue };
            let path = folder.join(entry.file_name());
            found(&path, &metadata);
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everything that is there, with its stamp.
pub(super) fn look(
    root: &Path,
    first_user: u32,
    known: &Index,
    synced_at: i64,
) -> io::Result<BTreeMap<String, (Item, Stamp)>> {
    let mut things = Vec::new();
    walk(root, &mut |path, metadata| things.push((path.to_owned(), metadata.clone())))?;
    things.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (mut found, mut names, mut to_read) = (BTreeMap::new(), HashMap::new(), Vec::new());
    for (path, metadata) in things {
        let text = to_text(&path);
        let stamp = Stamp::of(&metadata, synced_at);
        let kind = if metadata.is_dir() {
            Kind::Folder
        } else if metadata.is_symlink() {
            let Some(target) = unless_gone(fs::read_link(root.join(&path)))? else { continue };
            Kind::Link { target: to_text(&target) }
        } else if !metadata.is_file() {
            // Sockets and fifos: made anew by whoever uses them.
            continue;
        } else if let Some(path) = names.get(&metadata.ino()) {
            Kind::Same { path: String::clone(path) }
        } else {
            if metadata.nlink() > 1 {
                names.insert(metadata.ino(), text.clone());
            }
            match known.known(&text) {
                Some(before) if stamp.proves(before.stamp) => match &before.item.kind {
                    kind @ Kind::File { .. } => kind.clone(),
                    _ => to_be_read(&mut to_read, &path, &text),
                },
                _ => to_be_read(&mut to_read, &path, &text),
            }
        };
        let item = Item {
            path: text.clone(),
            kind,
            mode: metadata.mode() & 0o7777,
            user: metadata.uid().wrapping_sub(first_user),
            group: metadata.gid().wrapping_sub(first_user),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        };
        found.insert(text, (item, stamp));
    }
    for (text, read) in read_all(root, &to_read)? {
        match (read, found.get_mut(&text)) {
            (Some(kind), Some((item, _))) => item.kind = kind,
            _ => drop(found.remove(&text)),
        }
    }
    Ok(found)
}

/// A place for what is read later.
fn to_be_read(to_read: &mut Vec<(PathBuf, String)>, path: &Path, text: &str) -> Kind {
    to_read.push((path.to_owned(), text.to_owned()));
    Kind::File { bytes: 0, blocks: Blocks::default() }
}

fn read_all(root: &Path, paths: &[(PathBuf, String)]) -> io::Result<Vec<(String, Option<Kind>)>> {
    let root = File::open(root)?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let read = || {
        let mut read = Vec::new();
        while let Some((path, text)) = paths.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let kind = unless_gone(open(&root, path)).and_then(|file| file.map(|file| blocks_of(&file)).transpose());
            read.push((text.clone(), kind?));
        }
        Ok(read)
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS.min(paths.len())).map(|_| scope.spawn(read)).collect();
        let mut all = Vec::with_capacity(paths.len());
        for reader in readers {
            let read: io::Result<Vec<_>> = reader.join().map_err(|_| io::Error::other("a reader panicked"))?;
            all.extend(read?);
        }
        Ok(all)
    })
}

/// Opens a file to be read, following no symbolic link, neither on the way nor at its end.
pub(super) fn open(root: &File, path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(File::from(file)),
        // Something else has taken its place meanwhile.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Err(io::ErrorKind::NotFound.into()),
        Err(error) => Err(error.into()),
    }
}

/// The blocks of a file as it reads now.
pub(super) fn blocks_of(file: &File) -> io::Result<Kind> {
    let (mut bytes, mut blocks, mut buffer) = (0, Vec::new(), vec![0; BLOCK]);
    loop {
        let read = fill(file, &mut buffer)?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        blocks.push(*blake3::hash(&buffer[..read]).as_bytes());
        if read < BLOCK {
            break;
        }
    }
    Ok(Kind::File { bytes, blocks: Blocks(blocks) })
}

/// Reads until the buffer is full or the file is at its end.
fn fill(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

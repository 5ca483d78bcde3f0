//! How a copy changes volumes: thing by thing, never through a symbolic link.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::fs::{chownat, fchmod, linkat, mkdirat, openat, openat2, statat, symlinkat, unlinkat, utimensat};

use super::item::{BLOCK, Item, Kind, from_text};
use super::look;

/// The volumes' folder, open to be changed.
pub(crate) struct Place<'a> {
    root: &'a Path,
    first_user: u32,
}

/// Something below it: the folder that holds it, and its name there.
struct Spot {
    folder: File,
    name: OsString,
}

impl<'a> Place<'a> {
    pub(super) fn new(root: &'a Path, first_user: u32) -> Self {
        Self { root, first_user }
    }

    /// Makes the thing of this path anew, or empty where it is a file; a folder or file that is there stays.
    /// What is of another kind was removed before.
    pub(crate) fn make(&self, item: &Item) -> io::Result<()> {
        let spot = self.spot(&item.path)?;
        match &item.kind {
            Kind::Folder => match mkdirat(&spot.folder, &spot.name, Mode::from_raw_mode(0o700)) {
                Err(rustix::io::Errno::EXIST) => Ok(()),
                made => Ok(made?),
            },
            Kind::File { bytes, .. } => spot.open_to_write()?.set_len(*bytes),
            Kind::Link { target } => {
                spot.remove()?;
                // A target may be any text, with `..` in it or not there at all.
                Ok(symlinkat(text_of(target).as_os_str(), &spot.folder, &spot.name)?)
            }
            Kind::Same { path } => {
                let other = self.spot(path)?;
                spot.remove()?;
                Ok(linkat(&other.folder, &other.name, &spot.folder, &spot.name, AtFlags::empty())?)
            }
        }
    }

    /// Writes a block of a file that was made. A block of zeros that lies where nothing was is left a hole.
    pub(crate) fn write(&self, path: &str, index: u32, block: &[u8], fresh: bool) -> io::Result<()> {
        if fresh && block.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.spot(path)?.open_to_write()?.write_all_at(block, u64::from(index) * BLOCK as u64)
    }

    /// Removes whatever is there, with all below it.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        match self.spot(path) {
            Ok(spot) => spot.remove(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a thing its owner, mode and time: last of all, and to a folder after what is in it.
    pub(crate) fn finish(&self, item: &Item) -> io::Result<()> {
        let spot = self.spot(&item.path)?;
        let owner = Some(Uid::from_raw(self.first_user.wrapping_add(item.user)));
        let group = Some(Gid::from_raw(self.first_user.wrapping_add(item.group)));
        chownat(&spot.folder, &spot.name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
        if matches!(item.kind, Kind::Folder | Kind::File { .. }) {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let thing = openat(&spot.folder, &spot.name, flags, Mode::empty())?;
            fchmod(thing, Mode::from_raw_mode(item.mode as RawMode))?;
        }
        let time = Timespec {
            tv_sec: item.modified_ns.div_euclid(1_000_000_000),
            tv_nsec: item.modified_ns.rem_euclid(1_000_000_000) as _,
        };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(&spot.folder, &spot.name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Whether the disk says of a thing what `item` says, and these blocks of it read as they should.
    pub(crate) fn is_so(&self, item: &Item, runs: &[(u32, u32)]) -> io::Result<bool> {
        let Some(path) = from_text(&item.path) else { return Ok(false) };
        let metadata = match fs::symlink_metadata(self.root.join(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            metadata => metadata?,
        };
        let kind = match &item.kind {
            Kind::Folder => metadata.is_dir(),
            Kind::File { bytes, .. } => metadata.is_file() && metadata.len() == *bytes,
            Kind::Link { target } => metadata.is_symlink() && fs::read_link(self.root.join(&path))? == text_of(target),
            Kind::Same { path: other } => {
                let spot = self.spot(other)?;
                let other = statat(&spot.folder, &spot.name, AtFlags::SYMLINK_NOFOLLOW)?;
                metadata.is_file() && metadata.ino() == other.st_ino
            }
        };
        let words = (
            metadata.mode() & 0o7777,
            metadata.uid().wrapping_sub(self.first_user),
            metadata.gid().wrapping_sub(self.first_user),
            metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
        );
        // A link has no mode of its own.
        let mode = if metadata.is_symlink() { words.0 } else { item.mode };
        if !kind || words != (mode, item.user, item.group, item.modified_ns) {
            return Ok(false);
        }
        let Kind::File { blocks, .. } = &item.kind else { return Ok(true) };
        if runs.is_empty() {
            return Ok(true);
        }
        let file = look::open(&File::open(self.root)?, &path)?;
        let mut buffer = vec![0; BLOCK];
        for index in runs.iter().flat_map(|(first, count)| *first..first + count) {
            let read = read_block(&file, index, &mut buffer)?;
            if blocks.0.get(index as usize) != Some(blake3::hash(&buffer[..read]).as_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a file for its blocks to be read; none when there is none (any more).
    pub(crate) fn open(&self, path: &str) -> io::Result<Option<File>> {
        let Some(path) = from_text(path) else { return Ok(None) };
        match look::open(&File::open(self.root)?, &path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn spot(&self, path: &str) -> io::Result<Spot> {
        let refused = || io::Error::new(io::ErrorKind::InvalidInput, "a path leads elsewhere");
        let path = from_text(path).ok_or_else(refused)?;
        let name = path.file_name().ok_or_else(refused)?.to_owned();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let folder = openat2(File::open(self.root)?, parent, flags, Mode::empty(), resolve)?;
        Ok(Spot { folder: folder.into(), name })
    }
}

impl Spot {
    fn open_to_write(&self) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(&self.folder, &self.name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    fn remove(&self) -> io::Result<()> {
        match unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
                let folder = PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()));
                fs::remove_dir_all(folder.join(&self.name))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// One block as it reads now; shorter at the file's end, empty beyond it.
pub(crate) fn read_block(file: &File, index: u32, buffer: &mut [u8]) -> io::Result<usize> {
    let at = u64::from(index) * BLOCK as u64;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The target of a link, as [`super::item::to_text`] wrote it: unlike a path it may be anything.
fn text_of(target: &str) -> PathBuf {
    super::item::bytes_of(target).map_or_else(|| OsStr::new(target).into(), PathBuf::from)
}

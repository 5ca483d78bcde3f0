//! State as files that several processes share and that a kill -9 at any instant leaves whole.
//!
//! What is visible is complete: a file or folder is built under a hidden name and renamed to its own.
//! Names that begin with a dot are never state; [`sweep`] removes those that a dead process left.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Hidden names older than this belong to a process that died: building one takes far less.
const ABANDONED_AFTER: Duration = Duration::from_mins(1);

/// A hidden name in `folder` that nobody else uses. `what` is `new` or `gone`.
pub(super) fn hidden(folder: &Path, what: &str) -> PathBuf {
    folder.join(format!(".{what}-{}", uuid::Uuid::new_v4().simple()))
}

fn write_hidden(path: &Path, value: &impl Serialize) -> io::Result<PathBuf> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let temp = hidden(folder, "new");
    let mut file = File::create_new(&temp)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.sync_data()?;
    Ok(temp)
}

/// Makes `path` hold `value`, whether or not it existed.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    fs::rename(write_hidden(path, value)?, path)
}

/// Makes `path` hold `value` unless it exists. True when this call made it.
pub(super) fn create(path: &Path, value: &impl Serialize) -> io::Result<bool> {
    let temp = write_hidden(path, value)?;
    let linked = link(&temp, path);
    fs::remove_file(&temp)?;
    linked
}

/// Makes `path` another name of `file` unless it exists. True when this call made it.
pub(super) fn link(file: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(file, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Builds the folder `path` by `fill`, and shows it only when it is complete. True when this call made it.
pub(super) fn create_folder(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<bool> {
    let temp = hidden(path.parent().ok_or(ErrorKind::InvalidInput)?, "new");
    fs::create_dir(&temp)?;
    fill(&temp)?;
    match fs::rename(&temp, path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            fs::remove_dir_all(&temp)?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Removes a folder with all that is in it; from its name's view at once. Nothing happens when there is none.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    let temp = hidden(path.parent().ok_or(ErrorKind::InvalidInput)?, "gone");
    match none_if_missing(fs::rename(path, &temp))? {
        Some(()) => fs::remove_dir_all(&temp),
        None => Ok(()),
    }
}

/// Nothing happens when there is none.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    none_if_missing(fs::remove_file(path)).map(drop)
}

/// The value at `path`; none when there is no such file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = none_if_missing(fs::read(path))? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display())))?;
    Ok(Some(value))
}

/// The names in a folder that are state, sorted.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Every value of a folder of JSON files, in the order of their names.
pub(super) fn read_all<T: DeserializeOwned>(folder: &Path) -> io::Result<Vec<T>> {
    let mut values = Vec::new();
    for name in names(folder)? {
        values.extend(read(&folder.join(name))?);
    }
    Ok(values)
}

/// Removes what dead processes left half made or half removed, and says how much that was.
pub(super) fn sweep(folder: &Path) -> io::Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Some(metadata) = none_if_missing(entry.metadata())? else { continue };
        let old = metadata.modified()?.elapsed().is_ok_and(|age| age > ABANDONED_AFTER);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if old && (name.starts_with(".new-") || name.starts_with(".gone-")) {
            let path = entry.path();
            let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            none_if_missing(removed)?;
            swept += 1;
        }
    }
    Ok(swept)
}

pub(super) fn none_if_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file that `lock` calls are made on: made when missing, never removed.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

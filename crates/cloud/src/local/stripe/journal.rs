//! The file that remembers: one JSON line for each change, on disk before it is answered.
//!
//! A torn last line (the process died while writing it) was never answered and is dropped. When the
//! journal has grown well beyond what it describes, a snapshot replaces it: written beside, synced,
//! renamed, and only then is the journal emptied. Replaying an old journal over its own snapshot ends in
//! the same state, so that dying between the two steps loses nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A journal smaller than this is never compacted (bytes).
const COMPACT_FROM: u64 = 8 << 20;

/// One atomic change: the objects as they are after it, and the ids that are gone.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Change {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) put: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) remove: Vec<String>,
}

/// Why the state could not be read at the start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the simulated Stripe's files could not be used: {0}")]
    Io(#[from] io::Error),
    #[error("another process uses {0}")]
    Locked(PathBuf),
    #[error("{file}, line {line}: not a change")]
    Corrupt { file: PathBuf, line: usize },
}

pub(super) struct Journal {
    dir: PathBuf,
    bytes: u64,
    compact_at: u64,
    durable: Arc<Durable>,
}

/// What has been written and what of it is on disk. One `fdatasync` serves everyone who waits.
pub(super) struct Durable {
    file: File,
    written: AtomicU64,
    synced: Mutex<u64>,
}

impl Durable {
    /// Returns once everything that was written before the call is on disk.
    pub(super) fn wait(&self) -> io::Result<()> {
        let target = self.written.load(Ordering::Acquire);
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced < target {
            let written = self.written.load(Ordering::Acquire);
            self.file.sync_data()?;
            *synced = written;
        }
        Ok(())
    }
}

impl Journal {
    /// Opens the journal in `dir` and hands every change of the past to `apply`, oldest first.
    pub(super) fn open(dir: &Path, mut apply: impl FnMut(Change)) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("journal.jsonl");
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        file.try_lock().map_err(|_| OpenError::Locked(path.clone()))?;
        match File::open(dir.join("snapshot.jsonl")) {
            Ok(snapshot) => drop(replay(snapshot, &dir.join("snapshot.jsonl"), &mut apply)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let bytes = replay(file.try_clone()?, &path, &mut apply)?;
        file.set_len(bytes)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        let durable = Arc::new(Durable { file, written: AtomicU64::new(0), synced: Mutex::new(0) });
        Ok(Self { dir: dir.to_owned(), bytes, compact_at: COMPACT_FROM, durable })
    }

    pub(super) fn durable(&self) -> Arc<Durable> {
        Arc::clone(&self.durable)
    }

    /// Writes one change. After an error nothing of it remains in the file.
    pub(super) fn append(&mut self, change: &Change) -> io::Result<()> {
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        if let Err(error) = (&self.durable.file).write_all(&line) {
            self.durable.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.durable.written.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(super) fn wants_compaction(&self) -> bool {
        self.bytes > self.compact_at
    }

    /// Replaces everything by `objects`, in their order.
    pub(super) fn compact(&mut self, objects: impl Iterator<Item = Value>) -> io::Result<()> {
        let temporary = self.dir.join("snapshot.tmp");
        let mut out = BufWriter::new(File::create(&temporary)?);
        for object in objects {
            serde_json::to_writer(&mut out, &Change { put: vec![object], remove: Vec::new() })?;
            out.write_all(b"\n")?;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let size = file.metadata()?.len();
        std::fs::rename(&temporary, self.dir.join("snapshot.jsonl"))?;
        File::open(&self.dir)?.sync_all()?;
        self.durable.file.set_len(0)?;
        self.durable.file.sync_all()?;
        self.bytes = 0;
        self.compact_at = COMPACT_FROM.max(size);
        Ok(())
    }
}

/// Applies every whole line and returns how many bytes they take.
fn replay(file: File, path: &Path, apply: &mut impl FnMut(Change)) -> Result<u64, OpenError> {
    let mut reader = BufReader::new(file);
    let (mut bytes, mut number, mut line) = (0_u64, 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        number += 1;
        if line.last() != Some(&b'\n') {
            return Ok(bytes);
        }
        let corrupt = || OpenError::Corrupt { file: path.to_owned(), line: number };
        apply(serde_json::from_slice(&line).map_err(|_| corrupt())?);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::local::stripe::state::State;

    fn open(dir: &Path) -> (Journal, State) {
        let mut state = State::default();
        let journal = Journal::open(dir, |change| state.apply(change)).unwrap();
        (journal, state)
    }

    fn change(put: &[(&str, i64)], remove: &[&str]) -> Change {
        let object = |(id, n): &(&str, i64)| json!({"id": id, "object": "thing", "n": n});
        Change { put: put.iter().map(object).collect(), remove: remove.iter().map(|id| (*id).to_owned()).collect() }
    }

    #[test]
    fn dying_anywhere_in_a_compaction_loses_and_revives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut state) = open(dir.path());
        let changes = [change(&[("b", 1), ("gone", 1)], &[]), change(&[("a", 1)], &["gone"]), change(&[("b", 2)], &[])];
        for change in changes {
            journal.append(&change).unwrap();
            state.apply(change);
        }
        let before = state.all();
        assert_eq!(before, change(&[("b", 2), ("a", 1)], &[]).put, "in the order in which they were made");
        let old = std::fs::read(dir.path().join("journal.jsonl")).unwrap();
        journal.compact(state.all().into_iter()).unwrap();
        drop(journal);

        let (mut journal, state) = open(dir.path());
        assert_eq!(state.all(), before, "after it");
        journal.append(&change(&[("c", 1)], &[])).unwrap();
        drop(journal);
        let all = open(dir.path()).1.all();
        assert_eq!((all.len(), &all[..2]), (3, &before[..]), "and it goes on");

        // Died after the rename and before the journal was emptied; and with a snapshot half written.
        std::fs::write(dir.path().join("journal.jsonl"), old).unwrap();
        std::fs::write(dir.path().join("snapshot.tmp"), b"{\"put\":[{").unwrap();
        assert_eq!(open(dir.path()).1.all(), before);
    }
}

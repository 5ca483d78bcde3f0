//! The destination's copy of a stack in containers: what the source's volumes hold, and how ours become the
//! same, block by block.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio_util::io::StreamReader;

use super::blocks::{VolumePage, VolumeQuestion, Wanted, length_of};
use super::copy::{MoveError, Result, Round, Source};
use crate::blocking;
use crate::tree::Cursor;
use crate::volumes::{BLOCK, Blocks, Item, Kind, Volumes, missing_blocks};

/// Blocks that one request asks for (16 MiB), and requests side by side.
const BATCH: u32 = 256;
const SIDE_BY_SIDE: usize = 4;
/// The longest that the source may take to look at everything, or to send a batch.
const LONG: Duration = Duration::from_mins(30);

pub(super) struct VolumeCopy {
    source: Source,
    volumes: Arc<Volumes>,
    cursor: Cursor,
    /// The source's manifest as far as it was read.
    mirror: BTreeMap<String, Item>,
    /// What may differ from the mirror.
    dirty: BTreeSet<String>,
    /// What was made or written since the last time that it was seen on the disk, and which of its blocks.
    unseen: BTreeMap<String, Vec<(u32, u32)>>,
}

impl VolumeCopy {
    pub(super) fn new(source: Source, volumes: Arc<Volumes>) -> Self {
        let (mirror, dirty, unseen) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { source, volumes, cursor: Cursor::default(), mirror, dirty, unseen }
    }

    /// Reads what changed at the source, and does the same here.
    pub(super) async fn round(&mut self) -> Result<Round> {
        let (files_total, bytes_total) = self.read_changes().await?;
        let wanted = self.dirty.iter().map(|path| (path.clone(), self.mirror.get(path).cloned()));
        let plan = Plan { wanted: wanted.collect() };
        let mut round = Round { changes: 0, files: 0, bytes: 0, files_total, bytes_total };
        let volumes = Arc::clone(&self.volumes);
        let (plan, files) = blocking(move || plan.prepare(&volumes).map(|files| (plan, files))).await??;
        let got = self.fetch(&files).await?;
        round.bytes = got.values().flatten().count() as u64 * BLOCK as u64;
        let volumes = Arc::clone(&self.volumes);
        let folders = self.folders_of(&plan);
        let made = blocking(move || plan.finish(&volumes, got, folders)).await??;
        round.changes = made.touched.len() as u64;
        round.files = made.touched.iter().filter(|(path, _)| files.contains_key(*path)).count() as u64;
        for (path, runs) in made.touched {
            self.unseen.entry(path).or_default().extend(runs);
        }
        self.dirty = made.again;
        Ok(round)
    }

    /// The source's changes into the mirror, and what follows from them into `dirty`.
    async fn read_changes(&mut self) -> Result<(u64, u64)> {
        let (mut restarted, mut look) = (false, true);
        loop {
            let question = VolumeQuestion { after: self.cursor.clone(), look };
            let page: VolumePage = self.source.call("volumes/changes", Some(&question), LONG).await?;
            if page.changes.restart {
                restarted = true;
                self.mirror.clear();
            }
            for path in page.changes.removed {
                self.mirror.remove(&path);
                self.dirty.insert(path);
            }
            for item in page.changes.changed {
                self.dirty.insert(item.path.clone());
                self.mirror.insert(item.path.clone(), item);
            }
            (self.cursor, look) = (page.changes.next, false);
            if !page.changes.more {
                if restarted {
                    let volumes = Arc::clone(&self.volumes);
                    let here = blocking(move || volumes.look().map(|()| volumes.paths())).await??;
                    self.dirty.extend(here);
                    self.dirty.extend(self.mirror.keys().cloned());
                }
                return Ok((page.files, page.bytes));
            }
        }
    }

    /// The folders around what changes, whose own times change with it.
    fn folders_of(&self, plan: &Plan) -> Vec<Item> {
        let parents: BTreeSet<&str> =
            plan.wanted.iter().filter_map(|(path, _)| Some(path.rsplit_once('/')?.0)).collect();
        parents.into_iter().filter_map(|path| self.mirror.get(path).cloned()).collect()
    }

    /// Blocks into files that are there; the hashes of what was written.
    async fn fetch(&self, files: &BTreeMap<String, Missing>) -> Result<BTreeMap<String, Vec<(u32, Got)>>> {
        let fetch = |batch| fetch_batch(self.source.clone(), Arc::clone(&self.volumes), batch, files);
        let fetches: Vec<_> = batches(files).into_iter().map(fetch).collect();
        let mut fetched = futures::stream::iter(fetches).buffer_unordered(SIDE_BY_SIDE);
        let mut all: BTreeMap<String, Vec<(u32, Got)>> = BTreeMap::new();
        while let Some(got) = fetched.try_next().await? {
            for (path, index, got) in got {
                all.entry(path).or_default().push((index, got));
            }
        }
        Ok(all)
    }

    /// Reads again, from the disk, what was made since the last time, against what the source said of it.
    pub(super) async fn verify(&mut self) -> Result<()> {
        let unseen = std::mem::take(&mut self.unseen);
        let seen: Vec<_> =
            unseen.into_iter().filter_map(|(path, runs)| Some((self.mirror.get(&path)?.clone(), runs))).collect();
        let dirty = self.dirty.clone();
        let volumes = Arc::clone(&self.volumes);
        let wrong = blocking(move || {
            let mut wrong = Vec::new();
            for (item, runs) in seen {
                // What changed meanwhile at the source is copied anew in any case.
                if !dirty.contains(&item.path) && !volumes.place().is_so(&item, &runs)? {
                    tracing::error!(path = %item.path, "a copied file reads otherwise than it was written");
                    volumes.place().remove(&item.path)?;
                    volumes.set(&item.path, None);
                    wrong.push(item.path);
                }
            }
            Ok::<_, io::Error>(wrong)
        });
        let wrong = wrong.await??;
        let is_right = wrong.is_empty();
        self.dirty.extend(wrong);
        if is_right { Ok(()) } else { Err(MoveError::Differs) }
    }

    /// Makes everything so far survive power loss.
    pub(super) async fn sync(&mut self) -> Result<()> {
        let volumes = Arc::clone(&self.volumes);
        Ok(blocking(move || volumes.sync_all()).await??)
    }

    /// Forgets how far the source was read, so that the next round looks at everything here and there.
    pub(super) fn start_over(&mut self) {
        self.cursor = Cursor::default();
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }
}

/// What shall be of some paths, sorted; none: nothing is there.
struct Plan {
    wanted: Vec<(String, Option<Item>)>,
}

/// Blocks that a file lacks, and those that lie where nothing is yet.
struct Missing {
    runs: Vec<(u32, u32)>,
    fresh_from: u32,
}

/// The hash of a block that was written; none when the source had it no more.
type Got = Option<[u8; 32]>;

/// What a round did.
struct Made {
    touched: BTreeMap<String, Vec<(u32, u32)>>,
    /// What changed at the source while it was copied.
    again: BTreeSet<String>,
}

impl Plan {
    /// Removes what is gone or of another kind, makes what is new, and says which blocks are missing.
    fn prepare(&self, volumes: &Volumes) -> io::Result<BTreeMap<String, Missing>> {
        let place = volumes.place();
        // From the end: what is in a folder goes before the folder.
        for (path, wanted) in self.wanted.iter().rev() {
            let here = volumes.get(path);
            let other_kind =
                |here: &Item, wanted: &Item| std::mem::discriminant(&here.kind) != std::mem::discriminant(&wanted.kind);
            if here.as_ref().is_some_and(|here| wanted.as_ref().is_none_or(|wanted| other_kind(here, wanted))) {
                place.remove(path)?;
                volumes.set(path, None);
            }
        }
        let mut files = BTreeMap::new();
        for (path, wanted) in &self.wanted {
            let Some(item) = wanted.as_ref().filter(|item| volumes.get(path).as_ref() != Some(*item)) else { continue };
            match &item.kind {
                Kind::Folder => place.make(item)?,
                Kind::File { blocks, .. } => {
                    let here = match volumes.get(path).map(|here| here.kind) {
                        Some(Kind::File { blocks, .. }) => blocks,
                        _ => Blocks::default(),
                    };
                    let missing = Missing { runs: missing_blocks(&here, blocks), fresh_from: here.0.len() as u32 };
                    place.make(item)?;
                    volumes.set(path, Some(half_made(item, here, &missing)));
                    files.insert(path.clone(), missing);
                }
                // After the files that they name.
                Kind::Link { .. } | Kind::Same { .. } => {}
            }
        }
        Ok(files)
    }

    /// Makes links, then gives everything its owner, mode and time, folders after what is in them.
    fn finish(
        self,
        volumes: &Volumes,
        mut got: BTreeMap<String, Vec<(u32, Got)>>,
        folders: Vec<Item>,
    ) -> io::Result<Made> {
        let place = volumes.place();
        let mut made = Made { touched: BTreeMap::new(), again: BTreeSet::new() };
        let changed =
            |(path, item): (String, Option<Item>)| item.filter(|item| volumes.get(&path).as_ref() != Some(item));
        let mut changed: Vec<Item> = self.wanted.into_iter().filter_map(changed).collect();
        let is_link = |item: &&Item| matches!(item.kind, Kind::Link { .. } | Kind::Same { .. });
        for item in changed.iter().filter(is_link) {
            place.make(item)?;
        }
        for item in changed.iter_mut().rev() {
            let blocks = got.remove(&item.path).unwrap_or_default();
            if blocks.iter().any(|(_, got)| got.is_none()) {
                made.again.insert(item.path.clone());
                continue;
            }
            place.finish(item)?;
            let mut is_as_told = true;
            if let Kind::File { blocks: wanted, .. } = &mut item.kind {
                for (index, hash) in &blocks {
                    let (Some(wanted), Some(hash)) = (wanted.0.get_mut(*index as usize), hash) else { continue };
                    is_as_told &= wanted == hash;
                    *wanted = *hash;
                }
            }
            if !is_as_told {
                made.again.insert(item.path.clone());
            }
            let runs = blocks.iter().map(|(index, _)| (*index, 1)).collect();
            made.touched.insert(item.path.clone(), runs);
            volumes.set(&item.path, Some(item.clone()));
        }
        for folder in folders.iter().rev() {
            place.finish(folder)?;
        }
        Ok(made)
    }
}

/// A file of its new length whose missing blocks are not there: what is known of it should this round fail.
fn half_made(item: &Item, mut here: Blocks, missing: &Missing) -> Item {
    let Kind::File { bytes, blocks } = &item.kind else { return item.clone() };
    here.0.resize(blocks.0.len(), UNKNOWN);
    for index in missing.runs.iter().flat_map(|(first, count)| *first..first + count) {
        here.0[index as usize] = UNKNOWN;
    }
    // No mode is this one, so that it is not taken for finished.
    Item { kind: Kind::File { bytes: *bytes, blocks: here }, mode: u32::MAX, ..item.clone() }
}

/// The hash of no block.
const UNKNOWN: [u8; 32] = [0; 32];

/// Wanted blocks in requests of at most [`BATCH`].
fn batches(files: &BTreeMap<String, Missing>) -> Vec<Vec<Wanted>> {
    let (mut batches, mut batch, mut room) = (Vec::new(), Vec::<Wanted>::new(), BATCH);
    for (path, missing) in files {
        for (mut first, mut count) in missing.runs.iter().copied() {
            while count > 0 {
                let some = count.min(room);
                match batch.last_mut().filter(|wanted| wanted.path == *path) {
                    Some(wanted) => wanted.runs.push((first, some)),
                    None => batch.push(Wanted { path: path.clone(), runs: vec![(first, some)] }),
                }
                (first, count, room) = (first + some, count - some, room - some);
                if room == 0 {
                    batches.push(std::mem::take(&mut batch));
                    room = BATCH;
                }
            }
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// Gives the hash of each block as it was written.
async fn fetch_batch(
    source: Source,
    volumes: Arc<Volumes>,
    batch: Vec<Wanted>,
    files: &BTreeMap<String, Missing>,
) -> Result<Vec<(String, u32, Got)>> {
    let response = source.send("volumes/blocks", Some(&batch), LONG).await?;
    let mut stream = StreamReader::new(response.bytes_stream().map_err(io::Error::other));
    let mut received = Vec::new();
    for wanted in batch {
        let fresh_from = files.get(&wanted.path).map_or(0, |missing| missing.fresh_from);
        for index in wanted.runs.iter().flat_map(|(first, count)| *first..first + count) {
            let block = match length_of(stream.read_u32_le().await?) {
                None => None,
                Some(length) if length > BLOCK => return Err(MoveError::Answer("a block is too large".into())),
                Some(length) => {
                    let mut block = vec![0; length];
                    stream.read_exact(&mut block).await?;
                    Some(block)
                }
            };
            received.push((wanted.path.clone(), index, index >= fresh_from, block));
        }
    }
    blocking(move || {
        let place = volumes.place();
        let mut got = Vec::with_capacity(received.len());
        for (path, index, fresh, block) in received {
            let hash = block.as_ref().map(|block| *blake3::hash(block).as_bytes());
            if let Some(block) = &block {
                place.write(&path, index, block, fresh)?;
            }
            got.push((path, index, hash));
        }
        Ok(got)
    })
    .await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_and_lose_no_block() {
        let missing = |runs: &[(u32, u32)]| Missing { runs: runs.to_vec(), fresh_from: 0 };
        let files: BTreeMap<String, Missing> = [
            ("a".to_owned(), missing(&[(0, 10), (20, 300)])),
            ("b".to_owned(), missing(&[])),
            ("c".to_owned(), missing(&[(5, 1)])),
            ("d".to_owned(), missing(&[(0, 600)])),
        ]
        .into();
        let batches = batches(&files);
        let size =
            |batch: &Vec<Wanted>| batch.iter().flat_map(|wanted| &wanted.runs).map(|(_, count)| count).sum::<u32>();
        assert!(batches.iter().all(|batch| size(batch) <= BATCH));
        assert_eq!(batches.iter().map(size).sum::<u32>(), 911);
        let blocks = |path: &str| -> Vec<u32> {
            let wanted = batches.iter().flatten().filter(|wanted| wanted.path == path);
            wanted.flat_map(|wanted| &wanted.runs).flat_map(|(first, count)| *first..first + count).collect()
        };
        assert_eq!(blocks("a"), (0..10).chain(20..320).collect::<Vec<_>>());
        assert_eq!((blocks("c"), blocks("d")), (vec![5], (0..600).collect::<Vec<_>>()));
    }
}

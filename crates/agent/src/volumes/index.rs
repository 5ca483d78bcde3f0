//! What is known of volumes, in memory: by path, by the order of changes, with one hash over all. No disk.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::item::{Item, Kind};
use super::look::Stamp;
use crate::disk;
use crate::tree::{Cursor, Digest, Sums};

/// Removals that are remembered. Beyond it a new epoch begins, and followers read everything again.
const MAX_REMOVALS: usize = 100_000;

/// What a follower has to do to come nearer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changes {
    /// Forget everything that was read before: this is another epoch, from its beginning.
    pub restart: bool,
    pub changed: Vec<Item>,
    pub removed: Vec<String>,
    pub next: Cursor,
    /// There is more after `next` already.
    pub more: bool,
}

pub(super) struct Known {
    pub item: Item,
    pub stamp: Stamp,
    seq: u64,
}

pub(crate) struct Index {
    epoch: String,
    seq: u64,
    known: BTreeMap<String, Known>,
    /// Every path at the number of its last change; one that is not in `known` was removed.
    changes: BTreeMap<u64, String>,
    removals: HashMap<String, u64>,
    digest: Digest,
    files: u64,
    bytes: u64,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            epoch: disk::unique("epoch"),
            seq: 0,
            known: BTreeMap::new(),
            changes: BTreeMap::new(),
            removals: HashMap::new(),
            digest: Digest::new(),
            files: 0,
            bytes: 0,
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Item> {
        self.known.get(path).map(|known| &known.item)
    }

    pub(super) fn known(&self, path: &str) -> Option<&Known> {
        self.known.get(path)
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq: self.seq }
    }

    pub(crate) fn sums(&self) -> Sums {
        Sums { files: self.files, bytes: self.bytes, hash: self.digest.hash() }
    }

    /// Everything that a look found, instead of what was known.
    pub(super) fn replace(&mut self, found: BTreeMap<String, (Item, Stamp)>) {
        let gone: Vec<String> = self.known.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in &gone {
            self.remove(path);
        }
        for (path, (item, stamp)) in found {
            match self.known.get_mut(&path) {
                Some(known) if known.item == item => known.stamp = stamp,
                _ => self.set(item, stamp),
            }
        }
        if self.removals.len() > MAX_REMOVALS {
            self.begin_epoch();
        }
    }

    pub(super) fn set(&mut self, item: Item, stamp: Stamp) {
        let path = item.path.clone();
        self.forget(&path);
        self.seq += 1;
        self.changes.insert(self.seq, path.clone());
        self.digest.add(&item.entry());
        self.files += u64::from(!matches!(item.kind, Kind::Folder));
        self.bytes += item.bytes();
        self.known.insert(path, Known { item, stamp, seq: self.seq });
    }

    pub(super) fn remove(&mut self, path: &str) {
        if self.forget(path) {
            self.seq += 1;
            self.changes.insert(self.seq, path.to_owned());
            self.removals.insert(path.to_owned(), self.seq);
        }
    }

    /// Takes a path out, and its change. `true` when it was there.
    fn forget(&mut self, path: &str) -> bool {
        if let Some(seq) = self.removals.remove(path) {
            self.changes.remove(&seq);
        }
        let Some(Known { item, seq, .. }) = self.known.remove(path) else { return false };
        self.changes.remove(&seq);
        self.digest.remove(&item.entry());
        self.files -= u64::from(!matches!(item.kind, Kind::Folder));
        self.bytes -= item.bytes();
        true
    }

    fn begin_epoch(&mut self) {
        self.epoch = disk::unique("epoch");
        self.removals.clear();
        self.changes.clear();
        self.seq = 0;
        for (path, known) in &mut self.known {
            self.seq += 1;
            known.seq = self.seq;
            self.changes.insert(self.seq, path.clone());
        }
    }

    pub(crate) fn changes_since(&self, cursor: &Cursor, limit: usize) -> Changes {
        let restart = cursor.epoch != self.epoch || cursor.seq > self.seq;
        let after = if restart { 0 } else { cursor.seq };
        let (mut changed, mut removed, mut next, mut more) = (Vec::new(), Vec::new(), self.cursor(), false);
        for (seq, path) in self.changes.range(after + 1..) {
            if changed.len() + removed.len() == limit {
                more = true;
                break;
            }
            match self.known.get(path) {
                Some(known) => changed.push(known.item.clone()),
                None => removed.push(path.clone()),
            }
            next.seq = *seq;
        }
        if !more {
            next.seq = self.seq;
        }
        Changes { restart, changed, removed, next, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str, modified_ns: i64) -> Item {
        Item { path: path.into(), kind: Kind::Folder, mode: 0o755, user: 0, group: 0, modified_ns }
    }

    fn found(items: &[(&str, i64)]) -> BTreeMap<String, (Item, Stamp)> {
        items.iter().map(|(path, ns)| ((*path).to_owned(), (item(path, *ns), Stamp::default()))).collect()
    }

    #[test]
    fn a_follower_hears_of_each_change_once() {
        let mut index = Index::new();
        index.replace(found(&[("a", 1), ("b", 1), ("c", 1)]));
        let first = index.changes_since(&Cursor::default(), 2);
        assert!(first.restart && first.more && first.changed.len() == 2);
        let second = index.changes_since(&first.next, 2);
        assert!(!second.restart && !second.more && second.changed.len() == 1);
        index.replace(found(&[("a", 1), ("b", 2), ("d", 1)]));
        let third = index.changes_since(&second.next, 10);
        let changed: Vec<_> = third.changed.iter().map(|item| item.path.as_str()).collect();
        assert_eq!((changed, third.removed), (vec!["b", "d"], vec!["c".to_owned()]));
        assert_eq!(third.next, index.cursor());
        assert!(index.changes_since(&third.next, 10).changed.is_empty());
        index.begin_epoch();
        assert!(index.changes_since(&third.next, 10).restart);
    }

    #[test]
    fn the_hash_depends_on_what_is_there_alone() {
        let (mut one, mut other) = (Index::new(), Index::new());
        one.replace(found(&[("a", 1), ("b", 1)]));
        one.replace(found(&[("b", 2), ("c", 1)]));
        other.replace(found(&[("c", 1)]));
        other.set(item("b", 2), Stamp::default());
        assert_eq!(one.sums(), other.sums());
        other.remove("b");
        assert_ne!(one.sums(), other.sums());
    }
}

//! What is in a tree, in memory: by path, by the order of changes, with its sums. No disk here.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use stackpro_domain::manifest::{Entry, FileFacts};

use super::digest::Digest;
use crate::path::DataPath;

/// Removals that are remembered. Beyond it a new epoch begins, and followers read everything again.
const MAX_REMOVALS: usize = if cfg!(test) { 100 } else { 100_000 };

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Folder {
        modified_ns: i64,
    },
    File {
        bytes: u64,
        modified_ns: i64,
        /// BLAKE3 in hex; none for what was found on the disk and not read yet.
        hash: Option<String>,
    },
}

impl Node {
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }

    /// 0 for a folder.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Folder { .. } => 0,
            Self::File { bytes, .. } => *bytes,
        }
    }

    pub(crate) fn modified_ns(&self) -> i64 {
        match self {
            Self::Folder { modified_ns } | Self::File { modified_ns, .. } => *modified_ns,
        }
    }

    /// `None` while the hash is not known.
    pub(crate) fn entry(&self, path: &str) -> Option<Entry> {
        let file = match self {
            Self::Folder { .. } => None,
            Self::File { bytes, modified_ns, hash } => {
                Some(FileFacts { bytes: *bytes, modified_ns: *modified_ns, hash: hash.clone()? })
            }
        };
        Some(Entry { path: path.to_owned(), file })
    }
}

/// How far a follower has read. Every change has a number of its own within an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cursor {
    pub epoch: String,
    pub seq: u64,
}

/// What a follower has to do to come nearer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changes {
    /// Forget everything that was read before: this is another epoch, from its beginning.
    pub restart: bool,
    pub changed: Vec<Entry>,
    pub removed: Vec<String>,
    pub next: Cursor,
    /// There is more after `next` already.
    pub more: bool,
}

/// Sums over a tree, and one hash over all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sums {
    pub files: u64,
    pub bytes: u64,
    pub hash: String,
}

pub(crate) struct Index {
    epoch: String,
    seq: u64,
    nodes: BTreeMap<String, (Node, u64)>,
    /// Every path at the number of its last change; a path that is not in `nodes` was removed.
    changes: BTreeMap<u64, String>,
    removals: HashMap<String, u64>,
    digest: Digest,
    files: u64,
    bytes: u64,
    unhashed: u64,
}

impl Index {
    pub(crate) fn new(epoch: String) -> Self {
        Self {
            epoch,
            seq: 0,
            nodes: BTreeMap::new(),
            changes: BTreeMap::new(),
            removals: HashMap::new(),
            digest: Digest::new(),
            files: 0,
            bytes: 0,
            unhashed: 0,
        }
    }

    pub(crate) fn get(&self, path: &DataPath) -> Option<&Node> {
        self.nodes.get(path.as_str()).map(|(node, _)| node)
    }

    pub(crate) fn files(&self) -> u64 {
        self.files
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `None` while a hash is missing.
    pub(crate) fn sums(&self) -> Option<Sums> {
        (self.unhashed == 0).then(|| Sums { files: self.files, bytes: self.bytes, hash: self.digest.hash() })
    }

    pub(crate) fn set(&mut self, path: &DataPath, node: Node) {
        self.forget(path.as_str());
        self.removals.remove(path.as_str()).map(|seq| self.changes.remove(&seq));
        self.count(path.as_str(), &node, true);
        self.seq += 1;
        self.changes.insert(self.seq, path.as_str().to_owned());
        self.nodes.insert(path.as_str().to_owned(), (node, self.seq));
    }

    /// Fills in a hash that was missing, if the file is still the one that was read.
    pub(crate) fn set_hash(&mut self, path: &DataPath, read: &Node, hash: String) {
        if self.get(path) == Some(read) {
            let node = Node::File { bytes: read.bytes(), modified_ns: read.modified_ns(), hash: Some(hash) };
            self.set(path, node);
        }
    }

    /// Notes that a folder's content changed. Not a change of the tree's own.
    pub(crate) fn touch(&mut self, path: &DataPath, now_ns: i64) {
        if let Some((Node::Folder { modified_ns }, _)) = self.nodes.get_mut(path.as_str()) {
            *modified_ns = now_ns;
        }
    }

    /// Removes a path and what is below it.
    pub(crate) fn remove(&mut self, path: &DataPath) {
        for gone in self.below(path) {
            if self.forget(&gone) {
                self.seq += 1;
                self.changes.insert(self.seq, gone.clone());
                self.removals.insert(gone, self.seq);
            }
        }
        if self.removals.len() > MAX_REMOVALS {
            self.begin_epoch();
        }
    }

    /// The path itself, if it is there, and everything below it, sorted.
    pub(crate) fn below(&self, path: &DataPath) -> Vec<String> {
        let own = self.nodes.get_key_value(path.as_str()).map(|(key, _)| key.clone());
        let from = format!("{path}/");
        let to = format!("{path}0");
        own.into_iter().chain(self.nodes.range(from..to).map(|(key, _)| key.clone())).collect()
    }

    /// The sum of the files at and below a path.
    pub(crate) fn bytes_below(&self, path: &DataPath) -> u64 {
        let own = self.get(path).map_or(0, Node::bytes);
        own + self.nodes.range(format!("{path}/")..format!("{path}0")).map(|(_, (node, _))| node.bytes()).sum::<u64>()
    }

    /// What lies directly in a folder, by name.
    pub(crate) fn children(&self, folder: &DataPath) -> Vec<(String, Node)> {
        let prefix = format!("{folder}/");
        let end = format!("{folder}0");
        let mut found = Vec::new();
        let mut from = Bound::Included(prefix.clone());
        while let Some((key, (node, _))) = self.nodes.range((from, Bound::Excluded(end.clone()))).next() {
            let rest = &key[prefix.len()..];
            // A key below a child: go on behind all that is below it ('0' follows '/').
            from = if let Some((child, _)) = rest.split_once('/') {
                Bound::Included(format!("{prefix}{child}0"))
            } else {
                found.push((rest.to_owned(), node.clone()));
                Bound::Excluded(key.clone())
            };
        }
        found
    }

    /// Up to `limit` changes after a cursor. A cursor of another epoch starts from the beginning.
    pub(crate) fn changes_since(&self, cursor: &Cursor, limit: usize) -> Changes {
        let restart = cursor.epoch != self.epoch;
        let after = if restart { 0 } else { cursor.seq };
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        let mut last = after;
        let mut rest = self.changes.range((Bound::Excluded(after), Bound::Unbounded));
        for (seq, path) in rest.by_ref().take(limit) {
            match self.nodes.get(path) {
                // Unhashed: its hash will be a change with a higher number.
                Some((node, _)) => changed.extend(node.entry(path)),
                None => removed.push(path.clone()),
            }
            last = *seq;
        }
        let more = rest.next().is_some();
        Changes { restart, changed, removed, next: Cursor { epoch: self.epoch.clone(), seq: last }, more }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch.clone(), seq: self.seq }
    }

    /// The files whose hash is not known.
    pub(crate) fn unhashed(&self) -> Vec<(DataPath, Node)> {
        let missing = |(path, (node, _)): (&String, &(Node, u64))| {
            let missing = matches!(node, Node::File { hash: None, .. });
            missing.then(|| DataPath::new(path).map(|path| (path, node.clone()))).flatten()
        };
        if self.unhashed == 0 { Vec::new() } else { self.nodes.iter().filter_map(missing).collect() }
    }

    /// Every entry, sorted by path; unhashed files are left out.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.nodes.iter().filter_map(|(path, (node, _))| node.entry(path)).collect()
    }

    fn begin_epoch(&mut self) {
        self.epoch = crate::disk::unique("epoch");
        for (_, seq) in self.removals.drain() {
            self.changes.remove(&seq);
        }
    }

    fn forget(&mut self, path: &str) -> bool {
        let Some((node, seq)) = self.nodes.remove(path) else { return false };
        self.changes.remove(&seq);
        self.count(path, &node, false);
        true
    }

    fn count(&mut self, path: &str, node: &Node, add: bool) {
        let step = |sum: &mut u64, by: u64| *sum = if add { *sum + by } else { sum.saturating_sub(by) };
        if let Node::File { bytes, hash, .. } = node {
            step(&mut self.files, 1);
            step(&mut self.bytes, *bytes);
            step(&mut self.unhashed, u64::from(hash.is_none()));
        }
        if let Some(entry) = node.entry(path) {
            if add {
                self.digest.add(&entry);
            } else {
                self.digest.remove(&entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> DataPath {
        DataPath::new(text).unwrap()
    }

    fn file(bytes: u64, modified_ns: i64) -> Node {
        Node::File { bytes, modified_ns, hash: Some(format!("{bytes:064x}")) }
    }

    fn follow(index: &Index, cursor: &mut Cursor, mirror: &mut BTreeMap<String, Entry>, limit: usize) {
        loop {
            let changes = index.changes_since(cursor, limit);
            if changes.restart {
                mirror.clear();
            }
            for gone in &changes.removed {
                mirror.remove(gone);
            }
            mirror.extend(changes.changed.into_iter().map(|entry| (entry.path.clone(), entry)));
            *cursor = changes.next;
            if !changes.more {
                return;
            }
        }
    }

    #[test]
    fn children_are_listed_without_what_is_below_them() {
        let mut index = Index::new("e".into());
        for folder in ["files", "files/a", "files/a/deep"] {
            index.set(&path(folder), Node::Folder { modified_ns: 0 });
        }
        for name in ["files/a/deep/x", "files/a-b", "files/a0", "files/ab", "files/b"] {
            index.set(&path(name), file(1, 1));
        }
        let names: Vec<String> = index.children(&path("files")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "a-b", "a0", "ab", "b"]);
        assert_eq!(index.children(&path("files/a")).len(), 1);
        assert_eq!(index.bytes_below(&path("files/a")), 1);
        assert_eq!(index.below(&path("files/a")), ["files/a", "files/a/deep", "files/a/deep/x"]);
    }

    #[test]
    fn an_unhashed_file_is_told_once_its_hash_is_known() {
        let mut index = Index::new("e".into());
        let unread = Node::File { bytes: 3, modified_ns: 1, hash: None };
        index.set(&path("files/a"), unread.clone());
        assert!(index.sums().is_none() && index.changes_since(&Cursor::default(), 9).changed.is_empty());
        let cursor = index.cursor();
        index.set_hash(&path("files/a"), &unread, "aa".into());
        assert_eq!(index.changes_since(&cursor, 9).changed.len(), 1);
        assert_eq!(index.sums().unwrap().files, 1);
        index.set_hash(&path("files/a"), &unread, "bb".into());
        assert_eq!(index.entries()[0].file.as_ref().unwrap().hash, "aa");
    }

    #[test]
    fn many_removals_begin_another_epoch() {
        let mut index = Index::new("e".into());
        for n in 0..=MAX_REMOVALS {
            index.set(&path(&format!("files/{n}")), Node::Folder { modified_ns: 0 });
        }
        let cursor = index.cursor();
        index.set(&path("site"), Node::Folder { modified_ns: 0 });
        index.remove(&path("files"));
        let changes = index.changes_since(&cursor, 9);
        assert!(changes.restart && changes.removed.is_empty() && changes.changed.len() == 1);
    }

    proptest! {
        /// Whatever happens, a follower that reads in pages of any size ends at the same entries, and the
        /// digest is the one of a tree that was built at once.
        #[test]
        fn a_follower_ends_in_step(
            steps in proptest::collection::vec((0_u8..3, 0_u64..6, 0_i64..3), 0..60), limit in 1_usize..5,
        ) {
            let mut index = Index::new("e".into());
            let (mut cursor, mut mirror) = (Cursor::default(), BTreeMap::new());
            for (n, (what, which, modified_ns)) in steps.into_iter().enumerate() {
                let place = path(&format!("files/{}", ["a", "b", "c", "a/x", "a/y", "b/z"][which as usize]));
                match what {
                    0 => index.set(&place, file(which, modified_ns)),
                    1 => index.set(&place, Node::Folder { modified_ns }),
                    _ => index.remove(&place),
                }
                if n % 3 == 0 {
                    follow(&index, &mut cursor, &mut mirror, limit);
                }
            }
            follow(&index, &mut cursor, &mut mirror, limit);
            prop_assert_eq!(mirror.into_values().collect::<Vec<_>>(), index.entries());
            let mut digest = Digest::new();
            for entry in &index.entries() {
                digest.add(entry);
            }
            prop_assert_eq!(index.sums().unwrap().hash, digest.hash());
            prop_assert_eq!(index.bytes(), index.entries().iter().filter_map(|e| e.file.as_ref()).map(|f| f.bytes).sum::<u64>());
        }
    }
}

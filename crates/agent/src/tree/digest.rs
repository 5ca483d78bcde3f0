//! One hash over a whole tree that follows each change in constant time.
//!
//! LtHash (Bellare and Micciancio, 1997; Lewi et al., "Securing Update Propagation with Homomorphic
//! Hashing", 2019) with BLAKE3 as the element hash: each entry becomes 1024 numbers of 16 bits, the
//! tree's state is their sum, and its hash is the BLAKE3 of the state. It depends on the set of entries
//! and on nothing else, so it equals a hash over the sorted manifest in what it proves, and the hold of a
//! move need not be as long as there are files.

use stackpro_domain::manifest::{Entry, FileFacts};

const LANES: usize = 1024;

#[derive(Clone)]
pub(crate) struct Digest(Box<[u16; LANES]>);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(Box::new([0; LANES]))
    }

    pub(crate) fn add(&mut self, entry: &Entry) {
        for (lane, more) in self.0.iter_mut().zip(lanes(entry)) {
            *lane = lane.wrapping_add(more);
        }
    }

    pub(crate) fn remove(&mut self, entry: &Entry) {
        for (lane, less) in self.0.iter_mut().zip(lanes(entry)) {
            *lane = lane.wrapping_sub(less);
        }
    }

    /// 64 hex digits.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for lane in self.0.iter() {
            hasher.update(&lane.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The numbers of one entry: BLAKE3's extended output over its fields, each told apart by its length.
fn lanes(entry: &Entry) -> [u16; LANES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(entry.path.len() as u64).to_le_bytes());
    hasher.update(entry.path.as_bytes());
    if let Some(FileFacts { bytes, hash, modified_ns }) = &entry.file {
        hasher.update(&bytes.to_le_bytes());
        hasher.update(&modified_ns.to_le_bytes());
        hasher.update(hash.as_bytes());
    }
    let mut bytes = [0; LANES * 2];
    hasher.finalize_xof().fill(&mut bytes);
    let mut lanes = [0; LANES];
    for (lane, pair) in lanes.iter_mut().zip(bytes.chunks_exact(2)) {
        *lane = u16::from_le_bytes([pair[0], pair[1]]);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn entry(path: &str, modified_ns: i64) -> Entry {
        Entry { path: path.into(), file: Some(FileFacts { bytes: 1, hash: "aa".into(), modified_ns }) }
    }

    fn hash_of(entries: &[Entry]) -> String {
        let mut digest = Digest::new();
        for entry in entries {
            digest.add(entry);
        }
        digest.hash()
    }

    #[test]
    fn it_depends_on_the_set_alone() {
        let (a, b, c) = (entry("a", 1), entry("b", 1), Entry { path: "c".into(), file: None });
        assert_eq!(hash_of(&[a.clone(), b.clone(), c.clone()]), hash_of(&[c.clone(), a.clone(), b.clone()]));
        let mut digest = Digest::new();
        for entry in [&a, &b, &c] {
            digest.add(entry);
        }
        digest.remove(&b);
        assert_eq!(digest.hash(), hash_of(&[a.clone(), c]));
        assert_ne!(hash_of(slice::from_ref(&a)), hash_of(&[entry("a", 2)]));
        assert_ne!(hash_of(slice::from_ref(&a)), hash_of(&[a.clone(), a]));
    }
}

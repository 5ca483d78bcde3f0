//! Manifests: what files there are, and the proof that a copy equals its source.

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// One file or folder of a stack, as its agent last saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Relative to the stack's data, `/`-separated, never with a `.` or `..` part.
    pub path: String,
    /// `None` for a folder.
    pub file: Option<FileFacts>,
}

/// What makes two files the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileFacts {
    pub bytes: u64,
    /// BLAKE3 of the content, 64 hex digits.
    pub hash: String,
    /// Last change in nanoseconds since the Unix epoch. Whole seconds are not enough: two writes
    /// within one would look alike.
    pub modified_ns: i64,
}

/// Where two manifests differ, as seen from the copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// At the source and missing, or other, at the copy.
    pub to_copy: Vec<String>,
    /// At the copy and not at the source.
    pub to_remove: Vec<String>,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.to_copy.is_empty() && self.to_remove.is_empty()
    }
}

/// Compares two manifests, each sorted by path. Linear in their lengths.
pub fn compare(source: &[Entry], copy: &[Entry]) -> Difference {
    let mut difference = Difference::default();
    let (mut s, mut c) = (source.iter().peekable(), copy.iter().peekable());
    loop {
        match (s.peek(), c.peek()) {
            (None, None) => return difference,
            (Some(a), Some(b)) if a.path == b.path => {
                if a.file != b.file {
                    difference.to_copy.push(a.path.clone());
                }
                s.next();
                c.next();
            }
            (Some(a), b) if b.is_none_or(|b| a.path < b.path) => {
                difference.to_copy.push(a.path.clone());
                s.next();
            }
            (_, Some(b)) => {
                difference.to_remove.push(b.path.clone());
                c.next();
            }
            (Some(_), None) => unreachable!("the arm above takes a source entry without a copy"),
        }
    }
}

/// The proof that a client's data moved whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub files: u64,
    pub bytes: u64,
    /// One hash over the manifest of the source, and of the copy: equal, or there is no certificate. It is
    /// an LtHash with BLAKE3, which follows each change, so that a hold need not be as long as there are files.
    pub source_hash: String,
    pub copy_hash: String,
    /// Rounds of copying before the hold, the first copy included.
    pub rounds: u32,
    /// Files that were copied or removed during the hold.
    pub held_files: u64,
    /// How long writes were held, in milliseconds.
    pub held_ms: u64,
    pub committed_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, hash: &str) -> Entry {
        Entry { path: path.into(), file: Some(FileFacts { bytes: 1, hash: hash.into(), modified_ns: 1 }) }
    }

    #[test]
    fn what_is_missing_changed_and_left_over_is_found() {
        let source = [entry("a", "1"), entry("b", "1"), entry("d", "1")];
        let copy = [entry("b", "2"), entry("c", "1"), entry("d", "1"), entry("e", "1")];
        let difference = compare(&source, &copy);
        assert_eq!(difference.to_copy, ["a", "b"]);
        assert_eq!(difference.to_remove, ["c", "e"]);
        assert!(compare(&source, &source).is_empty());
        assert_eq!(compare(&[], &copy).to_remove.len(), 4);
        assert_eq!(compare(&source, &[]).to_copy.len(), 3);
    }
}

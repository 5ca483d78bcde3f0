//! What is in a stack's volumes, thing by thing: the words of a manifest in which a copy equals its source.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stackpro_domain::manifest::{Entry, FileFacts};

/// Files are compared and copied in blocks of so many bytes, so that a database costs what changed in it.
pub(crate) const BLOCK: usize = 64 * 1024;

/// One thing below the volumes' folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    /// As [`to_text`] writes it.
    pub path: String,
    pub kind: Kind,
    pub mode: u32,
    /// As the stack's programs see them.
    pub user: u32,
    pub group: u32,
    pub modified_ns: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    Folder,
    File {
        bytes: u64,
        blocks: Blocks,
    },
    /// A symbolic link, as it stands.
    Link {
        target: String,
    },
    /// The same file under another name (a hard link): the first of its names, by order.
    Same {
        path: String,
    },
}

/// The BLAKE3 of each block of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks(pub Vec<[u8; 32]>);

impl Serialize for Blocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(self.0.as_flattened()))
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(serde::de::Error::custom)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() { Ok(Self(hashes.to_vec())) } else { Err(serde::de::Error::custom("a hash is cut short")) }
    }
}

impl Item {
    /// 0 for what is no file of its own.
    pub(crate) fn bytes(&self) -> u64 {
        match self.kind {
            Kind::File { bytes, .. } => bytes,
            _ => 0,
        }
    }

    /// What the one hash over all volumes is made of: every word of this item counts.
    pub(crate) fn entry(&self) -> Entry {
        let mut hasher = blake3::Hasher::new();
        let (kind, text): (u8, &str) = match &self.kind {
            Kind::Folder => (0, ""),
            Kind::File { blocks, .. } => {
                hasher.update(blocks.0.as_flattened());
                (1, "")
            }
            Kind::Link { target } => (2, target),
            Kind::Same { path } => (3, path),
        };
        hasher.update(text.as_bytes());
        hasher.update(&[kind]);
        for number in [self.mode, self.user, self.group] {
            hasher.update(&number.to_le_bytes());
        }
        let hash = hasher.finalize().to_hex().to_string();
        let facts = FileFacts { bytes: self.bytes(), hash, modified_ns: self.modified_ns };
        Entry { path: self.path.clone(), file: Some(facts) }
    }
}

/// A name as text, whatever its bytes are: itself, or, where it is no UTF-8 or has a `%` or a control
/// character, with each byte but graphic ASCII as `%XX`.
pub(crate) fn to_text(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('%') && !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.iter().fold(String::new(), |mut text, byte| {
            if byte.is_ascii_graphic() && *byte != b'%' {
                text.push(char::from(*byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
            text
        }),
    }
}

/// The path that [`to_text`] wrote. `None` when it would lead out of the volumes, or is none.
pub(crate) fn from_text(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(bytes_of(text)?);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let same = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    (plain && same && !path.as_os_str().is_empty() && !path.as_os_str().as_bytes().contains(&0)).then_some(path)
}

/// The bytes that [`to_text`] wrote, whatever they are.
pub(super) fn bytes_of(text: &str) -> Option<OsString> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(OsString::from_vec(bytes))
}

/// The blocks of `now` that `before` has not, as runs of (first, count).
pub(crate) fn missing_blocks(before: &Blocks, now: &Blocks) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (index, hash) in now.0.iter().enumerate() {
        if before.0.get(index) == Some(hash) {
            continue;
        }
        let index = index as u32;
        match runs.last_mut() {
            Some((first, count)) if *first + *count == index => *count += 1,
            _ => runs.push((index, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_comes_back_as_it_was() {
        for name in ["a", "ä/ö b", "100%", "a\nb", "%41"]
            .map(|name| name.as_bytes().to_vec())
            .into_iter()
            .chain([vec![0xff, b'%', b'x'], "é%".as_bytes().to_vec()])
        {
            let path = PathBuf::from(OsString::from_vec(name));
            let text = to_text(&path);
            assert_eq!(from_text(&text), Some(path), "{text}");
        }
    }

    #[test]
    fn a_path_never_leads_out() {
        for text in [
            "", "/", "/etc", "..", "a/../b", "a/..", "./a", "a//b", "a/", "%2e%2e/x", "a%2F..", "%", "%0", "%zz", "%00",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    #[test]
    fn only_blocks_that_differ_are_missing() {
        let blocks = |numbers: &[u8]| Blocks(numbers.iter().map(|n| [*n; 32]).collect());
        assert_eq!(missing_blocks(&blocks(&[1, 2, 3, 4]), &blocks(&[1, 9, 9, 4, 5])), [(1, 2), (4, 1)]);
        assert_eq!(missing_blocks(&blocks(&[1, 2]), &blocks(&[1])), []);
        let text = serde_json::to_string(&blocks(&[1, 2])).unwrap();
        assert_eq!(serde_json::from_str::<Blocks>(&text).unwrap(), blocks(&[1, 2]));
        assert!(serde_json::from_str::<Blocks>("\"AAAA\"").is_err());
    }

    #[test]
    fn every_word_of_an_item_counts() {
        let blocks = Blocks(vec![[1; 32]]);
        let kind = Kind::File { bytes: 1, blocks };
        let item = Item { path: "a".into(), kind, mode: 0o644, user: 1, group: 2, modified_ns: 3 };
        let others = [
            Item { mode: 0o600, ..item.clone() },
            Item { user: 2, ..item.clone() },
            Item { group: 1, ..item.clone() },
            Item { modified_ns: 4, ..item.clone() },
            Item { kind: Kind::Folder, ..item.clone() },
            Item { kind: Kind::Link { target: "a".into() }, ..item.clone() },
            Item { kind: Kind::Same { path: "a".into() }, ..item.clone() },
            Item { kind: Kind::File { bytes: 1, blocks: Blocks(vec![[2; 32]]) }, ..item.clone() },
        ];
        let mut seen = vec![item.entry()];
        for other in others {
            assert!(!seen.contains(&other.entry()), "{other:?}");
            seen.push(other.entry());
        }
    }
}

//! The only way to name something inside a stack's data: a [`DataPath`], which cannot lead out of it.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The client's website.
pub(crate) const SITE: &str = "site";
/// The client's files.
pub(crate) const FILES: &str = "files";

/// What a path may at most be: Linux's `NAME_MAX` for a part, and for the whole what leaves room below
/// `PATH_MAX` for the folder that the data is in.
const MAX_PART: usize = 255;
const MAX_PATH: usize = 2048;
const MAX_DEPTH: usize = 64;

const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\'')
    .add(b'&')
    .add(b'+')
    .add(b';')
    .add(b'=')
    .add(b'\\')
    .add(b'^')
    .add(b'|')
    .add(b'[')
    .add(b']');

/// A `/`-separated path that begins with `site` or `files`: no empty, `.` or `..` part, no control
/// character, each part a legal file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DataPath(String);

impl DataPath {
    /// `None` when the text is not such a path.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let top = parts.next()?;
        let legal = matches!(top, SITE | FILES)
            && text.len() <= MAX_PATH
            && text.split('/').count() <= MAX_DEPTH
            && parts.all(is_part);
        legal.then(|| Self(text.to_owned()))
    }

    /// The path below `top` that a URL names; empty parts (a slash at the end) are skipped.
    pub(crate) fn from_url(top: &str, encoded: &str) -> Option<Self> {
        let decoded = percent_encoding::percent_decode_str(encoded).decode_utf8().ok()?;
        let mut path = top.to_owned();
        for part in decoded.split('/').filter(|part| !part.is_empty()) {
            path.push('/');
            path.push_str(part);
        }
        Self::new(&path)
    }

    pub(crate) fn child(&self, name: &str) -> Option<Self> {
        if !is_part(name) {
            return None;
        }
        Self::new(&format!("{}/{name}", self.0))
    }

    /// `None` for `site` and `files` themselves, which always exist.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is written in a URL, each part percent-encoded.
    pub(crate) fn url(&self) -> String {
        self.0.split('/').map(encode_part).collect::<Vec<_>>().join("/")
    }

    /// Whether `other` is this or lies in it.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn encode_part(part: &str) -> String {
    utf8_percent_encode(part, SEGMENT).to_string()
}

fn is_part(part: &str) -> bool {
    (1..=MAX_PART).contains(&part.len())
        && part != "."
        && part != ".."
        && !part.chars().any(|c| c == '/' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out() {
        let long = format!("files/{}", "x".repeat(256));
        let deep = format!("files{}", "/x".repeat(64));
        for bad in [
            "",
            "/",
            "other",
            "../site",
            "site/..",
            "site/../files",
            "files/./a",
            "files//a",
            "files/",
            "files/a\0",
            "files/a\nb",
            "/files",
            "files/..",
            &long,
            &deep,
        ] {
            assert_eq!(DataPath::new(bad), None, "{bad:?}");
        }
        for bad in ["%2e%2e/x", "a/%2e%2e/%2e%2e/x", "a%00", "%ff", "a/../b", "..", "a%0ab"] {
            assert_eq!(DataPath::from_url(SITE, bad), None, "{bad:?}");
        }
        assert_eq!(DataPath::from_url(SITE, "%2fetc%2fpasswd").unwrap().as_str(), "site/etc/passwd");
        assert_eq!(DataPath::from_url(FILES, "a%20b/").unwrap().as_str(), "files/a b");
    }

    #[test]
    fn parts_and_places() {
        let path = DataPath::new("files/a/b c%").unwrap();
        assert_eq!((path.name(), path.parent().unwrap().as_str()), ("b c%", "files/a"));
        assert_eq!(path.url(), "files/a/b%20c%25");
        assert_eq!(DataPath::from_url(FILES, path.url().strip_prefix("files").unwrap()), Some(path.clone()));
        let a = DataPath::new("files/a").unwrap();
        assert!(a.contains(&path) && a.contains(&a) && !a.contains(&DataPath::new("files/ab").unwrap()));
        assert_eq!(DataPath::new("site").unwrap().parent(), None);
        assert_eq!(a.child("../x"), None);
    }
}

//! Answers with a file: conditional (RFC 9110, section 13) and by range (section 14, one range at a time).

use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::blocking;
use crate::path::DataPath;
use crate::tree::{Node, Result, Tree};

const CHUNK: usize = 64 * 1024;

/// The file at `path` as an answer to a request with these headers.
pub(super) async fn answer(tree: &Arc<Tree>, path: &DataPath, asked: &HeaderMap) -> Result<Response> {
    let (tree, opened) = (Arc::clone(tree), path.clone());
    let (mut file, node) = blocking(move || tree.read(&opened)).await??;
    let tag = format!("\"{:x}-{:x}\"", node.bytes(), node.modified_ns());
    if is_unchanged(asked, &tag, &node) {
        return Ok(with_facts(StatusCode::NOT_MODIFIED, Body::empty(), path, &node, &tag));
    }
    let total = node.bytes();
    let range = if holds(asked, &tag) { range(asked, total) } else { Range::All };
    let (from, length) = match range {
        Range::All => (0, total),
        Range::Part(from, to) => (from, to - from + 1),
        Range::Outside => {
            let mut response = with_facts(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty(), path, &node, &tag);
            insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{total}"));
            return Ok(response);
        }
    };
    file.seek(SeekFrom::Start(from))?;
    let content = tokio::fs::File::from_std(file).take(length);
    let body = Body::from_stream(ReaderStream::with_capacity(content, CHUNK));
    let status = if matches!(range, Range::All) { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    let mut response = with_facts(status, body, path, &node, &tag);
    insert(response.headers_mut(), header::CONTENT_LENGTH, &length.to_string());
    if let Range::Part(from, to) = range {
        insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes {from}-{to}/{total}"));
    }
    Ok(response)
}

fn with_facts(status: StatusCode, body: Body, path: &DataPath, node: &Node, tag: &str) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let mut kind = mime_guess::from_path(path.name()).first_or_octet_stream().to_string();
    if kind.starts_with("text/") || kind == "application/javascript" {
        kind.push_str("; charset=utf-8");
    }
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_TYPE, &kind);
    insert(headers, header::ETAG, tag);
    insert(headers, header::LAST_MODIFIED, &http_date(node));
    insert(headers, header::ACCEPT_RANGES, "bytes");
    insert(headers, header::CACHE_CONTROL, "no-cache");
    response
}

pub(super) fn insert(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn http_date(node: &Node) -> String {
    let time = Timestamp::from_nanosecond(i128::from(node.modified_ns())).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn is_unchanged(asked: &HeaderMap, tag: &str, node: &Node) -> bool {
    if let Some(tags) = text(asked, "if-none-match") {
        return tags.split(',').any(|one| {
            matches!(one.trim().trim_start_matches("W/"), "*") || one.trim().trim_start_matches("W/") == tag
        });
    }
    let since = text(asked, "if-modified-since").and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    since.is_some_and(|since| node.modified_ns().div_euclid(1_000_000_000) <= since.timestamp().as_second())
}

/// Whether a range may be answered: `If-Range` names what is here now.
fn holds(asked: &HeaderMap, tag: &str) -> bool {
    text(asked, "if-range").is_none_or(|named| named == tag)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    All,
    /// First and last byte.
    Part(u64, u64),
    Outside,
}

/// Several ranges, and what is no range, are answered with the whole file, as the RFC allows.
fn range(asked: &HeaderMap, total: u64) -> Range {
    let Some(spec) = text(asked, "range").and_then(|range| range.strip_prefix("bytes=")) else { return Range::All };
    let Some((from, to)) = spec.split_once('-') else { return Range::All };
    let (from, to) = match (from.trim().parse::<u64>(), to.trim()) {
        (Ok(from), "") => (from, u64::MAX),
        (Ok(from), to) => match to.parse() {
            Ok(to) if to >= from => (from, to),
            _ => return Range::All,
        },
        (Err(_), to) if from.trim().is_empty() => match to.parse::<u64>() {
            Ok(0) => return Range::Outside,
            Ok(last) => (total.saturating_sub(last), u64::MAX),
            Err(_) => return Range::All,
        },
        (Err(_), _) => return Range::All,
    };
    if from >= total { Range::Outside } else { Range::Part(from, to.min(total - 1)) }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("range", HeaderValue::from_str(text).unwrap());
            range(&headers, 10)
        };
        assert_eq!(of("bytes=0-3"), Range::Part(0, 3));
        assert_eq!(of("bytes=5-"), Range::Part(5, 9));
        assert_eq!(of("bytes=-4"), Range::Part(6, 9));
        assert_eq!(of("bytes=-40"), Range::Part(0, 9));
        assert_eq!(of("bytes=2-99999999999"), Range::Part(2, 9));
        assert_eq!(of("bytes=10-"), Range::Outside);
        for whole in ["bytes=3-1", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes=99999999999999999999-"]
        {
            assert_eq!(of(whole), Range::All, "{whole}");
        }
    }
}

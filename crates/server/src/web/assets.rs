//! What pages load: styles, the script and the marks. All of it is inside the binary.

use std::borrow::Cow;
use std::sync::LazyLock;

use rust_embed::{Embed, EmbeddedFile};

#[derive(Embed)]
#[folder = "assets/"]
struct Files;

/// One file as it is served.
pub struct Asset {
    pub bytes: Cow<'static, [u8]>,
    pub content_type: String,
    /// Changes with the content; good for an `ETag` once it is put in quotes.
    pub version: String,
}

/// The file at `/assets/{name}`, if there is one. Its address carries its version (see [`url`]), so it may
/// be cached for ever.
pub fn get(name: &str) -> Option<Asset> {
    Files::get(name).map(|file| Asset { version: version(&file), content_type: content_type(&file), bytes: file.data })
}

/// Where pages find a file: `/assets/base.css?v=1f2e3d4c`.
pub fn url(name: &str) -> String {
    match VERSIONS.iter().find(|(known, _)| known == name) {
        Some((_, version)) => format!("/assets/{name}?v={version}"),
        None => format!("/assets/{name}"),
    }
}

static VERSIONS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    Files::iter().filter_map(|name| Files::get(&name).map(|file| (name.into_owned(), version(&file)))).collect()
});

fn version(file: &EmbeddedFile) -> String {
    let [a, b, c, d, ..] = file.metadata.sha256_hash();
    format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
}

fn content_type(file: &EmbeddedFile) -> String {
    match file.metadata.mimetype() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_has_its_type_and_an_address_that_follows_its_content() {
        let css = get("base.css").unwrap();
        assert_eq!(css.content_type, "text/css; charset=utf-8");
        assert_eq!(url("base.css"), format!("/assets/base.css?v={}", css.version));
        assert_eq!(get("live.js").unwrap().content_type, "text/javascript; charset=utf-8");
        assert!(get("../Cargo.toml").is_none() && get("").is_none() && get("none.css").is_none());
    }
}

//! What is served under the clients' own host names while nothing of theirs runs there. These pages load
//! nothing: their style is inside, and their policy names it by its hash.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../../templates/host/style.css");

/// The policy to serve these pages with.
pub static CSP: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
});

/// 503 with `Retry-After: 2`: it is being set up. The page asks again by itself.
#[derive(Template)]
#[template(path = "host/starting.html")]
pub struct Starting {
    pub host: String,
}

/// 503: paused, and the data is safe.
#[derive(Template)]
#[template(path = "host/suspended.html")]
pub struct Suspended {
    pub company: String,
    /// Where its owner logs in and pays.
    pub login_url: String,
}

/// 404: nobody has this name.
#[derive(Template)]
#[template(path = "host/nobody.html")]
pub struct Nobody {
    pub host: String,
    /// The public site.
    pub site_url: String,
}

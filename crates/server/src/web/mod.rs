//! The pages and the mails, as pure views: each is a struct of plain, owned data and an askama template
//! that renders it.
//!
//! Nothing here reads a clock, a database or a request, and nothing decides what a person may see: a
//! handler fills the struct and calls `render()`. All text is escaped by askama, which goes by the
//! template's ending; the only unescaped values are those that this module made itself.
//!
//! Start reading at [`frame`] (what is around every page), then [`site`], [`client`] or [`console`].
//! [`host`] holds what is served under the clients' own host names, [`mail`] what is sent.

pub mod assets;
pub mod client;

pub mod frame;

pub mod show;
pub mod site;

#[cfg(test)]
mod preview;

/// Every page, so that tests can walk them all. A new page is added here, and `preview` gives it a sample.
pub const PAGES: &[&str] = &[
    "site/home",
    "site/plans",
    "site/plans-year",
    "site/signup",
    "site/signup-wrong",
    "site/login",
    "client/dashboard-setting-up",
    "client/dashboard",
];

/// The policy of every page but those of [`host`] and the mailbox: nothing inline, nothing from elsewhere.
pub const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The policy of the mailbox's page of one mail, whose styles are inline as mail programs need them. The
/// mail itself is shown in a sandboxed frame without scripts, which inherits this policy.
pub const MAIL_PAGE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

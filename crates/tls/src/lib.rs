//! How the two ends of a connection prove who they are: certificates that an agent makes itself and that
//! others pin by their fingerprint, and certificates of a CA for the names that visitors know.
//!
//! It keeps nothing and listens nowhere: keys come in and go out as values, and where they lie is their
//! owner's matter. One crypto provider, ring. Start reading at [`KeyedChain`]; then
//! [`pinned`], and [`acme::obtain`].

pub mod acme;
mod chain;
mod http;
pub mod pace;
mod pin;
mod roots;

pub use chain::{ChainError, Facts, KeyedChain};
pub use pin::{fingerprint, http_client, pinned};
pub use roots::Roots;

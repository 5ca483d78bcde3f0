//! Who is calling, and what they may do: passwords, access tokens, sessions, and extractors that carry
//! authority, so that a handler cannot even receive a client that its caller may not see.

pub mod password;

pub use crate::secrets::hash_token;

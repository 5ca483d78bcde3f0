//! Why a call of the store failed.

pub type Result<T> = std::result::Result<T, StoreError>;

/// Told apart by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Someone else has this already: `email`.
    #[error("this {0} is taken")]
    Conflict(&'static str),
    /// What the caller gave is not something that can be stored or looked up: `cursor`.
    #[error("this {0} is not valid")]
    Invalid(&'static str),
    /// Others were in the way. The same transaction, made again, may succeed.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// What the database holds cannot be what we wrote.
    #[error("the database holds something that cannot be read: {0}")]
    Corrupt(String),
    /// The database cannot be reached, or refuses to work.
    #[error("the database is out of reach: {0}")]
    Unavailable(String),
}

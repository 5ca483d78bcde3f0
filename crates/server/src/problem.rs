//! One error for everything that answers, with two messages: one for the user, one for the log. It becomes
//! an RFC 9457 problem, or a page, in one place: [`crate::http::edge`].

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stackpro_domain::change::NoChange;
use stackpro_domain::lifecycle::Refused;
use stackpro_domain::limits::LimitReached;
use stackpro_protocol::api::FieldError;
use stackpro_store::StoreError;

use crate::auth::password::PasswordError;
use crate::lives::LifeError;
use crate::till::TillError;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The body, the path or the query cannot be read at all.
    #[error("{detail}")]
    Unreadable { status: StatusCode, kind: &'static str, detail: String },
    #[error("{} fields are wrong", .0.len())]
    Invalid(Vec<FieldError>),
    /// Nobody, or nobody any more.
    #[error("not signed in")]
    SignIn,
    #[error("the address or the password is wrong")]
    WrongPassword,
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("not found")]
    NotFound,
    /// A one-time link that is too old or used up.
    #[error("used up")]
    Gone,
    /// Someone has it already.
    #[error("{field} is taken")]
    Taken { field: &'static str, message: &'static str },
    /// What is asked for does not fit the state that it is asked of.
    #[error("{0}")]
    NotNow(String),
    #[error(transparent)]
    Limit(#[from] LimitReached),
    #[error("too many requests")]
    TooMany { retry_after_ms: i64 },
    /// The same, where waiting is not the best that can be done.
    #[error("{message}")]
    Crowded { retry_after_ms: i64, message: String },
    /// It may work in a moment.
    #[error("{0}")]
    Busy(&'static str),
    /// Something that we need does not answer. The text is for the log.
    #[error("{0}")]
    Unavailable(String),
    /// A bug, or worse. The text is for the log.
    #[error("{0}")]
    Internal(String),
}

/// What the edge makes the body from.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: &'static str,
    pub title: &'static str,
    pub detail: String,
    pub errors: Vec<FieldError>,
}

impl Error {
    /// One field is wrong.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError { field: field.to_owned(), message: message.into() }])
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable { status, .. } => *status,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::SignIn | Self::WrongPassword => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::Limit(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Gone => StatusCode::GONE,
            Self::Taken { .. } | Self::NotNow(_) => StatusCode::CONFLICT,
            Self::TooMany { .. } | Self::Crowded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// For the user.
    pub fn failure(&self) -> Failure {
        let plain = |kind, title, detail: &str| Failure { kind, title, detail: detail.to_owned(), errors: Vec::new() };
        match self {
            Self::Unreadable { kind, detail, .. } => plain(kind, "The request cannot be read", detail),
            Self::Invalid(errors) => {
                let says = |e: &FieldError| format!("{} {}", e.field, e.message);
                let detail = errors.iter().map(says).collect::<Vec<_>>().join("; ");
                Failure { errors: errors.clone(), ..plain("validation_failed", "Some fields are not right", &detail) }
            }
            Self::SignIn => plain("not_signed_in", "Sign in first", "The access token is missing, wrong or too old."),
            Self::WrongPassword => {
                plain("wrong_password", "That did not match", "The address or the password is wrong.")
            }
            Self::Forbidden(why) => plain("forbidden", "This is not allowed", why),
            Self::NotFound => plain("not_found", "There is nothing here", "Nothing with this address is yours to see."),
            Self::Gone => {
                plain("link_used_up", "This link is used up", "It is too old or was used. Ask for a new one.")
            }
            Self::Taken { field, message } => {
                let error = FieldError { field: (*field).to_owned(), message: (*message).to_owned() };
                let detail = format!("{field} {message}");
                Failure { errors: vec![error], ..plain("conflict", "Someone has this already", &detail) }
            }
            Self::NotNow(why) => plain("not_now", "This is not possible now", why),
            Self::Limit(limit) => plain("limit_reached", "A limit is reached", &limit.to_string()),
            Self::TooMany { retry_after_ms } => {
                let wait = format!("Try again in {} s.", whole_seconds(*retry_after_ms));
                plain("too_many_requests", "A little slower, please", &wait)
            }
            Self::Crowded { message, .. } => plain("too_many_requests", "Too many from one network", message),
            Self::Busy(why) => plain("busy", "Busy, back in a moment", why),
            Self::Unavailable(_) => {
                plain("unavailable", "Not available right now", "Nothing is lost. Try again in a few seconds.")
            }
            Self::Internal(_) => {
                plain("internal", "Something broke on our side", "Try again; if it stays, tell us the request id.")
            }
        }
    }

    fn retry_after(&self) -> Option<i64> {
        match self {
            Self::TooMany { retry_after_ms } | Self::Crowded { retry_after_ms, .. } => {
                Some(whole_seconds(*retry_after_ms))
            }
            Self::Busy(_) => Some(1),
            Self::Unavailable(_) => Some(5),
            _ => None,
        }
    }
}

fn whole_seconds(ms: i64) -> i64 {
    (ms.max(0) + 999) / 1000
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(cause) => tracing::error!(cause, "a request failed"),
            Self::Unavailable(cause) => tracing::warn!(cause, "a request could not be answered"),
            _ => {}
        }
        let mut response = self.status().into_response();
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::SignIn) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self.failure());
        response
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict("email") => Self::email_taken(),
            StoreError::Invalid(what) => Self::field(what, "is not valid"),
            StoreError::Busy(cause) | StoreError::Unavailable(cause) => Self::Unavailable(cause),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl Error {
    pub fn email_taken() -> Self {
        Self::Taken { field: "email", message: "has an account already: log in, or use another address" }
    }
}

impl From<PasswordError> for Error {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::Busy("Many people are signing in. Try again in a moment."),
            PasswordError::Broken(cause) => Self::Internal(cause),
        }
    }
}

impl From<TillError> for Error {
    fn from(error: TillError) -> Self {
        match error {
            TillError::Unavailable(_) => Self::Unavailable(error.to_string()),
            // Of the card, in the till's words for its holder.
            TillError::Refused { status: 402, message, .. } => Self::NotNow(format!(
                "The payment did not succeed, and nothing has changed: {message} Change the card under Settings, \
                 Cards and invoices; then try again."
            )),
            TillError::Refused { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl From<Refused> for Error {
    fn from(error: Refused) -> Self {
        Self::NotNow(format!("This is not possible: {error}."))
    }
}

impl From<NoChange> for Error {
    fn from(error: NoChange) -> Self {
        match error {
            NoChange::TooSmall(limit) => Self::Limit(limit),
            error => Self::NotNow(error.to_string()),
        }
    }
}

impl From<LifeError> for Error {
    fn from(error: LifeError) -> Self {
        match error {
            LifeError::Refused(refused) => refused.into(),
            LifeError::Store(error) => error.into(),
            LifeError::NotNow(why) => Self::NotNow(why),
            LifeError::Till(error) => error.into(),
        }
    }
}

//! What goes wrong, as Stripe says it: a status, a type, a code, a message and the parameter.

use serde_json::{Value, json};

/// An answer that is not 200. `keep` says that what happened before it stays: a declined card leaves a
/// failed payment behind, a wrong parameter leaves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) decline_code: Option<&'static str>,
    pub(super) message: String,
    pub(super) param: Option<String>,
    pub(super) keep: bool,
}

pub(super) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    fn new(status: u16, kind: &'static str, code: Option<&'static str>, message: String, param: Option<&str>) -> Self {
        Self { status, kind, code, decline_code: None, message, param: param.map(str::to_owned), keep: false }
    }

    pub(super) fn invalid(code: &'static str, message: impl Into<String>, param: &str) -> Self {
        Self::new(400, "invalid_request_error", Some(code), message.into(), Some(param))
    }

    /// Refused for what the object is in now, not for a parameter.
    pub(super) fn state(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", None, message.into(), None)
    }

    pub(super) fn missing(kind: &str, id: &str, param: &str) -> Self {
        // An id in the path is called `id` and answers 404; one in the parameters answers 400.
        let status = if param == "id" { 404 } else { 400 };
        let message = format!("No such {}: '{id}'", kind.replace('_', " "));
        Self::new(status, "invalid_request_error", Some("resource_missing"), message, Some(param))
    }

    pub(super) fn no_route(method: &str, path: &str) -> Self {
        let message = format!("Unrecognized request URL ({method}: {path}).");
        Self::new(404, "invalid_request_error", None, message, None)
    }

    pub(super) fn unauthorized(message: &str) -> Self {
        Self::new(401, "invalid_request_error", None, message.to_owned(), None)
    }

    pub(super) fn idempotency(key: &str) -> Self {
        let message = format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. \
             Try using a key other than '{key}' if you meant to execute a different request."
        );
        Self::new(400, "idempotency_error", None, message, None)
    }

    pub(super) fn card(code: &'static str, decline_code: Option<&'static str>, message: &str, param: &str) -> Self {
        let param = (!param.is_empty()).then_some(param);
        let error = Self::new(402, "card_error", Some(code), message.to_owned(), param);
        Self { decline_code, keep: true, ..error }
    }

    /// Ours, not the caller's: the journal could not be written.
    pub(super) fn broken() -> Self {
        let message = "An unknown error occurred. The request was not carried out.".to_owned();
        Self::new(500, "api_error", None, message, None)
    }

    pub(super) fn body(&self) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        if let Some(code) = self.code {
            error["code"] = code.into();
            error["doc_url"] = format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")).into();
        }
        if let Some(decline_code) = self.decline_code {
            error["decline_code"] = decline_code.into();
        }
        if let Some(param) = &self.param {
            error["param"] = param.as_str().into();
        }
        json!({ "error": error })
    }
}

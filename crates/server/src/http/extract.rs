//! Bodies: read within a bound, and refused with the name of the field that is wrong.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use stackpro_domain::zone::Zone;
use stackpro_protocol::api::FieldError;

use crate::problem::{Error, Result};
use crate::world::World;

/// Largest JSON or form body, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

/// A JSON body. Fields that we do not know are ignored.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        expect_type(&parts.headers, "application/json")?;
        read_json(&read(body, BODY_LIMIT).await?).map(Self)
    }
}

/// The body of a form on a page of ours.
pub struct Form<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        expect_type(request.headers(), "application/x-www-form-urlencoded")?;
        let (parts, body) = request.into_parts();
        let bytes = read(body, BODY_LIMIT).await?;
        let request = Request::from_parts(parts, axum::body::Body::from(bytes));
        let form = axum::Form::<T>::from_request(request, state).await;
        form.map(|axum::Form(form)| Self(form)).map_err(|error| unreadable("bad_form", error.body_text()))
    }
}

/// The whole body, or 413.
pub async fn read(body: axum::body::Body, limit: usize) -> Result<Bytes> {
    to_bytes(body, limit).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if too_large {
            let detail = format!("The body may have {} KiB at most.", limit / 1024);
            Error::Unreadable { status: StatusCode::PAYLOAD_TOO_LARGE, kind: "too_large", detail }
        } else {
            unreadable("bad_body", "The body did not arrive whole.".into())
        }
    })
}

fn expect_type(headers: &HeaderMap, wanted: &str) -> Result<()> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let detail = format!("The body must be {wanted}; the Content-Type header must say so.");
    Err(Error::Unreadable { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, kind: "wrong_content_type", detail })
}

/// Reads JSON; what is wrong is said by the field's path.
pub fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // serde would take an array for an object whose fields come in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(unreadable("bad_json", "The body must be a JSON object.".into()));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return unreadable("bad_json", format!("The body is not JSON: {inner}."));
        }
        // serde names a missing field in its message alone.
        let message = inner.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        match (missing, path.as_str()) {
            (Some(name), ".") => Error::field(name, "is missing"),
            (Some(name), path) => Error::field(&format!("{path}.{name}"), "is missing"),
            (None, ".") => unreadable("bad_json", format!("The body must be a JSON object: {message}.")),
            (None, path) => Error::field(path, format!("is not of the right kind: {message}")),
        }
    })?;
    json.end().map_err(|error| unreadable("bad_json", format!("The body is not JSON: {error}.")))?;
    Ok(value)
}

fn unreadable(kind: &'static str, detail: String) -> Error {
    Error::Unreadable { status: StatusCode::BAD_REQUEST, kind, detail }
}

/// Collects everything that is wrong with a request, so that it is all said at once.
#[derive(Default)]
pub struct Check {
    errors: Vec<FieldError>,
}

impl Check {
    /// A person's or company's name.
    pub fn name(&mut self, field: &str, text: &str) -> String {
        const MAX: usize = 80;
        let message = if text.trim().is_empty() {
            "is empty".to_owned()
        } else {
            format!("must have at most {MAX} characters, and none that cannot be printed")
        };
        self.take(field, stackpro_domain::names::display_name(text, MAX), message)
    }

    pub fn email(&mut self, field: &str, text: &str) -> String {
        self.take(field, stackpro_domain::names::email(text), "is not a mail address")
    }

    /// Left out is `default`.
    pub fn zone(&mut self, field: &str, text: Option<&str>, default: &Zone) -> Zone {
        let Some(text) = text else { return default.clone() };
        self.take(field, Zone::parse(text), "is no time zone of IANA's database, such as Europe/Berlin")
    }

    /// The name of a recipe that is sold; the first one's when none was chosen.
    pub fn recipe(&mut self, world: &World, chosen: Option<&str>) -> String {
        let names: Vec<&str> = world.recipes.sold().map(|recipe| recipe.name.as_str()).collect();
        self.take("recipe", world.recipes.choose(chosen), format!("must be one of {}", names.join(", ")))
    }

    /// Text of several lines.
    pub fn text(&mut self, field: &str, text: &str, max: usize) -> String {
        let text = text.trim();
        let printable = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
        if text.is_empty() {
            self.wrong(field, "is empty");
        } else if !printable || text.chars().count() > max {
            self.wrong(field, format!("must have at most {max} characters, and none that cannot be printed"));
        }
        text.to_owned()
    }

    pub fn take<T: Default>(&mut self, field: &str, value: Option<T>, message: impl Into<String>) -> T {
        value.unwrap_or_else(|| {
            self.wrong(field, message);
            T::default()
        })
    }

    pub fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: field.to_owned(), message: message.into() });
    }

    pub fn finish(self) -> Result<()> {
        if self.errors.is_empty() { Ok(()) } else { Err(Error::Invalid(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use stackpro_protocol::api::LoginRequest;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_body_is_said_by_field() {
        let read = |text: &str| match read_json::<LoginRequest>(text.as_bytes()) {
            Err(Error::Invalid(errors)) => format!("{}: {}", errors[0].field, errors[0].message),
            Err(Error::Unreadable { kind, .. }) => kind.to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => "ok".into(),
        };
        assert_eq!(read(r#"{"email":"a","password":"b","extra":1}"#), "ok");
        assert_eq!(read(r#"{"email":"a"}"#), "password: is missing");
        assert!(read(r#"{"email":1,"password":"b"}"#).starts_with("email: is not of the right kind"));
        for bad in ["", "{", "[1", "{\"email\":\"a\",\"password\":\"b\"} x", "null", "\"x\"", "\u{0}", "\u{feff}{}"] {
            assert_eq!(read(bad), "bad_json", "{bad:?}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let mut check = Check::default();
        check.name("company", "a\0b");
        check.email("email", "nobody");
        check.text("message", "two\nlines", 100);
        let Err(Error::Invalid(errors)) = check.finish() else { panic!("two fields are wrong") };
        assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), ["company", "email"]);
    }
}

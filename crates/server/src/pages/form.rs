//! What the handlers of pages share: who looks, and forms that are proved to come from our own pages.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{FromRequest, OptionalFromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use stackpro_protocol::api::FieldError;
use subtle::ConstantTimeEq;

use crate::auth::token::Claims;
use crate::auth::{Caller, check_origin};
use crate::http::extract::Form;
use crate::http::{App, home_of};
use crate::problem::{Error, Result};
use crate::web::frame::SiteFrame;

/// A form's fields by name. What is not there is empty.
pub(super) struct Fields(HashMap<String, String>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).to_owned()
    }
}

/// A form of someone who is signed in: from our own page, with the token of their session.
pub(super) struct Posted(pub(super) Fields);

impl FromRequest<App> for Posted {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let claims = request.extensions().get::<Arc<Claims>>().map(Arc::clone).ok_or(Error::SignIn)?;
        let Open(fields) = Open::from_request(request, app).await?;
        let token = app.world.secrets.csrf_token(&claims.session);
        if bool::from(token.as_bytes().ct_eq(fields.get("csrf").as_bytes())) {
            Ok(Self(fields))
        } else {
            Err(Error::Forbidden("The form was open for too long. Go back, load the page anew and try again."))
        }
    }
}

/// A form that anyone may send, from our own page.
pub(super) struct Open(pub(super) Fields);

impl FromRequest<App> for Open {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        check_origin(request.headers(), &app.world.settings)?;
        let Form(fields) = Form::<HashMap<String, String>>::from_request(request, app).await?;
        Ok(Self(Fields(fields)))
    }
}

impl OptionalFromRequestParts<App> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Option<Self>> {
        Ok(parts.extensions.get::<Arc<Claims>>().map(|claims| Self(Arc::clone(claims))))
    }
}

pub(super) fn site_frame(caller: Option<&Caller>) -> SiteFrame {
    SiteFrame { dashboard: caller.map(|Caller(claims)| home_of(claims.client.as_ref())) }
}

pub(super) fn page(view: &impl Template) -> Result<Response> {
    page_with(StatusCode::OK, view)
}

pub(super) fn page_with(status: StatusCode, view: &impl Template) -> Result<Response> {
    let html = view.render().map_err(|error| Error::Internal(format!("a page cannot be rendered: {error}")))?;
    Ok((status, Html(html)).into_response())
}

/// 303: what was posted is done, the rest is a page like any other.
pub(super) fn go(to: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// Why a form is shown again.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) errors: Vec<FieldError>,
    pub(super) problem: Option<String>,
}

impl Refusal {
    /// What a person can do something about is said beside the form; the rest goes its usual way.
    pub(super) fn of(error: Error) -> Result<Self> {
        if matches!(error, Error::Internal(_) | Error::Unreadable { .. } | Error::SignIn | Error::NotFound) {
            return Err(error);
        }
        let (status, failure) = (error.status(), error.failure());
        let problem = failure.errors.is_empty().then_some(failure.detail);
        Ok(Self { status, errors: failure.errors, problem })
    }
}

/// What just happened, by the word that a redirect carries.
pub(super) fn flash(word: Option<&String>) -> Option<String> {
    let text = match word?.as_str() {
        "invited" => "The invitation is on its way.",
        "sent" => "A fresh link is on its way to you.",
        "time-zone" => "Your time zone is changed.",
        "cancelled" => "Your plan is cancelled.",
        "kept" => "Your plan goes on.",
        "changed" => "Your plan is changed.",
        "ordered" => "It has begun.",
        "given" => "The days are given.",
        "going" => "It goes on.",
        "lifted" => "This address gets mail again.",
        "moved" => "The clock was moved.",
        "verified" => "Your address is confirmed.",
        _ => return None,
    };
    Some(text.to_owned())
}

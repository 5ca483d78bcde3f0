//! The contact form at `/contact`: what a visitor writes goes to the control plane, which mails it to the owners.
//!
//! Any page of the client's may have such a form: `name`, `email` and `message`, posted to `/contact`. Who has no
//! page of that name has ours.

use std::sync::Arc;

use axum::extract::{Form, FromRequest, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use stackpro_domain::time::DAY;
use stackpro_protocol::agent::VisitorMessage;

use super::{Visit, pages};
use crate::agent::Agent;
use crate::enrol::{self, CallError};
use crate::stack::Stack;
use crate::{front, secret};

pub(super) const PATH: &str = "/contact";
/// Bytes of the whole form. A message of 5,000 characters fits, however they are written.
const FORM: usize = 64 * 1024;
/// An answer may be lost: the same message is told once more.
const TRIES: usize = 2;

/// What was typed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) email: String,
    pub(super) message: String,
    /// People do not see this field, and programs fill it in.
    homepage: String,
}

pub(super) async fn handle(agent: &Agent, stack: &Arc<Stack>, visit: &Visit, request: Request) -> Response {
    match *request.method() {
        Method::GET | Method::HEAD => pages::contact(&stack.spec(), StatusCode::OK, &Written::default(), None),
        Method::POST => post(agent, stack, visit, request).await,
        _ => front::method_not_allowed("GET, HEAD, POST"),
    }
}

async fn post(agent: &Agent, stack: &Arc<Stack>, visit: &Visit, request: Request) -> Response {
    let spec = stack.spec();
    let refuse = |status, written: &Written, why: &str| pages::contact(&spec, status, written, Some(why));
    if !front::is_same_origin(request.headers()) {
        let why = "This form was not sent from this website. Please fill it in here.";
        return refuse(StatusCode::FORBIDDEN, &Written::default(), why);
    }
    let Some(written) = read(request).await else {
        return refuse(StatusCode::BAD_REQUEST, &Written::default(), "The form did not arrive whole, or is too long.");
    };
    if !written.homepage.is_empty() {
        return refuse(
            StatusCode::BAD_REQUEST,
            &written,
            "Please leave the last field empty: it is there for programs.",
        );
    }
    if let Err(seconds) = stack.messages.check(visit.address) {
        let why = "There were many messages just now. Please wait a minute, and send it again.";
        return pages::with_retry(refuse(StatusCode::TOO_MANY_REQUESTS, &written, why), seconds);
    }
    stack.messages.count(visit.address);
    match send(agent, &spec.client_id, visit, &written).await {
        Ok(()) => pages::message_taken(),
        Err(CallError::Status(StatusCode::UNPROCESSABLE_ENTITY)) => {
            let why = "Please check your name and your email address, and write a message of at most 5,000 characters.";
            refuse(StatusCode::UNPROCESSABLE_ENTITY, &written, why)
        }
        Err(CallError::Status(StatusCode::FORBIDDEN)) => {
            let why = "This form takes no more messages this month. Please reach us in another way.";
            refuse(StatusCode::SERVICE_UNAVAILABLE, &written, why)
        }
        Err(CallError::Status(StatusCode::CONFLICT)) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            &written,
            "This form is not open yet. Please reach us in another way.",
        ),
        Err(CallError::Status(StatusCode::TOO_MANY_REQUESTS)) => {
            let why = "There were many messages lately. Please send yours again in an hour.";
            pages::with_retry(refuse(StatusCode::TOO_MANY_REQUESTS, &written, why), 3600)
        }
        Err(error) => {
            tracing::warn!(client = %spec.client_id, %error, "a visitor's message could not be passed on");
            let why = "Your message could not be sent just now. Please send it again in a moment.";
            pages::with_retry(refuse(StatusCode::SERVICE_UNAVAILABLE, &written, why), 10)
        }
    }
}

async fn read(request: Request) -> Option<Written> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, FORM).await.ok()?;
    let Form(written) = Form::from_request(Request::from_parts(parts, body.into()), &()).await.ok()?;
    Some(written)
}

async fn send(
    agent: &Agent,
    client: &stackpro_domain::ClientId,
    visit: &Visit,
    written: &Written,
) -> Result<(), CallError> {
    let Written { name, email, message, .. } = written;
    // Whoever sends a form again after an answer was lost has written once, unless it is another day.
    let day = visit.now.ms().div_euclid(DAY);
    let id = secret::sha256(&format!("{client}\n{day}\n{name}\n{email}\n{message}"));
    let words = VisitorMessage {
        instance_id: agent.file.instance_id.clone(),
        client_id: client.clone(),
        id,
        name: name.clone(),
        email: email.clone(),
        message: message.clone(),
    };
    let mut tried = 1;
    loop {
        match enrol::tell(agent, "messages", &words).await {
            Err(CallError::Http(_)) if tried < TRIES => tried += 1,
            done => return done,
        }
    }
}

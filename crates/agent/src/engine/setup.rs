//! What the agent itself asks of a stack, on loopback: whether it works, and its first setup.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use http_body_util::{BodyExt, Limited};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use stackpro_domain::recipe::{Call, Setup};
use tokio::time::timeout;

use crate::proxy::{self, Target};

/// How long one answer may take, and how many bytes of it are read.
const ANSWER: Duration = Duration::from_mins(1);
const BYTES: usize = 4 * 1024 * 1024;

pub(super) struct Visitor<'a> {
    pub address: SocketAddr,
    pub host: &'a str,
}

impl Visitor<'_> {
    /// The status of an answer, or why there is none.
    pub(super) async fn get(&self, path: &str) -> Result<u16, String> {
        self.ask(Request::get(path).body(Body::empty())).await
    }

    /// Does what a new stack needs, unless it is done, and sees that it is.
    pub(super) async fn set_up(&self, setup: &Setup) -> Result<(), String> {
        let is_done = async || Ok::<_, String>(self.get(&setup.done.path).await? == setup.done.status);
        if is_done().await? {
            return Ok(());
        }
        for call in &setup.calls {
            let status = self.post(call).await?;
            if status >= 400 {
                return Err(format!("{} answers {status}", call.path));
            }
        }
        let Setup { done, .. } = setup;
        if is_done().await? { Ok(()) } else { Err(format!("{} does not answer {}", done.path, done.status)) }
    }

    async fn post(&self, call: &Call) -> Result<u16, String> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let fields: Vec<String> =
            call.form.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let request = Request::post(&call.path).header("content-type", "application/x-www-form-urlencoded");
        self.ask(request.body(fields.join("&").into())).await
    }

    async fn ask(&self, request: axum::http::Result<Request>) -> Result<u16, String> {
        let mut request = request.map_err(|error| error.to_string())?;
        let host = self.host.parse().map_err(|_| "its host name is none".to_owned())?;
        request.headers_mut().insert("host", host);
        let answered = async {
            let response =
                proxy::send(&Target::plain(self.address), request, Duration::ZERO).await.map_err(|e| e.to_string())?;
            let status = response.status().as_u16();
            // To its end: what is asked may still be at work.
            Limited::new(response.into_body(), BYTES).collect().await.map_err(|error| error.to_string())?;
            Ok(status)
        };
        timeout(ANSWER, answered).await.unwrap_or_else(|_| Err("no answer in time".into()))
    }
}

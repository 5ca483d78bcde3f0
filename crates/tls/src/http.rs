//! HTTP to a CA: by TLS alone, bounded in time and size.

use std::error::Error as _;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::chain::ChainError;
use crate::roots::Roots;

const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of an answer: a chain has some ten thousand.
const ANSWER: usize = 1024 * 1024;

pub(crate) struct Http(reqwest::Client);

impl Http {
    pub(crate) fn new(roots: &Roots) -> Result<Self, ChainError> {
        let builder = reqwest::Client::builder().timeout(PATIENCE).https_only(true);
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        Ok(Self(builder.tls_backend_preconfigured(roots.client_config()?).build()?))
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(send(self.0.clone(), request))
    }
}

async fn send(client: reqwest::Client, request: http::Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let request = reqwest::Request::try_from(http::Request::from_parts(parts, body)).map_err(other)?;
    let mut response = client.execute(request).await.map_err(other)?;
    let mut whole = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(other)? {
        if whole.len() + chunk.len() > ANSWER {
            return Err(Error::Str("the answer is too large"));
        }
        whole.extend_from_slice(&chunk);
    }
    let mut answer = http::Response::new(Full::new(whole.freeze()));
    *answer.status_mut() = response.status();
    std::mem::swap(answer.headers_mut(), response.headers_mut());
    Ok(BytesResponse::from(answer))
}

/// Says the deepest cause: that a port is closed, or that a certificate is not known.
fn other(error: reqwest::Error) -> Error {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(deeper) = next {
        text = format!("{error}: {deeper}");
        next = deeper.source();
    }
    Error::Other(text.into())
}

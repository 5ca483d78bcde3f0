//! Forwarding: a request that arrives where a stack no longer is goes on to where it is, streamed.
//!
//! One connection per request. A pooled one may be closed by the other side at the moment of a write,
//! which then could neither be repeated nor be known to have failed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use stackpro_domain::{ClientId, Fingerprint};
use stackpro_protocol::agent::{FRONT_NAME, STACK_HEADER};
use stackpro_tls::ChainError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

/// Says to the destination of a move that its source, or its own probe, asks: the secret of the ticket.
pub(crate) const PASS: &str = "x-stackpro-pass";
/// How long a destination that does not answer (its agent restarts) is tried again.
const PATIENCE: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Headers that concern one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A front door: where it is, and by which certificate it is known when it has TLS.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Target {
    /// Without TLS, on loopback.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    pub(crate) fn new(address: SocketAddr, fingerprint: Option<&Fingerprint>) -> Result<Self, ChainError> {
        let tls = fingerprint.map(stackpro_tls::pinned).transpose()?;
        Ok(Self { address, tls: tls.map(|config| TlsConnector::from(Arc::new(config))) })
    }
}

/// Why a request was not answered by the door that it was sent on to.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] axum::http::Error),
}

/// Sends a visitor's request to another front door and gives back its answer. `pass` lets it in where a
/// stack does not serve yet; `peer` is who sent it here.
pub async fn forward(
    request: Request,
    to: &Target,
    pass: Option<&str>,
    peer: IpAddr,
) -> Result<Response, ForwardError> {
    send(to, prepared(request, pass, peer)?, PATIENCE).await
}

/// The same on a connection to the stack itself.
pub(crate) async fn forward_on(stream: TcpStream, request: Request, peer: IpAddr) -> Result<Response, ForwardError> {
    converse(stream, prepared(request, None, peer)?).await
}

fn prepared(request: Request, pass: Option<&str>, peer: IpAddr) -> Result<Request, ForwardError> {
    let (mut parts, body) = request.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    let before = parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let forwarded_for = before.map_or_else(|| peer.to_string(), |before| format!("{before}, {peer}"));
    parts.headers.insert("x-forwarded-for", HeaderValue::from_str(&forwarded_for).map_err(axum::http::Error::from)?);
    if let Some(pass) = pass {
        parts.headers.insert(PASS, HeaderValue::from_str(pass).map_err(axum::http::Error::from)?);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(axum::http::Error::from)?;
    Ok(Request::from_parts(parts, body))
}

pub(crate) async fn send(to: &Target, request: Request, patience: Duration) -> Result<Response, ForwardError> {
    let stream = connect(to.address, patience).await?;
    match &to.tls {
        None => converse(stream, request).await,
        Some(tls) => {
            let name = ServerName::try_from(FRONT_NAME).map_err(io::Error::other)?;
            // Both are large, and most futures that hold this one never come here.
            let stream = Box::pin(timeout(HANDSHAKE, tls.connect(name, stream))).await;
            converse(Box::new(stream.map_err(io::Error::other)??), request).await
        }
    }
}

async fn converse<I>(stream: I, request: Request) -> Result<Response, ForwardError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a forwarded connection ended");
        }
    });
    let mut response = sender.send_request(request).await?.map(Body::new);
    remove_hop_by_hop(response.headers_mut());
    Ok(response)
}

async fn connect(to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let until = Instant::now() + patience;
    loop {
        match TcpStream::connect(to).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < until => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether `client`'s stack itself answers at a front door for `host`.
pub(crate) async fn probe(front: &Target, host: &str, client: &ClientId, pass: &str) -> Result<bool, ForwardError> {
    let request = Request::get("/").header("host", host).header(PASS, pass).body(Body::empty())?;
    let response = send(front, request, Duration::ZERO).await?;
    let named = response.headers().get(STACK_HEADER).is_some_and(|named| named == client.as_str());
    Ok(named && !response.status().is_server_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_goes_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "keep-alive, X-Mine"), ("x-mine", "1"), ("upgrade", "h2c"), ("host", "a.b")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host"]);
    }
}

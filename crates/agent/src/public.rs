//! The doors on a public network: port 80, and port 443, on which the server name of a connection's TLS
//! handshake says which door it leads to.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use stackpro_protocol::agent::{CONTROL_NAME, FRONT_NAME};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::agent::Agent;
use crate::control;
use crate::front::{self, Arrival, Gone};

/// Connections at once, on each socket; more wait to be accepted.
const CONNECTIONS: usize = 8_000;
/// How long a visitor may take to shake hands, and to say what they want.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(30);
/// After an error that concerns the socket itself, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves port 80 until the agent stops.
pub(crate) async fn serve_http(agent: &Arc<Agent>, listener: TcpListener) {
    let front = front::door(agent);
    accept(agent, listener, |agent, stream, peer| {
        let front = front.clone();
        async move { converse(&agent, stream, front, peer, Arrival::Http).await }
    })
    .await;
}

/// Serves port 443 until the agent stops.
pub(crate) async fn serve_https(agent: &Arc<Agent>, listener: TcpListener, config: Arc<ServerConfig>) {
    let (front, control) = (front::door(agent), control::door(agent));
    let acceptor = TlsAcceptor::from(config);
    accept(agent, listener, |agent, stream, peer| {
        let (acceptor, front, control) = (acceptor.clone(), front.clone(), control.clone());
        async move {
            let tls = timeout(HANDSHAKE, acceptor.accept(stream)).await.map_err(io::Error::other)??;
            let Some(name) = tls.get_ref().1.server_name().map(str::to_ascii_lowercase) else { return Ok(()) };
            let door = if name == CONTROL_NAME { control } else { front };
            converse(&agent, tls, door, peer, Arrival::Https(name.into())).await
        }
    })
    .await;
}

/// How port 443 shakes hands: HTTP/1.1, which every visitor speaks and websockets need.
pub(crate) fn tls(agent: &Arc<Agent>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = config.with_cert_resolver(Arc::new(ByName(Arc::clone(agent))));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The certificate for the name that a visitor asks for; no name, or one without a certificate, gets none.
struct ByName(Arc<Agent>);

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name()?.to_ascii_lowercase().as_str() {
            CONTROL_NAME | FRONT_NAME => self.0.identity.as_ref().map(|own| Arc::clone(&own.certificate)),
            name => self.0.certificates.of(name, self.0.clock.now()),
        }
    }
}

/// Accepts until the agent stops, and then waits for the conversations that run.
async fn accept<F>(agent: &Arc<Agent>, listener: TcpListener, talk: impl Fn(Arc<Agent>, TcpStream, SocketAddr) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (conversations, room) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
    let accept_all = async {
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let talk = talk(Arc::clone(agent), stream, peer);
                    conversations.spawn(async move {
                        let _place = place;
                        if let Err(error) = talk.await {
                            tracing::debug!(%error, %peer, "a connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept_all => {}
        () = agent.stop.cancelled() => {}
    }
    conversations.close();
    conversations.wait().await;
}

/// Answers a connection's requests until it ends. When the agent stops, or the stack that the connection leads to is
/// removed, the request that runs is the last one: a connection that was kept would lead here for ever.
async fn converse<I>(agent: &Agent, stream: I, door: Router, peer: SocketAddr, arrival: Arrival) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stack = arrival.name().and_then(|name| agent.stack_by_host(name));
    let (leads_to, mut gone) = watch::channel(stack.map(|stack| stack.gone.clone()).unwrap_or_default());
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(arrival.clone());
        let (answered, leads_to) = (door.clone().oneshot(request), leads_to.clone());
        async move {
            let mut answer = answered.await?;
            if let Some(Gone(gone)) = answer.extensions_mut().remove() {
                leads_to.send_replace(gone);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let conversation = http.serve_connection(TokioIo::new(stream), answer).with_upgrades();
    tokio::pin!(conversation);
    let ended = tokio::select! {
        ended = conversation.as_mut() => ended,
        () = is_over(agent, &mut gone) => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    ended.map_err(io::Error::other)
}

/// Waits until the agent stops, or the stack that a connection leads to is removed.
async fn is_over(agent: &Agent, gone: &mut watch::Receiver<CancellationToken>) {
    loop {
        let stack_gone = gone.borrow_and_update().clone();
        tokio::select! {
            () = agent.stop.cancelled() => return,
            () = stack_gone.cancelled() => return,
            // It leads to another one by now. The sender lives as long as the conversation.
            led = gone.changed() => if led.is_err() { return },
        }
    }
}

//! A CA that speaks ACME: Let's Encrypt's own test server (pebble), behind a door that loses requests and
//! answers on command.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;
use stackpro_tls::KeyedChain;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::free_address;
use crate::wait::eventually;

/// What is lost of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The request: nothing happens.
    Request,
    /// The answer: the CA has done it.
    Answer,
}

/// A running CA. On its end nothing of it is left.
pub struct Ca {
    folder: TempDir,
    address: SocketAddr,
    /// Pebble's own two addresses.
    pebble: [SocketAddr; 2],
    dns: SocketAddr,
    http_port: u16,
    process: Mutex<Option<Child>>,
    identity: KeyedChain,
    door: Arc<Door>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Door {
    to_lose: Mutex<Vec<(String, Lost)>>,
    seen: Mutex<Vec<String>>,
}

impl Ca {
    /// Asks `dns` for every name, and looks for pages at `http_port` of whatever address that says.
    pub async fn start(dns: SocketAddr, http_port: u16) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::Builder::new().prefix("stackpro-ca-").tempdir().expect("a temporary folder");
        let identity = KeyedChain::self_signed(&["127.0.0.1", "localhost"]).expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let pebble = [free_address(), free_address()];
        let door = Arc::new(Door::default());
        let task = tokio::spawn(serve(listener, acceptor(&identity), pebble[0], Arc::clone(&door)));
        let process = Mutex::new(None);
        let ca = Self { folder, address, pebble, dns, http_port, process, identity, door, task };
        ca.up().await;
        ca
    }

    /// The address of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// By which its own server is known, in PEM.
    pub fn server_root(&self) -> String {
        self.identity.chain.clone()
    }

    /// By which the certificates that it issues are known, in PEM. Another one after [`Ca::up`].
    pub async fn issuer_root(&self) -> String {
        let answer = insecure().get(format!("https://{}/roots/0", self.pebble[1])).send().await;
        answer.expect("the CA's root").text().await.expect("its text")
    }

    /// The next request whose path begins so is lost, or its answer is. Several are lost in their order.
    pub fn lose(&self, path: &str, lost: Lost) {
        lock(&self.door.to_lose).push((path.to_owned(), lost));
    }

    /// Whether everything that was to be lost is.
    pub fn has_lost_all(&self) -> bool {
        lock(&self.door.to_lose).is_empty()
    }

    /// How many requests arrived at paths that begin so.
    pub fn seen(&self, path: &str) -> usize {
        lock(&self.door.seen).iter().filter(|seen| seen.starts_with(path)).count()
    }

    /// Paths of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.door.seen).clone()
    }

    pub fn down(&self) {
        if let Some(mut process) = lock(&self.process).take() {
            drop(process.kill());
            drop(process.wait());
        }
    }

    /// Starts it, again if need be. It remembers nothing: no account, no order, not even its own key.
    pub async fn up(&self) {
        self.down();
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("cert.pem"), &self.identity.chain).expect("a file");
        fs::write(path("key.pem"), &self.identity.key).expect("a file");
        let config = serde_json::json!({ "pebble": {
            "listenAddress": self.pebble[0], "managementListenAddress": self.pebble[1],
            "certificate": path("cert.pem"), "privateKey": path("key.pem"),
            "httpPort": self.http_port, "tlsPort": 1, "ocspResponderURL": "",
            "externalAccountBindingRequired": false, "retryAfter": { "authz": 1, "order": 1 },
        }});
        fs::write(path("config.json"), config.to_string()).expect("a file");
        let log = fs::File::options().create(true).append(true).open(path("log")).expect("the log");
        let child = Command::new("pebble")
            .arg("-config")
            .arg(path("config.json"))
            .args(["-dnsserver", &self.dns.to_string(), "-strict"])
            // Nothing by chance: no nap, no refused nonce, no proof that still counts.
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("pebble (Debian's package of that name) starts");
        *lock(&self.process) = Some(child);
        let (http, url) = (insecure(), format!("https://{}/dir", self.pebble[0]));
        eventually("the CA answers", Duration::from_secs(20), async || http.get(&url).send().await.ok()).await;
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        self.task.abort();
        self.down();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the CA's last words\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To pebble itself, on loopback.
fn insecure() -> reqwest::Client {
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy();
    client.timeout(Duration::from_secs(10)).build().expect("an HTTP client")
}

fn acceptor(identity: &KeyedChain) -> TlsAcceptor {
    let certificate = SingleCertAndKey::from(identity.certified_key().expect("a certificate with its key"));
    let config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(certificate));
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, pebble: SocketAddr, door: Arc<Door>) {
    let upstream = insecure();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, door, upstream) = (acceptor.clone(), Arc::clone(&door), upstream.clone());
        tokio::spawn(async move { converse(acceptor, stream, pebble, door, upstream).await });
    }
}

async fn converse(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    pebble: SocketAddr,
    door: Arc<Door>,
    upstream: reqwest::Client,
) {
    let Ok(tls) = acceptor.accept(stream).await else { return };
    let pass = service_fn(move |request| pass(request, pebble, Arc::clone(&door), upstream.clone()));
    drop(http1::Builder::new().serve_connection(TokioIo::new(tls), pass).await);
}

/// An error closes the connection without an answer.
async fn pass(
    request: Request<Incoming>,
    pebble: SocketAddr,
    door: Arc<Door>,
    upstream: reqwest::Client,
) -> Result<Response<Full<Bytes>>, String> {
    let path = request.uri().path().to_owned();
    let fate = {
        let mut to_lose = lock(&door.to_lose);
        let next = to_lose.iter().position(|(prefix, _)| path.starts_with(prefix.as_str()));
        next.map(|next| to_lose.remove(next).1)
    };
    if fate == Some(Lost::Request) {
        return Err("the request is lost".into());
    }
    lock(&door.seen).push(path.clone());
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    let onward = upstream.request(parts.method, format!("https://{pebble}{path}")).headers(parts.headers).body(body);
    let answer = onward.send().await.map_err(|error| error.to_string())?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.map_err(|error| error.to_string())?;
    if fate == Some(Lost::Answer) {
        return Err("the answer is lost".into());
    }
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// A name server that knows every name as 127.0.0.1 and holds text records, and a web server for HTTP-01
/// pages: pebble's companion.
pub struct ChallengeServer {
    pub dns: SocketAddr,
    pub http: SocketAddr,
    management: SocketAddr,
    process: Child,
}

impl ChallengeServer {
    pub async fn start() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let (dns, http, management) = (free_address(), free_address(), free_address());
        let process = Command::new("pebble-challtestsrv")
            .args(["-dns01", &dns.to_string(), "-http01", &http.to_string(), "-management", &management.to_string()])
            .args(["-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble-challtestsrv (in Debian's package pebble) starts");
        let server = Self { dns, http, management, process };
        let open = async || TcpStream::connect(management).await.ok();
        eventually("the challenge server answers", Duration::from_secs(20), open).await;
        server
    }

    /// Makes the text records of a name exactly these.
    pub async fn set_text(&self, name: &str, values: &[String]) {
        self.say("clear-txt", &serde_json::json!({ "host": format!("{name}.") })).await;
        for value in values {
            self.say("set-txt", &serde_json::json!({ "host": format!("{name}."), "value": value })).await;
        }
    }

    /// Serves a page at `/.well-known/acme-challenge/{token}`.
    pub async fn add_page(&self, token: &str, content: &str) {
        self.say("add-http01", &serde_json::json!({ "token": token, "content": content })).await;
    }

    async fn say(&self, what: &str, body: &serde_json::Value) {
        let answer = insecure().post(format!("http://{}/{what}", self.management)).json(body).send().await;
        assert!(answer.expect("an answer").status().is_success(), "{what}");
    }
}

impl Drop for ChallengeServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

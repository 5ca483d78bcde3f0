//! Asks for a client's site as a visitor would: by its public name, through whatever leads there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HOST, HeaderValue};
use stackpro_cloud::resolver;
use stackpro_domain::ClientId;
use stackpro_protocol::agent::STACK_HEADER;
use stackpro_tls::{ChainError, Roots};

#[derive(Clone)]
pub struct Prober {
    http: reqwest::Client,
    scheme: &'static str,
    /// Where every name leads when it is not DNS that says so: the local cloud's own door.
    door: Option<SocketAddr>,
}

/// Where a host name leads, port included, for a cloud whose names the world does not know.
pub type Lookup = Arc<dyn Fn(&str) -> Option<SocketAddr> + Send + Sync>;

impl Prober {
    /// By http through one door, which knows every name: the local cloud's.
    pub fn new(door: SocketAddr) -> Result<Self, ChainError> {
        Ok(Self { http: client(&Roots::default())?.build()?, scheme: "http", door: Some(door) })
    }

    /// By https, whose certificate these roots must vouch for, to where the `lookup` says.
    pub fn https(roots: &Roots, lookup: Lookup) -> Result<Self, ChainError> {
        let http = client(roots)?.dns_resolver(Names(lookup)).build()?;
        Ok(Self { http, scheme: "https", door: None })
    }

    /// Through the world's DNS, as this name server tells it; as the system's resolver does when none.
    pub fn world(https: bool, roots: &Roots, name_server: Option<SocketAddr>) -> Result<Self, ChainError> {
        let mut http = client(roots)?;
        if let Some(server) = name_server {
            http = http.dns_resolver(Resolver(server));
        }
        Ok(Self { http: http.build()?, scheme: if https { "https" } else { "http" }, door: None })
    }

    /// Whether this very client's stack answers at this host, which may have a port, and answers well; else what
    /// was seen instead.
    pub async fn ask(&self, host: &str, client: &ClientId) -> Result<(), String> {
        let at = self.door.map_or_else(|| host.to_owned(), |door| door.to_string());
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        let request = self.http.get(format!("{}://{at}/", self.scheme)).header(HOST, host);
        let answer = request.send().await.map_err(|error| crate::agents::deepest(&error))?;
        let status = answer.status();
        let stack = answer.headers().get(STACK_HEADER).and_then(|value| value.to_str().ok());
        match stack {
            Some(stack) if stack == client.as_str() && status.is_success() => Ok(()),
            Some(stack) if stack != client.as_str() => Err(format!("another stack answers: {stack}")),
            _ => Err(format!("the answer is {status}")),
        }
    }
}

/// Every look is a new connection: a kept one would lead where the name led before.
fn client(roots: &Roots) -> Result<reqwest::ClientBuilder, ChainError> {
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(roots.client_config()?)
        .timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(2))
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy())
}

struct Names(Lookup);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.0)(name.as_str());
        Box::pin(async move {
            let found = found.ok_or("there is no such name")?;
            Ok(Box::new(std::iter::once(found)) as Addrs)
        })
    }
}

/// Asks this name server.
struct Resolver(SocketAddr);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let server = self.0;
        Box::pin(async move {
            let found = resolver::addresses(server, name.as_str()).await?;
            if found.is_empty() {
                return Err(format!("{server} knows no address of {}", name.as_str()).into());
            }
            Ok(Box::new(found.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

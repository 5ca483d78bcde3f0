//! Asks for a client's site as a visitor would: by its public name, through whatever leads there.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HOST, HeaderValue};
use stackpro_domain::ClientId;
use stackpro_protocol::agent::STACK_HEADER;

#[derive(Clone)]
pub struct Prober {
    http: reqwest::Client,
    scheme: &'static str,
    /// Where every name leads when it is not the world's DNS that says so: the local cloud's own door.
    door: Option<SocketAddr>,
}

impl Prober {
    /// Through the world's DNS, or, on the local cloud, through its `door`.
    pub fn new(door: Option<SocketAddr>, https: bool) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .connect_timeout(Duration::from_secs(2))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { http, scheme: if https { "https" } else { "http" }, door })
    }

    /// Whether this very client's stack answers, and answers well; else what was seen instead.
    pub async fn ask(&self, host: &str, client: &ClientId) -> Result<(), String> {
        let at = self.door.map_or_else(|| host.to_owned(), |door| door.to_string());
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        let request = self.http.get(format!("{}://{at}/", self.scheme)).header(HOST, host);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let stack = answer.headers().get(STACK_HEADER).and_then(|value| value.to_str().ok());
        match stack {
            Some(stack) if stack == client.as_str() && status.is_success() => Ok(()),
            Some(stack) if stack != client.as_str() => Err(format!("another stack answers: {stack}")),
            _ => Err(format!("the answer is {status}")),
        }
    }
}

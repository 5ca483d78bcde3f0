//! An instance's metadata service (IMDSv2): its id and public address, and its user data, for whoever has fetched a
//! token. <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Where every instance finds it.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
const TOKEN: &str = "a-token-of-imdsv2";

/// What one instance is told of itself.
pub(crate) struct Metadata {
    pub(crate) id: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) user_data: Vec<u8>,
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, metadata: Metadata) {
    let metadata = Arc::new(metadata);
    while let Ok((stream, _)) = listener.accept().await {
        let metadata = Arc::clone(&metadata);
        let service = service_fn(move |request| {
            let answer = metadata.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Metadata {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        // Below a version's name, which is `latest` or a date.
        let (_, path) = request.uri().path().trim_start_matches('/').split_once('/').unwrap_or_default();
        if (request.method(), path) == (&Method::PUT, "api/token") {
            let asked = header("x-aws-ec2-metadata-token-ttl-seconds").is_some();
            return if asked { text(TOKEN) } else { refuse(StatusCode::BAD_REQUEST) };
        }
        // Which takes nothing for EC2 that has no such firmware, and then fetches no token. Ours asks by curl.
        let is_cloud_init = header("user-agent").is_none_or(|agent| !agent.starts_with("curl/"));
        if header("x-aws-ec2-metadata-token") != Some(TOKEN) && !is_cloud_init {
            return refuse(StatusCode::UNAUTHORIZED);
        }
        match path {
            "meta-data/" | "meta-data" => text("instance-id\nlocal-hostname\npublic-ipv4"),
            "meta-data/instance-id" => text(&self.id),
            "meta-data/local-hostname" => text(&format!("ip-{}", self.address.to_string().replace('.', "-"))),
            "meta-data/public-ipv4" => text(&self.address.to_string()),
            "user-data" => Response::new(Full::new(self.user_data.clone().into())),
            _ => refuse(StatusCode::NOT_FOUND),
        }
    }
}

fn text(text: &str) -> Response<Full<Bytes>> {
    Response::new(Full::new(text.to_owned().into()))
}

fn refuse(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

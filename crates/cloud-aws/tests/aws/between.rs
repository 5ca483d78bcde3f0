//! A proxy in front of an emulator that answers some calls as AWS would and the emulator does not.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stackpro_cloud_aws::Aws;
use tokio::task::JoinHandle;

use crate::moto::Moto;

/// One call as it arrived: `POST /2013-04-01/hostedzone/Z1/rrset`, and its body.
pub(crate) struct Call {
    pub(crate) what: String,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Rule = Box<dyn FnMut(&Call) -> Option<(u16, String)> + Send>;

struct Inner {
    target: String,
    http: Client<HttpConnector, Body>,
    rule: Mutex<Rule>,
    calls: Mutex<Vec<Call>>,
}

pub(crate) struct Between {
    inner: Arc<Inner>,
    endpoint: String,
    task: JoinHandle<()>,
}

impl Between {
    /// What `rule` answers is answered; everything else the emulator does.
    pub(crate) async fn and(moto: &Moto, rule: impl FnMut(&Call) -> Option<(u16, String)> + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Arc::new(Inner {
            target: moto.endpoint.clone(),
            http: Client::builder(TokioExecutor::new()).build_http(),
            rule: Mutex::new(Box::new(rule)),
            calls: Mutex::default(),
        });
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, endpoint, task }
    }

    pub(crate) async fn aws(&self, moto: &Moto) -> Aws {
        let mut settings = moto.aws().await.settings().clone();
        settings.endpoint = Some(self.endpoint.clone());
        moto.aws_at(settings).await
    }

    /// The calls so far whose description contains this.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.inner.calls.lock().unwrap().iter().filter(|call| call.what.contains(what)).count()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.calls.lock().unwrap().iter().map(|call| call.what.clone()).collect()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let call = Call { what: format!("{} {}", parts.method, parts.uri), body: body.clone() };
    let ruled = (inner.rule.lock().unwrap())(&call);
    inner.calls.lock().unwrap().push(call);
    if let Some((status, body)) = ruled {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    parts.uri = format!("{}{}", inner.target, parts.uri).parse::<Uri>().unwrap();
    match inner.http.request(Request::from_parts(parts, Body::from(body))).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

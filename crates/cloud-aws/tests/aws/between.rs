//! A proxy in front of an emulator that answers some calls as AWS would and the emulator does not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stackpro_cloud_aws::{Aws, AwsSettings};
use tokio::task::JoinHandle;

use crate::moto::Moto;

/// One call as it arrived: `POST /2013-04-01/hostedzone/Z1/rrset`, and its body.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) what: String,
    pub(crate) body: Bytes,
    /// `RunInstances`, where a protocol names it: in a form (EC2, IAM) or in a header (SSM).
    action: String,
}

impl Call {
    pub(crate) fn action(&self) -> &str {
        &self.action
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Of a form.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let uri: Uri = format!("http://call/?{}", self.text()).parse().unwrap();
        let Query(mut parameters) = Query::<HashMap<String, String>>::try_from_uri(&uri).unwrap();
        parameters.remove(name)
    }
}

/// What happens to one call.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// Refused with this code and message; the emulator never hears of it.
    Refused(&'static str, &'static str),
    /// Answered so; the emulator never hears of it.
    Answered(&'static str),
    /// It takes effect, and the connection breaks before the answer.
    AnswerLost,
}

type Rule = Box<dyn FnMut(&Call) -> Option<(u16, String)> + Send>;

struct Inner {
    target: String,
    http: Client<HttpConnector, Body>,
    rule: Mutex<Rule>,
    fates: Mutex<HashMap<String, VecDeque<Fate>>>,
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
            fates: Mutex::default(),
            calls: Mutex::default(),
        });
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, endpoint, task }
    }

    pub(crate) async fn aws(&self, moto: &Moto) -> Aws {
        self.aws_with(moto, moto.aws().await.settings().clone()).await
    }

    pub(crate) async fn aws_with(&self, moto: &Moto, settings: AwsSettings) -> Aws {
        let region = settings.region.clone().or(Some("eu-central-1".into()));
        moto.aws_at(AwsSettings { region, endpoint: Some(self.endpoint.clone()), ..settings }).await
    }

    /// The next calls of this action fare so, one after the other.
    pub(crate) fn plan(&self, action: &str, fates: impl IntoIterator<Item = Fate>) {
        self.inner.fates.lock().unwrap().entry(action.to_owned()).or_default().extend(fates);
    }

    /// The calls of this action so far.
    pub(crate) fn of(&self, action: &str) -> Vec<Call> {
        self.inner.calls.lock().unwrap().iter().filter(|call| call.action == action).cloned().collect()
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
    let what = format!("{} {}", parts.method, parts.uri);
    let call = Call { what, action: action(&parts.headers, &body), body: body.clone() };
    let ruled = (inner.rule.lock().unwrap())(&call);
    let fate = inner.fates.lock().unwrap().get_mut(&call.action).and_then(VecDeque::pop_front);
    inner.calls.lock().unwrap().push(call);
    if let Some((status, body)) = ruled {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    match fate {
        Some(Fate::Refused(code, message)) => return refusal(&parts.headers, code, message),
        Some(Fate::Answered(body)) => return body.into_response(),
        Some(Fate::AnswerLost) | None => {}
    }
    parts.uri = format!("{}{}", inner.target, parts.uri).parse::<Uri>().unwrap();
    match inner.http.request(Request::from_parts(parts, Body::from(body))).await {
        Ok(response) if matches!(fate, Some(Fate::AnswerLost)) => {
            // Read to its end, so that it has taken effect.
            to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap();
            let broken = std::io::Error::other("the connection breaks");
            Body::from_stream(futures::stream::iter([Ok(Bytes::new()), Err(broken)])).into_response()
        }
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

fn action(headers: &HeaderMap, body: &[u8]) -> String {
    if let Some(target) = headers.get("x-amz-target").and_then(|target| target.to_str().ok()) {
        return target.rsplit('.').next().unwrap_or_default().to_owned();
    }
    let body = String::from_utf8_lossy(body);
    body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default().to_owned()
}

/// Errors of the JSON protocol, of EC2 and of the query protocol have forms of their own.
fn refusal(headers: &HeaderMap, code: &str, message: &str) -> Response {
    let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    let is_json = headers.contains_key("x-amz-target");
    let is_ec2 = headers.get("authorization").is_some_and(|by| by.to_str().is_ok_and(|by| by.contains("/ec2/")));
    let body = match (is_json, is_ec2) {
        (true, _) => format!(r#"{{"__type":"{code}","message":"{message}"}}"#),
        (_, true) => format!("<Response><Errors>{error}</Errors><RequestID>r</RequestID></Response>"),
        _ => format!("<ErrorResponse>{error}<RequestId>r</RequestId></ErrorResponse>"),
    };
    (StatusCode::BAD_REQUEST, body).into_response()
}

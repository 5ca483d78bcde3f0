//! A call's way through the emulator: it is named and counted, takes its time, meets its fate, is made at
//! moto, and its answer is made as AWS's would be.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use super::call::Call;
use super::faults::{Event, Fault, Moment, Refusal};
use super::tokens::{Verdict, token_of};
use super::{Behaviour, Recorded, Shared, lock, names, release, xml};

/// Of everything, plenty.
const QUOTA: &str = r#"{ "Quota": { "Value": 10000.0 } }"#;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("dropped")]
struct Dropped;

/// Serves until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        drop(stream.set_nodelay(true));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// A task of its own, so that a call that began takes its effect though the caller has gone.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    // Whoever waits no longer has not called.
    let mut open = shared.open.subscribe();
    drop(open.wait_for(|open| *open).await);
    let made = tokio::spawn(async move { make(&shared, parts.method, parts.uri, parts.headers, body).await });
    made.await.map_err(|_| Dropped)?
}

async fn make(
    shared: &Shared,
    method: hyper::Method,
    uri: hyper::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    if let Some(name) = path.strip_prefix(release::PATH)
        && let Some(content) = shared.release.read(name).await
    {
        return Ok(respond(StatusCode::OK, "application/octet-stream", content));
    }
    let call = Call::read(&method, path, &headers, &body);
    let began = Instant::now();
    let (event, nth) = lock(&shared.plan).next(&call.name);
    let Behaviour { seed, latency, request_limits, .. } = shared.behaviour;
    // At the front door, before anything is done for it.
    let allowed = !request_limits || lock(&shared.limits).allow(&call, began);
    let held = latency.map_or(Duration::ZERO, |latency| latency.of(seed, &call.name, nth));
    tokio::time::sleep(held).await;
    let answer = if allowed {
        Answering { shared, call: &call, headers, body }.meet(event).await
    } else {
        Ok(refuse(&Refusal::throttled(&call.service), &call.service))
    };
    let (status, code) = match &answer {
        Ok(answer) => (Some(answer.status().as_u16()), code_of(answer).await),
        Err(Dropped) => (None, None),
    };
    let recorded = Recorded { call, began, held, took: began.elapsed(), status, code };
    lock(&shared.calls).push(recorded);
    answer
}

struct Answering<'a> {
    shared: &'a Shared,
    call: &'a Call,
    headers: HeaderMap,
    body: Bytes,
}

impl Answering<'_> {
    async fn meet(self, event: Option<Event>) -> Result<Response<Full<Bytes>>, Dropped> {
        let service = self.call.service.as_str();
        match event {
            Some(Event::Fault(Fault::Throttled)) => return Ok(refuse(&Refusal::throttled(service), service)),
            Some(Event::Fault(Fault::ServerError)) => return Ok(refuse(&Refusal::server_error(service), service)),
            Some(Event::Fault(Fault::Expired)) => return Ok(refuse(&Refusal::expired(service), service)),
            Some(Event::Fault(Fault::Wordless)) => {
                return Ok(respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", String::new()));
            }
            Some(Event::Fault(Fault::DroppedBefore)) => return Err(Dropped),
            Some(Event::Kill(pid, Moment::Before)) => {
                kill(pid);
                return Err(Dropped);
            }
            _ => {}
        }
        let answer = self.once().await;
        match event {
            Some(Event::Fault(Fault::DroppedAfter)) => Err(Dropped),
            Some(Event::Fault(Fault::Slow(by))) => {
                tokio::time::sleep(by).await;
                answer
            }
            Some(Event::Kill(pid, Moment::After)) => {
                kill(pid);
                Err(Dropped)
            }
            _ => answer,
        }
    }

    /// Makes the call, or answers what the same token was answered.
    async fn once(&self) -> Result<Response<Full<Bytes>>, Dropped> {
        let Some(token) = token_of(self.call) else { return self.forward().await };
        // Calls with tokens go one by one: of two with the same one, the second sees what became of the first.
        let mut tokens = self.shared.tokens.lock().await;
        match tokens.look(self.call, &token) {
            Verdict::Refused(refusal) => Ok(refuse(&refusal, &self.call.service)),
            Verdict::Again(answer) => {
                if let Some(refusal) = self.shared.machines.terminated_since(self.shared, &answer).await {
                    return Ok(refuse(&refusal, &self.call.service));
                }
                Ok(respond(StatusCode::OK, "text/xml;charset=UTF-8", answer))
            }
            Verdict::Fresh => {
                let answer = self.forward().await?;
                let (parts, body) = answer.into_parts();
                let body = bytes_of(body).await;
                if parts.status.is_success() {
                    tokens.used(self.call, &token, &String::from_utf8_lossy(&body));
                }
                Ok(Response::from_parts(parts, Full::new(body)))
            }
        }
    }

    async fn forward(&self) -> Result<Response<Full<Bytes>>, Dropped> {
        let shared = self.shared;
        if self.call.service == "ses"
            && let Some((status, body)) = shared.ses.answer(shared, self.call).await
        {
            let status = StatusCode::from_u16(status).expect("a status");
            return Ok(respond(status, "application/json", body.to_string()));
        }
        // moto knows the quotas of networks alone.
        if self.call.service == "servicequotas" {
            return Ok(respond(StatusCode::OK, "application/x-amz-json-1.1", QUOTA.to_owned()));
        }
        let mut headers = self.headers.clone();
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        headers.insert("x-moto-account-id", HeaderValue::from_str(&shared.account).map_err(|_| Dropped)?);
        let address = format!("{}{}", shared.moto.endpoint, self.call.path);
        let request = shared.http.request(self.call.method.clone(), address).headers(headers);
        let answer = request.body(self.body.clone()).send().await.map_err(|_| Dropped)?;
        let status = answer.status();
        // moto stumbles over a role that is not there (any more).
        if self.call.name == "iam.RemoveRoleFromInstanceProfile" && status.is_server_error() {
            let missing = Refusal::new(404, "NoSuchEntity", "The role is not in the instance profile.");
            return Ok(refuse(&missing, "iam"));
        }
        let mut headers = answer.headers().clone();
        let body = answer.bytes().await.map_err(|_| Dropped)?;
        let body = self.as_aws_says(body);
        for of_the_connection in ["connection", "content-length", "transfer-encoding"] {
            headers.remove(of_the_connection);
        }
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }

    /// What moto answers otherwise than AWS.
    fn as_aws_says(&self, body: Bytes) -> Bytes {
        let shared = self.shared;
        let Ok(text) = std::str::from_utf8(&body) else { return body };
        match self.call.name.as_str() {
            "route53.ChangeResourceRecordSets" | "route53.DeleteHostedZone" => {
                shared.records.changed();
                let pending = text.replace("<Status>INSYNC</Status>", "<Status>PENDING</Status>");
                // To moto all changes are one.
                let Some(same) = xml::text(text, "Id") else { return pending.into() };
                let mut changes = lock(&shared.changes);
                let id = format!("C{:013}", changes.len() + 1);
                let answer = pending.replace(&format!("<Id>{same}</Id>"), &format!("<Id>/change/{id}</Id>"));
                changes.insert(id, Instant::now());
                answer.into()
            }
            "route53.GetChange" if names::is_pending(shared, &id_of(&self.call.path)) => {
                text.replace("<Status>INSYNC</Status>", "<Status>PENDING</Status>").into()
            }
            _ if self.call.service == "ec2" => {
                let answer = shared.machines.rewritten(self.call, text, shared.behaviour.latency.as_ref());
                if self.call.operation().ends_with("Instances") && !self.call.operation().starts_with("Describe") {
                    shared.changed.notify_one();
                }
                answer.into()
            }
            _ => body,
        }
    }
}

/// Of the change that is asked about: `/2013-04-01/change/C123`.
fn id_of(path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    let _ = kill_process(pid, Signal::KILL);
}

fn refuse(refusal: &Refusal, service: &str) -> Response<Full<Bytes>> {
    let (kind, body) = refusal.body(service);
    let status = StatusCode::from_u16(refusal.status).expect("a status");
    let mut answer = respond(status, kind, body);
    // Services with JSON bodies tell the error by it.
    answer.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(refusal.code));
    answer
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

async fn bytes_of(body: Full<Bytes>) -> Bytes {
    match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    }
}

/// The code of an error's answer.
async fn code_of(answer: &Response<Full<Bytes>>) -> Option<String> {
    if answer.status().is_success() {
        return None;
    }
    let header = answer.headers().get("x-amzn-errortype").and_then(|code| code.to_str().ok()).map(str::to_owned);
    let body = bytes_of(answer.body().clone()).await;
    let body = String::from_utf8_lossy(&body);
    let json = || serde_json::from_str::<serde_json::Value>(&body).ok()?["__type"].as_str().map(str::to_owned);
    header.or_else(|| xml::text(&body, "Code").map(str::to_owned)).or_else(json)
}

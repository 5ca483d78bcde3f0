//! From the front door to a stack in containers, and the storage limit on the way.

use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::project::Project;
use crate::agent::Agent;
use crate::front::is_read;
use crate::proxy;
use crate::site::{Visit, pages};
use crate::stack::Stack;

/// How long a visitor waits for a stack that is starting before they are told so.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a program may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// A body up to this size is let through when the storage is full, or nobody could sign in to make room.
const SMALL: u64 = 64 * 1024;

pub(crate) async fn handle(
    agent: &Agent,
    stack: &Stack,
    project: &Project,
    visit: &Visit,
    mut request: Request,
) -> Response {
    if !is_read(request.method())
        && let Err(full) = check_storage(stack, project, &request)
    {
        return pages::full(&stack.spec(), &full);
    }
    let Some(stream) = connect(agent, project).await else { return pages::starting() };
    request.headers_mut().remove(proxy::PASS);
    proxy::forward_on(stream, request, visit.address).await.unwrap_or_else(|error| {
        tracing::warn!(client = %stack.client(), %error, "a stack did not answer");
        pages::starting()
    })
}

/// Reaches the stack where it is now. A program that was started again has another address.
async fn connect(agent: &Agent, project: &Project) -> Option<TcpStream> {
    let until = Instant::now() + PATIENCE;
    loop {
        let address = project.ready_by(until).await?;
        if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
            return Some(stream);
        }
        project.lost(address);
        agent.unsettled.notify_one();
    }
}

/// What is stored is measured every few seconds, so the limit bites with that delay, and programs that write
/// by themselves are not stopped: what they are sent is.
fn check_storage(
    stack: &Stack,
    project: &Project,
    request: &Request,
) -> Result<(), stackpro_domain::limits::LimitReached> {
    let (used, _) = project.volumes.usage();
    let limits = stack.spec().limits;
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    match header("content-length").map(str::parse) {
        Some(Ok(bytes)) if bytes > SMALL => limits.check_storage(used, bytes),
        // Its size is not known before it is there.
        None if header("transfer-encoding").is_some() => limits.check_storage(used, 1),
        _ => Ok(()),
    }
}

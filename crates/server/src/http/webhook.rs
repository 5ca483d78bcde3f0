//! The till's webhooks: proved, stored, and answered after the commit. What they mean is found out later,
//! by [`crate::reconcilers::till_events`].

use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use stackpro_protocol::api::Problem;
use stackpro_store::{Store, StoreError, TillEvent, TillEventState};
use tokio::sync::{mpsc, oneshot};

use super::App;
use super::extract::read;
use crate::problem::{Error, Result};
use crate::till::signature;

const BODY_LIMIT: usize = 1024 * 1024;
/// Events that are committed together, and that may wait for it.
const GROUP: usize = 256;
const WAITING: usize = 2 * GROUP;

/// An event of the till.
#[utoipa::path(post, path = "/api/stripe-webhook", tag = "till",
    request_body(content = Object, description = "Stripe's event, signed by `Stripe-Signature`"), responses(
    (status = 200, description = "Stored, or known already"),
    (status = 400, body = Problem, description = "The signature is wrong or stale, or it is no event"),
    (status = 503, body = Problem, description = "Not stored: send it again"),
))]
pub(super) async fn receive_event(State(app): State<App>, request: Request) -> Result<StatusCode> {
    let (parts, body) = request.into_parts();
    let body = read(body, BODY_LIMIT).await?;
    let header = parts.headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let world = &app.world;
    // The simulated till signs by the business's clock, which on a real cloud is real time too.
    signature::verify(header, &body, &world.till.webhook_secrets(), world.now())
        .map_err(|error| refused("bad_signature", error.to_string()))?;
    let event = event(&body, world.now()).ok_or_else(|| refused("bad_event", "This is not an event.".into()))?;
    app.webhooks.write(event).await?;
    Ok(StatusCode::OK)
}

fn refused(kind: &'static str, detail: String) -> Error {
    Error::Unreadable { status: StatusCode::BAD_REQUEST, kind, detail }
}

fn event(body: &[u8], now: stackpro_domain::Time) -> Option<TillEvent> {
    #[derive(Deserialize)]
    struct Envelope {
        id: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let payload = std::str::from_utf8(body).ok()?;
    let Envelope { id, kind } = serde_json::from_str(payload).ok()?;
    let word = |text: &str| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    (word(&id) && word(&kind)).then(|| TillEvent {
        id,
        kind,
        payload: payload.to_owned(),
        state: TillEventState::Received,
        attempts: 0,
        error: None,
        received_at: now,
        handled_at: None,
    })
}

type Waiting = (TillEvent, oneshot::Sender<std::result::Result<(), String>>);

/// Commits events in groups, so that many a second cost few commits. It ends when this is dropped.
pub(super) struct Writer {
    queue: mpsc::Sender<Waiting>,
}

impl Writer {
    pub(super) fn start(store: Store) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Waiting>(WAITING);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(GROUP);
            while waiting.recv_many(&mut group, GROUP).await > 0 {
                let (events, answers): (Vec<_>, Vec<_>) = group.drain(..).unzip();
                let written = write(&store, &events).await.map_err(|error| error.to_string());
                for answer in answers {
                    drop(answer.send(written.clone()));
                }
            }
        });
        Self { queue }
    }

    /// Returns once it is committed.
    async fn write(&self, event: TillEvent) -> Result<()> {
        let (answer, written) = oneshot::channel();
        self.queue.try_send((event, answer)).map_err(|_| Error::Busy("Too many events wait. Send this one again."))?;
        let written = written.await.map_err(|_| Error::Unavailable("the webhook writer has ended".into()))?;
        written.map_err(|cause| Error::Unavailable(format!("an event was not stored: {cause}")))
    }
}

async fn write(store: &Store, events: &[TillEvent]) -> std::result::Result<(), StoreError> {
    let mut tx = store.begin().await?;
    tx.insert_till_events(events).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_plain_id_and_type_is_an_event() {
        let read = |text: &str| event(text.as_bytes(), stackpro_domain::Time(1)).is_some();
        assert!(read(r#"{"id":"evt_1","type":"invoice.paid","data":{}}"#));
        let long = format!(r#"{{"id":"{}","type":"a"}}"#, "x".repeat(256));
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"id":1,"type":"a"}"#,
            r#"{"id":"a\u0000","type":"a"}"#,
            r#"{"id":"","type":"a"}"#,
            &long,
        ] {
            assert!(!read(bad), "{bad}");
        }
        assert!(event(b"\xff", stackpro_domain::Time(1)).is_none());
    }
}

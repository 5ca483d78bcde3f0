//! What the cloud tells of mails: proved to be the cloud's, stored with what follows from it, and answered after
//! the commit, so that what is lost on the way is told again.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use stackpro_cloud::{CloudError, MailEvent};
use stackpro_protocol::api::Problem;
use stackpro_store::{MailEvent as Row, StoreError, Tx};

use super::App;
use super::extract::read;
use crate::problem::{Error, Result};

/// Four times what SNS sends at most.
const BODY_LIMIT: usize = 1024 * 1024;
/// Longer ones are cut: they are told by strangers.
const DETAIL_CHARS: usize = 500;

/// What became of mails, as the cloud tells it.
#[utoipa::path(post, path = "/api/mail-events", tag = "mail",
    request_body(content = Object, description = "Amazon SNS's message, or the local cloud's, with its signature"),
    responses(
    (status = 200, description = "Stored, or known already"),
    (status = 400, body = Problem, description = "It is not signed by the cloud, or not meant for us"),
    (status = 503, body = Problem, description = "Not stored: send it again"),
))]
pub(super) async fn receive_mail_events(State(app): State<App>, request: Request) -> Result<StatusCode> {
    let body = read(request.into_body(), BODY_LIMIT).await?;
    let world = &app.world;
    let events = world.cloud.mail.read_events(&body).await.map_err(|error| match error {
        CloudError::Refused { cause, .. } => {
            let detail = format!("This is not an event of ours: {cause}.");
            Error::Unreadable { status: StatusCode::BAD_REQUEST, kind: "bad_event", detail }
        }
        _ => Error::Unavailable(error.to_string()),
    })?;
    if events.is_empty() {
        return Ok(StatusCode::OK);
    }
    let mut tx = world.store.begin().await?;
    for event in events {
        let row = row(&app, &mut tx, event).await?;
        if tx.mail_told(&row).await? && row.fate.suppresses() {
            tracing::warn!(mail = row.mail_id, fate = row.fate.as_str(), "an address gets no more mail");
        }
    }
    tx.commit().await?;
    Ok(StatusCode::OK)
}

/// A mail that is not one of ours is the client's whose name it came from.
async fn row(app: &App, tx: &mut Tx, event: MailEvent) -> std::result::Result<Row, StoreError> {
    let client_id = match (&event.message, &event.from_domain) {
        (None, Some(domain)) => tx.client_by_host(domain).await?,
        _ => None,
    };
    Ok(Row {
        id: event.id,
        mail_id: event.message,
        client_id,
        address: event.to,
        fate: event.fate,
        detail: event.detail.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect(),
        at: event.at,
        received_at: app.world.now(),
    })
}

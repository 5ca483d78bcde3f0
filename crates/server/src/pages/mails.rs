//! The operator's pages about mail: the log, one mail, and the addresses that get none.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use stackpro_domain::mail::MailState;
use stackpro_store::{MailEvent, MailFilter, MailLine, StoreError, Suppression};

use super::console::Console;
use super::form::{Posted, Refusal, go, page, page_with};
use super::lists::mail_row;
use crate::http::{self, App};
use crate::problem::{Error, Result};
use crate::web::mails::{MailHistory, MailLog, Suppressed, SuppressedRow, ToldRow};

const PAGE: u32 = 50;

type Asked = Query<HashMap<String, String>>;

pub(super) async fn show_log(State(app): State<App>, console: Console, query: Asked) -> Result<Response> {
    let text = |name: &str| query.get(name).map(|value| value.trim().chars().take(64).collect()).unwrap_or_default();
    let (client, state): (String, String) = (text("client"), text("state"));
    let wanted = if client.is_empty() { Ok(None) } else { client.parse().map(Some) };
    let state = MailState::parse(&state);
    let (rows, next, problem) = match wanted {
        Ok(client) => {
            let found = app.world.store.mails(&MailFilter { client, state }, after(&query), PAGE).await;
            let found = found.map_err(unknown_page)?;
            (found.rows, found.next, None)
        }
        Err(error) => (Vec::new(), None, Some(format!("{error}."))),
    };
    let rows = rows.iter().map(mail_row).collect();
    let state = state.map(|state| state.as_str().to_owned()).unwrap_or_default();
    page(&MailLog { frame: console.frame, rows, client, state, problem, next })
}

fn after(query: &HashMap<String, String>) -> Option<&str> {
    query.get("after").map(String::as_str).filter(|after| !after.is_empty())
}

/// A page that was never linked is not there.
fn unknown_page(error: StoreError) -> Error {
    if matches!(error, StoreError::Invalid(_)) { Error::NotFound } else { error.into() }
}

pub(super) async fn show_history(
    State(app): State<App>,
    console: Console,
    Path(mail_id): Path<String>,
) -> Result<Response> {
    let store = &app.world.store;
    let mail = store.mail(&mail_id).await?.ok_or(Error::NotFound)?;
    let told = store.mail_events(&mail.id).await?;
    let suppressed = store.suppression(&mail.to).await?.is_some();
    let line = MailLine {
        id: mail.id,
        client_id: mail.client_id,
        kind: mail.kind,
        to: mail.to,
        subject: mail.subject,
        state: mail.state,
        error: mail.error,
        created_at: mail.created_at,
        sent_at: mail.sent_at,
    };
    page(&MailHistory {
        frame: console.frame,
        mail: mail_row(&line),
        kind: line.kind,
        attempts: mail.attempts,
        created_at: line.created_at,
        told: told.into_iter().map(told_row).collect(),
        suppressed,
    })
}

fn told_row(event: MailEvent) -> ToldRow {
    ToldRow { fate: event.fate.as_str().to_owned(), detail: event.detail, at: event.at }
}

pub(super) async fn show_suppressed(State(app): State<App>, console: Console, query: Asked) -> Result<Response> {
    page(&suppressed(&app, console, after(&query), None).await?)
}

async fn suppressed(app: &App, console: Console, after: Option<&str>, problem: Option<String>) -> Result<Suppressed> {
    let found = app.world.store.suppressions(after, PAGE).await.map_err(unknown_page)?;
    let row = |row: Suppression| SuppressedRow {
        address: row.address,
        fate: row.fate.as_str().to_owned(),
        detail: row.detail,
        since: row.since,
    };
    Ok(Suppressed { frame: console.frame, rows: found.rows.into_iter().map(row).collect(), problem, next: found.next })
}

pub(super) async fn lift(State(app): State<App>, console: Console, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    match http::lift_suppression(&app, &console.operator, fields.get("address")).await {
        Ok(()) => Ok(go("/console/mails/suppressed?said=lifted")),
        Err(error) => {
            let Refusal { status, problem, .. } = Refusal::of(error)?;
            page_with(status, &suppressed(&app, console, None, problem).await?)
        }
    }
}

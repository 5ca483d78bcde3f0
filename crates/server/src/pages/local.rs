//! What only the local cloud has: the mailbox and the time machine.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use stackpro_cloud::Message;
use stackpro_domain::Time;
use stackpro_domain::lifecycle::State as LifeState;
use stackpro_domain::time::{DAY, HOUR};
use stackpro_store::ClientFilter;

use super::console::Console;
use super::form::{Posted, go, page, page_with};
use super::lists::next_date;
use crate::http::App;
use crate::problem::{Error, Result};
use crate::web::console::{MailPage, MailRow, Mailbox, TimeMachine, Upcoming};
use crate::world::{self, Delivered};

const PAGE: usize = 50;
const MAX_MAILS: usize = 1_000;
const UPCOMING: usize = 10;

fn mailbox(app: &App) -> Result<Arc<dyn world::Mailbox>> {
    app.world.mailbox.clone().ok_or(Error::NotFound)
}

fn row(mail: &Delivered) -> MailRow {
    let (to, subject) = (mail.message.to.clone(), mail.message.subject.clone());
    let href = format!("/console/mailbox/{}", mail.key);
    MailRow { href, to, subject, state: "sent".to_owned(), cause: None, client: None, at: mail.at }
}

pub(super) async fn show_mailbox(
    State(app): State<App>,
    console: Console,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response> {
    let mails = mailbox(&app)?.list(MAX_MAILS).await.map_err(Error::Unavailable)?;
    let pages = mails.len().div_ceil(PAGE).max(1);
    let at = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, pages);
    let rows = mails.iter().skip((at - 1) * PAGE).take(PAGE).map(row);
    page(&Mailbox { frame: console.frame, rows: rows.collect(), page: at as u32, pages: pages as u32 })
}

pub(super) async fn show_mail(State(app): State<App>, console: Console, Path(key): Path<String>) -> Result<Response> {
    let mail = mailbox(&app)?.get(&key).await.map_err(Error::Unavailable)?.ok_or(Error::NotFound)?;
    let mail_row = row(&mail);
    let Message { html, text, reply_to, .. } = mail.message;
    let mut response = page(&MailPage { frame: console.frame, mail: mail_row, reply_to, html, text })?;
    if let Ok(csp) = HeaderValue::from_str(&crate::web::mail_page_csp()) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, csp);
    }
    Ok(response)
}

pub(super) async fn show_time(State(app): State<App>, console: Console) -> Result<Response> {
    page(&time_view(&app, console, None).await?)
}

async fn time_view(app: &App, console: Console, problem: Option<String>) -> Result<TimeMachine> {
    let machine = app.world.time_machine.as_ref().ok_or(Error::NotFound)?;
    Ok(TimeMachine {
        offset_ms: machine.offset(),
        upcoming: upcoming(app).await?,
        till_at: till_at(machine.as_ref(), app.world.now()),
        problem,
        frame: console.frame,
    })
}

/// When the simulated Stripe next does something by itself.
fn till_at(machine: &dyn world::TimeMachine, now: Time) -> Option<Time> {
    machine.next_due().filter(|at| *at > now)
}

/// The next dates among the newest clients; the nearest first.
async fn upcoming(app: &App) -> Result<Vec<Upcoming>> {
    let rows = app.world.store.clients(&ClientFilter::default(), None, 200).await?.rows;
    let alive = rows.iter().filter(|row| row.state != LifeState::Deleted);
    let mut upcoming: Vec<Upcoming> = alive
        .filter_map(|row| {
            let date = next_date(row)?;
            Some(Upcoming { client: row.id.clone(), company: row.company.clone(), date })
        })
        .collect();
    upcoming.sort_by_key(|item| item.date.at);
    upcoming.truncate(UPCOMING);
    Ok(upcoming)
}

pub(super) async fn move_time(State(app): State<App>, console: Console, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    let world = &app.world;
    let machine = world.time_machine.clone().ok_or(Error::NotFound)?;
    let now = world.now();
    let ms = match fields.get("advance") {
        "hour" => Some(HOUR),
        "day" => Some(DAY),
        "week" => Some(7 * DAY),
        "next" => {
            let clients = world.store.next_date_after(now).await?;
            clients.into_iter().chain(till_at(machine.as_ref(), now)).min().map(|at| at.since(now).max(0))
        }
        _ => None,
    };
    let moved = match ms {
        Some(ms) => machine.advance(ms).map(drop),
        None => Err("Nothing is due.".to_owned()),
    };
    match moved {
        Ok(()) => {
            world.wakes.lifecycle.notify_one();
            Ok(go("/console/time?said=moved"))
        }
        Err(problem) => page_with(StatusCode::CONFLICT, &time_view(&app, console, Some(problem)).await?),
    }
}

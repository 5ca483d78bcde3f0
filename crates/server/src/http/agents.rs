//! What agents say (see [`stackpro_protocol::agent`]). Everything in it is hostile until it is checked.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use stackpro_domain::InstanceId;
use stackpro_domain::time::MINUTE;
use stackpro_protocol::agent::{Enrol, Enrolled, Report, VisitorMessage};
use stackpro_store::{Counters, InstancePhase, InstanceRow, Purpose, SetupFailure, Tx};
use subtle::ConstantTimeEq;

use super::App;
use super::extract::{Check, read, read_json};
use crate::auth::{bearer, hash_token, limit_rate};
use crate::letters;
use crate::problem::{Error, Result};

/// An instance has tens of stacks, not thousands.
const REPORT_LIMIT: usize = 256 * 1024;
const MAX_STACKS: usize = 500;
/// Of a setup's log: what is taken, and what of it is kept.
const LOG_LIMIT: usize = 256 * 1024;
const LOG_CHARS: usize = 8_000;
/// Characters of what we call an edition.
const MAX_EDITION: usize = 100;
/// Bytes of a visitor's message with its name and address, and characters of its text.
const MESSAGE_LIMIT: usize = 64 * 1024;
const MESSAGE_CHARS: usize = 5_000;
/// An agent whose answer was lost may enrol again, so long after.
const ENROL_AGAIN_MS: i64 = 10 * MINUTE;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/api/agents/enrol", post(enrol))
        .route("/api/agents/setup-failed", post(setup_failed))
        .route("/api/agents/report", post(report))
        .route("/api/agents/messages", post(message))
}

async fn enrol(State(app): State<App>, request: Request) -> Result<axum::Json<Enrolled>> {
    let body: Enrol = read_json(&read(request.into_body(), super::extract::BODY_LIMIT).await?)?;
    let version = short(&body.version)?;
    let world = &app.world;
    let now = world.real_now();
    let mut tx = world.store.begin().await?;
    let mut row = match tx.use_token(Purpose::Enrol, &hash_token(&body.token), now).await? {
        Some(subject) => named(&mut tx, &subject).await?,
        None => enrolled_just_now(&app, &mut tx, &body).await?,
    };
    if row.cloud_id.as_ref().is_some_and(|id| *id != body.instance_id) || row.state == InstancePhase::Released {
        return Err(Error::Forbidden("This token is another instance's."));
    }
    row.cloud_id = Some(body.instance_id.clone());
    if row.enrolled_at.is_some() && row.fingerprint != body.fingerprint {
        return Err(Error::Forbidden("This agent enrolled with another certificate."));
    }
    row.front = Some(body.front);
    row.control = Some(body.control);
    row.fingerprint = body.fingerprint;
    row.version = Some(version);
    row.enrolled_at.get_or_insert(now);
    row.last_report_at = Some(now);
    tx.update_instance(&row).await?;
    tx.set_setup_failure(&row.id, None).await?;
    tx.commit().await?;
    tracing::info!(instance = %body.instance_id, "an agent enrolled");
    Ok(axum::Json(Enrolled { key: world.secrets.agent_key(&body.instance_id) }))
}

async fn named(tx: &mut Tx, subject: &str) -> Result<InstanceRow> {
    let id = subject.parse().map_err(|_| Error::Internal("a token's subject is no instance".into()))?;
    tx.instance(&id).await?.ok_or(Error::Forbidden("This token is of no instance."))
}

/// The token is used up; by this very instance, a moment ago?
async fn enrolled_just_now(app: &App, tx: &mut Tx, body: &Enrol) -> Result<InstanceRow> {
    let refused = || Error::Forbidden("This token is used up, too old, or none of ours.");
    let world = &app.world;
    let known = world.store.instance_by_cloud_id(&body.instance_id).await?.ok_or_else(refused)?;
    let row = tx.instance(&known.id).await?.ok_or_else(refused)?;
    let token = world.secrets.enrol_token(&row.id);
    let same = bool::from(token.as_bytes().ct_eq(body.token.as_bytes()));
    let recent = row.enrolled_at.is_some_and(|at| world.real_now().since(at) < ENROL_AGAIN_MS);
    if same && recent { Ok(row) } else { Err(refused()) }
}

/// The log of a setup that failed before there was an agent, proved by the token that the agent will enrol with.
async fn setup_failed(State(app): State<App>, headers: HeaderMap, request: Request) -> Result<StatusCode> {
    let body = read(request.into_body(), LOG_LIMIT).await?;
    let given = bearer(&headers).ok_or(Error::SignIn)?;
    let now = app.world.real_now();
    let mut tx = app.world.store.begin().await?;
    let subject = tx.token_subject(Purpose::Enrol, &hash_token(given), now).await?;
    let subject = subject.ok_or(Error::Forbidden("This token is used up, too old, or none of ours."))?;
    let row = named(&mut tx, &subject).await?;
    let log = end_of(&String::from_utf8_lossy(&body));
    tracing::warn!(instance = %row.id, said = log.lines().last().unwrap_or_default(), "an instance's setup failed");
    tx.set_setup_failure(&row.id, Some(&SetupFailure { log, at: now })).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The last [`LOG_CHARS`], in lines.
fn end_of(log: &str) -> String {
    let shown: Vec<char> = log.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    let start = shown.len().saturating_sub(LOG_CHARS);
    shown[start..].iter().collect::<String>().trim().to_owned()
}

async fn report(State(app): State<App>, headers: HeaderMap, request: Request) -> Result<StatusCode> {
    let body: Report = read_json(&read(request.into_body(), REPORT_LIMIT).await?)?;
    let world = &app.world;
    prove(&app, &headers, &body.instance_id)?;
    let version = short(&body.version)?;
    if body.edition.as_ref().is_some_and(|edition| edition.len() > MAX_EDITION) {
        return Err(Error::field("edition", "is none of ours"));
    }
    if body.stacks.len() > MAX_STACKS {
        return Err(Error::field("stacks", format!("may have {MAX_STACKS} at most")));
    }
    let known = world.store.instance_by_cloud_id(&body.instance_id).await?.ok_or(Error::Gone)?;
    let placed = world.store.clients_on(&known.id).await?;
    let now = world.real_now();
    let mut tx = world.store.begin().await?;
    let row = tx.instance(&known.id).await?.filter(|row| row.state != InstancePhase::Released);
    let mut row = row.ok_or(Error::Gone)?;
    row.front = Some(body.front);
    row.control = Some(body.control);
    row.version = Some(version);
    row.edition = body.edition;
    row.last_report_at = Some(now);
    tx.update_instance(&row).await?;
    // It may only speak for who was placed on it.
    let stacks = body.stacks.into_iter().filter(|stack| placed.contains(&stack.client_id));
    let reported = stacks.map(|stack| {
        let counters = Counters {
            storage_bytes: bounded(stack.usage.storage_bytes),
            files: bounded(stack.usage.files),
            requests: bounded(stack.usage.requests),
            traffic_bytes: bounded(stack.usage.traffic_bytes),
        };
        (stack.client_id, counters)
    });
    tx.record_usages(&row.id, reported.collect(), now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether these are the words of this instance's agent.
fn prove(app: &App, headers: &HeaderMap, instance: &InstanceId) -> Result<()> {
    let key = app.world.secrets.agent_key(instance);
    let given = bearer(headers).ok_or(Error::SignIn)?;
    if bool::from(key.as_bytes().ct_eq(given.as_bytes())) { Ok(()) } else { Err(Error::SignIn) }
}

/// A visitor's message. The limit is checked where the mail is written, so that two messages at once do not pass it.
async fn message(State(app): State<App>, headers: HeaderMap, request: Request) -> Result<StatusCode> {
    let body: VisitorMessage = read_json(&read(request.into_body(), MESSAGE_LIMIT).await?)?;
    prove(&app, &headers, &body.instance_id)?;
    let mut check = Check::default();
    let visitor = letters::Visitor {
        name: check.name("name", &body.name),
        email: check.email("email", &body.email),
        message: check.text("message", &body.message, MESSAGE_CHARS),
    };
    let is_id =
        (16..=64).contains(&body.id.len()) && body.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    check.take("id", is_id.then_some(()), "must be 16 to 64 lower case letters and digits");
    check.finish()?;
    let world = &app.world;
    let known = world.store.instance_by_cloud_id(&body.instance_id).await?.ok_or(Error::Gone)?;
    // It may only speak for who was placed on it.
    if !world.store.clients_on(&known.id).await?.contains(&body.client_id) {
        return Err(Error::NotFound);
    }
    limit_rate(&app, &[(format!("messages:{}", body.client_id), world.settings.rates.messages_client)]).await?;
    let mut tx = world.store.begin().await?;
    let client = tx.client(&body.client_id).await?.ok_or(Error::NotFound)?;
    if !client.life.state.is_served() {
        return Err(Error::NotNow("This client's site is paused.".into()));
    }
    let written = letters::visitor_wrote(world, &mut tx, &client, &body.id, &visitor).await;
    tx.commit().await?;
    written.map(|()| StatusCode::ACCEPTED)
}

/// What fits the database, sums included: 4 exabytes are more than any instance has.
fn bounded(count: u64) -> u64 {
    count.min(1 << 52)
}

fn short(version: &str) -> Result<String> {
    let ok = (1..=64).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_graphic());
    if ok { Ok(version.to_owned()) } else { Err(Error::field("version", "is not a version")) }
}

//! The operator's pages: the overview, one client, one flow, and the link that makes the first operator.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::response::Response;
use serde::Deserialize;
use stackpro_domain::lifecycle::State as LifeState;
use stackpro_domain::reversal::Reversal;
use stackpro_domain::{ClientId, FlowId};
use stackpro_flow::{FlowState, StepState};
use stackpro_protocol::api::{GivePlanRequest, Invoice};
use stackpro_store::{Client, ClientFilter, MailFilter, Member, Purpose, Role, StackPhase, Timeline, Whose};

use super::costs;
use super::form::{Open, Posted, Refusal, flash, go, page, page_with, site_frame};
use super::lists::{client_row, flow_row, instance_rows, mail_row, resource_row, used_months};
use super::site::{enter, new_password};
use crate::auth::{Caller, Operator, hash_token};
use crate::certificates;
use crate::flows;
use crate::http::extract::Check;
use crate::http::{self, App, Gift, Order, shape};
use crate::problem::{Error, Result};
use crate::web::console::{
    Actions, CertificateState, ClientPage, DisputeRow, FirstOperator, FlowPage, FlowRow, FlowStep, MailRow, Overview,
    StateCount,
};
use crate::web::frame::ConsoleFrame;
use crate::world::World;

/// Instances that the overview shows.
const SHOWN: usize = 10;
/// Disputes to be answered that it shows.
const DISPUTES: u32 = 20;
/// How long a page waits for the till.
const INVOICES_WITHIN: Duration = Duration::from_secs(3);

/// An operator, and what every page of the console shows around itself.
pub(super) struct Console {
    pub(super) operator: Member,
    pub(super) frame: ConsoleFrame,
}

impl FromRequestParts<App> for Console {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let Caller(claims) = Caller::from_request_parts(parts, app).await?;
        let Operator(operator) = Operator::from_request_parts(parts, app).await?;
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, app).await.unwrap_or_default();
        let world = &app.world;
        let (flows, events) =
            (world.store.flows_needing_attention().await?, world.store.till_events_needing_attention().await?);
        let frame = ConsoleFrame {
            csrf: world.secrets.csrf_token(&claims.session),
            operator: format!("{} {}", operator.first_name, operator.last_name),
            local: world.time_machine.is_some(),
            attention: flows + events,
            now: world.now(),
            flash: flash(query.0.get("said")),
            notice: world.mail_account.get().and_then(|account| account.warning),
        };
        Ok(Self { operator, frame })
    }
}

pub(super) async fn show_overview(State(app): State<App>, console: Console) -> Result<Response> {
    let store = &app.world.store;
    let counts = store.counts_by_state().await?;
    let parked = store.flows(Some(FlowState::Parked), None, 20).await?;
    let strange = flows::strange(store, 20).await?;
    let waits = strange.iter().map(|flow| flow.id.clone()).collect::<Vec<_>>();
    let attention = store.with_steps(parked.rows.into_iter().chain(strange).collect()).await?;
    let attention = attention.iter().map(|timeline| FlowRow {
        waits_for: waits.contains(&timeline.flow.id).then(|| timeline.flow.name()),
        ..flow_row(timeline)
    });
    let newest = store.clients(&ClientFilter::default(), None, 8).await?;
    let drift = app.world.drift.get();
    let month = app.world.month(Whose::Everyones).await?;
    let mut instances = instance_rows(&app.world, &month).await?;
    let instance_count = instances.len();
    instances.truncate(SHOWN);
    page(&Overview {
        counts: counts.into_iter().map(|(s, count)| StateCount { state: s.as_str().to_owned(), count }).collect(),
        month: costs::this_month(&app.world, &month),
        attention: attention.collect(),
        events: store.till_events_needing_attention().await?,
        disputes: store.unanswered_disputes(DISPUTES).await?.iter().filter_map(dispute_row).collect(),
        leaks: drift.count(),
        certificate: certificates::state(&app.world)
            .await
            .map(|state| CertificateState { is_well: state.is_ok(), text: state.unwrap_or_else(|wrong| wrong) }),
        instances,
        instance_count,
        newest: newest.rows.iter().map(|row| client_row(row, &month)).collect(),
        frame: console.frame,
    })
}

fn dispute_row((client, dispute): &(ClientId, Reversal)) -> Option<DisputeRow> {
    let answer_by = dispute.answer_by()?;
    Some(DisputeRow { client: client.clone(), amount: dispute.amount, answer_by })
}

pub(super) async fn show_client(
    State(app): State<App>,
    console: Console,
    Path(client_id): Path<String>,
) -> Result<Response> {
    let client = client_id.parse().map_err(|_| Error::NotFound)?;
    page(&client_page(&app, console, &client, None).await?)
}

async fn client_page(app: &App, console: Console, id: &ClientId, problem: Option<String>) -> Result<ClientPage> {
    let world = &app.world;
    let row = world.store.dashboard(id, &console.operator.id).await?.ok_or(Error::NotFound)?;
    let client = &row.client;
    let owner = world.store.members(id).await?.into_iter().find(|member| member.role == Role::Owner);
    let flows = world.store.timelines(id, 20).await?;
    let ours = MailFilter { client: Some(id.clone()), state: None };
    let mails = world.store.mails(&ours, None, 20).await?.rows;
    let month = world.month(Whose::Clients(std::slice::from_ref(id))).await?;
    Ok(ClientPage {
        client: shape::client(client),
        owner_name: owner.as_ref().map(|o| format!("{} {}", o.first_name, o.last_name)).unwrap_or_default(),
        owner_email: owner.as_ref().map(|o| o.email.clone()).unwrap_or_default(),
        owner_verified: owner.is_some_and(|o| o.email_verified_at.is_some()),
        dates: shape::dates(&client.life),
        deployment: shape::deployment(world, client, row.timeline.as_ref()),
        instance: client.hosting.as_ref().and_then(|hosting| hosting.cloud_id.clone()),
        usage: shape::usage(&world.plans, &row),
        month: month.facts.now.month(),
        balance: costs::balance(&month, id),
        costs: costs::lines_of(&month, id),
        returned: month.so_far.clients.get(id).map(|cost| cost.returned.cents()).unwrap_or_default(),
        invoices: invoices(world, client).await,
        reversals: world.store.reversals_of(id, http::REVERSALS).await?.iter().map(shape::reversal).collect(),
        months: used_months(world, id).await?,
        flows: flows.iter().map(flow_row).collect(),
        resources: world.store.resources_of(id).await?.iter().map(|r| resource_row(app, r)).collect(),
        mails: mails.iter().map(|mail| MailRow { client: None, ..mail_row(mail) }).collect(),
        actions: actions(client),
        renews_at: client.life.renews_at(world.clock.now()),
        plans: world.plans.clone(),
        problem,
        frame: console.frame,
    })
}

/// None when the till does not answer soon: the rest of the page is as good without.
async fn invoices(world: &World, client: &Client) -> Option<Vec<Invoice>> {
    let found = tokio::time::timeout(INVOICES_WITHIN, http::invoices(world, client)).await.ok()?;
    found.inspect_err(|error| tracing::warn!(%error, "the till could not be asked for invoices")).ok()
}

fn actions(client: &Client) -> Actions {
    let state = client.life.state;
    Actions {
        migrate: client.stack == StackPhase::Ready && state.is_served(),
        suspend: state.is_served(),
        resume: state == LifeState::Suspended,
        give_days: matches!(state, LifeState::Trial | LifeState::Grace),
        give_plan: !client.life.pays() && state != LifeState::Deleted,
        delete: state != LifeState::Deleted,
    }
}

pub(super) async fn order_client(
    State(app): State<App>,
    console: Console,
    Path((client_id, word)): Path<(String, String)>,
    form: Posted,
) -> Result<Response> {
    let Posted(fields) = form;
    let client: ClientId = client_id.parse().map_err(|_| Error::NotFound)?;
    let what = Order::parse(&word).ok_or(Error::NotFound)?;
    let done = if what == Order::Delete && fields.get("confirm") != client.as_str() {
        Err(Error::NotNow("Type the client's id to confirm that everything of theirs is removed.".into()))
    } else {
        http::order(&app, &console.operator, &client, what).await
    };
    match done {
        Ok(()) => Ok(go(&format!("/console/clients/{client}?said=ordered"))),
        Err(error) => {
            let Refusal { status, problem, .. } = Refusal::of(error)?;
            page_with(status, &client_page(&app, console, &client, problem).await?)
        }
    }
}

pub(super) async fn give_days(
    State(app): State<App>,
    console: Console,
    Path(client_id): Path<String>,
    form: Posted,
) -> Result<Response> {
    let Posted(fields) = form;
    let client: ClientId = client_id.parse().map_err(|_| Error::NotFound)?;
    let what = Gift::parse(fields.get("order")).ok_or(Error::NotFound)?;
    match http::give_days(&app, &console.operator, &client, what, fields.get("days")).await {
        Ok(()) => Ok(go(&format!("/console/clients/{client}?said=given"))),
        Err(error) => {
            let Refusal { status, errors, problem } = Refusal::of(error)?;
            let problem = problem.or_else(|| errors.first().map(|e| format!("{} {}.", e.field, e.message)));
            page_with(status, &client_page(&app, console, &client, problem).await?)
        }
    }
}

pub(super) async fn give_plan(
    State(app): State<App>,
    console: Console,
    Path(client_id): Path<String>,
    form: Posted,
) -> Result<Response> {
    let Posted(fields) = form;
    let client: ClientId = client_id.parse().map_err(|_| Error::NotFound)?;
    // A day of the form begins at midnight in UTC.
    let until = Some(fields.get("until")).filter(|day| !day.is_empty()).map(|day| format!("{day}T00:00:00Z"));
    let request = GivePlanRequest { plan_id: fields.text("planId"), until };
    match http::give_plan(&app, &console.operator, &client, &request).await {
        Ok(()) => Ok(go(&format!("/console/clients/{client}?said=given"))),
        Err(error) => {
            let Refusal { status, errors, problem } = Refusal::of(error)?;
            let problem = problem.or_else(|| errors.first().map(|e| format!("{} {}.", e.field, e.message)));
            page_with(status, &client_page(&app, console, &client, problem).await?)
        }
    }
}

pub(super) async fn show_flow(
    State(app): State<App>,
    console: Console,
    Path(flow_id): Path<String>,
) -> Result<Response> {
    let flow = flow_id.parse().map_err(|_| Error::NotFound)?;
    page(&flow_page(&app, console, &flow, None).await?)
}

async fn flow_page(app: &App, console: Console, id: &FlowId, problem: Option<String>) -> Result<FlowPage> {
    let timeline = app.world.store.timeline(id).await?.ok_or(Error::NotFound)?;
    let parked = timeline.flow.state == FlowState::Parked;
    Ok(FlowPage {
        flow: flow_row(&timeline),
        may_retry: parked,
        may_turn_back: parked && !timeline.flow.undoing && !is_committed(&timeline),
        steps: timeline.steps.into_iter().map(step).collect(),
        problem,
        frame: console.frame,
    })
}

fn is_committed(timeline: &Timeline) -> bool {
    timeline.steps.iter().any(|step| step.commit && step.state == StepState::Done)
}

fn step(step: stackpro_flow::Step) -> FlowStep {
    FlowStep {
        title: step.title,
        state: step.state.as_str().to_owned(),
        attempts: step.attempts,
        started_at: step.started_at,
        finished_at: step.finished_at,
        note: step.note,
        error: step.error,
        commit: step.commit,
    }
}

pub(super) async fn order_flow(
    State(app): State<App>,
    console: Console,
    Path((flow_id, word)): Path<(String, String)>,
    _: Posted,
) -> Result<Response> {
    let flow: FlowId = flow_id.parse().map_err(|_| Error::NotFound)?;
    let back = match word.as_str() {
        "retry" => false,
        "turn-back" => true,
        _ => return Err(Error::NotFound),
    };
    match http::set_going(&app, &console.operator, &flow, back).await {
        Ok(()) => Ok(go(&format!("/console/flows/{flow}?said=going"))),
        Err(error) => {
            let Refusal { status, problem, .. } = Refusal::of(error)?;
            page_with(status, &flow_page(&app, console, &flow, problem).await?)
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: String,
}

pub(super) async fn show_first(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(query): Query<Token>,
) -> Result<Response> {
    first(&app, caller, query.token).await
}

pub(super) async fn show_first_by_path(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(token): Path<String>,
) -> Result<Response> {
    first(&app, caller, token).await
}

async fn first(app: &App, caller: Option<Caller>, token: String) -> Result<Response> {
    let mut tx = app.world.store.begin().await?;
    let known = tx.use_token(Purpose::MakeOperator, &hash_token(&token), app.world.real_now()).await?.is_some();
    // Only looked at: the form uses it up.
    drop(tx);
    if !known || app.world.store.operators_exist().await? {
        return Err(Error::Gone);
    }
    page(&first_view(caller.as_ref(), token))
}

fn first_view(caller: Option<&Caller>, token: String) -> FirstOperator {
    FirstOperator {
        frame: site_frame(caller),
        csrf: String::new(),
        token,
        email: String::new(),
        first_name: String::new(),
        last_name: String::new(),
        errors: Vec::new(),
    }
}

pub(super) async fn make_first(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(token): Path<String>,
    Open(fields): Open,
) -> Result<Response> {
    let mut check = Check::default();
    let mut member = Member {
        id: app.world.ids.member(app.world.now()),
        client_id: None,
        email: check.email("email", fields.get("email")),
        first_name: check.name("firstName", fields.get("firstName")),
        last_name: check.name("lastName", fields.get("lastName")),
        role: Role::Operator,
        password_hash: None,
        email_verified_at: Some(app.world.now()),
        created_at: app.world.now(),
    };
    let made = match check.finish() {
        Ok(()) => make_operator(&app, &token, &mut member, fields.text("password")).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => enter(&app, &member, "/console").await,
        Err(error @ (Error::Invalid(_) | Error::Taken { .. })) => {
            let Refusal { status, errors, .. } = Refusal::of(error)?;
            let (email, first_name, last_name) =
                (fields.text("email"), fields.text("firstName"), fields.text("lastName"));
            let view = first_view(caller.as_ref(), token);
            page_with(status, &FirstOperator { email, first_name, last_name, errors, ..view })
        }
        Err(error) => Err(error),
    }
}

async fn make_operator(app: &App, token: &str, member: &mut Member, password: String) -> Result<()> {
    let world = &app.world;
    if world.store.operators_exist().await? {
        return Err(Error::Gone);
    }
    let about = vec![member.email.clone(), member.first_name.clone(), member.last_name.clone()];
    member.password_hash = Some(new_password(app, password, about).await?);
    let mut tx = world.store.begin().await?;
    let subject = tx.use_token(Purpose::MakeOperator, &hash_token(token), world.real_now()).await?;
    subject.ok_or(Error::Gone)?;
    tx.insert_member(member).await?;
    Ok(tx.commit().await?)
}

//! The operator's lists: clients, instances, resources, flows, and what visitors wrote.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use stackpro_domain::cost::Amount;
use stackpro_domain::lifecycle::State as LifeState;
use stackpro_domain::time::MINUTE;
use stackpro_domain::{ClientId, ResourceId};
use stackpro_flow::{Flow, FlowState, StepState};
use stackpro_protocol::api::NextDate;
use stackpro_store::{
    ClientFilter, ClientSummary, HostKind, MailLine, Page, Resource, ResourceFilter, StackPhase, StoreError, TillEvent,
    Timeline, UsageMonth, Whose,
};

use super::console::Console;
use super::costs;
use super::form::{Posted, go, page};
use crate::costs::Month;
use crate::flows;
use crate::http::{self, App};
use crate::problem::Result;
use crate::web::console::{
    ClientRow, Clients, ContactRow, Contacts, EventRow, FlowRow, Flows, InstanceRow, Instances, MailRow, ResourceRow,
    Resources,
};
use crate::web::history::{self, UsedMonth};
use crate::web::money::Both;
use crate::world::World;

const PAGE: u32 = 50;
/// A list is for looking, not for reading to its end.
const MAX_PAGE: u32 = 200;

type Asked = Query<HashMap<String, String>>;

fn asked_page(query: &HashMap<String, String>) -> u32 {
    query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1).clamp(1, MAX_PAGE)
}

/// The rows of a page counted from 1, and how many pages there are at least.
async fn turn<T, F>(page: u32, read: impl Fn(Option<String>) -> F) -> Result<(Vec<T>, u32)>
where
    F: Future<Output = std::result::Result<Page<T>, StoreError>>,
{
    let (mut at, mut rows) = (1, read(None).await?);
    while at < page {
        let Some(next) = rows.next.take() else { return Ok((Vec::new(), at)) };
        rows = read(Some(next)).await?;
        at += 1;
    }
    let pages = at + u32::from(rows.next.is_some() && at < MAX_PAGE);
    Ok((rows.rows, pages))
}

pub(super) async fn show_clients(State(app): State<App>, console: Console, query: Asked) -> Result<Response> {
    let store = &app.world.store;
    let text = |name: &str| query.get(name).map(|value| value.chars().take(120).collect()).unwrap_or_default();
    let (search, state): (String, String) = (text("q"), text("state"));
    let state = LifeState::parse(&state);
    let filter = ClientFilter { state, search: Some(search.clone()), ..ClientFilter::default() };
    let at = asked_page(&query);
    let (rows, pages) = turn(at, |after| {
        let (store, filter) = (store.clone(), filter.clone());
        async move { store.clients(&filter, after.as_deref(), PAGE).await }
    })
    .await?;
    let ids: Vec<ClientId> = rows.iter().map(|row| row.id.clone()).collect();
    let month = app.world.month(Whose::Clients(&ids)).await?;
    let counts = store.counts_by_state().await?;
    let in_state: u64 = counts.iter().filter(|(s, _)| state.is_none_or(|wanted| wanted == *s)).map(|(_, n)| n).sum();
    let searched = !search.trim().is_empty();
    let so_far = u64::from((at - 1) * PAGE) + rows.len() as u64;
    page(&Clients {
        frame: console.frame,
        rows: rows.iter().map(|row| client_row(row, &month)).collect(),
        query: search,
        state: state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        page: at,
        pages,
        total: if searched { so_far } else { in_state },
    })
}

/// What happens to a client next by itself.
pub(super) fn next_date(row: &ClientSummary) -> Option<NextDate> {
    let what = match row.state {
        LifeState::Trial => "A reminder, or the trial ends",
        LifeState::Grace | LifeState::Active | LifeState::PastDue => "The site is suspended",
        LifeState::Suspended => "A reminder, or the data is deleted",
        LifeState::Deleted => "Nothing",
    };
    row.next_at.map(|at| NextDate { at, what: what.to_owned() })
}

pub(super) fn client_row(row: &ClientSummary, month: &Month) -> ClientRow {
    let status = match row.stack {
        StackPhase::Suspending => StackPhase::Suspended,
        StackPhase::Deleting => StackPhase::Deleted,
        other => other,
    };
    ClientRow {
        id: row.id.clone(),
        company: row.company.clone(),
        state: row.state.as_str().to_owned(),
        status: status.as_str().to_owned(),
        plan: row.plan.clone(),
        instance: row.hosting.and_then(|kind| kind.as_str().parse().ok()),
        balance: costs::balance(month, &row.id),
        next: next_date(row),
        created_at: row.created_at,
    }
}

pub(super) async fn show_instances(State(app): State<App>, console: Console) -> Result<Response> {
    let month = app.world.month(Whose::Everyones).await?;
    page(&Instances { rows: instance_rows(&app.world, &month).await?, frame: console.frame })
}

/// Those that exist in the cloud by now.
pub(super) async fn instance_rows(world: &World, month: &Month) -> Result<Vec<InstanceRow>> {
    let mut clients: HashMap<ResourceId, Vec<ClientId>> = HashMap::new();
    for (instance, client) in world.store.stacks().await? {
        clients.entry(instance).or_default().push(client);
    }
    let rows = world.store.instances(false).await?.into_iter().filter_map(|row| {
        let (there, cost) = (clients.remove(&row.id).unwrap_or_default(), costs::whole(month, &row.id));
        instance_row(world, row, there, cost)
    });
    Ok(rows.collect())
}

/// None while the cloud has not named it.
pub(super) fn instance_row(
    world: &World,
    row: stackpro_store::InstanceRow,
    clients: Vec<ClientId>,
    cost: Both<Amount>,
) -> Option<InstanceRow> {
    Some(InstanceRow {
        id: row.cloud_id?,
        resource: row.id,
        dedicated: row.kind == HostKind::Dedicated,
        state: row.state.as_str().to_owned(),
        healthy: row.last_report_at.is_some_and(|at| world.real_now().since(at) < MINUTE),
        address: row.front.map(|front| front.to_string()).unwrap_or_default(),
        instance_type: row.instance_type,
        clients,
        capacity: row.capacity,
        reported_at: row.last_report_at,
        cost,
    })
}

pub(super) async fn show_resources(State(app): State<App>, console: Console, query: Asked) -> Result<Response> {
    let store = &app.world.store;
    let at = asked_page(&query);
    let (rows, pages) = turn(at, |after| {
        let store = store.clone();
        async move { store.resources(&ResourceFilter::default(), after.as_deref(), PAGE).await }
    })
    .await?;
    let drift = app.world.drift.get();
    page(&Resources {
        frame: console.frame,
        rows: rows.iter().map(|row| resource_row(&app, row)).collect(),
        leaks: drift.count(),
        page: at,
        pages,
    })
}

pub(super) fn resource_row(app: &App, row: &Resource) -> ResourceRow {
    let drift = app.world.drift.get();
    let leaked =
        drift.missing.contains(&row.id) || drift.ownerless.keys().any(|found| found.resource_id == row.id.as_str());
    ResourceRow {
        id: row.id.clone(),
        kind: row.kind.as_str().to_owned(),
        name: row.name.clone(),
        state: row.state.as_str().to_owned(),
        client: row.client_id.clone(),
        created_at: row.created_at,
        leaked,
    }
}

pub(super) async fn show_flows(State(app): State<App>, console: Console, query: Asked) -> Result<Response> {
    let store = &app.world.store;
    let at = asked_page(&query);
    let state = query.get("state").and_then(|state| FlowState::parse(state));
    let (flows, pages) = turn(at, |after| {
        let store = store.clone();
        async move { store.flows(state, after.as_deref(), PAGE).await }
    })
    .await?;
    let rows = store.with_steps(flows).await?.iter().map(flow_row).collect();
    let state = state.map(|state| state.as_str().to_owned()).unwrap_or_default();
    let events = store.till_events_parked(PAGE).await?.into_iter().map(event_row).collect();
    page(&Flows { frame: console.frame, rows, events, state, page: at, pages })
}

fn event_row(event: TillEvent) -> EventRow {
    EventRow { id: event.id, kind: event.kind, cause: event.error, received_at: event.received_at }
}

pub(super) async fn retry_event(
    State(app): State<App>,
    console: Console,
    Path(event): Path<String>,
    _: Posted,
) -> Result<Response> {
    http::retry_event(&app, &console.operator, &event).await?;
    Ok(go("/console/flows?said=going"))
}

/// This build does not know it, and so leaves it to a node that does.
fn is_strange(flow: &Flow) -> bool {
    flow.state == FlowState::Running && !flows::known().contains(&flow.name())
}

pub(super) fn flow_row(timeline: &Timeline) -> FlowRow {
    let flow = &timeline.flow;
    let at = timeline.steps.iter().find(|step| {
        matches!(step.state, StepState::Running | StepState::Undoing | StepState::Failed)
            || step.error.is_some() && step.state != StepState::Done
    });
    FlowRow {
        id: flow.id.clone(),
        kind: flow.kind.clone(),
        subject: flow.subject.clone(),
        state: flow.state.as_str().to_owned(),
        undoing: flow.undoing,
        waits_for: (is_strange(flow) && at.is_none_or(|step| step.lease.is_none())).then(|| flow.name()),
        step: at.map(|step| step.title.clone()),
        cause: flow.cause.clone(),
        created_at: flow.created_at,
        finished_at: flow.finished_at,
    }
}

pub(super) fn mail_row(mail: &MailLine) -> MailRow {
    MailRow {
        href: format!("/console/mails/{}", mail.id),
        to: mail.to.clone(),
        subject: mail.subject.clone(),
        state: mail.state.as_str().to_owned(),
        cause: mail.error.clone(),
        client: mail.client_id.clone(),
        at: mail.sent_at.unwrap_or(mail.created_at),
    }
}

pub(super) async fn show_contacts(State(app): State<App>, console: Console, query: Asked) -> Result<Response> {
    let store = &app.world.store;
    let at = asked_page(&query);
    let (rows, pages) = turn(at, |after| {
        let store = store.clone();
        async move { store.contacts(after.as_deref(), PAGE).await }
    })
    .await?;
    let rows = rows.into_iter().map(|row| {
        let (name, email, message) = (row.name, row.email, row.message);
        ContactRow { name, email, message, at: row.created_at }
    });
    page(&Contacts { frame: console.frame, rows: rows.collect(), page: at, pages })
}

/// What a client used lately, by month: the newest first.
pub(super) async fn used_months(world: &World, client: &ClientId) -> Result<Vec<UsedMonth>> {
    let months = world.store.usage_months(client, history::MONTHS).await?;
    let used = |row: UsageMonth| UsedMonth {
        month: row.month,
        storage_bytes: row.storage_bytes,
        members: row.members,
        mails: row.mails,
        requests: row.requests,
        traffic_bytes: row.traffic_bytes,
    };
    Ok(months.into_iter().map(used).collect())
}

//! `stackpro clients`.

use std::io::{IsTerminal, Write};

use serde_json::json;
use stackpro_domain::cost::Amount;
use stackpro_domain::lifecycle::{Event, GIVEN_DAYS, State};
use stackpro_domain::{ClientId, Micros, Time};
use stackpro_server::costs::Month;
use stackpro_server::lives;
use stackpro_server::web::money;
use stackpro_store::{AuditRow, ClientFilter, ClientSummary, HostKind, StackPhase, Whose};

use super::{Clients, follow, show};
use crate::app::{App, Fatal, Result};

pub(crate) async fn run(command: Clients, app: &App, as_json: bool) -> Result<()> {
    match command {
        Clients::List { state, search } => list(app, state, search, as_json).await,
        Clients::Show { client } => one(app, &client, as_json).await,
        Clients::Migrate { client } => migrate(app, &client).await,
        Clients::Suspend { client } => apply(app, &client, Event::Suspended, "suspend").await,
        Clients::Resume { client, days } => apply(app, &client, Event::Resumed { extra_days: days }, "resume").await,
        Clients::ExtendTrial { client, days } => {
            give(app, &client, days, Event::TrialExtended { days }, "extend trial").await
        }
        Clients::GrantGrace { client, days } => {
            give(app, &client, days, Event::GraceGranted { days }, "grant grace").await
        }
        Clients::GivePlan { client, plan, until } => give_plan(app, &client, &plan, until).await,
        Clients::Delete { client, yes } => {
            if !yes && !confirmed(&client)? {
                return Err(Fatal("nothing was deleted".into()));
            }
            apply(app, &client, Event::Deleted, "delete").await
        }
    }
}

fn store(error: stackpro_store::StoreError) -> Fatal {
    Fatal::new("the database", error)
}

async fn list(app: &App, state: Option<String>, search: Option<String>, as_json: bool) -> Result<()> {
    let state = match state {
        Some(word) => Some(State::parse(&word).ok_or_else(|| Fatal(format!("{word:?} is not a state of a client")))?),
        None => None,
    };
    let filter = ClientFilter { state, search, attention: false };
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = app.world.store.clients(&filter, after.as_deref(), 200).await.map_err(store)?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let month = app.world.month(Whose::Everyones).await.map_err(store)?;
    if as_json {
        return show::json(&rows.iter().map(|client| summary(client, &month)).collect::<Vec<_>>());
    }
    let cells = rows.iter().map(|client| {
        let [so_far, _] = month.balances(&client.id);
        vec![
            show::cell(client.id.as_str()),
            show::cell(&client.company),
            show::state(client.state.as_str()),
            show::state(client.stack.as_str()),
            show::cell(client.hosting.map_or("", HostKind::as_str)),
            show::cell(&client.plan),
            show::cell(&money::amount(so_far.cost)),
            show::cell(&money::margin(so_far)),
            show::cell(&client.created_at.date()),
            show::cell(&client.next_at.map(Time::date).unwrap_or_default()),
        ]
    });
    let head = ["client", "company", "state", "stack", "on", "plan", "cost", "margin", "since", "next date"];
    show::table(&head, cells.collect());
    show::line(&format!("Cost and margin are those of {} so far.", month.facts.month.from.month()));
    Ok(())
}

/// What a client brings and costs; null is unknown, because something has no price.
fn balances(month: &Month, client: &ClientId) -> serde_json::Value {
    let [so_far, projected] = month.balances(client).map(|balance| {
        let cents = |amount: Amount| amount.whole().map(Micros::cents);
        let (revenue, cost) = (cents(balance.revenue), cents(balance.cost));
        json!({ "revenueCents": revenue, "costCents": cost, "marginCents": balance.margin() })
    });
    json!({ "from": month.facts.month.from, "until": month.facts.month.until, "soFar": so_far, "projected": projected })
}

/// What a client costs so far, thing by thing, in millionths of a dollar.
fn parts(month: &Month, client: &ClientId) -> serde_json::Value {
    let Some(cost) = month.so_far.clients.get(client) else { return json!([]) };
    let micros = |amount: Amount| amount.whole().map(|micros| micros.0);
    let places =
        cost.places.iter().map(|(id, share)| json!({ "what": "instance", "instance": id, "micros": micros(*share) }));
    let besides = [("storage", cost.storage), ("traffic", cost.traffic), ("dns", cost.dns), ("mail", cost.mail)];
    let besides = besides.map(|(what, cost)| json!({ "what": what, "micros": cost.0 }));
    places.chain(besides).collect()
}

fn summary(client: &ClientSummary, month: &Month) -> serde_json::Value {
    json!({
        "id": client.id, "company": client.company, "host": client.host, "plan": client.plan,
        "state": client.state.as_str(), "stack": client.stack.as_str(),
        "hosting": client.hosting.map(HostKind::as_str), "ownerEmail": client.owner_email,
        "nextAt": client.next_at, "createdAt": client.created_at, "month": balances(month, &client.id),
    })
}

async fn one(app: &App, id: &ClientId, as_json: bool) -> Result<()> {
    let s = &app.world.store;
    let client = s.client(id).await.map_err(store)?.ok_or_else(|| unknown(id))?;
    let resources = s.resources_of(id).await.map_err(store)?;
    let usage = s.usage(id).await.map_err(store)?;
    let month = app.world.month(Whose::Clients(std::slice::from_ref(id))).await.map_err(store)?;
    if as_json {
        let months = s.usage_months(id, 12).await.map_err(store)?;
        let resources: Vec<_> = resources
            .iter()
            .map(|r| json!({ "id": r.id, "kind": r.kind, "name": r.name, "cloudId": r.cloud_id, "state": r.state }))
            .collect();
        return show::json(&json!({
            "id": client.id, "company": client.company, "plan": client.plan, "life": client.life,
            "stack": client.stack, "host": client.host, "url": app.world.settings.client_url(&client.host),
            "instance": client.hosting.as_ref().map(|h| json!({ "id": h.instance_id, "cloudId": h.cloud_id, "kind": h.kind })),
            "certificate": client.certificate, "usage": usage, "usageMonths": months, "resources": resources,
            "month": balances(&month, id), "costs": parts(&month, id),
        }));
    }
    show::line(&format!("{}  {}", client.id, client.company.replace(char::is_control, "")));
    show::line(&format!("{}, stack {}", client.life.state.as_str(), client.stack.as_str()));
    show::line(&app.world.settings.client_url(&client.host));
    let mut dates = client.life.dates();
    dates.sort_by_key(|next| next.at);
    for next in dates {
        show::line(&format!("  {}  {}", next.at.date(), next.what.describe()));
    }
    show_month(&month, id);
    let cells = resources.iter().map(|r| {
        vec![
            show::cell(r.kind.as_str()),
            show::cell(&r.name),
            show::state(r.state.as_str()),
            show::cell(&r.created_at.date_time()),
        ]
    });
    show::table(&["resource", "name", "state", "since"], cells.collect());
    Ok(())
}

fn show_month(month: &Month, id: &ClientId) {
    let [so_far, projected] = month.balances(id);
    let row =
        |what: &str, cells: [String; 2]| [what.to_owned()].iter().chain(&cells).map(|text| show::cell(text)).collect();
    let name = month.facts.month.from.month();
    let rows = vec![
        row("revenue", [so_far.revenue, projected.revenue].map(money::amount)),
        row("cost", [so_far.cost, projected.cost].map(money::amount)),
        row("margin", [so_far, projected].map(money::margin)),
    ];
    show::table(&[name.as_str(), "so far", "by its end"], rows);
}

fn unknown(id: &ClientId) -> Fatal {
    Fatal(format!("there is no client {id}; `stackpro clients list` shows all"))
}

async fn apply(app: &App, id: &ClientId, event: Event, action: &str) -> Result<()> {
    let world = &app.world;
    let mut tx = world.store.begin().await.map_err(store)?;
    let mut client = tx.client(id).await.map_err(store)?.ok_or_else(|| unknown(id))?;
    lives::apply(world, &mut tx, &mut client, event).await.map_err(|e| Fatal(e.to_string()))?;
    audit(app, &mut tx, id, action, "").await?;
    tx.commit().await.map_err(store)?;
    show::line(&format!(
        "{action}: {id} is {} now; `stackpro flows list` shows what is done about it",
        client.life.state.as_str()
    ));
    follow::client(app, id).await
}

async fn give(app: &App, id: &ClientId, days: i64, event: Event, action: &str) -> Result<()> {
    if !GIVEN_DAYS.contains(&days) {
        return Err(Fatal(format!(
            "--days is {days}, and must be from {} to {}",
            GIVEN_DAYS.start(),
            GIVEN_DAYS.end()
        )));
    }
    apply(app, id, event, action).await
}

async fn give_plan(app: &App, id: &ClientId, plan: &str, until: Option<String>) -> Result<()> {
    let world = &app.world;
    if world.plans.get(plan).is_none() {
        let known: Vec<&str> = world.plans.plans.iter().map(|plan| plan.id.as_str()).collect();
        return Err(Fatal(format!("{plan:?} is none of the plans: {}", known.join(", "))));
    }
    let until = until.as_deref().map(|day| until_day(day, world.clock.now())).transpose()?;
    lives::may_be_given(world, id).await.map_err(|error| Fatal(error.to_string()))?;
    let mut tx = world.store.begin().await.map_err(store)?;
    let mut client = tx.client(id).await.map_err(store)?.ok_or_else(|| unknown(id))?;
    lives::give_plan(world, &mut tx, &mut client, plan, until).await.map_err(|error| Fatal(error.to_string()))?;
    let length = until.map_or_else(|| "for ever".to_owned(), |until| format!("until {}", until.date()));
    audit(app, &mut tx, id, "give plan", &format!("{plan} {length}")).await?;
    tx.commit().await.map_err(store)?;
    show::line(&format!("{id} has {plan} for nothing {length}; `stackpro flows list` shows what is done about it"));
    follow::client(app, id).await
}

/// The day's beginning, in UTC as on the console.
fn until_day(day: &str, now: Time) -> Result<Time> {
    let at: Option<Time> = format!("{day}T00:00:00Z").parse().ok();
    at.filter(|at| *at > now).ok_or_else(|| Fatal(format!("--until is {day:?}, and must be a day ahead: 2027-01-31")))
}

async fn migrate(app: &App, id: &ClientId) -> Result<()> {
    let world = &app.world;
    let mut tx = world.store.begin().await.map_err(store)?;
    let client = tx.client(id).await.map_err(store)?.ok_or_else(|| unknown(id))?;
    if client.stack != StackPhase::Ready {
        return Err(Fatal(format!("{id} is {}, and only what is ready can be moved", client.stack.as_str())));
    }
    lives::migrate(world, &mut tx, &client).await.map_err(store)?;
    audit(app, &mut tx, id, "migrate", "").await?;
    tx.commit().await.map_err(store)?;
    show::line(&format!("{id} moves to an instance of its own; `stackpro flows list` shows how far it is"));
    follow::client(app, id).await
}

async fn audit(app: &App, tx: &mut stackpro_store::Tx, id: &ClientId, action: &str, detail: &str) -> Result<()> {
    let row = AuditRow {
        at: app.world.clock.now(),
        actor: "command line".into(),
        action: action.to_owned(),
        client_id: Some(id.clone()),
        detail: detail.to_owned(),
    };
    tx.audit(&row).await.map_err(store)
}

#[allow(clippy::print_stderr)] // A question to whoever sits there.
fn confirmed(client: &ClientId) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Fatal("deleting asks for confirmation; --yes gives it".into()));
    }
    eprint!("Everything of {client} is removed for good. Type its id to go on: ");
    std::io::stderr().flush().map_err(|e| Fatal::new("asking", e))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| Fatal::new("asking", e))?;
    Ok(answer.trim() == client.as_str())
}

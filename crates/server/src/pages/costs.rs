//! What the month costs, on the operator's pages.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::response::Response;
use stackpro_domain::cost::{Amount, Balance, ClientCost, Costs, InstanceCost};
use stackpro_domain::time::DAY;
use stackpro_domain::{ClientId, Micros, ResourceId, Time};
use stackpro_store::Whose;

use super::console::Console;
use super::form::page;
use super::lists::instance_row;
use crate::costs::Month;
use crate::http::App;
use crate::problem::{Error, Result};
use crate::web::money::{Both, CostLine, InstancePage, Share, ThisMonth};
use crate::world::World;

/// The same of both halves.
fn both<T>(month: &Month, of: impl Fn(&Costs) -> T) -> Both<T> {
    Both { so_far: of(&month.so_far), in_all: of(&month.projected) }
}

fn line(what: &str, detail: String, cost: Both<Amount>) -> CostLine {
    CostLine { what: what.to_owned(), detail, instance: None, cost }
}

pub(super) fn balance(month: &Month, client: &ClientId) -> Both<Balance> {
    let [so_far, in_all] = month.balances(client);
    Both { so_far, in_all }
}

/// The month of the whole business.
pub(super) fn this_month(world: &World, month: &Month) -> ThisMonth {
    let (span, now) = (month.facts.month, month.facts.now);
    let mut overhead = vec![line("Shared servers while they are empty", String::new(), both(month, Costs::idle))];
    for (place, (name, so_far)) in month.so_far.fixed.iter().enumerate() {
        let in_all = month.projected.fixed.get(place).map_or(Micros(0), |(_, cost)| *cost);
        let cost = Both { so_far: Amount::known(*so_far), in_all: Amount::known(in_all) };
        overhead.push(line(name, String::new(), cost));
    }
    let day = DAY.unsigned_abs();
    ThisMonth {
        now,
        day: now.since(span.from).unsigned_abs() / day + 1,
        days: span.ms() / day,
        balance: both(month, |costs| costs.totals().balance()),
        overhead,
        unpriced: unpriced(world, month),
    }
}

/// Types without a price that a plan asks for, and those of instances that run though no plan asks for them.
fn unpriced(world: &World, month: &Month) -> Vec<String> {
    let mut unpriced = world.prices.unpriced(&world.plans);
    for instance in &month.facts.instances {
        unpriced.extend(world.prices.unpriced_instance(&instance.instance_type));
    }
    unpriced.sort_by(|a, b| a.instance_type.cmp(&b.instance_type));
    unpriced.dedup_by(|a, b| a.instance_type == b.instance_type);
    unpriced.iter().map(ToString::to_string).collect()
}

/// What one client costs, thing by thing.
pub(super) fn lines_of(month: &Month, client: &ClientId) -> Vec<CostLine> {
    let none = ClientCost::default();
    let (so_far, in_all) =
        (month.so_far.clients.get(client).unwrap_or(&none), month.projected.clients.get(client).unwrap_or(&none));
    let places: BTreeMap<&ResourceId, Amount> = so_far.places.iter().map(|(id, cost)| (id, *cost)).collect();
    // Who was somewhere so far is so in all, too.
    let mut lines: Vec<CostLine> = in_all
        .places
        .iter()
        .map(|(id, in_all)| {
            let (what, detail) = place(month, id);
            let cost = Both { so_far: places.get(id).copied().unwrap_or_default(), in_all: *in_all };
            CostLine { what: what.to_owned(), detail, instance: Some(id.clone()), cost }
        })
        .collect();
    let besides = [("Storage", ""), ("Traffic", ""), ("DNS", "at most a query for each request"), ("Mail", "")];
    let costs = |cost: &ClientCost| [cost.storage, cost.traffic, cost.dns, cost.mail].map(Amount::known);
    for ((what, detail), (so_far, in_all)) in besides.into_iter().zip(costs(so_far).into_iter().zip(costs(in_all))) {
        lines.push(line(what, detail.to_owned(), Both { so_far, in_all }));
    }
    lines
}

/// What an instance is called among what a client costs.
fn place(month: &Month, id: &ResourceId) -> (&'static str, String) {
    let Some(instance) = month.facts.instances.iter().find(|instance| instance.id == *id) else {
        return ("A server", id.to_string());
    };
    let what = if instance.owner.is_some() { "A server of their own" } else { "Their part of a shared server" };
    let name = instance.cloud_id.as_ref().map_or_else(|| id.to_string(), ToString::to_string);
    (what, format!("{name}, {}", instance.instance_type))
}

/// What an instance costs in all; nothing when it costs nothing this month.
pub(super) fn whole(month: &Month, id: &ResourceId) -> Both<Amount> {
    both(month, |costs| costs.instances.get(id).map(InstanceCost::whole).unwrap_or_default())
}

pub(super) async fn show_instance(
    State(app): State<App>,
    console: Console,
    Path(id): Path<String>,
) -> Result<Response> {
    let world = &app.world;
    let id: ResourceId = id.parse().map_err(|_| Error::NotFound)?;
    let row = world.store.instance(&id).await?.ok_or(Error::NotFound)?;
    let clients = world.store.clients_on(&id).await?;
    let month = world.month(Whose::Instances(std::slice::from_ref(&id))).await?;
    let (version, costs) = (row.version.clone(), whole(&month, &id));
    let row = instance_row(world, row, clients, costs).ok_or(Error::NotFound)?;
    let span = month.facts.instances.iter().find(|instance| instance.id == id).map(|instance| instance.span);
    page(&InstancePage {
        row,
        version,
        setup_failure: world.store.setup_failure(&id).await?,
        launched_at: span.map(|span| span.from),
        released_at: span.map(|span| span.until).filter(|until| *until != Time::NEVER),
        lines: parts(&month, &id),
        shares: shares(&month, &id),
        frame: console.frame,
    })
}

fn parts(month: &Month, id: &ResourceId) -> Vec<CostLine> {
    let part = |what, of: fn(&InstanceCost) -> Amount| {
        line(what, String::new(), both(month, |costs| costs.instances.get(id).map(of).unwrap_or_default()))
    };
    vec![
        part("Its hours", |cost| cost.compute.map_or(Amount::UNKNOWN, Amount::known)),
        part("Its public address", |cost| Amount::known(cost.address)),
        part("Its disk", |cost| Amount::known(cost.disk)),
    ]
}

/// Whom it costs how much, and what nobody is charged with.
fn shares(month: &Month, id: &ResourceId) -> Vec<Share> {
    let share = |costs: &Costs, client: Option<&ClientId>| {
        let Some(cost) = costs.instances.get(id) else { return Amount::default() };
        let part = match client {
            Some(client) => cost.shares.iter().find(|(of, _)| of == client).map_or(Micros(0), |(_, share)| *share),
            None => cost.idle,
        };
        Amount { known: part, complete: cost.compute.is_some() }
    };
    let Some(cost) = month.projected.instances.get(id) else { return Vec::new() };
    let clients = cost.shares.iter().map(|(client, _)| Some(client)).chain((cost.idle > Micros(0)).then_some(None));
    let share =
        |client: Option<&ClientId>| Share { client: client.cloned(), cost: both(month, |costs| share(costs, client)) };
    clients.map(share).collect()
}

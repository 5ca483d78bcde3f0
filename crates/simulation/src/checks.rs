//! What must hold after every event. Each says what was found and what should have been.

use std::collections::BTreeMap;

use axum::http::{Request, header};
use serde_json::Value;
use stackpro_domain::lifecycle::{Life, State};
use stackpro_domain::time::DAY;
use stackpro_domain::{Cents, ClientId};
use stackpro_flow::FlowState;
use stackpro_server::drift::Drift;
use stackpro_server::reconcilers::sweeper;
use stackpro_store::{Client, HostKind, MailFilter, ResourceKind, ResourceState, StackPhase};

use crate::business::{Business, Person};
use crate::{Failed, agent};

/// Each client's life as it was seen last.
#[derive(Default)]
pub(crate) struct Histories(BTreeMap<ClientId, Life>);

/// The moves that a client's life may make, as DESIGN has them, and any number of them in one instant.
/// One whose plan was `given` has grace when it ends.
fn may_move(from: State, to: State, given: bool) -> bool {
    use State::{Active, Deleted, Grace, PastDue, Suspended, Trial};
    let on: &[State] = match from {
        Trial => &[Grace, Active, Suspended, Deleted],
        Grace | PastDue => &[Active, Suspended, Deleted],
        Active if given => &[Grace, Suspended, Deleted],
        Active => &[PastDue, Suspended, Deleted],
        Suspended => &[Active, Trial, Deleted],
        Deleted => &[],
    };
    from == to || on.contains(&to)
}

/// One client, whose rows or flows changed.
pub(crate) async fn client(business: &Business, histories: &mut Histories, id: &ClientId) -> Result<(), Failed> {
    let store = &business.world.store;
    let Some(row) = store.client(id).await.map_err(Failed::new)? else {
        return Err(Failed(format!("client {id} has vanished")));
    };
    let Some(person) = business.person_of(id) else { return Ok(()) };
    let before = histories.0.insert(id.clone(), row.life.clone());
    if let Some(before) = before {
        moved(business, person, &row, &before).await?;
    }
    let timelines = store.timelines(id, 3).await.map_err(Failed::new)?;
    if let Some(stopped) = timelines.iter().find(|t| matches!(t.flow.state, FlowState::Parked | FlowState::Undone)) {
        let flow = &stopped.flow;
        let cause = flow.cause.as_deref().unwrap_or("no cause is given");
        return Err(Failed(format!("{} of client {id} is {}: {cause}", flow.kind, flow.state.as_str())));
    }
    if timelines.iter().any(|timeline| timeline.flow.finished_at.is_none()) {
        return Ok(());
    }
    served(business, &row)?;
    on_its_type(business, &row).await?;
    owns(business, &row).await
}

/// Who pays is on an instance of their plan's type.
async fn on_its_type(business: &Business, row: &Client) -> Result<(), Failed> {
    let Some(hosting) = row.hosting.as_ref().filter(|_| row.life.state.is_paying()) else { return Ok(()) };
    let instance = business.world.store.instance(&hosting.instance_id).await.map_err(Failed::new)?;
    let found = instance.map(|instance| instance.instance_type);
    let due = business.world.plans.get(&row.plan).map(|plan| plan.instance_type.clone());
    if found == due {
        return Ok(());
    }
    Err(Failed(format!("client {} on {} runs on {found:?}, not {due:?}", row.id, row.plan)))
}

async fn moved(business: &Business, person: &Person, row: &Client, before: &Life) -> Result<(), Failed> {
    let (id, from, to, now) = (&row.id, before.state, row.life.state, business.now());
    let given = before.given.is_some();
    // What was given may be paid for and fall due in one instant.
    if !may_move(from, to, given) && !may_move(from, to, false) {
        return Err(Failed(format!("client {id} went from {} to {}", from.as_str(), to.as_str())));
    }
    if from != to && to == State::Suspended && from.is_paying() && !given && !person.suspended_by_operator {
        let paid = row.life.paid_until.is_some_and(|until| until > now);
        if paid && from == State::Active {
            return Err(Failed(format!("client {id} is suspended, and has paid")));
        }
    }
    if from != to && to == State::Deleted && !person.asked_to_delete {
        if before.delete_at.is_none_or(|at| at > now) {
            return Err(Failed(format!("client {id} is deleted before its date")));
        }
        let theirs = MailFilter { client: Some(id.clone()), state: None };
        let mails = business.world.store.mails(&theirs, None, 200).await.map_err(Failed::new)?.rows;
        let reminds =
            |kind: &str| ["trial_ends_in", "given_ends_in", "deletion_in"].iter().any(|start| kind.starts_with(start));
        let zone = &row.life.zone;
        if let Some(mail) = mails.iter().find(|mail| reminds(&mail.kind) && zone.is_night(mail.created_at)) {
            let at = mail.created_at;
            return Err(Failed(format!("client {id} in {} is sent {} at night, {at}", zone.as_str(), mail.kind)));
        }
        let since = before.suspended_at.unwrap_or_default();
        for days in [7, 1] {
            let kind = format!("deletion_in_{days}");
            if !mails.iter().any(|mail| mail.kind.starts_with(&kind) && mail.created_at >= since) {
                let kinds: Vec<&str> = mails.iter().map(|mail| mail.kind.as_str()).collect();
                return Err(Failed(format!("client {id} is deleted without the mail {kind}: {kinds:?}")));
            }
        }
    }
    Ok(())
}

/// Who is served is served, by their own stack; who is not, is not.
fn served(business: &Business, row: &Client) -> Result<(), Failed> {
    let seen = agent::visit(&business.fleet, &business.cloud, &row.host);
    let due = row.life.state.is_served();
    match seen {
        Some(client) if client != row.id => Err(Failed(format!("at {} answers {client}", row.host))),
        Some(_) if !due => Err(Failed(format!("client {} is {} and served", row.id, row.life.state.as_str()))),
        None if due => Err(Failed(format!("client {} is {} and not served", row.id, row.life.state.as_str()))),
        _ => Ok(()),
    }
}

/// Nothing of them is under way: what they own is exactly what their place needs, each once.
async fn owns(business: &Business, row: &Client) -> Result<(), Failed> {
    let resources = business.world.store.resources_of(&row.id).await.map_err(Failed::new)?;
    let mut live: Vec<ResourceKind> =
        resources.iter().filter(|r| r.state != ResourceState::Deleted).map(|r| r.kind).collect();
    live.sort_by_key(|kind| kind.as_str());
    let dedicated = row.hosting.as_ref().is_some_and(|hosting| hosting.kind == HostKind::Dedicated);
    let mut expected = match row.stack {
        StackPhase::Deleted => Vec::new(),
        _ => vec![ResourceKind::Bucket, ResourceKind::MailIdentity, ResourceKind::Record],
    };
    if dedicated {
        expected.extend([ResourceKind::Instance, ResourceKind::Role]);
    }
    expected.sort_by_key(|kind| kind.as_str());
    if live == expected {
        return Ok(());
    }
    let words = |kinds: &[ResourceKind]| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    Err(Failed(format!("client {} ({:?}) owns {}, not {}", row.id, row.stack, words(&live), words(&expected))))
}

/// The cloud against the ledger, Stripe against the model, and both against what we know.
pub(crate) async fn everything(business: &Business) -> Result<(), Failed> {
    ledger(business).await?;
    money(business).await.map(drop)
}

async fn ledger(business: &Business) -> Result<(), Failed> {
    // An injected fault may be in the way; the next look finds the same.
    let mut drift = Err(Failed("the cloud could not be listed".into()));
    for _ in 0..20 {
        match sweeper::drift(&business.world, &Drift::default(), business.now()).await {
            Ok(found) => {
                drift = Ok(found);
                break;
            }
            Err(error) => drift = Err(Failed::new(error)),
        }
    }
    let drift = drift?;
    if drift.ownerless.is_empty() && drift.missing_count == 0 {
        return Ok(());
    }
    let ownerless: Vec<String> =
        drift.ownerless.keys().take(5).map(|found| format!("{} {}", found.kind, found.name)).collect();
    let missing: Vec<String> = drift.missing.iter().take(5).map(ToString::to_string).collect();
    Err(Failed(format!("ledger and cloud differ: nobody owns {ownerless:?}, missing are {missing:?}")))
}

/// What Stripe was paid by each client equals the model, to the cent. Returns all of it.
pub(crate) async fn money(business: &Business) -> Result<Cents, Failed> {
    let paid = paid_by_customer(business).await?;
    let known = business.known_to_the_till().await?;
    let now = business.now();
    let mut total = 0;
    for person in &business.people {
        let Some(client) = &person.client else { continue };
        let row = known.get(client);
        if row.is_none() && !person.accounts.is_empty() {
            return Err(Failed(format!("client {client} has paid, and the till's id of them is lost")));
        }
        let customer = row.and_then(|row| row.customer_id.clone());
        let stripe = customer.and_then(|customer| paid.get(&customer).copied()).unwrap_or_default();
        let (mut model, mut credit, mut goes_on) = (0, Cents(0), false);
        for account in &person.accounts {
            let charged = account.charged(credit, now);
            (model, credit, goes_on) = (model + charged.total.0, charged.credit, charged.goes_on);
        }
        if stripe != model {
            return Err(Failed(format!(
                "client {client} paid {stripe} cents at Stripe, and should have paid {model}: {:#?}",
                person.accounts
            )));
        }
        total += stripe;
        if let (Some(row), Some(account)) = (row, person.accounts.last()) {
            agrees(row, goes_on, account.plan(), now.ms())?;
            let asked = person.suspended_by_operator || account.began_within(DAY, now);
            if row.life.given.is_some() && goes_on && !asked {
                return Err(Failed(format!("client {client} was given {}, and is charged for it", row.plan)));
            }
        }
    }
    Ok(Cents(total))
}

/// Who pays is active and has what they pay for, and who has stopped paying is not.
fn agrees(row: &Client, goes_on: bool, plan: &str, now: i64) -> Result<(), Failed> {
    let state = row.life.state;
    if row.life.pays() && row.plan != plan {
        return Err(Failed(format!("client {} pays for {plan}, and has {}", row.id, row.plan)));
    }
    let lately = row.life.paid_until.is_some_and(|until| (until.ms() - now).abs() < DAY);
    if row.life.pays() && !goes_on && !lately && row.life.dunning_ends_at.is_none() {
        return Err(Failed(format!("client {} is {} and pays nobody", row.id, state.as_str())));
    }
    Ok(())
}

/// Cents, by Stripe's customers.
async fn paid_by_customer(business: &Business) -> Result<BTreeMap<String, i64>, Failed> {
    let mut paid = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let cursor = after.as_ref().map(|id| format!("&starting_after={id}")).unwrap_or_default();
        let request = Request::get(format!("/v1/invoices?limit=100&status=paid{cursor}"));
        let key = business.world.secrets.till_api_key();
        let request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        let (status, body) = agent::send(&business.stripe_pages, request, Vec::new()).await;
        let list: Value = serde_json::from_slice(&body).map_err(Failed::new)?;
        let rows = list["data"].as_array().filter(|_| status.is_success());
        let rows = rows.ok_or_else(|| Failed(format!("Stripe's invoices cannot be listed: {status} {list}")))?;
        for invoice in rows {
            let customer = invoice["customer"].as_str().unwrap_or_default().to_owned();
            *paid.entry(customer).or_default() += invoice["amount_paid"].as_i64().unwrap_or_default();
        }
        after = rows.last().and_then(|invoice| invoice["id"].as_str()).map(str::to_owned);
        if list["has_more"] != true {
            return Ok(paid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_design_does_not_draw_is_refused() {
        assert!(may_move(State::Trial, State::Grace, false));
        assert!(may_move(State::Suspended, State::Active, false));
        assert!(may_move(State::Active, State::Grace, true));
        for (from, to) in [
            (State::Deleted, State::Active),
            (State::Active, State::Trial),
            (State::Active, State::Grace),
            (State::PastDue, State::Trial),
        ] {
            assert!(!may_move(from, to, false), "{from:?} {to:?}");
        }
    }
}

//! The way to the till.

use axum::extract::State;
use stackpro_domain::ClientId;
use stackpro_domain::plan::{Interval, Plan};
use stackpro_protocol::api::{CheckoutRequest, CheckoutResponse, Problem};
use stackpro_store::{Client, Role};

use super::App;
use super::extract::{Check, Json};
use crate::auth::{Caller, member_of};
use crate::problem::{Error, Result};
use crate::reconcilers::till_events;
use crate::till::{Checkout, Order, Subscription};
use crate::world::World;

const PAYS_ALREADY: &str = "This client pays already. Change the plan on the billing page.";

/// A page at the till on which the caller's client subscribes to a plan.
#[utoipa::path(post, path = "/api/create-checkout-session", tag = "till", security(("bearer" = [])),
    request_body = CheckoutRequest, responses(
    (status = 200, body = CheckoutResponse),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the owner or an admin pays"),
    (status = 409, body = Problem, description = "The client pays already, or is deleted"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 503, body = Problem, description = "The till does not answer"),
))]
pub(super) async fn create_checkout_session(
    State(app): State<App>,
    Caller(claims): Caller,
    Json(request): Json<CheckoutRequest>,
) -> Result<axum::Json<CheckoutResponse>> {
    let client = claims.client.clone().ok_or(Error::Forbidden("An operator buys nothing: log in as a client."))?;
    let member = member_of(&app, &claims).await?;
    if !matches!(member.role, Role::Owner | Role::Admin) {
        return Err(Error::Forbidden("Only the client's owner or an admin may do this."));
    }
    let checkout = begin_checkout(&app.world, &client, &member.email, &request).await?;
    Ok(axum::Json(CheckoutResponse { id: checkout.id, url: checkout.url }))
}

/// The plan and the interval that are asked for.
pub(super) fn wanted<'w>(world: &'w World, plan_id: &str, interval: &str) -> Result<(&'w Plan, Interval)> {
    let mut check = Check::default();
    let plan = world.plans.get(plan_id);
    if plan.is_none() {
        let known: Vec<&str> = world.plans.plans.iter().map(|plan| plan.id.as_str()).collect();
        check.wrong("planId", format!("must be one of {}", known.join(", ")));
    }
    let interval = match interval {
        "month" => Some(Interval::Month),
        "year" => Some(Interval::Year),
        _ => {
            check.wrong("interval", "must be month or year");
            None
        }
    };
    check.finish()?;
    plan.zip(interval).ok_or(Error::NotFound)
}

/// The one way to pay, for the API and the page alike.
pub async fn begin_checkout(
    world: &World,
    client: &ClientId,
    email: &str,
    request: &CheckoutRequest,
) -> Result<Checkout> {
    let (plan, interval) = wanted(world, &request.plan_id, &request.interval)?;
    let row = world.store.client(client).await?.ok_or(Error::NotFound)?;
    if row.life.pays() {
        return Err(Error::NotNow(PAYS_ALREADY.into()));
    }
    if row.life.state == stackpro_domain::lifecycle::State::Deleted {
        return Err(Error::NotNow("This client is deleted.".into()));
    }
    let customer = customer(world, &row, email).await?;
    refuse_who_has_paid(world, client, &customer).await?;
    let base = world.settings.dashboard_url(client);
    let order = Order { client, customer: &customer, plan, interval };
    let success = format!("{base}/paid?session={{CHECKOUT_SESSION_ID}}");
    Ok(world.till.create_checkout(&world.plans, &order, success, format!("{base}/paid?cancelled=1")).await?)
}

/// Nobody pays twice: other pages to pay on are closed, and then the till is asked whether one of them was paid, of
/// which we may not have heard. A client whom the operator suspended has paid, too.
async fn refuse_who_has_paid(world: &World, client: &ClientId, customer: &str) -> Result<()> {
    world.till.expire_checkouts(customer).await?;
    if !world.till.subscriptions_of(customer).await?.first().is_some_and(Subscription::is_running) {
        return Ok(());
    }
    let row = async || world.store.client(client).await?.ok_or(Error::NotFound);
    till_events::sync_client(world, &row().await?).await?;
    Err(Error::NotNow(if row().await?.life.pays() {
        PAYS_ALREADY.into()
    } else {
        format!("This client's plan is paid for, and paused by us: write to {}.", world.settings.support_email)
    }))
}

/// The till's customer for this client, made at the first need. The till is asked outside the transaction,
/// and gives the same customer if this is done twice.
async fn customer(world: &World, client: &Client, email: &str) -> Result<String> {
    if let Some(customer) = &client.customer_id {
        return Ok(customer.clone());
    }
    let customer = world.till.create_customer(&client.id, &client.company, email).await?;
    let mut tx = world.store.begin().await?;
    let mut row = tx.client(&client.id).await?.ok_or(Error::NotFound)?;
    let customer = row.customer_id.get_or_insert(customer).clone();
    tx.update_client(&row).await?;
    tx.commit().await?;
    Ok(customer)
}

//! The plan of a client who pays: what another one would cost, the change, the end of it, and the invoices.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use stackpro_domain::change::{self, NoChange, Used};
use stackpro_domain::time::MINUTE;
use stackpro_domain::{ClientId, Time};
use stackpro_protocol::api::{CheckoutRequest, Invoice, PlanChangeRequest, PlanPreview, PreviewLine, Problem};
use stackpro_store::Client;

use super::App;
use super::checkout::wanted;
use super::extract::Json;
use crate::auth::Owner;
use crate::problem::{Error, Result};
use crate::reconcilers::till_events;
use crate::till::{self, Change, Subscription, TillError};
use crate::world::World;

/// So long what was previewed may be confirmed.
const GOOD_FOR: i64 = 15 * MINUTE;
const INVOICES: u32 = 100;

/// What another plan, or another interval, would cost from now on. Nothing is changed.
#[utoipa::path(post, path = "/api/clients/{client_id}/plan/preview", tag = "till", security(("bearer" = [])),
    params(("client_id" = String, Path)), request_body = CheckoutRequest, responses(
    (status = 200, body = PlanPreview),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the owner or an admin pays, or the plan is too small"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
    (status = 409, body = Problem, description = "The client's state does not allow it, or it is the plan they have"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 503, body = Problem, description = "The till does not answer"),
))]
pub(super) async fn preview_plan_api(
    State(app): State<App>,
    owner: Owner,
    Json(request): Json<CheckoutRequest>,
) -> Result<axum::Json<PlanPreview>> {
    Ok(axum::Json(preview_plan(&app.world, &owner.client, &request).await?))
}

/// Change the plan as it was previewed. The difference is charged or credited at once.
#[utoipa::path(post, path = "/api/clients/{client_id}/plan", tag = "till", security(("bearer" = [])),
    params(("client_id" = String, Path)), request_body = PlanChangeRequest, responses(
    (status = 204, description = "Changed; an instance of the plan's type follows"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the owner or an admin pays, or the plan is too small"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
    (status = 409, body = Problem, description = "The state, the preview's age or the card does not allow it"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 503, body = Problem, description = "The till does not answer"),
))]
pub(super) async fn change_plan_api(
    State(app): State<App>,
    owner: Owner,
    Json(request): Json<PlanChangeRequest>,
) -> Result<StatusCode> {
    change_plan(&app.world, &owner.client, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pay no further period (`cancel`), or do so after all (`keep`).
#[utoipa::path(post, path = "/api/clients/{client_id}/plan/{order}", tag = "till", security(("bearer" = [])),
    params(("client_id" = String, Path), ("order" = String, Path, description = "cancel or keep")), responses(
    (status = 204, description = "So it is"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the owner or an admin may do this"),
    (status = 404, body = Problem, description = "No such client is yours to see, or no such order"),
    (status = 409, body = Problem, description = "The client pays for no plan"),
    (status = 503, body = Problem, description = "The till does not answer"),
))]
pub(super) async fn order_plan(
    State(app): State<App>,
    owner: Owner,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode> {
    let (_, order) = path;
    let cancelled = match order.as_str() {
        "cancel" => true,
        "keep" => false,
        _ => return Err(Error::NotFound),
    };
    set_cancelled(&app.world, &owner.client, cancelled).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The client's invoices, the newest first; at most a hundred.
#[utoipa::path(get, path = "/api/clients/{client_id}/invoices", tag = "till", security(("bearer" = [])),
    params(("client_id" = String, Path)), responses(
    (status = 200, body = Vec<Invoice>),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only the owner or an admin sees them"),
    (status = 404, body = Problem, description = "No such client is yours to see"),
    (status = 503, body = Problem, description = "The till does not answer"),
))]
pub(super) async fn get_invoices(State(app): State<App>, owner: Owner) -> Result<axum::Json<Vec<Invoice>>> {
    let client = app.world.store.client(&owner.client).await?.ok_or(Error::NotFound)?;
    Ok(axum::Json(invoices(&app.world, &client).await?))
}

pub async fn invoices(world: &World, client: &Client) -> Result<Vec<Invoice>> {
    let Some(customer) = &client.customer_id else { return Ok(Vec::new()) };
    let shown = |invoice: till::Invoice| Invoice {
        id: invoice.id,
        number: invoice.number,
        created_at: invoice.created_at,
        status: invoice.status,
        total_cents: invoice.total.0,
        paid_cents: invoice.paid.0,
        url: invoice.page,
        pdf_url: invoice.pdf,
    };
    Ok(world.till.invoices(customer, INVOICES).await?.into_iter().map(shown).collect())
}

/// The one way to ask, for the API and the page alike.
pub async fn preview_plan(world: &World, client: &ClientId, request: &CheckoutRequest) -> Result<PlanPreview> {
    let (plan, interval) = wanted(world, &request.plan_id, &request.interval)?;
    let (_, subscription) = may_change(world, client, request).await?;
    let at = Time(world.now().ms().div_euclid(1000) * 1000);
    let change = Change { subscription: &subscription, plan, interval, at };
    let preview = world.till.preview_change(&world.plans, &change).await.map_err(not_now)?;
    let line = |line: till::Line| PreviewLine { what: line.what, amount_cents: line.amount.0 };
    Ok(PlanPreview {
        plan_id: plan.id.clone(),
        interval: interval.as_str().to_owned(),
        at,
        lines: preview.lines.into_iter().map(line).collect(),
        due_cents: preview.due.0,
        credit_cents: preview.credit.0,
        price_cents: plan.price(interval).0,
        discounted: subscription.discounted,
    })
}

/// The one way to change, for the API and the page alike. What the till changed and could not tell us is learnt
/// from its event, or from the hourly look.
pub async fn change_plan(world: &World, client: &ClientId, request: &PlanChangeRequest) -> Result<()> {
    let order = CheckoutRequest { plan_id: request.plan_id.clone(), interval: request.interval.clone() };
    let (plan, interval) = wanted(world, &order.plan_id, &order.interval)?;
    let at: Time = request.at.parse().map_err(|_| Error::field("at", "must be the moment that the preview says"))?;
    let age = world.now().since(at);
    if at.ms() % 1000 != 0 || !(0..=GOOD_FOR).contains(&age) {
        return Err(Error::NotNow("These amounts are too old. Look at them anew, then confirm.".into()));
    }
    let row = world.store.client(client).await?.ok_or(Error::NotFound)?;
    if (row.plan.as_str(), row.interval) == (plan.id.as_str(), Some(interval)) && row.life.pays() {
        return Ok(()); // The same form, sent twice.
    }
    let (row, subscription) = may_change(world, client, &order).await?;
    let change = Change { subscription: &subscription, plan, interval, at };
    world.till.change_plan(&world.plans, &change).await.map_err(not_now)?;
    till_events::sync_client(world, &row).await
}

/// What the till refuses for what the subscription has become meanwhile: a period that began, say.
fn not_now(error: TillError) -> Error {
    match error {
        TillError::Refused { status: 400, message, .. } => {
            Error::NotNow(format!("The till does not allow this now: {message} Look at the amounts anew."))
        }
        error => error.into(),
    }
}

/// The client and its subscription, if it may change to that plan.
async fn may_change(world: &World, client: &ClientId, order: &CheckoutRequest) -> Result<(Client, Subscription)> {
    let (plan, interval) = wanted(world, &order.plan_id, &order.interval)?;
    let row = world.store.client(client).await?.ok_or(Error::NotFound)?;
    let used = Used {
        storage_bytes: world.store.usage(client).await?.storage_bytes,
        members: world.store.member_count(client).await?,
    };
    change::check(&row.life, (&row.plan, row.interval), (plan, interval), used)?;
    let id = row.subscription_id.as_ref().ok_or(Error::NotFound)?;
    let subscription = world.till.subscription(id).await?;
    let gone = || Error::NotNow("The till does not know this plan any more. Choose one and pay for it.".into());
    let subscription = subscription.ok_or_else(gone)?;
    // What no event has told yet.
    match subscription.status.as_str() {
        "active" if subscription.cancels_at_period_end => Err(NoChange::Cancelled.into()),
        "active" => Ok((row, subscription)),
        "past_due" => Err(NoChange::PaymentDue.into()),
        _ => Err(NoChange::PaysNothing.into()),
    }
}

/// Pays no further period, or does so after all.
pub async fn set_cancelled(world: &World, client: &ClientId, cancelled: bool) -> Result<()> {
    let row = world.store.client(client).await?.ok_or(Error::NotFound)?;
    let subscription = row.subscription_id.as_ref().filter(|_| row.life.pays());
    let subscription = subscription.ok_or_else(|| Error::NotNow("This client pays for no plan.".into()))?;
    world.till.cancel_at_period_end(subscription, cancelled).await?;
    till_events::sync_client(world, &row).await
}

//! The plan of a client who pays: choosing another (a form that asks what it would cost), confirming it, and
//! keeping one that was cancelled.

use std::collections::HashMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use stackpro_domain::plan::Interval;
use stackpro_protocol::api::{CheckoutRequest, PlanChangeRequest, PlanPreview};
use stackpro_store::Role;

use super::client::Look;
use super::form::{Posted, Refusal, go, page, page_with};
use crate::auth::Owner;
use crate::http::{self, App};
use crate::problem::{Error, Result};
use crate::web::client::PlanPage;

/// With what the chosen plan would cost, when one is chosen.
pub(super) async fn show(app: &App, look: &Look, query: &HashMap<String, String>) -> Result<Response> {
    let (client, word) = (&look.row.client, |name: &str| query.get(name).cloned());
    let current = client.interval.map_or("month", Interval::as_str).to_owned();
    let order = CheckoutRequest {
        plan_id: word("plan").unwrap_or_else(|| client.plan.clone()),
        interval: word("interval").unwrap_or(current),
    };
    let asked = query.contains_key("plan");
    let found = if asked { http::preview_plan(&app.world, &client.id, &order).await.map(Some) } else { Ok(None) };
    let (status, preview, problem) = match found {
        Ok(preview) => (StatusCode::OK, preview, None),
        Err(error) => refused(error)?,
    };
    page_with(status, &plan_page(app, look, &order, preview, problem).await)
}

type Shown = (StatusCode, Option<PlanPreview>, Option<String>);

fn refused(error: Error) -> Result<Shown> {
    let Refusal { status, errors, problem } = Refusal::of(error)?;
    let problem = problem.or_else(|| errors.first().map(|e| format!("{} {}.", e.field, e.message)));
    Ok((status, None, problem))
}

async fn plan_page(
    app: &App,
    look: &Look,
    order: &CheckoutRequest,
    preview: Option<PlanPreview>,
    problem: Option<String>,
) -> PlanPage {
    let client = &look.row.client;
    let may_pay = matches!(look.row.member.role, Role::Owner | Role::Admin);
    let invoices = if may_pay {
        let found = http::invoices(&app.world, client).await;
        found.inspect_err(|error| tracing::warn!(%error, "the till could not be asked for invoices")).ok()
    } else {
        None
    };
    PlanPage {
        frame: look.frame(),
        plans: app.world.plans.clone(),
        plan_name: look.plan_name(app),
        current: client.interval,
        paid_until: client.life.paid_until,
        ends_at: client.life.paid_until.filter(|_| client.life.cancels_at_period_end),
        plan: order.plan_id.clone(),
        interval: if order.interval == "year" { Interval::Year } else { Interval::Month },
        preview,
        invoices,
        may_pay,
        problem,
    }
}

/// As it was shown a moment ago. What was refused is shown anew, with what it would cost now.
pub(super) async fn change(State(app): State<App>, owner: Owner, look: Look, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    let request =
        PlanChangeRequest { plan_id: fields.text("planId"), interval: fields.text("interval"), at: fields.text("at") };
    let Err(error) = http::change_plan(&app.world, &owner.client, &request).await else {
        return Ok(go(&look.at("/upgrade?said=changed")));
    };
    let (status, _, problem) = refused(error)?;
    let order = CheckoutRequest { plan_id: request.plan_id, interval: request.interval };
    let preview = http::preview_plan(&app.world, &owner.client, &order).await.ok();
    page_with(status, &plan_page(&app, &look, &order, preview, problem).await)
}

/// A cancelled plan goes on after all.
pub(super) async fn keep(State(app): State<App>, owner: Owner, look: Look, _: Posted) -> Result<Response> {
    match http::set_cancelled(&app.world, &owner.client, false).await {
        Ok(()) => Ok(go(&look.at("/upgrade?said=kept"))),
        Err(error) => {
            let (_, _, problem) = refused(error)?;
            let (plan_id, client) = (look.row.client.plan.clone(), &look.row.client);
            let interval = client.interval.map_or("month", Interval::as_str).to_owned();
            page(&plan_page(&app, &look, &CheckoutRequest { plan_id, interval }, None, problem).await)
        }
    }
}

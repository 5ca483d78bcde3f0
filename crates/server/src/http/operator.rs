//! What only an operator may do: make a client, move its life by hand, and set a parked flow going again.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use stackpro_domain::lifecycle::{Event, GIVEN_DAYS};
use stackpro_domain::{ClientId, FlowId, Time};
use stackpro_protocol::api::{DeployRequest, DeployResponse, GivePlanRequest, Problem, Reversal};
use stackpro_store::{AuditRow, Client, Member, StackPhase};
use tokio::time::timeout;

use super::extract::{Check, Json};
use super::{App, shape};
use crate::auth::Operator;
use crate::lives::{self, NewClient};
use crate::problem::{Error, Result};
use crate::reconcilers::till_events;

/// Days of trial that a resumed client gets when it has not paid.
const RESUMED_DAYS: i64 = 7;
/// Refunds and disputes that are shown.
pub const REVERSALS: u32 = 100;

/// Make a client. Its owner gets a mail with a link to choose a password.
#[utoipa::path(post, path = "/api/deploy", tag = "operator", security(("bearer" = [])),
    request_body = DeployRequest, responses(
    (status = 201, body = DeployResponse, description = "Provisioning has begun"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only an operator may do this"),
    (status = 409, body = Problem, description = "The address has an account"),
    (status = 422, body = Problem, description = "Fields are wrong"),
))]
pub(super) async fn deploy(
    State(app): State<App>,
    Operator(operator): Operator,
    Json(request): Json<DeployRequest>,
) -> Result<impl IntoResponse> {
    let world = &app.world;
    let mut check = Check::default();
    let new = NewClient {
        email: check.email("email", &request.email),
        password_hash: None,
        first_name: check.name("firstName", &request.first_name),
        last_name: check.name("lastName", &request.last_name),
        company: check.name("company", &request.company),
        plan: request.plan.clone(),
        zone: check.zone("timeZone", request.time_zone.as_deref(), &world.settings.time_zone),
        recipe: check.recipe(world, request.recipe.as_deref()),
    };
    if world.plans.get(&request.plan).is_none() {
        check.wrong("plan", "is none of the plans");
    }
    check.finish()?;
    let mut tx = world.store.begin().await?;
    let (client, _) = lives::sign_up(world, &mut tx, new).await?;
    tx.audit(&audit(&app, &operator, "deploy", Some(&client.id), "")).await?;
    tx.commit().await?;
    let url = world.settings.client_url(&client.host);
    Ok((StatusCode::CREATED, axum::Json(DeployResponse { client_id: client.id, url })))
}

/// What an operator can order for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To an instance of their own.
    Migrate,
    Suspend,
    Resume,
    Delete,
}

impl Order {
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "migrate" => Some(Self::Migrate),
            "suspend" => Some(Self::Suspend),
            "resume" => Some(Self::Resume),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Delete => "delete",
        }
    }
}

/// Order something for a client: `migrate`, `suspend`, `resume` or `delete`.
#[utoipa::path(post, path = "/api/operator/clients/{client_id}/{order}", tag = "operator", security(("bearer" = [])),
    params(("client_id" = String, Path), ("order" = String, Path, description = "migrate, suspend, resume or delete")),
    responses(
    (status = 202, description = "It has begun; follow the deployment status"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only an operator may do this"),
    (status = 404, body = Problem, description = "No such client or order"),
    (status = 409, body = Problem, description = "The client's state does not allow it"),
))]
pub(super) async fn order_client(
    State(app): State<App>,
    Operator(operator): Operator,
    Path((client, word)): Path<(String, String)>,
) -> Result<StatusCode> {
    let client: ClientId = client.parse().map_err(|_| Error::NotFound)?;
    let what = Order::parse(&word).ok_or(Error::NotFound)?;
    order(&app, &operator, &client, what).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The one way, for the API and the console alike.
pub async fn order(app: &App, operator: &Member, client: &ClientId, what: Order) -> Result<()> {
    let world = &app.world;
    let mut tx = world.store.begin().await?;
    let mut row = tx.client(client).await?.ok_or(Error::NotFound)?;
    match what {
        Order::Migrate => {
            if row.stack != StackPhase::Ready {
                let why = format!("A client whose stack is {} cannot be migrated.", row.stack.as_str());
                return Err(Error::NotNow(why));
            }
            lives::migrate(world, &mut tx, &row).await?;
        }
        Order::Suspend => lives::apply(world, &mut tx, &mut row, Event::Suspended).await?,
        Order::Resume => lives::apply(world, &mut tx, &mut row, Event::Resumed { extra_days: RESUMED_DAYS }).await?,
        Order::Delete => lives::apply(world, &mut tx, &mut row, Event::Deleted).await?,
    }
    tx.audit(&audit(app, operator, what.as_str(), Some(client), "")).await?;
    tx.commit().await?;
    if what == Order::Delete {
        end_subscription(app, &row).await;
    }
    Ok(())
}

/// How long an operator's request waits for the till.
const TILL_WITHIN: Duration = Duration::from_secs(3);

/// Who is deleted pays no more, and on no page that is still open. If the till does not answer soon, what was paid is
/// ended by its sweep within the hour.
async fn end_subscription(app: &App, client: &Client) {
    let Some(customer) = &client.customer_id else { return };
    let ended = timeout(TILL_WITHIN, async {
        app.world.till.expire_checkouts(customer).await?;
        till_events::sync_client(&app.world, client).await
    });
    let why = match ended.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(late) => late.to_string(),
    };
    tracing::warn!(client = %client.id, why, "a deleted client's subscription is not ended yet");
}

/// More days for a client who has not paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gift {
    Trial,
    Grace,
}

impl Gift {
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "extend-trial" => Some(Self::Trial),
            "grant-grace" => Some(Self::Grace),
            _ => None,
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Trial => "extend trial",
            Self::Grace => "grant grace",
        }
    }
}

/// Give a client who has not paid more days, 1 to 90: of trial (`extend-trial`), or until the suspension
/// (`grant-grace`).
#[utoipa::path(post, path = "/api/operator/clients/{client_id}/{order}/{days}", tag = "operator",
    security(("bearer" = [])),
    params(("client_id" = String, Path), ("order" = String, Path, description = "extend-trial or grant-grace"),
        ("days" = String, Path, description = "1 to 90")),
    responses(
    (status = 204, description = "They are given"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only an operator may do this"),
    (status = 404, body = Problem, description = "No such client or order"),
    (status = 409, body = Problem, description = "The client pays, or is suspended or deleted"),
    (status = 422, body = Problem, description = "Not a number of days that can be given"),
))]
pub(super) async fn give_days_api(
    State(app): State<App>,
    Operator(operator): Operator,
    Path((client, word, days)): Path<(String, String, String)>,
) -> Result<StatusCode> {
    let client: ClientId = client.parse().map_err(|_| Error::NotFound)?;
    let what = Gift::parse(&word).ok_or(Error::NotFound)?;
    give_days(&app, &operator, &client, what, &days).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The one way, for the API and the console alike.
pub async fn give_days(app: &App, operator: &Member, client: &ClientId, what: Gift, days: &str) -> Result<()> {
    let days: Option<i64> = days.trim().parse().ok().filter(|days| GIVEN_DAYS.contains(days));
    let wrong = || Error::field("days", format!("must be from {} to {}", GIVEN_DAYS.start(), GIVEN_DAYS.end()));
    let days = days.ok_or_else(wrong)?;
    let world = &app.world;
    let mut tx = world.store.begin().await?;
    let mut row = tx.client(client).await?.ok_or(Error::NotFound)?;
    let event = match what {
        Gift::Trial => Event::TrialExtended { days },
        Gift::Grace => Event::GraceGranted { days },
    };
    lives::apply(world, &mut tx, &mut row, event).await?;
    tx.audit(&audit(app, operator, what.action(), Some(client), &format!("{days} days"))).await?;
    Ok(tx.commit().await?)
}

/// Give a client who pays for none a plan for nothing, until a time or for ever. It is no revenue; when it ends, the
/// days of grace begin, after the reminders of a trial. Given again it lasts as long as was said last.
#[utoipa::path(put, path = "/api/operator/clients/{client_id}/plan", tag = "operator", security(("bearer" = [])),
    params(("client_id" = String, Path)), request_body = GivePlanRequest, responses(
    (status = 204, description = "It is given"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only an operator may do this"),
    (status = 404, body = Problem, description = "No such client"),
    (status = 409, body = Problem, description = "The client pays for a plan or has a subscription that runs, or is deleted"),
    (status = 422, body = Problem, description = "No such plan, or not a time ahead"),
    (status = 503, body = Problem, description = "The till does not answer"),
))]
pub(super) async fn give_plan_api(
    State(app): State<App>,
    Operator(operator): Operator,
    Path(client): Path<String>,
    Json(request): Json<GivePlanRequest>,
) -> Result<StatusCode> {
    let client: ClientId = client.parse().map_err(|_| Error::NotFound)?;
    give_plan(&app, &operator, &client, &request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The one way, for the API and the console alike.
pub async fn give_plan(app: &App, operator: &Member, client: &ClientId, request: &GivePlanRequest) -> Result<()> {
    let world = &app.world;
    let mut check = Check::default();
    if world.plans.get(&request.plan_id).is_none() {
        check.wrong("planId", "is none of the plans");
    }
    let until: Option<Time> = request.until.as_ref().map(|until| {
        let time = until.parse().ok().filter(|until| *until > world.now());
        check.take("until", time, "must be a time ahead, such as 2027-01-31T00:00:00Z, or be left out")
    });
    check.finish()?;
    lives::may_be_given(world, client).await?;
    let mut tx = world.store.begin().await?;
    let mut row = tx.client(client).await?.ok_or(Error::NotFound)?;
    lives::give_plan(world, &mut tx, &mut row, &request.plan_id, until).await?;
    let length = until.map_or_else(|| "for ever".to_owned(), |until| format!("until {until}"));
    tx.audit(&audit(app, operator, "give plan", Some(client), &format!("{} {length}", row.plan))).await?;
    Ok(tx.commit().await?)
}

/// A client's refunds and disputes, the newest first; at most a hundred.
#[utoipa::path(get, path = "/api/operator/clients/{client_id}/reversals", tag = "operator", security(("bearer" = [])),
    params(("client_id" = String, Path)), responses(
    (status = 200, body = Vec<Reversal>),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only an operator may do this"),
    (status = 404, body = Problem, description = "No such client"),
))]
pub(super) async fn get_reversals(
    State(app): State<App>,
    _: Operator,
    Path(client): Path<String>,
) -> Result<axum::Json<Vec<Reversal>>> {
    let client: ClientId = client.parse().map_err(|_| Error::NotFound)?;
    app.world.store.client(&client).await?.ok_or(Error::NotFound)?;
    Ok(axum::Json(app.world.store.reversals_of(&client, REVERSALS).await?.iter().map(shape::reversal).collect()))
}

/// Set a parked flow going: `retry` in its direction, or `turn-back` to undo what it did.
#[utoipa::path(post, path = "/api/operator/flows/{flow_id}/{order}", tag = "operator", security(("bearer" = [])),
    params(("flow_id" = String, Path), ("order" = String, Path, description = "retry or turn-back")),
    responses(
    (status = 202, description = "It goes on"),
    (status = 401, body = Problem, description = "Not signed in"),
    (status = 403, body = Problem, description = "Only an operator may do this"),
    (status = 404, body = Problem, description = "No such flow or order"),
    (status = 409, body = Problem, description = "It is not parked, or is past its commit"),
))]
pub(super) async fn order_flow(
    State(app): State<App>,
    Operator(operator): Operator,
    Path((flow, word)): Path<(String, String)>,
) -> Result<StatusCode> {
    let flow: FlowId = flow.parse().map_err(|_| Error::NotFound)?;
    let back = match word.as_str() {
        "retry" => false,
        "turn-back" => true,
        _ => return Err(Error::NotFound),
    };
    set_going(&app, &operator, &flow, back).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The one way, for the API and the console alike.
pub async fn set_going(app: &App, operator: &Member, flow: &FlowId, back: bool) -> Result<()> {
    let world = &app.world;
    world.store.timeline(flow).await?.ok_or(Error::NotFound)?;
    let mut tx = world.store.begin().await?;
    let granted = if back { tx.turn_back_flow(flow).await? } else { tx.retry_flow(flow).await? };
    granted.map_err(|refused| Error::NotNow(format!("This is not possible: {refused}.")))?;
    let action = if back { "turn back flow" } else { "retry flow" };
    tx.audit(&audit(app, operator, action, None, flow.as_str())).await?;
    Ok(tx.commit().await?)
}

/// Sets a parked event of the till to be handled again.
pub async fn retry_event(app: &App, operator: &Member, event: &str) -> Result<()> {
    let world = &app.world;
    world.store.till_event(event).await?.ok_or(Error::NotFound)?;
    let mut tx = world.store.begin().await?;
    if !tx.retry_till_event(event, world.now()).await? {
        return Err(Error::NotNow("This event is not parked.".into()));
    }
    tx.audit(&audit(app, operator, "retry event", None, event)).await?;
    Ok(tx.commit().await?)
}

/// Lets mail through to an address again, also where the cloud holds it back.
pub async fn lift_suppression(app: &App, operator: &Member, address: &str) -> Result<()> {
    let world = &app.world;
    world.store.suppression(address).await?.ok_or(Error::NotFound)?;
    let forgiven = world.cloud.mail.forgive(address).await;
    forgiven.map_err(|error| Error::Unavailable(format!("an address was not lifted: {error}")))?;
    let mut tx = world.store.begin().await?;
    if tx.lift_suppression(address).await? {
        tx.audit(&audit(app, operator, "lift suppression", None, address)).await?;
    }
    Ok(tx.commit().await?)
}

fn audit(app: &App, operator: &Member, action: &str, client: Option<&ClientId>, detail: &str) -> AuditRow {
    AuditRow {
        at: app.world.now(),
        actor: operator.id.to_string(),
        action: action.to_owned(),
        client_id: client.cloned(),
        detail: detail.to_owned(),
    }
}

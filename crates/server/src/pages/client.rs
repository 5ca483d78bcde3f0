//! A client's pages: what runs, what happens when, the way to the till and to the files.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::response::Response;
use stackpro_domain::ClientId;
use stackpro_domain::lifecycle::{Event, State as LifeState};
use stackpro_domain::plan::Interval;
use stackpro_domain::zone::Zone;
use stackpro_protocol::agent::PortalLink;
use stackpro_protocol::api::{CheckoutRequest, Deployment, NextDate};
use stackpro_store::{DashboardRow, Role, StackPhase, Timeline};

use super::form::{Posted, Refusal, flash, go, page, page_with};
use super::lists::used_months;
use crate::auth::{ClientAccess, Owner};
use crate::flows::Migrate;
use crate::http::{self, App, shape};
use crate::lives;
use crate::problem::{Error, Result};
use crate::reconcilers::till_events;
use crate::secrets::portal_signature;
use crate::web::client::{
    CertificatePage, CheckoutReturn, Dashboard, Migration, MoveProgress, Portal, Settings, SignIn, Upgrade,
};
use crate::web::frame::ClientFrame;
use crate::world::dashboard_path;

/// What every page of a client shows around itself, and what most show within.
pub(super) struct Look {
    pub(super) access: ClientAccess,
    pub(super) row: DashboardRow,
    csrf: String,
    flash: Option<String>,
}

impl FromRequestParts<App> for Look {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let access = ClientAccess::from_request_parts(parts, app).await?;
        let row = http::row(app, &access).await?;
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, app).await.unwrap_or_default();
        let csrf = app.world.secrets.csrf_token(&access.claims.session);
        Ok(Self { access, row, csrf, flash: flash(query.0.get("said")) })
    }
}

impl Look {
    pub(super) fn frame(&self) -> ClientFrame {
        let (member, client) = (&self.row.member, &self.row.client);
        ClientFrame {
            csrf: self.csrf.clone(),
            client: client.id.clone(),
            company: client.company.clone(),
            person: format!("{} {}", member.first_name, member.last_name),
            email: member.email.clone(),
            verified: member.email_verified_at.is_some(),
            state: client.life.state.as_str().to_owned(),
            flash: self.flash.clone(),
        }
    }

    pub(super) fn at(&self, page: &str) -> String {
        format!("{}{page}", dashboard_path(&self.access.client))
    }

    fn deployment(&self, app: &App) -> Deployment {
        shape::deployment(&app.world, &self.row.client, self.row.timeline.as_ref())
    }

    pub(super) fn plan_name(&self, app: &App) -> String {
        let client = &self.row.client;
        match app.world.plans.get(&client.plan) {
            Some(plan) if client.life.given.is_some() => format!("{}, free", plan.name),
            Some(plan) if client.interval.is_some() => plan.name.clone(),
            _ => "Free trial".to_owned(),
        }
    }
}

pub(super) async fn show_dashboard(State(app): State<App>, look: Look) -> Result<Response> {
    page(&dashboard(&app, &look, false).await?)
}

async fn dashboard(app: &App, look: &Look, with_password: bool) -> Result<Dashboard> {
    let world = &app.world;
    let client = &look.row.client;
    let runs = matches!(client.stack, StackPhase::Ready | StackPhase::Migrating);
    let run = world.recipes.get(&client.recipe).and_then(|recipe| Some((recipe, recipe.run.as_ref()?)));
    let portal = (runs && run.is_none()).then(|| Portal {
        webdav_url: format!("{}/dav/", world.settings.client_url(&client.host)),
        user: client.id.to_string(),
        password: with_password.then(|| world.secrets.portal_password(&client.id, client.portal_rotation)),
    });
    let login = run.filter(|_| runs).and_then(|(recipe, run)| Some((recipe, run.login.as_ref()?)));
    let sign_in = login.map(|(recipe, login)| SignIn {
        title: recipe.title.clone(),
        url: format!("{}{}", world.settings.client_url(&client.host), login.path),
        user: login.user.clone(),
        password: with_password.then(|| world.secrets.recipe_secret(&client.id, &login.password)),
    });
    let began = NextDate { at: client.life.trial_started_at, what: "The trial began".to_owned() };
    let mut dates = vec![began];
    dates.extend(shape::dates(&client.life));
    Ok(Dashboard {
        frame: look.frame(),
        client: shape::client(client),
        plan_name: look.plan_name(app),
        deployment: look.deployment(app),
        usage: shape::usage(&world.plans, &look.row),
        months: used_months(world, &client.id).await?,
        dates,
        now: world.now(),
        state_ends_at: client.life.ends().map(|end| end.at),
        instance: client.hosting.as_ref().and_then(|hosting| hosting.cloud_id.clone()),
        portal,
        sign_in,
    })
}

pub(super) async fn show_portal_password(State(app): State<App>, look: Look, _: Posted) -> Result<Response> {
    page(&dashboard(&app, &look, true).await?)
}

/// To the file portal, by a link that is good once and for a minute.
pub(super) async fn open_portal(State(app): State<App>, look: Look, _: Posted) -> Result<Response> {
    let world = &app.world;
    let client = &look.row.client;
    let expires = world.real_now().ms() / 1000 + PortalLink::MAX_AGE_SECONDS - 5;
    let key = world.secrets.portal_key(&client.id);
    let signature = portal_signature(&key, &PortalLink::message(&client.id, expires));
    let host = world.settings.client_url(&client.host);
    Ok(go(&format!("{host}/portal/enter?expires={expires}&signature={signature}")))
}

pub(super) async fn show_upgrade(
    State(app): State<App>,
    look: Look,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response> {
    if look.row.client.life.pays() {
        return super::plan::show(&app, &look, &query).await;
    }
    let plan = query.get("plan").unwrap_or(&look.row.client.plan).clone();
    let interval = if query.get("interval").is_some_and(|i| i == "year") { Interval::Year } else { Interval::Month };
    page(&Upgrade { frame: look.frame(), plans: app.world.plans.clone(), plan, interval, problem: None })
}

/// To the till's page.
pub(super) async fn check_out(State(app): State<App>, owner: Owner, look: Look, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    let request = CheckoutRequest { plan_id: fields.text("planId"), interval: fields.text("interval") };
    match http::begin_checkout(&app.world, &owner.client, &owner.member.email, &request).await {
        Ok(checkout) => Ok(go(&checkout.url)),
        Err(error) => {
            let Refusal { status, errors, problem } = Refusal::of(error)?;
            let problem = problem.or_else(|| errors.first().map(|e| format!("{} {}.", e.field, e.message)));
            let interval = if request.interval == "year" { Interval::Year } else { Interval::Month };
            let (frame, plans) = (look.frame(), app.world.plans.clone());
            page_with(status, &Upgrade { frame, plans, plan: request.plan_id, interval, problem })
        }
    }
}

/// Back from the till. The webhook may be on its way: the till is asked.
pub(super) async fn show_paid(
    State(app): State<App>,
    look: Look,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Response> {
    if query.contains_key("cancelled") {
        return page(&CheckoutReturn { frame: look.frame(), cancelled: true });
    }
    if !look.row.client.life.pays() {
        if let Err(error) = till_events::sync_client(&app.world, &look.row.client).await {
            tracing::warn!(%error, "the till could not be asked about a payment");
        }
        let now = app.world.store.client(&look.access.client).await?.ok_or(Error::NotFound)?;
        if !now.life.pays() {
            return page(&CheckoutReturn { frame: look.frame(), cancelled: false });
        }
    }
    Ok(go(&look.at("/move")))
}

pub(super) async fn show_move(State(app): State<App>, look: Look) -> Result<Response> {
    let timelines = app.world.store.timelines(&look.access.client, 10).await?;
    let migration = timelines.iter().find(|timeline| timeline.flow.kind == "migrate");
    let deployment = shape::deployment(&app.world, &look.row.client, migration.or(look.row.timeline.as_ref()));
    let progress = match migration {
        Some(timeline) if deployment.status == "migrating" => progress(&app, &look.access.client, timeline).await,
        _ => None,
    };
    page(&Migration { frame: look.frame(), deployment, progress })
}

/// How far the copy is, if its destination says so at once.
async fn progress(app: &App, client: &ClientId, timeline: &Timeline) -> Option<MoveProgress> {
    let params: Migrate = serde_json::from_value(timeline.flow.params.clone()).ok()?;
    let destination = app.world.store.instance(&params.instance.id).await.ok()??;
    let agent = app.world.agents.of(&destination).ok()?;
    let status = tokio::time::timeout(Duration::from_millis(500), agent.move_status(client)).await.ok()?.ok()??;
    Some(MoveProgress {
        files: status.files_copied,
        files_total: status.files_total,
        bytes: status.bytes_copied,
        bytes_total: status.bytes_total,
    })
}

pub(super) async fn show_certificate(look: Look) -> Result<Response> {
    let certificate = look.row.client.certificate.clone().ok_or(Error::NotFound)?;
    page(&CertificatePage { frame: look.frame(), certificate })
}

pub(super) async fn show_settings(State(app): State<App>, look: Look) -> Result<Response> {
    page(&settings(&app, &look, None))
}

fn settings(app: &App, look: &Look, problem: Option<String>) -> Settings {
    let client = &look.row.client;
    let role = look.row.member.role;
    let may_run = matches!(role, Role::Owner | Role::Admin);
    let open = matches!(client.life.state, LifeState::Trial | LifeState::Grace)
        || client.life.state.is_paying() && !client.life.cancels_at_period_end;
    Settings {
        frame: look.frame(),
        role: role.as_str().to_owned(),
        plan_name: look.plan_name(app),
        interval: client.interval.map(|interval| interval.as_str().to_owned()),
        billing: may_run && client.customer_id.is_some(),
        may_cancel: may_run && open,
        ends_at: client.life.paid_until.filter(|_| client.life.cancels_at_period_end),
        retention_days: app.world.plans.trial.retention_days,
        time_zone: client.life.zone.as_str().to_owned(),
        time_zones: if may_run { zones(&client.life.zone) } else { Vec::new() },
        problem,
    }
}

/// Those of places, and theirs, whatever it is.
fn zones(theirs: &Zone) -> Vec<String> {
    let mut all = Zone::all();
    if let Err(place) = all.binary_search_by(|name| name.as_str().cmp(theirs.as_str())) {
        all.insert(place, theirs.as_str().to_owned());
    }
    all
}

pub(super) async fn set_time_zone(State(app): State<App>, owner: Owner, look: Look, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    let Some(zone) = Zone::parse(fields.get("timeZone")) else {
        let problem = Some("Choose one of the time zones in the list.".to_owned());
        return page_with(axum::http::StatusCode::UNPROCESSABLE_ENTITY, &settings(&app, &look, problem));
    };
    let mut tx = app.world.store.begin().await?;
    let mut row = tx.client(&owner.client).await?.ok_or(Error::NotFound)?;
    row.life.zone = zone;
    tx.update_client(&row).await?;
    tx.commit().await?;
    Ok(go(&look.at("/settings?said=time-zone")))
}

/// To the till's page of cards and invoices.
pub(super) async fn open_billing(State(app): State<App>, owner: Owner, look: Look, _: Posted) -> Result<Response> {
    let Some(customer) = &look.row.client.customer_id else { return Ok(go(&look.at("/upgrade"))) };
    let back = format!("{}/settings", app.world.settings.dashboard_url(&owner.client));
    Ok(go(&app.world.till.create_portal(customer, back).await?))
}

/// A trial ends now; what is paid for runs until its end.
pub(super) async fn cancel(State(app): State<App>, owner: Owner, look: Look, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    if fields.get("sure") != "yes" {
        let problem = Some("Tick the box to say that you are sure.".to_owned());
        return page_with(axum::http::StatusCode::UNPROCESSABLE_ENTITY, &settings(&app, &look, problem));
    }
    let client = &look.row.client;
    if client.life.pays() {
        http::set_cancelled(&app.world, &owner.client, true).await?;
    } else {
        let mut tx = app.world.store.begin().await?;
        let mut row = tx.client(&owner.client).await?.ok_or(Error::NotFound)?;
        lives::apply(&app.world, &mut tx, &mut row, Event::TrialCancelled).await?;
        tx.commit().await?;
    }
    Ok(go(&look.at("/settings?said=cancelled")))
}

//! The public site: home, plans, the way in and out, and the links that mails carry.

use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use stackpro_domain::MemberId;
use stackpro_domain::plan::Interval;
use stackpro_domain::zone::Zone;
use stackpro_protocol::api::{ContactRequest, SignupRequest};
use stackpro_store::{Member, Purpose, Tx};

use super::form::{Open, Posted, Refusal, go, page, page_with, site_frame};
use crate::admission;
use crate::auth::{Address, Caller, hash_token, password, session};
use crate::http::{self, App, home_of};
use crate::problem::{Error, Result};
use crate::web::site::{
    Choice, Contact, Home, Login, PlansPage, SetPassword, Signup, SignupForm, Verification, Verify,
};
use crate::web::{api_reference::ApiReference, assets};

/// What addresses of the site may carry.
#[derive(Default, Deserialize)]
pub(super) struct Asked {
    interval: Option<String>,
    plan: Option<String>,
    next: Option<String>,
    #[serde(default)]
    token: String,
}

pub(super) async fn show_home(State(app): State<App>, caller: Option<Caller>) -> Result<Response> {
    page(&Home { frame: site_frame(caller.as_ref()), plans: app.world.plans.clone() })
}

pub(super) async fn show_plans(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let interval = if asked.interval.as_deref() == Some("year") { Interval::Year } else { Interval::Month };
    page(&PlansPage { frame: site_frame(caller.as_ref()), plans: app.world.plans.clone(), interval })
}

pub(super) async fn show_signup(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    let form = SignupForm { plan: asked.plan.unwrap_or_default(), ..SignupForm::default() };
    page(&signup_view(&app, caller.as_ref(), form))
}

fn signup_view(app: &App, caller: Option<&Caller>, form: SignupForm) -> Signup {
    let (frame, plans) = (site_frame(caller), app.world.plans.clone());
    let recipes = app.world.recipes.sold().map(Choice::of).collect();
    Signup { frame, csrf: String::new(), plans, recipes, form, errors: Vec::new(), problem: None }
}

pub(super) async fn sign_up(
    State(app): State<App>,
    caller: Option<Caller>,
    address: Address,
    Open(fields): Open,
) -> Result<Response> {
    let request = SignupRequest {
        email: fields.text("email"),
        password: fields.text("password"),
        first_name: fields.text("firstName"),
        last_name: fields.text("lastName"),
        company: fields.text("company"),
        plan: fields.text("plan"),
        // The browser's, which may know more zones than we do.
        time_zone: Zone::parse(fields.get("timeZone")).map(|zone| zone.as_str().to_owned()),
        // The form has none where there is no choice.
        recipe: Some(fields.text("recipe")).filter(|recipe| !recipe.is_empty()),
    };
    match http::sign_up(&app, &address, &request).await {
        Ok((client, member)) => enter(&app, &member, &home_of(Some(&client.id))).await,
        Err(error) => {
            let Refusal { status, errors, problem } = Refusal::of(error)?;
            let SignupRequest { email, first_name, last_name, company, plan, recipe, .. } = request;
            let recipe = recipe.unwrap_or_default();
            let form = SignupForm { email, first_name, last_name, company, plan, recipe };
            page_with(status, &Signup { errors, problem, ..signup_view(&app, caller.as_ref(), form) })
        }
    }
}

/// Begins a session and goes on.
pub(super) async fn enter(app: &App, member: &Member, to: &str) -> Result<Response> {
    let mut tx = app.world.store.begin().await?;
    let opened = session::open(app, &mut tx, member).await?;
    tx.commit().await?;
    let mut response = go(to);
    session::append(response.headers_mut(), session::set_cookies(app, &opened));
    Ok(response)
}

pub(super) async fn show_login(caller: Option<Caller>, Query(asked): Query<Asked>) -> Result<Response> {
    let next = asked.next.filter(|next| is_ours(next));
    let frame = site_frame(caller.as_ref());
    page(&Login { frame, csrf: String::new(), email: String::new(), problem: None, next })
}

pub(super) async fn log_in(
    State(app): State<App>,
    caller: Option<Caller>,
    address: Address,
    Open(fields): Open,
) -> Result<Response> {
    let next = Some(fields.text("next")).filter(|next| is_ours(next));
    let email = fields.text("email");
    match http::log_in(&app, &address, &email, fields.text("password")).await {
        Ok(member) => {
            let home = home_of(member.client_id.as_ref());
            enter(&app, &member, next.as_deref().unwrap_or(&home)).await
        }
        Err(error) => {
            let Refusal { status, errors, problem } = Refusal::of(error)?;
            let problem = problem.or_else(|| errors.first().map(|e| format!("The {} {}.", e.field, e.message)));
            let frame = site_frame(caller.as_ref());
            page_with(status, &Login { frame, csrf: String::new(), email, problem, next })
        }
    }
}

/// A path of our own pages: what a browser would take for another host's is not.
fn is_ours(next: &str) -> bool {
    next.starts_with('/')
        && !next.starts_with("//")
        && next.len() <= 512
        && next.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
}

pub(super) async fn log_out(State(app): State<App>, caller: Option<Caller>, form: Result<Posted>) -> Result<Response> {
    // Whose session ended already is out as well.
    if let Some(Caller(claims)) = caller {
        form?;
        session::end(&app, &claims.session).await?;
    }
    let mut response = go("/");
    session::append(response.headers_mut(), session::clear_cookies(&app));
    Ok(response)
}

pub(super) async fn show_contact(caller: Option<Caller>) -> Result<Response> {
    page(&contact_view(caller.as_ref()))
}

fn contact_view(caller: Option<&Caller>) -> Contact {
    Contact {
        frame: site_frame(caller),
        csrf: String::new(),
        name: String::new(),
        email: String::new(),
        message: String::new(),
        errors: Vec::new(),
        sent: false,
    }
}

pub(super) async fn send_contact(
    State(app): State<App>,
    caller: Option<Caller>,
    address: Address,
    Open(fields): Open,
) -> Result<Response> {
    let (name, email, message) = (fields.text("name"), fields.text("email"), fields.text("message"));
    let request = ContactRequest { name, email, message };
    let view = contact_view(caller.as_ref());
    match http::contact(&app, &address, &request).await {
        Ok(()) => page(&Contact { sent: true, ..view }),
        Err(error @ Error::Invalid(_)) => {
            let Refusal { status, errors, .. } = Refusal::of(error)?;
            let ContactRequest { name, email, message } = request;
            page_with(status, &Contact { name, email, message, errors, ..view })
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn show_verify(caller: Option<Caller>, Query(asked): Query<Asked>) -> Result<Response> {
    let frame = site_frame(caller.as_ref());
    page(&Verify { frame, csrf: String::new(), token: asked.token, outcome: None })
}

pub(super) async fn verify(State(app): State<App>, caller: Option<Caller>, Open(fields): Open) -> Result<Response> {
    let world = &app.world;
    let mut tx = world.store.begin().await?;
    let member = holder(&app, &mut tx, Purpose::VerifyEmail, fields.get("token")).await?;
    let (status, outcome) = match member {
        Some(mut member) if member.email_verified_at.is_none() => {
            member.email_verified_at = Some(world.now());
            tx.update_member(&member).await?;
            let lost = admission::confirmed(world, &mut tx, &member).await?;
            (StatusCode::OK, lost.map_or(Verification::Verified, |whose| Verification::TrialOver { whose }))
        }
        Some(_) => (StatusCode::OK, Verification::Already),
        None => (StatusCode::GONE, Verification::Invalid),
    };
    tx.commit().await?;
    let frame = site_frame(caller.as_ref());
    page_with(status, &Verify { frame, csrf: String::new(), token: String::new(), outcome: Some(outcome) })
}

/// Uses a one-time token up; whose it was.
async fn holder(app: &App, tx: &mut Tx, purpose: Purpose, token: &str) -> Result<Option<Member>> {
    let subject = tx.use_token(purpose, &hash_token(token), app.world.real_now()).await?;
    let Some(id) = subject.and_then(|subject| subject.parse::<MemberId>().ok()) else { return Ok(None) };
    Ok(tx.member(&id).await?)
}

pub(super) async fn show_set_password(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Response> {
    set_password_view(&app, caller.as_ref(), asked.token).await.and_then(|view| page(&view))
}

/// Looks whose link it is without using it up: the transaction is taken back.
async fn set_password_view(app: &App, caller: Option<&Caller>, token: String) -> Result<SetPassword> {
    let mut tx = app.world.store.begin().await?;
    let member = holder(app, &mut tx, Purpose::SetPassword, &token).await?;
    drop(tx);
    let client = match member.as_ref().and_then(|member| member.client_id.as_ref()) {
        Some(client) => app.world.store.client(client).await?,
        None => None,
    };
    Ok(SetPassword {
        frame: site_frame(caller),
        csrf: String::new(),
        token,
        expired: member.is_none(),
        email: member.map(|member| member.email).unwrap_or_default(),
        company: client.map_or_else(|| app.world.settings.name.clone(), |client| client.company),
        errors: Vec::new(),
    })
}

pub(super) async fn set_password(
    State(app): State<App>,
    caller: Option<Caller>,
    Open(fields): Open,
) -> Result<Response> {
    let view = set_password_view(&app, caller.as_ref(), fields.text("token")).await?;
    if view.expired {
        return page_with(StatusCode::GONE, &view);
    }
    let hash = match new_password(&app, fields.text("password"), vec![view.email.clone(), view.company.clone()]).await {
        Ok(hash) => hash,
        Err(error) => {
            let Refusal { status, errors, .. } = Refusal::of(error)?;
            return page_with(status, &SetPassword { errors, ..view });
        }
    };
    let mut tx = app.world.store.begin().await?;
    let Some(mut member) = holder(&app, &mut tx, Purpose::SetPassword, &view.token).await? else {
        return page_with(StatusCode::GONE, &SetPassword { expired: true, ..view });
    };
    member.password_hash = Some(hash);
    // The link came by mail: who has it has the address.
    member.email_verified_at.get_or_insert(app.world.now());
    tx.update_member(&member).await?;
    tx.delete_sessions_of(&member.id).await?;
    tx.commit().await?;
    enter(&app, &member, &home_of(member.client_id.as_ref())).await
}

/// Judges a new password and hashes it.
pub(super) async fn new_password(app: &App, password: String, about: Vec<String>) -> Result<String> {
    if let Some(message) = password::length_problem(&password) {
        return Err(Error::field("password", message));
    }
    if let Some(message) = app.world.passwords.judge(password.clone(), about).await? {
        return Err(Error::field("password", message));
    }
    Ok(app.world.passwords.hash(password).await?)
}

pub(super) async fn show_api(State(app): State<App>, caller: Option<Caller>) -> Result<Response> {
    let document = serde_json::from_str(app.openapi()).unwrap_or_default();
    page(&ApiReference::from_openapi(site_frame(caller.as_ref()), &document))
}

/// The address of a file carries its version, so it is good for ever.
pub(super) async fn get_asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response> {
    let asset = assets::get(&name).ok_or(Error::NotFound)?;
    let etag = format!("\"{}\"", asset.version);
    let cache = "public, max-age=31536000, immutable".to_owned();
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag), (CACHE_CONTROL, cache)]).into_response());
    }
    Ok(([(CONTENT_TYPE, asset.content_type), (ETAG, etag), (CACHE_CONTROL, cache)], asset.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_log_in_nobody_is_led_away() {
        for ours in ["/", "/dashboard/acme-7f3k/move?x=1"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a b", "/a\r\nb", "dashboard"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}

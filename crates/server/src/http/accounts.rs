//! Sign up, log in, log out, and the contact form.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use stackpro_domain::ClientId;
use stackpro_protocol::api::{ContactRequest, LoginRequest, LoginResponse, Problem, SignupRequest, SignupResponse};
use stackpro_store::{Client, Contact, Member};

use super::App;
use super::extract::{Check, Json};
use super::shape;
use crate::admission;
use crate::auth::{Address, Caller, limit_rate, password, session};
use crate::lives::{self, NewClient};
use crate::problem::{Error, Result};
use crate::world::dashboard_path;

/// Sign up: a client, its owner, and a stack that is being provisioned.
#[utoipa::path(post, path = "/api/auth/signup", tag = "accounts", request_body = SignupRequest, responses(
    (status = 201, body = SignupResponse, description = "Provisioning has begun; follow the deployment status"),
    (status = 409, body = Problem, description = "The address has an account, or the company has had its trial"),
    (status = 422, body = Problem, description = "Fields are wrong, or the address is one that is thrown away"),
    (status = 429, body = Problem, description = "Too many sign-ups from this address or its network"),
    (status = 503, body = Problem, description = "Busy: try again after `Retry-After`"),
))]
pub(super) async fn sign_up_api(
    State(app): State<App>,
    address: Address,
    Json(request): Json<SignupRequest>,
) -> Result<impl IntoResponse> {
    let (client, member) = sign_up(&app, &address, &request).await?;
    let answer = SignupResponse {
        user: shape::user(&member),
        client_id: client.id.clone(),
        token: token(&app, &member).await?,
        dashboard_url: app.world.settings.dashboard_url(&client.id),
    };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// The one way in, for the API and the page alike.
pub async fn sign_up(app: &App, address: &Address, request: &SignupRequest) -> Result<(Client, Member)> {
    let world = &app.world;
    let mut check = Check::default();
    let email = check.email("email", &request.email);
    let first_name = check.name("firstName", &request.first_name);
    let last_name = check.name("lastName", &request.last_name);
    let company = check.name("company", &request.company);
    let zone = check.zone("timeZone", request.time_zone.as_deref(), &world.settings.time_zone);
    if world.plans.get(&request.plan).is_none() {
        let known: Vec<&str> = world.plans.plans.iter().map(|plan| plan.id.as_str()).collect();
        check.wrong("plan", format!("must be one of {}", known.join(", ")));
    }
    let recipe = check.recipe(world, request.recipe.as_deref());
    let short = password::length_problem(&request.password);
    let judged = short.is_none();
    if let Some(message) = short {
        check.wrong("password", message);
    }
    limit_rate(app, &[(format!("signup:{}", address.0), world.settings.rates.signup_address)]).await?;
    if judged {
        let compact = company.replace(' ', "");
        let about = vec![email.clone(), first_name.clone(), last_name.clone(), company.clone(), compact];
        if let Some(message) = world.passwords.judge(request.password.clone(), about).await? {
            check.wrong("password", message);
        }
    }
    check.finish()?;
    let admission = admission::judge(app, address, &email).await?;
    if world.store.member_by_email(&email).await?.is_some() {
        return Err(Error::email_taken());
    }
    let password_hash = Some(world.passwords.hash(request.password.clone()).await?);
    let plan = request.plan.clone();
    let new = NewClient { email, password_hash, first_name, last_name, company, plan, zone, recipe };
    let mut tx = world.store.begin().await?;
    admission::check(world, &mut tx, &admission).await?;
    let made = lives::sign_up(world, &mut tx, new).await?;
    admission::keep(world, &mut tx, &made.0.id, &admission).await?;
    tx.commit().await?;
    Ok(made)
}

/// Log in: an access token for a quarter of an hour.
#[utoipa::path(post, path = "/api/auth/login", tag = "accounts", request_body = LoginRequest, responses(
    (status = 200, body = LoginResponse),
    (status = 401, body = Problem, description = "The address or the password is wrong"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 429, body = Problem, description = "Too many attempts for this account or from this network address"),
    (status = 503, body = Problem, description = "Busy: try again after `Retry-After`"),
))]
pub(super) async fn log_in_api(
    State(app): State<App>,
    address: Address,
    Json(request): Json<LoginRequest>,
) -> Result<axum::Json<LoginResponse>> {
    let member = log_in(&app, &address, &request.email, request.password).await?;
    let token = token(&app, &member).await?;
    Ok(axum::Json(LoginResponse { user: shape::user(&member), client_id: member.client_id, token }))
}

/// Whose address and password these are. It takes as long, and says the same, whether there is such an
/// account or not.
pub async fn log_in(app: &App, address: &Address, email: &str, password: String) -> Result<Member> {
    let world = &app.world;
    let mut check = Check::default();
    let email = check.email("email", email);
    if password.is_empty() || password.chars().count() > password::MAX_LENGTH {
        check.wrong("password", if password.is_empty() { "is empty" } else { "is too long" });
    }
    check.finish()?;
    let rates = &world.settings.rates;
    let account = (format!("login:{email}"), rates.login_account);
    limit_rate(app, &[account, (format!("login-from:{}", address.0), rates.login_address)]).await?;
    let member = world.store.member_by_email(&email).await?;
    let hash = member.as_ref().and_then(|member| member.password_hash.clone());
    let right = world.passwords.verify(password, hash).await?;
    member.filter(|_| right).ok_or(Error::WrongPassword)
}

/// Log out: the token is not accepted any more.
#[utoipa::path(post, path = "/api/auth/logout", tag = "accounts", security(("bearer" = [])), responses(
    (status = 204, description = "Logged out"),
    (status = 401, body = Problem, description = "Not signed in"),
))]
pub(super) async fn log_out_api(State(app): State<App>, Caller(claims): Caller) -> Result<StatusCode> {
    session::end(&app, &claims.session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Write to whoever runs this.
#[utoipa::path(post, path = "/api/contact", tag = "accounts", request_body = ContactRequest, responses(
    (status = 202, description = "It will be read"),
    (status = 422, body = Problem, description = "Fields are wrong"),
    (status = 429, body = Problem, description = "Too many messages from this network address"),
))]
pub(super) async fn send_contact(
    State(app): State<App>,
    address: Address,
    Json(request): Json<ContactRequest>,
) -> Result<StatusCode> {
    contact(&app, &address, &request).await?;
    Ok(StatusCode::ACCEPTED)
}

pub async fn contact(app: &App, address: &Address, request: &ContactRequest) -> Result<()> {
    let world = &app.world;
    let mut check = Check::default();
    let name = check.name("name", &request.name);
    let email = check.email("email", &request.email);
    let message = check.text("message", &request.message, 5_000);
    check.finish()?;
    limit_rate(app, &[(format!("contact:{}", address.0), world.settings.rates.contact_address)]).await?;
    let now = world.now();
    let mut tx = world.store.begin().await?;
    tx.insert_contact(&Contact { id: world.ids.uuid(now), name, email, message, created_at: now }).await?;
    Ok(tx.commit().await?)
}

/// An access token of a session of its own.
async fn token(app: &App, member: &Member) -> Result<String> {
    let mut tx = app.world.store.begin().await?;
    let token = session::open_for_token(app, &mut tx, member).await?;
    tx.commit().await?;
    Ok(token)
}

/// Where a member goes after they have signed in.
pub fn home_of(client: Option<&ClientId>) -> String {
    client.map_or_else(|| "/console".into(), dashboard_path)
}

//! A client's people: who they are, inviting one more, and proving an address.

use axum::extract::State;
use axum::response::Response;
use stackpro_store::{Member, Role};

use super::client::Look;
use super::form::{Posted, Refusal, go, page, page_with};
use crate::auth::{Verified, limit_rate};
use crate::http::extract::Check;
use crate::http::{App, shape};
use crate::letters;
use crate::problem::{Error, Result};
use crate::web::client::{self as view, Members};
use crate::world::dashboard_path;

pub(super) async fn show_members(State(app): State<App>, look: Look) -> Result<Response> {
    page(&members(&app, &look).await?)
}

async fn members(app: &App, look: &Look) -> Result<Members> {
    let rows = app.world.store.members(&look.access.client).await?;
    let you = &look.row.member.id;
    let members = rows.iter().map(|member| view::Member {
        id: member.id.clone(),
        name: format!("{} {}", member.first_name, member.last_name),
        email: member.email.clone(),
        role: member.role.as_str().to_owned(),
        joined_at: member.password_hash.as_ref().map(|_| member.created_at),
        you: member.id == *you,
    });
    Ok(Members {
        frame: look.frame(),
        members: members.collect(),
        limit: shape::limits(&app.world.plans, &look.row.client).members,
        may_invite: matches!(look.row.member.role, Role::Owner | Role::Admin),
        email: String::new(),
        first_name: String::new(),
        last_name: String::new(),
        role: "member".to_owned(),
        errors: Vec::new(),
    })
}

pub(super) async fn invite(State(app): State<App>, verified: Verified, look: Look, form: Posted) -> Result<Response> {
    let Posted(fields) = form;
    let mut check = Check::default();
    let invited = Member {
        id: app.world.ids.member(app.world.now()),
        client_id: Some(verified.client.clone()),
        email: check.email("email", fields.get("email")),
        first_name: check.name("firstName", fields.get("firstName")),
        last_name: check.name("lastName", fields.get("lastName")),
        role: if fields.get("role") == "admin" { Role::Admin } else { Role::Member },
        password_hash: None,
        email_verified_at: None,
        created_at: app.world.now(),
    };
    let done = match check.finish() {
        Ok(()) => add(&app, &verified, &invited).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Ok(go(&format!("{}/members?said=invited", dashboard_path(&verified.client)))),
        Err(error) => {
            let Refusal { status, mut errors, problem } = Refusal::of(error)?;
            errors.extend(problem.map(|message| stackpro_protocol::api::FieldError { field: "email".into(), message }));
            let view = members(&app, &look).await?;
            let (email, first_name, last_name) =
                (fields.text("email"), fields.text("firstName"), fields.text("lastName"));
            page_with(status, &Members { email, first_name, last_name, role: fields.text("role"), errors, ..view })
        }
    }
}

/// The limit is checked where the member is written, so that two invitations at once do not pass it.
async fn add(app: &App, by: &Verified, invited: &Member) -> Result<()> {
    let world = &app.world;
    limit_rate(app, &[(format!("mail:{}", by.member.id), world.settings.rates.mail_member)]).await?;
    let mut tx = world.store.begin().await?;
    let client = tx.client(&by.client).await?.ok_or(Error::NotFound)?;
    let count = tx.member_count(&by.client).await?;
    shape::limits(&world.plans, &client).check_members(count)?;
    tx.insert_member(invited).await?;
    letters::invite(world, &mut tx, &client, &by.member, invited).await?;
    Ok(tx.commit().await?)
}

/// The link of the welcome mail, once more.
pub(super) async fn send_verification(State(app): State<App>, look: Look, _: Posted) -> Result<Response> {
    let world = &app.world;
    let member = &look.row.member;
    if member.client_id.as_ref() != Some(&look.access.client) {
        return Err(Error::Forbidden("Only their own members confirm an address here."));
    }
    if member.email_verified_at.is_none() {
        limit_rate(&app, &[(format!("mail:{}", member.id), world.settings.rates.mail_member)]).await?;
        let mut tx = world.store.begin().await?;
        letters::verify(world, &mut tx, &look.row.client, member).await?;
        tx.commit().await?;
    }
    Ok(go(&format!("{}?said=sent", dashboard_path(&look.access.client))))
}

//! Which mail goes to whom, written in the transaction of what it is about. The words are in [`crate::web::mail`].

use stackpro_domain::lifecycle::Reminder;
use stackpro_domain::limits::LimitReached;
use stackpro_domain::mail::MailState;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::time::DAY;
use stackpro_domain::{ClientId, Span, Time};
use stackpro_store::{Client, Member, OutMail, Purpose, Resource, Role, StoreError, Tx};

use crate::http::shape::limits;
use crate::lives::one_time_link;
use crate::problem::Error;
use crate::web::mail::{Mail, Receipt, Recipient};
use crate::world::World;

/// How long the link in a welcome or an invitation works.
const LINK_MS: i64 = 14 * DAY;

/// To the owner of a new client: to confirm their address, or to choose a password when the operator made
/// the client for them.
pub async fn welcome(world: &World, tx: &mut Tx, client: &Client, owner: &Member) -> Result<(), StoreError> {
    let settings = &world.settings;
    let (kind, mail) = if owner.password_hash.is_some() {
        let verify_url = one_time_link(world, tx, Purpose::VerifyEmail, &owner.id, LINK_MS).await?;
        let mail = Mail::Welcome {
            verify_url,
            site_url: settings.client_url(&client.host),
            dashboard_url: settings.dashboard_url(&client.id),
            trial_ends_at: client.life.trial_ends_at,
        };
        ("welcome", mail)
    } else {
        let set_password_url = one_time_link(world, tx, Purpose::SetPassword, &owner.id, LINK_MS).await?;
        ("invitation", Mail::Invitation { inviter: settings.name.clone(), set_password_url })
    };
    let id = format!("{kind}-{}", owner.id);
    send(world, tx, Letter { id, kind, client: Some(client), to: owner, mail }).await
}

/// The link to confirm an address, once more.
pub async fn verify(world: &World, tx: &mut Tx, client: &Client, member: &Member) -> Result<(), StoreError> {
    let verify_url = one_time_link(world, tx, Purpose::VerifyEmail, &member.id, LINK_MS).await?;
    let id = world.ids.uuid(world.clock.now());
    let mail = Mail::VerifyAddress { verify_url };
    send(world, tx, Letter { id, kind: "verify_address", client: Some(client), to: member, mail }).await
}

/// To a person whom a member invites.
pub async fn invite(
    world: &World,
    tx: &mut Tx,
    client: &Client,
    inviter: &Member,
    invited: &Member,
) -> Result<(), StoreError> {
    let set_password_url = one_time_link(world, tx, Purpose::SetPassword, &invited.id, LINK_MS).await?;
    let inviter = format!("{} {}", inviter.first_name, inviter.last_name);
    let mail = Mail::Invitation { inviter, set_password_url };
    send(
        world,
        tx,
        Letter {
            id: format!("invitation-{}", invited.id),
            kind: "invitation",
            client: Some(client),
            to: invited,
            mail,
        },
    )
    .await
}

/// To the owners, about a date. The receipt of a deletion follows when there is something to receipt.
pub async fn remind(world: &World, tx: &mut Tx, client: &Client, reminder: Reminder) -> Result<(), StoreError> {
    let life = &client.life;
    let upgrade_url = format!("{}/upgrade", world.settings.dashboard_url(&client.id));
    let now = world.clock.now();
    let delete_at = life.delete_at.unwrap_or(now);
    let (kind, mail) = match reminder {
        Reminder::TrialEndsIn { days } => {
            (format!("trial_ends_in_{days}"), Mail::TrialEnds { days, at: life.trial_ends_at, upgrade_url })
        }
        Reminder::GraceBegan => ("grace_began".into(), Mail::GraceBegan { pauses_at: life.grace_ends_at, upgrade_url }),
        Reminder::GivenEndsIn { days } => {
            let plan = plan_name(world, client);
            (format!("given_ends_in_{days}"), Mail::GivenEnds { days, plan, at: life.trial_ends_at, upgrade_url })
        }
        Reminder::GivenEnded => {
            let plan = plan_name(world, client);
            ("given_ended".into(), Mail::GivenEnded { plan, pauses_at: life.grace_ends_at, upgrade_url })
        }
        Reminder::TrialHadAlready => {
            let support = world.settings.support_email.clone();
            ("trial_had_already".into(), Mail::TrialHadAlready { delete_at, support, upgrade_url })
        }
        Reminder::Suspended => ("suspended".into(), Mail::Suspended { delete_at, upgrade_url }),
        Reminder::DeletionIn { days } => {
            (format!("deletion_in_{days}"), Mail::DeletionIn { days, at: delete_at, upgrade_url })
        }
        Reminder::PaymentFailed => {
            let billing_url = world.settings.dashboard_url(&client.id);
            let pauses_at = life.dunning_ends_at.unwrap_or(now);
            ("payment_failed".into(), Mail::PaymentFailed { pauses_at, billing_url })
        }
        Reminder::Deleted => return Ok(()),
    };
    for owner in owners(world, &client.id).await? {
        let id = world.ids.uuid(now);
        send(world, tx, Letter { id, kind: &kind, client: Some(client), to: &owner, mail: mail.clone() }).await?;
    }
    Ok(())
}

fn plan_name(world: &World, client: &Client) -> String {
    world.plans.get(&client.plan).map_or_else(|| client.plan.clone(), |plan| plan.name.clone())
}

/// To the owners: they have moved, with proof. `flow` makes it one mail, however often the step is executed.
pub async fn moved(
    world: &World,
    tx: &mut Tx,
    client: &Client,
    certificate: &Certificate,
    flow: &str,
) -> Result<(), StoreError> {
    let mail = Mail::Moved {
        certificate: certificate.clone(),
        site_url: world.settings.client_url(&client.host),
        certificate_url: format!("{}/move", world.settings.dashboard_url(&client.id)),
    };
    for owner in owners(world, &client.id).await? {
        let id = format!("moved-{flow}-{}", owner.id);
        send(world, tx, Letter { id, kind: "moved", client: Some(client), to: &owner, mail: mail.clone() }).await?;
    }
    Ok(())
}

/// To the owners: everything is gone, with a receipt for each resource.
pub async fn deleted(
    world: &World,
    tx: &mut Tx,
    client: &Client,
    resources: &[Resource],
    flow: &str,
) -> Result<(), StoreError> {
    let receipts = resources.iter().filter_map(|r| {
        let removed_at = r.deleted_at?;
        Some(Receipt { kind: r.kind.as_str().replace('_', " "), name: r.name.clone(), removed_at })
    });
    let mail = Mail::Deleted { receipts: receipts.collect() };
    for owner in owners(world, &client.id).await? {
        let id = format!("deleted-{flow}-{}", owner.id);
        send(world, tx, Letter { id, kind: "deleted", client: Some(client), to: &owner, mail: mail.clone() }).await?;
    }
    Ok(())
}

/// Who wrote to a client by the form of its site.
pub struct Visitor {
    pub name: String,
    pub email: String,
    pub message: String,
}

/// To the owners who have confirmed their addresses: a visitor of their site wrote. `id` makes it one mail to each,
/// however often it is told. It counts as the client's own mail; where that reaches the plan's limit the owners are
/// told so instead, once a month, and nothing is sent.
pub async fn visitor_wrote(
    world: &World,
    tx: &mut Tx,
    client: &Client,
    id: &str,
    visitor: &Visitor,
) -> Result<(), Error> {
    let owners = owners(world, &client.id).await?;
    let confirmed: Vec<&Member> = owners.iter().filter(|owner| owner.email_verified_at.is_some()).collect();
    if confirmed.is_empty() {
        return Err(Error::NotNow("Nobody there has confirmed an address yet.".into()));
    }
    let mail_id = |owner: &Member| format!("message-{id}-{}", owner.id);
    let mut unsent = Vec::new();
    for owner in confirmed {
        if !tx.has_mail(&mail_id(owner)).await? {
            unsent.push(owner);
        }
    }
    let now = world.clock.now();
    let month = Span::month_of(now);
    let used = tx.emails_since(&client.id, month.from).await?;
    if let Err(reached) = limits(&world.plans, client).check_emails(used, unsent.len() as u32) {
        mails_used_up(world, tx, client, &owners, &reached, month).await?;
        return Err(reached.into());
    }
    for owner in unsent {
        let mail = Mail::Message {
            name: visitor.name.clone(),
            email: visitor.email.clone(),
            message: visitor.message.clone(),
            site_url: world.settings.client_url(&client.host),
        };
        let letter = Letter { id: mail_id(owner), kind: "message", client: Some(client), to: owner, mail };
        send_with(world, tx, letter, Some(visitor.email.clone())).await?;
    }
    Ok(())
}

async fn mails_used_up(
    world: &World,
    tx: &mut Tx,
    client: &Client,
    owners: &[Member],
    reached: &LimitReached,
    month: Span,
) -> Result<(), StoreError> {
    let mail = Mail::MailsUsedUp {
        used: reached.used.clone(),
        limit: reached.limit.clone(),
        again_at: month.until,
        upgrade_url: format!("{}/upgrade", world.settings.dashboard_url(&client.id)),
    };
    for owner in owners {
        let id = format!("mails_used_up-{}-{}-{}", client.id, month.from.ms(), owner.id);
        send(world, tx, Letter { id, kind: "mails_used_up", client: Some(client), to: owner, mail: mail.clone() })
            .await?;
    }
    Ok(())
}

/// To each operator: something needs them. What it is, and since when, makes it one mail.
pub async fn attention(
    world: &World,
    tx: &mut Tx,
    operators: &[Member],
    mail: &Mail,
    (of, since): (&str, Time),
) -> Result<(), StoreError> {
    for operator in operators {
        let id = format!("attention-{of}-{}-{}", since.ms(), operator.id);
        send(world, tx, Letter { id, kind: "attention", client: None, to: operator, mail: mail.clone() }).await?;
    }
    Ok(())
}

async fn owners(world: &World, client: &ClientId) -> Result<Vec<Member>, StoreError> {
    let members = world.store.members(client).await?;
    Ok(members.into_iter().filter(|member| member.role == Role::Owner).collect())
}

struct Letter<'a> {
    /// The same id is sent once.
    id: String,
    kind: &'a str,
    /// None when it concerns us, and not a client.
    client: Option<&'a Client>,
    to: &'a Member,
    mail: Mail,
}

async fn send(world: &World, tx: &mut Tx, letter: Letter<'_>) -> Result<(), StoreError> {
    send_with(world, tx, letter, None).await
}

async fn send_with(world: &World, tx: &mut Tx, letter: Letter<'_>, reply_to: Option<String>) -> Result<(), StoreError> {
    let company = letter.client.map_or(&world.settings.name, |client| &client.company).clone();
    let zone = letter.client.map_or(&world.settings.time_zone, |client| &client.life.zone).clone();
    let to = Recipient { first_name: letter.to.first_name.clone(), company, zone };
    let content = letter.mail.compose(&to).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let mail = OutMail {
        id: letter.id,
        client_id: letter.client.map(|client| client.id.clone()),
        kind: letter.kind.to_owned(),
        to: letter.to.email.clone(),
        reply_to,
        subject: content.subject,
        text: content.text,
        html: content.html,
        state: MailState::Queued,
        attempts: 0,
        error: None,
        created_at: world.clock.now(),
        sent_at: None,
    };
    tx.enqueue_mail(&mail).await
}

//! How a client's life moves: the domain decides, and one transaction writes the new life with everything
//! that follows from it (flows and mails), so that none is ever without the other.

use stackpro_domain::lifecycle::{Effect, Event, Life, Refused};
use stackpro_domain::zone::Zone;
use stackpro_domain::{ClientId, MemberId, Time};
use stackpro_flow::FlowSpec;
use stackpro_store::{Client, HostKind, Member, Purpose, Role, StackPhase, StoreError, Tx};

use crate::flows::{self, Delete, MIGRATE, Migrate, PROVISION, Power, Provision, REFRESH, RESUME, SUSPEND};
use crate::letters;
use crate::till::TillError;
use crate::world::World;

/// Why a life did not move.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    NotNow(String),
    #[error(transparent)]
    Till(#[from] TillError),
}

/// Who signs up; every field is checked already.
#[derive(Clone, Debug)]
pub struct NewClient {
    pub email: String,
    /// None when the operator makes the client: the owner sets it by a link.
    pub password_hash: Option<String>,
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    pub plan: String,
    pub zone: Zone,
    /// The name of one that is sold.
    pub recipe: String,
}

/// Writes a new client with all that follows: the owner, the flow that provisions, the welcome mail.
pub async fn sign_up(world: &World, tx: &mut Tx, new: NewClient) -> Result<(Client, Member), StoreError> {
    let now = world.clock.now();
    let id = ClientId::generate(&new.company, world.ids.number());
    let host = format!("{id}.{}", world.settings.client_domain);
    let client = Client {
        id: id.clone(),
        company: new.company,
        plan: new.plan,
        interval: None,
        life: Life { zone: new.zone, ..Life::begin(&world.plans.trial, now) },
        stack: StackPhase::Provisioning,
        hosting: None,
        host,
        customer_id: None,
        price: None,
        subscription_id: None,
        certificate: None,
        portal_rotation: 0,
        recipe: new.recipe,
        created_at: now,
    };
    tx.insert_client(&client).await?;
    let owner = Member {
        id: world.ids.member(now),
        client_id: Some(id),
        email: new.email,
        first_name: new.first_name,
        last_name: new.last_name,
        role: Role::Owner,
        password_hash: new.password_hash,
        email_verified_at: None,
        created_at: now,
    };
    tx.insert_member(&owner).await?;
    provision(world, tx, &client).await?;
    letters::welcome(world, tx, &client, &owner).await?;
    Ok((client, owner))
}

/// Begins to provision: at the sign-up, and again when an attempt was undone.
pub async fn provision(world: &World, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
    let now = world.clock.now();
    let params = Provision {
        client: client.id.clone(),
        bucket: world.ids.resource(now),
        bucket_name: format!("{}{}", stackpro_cloud::BUCKET_PREFIX, client.id),
        record: world.ids.resource(now),
        mail: world.ids.resource(now),
        host: client.host.clone(),
    };
    for row in params.rows(now) {
        tx.insert_resource(&row).await?;
    }
    enqueue(world, tx, &PROVISION, client, &params).await
}

/// Moves a client's life on, and writes everything that follows. `client` is as this transaction read it.
pub async fn apply(world: &World, tx: &mut Tx, client: &mut Client, event: Event) -> Result<(), LifeError> {
    let (life, effects) = client.life.apply(event, &world.plans.trial, world.clock.now())?;
    if life == client.life && effects.is_empty() {
        return Ok(());
    }
    client.life = life;
    for effect in effects {
        match effect {
            Effect::RunDedicated => run_dedicated(world, tx, client).await?,
            Effect::RunShared => enqueue(world, tx, &RESUME, client, &power(client)).await?,
            Effect::Suspend => enqueue(world, tx, &SUSPEND, client, &power(client)).await?,
            Effect::Notice => enqueue(world, tx, &REFRESH, client, &power(client)).await?,
            Effect::Delete => {
                let params = Delete { client: client.id.clone() };
                enqueue(world, tx, &flows::DELETE, client, &params).await?;
            }
            Effect::Mail(reminder) => letters::remind(world, tx, client, reminder).await?,
        }
    }
    tx.update_client(client).await?;
    Ok(())
}

fn power(client: &Client) -> Power {
    Power { client: client.id.clone() }
}

/// Comes back where their data is if they were suspended, then moves if that is not their own instance.
async fn run_dedicated(world: &World, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
    if matches!(client.stack, StackPhase::Suspending | StackPhase::Suspended) {
        enqueue(world, tx, &RESUME, client, &power(client)).await?;
    }
    let shared = client.hosting.as_ref().is_none_or(|hosting| hosting.kind == HostKind::Shared);
    if shared || !fits(world, tx, client).await? {
        migrate(world, tx, client).await?;
    }
    Ok(())
}

/// Asks the till, before a plan is given: to whose subscription runs it would go on to charge that, and with its next
/// event the plan would be paid for instead of given. A client who was suspended is told apart by this alone.
pub async fn may_be_given(world: &World, client: &ClientId) -> Result<(), LifeError> {
    let Some(Client { customer_id: Some(customer), .. }) = world.store.client(client).await? else { return Ok(()) };
    match world.till.subscriptions_of(&customer).await?.first() {
        Some(subscription) if subscription.charges() => Err(LifeError::NotNow(format!(
            "The subscription of {client} still runs, and would go on to charge them: end {} at Stripe first, or \
             resume them if they are to keep what they pay for.",
            subscription.id
        ))),
        _ => Ok(()),
    }
}

/// The operator gives a plan for nothing, until a time or for ever. Ask [`may_be_given`] first.
pub async fn give_plan(
    world: &World,
    tx: &mut Tx,
    client: &mut Client,
    plan: &str,
    until: Option<Time>,
) -> Result<(), LifeError> {
    let before = client.clone();
    plan.clone_into(&mut client.plan);
    (client.interval, client.price) = (None, None);
    apply(world, tx, client, Event::PlanGiven { until }).await?;
    if before.life.state.is_paying() && client.plan != before.plan {
        plan_changed(world, tx, client).await?;
    }
    Ok(tx.update_client(client).await?)
}

/// A paying client's plan is another one now: its limits, and an instance of its type.
pub async fn plan_changed(world: &World, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
    if fits(world, tx, client).await? {
        return enqueue(world, tx, &REFRESH, client, &power(client)).await;
    }
    migrate(world, tx, client).await
}

/// Whether the instance of their own that they are on, or are on their way to, is of their plan's type.
async fn fits(world: &World, tx: &mut Tx, client: &Client) -> Result<bool, StoreError> {
    let Some(plan) = world.plans.get(&client.plan) else { return Ok(true) };
    Ok(tx.newest_instance_type(&client.id).await?.is_some_and(|found| found == plan.instance_type))
}

/// Begins a move to an instance of the plan's type.
pub async fn migrate(world: &World, tx: &mut Tx, client: &Client) -> Result<(), StoreError> {
    let plan = world.plans.get(&client.plan);
    let instance_type = plan.map_or(world.plans.trial.instance_type.as_str(), |plan| plan.instance_type.as_str());
    let instance = flows::new_instance(world, tx, Some(&client.id), instance_type, 1).await?;
    enqueue(world, tx, &MIGRATE, client, &Migrate { client: client.id.clone(), instance }).await
}

async fn enqueue(
    world: &World,
    tx: &mut Tx,
    spec: &FlowSpec<World>,
    client: &Client,
    params: &impl serde::Serialize,
) -> Result<(), StoreError> {
    let now = world.clock.now();
    let flow = spec
        .begin(world.ids.flow(now), client.id.as_str(), params, now)
        .map_err(|error| StoreError::Corrupt(error.to_string()))?;
    tx.enqueue_flow(flow).await
}

/// A one-time link for a member: its token, of which only the hash is stored.
pub async fn one_time_link(
    world: &World,
    tx: &mut Tx,
    purpose: Purpose,
    member: &MemberId,
    lifetime_ms: i64,
) -> Result<String, StoreError> {
    let token = world.ids.token();
    let expires_at = world.real_now().plus(lifetime_ms);
    tx.insert_token(purpose, &crate::auth::hash_token(&token), member.as_str(), expires_at).await?;
    let path = match purpose {
        Purpose::VerifyEmail => "verify-email",
        Purpose::SetPassword => "set-password",
        Purpose::MakeOperator => "console/make-operator",
        Purpose::Enrol => return Err(StoreError::Corrupt("agents enrol without a link".into())),
    };
    Ok(format!("{}/{path}?token={token}", world.settings.public_url))
}

//! Stacks: what an agent is told to run for a client, and the proof that it answers.

use std::time::Duration;

use stackpro_domain::lifecycle::State;
use stackpro_flow::StepError;
use stackpro_protocol::agent::{StackSpec, Wanted};
use stackpro_store::{Client, InstanceRow};

use super::store_error;
use crate::world::World;

/// The longest that one execution asks before the step counts as failed, and how long it waits in between.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// What shall run for a client, from what is known of them now.
pub(super) fn spec(world: &World, client: &Client, wanted: Wanted) -> StackSpec {
    let plan = world.plans.get(&client.plan);
    let limits = match plan {
        Some(plan) if client.life.state.is_paying() => plan.limits,
        _ => world.plans.trial.limits,
    };
    StackSpec {
        client_id: client.id.clone(),
        company: client.company.clone(),
        recipe: "site".into(),
        compose: None,
        hosts: vec![client.host.clone()],
        limits,
        wanted,
        portal_password_sha256: crate::auth::hash_token(
            &world.secrets.portal_password(&client.id, client.portal_rotation),
        ),
        portal_key: world.secrets.portal_key(&client.id),
        notice: notice(client),
        dashboard_url: world.settings.dashboard_url(&client.id),
    }
}

fn notice(client: &Client) -> Option<String> {
    let life = &client.life;
    match life.state {
        State::Grace => Some(format!(
            "Your trial is over. Everything stays as it is until {}. Choose a plan to keep it running.",
            life.grace_ends_at.date()
        )),
        State::PastDue => Some("Your last payment did not succeed. Please check your card on the dashboard.".into()),
        _ => None,
    }
}

/// The client, of whom a step knows that they exist.
pub(super) async fn client(world: &World, subject: &str) -> Result<Client, StepError> {
    let id = subject.parse().map_err(|error| StepError::Failed(format!("{error}")))?;
    let client = world.store.client(&id).await.map_err(store_error)?;
    client.ok_or_else(|| StepError::Failed(format!("client {id} is not in the database")))
}

/// Tells an instance what to run for the client.
pub(super) async fn put(
    world: &World,
    client: &Client,
    instance: &InstanceRow,
    wanted: Wanted,
) -> Result<(), StepError> {
    world.agents.of(instance)?.put_stack(&spec(world, client, wanted)).await?;
    Ok(())
}

/// Changes the client's row in a transaction of its own.
pub(super) async fn update(
    world: &World,
    client: &stackpro_domain::ClientId,
    change: impl FnOnce(&mut Client) + Send,
) -> Result<(), StepError> {
    let mut tx = world.store.begin().await.map_err(store_error)?;
    if let Some(mut client) = tx.client(client).await.map_err(store_error)? {
        change(&mut client);
        tx.update_client(&client).await.map_err(store_error)?;
    }
    tx.commit().await.map_err(store_error)
}

/// Asks for the client's site by its public name, as a visitor would, until this very stack answers.
pub async fn probe(world: &World, client: &Client) -> Result<(), StepError> {
    let deadline = tokio::time::Instant::now() + world.settings.patience.min(PATIENCE);
    while let Err(cause) = world.prober.ask(&client.host, &client.id).await {
        if tokio::time::Instant::now() >= deadline {
            return Err(StepError::Retry(format!("{} does not answer yet: {cause}", client.host)));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

//! Stacks: what an agent is told to run for a client, and the proof that it answers.

use std::time::Duration;

use stackpro_domain::lifecycle::State;
use stackpro_flow::StepError;
use stackpro_protocol::agent::{StackSpec, Wanted};
use stackpro_store::{Client, InstanceRow, Role};

use super::store_error;
use crate::recipes;
use crate::world::World;

/// The longest that one execution asks before the step counts as failed, and how long it waits in between.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// What shall run for a client, from what is known of them now.
async fn spec(world: &World, client: &Client, wanted: Wanted) -> Result<StackSpec, StepError> {
    let plan = world.plans.get(&client.plan).filter(|_| client.life.state.is_paying());
    let limits = plan.map_or(world.plans.trial.limits, |plan| plan.limits);
    let recipe = world.recipes.get(&client.recipe);
    let recipe = recipe.ok_or_else(|| StepError::Failed(format!("there is no recipe {:?} any more", client.recipe)))?;
    let members = world.store.members(&client.id).await.map_err(store_error)?;
    let owner = members.into_iter().find(|member| member.role == Role::Owner).map(|member| member.email);
    let variables = recipes::variables(world, client, recipe, &owner.unwrap_or_default());
    Ok(StackSpec {
        client_id: client.id.clone(),
        company: client.company.clone(),
        recipe: recipe.name.clone(),
        compose: recipe.compose(plan.map(|plan| plan.id.as_str()), variables),
        hosts: vec![client.host.clone()],
        limits,
        wanted,
        portal_password_sha256: crate::auth::hash_token(
            &world.secrets.portal_password(&client.id, client.portal_rotation),
        ),
        portal_key: world.secrets.portal_key(&client.id),
        notice: notice(client),
        dashboard_url: world.settings.dashboard_url(&client.id),
    })
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
    world.agents.of(instance)?.put_stack(&spec(world, client, wanted).await?).await?;
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
    // With the port that visitors name, to which some programs send everybody else.
    let url = world.settings.client_url(&client.host);
    let address = url.split_once("://").map_or(url.as_str(), |(_, address)| address);
    while let Err(cause) = world.prober.ask(address, &client.id).await {
        if tokio::time::Instant::now() >= deadline {
            return Err(StepError::Retry(format!("{} does not answer yet: {cause}", client.host)));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// As [`probe`], for a stack that was just told to run on this instance: that its agent is still starting it, which
/// may take until its images are there, is no failure.
pub(super) async fn probe_start(world: &World, client: &Client, instance: &InstanceRow) -> Result<(), StepError> {
    let Err(error) = probe(world, client).await else { return Ok(()) };
    if world.recipes.get(&client.recipe).is_none_or(|recipe| recipe.run.is_none()) {
        return Err(error);
    }
    let status = world.agents.of(instance)?.stack(&client.id).await?;
    match status.problem {
        Some(problem) => Err(StepError::Retry(problem)),
        None if status.starting => Err(StepError::Later { ms: 500, note: Some("Starting".into()) }),
        None => Err(error),
    }
}

//! Makes what runs into what shall run, again and again: at the start, when something was said, and every few
//! seconds, since programs end and machines restart.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use stackpro_domain::ClientId;
use stackpro_protocol::agent::Wanted;
use tokio::time::{Instant, timeout};

use super::project::Project;
use super::socket::Result;
use crate::agent::Agent;
use crate::blocking;
use crate::stack::Stack;

const EVERY: Duration = Duration::from_secs(3);
/// What failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// How often volumes are measured, and what belongs to no stack is looked for.
const SWEEP: Duration = Duration::from_secs(20);

pub(crate) async fn run(agent: Arc<Agent>) {
    let mut sweep_at = Instant::now();
    loop {
        for stack in agent.stacks() {
            let Some(project) = &stack.project else { continue };
            if project.is_due() {
                let (agent, stack) = (Arc::clone(&agent), Arc::clone(&stack));
                tokio::spawn(async move { keep(&agent, &stack).await });
            }
        }
        if Instant::now() >= sweep_at {
            sweep(&agent).await;
            sweep_at = Instant::now() + SWEEP;
        }
        let _ = timeout(EVERY, agent.unsettled.notified()).await;
    }
}

/// Gives a stack this time to become what it shall be. It goes on when the time is over.
pub(crate) async fn settle(agent: &Arc<Agent>, stack: &Arc<Stack>, longest: Duration) {
    if stack.project.is_some() {
        let (agent, stack) = (Arc::clone(agent), Arc::clone(stack));
        let _ = timeout(longest, tokio::spawn(async move { keep(&agent, &stack).await })).await;
    }
}

/// Makes one stack what it shall be.
pub(crate) async fn keep(agent: &Agent, stack: &Stack) {
    let Some(project) = &stack.project else { return };
    let mut hands = project.hands().await;
    if hands.moving || agent.stack(&stack.client()).is_none() {
        return;
    }
    let kept = async {
        let spec = stack.spec();
        match shall(stack) {
            Shall::Run => project.up(agent.engines.get().await?, &mut hands, &spec).await,
            Shall::Rest { gently } => project.down(&agent.engines, gently).await,
            Shall::Wait => Ok(()),
        }
    };
    let problem = kept.await.err().map(|error| error.to_string());
    if let Some(problem) = &problem {
        tracing::warn!(client = %stack.client(), %problem, "a stack is not what it shall be");
    }
    project.tried(problem, AGAIN);
    agent.changed.notify_one();
}

/// Once a hold is over, whichever way: the stack runs again here, or never.
pub(crate) async fn wake(agent: Arc<Agent>, stack: Arc<Stack>, hold: u64) {
    stack.gate.ended(hold).await;
    if let Some(project) = &stack.project {
        project.hands().await.moving = false;
    }
    keep(&agent, &stack).await;
}

enum Shall {
    Run,
    /// Nothing runs; the data stays.
    Rest {
        gently: bool,
    },
    /// A move to here decides.
    Wait,
}

fn shall(stack: &Stack) -> Shall {
    match stack.spec().wanted {
        // What has moved must never wake again.
        _ if stack.gate.is_moved() => Shall::Rest { gently: false },
        Wanted::Suspended => Shall::Rest { gently: true },
        Wanted::Receiving if !stack.incoming.is_committed() => Shall::Wait,
        Wanted::Receiving | Wanted::Serving => Shall::Run,
    }
}

/// Ends what a client has at the engine, before their data is removed.
pub(crate) async fn end(agent: &Agent, client: &ClientId) -> Result<()> {
    let Some(stack) = agent.stack(client) else { return Ok(()) };
    let Some(project) = &stack.project else { return Ok(()) };
    stack.incoming.cancel();
    let mut hands = project.hands().await;
    project.down(&agent.engines, false).await?;
    // Nothing starts again what is about to be removed.
    hands.moving = true;
    Ok(())
}

async fn sweep(agent: &Agent) {
    let stacks = agent.stacks();
    let projects: Vec<Arc<Project>> = stacks.iter().filter_map(|stack| stack.project.clone()).collect();
    let measured = blocking(move || {
        for project in projects {
            if let Err(error) = project.volumes.measure() {
                tracing::warn!(%error, "volumes are not measured");
            }
        }
    });
    let _ = measured.await;
    // An agent without such stacks needs no engine, and looks for none.
    if let Some(engine) = agent.engines.found()
        && let Err(error) = remove_strays(agent, engine).await
    {
        tracing::warn!(%error, "what belongs to no stack is not removed");
    }
}

/// What was being made when its stack was removed, or this process killed.
async fn remove_strays(agent: &Agent, engine: &super::Engine) -> Result<()> {
    let found = engine.clients().await?;
    let known: HashSet<String> = agent.stacks().iter().map(|stack| stack.client().to_string()).collect();
    for client in found.into_iter().filter(|client| !known.contains(client)) {
        tracing::warn!(%client, "what belongs to no stack is removed");
        engine.remove(&client, false).await?;
    }
    Ok(())
}

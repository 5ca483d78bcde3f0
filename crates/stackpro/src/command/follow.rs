//! Follows what is done for a client until it is over, for a person who looks at the terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use stackpro_domain::ClientId;
use stackpro_flow::{FlowState, StepState};
use stackpro_store::Timeline;

use super::show;
use crate::app::{App, Fatal, Result};

const GLANCE: Duration = Duration::from_millis(150);
/// A server that does not run moves nothing: then there is nothing to wait for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows the client's flows as bars until none is under way. Without a terminal it returns at once.
pub(crate) async fn client(app: &App, id: &ClientId) -> Result<()> {
    if !std::io::stderr().is_terminal() {
        return Ok(());
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{spinner} {prefix:<10} {wide_bar} {pos}/{len}  {msg}");
    bar.set_style(style.map_err(|e| Fatal::new("drawing", e))?);
    bar.enable_steady_tick(GLANCE);
    let mut moved_at = tokio::time::Instant::now();
    let mut last = None;
    loop {
        let timelines = app.world.store.timelines(id, 8).await.map_err(|e| Fatal::new("the database", e))?;
        let under_way =
            timelines.iter().rev().find(|t| matches!(t.flow.state, FlowState::Waiting | FlowState::Running));
        let Some(timeline) = under_way else { break };
        draw(&bar, timeline);
        if last.as_ref() != Some(timeline) {
            last = Some(timeline.clone());
            moved_at = tokio::time::Instant::now();
        } else if moved_at.elapsed() > PATIENCE {
            bar.finish_and_clear();
            show::line(
                "Nothing moves: is `stackpro serve` or `stackpro worker` running? It goes on as soon as one is.",
            );
            return Ok(());
        }
        tokio::time::sleep(GLANCE).await;
    }
    bar.finish_and_clear();
    ended(app, id).await
}

fn draw(bar: &ProgressBar, timeline: &Timeline) {
    let done = timeline.steps.iter().filter(|s| s.state == StepState::Done).count() as u64;
    let busy = timeline.steps.iter().find(|s| matches!(s.state, StepState::Running | StepState::Undoing));
    bar.set_length(timeline.steps.len() as u64);
    bar.set_position(done);
    bar.set_prefix(timeline.flow.kind.clone());
    bar.set_message(busy.map_or_else(String::new, |step| match &step.note {
        Some(note) => format!("{}: {note}", step.title),
        None => step.title.clone(),
    }));
}

async fn ended(app: &App, id: &ClientId) -> Result<()> {
    let timelines = app.world.store.timelines(id, 1).await.map_err(|e| Fatal::new("the database", e))?;
    if let Some(Timeline { flow, .. }) = timelines.first() {
        let cause = flow.cause.as_deref().map(|cause| format!(", because {cause}")).unwrap_or_default();
        show::line(&format!("{} is {}{cause}", flow.kind, flow.state.as_str()));
    }
    Ok(())
}

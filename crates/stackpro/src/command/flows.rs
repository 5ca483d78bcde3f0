//! `stackpro flows`.

use serde_json::json;
use stackpro_domain::FlowId;
use stackpro_flow::{FlowState, Step};
use stackpro_server::flows;

use super::{Flows, show};
use crate::app::{App, Fatal, Result};

pub(crate) async fn run(command: Flows, app: &App, as_json: bool) -> Result<()> {
    match command {
        Flows::List { state } => list(app, state, as_json).await,
        Flows::Show { flow } => one(app, &flow, as_json).await,
        Flows::Retry { flow } => decide(app, &flow, false).await,
        Flows::TurnBack { flow } => decide(app, &flow, true).await,
        Flows::Kinds => kinds(as_json),
    }
}

fn store(error: stackpro_store::StoreError) -> Fatal {
    Fatal::new("the database", error)
}

/// Needs no database: it is what this build can do.
pub(crate) fn kinds(as_json: bool) -> Result<()> {
    let registry = flows::registry().map_err(Fatal)?;
    if as_json {
        let kinds: Vec<_> = registry
            .flows()
            .iter()
            .map(|flow| {
                let steps: Vec<_> = flow
                    .steps
                    .iter()
                    .map(|s| json!({ "name": s.name, "needs": s.needs, "commit": s.commit }))
                    .collect();
                json!({ "kind": flow.kind, "version": flow.version, "steps": steps })
            })
            .collect();
        return show::json(&kinds);
    }
    let rows = registry.flows().iter().flat_map(|flow| {
        flow.steps.iter().map(|step| {
            let kind = format!("{} v{}", flow.kind, flow.version);
            vec![show::cell(&kind), show::cell(step.name), show::cell(step.title), show::cell(&step.needs.join(", "))]
        })
    });
    show::table(&["flow", "step", "what", "after"], rows.collect());
    Ok(())
}

async fn list(app: &App, state: Option<String>, as_json: bool) -> Result<()> {
    let state = match state {
        Some(word) => Some(FlowState::parse(&word).ok_or_else(|| Fatal(format!("{word:?} is not a state of a flow")))?),
        None => None,
    };
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = app.world.store.flows(state, after.as_deref(), 200).await.map_err(store)?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if as_json {
        return show::json(&rows);
    }
    let cells = rows.iter().map(|flow| {
        vec![
            show::cell(flow.id.as_str()),
            show::cell(&flow.kind),
            show::cell(&flow.subject),
            show::state(if flow.undoing && !flow.state.is_over() { "undoing" } else { flow.state.as_str() }),
            show::cell(&flow.created_at.date_time()),
            show::cell(flow.cause.as_deref().unwrap_or("")),
        ]
    });
    show::table(&["flow", "kind", "for", "state", "since", "cause"], cells.collect());
    Ok(())
}

async fn one(app: &App, id: &FlowId, as_json: bool) -> Result<()> {
    let timeline = app.world.store.timeline(id).await.map_err(store)?;
    let timeline = timeline.ok_or_else(|| Fatal(format!("there is no flow {id}")))?;
    if as_json {
        return show::json(&json!({ "flow": timeline.flow, "steps": timeline.steps }));
    }
    let flow = &timeline.flow;
    show::line(&format!("{} v{} for {}: {}", flow.kind, flow.version, flow.subject, flow.state.as_str()));
    if let Some(cause) = &flow.cause {
        show::line(&format!("because {cause}"));
    }
    let cells = timeline.steps.iter().map(|step| {
        vec![
            show::cell(&step.name),
            show::cell(&step.title),
            show::state(step.state.as_str()),
            show::cell(&step.attempts.to_string()),
            show::cell(&took(step)),
            show::cell(step.error.as_deref().or(step.note.as_deref()).unwrap_or("")),
        ]
    });
    show::table(&["step", "what", "state", "failures", "took", "last word"], cells.collect());
    Ok(())
}

fn took(step: &Step) -> String {
    match (step.started_at, step.finished_at) {
        (Some(start), Some(end)) => format!("{} ms", end.since(start)),
        _ => String::new(),
    }
}

async fn decide(app: &App, id: &FlowId, back: bool) -> Result<()> {
    let mut tx = app.world.store.begin().await.map_err(store)?;
    let decided = if back { tx.turn_back_flow(id).await } else { tx.retry_flow(id).await };
    decided.map_err(store)?.map_err(|refused| Fatal(refused.to_string()))?;
    tx.commit().await.map_err(store)?;
    show::line(if back { "the flow is being undone" } else { "the flow goes on" });
    Ok(())
}

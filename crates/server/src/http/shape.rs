//! From what the store keeps to what the API says.

use stackpro_domain::Time;
use stackpro_domain::lifecycle::{Life, State};
use stackpro_domain::limits::Limits;
use stackpro_domain::plan::Plans;
use stackpro_domain::reversal::Reversal;
use stackpro_flow::{FlowState, Step as FlowStep, StepState};
use stackpro_protocol::api::{self, Deployment, NextDate, Step, TrialStatus, Usage, User};
use stackpro_store::{Client, DashboardRow, HostKind, Member, StackPhase, Timeline};

use crate::flows::MIGRATE;
use crate::world::World;

pub fn user(member: &Member) -> User {
    User {
        id: member.id.clone(),
        email: member.email.clone(),
        first_name: member.first_name.clone(),
        last_name: member.last_name.clone(),
        role: member.role.as_str().to_owned(),
        email_verified: member.email_verified_at.is_some(),
    }
}

pub fn dashboard(world: &World, row: &DashboardRow) -> api::Dashboard {
    api::Dashboard {
        user: user(&row.member),
        client: client(&row.client),
        deployment: deployment(world, &row.client, row.timeline.as_ref()),
        trial: trial(&row.client, world.now()),
        usage: usage(&world.plans, row),
    }
}

pub fn client(client: &Client) -> api::Client {
    api::Client {
        id: client.id.clone(),
        company: client.company.clone(),
        state: client.life.state.as_str().to_owned(),
        plan: client.plan.clone(),
        interval: client.interval.map(|interval| interval.as_str().to_owned()),
        given: client.life.given.is_some(),
        created_at: client.created_at,
        next: client.life.next().map(|next| NextDate { at: next.at, what: next.what.describe().to_owned() }),
    }
}

pub fn reversal(reversal: &Reversal) -> api::Reversal {
    api::Reversal {
        id: reversal.id.clone(),
        kind: reversal.kind.as_str().to_owned(),
        created_at: reversal.created_at,
        status: reversal.state.clone(),
        reason: reversal.reason.clone(),
        amount_cents: reversal.amount.0,
        taken_cents: reversal.taken().0,
        answer_by: reversal.answer_by(),
    }
}

/// Every date ahead, the next one first.
pub fn dates(life: &Life) -> Vec<NextDate> {
    let mut dates: Vec<NextDate> =
        life.dates().iter().map(|date| NextDate { at: date.at, what: date.what.describe().to_owned() }).collect();
    dates.sort_by_key(|date| date.at);
    dates
}

pub fn deployment(world: &World, client: &Client, timeline: Option<&Timeline>) -> Deployment {
    let status = match client.stack {
        StackPhase::Provisioning => "provisioning",
        // Begun, though the stack has not heard of it: the flow waits for another, or its first steps run.
        StackPhase::Ready if timeline.is_some_and(is_on_its_way) => "migrating",
        StackPhase::Ready => "ready",
        StackPhase::Migrating => "migrating",
        StackPhase::Suspending | StackPhase::Suspended => "suspended",
        StackPhase::Failed => "failed",
        StackPhase::Deleting | StackPhase::Deleted => "deleted",
    };
    let kind = client.hosting.as_ref().map_or(HostKind::Shared, |hosting| hosting.kind);
    Deployment {
        client_id: client.id.clone(),
        status: status.to_owned(),
        deployment_type: kind.as_str().to_owned(),
        url: world.settings.client_url(&client.host),
        steps: timeline.map(|timeline| timeline.steps.iter().map(step).collect()).unwrap_or_default(),
        certificate: client.certificate.clone(),
    }
}

/// Until the stack is recorded where it moves to; what the flow does after that is to tidy up where it was.
fn is_on_its_way(timeline: &Timeline) -> bool {
    let flow = &timeline.flow;
    let is_under_way = matches!(flow.state, FlowState::Waiting | FlowState::Running) && !flow.undoing;
    let has_settled = || timeline.steps.iter().any(|step| step.name == "settle" && step.state == StepState::Done);
    flow.kind == MIGRATE.kind && is_under_way && !has_settled()
}

pub fn step(step: &FlowStep) -> Step {
    Step {
        name: step.title.clone(),
        status: step.state.as_str().to_owned(),
        started_at: step.started_at,
        finished_at: step.finished_at,
        error: step.error.clone(),
    }
}

pub fn trial(client: &Client, now: Time) -> TrialStatus {
    let life = &client.life;
    let is_expired = now >= life.trial_ends_at;
    TrialStatus {
        client_id: client.id.clone(),
        account_status: life.state.as_str().to_owned(),
        trial_start_date: life.trial_started_at,
        trial_end_date: life.trial_ends_at,
        grace_end_date: life.grace_ends_at,
        days_remaining: if life.state == State::Trial { life.trial_ends_at.days_left(now) } else { 0 },
        is_expired,
        is_in_grace_period: life.state == State::Grace,
        requires_payment: matches!(life.state, State::Grace | State::PastDue | State::Suspended),
    }
}

/// What a client may use now: its plan's limits once it pays, until then those of the trial.
pub fn limits(plans: &Plans, client: &Client) -> Limits {
    match plans.get(&client.plan) {
        Some(plan) if client.life.state.is_paying() => plan.limits,
        _ => plans.trial.limits,
    }
}

pub fn usage(plans: &Plans, row: &DashboardRow) -> Usage {
    let limits = limits(plans, &row.client);
    Usage {
        storage_bytes: row.usage.storage_bytes,
        storage_limit_bytes: limits.storage_bytes,
        files: row.usage.files,
        members: row.members,
        members_limit: limits.members,
        emails_this_month: row.emails,
        emails_limit: limits.emails_per_month,
        requests: row.usage.requests,
        traffic_bytes: row.usage.traffic_bytes,
        reported_at: row.usage.reported_at,
    }
}

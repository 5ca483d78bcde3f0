//! The pages' handlers: they load what a view of [`crate::web`] shows, and do what its forms ask for.
//!
//! [`form`] holds what all share: a form is proved to be ours before a handler sees it. [`site`] is for
//! everyone, [`client`], [`plan`] and [`team`] for a client's people, [`console`], [`costs`], [`lists`], [`mails`] and
//! [`local`] for the operator, [`hosts`] for visitors of a client whose site does not answer.

mod client;
mod console;
mod costs;
mod form;
pub mod hosts;
mod lists;
mod local;
mod mails;
mod plan;
mod site;
mod team;

use axum::Router;
use axum::routing::{get, post};

use crate::http::App;

pub fn router() -> Router<App> {
    Router::new()
        .route("/", get(site::show_home))
        .route("/plans", get(site::show_plans))
        .route("/signup", get(site::show_signup).post(site::sign_up))
        .route("/login", get(site::show_login).post(site::log_in))
        .route("/logout", post(site::log_out))
        .route("/contact", get(site::show_contact).post(site::send_contact))
        .route("/verify-email", get(site::show_verify))
        .route("/verify", post(site::verify))
        .route("/set-password", get(site::show_set_password).post(site::set_password))
        .route("/api", get(site::show_api))
        .route("/assets/{name}", get(site::get_asset))
        .nest("/dashboard/{client_id}", dashboard())
        .nest("/console", console())
}

fn dashboard() -> Router<App> {
    Router::new()
        .route("/", get(client::show_dashboard))
        .route("/upgrade", get(client::show_upgrade))
        .route("/checkout", post(client::check_out))
        .route("/plan", post(plan::change))
        .route("/keep", post(plan::keep))
        .route("/paid", get(client::show_paid))
        .route("/move", get(client::show_move))
        .route("/certificate", get(client::show_certificate))
        .route("/portal", post(client::open_portal))
        .route("/portal-password", post(client::show_portal_password))
        .route("/billing", post(client::open_billing))
        .route("/cancel", post(client::cancel))
        .route("/settings", get(client::show_settings))
        .route("/time-zone", post(client::set_time_zone))
        .route("/members", get(team::show_members).post(team::invite))
        .route("/verify-email", post(team::send_verification))
}

fn console() -> Router<App> {
    Router::new()
        .route("/", get(console::show_overview))
        .route("/make-operator", get(console::show_first))
        .route("/first/{token}", get(console::show_first_by_path).post(console::make_first))
        .route("/clients", get(lists::show_clients))
        .route("/clients/{client_id}", get(console::show_client))
        .route("/clients/{client_id}/days", post(console::give_days))
        .route("/clients/{client_id}/plan", post(console::give_plan))
        .route("/clients/{client_id}/{order}", post(console::order_client))
        .route("/instances", get(lists::show_instances))
        .route("/instances/{instance_id}", get(costs::show_instance))
        .route("/resources", get(lists::show_resources))
        .route("/flows", get(lists::show_flows))
        .route("/flows/{flow_id}", get(console::show_flow))
        .route("/flows/{flow_id}/{order}", post(console::order_flow))
        .route("/events/{event_id}/retry", post(lists::retry_event))
        .route("/contacts", get(lists::show_contacts))
        .route("/mails", get(mails::show_log))
        .route("/mails/suppressed", get(mails::show_suppressed).post(mails::lift))
        .route("/mails/{mail_id}", get(mails::show_history))
        .route("/mailbox", get(local::show_mailbox))
        .route("/mailbox/{key}", get(local::show_mail))
        .route("/time", get(local::show_time).post(local::move_time))
}

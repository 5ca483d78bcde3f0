//! The billing portal: what a customer pays for, by which card, and their invoices.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Call;
use super::card_form::CardForm;
use super::catalog::{every, money};
use super::customers::living;
use super::error::Result;
use super::events::check_url;
use super::form::Params;
use super::pages::{broken, change, html, message, redirect};
use super::state::{Tx, int, text};
use super::subscriptions::{self, items};
use super::{Stripe, calendar, invoices, payments, proration};

/// A portal session is good for an hour (seconds).
const LIFE: i64 = 60 * 60;

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let params = &mut call.params;
    let customer = params.required("customer")?;
    living(tx, &customer, "customer")?;
    let return_url = params.text("return_url")?.filter(|url| !url.is_empty());
    return_url.as_deref().map(|url| check_url(url, "return_url")).transpose()?;
    let (configuration, locale) = (params.text("configuration")?, params.text("locale")?);
    let id = Tx::id("bps_");
    let session = json!({
        "id": id, "object": "billing_portal.session", "configuration": configuration, "created": tx.now,
        "customer": customer, "flow": null, "livemode": false, "locale": locale, "on_behalf_of": null,
        "return_url": return_url, "url": format!("{}/p/session/{id}", tx.settings.base_url),
    });
    tx.put(session.clone());
    Ok(session)
}

pub(super) fn router() -> Router<Stripe> {
    Router::new()
        .route("/p/session/{id}", get(show))
        .route("/p/session/{id}/card", post(update_card))
        .route("/p/session/{id}/cancel", post(cancel))
        .route("/p/session/{id}/resume", post(resume))
}

#[derive(Template)]
#[template(path = "stripe/portal.html")]
struct PortalPage {
    business: String,
    id: String,
    customer: String,
    notice: &'static str,
    return_url: Option<String>,
    plans: Vec<Plan>,
    card: Option<String>,
    invoices: Vec<Invoice>,
    form: CardForm,
}

struct Plan {
    id: String,
    name: String,
    price: String,
    status: &'static str,
    /// What happens next, as a sentence.
    next: String,
    is_ending: bool,
    is_over: bool,
}

struct Invoice {
    number: String,
    date: String,
    amount: String,
    status: String,
    url: String,
}

/// What a form's submission led to, as the page says it afterwards.
fn notice(done: &str) -> &'static str {
    match done {
        "card" => "Your card was updated.",
        "paid" => "Your card was updated, and the open invoice is paid.",
        "declined" => "Your card was updated, but it was declined for the open invoice.",
        "cancelled" => "Your plan is cancelled. It runs until the end of the period that you have paid for.",
        "resumed" => "Your plan goes on.",
        _ => "",
    }
}

#[derive(Deserialize)]
struct Done {
    #[serde(default)]
    done: String,
}

/// The session's customer, while the session is good.
fn customer_of(tx: &Tx<'_>, id: &str) -> Option<(Value, Value)> {
    let session = tx.need("billing_portal.session", id, "id").ok()?;
    let customer = living(tx, text(&session, "customer"), "customer").ok()?;
    (int(&session, "created") + LIFE > tx.now).then_some((session, customer))
}

async fn show(Shared(stripe): Shared<Stripe>, Path(id): Path<String>, Query(done): Query<Done>) -> Response {
    let page = change(&stripe, move |tx| page(tx, &id, notice(&done.done), None)).await;
    present(&stripe, page, StatusCode::OK)
}

fn present(stripe: &Stripe, page: Result<Option<PortalPage>>, status: StatusCode) -> Response {
    match page {
        Ok(Some(page)) => html(status, &page, ""),
        Ok(None) => {
            let words = "This link to your billing is no longer good. Please open it again from where you came.";
            message(stripe, StatusCode::NOT_FOUND, "This page has expired", words, None)
        }
        Err(_) => broken(stripe),
    }
}

fn page(tx: &Tx<'_>, id: &str, notice: &'static str, form: Option<CardForm>) -> Option<PortalPage> {
    let (session, customer) = customer_of(tx, id)?;
    let theirs = text(&customer, "id");
    let subscriptions: Vec<&Value> = tx.list_of("subscription", theirs).collect();
    let current = subscriptions.iter().copied().find(|one| !subscriptions::is_over(one));
    let nobody = json!({"customer": customer["id"]});
    let card = subscriptions::method_of(tx, current.unwrap_or(&nobody)).map(|method| {
        let card = &method["card"];
        let (month, year) = (int(card, "exp_month"), int(card, "exp_year"));
        format!("{} •••• {}, good until {month:02}/{year}", text(card, "brand").to_uppercase(), text(card, "last4"))
    });
    let invoice = |invoice: &Value| Invoice {
        number: text(invoice, "number").to_owned(),
        date: calendar::date(int(invoice, "created")),
        amount: money(int(invoice, "total"), text(invoice, "currency")),
        status: text(invoice, "status").to_owned(),
        url: text(invoice, "hosted_invoice_url").to_owned(),
    };
    let (email, name) = (text(&customer, "email"), text(&customer, "name"));
    Some(PortalPage {
        business: tx.settings.publishable_name.clone(),
        id: id.to_owned(),
        customer: if email.is_empty() { name } else { email }.to_owned(),
        notice,
        return_url: session["return_url"].as_str().map(str::to_owned),
        plans: subscriptions.into_iter().map(|one| plan(tx, one)).collect(),
        card,
        invoices: tx.list_of("invoice", theirs).take(24).map(invoice).collect(),
        form: form.unwrap_or_else(|| card_form(&customer)),
    })
}

/// The card form; a customer without an email is not asked for one here.
fn card_form(customer: &Value) -> CardForm {
    let email = text(customer, "email");
    CardForm::empty(if email.is_empty() { "unknown@invalid" } else { email }, text(customer, "name"))
}

fn plan(tx: &Tx<'_>, subscription: &Value) -> Plan {
    let first = items(subscription).first().cloned().unwrap_or_default();
    let price = &first["price"];
    let end = calendar::date(int(&first, "current_period_end"));
    let is_ending = subscription["cancel_at_period_end"] == true;
    let status = match text(subscription, "status") {
        "active" if is_ending => "Ending",
        "active" => "Active",
        "trialing" => "Trial",
        "past_due" => "Payment overdue",
        "incomplete" => "Waiting for payment",
        "incomplete_expired" => "Never paid",
        _ => "Cancelled",
    };
    let next = if subscriptions::is_over(subscription) {
        format!("Ended on {}.", calendar::date(int(subscription, "ended_at")))
    } else if is_ending {
        format!("Ends on {end}. Nothing more is charged.")
    } else {
        let upcoming = proration::preview(tx, subscription.clone(), None);
        let amount = money(int(&upcoming, "amount_due"), text(&upcoming, "currency"));
        format!("The next invoice, of {amount}, is due on {end}.")
    };
    Plan {
        id: text(subscription, "id").to_owned(),
        name: invoices::product_name(tx, price).to_owned(),
        price: format!("{} per {}", money(invoices::cost(&first), text(price, "currency")), every(price)),
        status,
        next,
        is_ending,
        is_over: subscriptions::is_over(subscription),
    }
}

async fn update_card(Shared(stripe): Shared<Stripe>, Path(id): Path<String>, body: String) -> Response {
    let back = format!("/p/session/{id}?done=");
    let done = change(&stripe, move |tx| {
        let (_, customer) = customer_of(tx, &id)?;
        let mut form = card_form(&customer);
        let Some(card) = form.read(&body, tx.now) else { return page(tx, &id, "", Some(form)).map(Err) };
        let billing = payments::billing_details(&form.name, text(&customer, "email"), &form.country);
        let method = payments::new_method(tx, &card, billing);
        Some(Ok(use_card(tx, customer, &method)))
    });
    match done.await {
        Ok(Some(Ok(word))) => redirect(&format!("{back}{word}")),
        Ok(Some(Err(page))) => present(&stripe, Ok(Some(page)), StatusCode::PAYMENT_REQUIRED),
        Ok(None) => present(&stripe, Ok(None), StatusCode::NOT_FOUND),
        Err(error) => present(&stripe, Err(error), StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Makes the card the one that everything of the customer is charged to, and pays what is overdue.
fn use_card(tx: &mut Tx<'_>, mut customer: Value, method: &Value) -> &'static str {
    let (id, method) = (text(&customer, "id").to_owned(), text(method, "id").to_owned());
    let Ok(method) = payments::attach(tx, &method, &id, "payment_method") else { return "declined" };
    customer["invoice_settings"]["default_payment_method"] = method["id"].clone();
    tx.updated(customer, "customer.updated");
    let own = tx.list_of("subscription", &id);
    let own: Vec<Value> = own.filter(|one| !subscriptions::is_over(one)).cloned().collect();
    let mut word = "card";
    for mut subscription in own {
        subscription["default_payment_method"] = method["id"].clone();
        let subscription = tx.updated(subscription, "customer.subscription.updated");
        if !matches!(text(&subscription, "status"), "past_due" | "incomplete") {
            continue;
        }
        match invoices::collect(tx, text(&subscription, "latest_invoice"), Some(&method), false) {
            Ok(_) => {
                subscriptions::settled(tx, subscription);
                word = "paid";
            }
            Err(_) => word = "declined",
        }
    }
    word
}

async fn cancel(Shared(stripe): Shared<Stripe>, Path(id): Path<String>, body: String) -> Response {
    set_ending(&stripe, id, body, true).await
}

async fn resume(Shared(stripe): Shared<Stripe>, Path(id): Path<String>, body: String) -> Response {
    set_ending(&stripe, id, body, false).await
}

async fn set_ending(stripe: &Stripe, id: String, body: String, ending: bool) -> Response {
    let back = format!("/p/session/{id}?done={}", if ending { "cancelled" } else { "resumed" });
    let done = change(stripe, move |tx| {
        let (_, customer) = customer_of(tx, &id)?;
        let given = Params::parse(&body).and_then(|mut params| params.required("subscription")).ok()?;
        let mut subscription = tx.need("subscription", &given, "id").ok()?;
        if subscription["customer"] != customer["id"] || subscriptions::is_over(&subscription) {
            return None;
        }
        subscriptions::cancel_at_period_end(tx, &mut subscription, ending);
        tx.updated(subscription, "customer.subscription.updated");
        Some(())
    });
    match done.await {
        Ok(Some(())) => redirect(&back),
        Ok(None) => present(stripe, Ok(None), StatusCode::NOT_FOUND),
        Err(error) => present(stripe, Err(error), StatusCode::INTERNAL_SERVER_ERROR),
    }
}

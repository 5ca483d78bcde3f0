//! The checkout page: what is bought, who buys it, and the card.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::Value;

use super::buyer_form::BuyerForm;
use super::card_form::CardForm;
use super::catalog::{every, money};
use super::checkout::{self, Payer};
use super::events::check_url;
use super::form::Params;
use super::pages::{broken, change, html, message, redirect};
use super::state::{Tx, int, text};
use super::{Stripe, calendar};

pub(super) fn router() -> Router<Stripe> {
    Router::new().route("/c/pay/{id}", get(show_checkout).post(pay)).route("/c/pay/{id}/code", post(use_code))
}

#[derive(Template)]
#[template(path = "stripe/checkout.html")]
struct CheckoutPage {
    business: String,
    id: String,
    /// What is bought: name, amount, how often.
    lines: Vec<(String, String, String)>,
    total: String,
    takes_codes: bool,
    /// The code that is applied, in words, and what it takes off.
    discount: Option<(String, String)>,
    typed_code: String,
    code_error: String,
    /// When the first payment is due, while a trial lasts.
    trial_end: Option<String>,
    cancel_url: Option<String>,
    form: CardForm,
    buyer: BuyerForm,
}

/// The page's form with what is known of the payer, or what they typed.
struct Filled {
    session: Value,
    form: CardForm,
    buyer: BuyerForm,
    typed_code: String,
    code_error: String,
}

impl CheckoutPage {
    fn new(stripe: &Stripe, filled: Filled) -> Self {
        let Filled { session, form, buyer, typed_code, code_error } = filled;
        let session = &session;
        let lines = session["_line_items"]["data"].as_array().cloned().unwrap_or_default();
        let line = |line: &Value| {
            let name = match int(line, "quantity") {
                1 => text(line, "description").to_owned(),
                several => format!("{several} × {}", text(line, "description")),
            };
            (name, money(int(line, "amount_total"), text(line, "currency")), every(&line["price"]))
        };
        Self {
            business: stripe.0.settings.publishable_name.clone(),
            id: text(session, "id").to_owned(),
            lines: lines.iter().map(line).collect(),
            total: money(int(session, "amount_total"), text(session, "currency")),
            takes_codes: session["allow_promotion_codes"] == true,
            discount: session["_discount"].is_object().then(|| {
                let discount = &session["_discount"];
                (text(discount, "words").to_owned(), money(-int(discount, "amount"), text(session, "currency")))
            }),
            typed_code,
            code_error,
            trial_end: session["_subscription_data"]["trial_end"].as_i64().map(calendar::date),
            cancel_url: session["cancel_url"].as_str().map(str::to_owned),
            form,
            buyer,
        }
    }
}

fn respond(stripe: &Stripe, status: StatusCode, filled: Filled) -> Response {
    let leads_to = check_url(text(&filled.session, "success_url"), "success_url").unwrap_or_default();
    html(status, &CheckoutPage::new(stripe, filled), &leads_to)
}

/// What became of a submitted page.
enum Outcome {
    Missing,
    Paid(Value),
    Over(Value),
    Again(Box<Filled>),
}

async fn show_checkout(Shared(stripe): Shared<Stripe>, Path(id): Path<String>) -> Response {
    let found = change(&stripe, move |tx| match tx.need("checkout.session", &id, "id") {
        Err(_) => Outcome::Missing,
        Ok(session) if is_open(tx, &session) => Outcome::Again(Box::new(filled(tx, session))),
        Ok(session) => Outcome::Over(session),
    });
    match found.await {
        Err(_) => broken(&stripe),
        Ok(Outcome::Again(filled)) => respond(&stripe, StatusCode::OK, *filled),
        Ok(outcome) => conclude(&stripe, outcome),
    }
}

fn is_open(tx: &Tx<'_>, session: &Value) -> bool {
    session["status"] == "open" && int(session, "expires_at") > tx.now
}

fn filled(tx: &Tx<'_>, session: Value) -> Filled {
    let customer = tx.get(text(&session, "customer")).cloned().unwrap_or_default();
    let given = text(&session, "customer_email");
    let email = if given.is_empty() { text(&customer, "email") } else { given };
    let mut form = CardForm::empty(email, text(&customer, "name"));
    form.set_country(text(&customer["address"], "country"));
    let buyer = BuyerForm::of(&session, &customer);
    Filled { form, buyer, session, typed_code: String::new(), code_error: String::new() }
}

async fn pay(Shared(stripe): Shared<Stripe>, Path(id): Path<String>, body: String) -> Response {
    let paid = change(&stripe, move |tx| pay_in(tx, &id, &body));
    match paid.await {
        Err(_) => broken(&stripe),
        Ok(outcome) => conclude(&stripe, outcome),
    }
}

/// Looks, checks and pays in one change, so that a page submitted twice pays once.
fn pay_in(tx: &mut Tx<'_>, id: &str, body: &str) -> Outcome {
    let Ok(session) = tx.need("checkout.session", id, "id") else { return Outcome::Missing };
    if session["status"] == "complete" {
        return Outcome::Paid(session);
    }
    if !is_open(tx, &session) {
        return Outcome::Over(session);
    }
    let mut filled = Box::new(filled(tx, session));
    let card = filled.form.read(body, tx.now);
    filled.buyer.read(body, &filled.form.country);
    let Some(card) = card.filter(|_| !filled.buyer.has_error()) else { return Outcome::Again(filled) };
    let Filled { session, form, buyer, .. } = &*filled;
    let payer = Payer {
        email: form.email.clone(),
        name: form.name.clone(),
        address: buyer.address(&form.country),
        business: buyer.business(),
    };
    match checkout::complete(tx, session.clone(), &card, &payer) {
        Ok(session) => Outcome::Paid(session),
        Err(error) => {
            tx.rollback();
            if error.code == Some("promotion_code_invalid") {
                filled.code_error = error.message;
            } else {
                filled.form.refuse(&error);
            }
            Outcome::Again(filled)
        }
    }
}

/// Applies the code that was typed, or takes the one that is applied away again.
async fn use_code(Shared(stripe): Shared<Stripe>, Path(id): Path<String>, body: String) -> Response {
    let back = format!("/c/pay/{id}");
    let done = change(&stripe, move |tx| {
        let session = match tx.need("checkout.session", &id, "id") {
            Err(_) => return Some(Outcome::Missing),
            Ok(session) if !is_open(tx, &session) => return Some(Outcome::Over(session)),
            Ok(session) => session,
        };
        let mut params = Params::parse(&body).unwrap_or_default();
        let typed = params.text("code").ok().flatten().unwrap_or_default();
        let reason = checkout::use_code(tx, session.clone(), &typed).err()?;
        Some(Outcome::Again(Box::new(Filled { typed_code: typed, code_error: reason, ..filled(tx, session) })))
    });
    match done.await {
        Err(_) => broken(&stripe),
        Ok(None) => redirect(&back),
        Ok(Some(Outcome::Again(filled))) => respond(&stripe, StatusCode::UNPROCESSABLE_ENTITY, *filled),
        Ok(Some(outcome)) => conclude(&stripe, outcome),
    }
}

fn conclude(stripe: &Stripe, outcome: Outcome) -> Response {
    match outcome {
        Outcome::Paid(session) => redirect(&checkout::success_url(&session)),
        Outcome::Again(filled) => respond(stripe, StatusCode::PAYMENT_REQUIRED, *filled),
        Outcome::Over(session) if session["status"] == "complete" => {
            let words = "This checkout is complete. You can close this page.";
            message(stripe, StatusCode::OK, "You have paid already", words, Some(checkout::success_url(&session)))
        }
        Outcome::Over(session) => {
            let words = "This checkout has expired, and nothing was charged. Please start again.";
            let back = session["cancel_url"].as_str().map(str::to_owned);
            message(stripe, StatusCode::GONE, "This checkout has expired", words, back)
        }
        Outcome::Missing => {
            let words = "There is no checkout at this address. Please start again.";
            message(stripe, StatusCode::NOT_FOUND, "Not found", words, None)
        }
    }
}

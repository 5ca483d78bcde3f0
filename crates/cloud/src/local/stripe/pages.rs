//! What a paying customer sees: the checkout page and an invoice; and how every page is answered.
//!
//! Plain forms that work without JavaScript. A session's id is its secret.

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use serde_json::Value;

use super::card_form::CardForm;
use super::catalog::{every, money};
use super::checkout::{self, Payer};
use super::error::ApiError;
use super::events::check_url;
use super::state::{Origin, Tx, int, text};
use super::{Stripe, calendar, pdf};

const STYLE: &str = include_str!("../../../templates/stripe/style.css");
pub(super) fn router() -> Router<Stripe> {
    Router::new()
        .route("/c/pay/{id}", get(show_checkout).post(pay))
        .route("/i/{id}", get(show_invoice))
        .route("/i/{id}/pdf", get(get_pdf))
        .route("/style.css", get(style))
}

async fn style() -> Response {
    respond(StatusCode::OK, STYLE.to_owned(), "text/css; charset=utf-8", "")
}

/// A page. `leads_to` is the origin that its forms may end at, beside our own: browsers hold a form's
/// redirects to `form-action` too.
pub(super) fn html(status: StatusCode, page: &impl Template, leads_to: &str) -> Response {
    match page.render() {
        Ok(page) => respond(status, page, "text/html; charset=utf-8", leads_to),
        Err(error) => {
            tracing::error!(%error, "a page could not be made");
            respond(StatusCode::INTERNAL_SERVER_ERROR, String::new(), "text/plain", "")
        }
    }
}

fn respond(status: StatusCode, body: impl Into<Body>, kind: &'static str, leads_to: &str) -> Response {
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self' {leads_to}; frame-ancestors 'none'; base-uri 'none'"
    );
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed: [(HeaderName, &'static str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn redirect(to: &str) -> Response {
    let mut response = respond(StatusCode::SEE_OTHER, String::new(), "text/plain", "");
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// A page that only says something.
#[derive(Template)]
#[template(path = "stripe/message.html")]
pub(super) struct Message {
    pub(super) business: String,
    pub(super) title: String,
    pub(super) text: String,
    /// Where to go on, and how it is called.
    pub(super) link: Option<(String, String)>,
}

pub(super) fn message(stripe: &Stripe, status: StatusCode, title: &str, words: &str, to: Option<String>) -> Response {
    let business = stripe.0.settings.publishable_name.clone();
    let link = to.map(|to| (to, format!("Return to {business}")));
    html(status, &Message { business, title: title.to_owned(), text: words.to_owned(), link }, "")
}

/// Runs a change where it may wait for the disk.
pub(super) async fn change<T: Send + 'static>(
    stripe: &Stripe,
    work: impl FnOnce(&mut Tx<'_>) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let stripe = stripe.clone();
    let done = tokio::task::spawn_blocking(move || stripe.change_now(Origin::default(), work)).await;
    done.unwrap_or_else(|_| Err(ApiError::broken()))
}

pub(super) fn broken(stripe: &Stripe) -> Response {
    let words = "Nothing was charged. Please try again.";
    message(stripe, StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", words, None)
}

#[derive(Template)]
#[template(path = "stripe/checkout.html")]
struct CheckoutPage {
    business: String,
    id: String,
    /// What is bought: name, amount, how often.
    lines: Vec<(String, String, String)>,
    total: String,
    /// When the first payment is due, while a trial lasts.
    trial_end: Option<String>,
    cancel_url: Option<String>,
    form: Box<CardForm>,
}

impl CheckoutPage {
    fn new(stripe: &Stripe, session: &Value, form: Box<CardForm>) -> Self {
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
            trial_end: session["_subscription_data"]["trial_end"].as_i64().map(calendar::date),
            cancel_url: session["cancel_url"].as_str().map(str::to_owned),
            form,
        }
    }

    fn respond(&self, status: StatusCode, session: &Value) -> Response {
        html(status, self, &check_url(text(session, "success_url"), "success_url").unwrap_or_default())
    }
}

/// What became of a submitted page.
enum Outcome {
    Missing,
    Paid(Value),
    Over(Value),
    Again(Value, Box<CardForm>),
}

async fn show_checkout(Shared(stripe): Shared<Stripe>, Path(id): Path<String>) -> Response {
    let found = change(&stripe, move |tx| match tx.need("checkout.session", &id, "id") {
        Err(_) => Outcome::Missing,
        Ok(session) if is_open(tx, &session) => {
            let form = Box::new(form_of(tx, &session));
            Outcome::Again(session, form)
        }
        Ok(session) => Outcome::Over(session),
    });
    match found.await {
        Err(_) => broken(&stripe),
        Ok(Outcome::Again(session, form)) => {
            CheckoutPage::new(&stripe, &session, form).respond(StatusCode::OK, &session)
        }
        Ok(outcome) => conclude(&stripe, outcome),
    }
}

fn is_open(tx: &Tx<'_>, session: &Value) -> bool {
    session["status"] == "open" && int(session, "expires_at") > tx.now
}

/// The form with what is known of the payer.
fn form_of(tx: &Tx<'_>, session: &Value) -> CardForm {
    let customer = tx.get(text(session, "customer")).cloned().unwrap_or_default();
    let given = text(session, "customer_email");
    CardForm::empty(if given.is_empty() { text(&customer, "email") } else { given }, text(&customer, "name"))
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
    let mut form = Box::new(form_of(tx, &session));
    let Some(card) = form.read(body, tx.now) else { return Outcome::Again(session, form) };
    let payer = Payer { email: form.email.clone(), name: form.name.clone(), country: form.country.clone() };
    match checkout::complete(tx, session.clone(), &card, &payer) {
        Ok(session) => Outcome::Paid(session),
        Err(error) => {
            tx.rollback();
            form.refuse(&error);
            Outcome::Again(session, form)
        }
    }
}

fn conclude(stripe: &Stripe, outcome: Outcome) -> Response {
    match outcome {
        Outcome::Paid(session) => redirect(&checkout::success_url(&session)),
        Outcome::Again(session, form) => {
            CheckoutPage::new(stripe, &session, form).respond(StatusCode::PAYMENT_REQUIRED, &session)
        }
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

#[derive(Template)]
#[template(path = "stripe/invoice.html")]
struct InvoicePage {
    business: String,
    number: String,
    date: String,
    customer: String,
    status: String,
    lines: Vec<(String, String)>,
    total: String,
    paid: String,
}

async fn show_invoice(Shared(stripe): Shared<Stripe>, Path(id): Path<String>) -> Response {
    match invoice_page(&stripe, id).await {
        Ok(page) => html(StatusCode::OK, &page, ""),
        Err(missing) => missing,
    }
}

/// The same as a file.
async fn get_pdf(Shared(stripe): Shared<Stripe>, Path(id): Path<String>) -> Response {
    let page = match invoice_page(&stripe, id).await {
        Ok(page) => page,
        Err(missing) => return missing,
    };
    let row = |left: &str, right: &str| (left.to_owned(), right.to_owned());
    let mut rows = vec![row(&page.business, &page.date), row(&page.customer, &page.status), row("", "")];
    rows.extend(page.lines);
    rows.extend([row("", ""), row("Total", &page.total), row("Paid", &page.paid)]);
    let file = pdf::document(&format!("Invoice {}", page.number), &rows);
    respond(StatusCode::OK, file, "application/pdf", "")
}

async fn invoice_page(stripe: &Stripe, id: String) -> Result<InvoicePage, Response> {
    let found = change(stripe, move |tx| tx.need("invoice", &id, "id")).await;
    let Ok(Ok(invoice)) = found else {
        let words = "There is no invoice at this address.";
        return Err(message(stripe, StatusCode::NOT_FOUND, "Not found", words, None));
    };
    let in_currency = |amount| money(amount, text(&invoice, "currency"));
    let lines = invoice["lines"]["data"].as_array().cloned().unwrap_or_default();
    Ok(InvoicePage {
        business: stripe.0.settings.publishable_name.clone(),
        number: text(&invoice, "number").to_owned(),
        date: calendar::date(int(&invoice, "created")),
        customer: text(&invoice, "customer_email").to_owned(),
        status: text(&invoice, "status").to_owned(),
        lines: lines
            .iter()
            .map(|line| (text(line, "description").to_owned(), in_currency(int(line, "amount"))))
            .collect(),
        total: in_currency(int(&invoice, "total")),
        paid: in_currency(int(&invoice, "amount_paid")),
    })
}

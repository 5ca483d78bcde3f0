//! How every page is answered, and an invoice's page. The checkout page is in `checkout_page`.
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

use super::catalog::money;
use super::error::ApiError;
use super::state::{Origin, Tx, int, text};
use super::{Stripe, calendar, discounts, pdf};

const STYLE: &str = include_str!("../../../templates/stripe/style.css");
pub(super) fn router() -> Router<Stripe> {
    Router::new().route("/i/{id}", get(show_invoice)).route("/i/{id}/pdf", get(get_pdf)).route("/style.css", get(style))
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
#[template(path = "stripe/invoice.html")]
struct InvoicePage {
    business: String,
    number: String,
    date: String,
    /// Who is billed, line by line: name, address, email, tax ids.
    customer: Vec<String>,
    status: String,
    /// What is billed, and what is taken off it.
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
    let mut rows = vec![row(&page.business, &page.date), row("", &page.status)];
    rows.extend(page.customer.iter().map(|line| row(line, "")));
    rows.push(row("", ""));
    rows.extend(page.lines);
    rows.extend([row("", ""), row("Total", &page.total), row("Paid", &page.paid)]);
    let file = pdf::document(&format!("Invoice {}", page.number), &rows);
    respond(StatusCode::OK, file, "application/pdf", "")
}

async fn invoice_page(stripe: &Stripe, id: String) -> Result<InvoicePage, Response> {
    let found = change(stripe, move |tx| {
        let invoice = tx.need("invoice", &id, "id")?;
        let off = invoice["total_discount_amounts"].as_array().into_iter().flatten();
        let off = off.filter(|one| int(one, "amount") > 0).map(|one| {
            let words = tx.get(text(one, "discount")).map(discounts::words).unwrap_or_default();
            (format!("Discount ({words})"), -int(one, "amount"))
        });
        let off: Vec<(String, i64)> = off.collect();
        Ok::<_, ApiError>((invoice, off))
    });
    let Ok(Ok((invoice, off))) = found.await else {
        let words = "There is no invoice at this address.";
        return Err(message(stripe, StatusCode::NOT_FOUND, "Not found", words, None));
    };
    let in_currency = |amount| money(amount, text(&invoice, "currency"));
    let lines = invoice["lines"]["data"].as_array().cloned().unwrap_or_default();
    Ok(InvoicePage {
        business: stripe.0.settings.publishable_name.clone(),
        number: text(&invoice, "number").to_owned(),
        date: calendar::date(int(&invoice, "created")),
        customer: billed_to(&invoice),
        status: text(&invoice, "status").to_owned(),
        lines: lines
            .iter()
            .map(|line| (text(line, "description").to_owned(), int(line, "amount")))
            .chain(off)
            .map(|(what, amount)| (what, in_currency(amount)))
            .collect(),
        total: in_currency(int(&invoice, "total")),
        paid: in_currency(int(&invoice, "amount_paid")),
    })
}

fn billed_to(invoice: &Value) -> Vec<String> {
    let address = &invoice["customer_address"];
    let place = ["postal_code", "city", "state"].map(|part| text(address, part)).join(" ");
    let ids = invoice["customer_tax_ids"].as_array().into_iter().flatten();
    let ids = ids.map(|id| format!("{} {}", text(id, "type").replace('_', " ").to_uppercase(), text(id, "value")));
    let parts = [text(invoice, "customer_name"), text(address, "line1"), text(address, "line2"), place.trim()];
    let parts = parts.into_iter().chain([text(address, "country"), text(invoice, "customer_email")]);
    parts.map(str::to_owned).chain(ids).filter(|part| !part.is_empty()).collect()
}

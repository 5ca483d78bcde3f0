//! The HTTP API below `/v1`: who calls, which endpoint, once or again, and how the answer is shown.
//!
//! Every endpoint is one line of [`ROUTES`]. An answer to a POST with an `Idempotency-Key` is kept in the
//! same change as its effect, for 24 hours.

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::{ApiError, Result};
use super::form::Params;
use super::state::{Origin, State, Tx, int, public, text};
use super::{API_VERSION, Stripe};
use super::{
    catalog, checkout, coupons, customers, disputes, events, invoices, payments, portal, refunds, subscriptions,
    tax_ids,
};

/// Stripe keeps an answer this long (seconds).
const KEY_LIFE: i64 = 24 * 60 * 60;
/// More than any request needs (bytes).
const MAX_BODY: usize = 1 << 20;

/// What an endpoint gets: the ids of the path, in order, and the parameters.
pub(super) struct Call {
    pub(super) path: String,
    pub(super) ids: Vec<String>,
    pub(super) params: Params,
}

impl Call {
    pub(super) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }
}

type Endpoint = fn(&mut Tx<'_>, &mut Call) -> Result<Value>;

/// Every endpoint: method, path (`*` is an id) and what it does. Fixed words come before `*`.
const ROUTES: &[(&str, &str, Endpoint)] = &[
    ("GET", "account", |tx, _| Ok(payments::account(tx))),
    ("GET", "balance", |tx, _| Ok(payments::balance(tx))),
    ("POST", "customers", customers::create),
    ("GET", "customers", customers::list),
    ("GET", "customers/*", |tx, call| tx.need("customer", call.id(), "id")),
    ("POST", "customers/*", customers::update),
    ("DELETE", "customers/*", customers::delete),
    ("GET", "customers/*/payment_methods", payments::list_methods),
    ("POST", "customers/*/tax_ids", tax_ids::create),
    ("GET", "customers/*/tax_ids", tax_ids::list),
    ("POST", "products", catalog::create_product),
    ("GET", "products", catalog::list_products),
    ("GET", "products/*", |tx, call| tx.need("product", call.id(), "id")),
    ("POST", "products/*", catalog::update_product),
    ("POST", "prices", catalog::create_price),
    ("GET", "prices", catalog::list_prices),
    ("GET", "prices/*", |tx, call| tx.need("price", call.id(), "id")),
    ("POST", "prices/*", catalog::update_price),
    ("POST", "coupons", coupons::create),
    ("GET", "coupons", coupons::list),
    ("GET", "coupons/*", |tx, call| tx.need("coupon", call.id(), "id")),
    ("POST", "coupons/*", coupons::update),
    ("DELETE", "coupons/*", coupons::delete),
    ("POST", "promotion_codes", coupons::create_code),
    ("GET", "promotion_codes", coupons::list_codes),
    ("GET", "promotion_codes/*", |tx, call| tx.need("promotion_code", call.id(), "id")),
    ("POST", "promotion_codes/*", coupons::update_code),
    ("POST", "checkout/sessions", checkout::create),
    ("GET", "checkout/sessions", checkout::list),
    ("GET", "checkout/sessions/*", |tx, call| tx.need("checkout.session", call.id(), "id")),
    ("GET", "checkout/sessions/*/line_items", checkout::line_items),
    ("POST", "checkout/sessions/*/expire", checkout::expire),
    ("POST", "subscriptions", subscriptions::create),
    ("GET", "subscriptions", subscriptions::list),
    ("GET", "subscriptions/*", |tx, call| tx.need("subscription", call.id(), "id")),
    ("POST", "subscriptions/*", subscriptions::update),
    ("DELETE", "subscriptions/*", subscriptions::cancel),
    ("GET", "invoices", invoices::list),
    ("POST", "invoices/create_preview", invoices::preview),
    ("GET", "invoices/*", |tx, call| tx.need("invoice", call.id(), "id")),
    ("POST", "invoices/*/pay", invoices::pay),
    ("POST", "payment_methods", payments::create_method),
    ("GET", "payment_methods", payments::list_methods),
    ("GET", "payment_methods/*", |tx, call| tx.need("payment_method", call.id(), "id")),
    ("POST", "payment_methods/*/attach", payments::attach_method),
    ("POST", "payment_methods/*/detach", payments::detach_method),
    ("GET", "payment_intents/*", |tx, call| tx.need("payment_intent", call.id(), "id")),
    ("GET", "charges/*", |tx, call| tx.need("charge", call.id(), "id")),
    ("POST", "refunds", refunds::create),
    ("GET", "refunds", refunds::list),
    ("GET", "refunds/*", |tx, call| tx.need("refund", call.id(), "id")),
    ("GET", "disputes", disputes::list),
    ("GET", "disputes/*", |tx, call| tx.need("dispute", call.id(), "id")),
    ("POST", "disputes/*", disputes::update),
    ("POST", "disputes/*/close", disputes::close),
    ("POST", "billing_portal/sessions", portal::create),
    ("GET", "events", events::list),
    ("GET", "events/*", |tx, call| tx.need("event", call.id(), "id")),
    ("POST", "webhook_endpoints", events::create_endpoint),
    ("GET", "webhook_endpoints", events::list_endpoints),
    ("GET", "webhook_endpoints/*", |tx, call| tx.need("webhook_endpoint", call.id(), "id")),
    ("POST", "webhook_endpoints/*", events::update_endpoint),
    ("DELETE", "webhook_endpoints/*", events::delete_endpoint),
];

/// A request, read whole.
struct Received {
    method: Method,
    path: String,
    query: String,
    body: String,
    key: Option<String>,
    request_id: String,
}

/// What is answered, and kept under the caller's key.
struct Answer {
    status: u16,
    body: String,
    replayed: bool,
}

pub(super) async fn serve(Shared(stripe): Shared<Stripe>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let request_id = Tx::id("req_");
    if !parts.uri.path().starts_with("/v1/") {
        // Not the API's: a browser must not ask for a password here.
        let error = ApiError::no_route(parts.method.as_str(), parts.uri.path());
        return Answer::error(&error).into_response(&parts.headers, &request_id);
    }
    let answer = match authenticate(&parts.headers, &stripe.0.settings.api_key) {
        Err(error) => Answer::error(&error),
        Ok(()) => match axum::body::to_bytes(body, MAX_BODY).await.map(|body| String::from_utf8(body.into())) {
            Ok(Ok(body)) => {
                let received = Received {
                    method: parts.method,
                    path: parts.uri.path().to_owned(),
                    query: parts.uri.query().unwrap_or_default().to_owned(),
                    body,
                    key: parts.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned),
                    request_id: request_id.clone(),
                };
                // The change waits for the disk.
                let done = tokio::task::spawn_blocking(move || answer(&stripe, &received)).await;
                done.unwrap_or_else(|_| Answer::error(&ApiError::broken()))
            }
            _ => Answer::error(&ApiError::state("The request's body is too long or not valid UTF-8.")),
        },
    };
    answer.into_response(&parts.headers, &request_id)
}

impl Answer {
    fn error(error: &ApiError) -> Self {
        Self { status: error.status, body: format!("{:#}", error.body()), replayed: false }
    }

    fn into_response(self, asked: &HeaderMap, request_id: &str) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("request-id", id);
        }
        let version = asked.get("stripe-version").cloned();
        headers.insert("stripe-version", version.unwrap_or(HeaderValue::from_static(API_VERSION)));
        if let Some(key) = asked.get("idempotency-key") {
            headers.insert("idempotency-key", key.clone());
        }
        if self.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        if self.status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Stripe\""));
        }
        response
    }
}

fn authenticate(headers: &HeaderMap, api_key: &str) -> Result<()> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, rest) = given.split_once(' ').unwrap_or((given, ""));
    let key = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.trim().to_owned(),
        "basic" => {
            let decoded = BASE64_STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    };
    if key.is_empty() {
        return Err(ApiError::unauthorized(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using \
             Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        ));
    }
    if bool::from(key.as_bytes().ct_eq(api_key.as_bytes())) {
        return Ok(());
    }
    let end: String = key.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    Err(ApiError::unauthorized(&format!("Invalid API Key provided: ********{end}")))
}

/// Finds the endpoint, or the answer that the same key had before.
fn answer(stripe: &Stripe, received: &Received) -> Answer {
    let origin = Origin { request: Some(received.request_id.clone()), idempotency_key: received.key.clone() };
    let done = stripe.change_now(origin, |tx| {
        let key = received.key.as_ref().filter(|_| received.method == Method::POST);
        let Some(key) = key else { return perform(tx, received).0 };
        let (id, print) = (format!("_key:{key}"), fingerprint(received));
        match tx.get(&id).filter(|kept| int(kept, "created") + KEY_LIFE > tx.now) {
            Some(kept) if text(kept, "fingerprint") != print => Answer::error(&ApiError::idempotency(key)),
            Some(kept) => {
                Answer { status: int(kept, "status") as u16, body: text(kept, "body").to_owned(), replayed: true }
            }
            None => {
                let (answer, executed) = perform(tx, received);
                if executed {
                    tx.put(json!({"id": id, "object": "_key", "created": tx.now, "fingerprint": print,
                        "status": answer.status, "body": answer.body}));
                }
                answer
            }
        }
    });
    done.unwrap_or_else(|error| Answer::error(&error))
}

/// Runs the endpoint. The second value says whether it had an effect that must not happen twice.
fn perform(tx: &mut Tx<'_>, received: &Received) -> (Answer, bool) {
    match endpoint(tx, received) {
        Ok(value) => (Answer { status: 200, body: format!("{value:#}"), replayed: false }, true),
        Err(error) => {
            if !error.keep {
                tx.rollback();
            }
            (Answer::error(&error), error.keep)
        }
    }
}

fn endpoint(tx: &mut Tx<'_>, received: &Received) -> Result<Value> {
    let unknown = || ApiError::no_route(received.method.as_str(), &received.path);
    let path = received.path.strip_prefix("/v1/").ok_or_else(unknown)?.trim_end_matches('/');
    let found = ROUTES.iter().find_map(|(method, pattern, endpoint)| {
        let ids = matches(pattern, path).filter(|_| received.method.as_str() == *method)?;
        Some((ids, endpoint))
    });
    let (ids, endpoint) = found.ok_or_else(unknown)?;
    let mut params = Params::parse(&received.query)?;
    params.merge(Params::parse(&received.body)?);
    let expand = params.texts("expand")?;
    let mut call = Call { path: format!("/v1/{path}"), ids, params };
    let mut value = endpoint(tx, &mut call)?;
    call.params.finish()?;
    for path in &expand {
        expand_path(tx, &mut value, path, path)?;
    }
    Ok(public(&value))
}

/// The ids in `path`, if it is of this pattern.
fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given, mut ids) = (pattern.split('/'), path.split('/'), Vec::new());
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(ids),
            (Some("*"), Some(id)) if !id.is_empty() => ids.push(id.to_owned()),
            (Some(word), Some(part)) if word == part => {}
            _ => return None,
        }
    }
}

/// Replaces the id at `path` by its object: `latest_invoice.customer`, `data.customer` in a list.
fn expand_path(tx: &Tx<'_>, value: &mut Value, path: &str, whole: &str) -> Result<()> {
    if let Value::Array(items) = value {
        return items.iter_mut().try_for_each(|item| expand_path(tx, item, path, whole));
    }
    let (field, rest) = path.split_once('.').map_or((path, None), |(field, rest)| (field, Some(rest)));
    let refused =
        || ApiError::invalid("parameter_invalid", format!("This property cannot be expanded ({whole})."), "expand");
    let fields = value.as_object_mut().ok_or_else(refused)?;
    // What Stripe shows only when asked is kept under a private name.
    if let Some(hidden) = fields.get(&format!("_{field}")).filter(|_| !fields.contains_key(field)).cloned() {
        fields.insert(field.to_owned(), hidden);
    }
    let inner = fields.get_mut(field).ok_or_else(refused)?;
    if let Some(ids) = inner.as_array_mut() {
        for id in ids {
            resolve(tx, id);
        }
    } else {
        resolve(tx, inner);
    }
    match rest {
        Some(rest) if !inner.is_null() => expand_path(tx, inner, rest, whole),
        _ => Ok(()),
    }
}

fn resolve(tx: &Tx<'_>, value: &mut Value) {
    if let Some(object) = value.as_str().and_then(|id| tx.get(id)) {
        *value = object.clone();
    }
}

fn fingerprint(received: &Received) -> String {
    let mut hash = Sha256::new();
    for part in [received.method.as_str(), &received.path, &received.query, &received.body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Drops the answers that are kept no longer, before a snapshot is written.
pub(super) fn forget_old_keys(state: &mut State, now: i64) {
    let old = state.of_kind("_key").filter(|kept| int(kept, "created") + KEY_LIFE <= now);
    let remove = old.map(|kept| text(kept, "id").to_owned()).collect();
    state.apply(super::journal::Change { put: Vec::new(), remove });
}

/// One page of a kind, newest first: `limit`, `starting_after`, `ending_before` and `created`.
pub(super) fn page(tx: &Tx<'_>, call: &mut Call, kind: &str, keep: impl Fn(&Value) -> bool) -> Result<Value> {
    page_of(tx, call, kind, None, keep)
}

/// The same, of those of a customer's when one is given.
pub(super) fn page_of(
    tx: &Tx<'_>,
    call: &mut Call,
    kind: &str,
    customer: Option<&str>,
    keep: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let params = &mut call.params;
    let limit = params.int("limit")?.unwrap_or(10);
    if !(1..=100).contains(&limit) {
        let message = format!("Invalid limit: must be between 1 and 100, not {limit}.");
        return Err(ApiError::invalid("parameter_invalid_integer", message, "limit"));
    }
    let (after, before) = (params.text("starting_after")?, params.text("ending_before")?);
    let in_range = created_range(params)?;
    let mut all: Vec<&Value> = match customer {
        Some(customer) => tx.list_of(kind, customer).collect(),
        None => tx.list(kind).collect(),
    };
    let position = |all: &[&Value], id: &str, param: &str| {
        all.iter().position(|object| text(object, "id") == id).ok_or_else(|| ApiError::missing(kind, id, param))
    };
    if let Some(id) = &after {
        all.drain(..=position(&all, id, "starting_after")?);
    }
    if let Some(id) = &before {
        all.truncate(position(&all, id, "ending_before")?);
    }
    all.retain(|object| keep(object) && in_range(int(object, "created")));
    let has_more = all.len() > limit as usize;
    if before.is_some() && has_more {
        all.drain(..all.len() - limit as usize);
    }
    all.truncate(limit as usize);
    let data: Vec<Value> = all.into_iter().cloned().collect();
    Ok(json!({"object": "list", "data": data, "has_more": has_more, "url": call.path}))
}

/// `created[gte]=5&created[lt]=9`, in seconds.
fn created_range(params: &mut Params) -> Result<impl Fn(i64) -> bool + use<>> {
    let mut range = params.level("created")?.unwrap_or_default();
    let above = [range.int("gte")?, range.int("gt")?.map(|than| than.saturating_add(1))];
    let below = [range.int("lte")?, range.int("lt")?.map(|than| than.saturating_sub(1))];
    range.finish()?;
    let first = above.into_iter().flatten().max().unwrap_or(i64::MIN);
    let last = below.into_iter().flatten().min().unwrap_or(i64::MAX);
    Ok(move |created| (first..=last).contains(&created))
}

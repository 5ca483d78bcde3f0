//! The calls to Stripe's API, form in, JSON out: <https://docs.stripe.com/api>.
//!
//! Every POST bears an idempotency key, and is tried again when its answer was lost; the same key then
//! gives the same object. Answers are read leniently.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rand::RngExt;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use stackpro_domain::plan::{Interval, Plan, Plans};
use stackpro_domain::{ClientId, Time};
use tokio::sync::OnceCell;

use super::subscription::{Subscription, seconds, text};

/// Tries of one call in all.
const TRIES: u32 = 4;
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// As many as the API gives at once.
const PAGE: &str = "100";
/// More than a till has; after so many pages it is taken to answer the same one for ever.
const MAX_PAGES: usize = 1_000;

pub struct TillConfig {
    /// `https://api.stripe.com`, or where the simulated Stripe listens.
    pub base_url: String,
    pub secret_key: SecretString,
    /// The present secret of the webhook endpoint and, during a rotation, the other one.
    pub webhook_secrets: Vec<SecretString>,
}

pub struct Till {
    http: reqwest::Client,
    config: TillConfig,
    /// Ids of prices by lookup key, once they are known to exist.
    prices: OnceCell<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TillError {
    /// May work later.
    #[error("the till does not answer: {0}")]
    Unavailable(String),
    #[error("the till refused ({status}): {message}")]
    Refused { status: u16, code: String, message: String },
}

/// A page on which a client pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    pub id: String,
    pub url: String,
}

pub(super) type Form<'a> = Vec<(&'a str, String)>;
pub(super) type Result<T> = std::result::Result<T, TillError>;

impl Till {
    /// Needs a rustls crypto provider to be installed.
    pub fn new(config: TillConfig) -> Result<Self> {
        // A simulated one is on loopback, where no proxy of the environment leads.
        let http = if config.base_url.starts_with("http://") {
            reqwest::Client::builder().no_proxy()
        } else {
            reqwest::Client::builder()
        };
        let http = http
            .timeout(CALL_TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| TillError::Unavailable(error.to_string()))?;
        Ok(Self { http, config, prices: OnceCell::new() })
    }

    /// Whether the till answers and takes our key: what it says of the account.
    pub async fn check(&self) -> Result<String> {
        let account = self.get("/v1/account", &[]).await?;
        Ok(format!("{} answers, account {}", self.config.base_url, text(account.get("id")).unwrap_or_default()))
    }

    pub fn webhook_secrets(&self) -> Vec<&str> {
        self.config.webhook_secrets.iter().map(ExposeSecret::expose_secret).collect()
    }

    /// Origins of the pages on which clients pay and see to their invoices.
    pub fn page_origins(&self) -> Vec<&str> {
        if self.config.base_url.starts_with("https://api.stripe.com") {
            return vec!["https://checkout.stripe.com", "https://billing.stripe.com"];
        }
        vec![self.config.base_url.trim_end_matches('/')]
    }

    /// The till's customer for this client: the same one however often it is asked for.
    pub async fn create_customer(&self, client: &ClientId, company: &str, email: &str) -> Result<String> {
        let form = vec![
            ("name", company.to_owned()),
            ("email", email.to_owned()),
            ("metadata[client_id]", client.to_string()),
        ];
        let customer = self.post("/v1/customers", &form, &format!("customer-{client}")).await?;
        id(&customer)
    }

    /// Makes a page on which the client subscribes to the plan. `{CHECKOUT_SESSION_ID}` in `success_url`
    /// is replaced by the till.
    pub async fn create_checkout(
        &self,
        plans: &Plans,
        order: &Order<'_>,
        success_url: String,
        cancel_url: String,
    ) -> Result<Checkout> {
        let price = self.price(plans, order.plan, order.interval).await?;
        let client = order.client.to_string();
        let form = vec![
            ("mode", "subscription".to_owned()),
            ("customer", order.customer.to_owned()),
            ("client_reference_id", client.clone()),
            ("metadata[client_id]", client.clone()),
            ("metadata[plan]", order.plan.id.clone()),
            ("subscription_data[metadata][client_id]", client),
            ("subscription_data[metadata][plan]", order.plan.id.clone()),
            ("line_items[0][price]", price),
            ("line_items[0][quantity]", "1".to_owned()),
            ("success_url", success_url),
            ("cancel_url", cancel_url),
            ("allow_promotion_codes", "true".to_owned()),
            ("billing_address_collection", "required".to_owned()),
            ("tax_id_collection[enabled]", "true".to_owned()),
            // What they type there is kept with the customer, without which no tax id is collected.
            ("customer_update[name]", "auto".to_owned()),
            ("customer_update[address]", "auto".to_owned()),
        ];
        let session = self.post("/v1/checkout/sessions", &form, &fresh_key()).await?;
        let url = text(session.get("url")).ok_or_else(|| unreadable("a checkout session without a url"))?;
        Ok(Checkout { id: id(&session)?, url })
    }

    /// Closes the customer's pages of [`Self::create_checkout`] on which nothing is paid yet.
    pub async fn expire_checkouts(&self, customer: &str) -> Result<()> {
        let query = [("customer", customer), ("status", "open"), ("limit", PAGE)];
        let open = self.get("/v1/checkout/sessions", &query).await?;
        for session in rows(&open) {
            let path = format!("/v1/checkout/sessions/{}/expire", segment(&id(session)?));
            match self.post(&path, &Vec::new(), &fresh_key()).await {
                // It was paid or expired meanwhile.
                Ok(_) | Err(TillError::Refused { status: 400, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// `None` when the till knows no such subscription.
    pub async fn subscription(&self, id: &str) -> Result<Option<Subscription>> {
        match self.get(&format!("/v1/subscriptions/{}", segment(id)), &[]).await {
            Ok(value) => Ok(Some(Subscription::read(&value).ok_or_else(|| unreadable("a subscription"))?)),
            Err(TillError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A customer's subscriptions, the one that counts first.
    pub async fn subscriptions_of(&self, customer: &str) -> Result<Vec<Subscription>> {
        let query = [("customer", customer), ("status", "all"), ("limit", PAGE), ("expand[]", "data.latest_invoice")];
        let list = self.get("/v1/subscriptions", &query).await?;
        let mut found: Vec<Subscription> = rows(&list).filter_map(Subscription::read).collect();
        found.sort_by_key(|one| Reverse(one.rank()));
        Ok(found)
    }

    /// Every customer's subscriptions, the one that counts first. Within minutes of being asked for it is old.
    pub async fn subscriptions(&self) -> Result<HashMap<String, Vec<Subscription>>> {
        let query = [("status", "all"), ("expand[]", "data.latest_invoice")];
        let mut all: HashMap<String, Vec<Subscription>> = HashMap::new();
        for found in self.pages("/v1/subscriptions", &query, Subscription::read).await? {
            all.entry(found.customer.clone()).or_default().push(found);
        }
        for found in all.values_mut() {
            found.sort_by_key(|one| Reverse(one.rank()));
        }
        Ok(all)
    }

    /// Every page of a list.
    pub(super) async fn pages<T>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>> {
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let mut query = query.to_vec();
            query.push(("limit", PAGE));
            if !after.is_empty() {
                query.push(("starting_after", after.as_str()));
            }
            let list = self.get(path, &query).await?;
            found.extend(rows(&list).filter_map(&read));
            let last = rows(&list).last().and_then(|row| text(row.get("id")));
            match last.filter(|_| list.get("has_more") == Some(&Value::Bool(true))) {
                Some(last) => after = last,
                None => return Ok(found),
            }
        }
        Err(unreadable("a list without an end"))
    }

    /// The subscription that a paid checkout session made, with the client that it was for.
    pub async fn subscription_of_checkout(&self, session: &str) -> Result<Option<Subscription>> {
        let session = self.get(&format!("/v1/checkout/sessions/{}", segment(session)), &[]).await?;
        match super::subscription::id_of(session.get("subscription")) {
            Some(id) => self.subscription(&id).await,
            None => Ok(None),
        }
    }

    pub async fn invoice_created_at(&self, invoice: &str) -> Result<Option<Time>> {
        let invoice = self.get(&format!("/v1/invoices/{}", segment(invoice)), &[]).await?;
        Ok(invoice.get("created").and_then(seconds))
    }

    /// A page on which the client changes their card or reads their invoices.
    pub async fn create_portal(&self, customer: &str, return_url: String) -> Result<String> {
        let form = vec![("customer", customer.to_owned()), ("return_url", return_url)];
        let session = self.post("/v1/billing_portal/sessions", &form, &fresh_key()).await?;
        text(session.get("url")).ok_or_else(|| unreadable("a portal session without a url"))
    }

    /// Pay no further period, or do so after all.
    pub async fn cancel_at_period_end(&self, subscription: &str, cancels: bool) -> Result<Subscription> {
        let form = vec![("cancel_at_period_end", cancels.to_string())];
        let path = format!("/v1/subscriptions/{}", segment(subscription));
        let value = self.post(&path, &form, &fresh_key()).await?;
        Subscription::read(&value).ok_or_else(|| unreadable("a subscription"))
    }

    /// Ends a subscription at once: its client is deleted. Nothing happens when there is none.
    pub async fn end_subscription(&self, subscription: &str) -> Result<()> {
        let path = format!("/v1/subscriptions/{}", segment(subscription));
        match self.call(Method::DELETE, &path, &[], &[], None).await {
            Ok(_) | Err(TillError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn price(&self, plans: &Plans, plan: &Plan, interval: Interval) -> Result<String> {
        let prices = self.prices.get_or_try_init(|| self.ensure_prices(plans)).await?;
        let key = plan.lookup_key(interval);
        prices.get(&key).cloned().ok_or_else(|| unreadable(&format!("no price {key}")))
    }

    /// Finds the price of every plan and interval, and makes those that are missing or that cost
    /// something else by now. Two servers that do so at once make one price.
    async fn ensure_prices(&self, plans: &Plans) -> Result<BTreeMap<String, String>> {
        let wanted = || plans.plans.iter().flat_map(|plan| [Interval::Month, Interval::Year].map(|i| (plan, i)));
        let mut known = BTreeMap::new();
        // The API takes at most ten lookup keys a call.
        let keys: Vec<String> = wanted().map(|(plan, interval)| plan.lookup_key(interval)).collect();
        for ten in keys.chunks(10) {
            let mut query = vec![("active", "true"), ("limit", "100")];
            query.extend(ten.iter().map(|key| ("lookup_keys[]", key.as_str())));
            let list = self.get("/v1/prices", &query).await?;
            for price in rows(&list) {
                if let (Some(key), Ok(id)) = (text(price.get("lookup_key")), id(price)) {
                    known.insert(key, (id, price.get("unit_amount").and_then(Value::as_i64)));
                }
            }
        }
        let mut prices = BTreeMap::new();
        for (plan, interval) in wanted() {
            let key = plan.lookup_key(interval);
            let cents = plan.price(interval).0;
            let id = match known.remove(&key) {
                Some((id, Some(amount))) if amount == cents => id,
                _ => self.create_price(plan, interval, &key, cents).await?,
            };
            prices.insert(key, id);
        }
        Ok(prices)
    }

    async fn create_price(&self, plan: &Plan, interval: Interval, key: &str, cents: i64) -> Result<String> {
        let product = format!("stackpro_{}", plan.id);
        let form = vec![("id", product.clone()), ("name", plan.name.clone()), ("metadata[plan]", plan.id.clone())];
        match self.post("/v1/products", &form, &format!("product-{}", plan.id)).await {
            Ok(_) => {}
            Err(TillError::Refused { code, .. }) if code == "resource_already_exists" => {}
            Err(error) => return Err(error),
        }
        let form = vec![
            ("product", product),
            ("currency", "usd".to_owned()),
            ("unit_amount", cents.to_string()),
            ("recurring[interval]", interval.as_str().to_owned()),
            ("lookup_key", key.to_owned()),
            ("transfer_lookup_key", "true".to_owned()),
            ("metadata[plan]", plan.id.clone()),
        ];
        id(&self.post("/v1/prices", &form, &format!("price-{key}-{cents}")).await?)
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.call(Method::GET, path, query, &[], None).await
    }

    pub(super) async fn post(&self, path: &str, form: &Form<'_>, key: &str) -> Result<Value> {
        self.call(Method::POST, path, &[], form, Some(key)).await
    }

    /// One call, tried again while it may have been lost.
    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        form: &[(&str, String)],
        key: Option<&str>,
    ) -> Result<Value> {
        // In tests every call is: so a new one is not forgotten where operators read what their key needs.
        debug_assert!(
            super::rights::is_covered(method.as_str(), path),
            "{method} {path} is not in the table of rights"
        );
        let mut attempt = 1;
        loop {
            let error = match self.once(&method, path, query, form, key).await {
                Ok(value) => return Ok(value),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) if attempt >= TRIES => return Err(error),
                Err(Attempt::Again(error)) => error,
            };
            tracing::debug!(%error, path, attempt, "a call to the till is tried again");
            let wait = (100_u64 << attempt) + rand::rng().random_range(0..100);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            attempt += 1;
        }
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        query: &[(&str, &str)],
        form: &[(&str, String)],
        key: Option<&str>,
    ) -> std::result::Result<Value, Attempt> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.config.base_url.trim_end_matches('/')))
            .bearer_auth(self.config.secret_key.expose_secret())
            .query(query);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if *method == Method::POST {
            request = request.form(form);
        }
        let lost = |error: reqwest::Error| Attempt::Again(TillError::Unavailable(error.without_url().to_string()));
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let body = response.bytes().await.map_err(lost)?;
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return if value.is_object() { Ok(value) } else { Err(Attempt::Again(unreadable("an answer"))) };
        }
        let again = status.is_server_error() || matches!(status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS);
        let error = refusal(status, &value);
        Err(if again { Attempt::Again(error) } else { Attempt::Final(error) })
    }
}

/// Who subscribes to what.
pub struct Order<'a> {
    pub client: &'a ClientId,
    pub customer: &'a str,
    pub plan: &'a Plan,
    pub interval: Interval,
}

enum Attempt {
    Again(TillError),
    Final(TillError),
}

fn refusal(status: StatusCode, value: &Value) -> TillError {
    let error = value.get("error").unwrap_or(&Value::Null);
    let word = |name: &str| text(error.get(name)).unwrap_or_default();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return TillError::Unavailable(format!("{status} {}", word("message")));
    }
    TillError::Refused { status: status.as_u16(), code: word("code"), message: word("message") }
}

pub(super) fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("data").and_then(Value::as_array).into_iter().flatten()
}

fn id(value: &Value) -> Result<String> {
    text(value.get("id")).ok_or_else(|| unreadable("an object without an id"))
}

pub(super) fn unreadable(what: &str) -> TillError {
    TillError::Unavailable(format!("it answered what cannot be read: {what}"))
}

/// For a call that is not to be found again by a later one: only its own tries share the key.
pub(super) fn fresh_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// An id as one segment of a path, whatever is in it.
pub(super) fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%5F", "_")
}

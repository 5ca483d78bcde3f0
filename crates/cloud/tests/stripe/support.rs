//! A till to test with: a clock to move, the server, and a receiver of webhooks.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use reqwest::RequestBuilder;
use serde_json::Value;
use stackpro_cloud::local::stripe::{Settings, Stripe, WebhookEndpoint, WebhookFaults};
use stackpro_domain::{Clock, Time};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const KEY: &str = "sk_test_key";
pub(crate) const SECRET: &str = "whsec_of_the_settings";
pub(crate) const DAY: i64 = 86_400_000;

/// A clock that stands still until it is moved.
pub(crate) struct Hand(AtomicI64);

impl Hand {
    pub(crate) fn at(text: &str) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(text.parse::<Time>().unwrap().ms())))
    }

    pub(crate) fn set(&self, text: &str) {
        self.0.store(text.parse::<Time>().unwrap().ms(), Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) struct Till {
    pub(crate) stripe: Stripe,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
    _stop: DropGuard,
}

pub(crate) fn settings(base_url: &str, webhook: Option<String>) -> Settings {
    Settings {
        api_key: KEY.to_owned(),
        publishable_name: "Acme & <Sons>".to_owned(),
        base_url: base_url.to_owned(),
        webhook_endpoints: webhook.map(|url| WebhookEndpoint { url, secret: SECRET.to_owned() }).into_iter().collect(),
        faults: WebhookFaults::default(),
    }
}

impl Till {
    pub(crate) async fn open(dir: &Path, clock: Arc<dyn Clock>) -> Self {
        Self::with(dir, clock, |_| {}).await
    }

    pub(crate) async fn with(dir: &Path, clock: Arc<dyn Clock>, change: impl FnOnce(&mut Settings)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = settings(&base, None);
        change(&mut settings);
        let stripe = Stripe::open(dir, settings, clock).unwrap();
        let stop = CancellationToken::new();
        let (running, token) = (stripe.clone(), stop.clone());
        tokio::spawn(async move { running.run(listener, token).await });
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { stripe, base, client, _stop: stop.drop_guard() }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = method.parse().unwrap();
        self.client.request(method, format!("{}/v1/{path}", self.base)).bearer_auth(KEY)
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let (status, body) = self.try_post(path, form).await;
        assert_eq!(status, 200, "{path}: {body:#}");
        body
    }

    pub(crate) async fn try_post(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        answer(self.request("POST", path).form(form)).await
    }

    /// The error of a POST that is refused.
    pub(crate) async fn refused(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let (status, body) = self.try_post(path, form).await;
        assert_eq!(status, 400, "{path}: {body:#}");
        body
    }

    /// What is at an address of a page: status, kind and text.
    pub(crate) async fn file(&self, url: &str) -> (u16, String, String) {
        let answer = self.client.get(url).send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = answer(self.request("GET", path)).await;
        assert_eq!(status, 200, "{path}: {body:#}");
        body
    }

    /// A monthly price of $299.
    pub(crate) async fn price(&self) -> String {
        let form = [
            ("currency", "usd"),
            ("unit_amount", "29900"),
            ("recurring[interval]", "month"),
            ("product_data[name]", "Starter <b>"),
        ];
        id(&self.post("prices", &form).await)
    }

    pub(crate) async fn checkout(&self, price: &str) -> Value {
        let form = [
            ("mode", "subscription"),
            ("line_items[0][price]", price),
            ("customer_email", "\"ada\"@example.com"),
            ("success_url", "http://till.example:8080/done?session={CHECKOUT_SESSION_ID}"),
            ("cancel_url", "http://till.example:8080/plans"),
        ];
        self.post("checkout/sessions", &form).await
    }

    /// Submits a card on a page: status, where it leads, the page.
    pub(crate) async fn submit(&self, url: &str, number: &str) -> (u16, String, String) {
        let form = [("number", number), ("expiry", "12 / 60"), ("cvc", "123"), ("name", "Ada"), ("country", "GB")];
        self.submit_form(url, &form).await
    }

    pub(crate) async fn submit_form(&self, url: &str, form: &[(&str, &str)]) -> (u16, String, String) {
        let answer = self.client.post(url).form(form).send().await.unwrap();
        let location = answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned());
        (answer.status().as_u16(), location.unwrap_or_default(), answer.text().await.unwrap())
    }

    /// A paid subscription, fresh from checkout.
    pub(crate) async fn subscribe(&self) -> Value {
        let session = self.checkout(&self.price().await).await;
        let (status, _, page) = self.submit(text(&session, "url"), "4242424242424242").await;
        assert_eq!(status, 303, "{page}");
        let session = self.get(&format!("checkout/sessions/{}?expand[]=subscription", text(&session, "id"))).await;
        session["subscription"].clone()
    }

    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        let between = if path.contains('?') { '&' } else { '?' };
        let list = self.get(&format!("{path}{between}limit=100")).await;
        list["data"].as_array().unwrap().clone()
    }

    /// The types of all events since `count` of them, oldest first.
    pub(crate) async fn events_after(&self, count: usize) -> Vec<String> {
        let mut events = self.list("events").await;
        events.reverse();
        events.iter().skip(count).map(|event| text(event, "type").to_owned()).collect()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

pub(crate) fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object[field].as_str().unwrap_or_else(|| panic!("no {field} in {object:#}"))
}

pub(crate) fn id(object: &Value) -> String {
    text(object, "id").to_owned()
}

/// Waits for something to become true, for ten seconds at most.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Receives webhooks, and refuses the first few.
#[derive(Default)]
pub(crate) struct Receiver {
    refuse: AtomicUsize,
    pub(crate) tries: AtomicUsize,
    /// Bodies and signatures that were answered with 200.
    pub(crate) received: Mutex<Vec<(Bytes, String)>>,
}

impl Receiver {
    pub(crate) async fn start(refuse: usize) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let receiver = Arc::new(Self { refuse: refuse.into(), ..Self::default() });
        let router = Router::new().fallback(receive).with_state(Arc::clone(&receiver));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, format!("http://{address}/hook"))
    }

    pub(crate) fn types(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let parse = |(body, _): &(Bytes, String)| serde_json::from_slice::<Value>(body).unwrap();
        received.iter().map(parse).map(|event| text(&event, "type").to_owned()).collect()
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if receiver.tries.fetch_add(1, Ordering::SeqCst) < receiver.refuse.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
    receiver.received.lock().unwrap().push((body, signature));
    StatusCode::OK
}

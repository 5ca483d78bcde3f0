//! One server as the binary makes it, on a database and a local cloud in a folder of its own: no flow runs,
//! no instance is launched. The till is the simulated Stripe on a real socket.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use stackpro_cloud::local::stripe::{Settings as StripeSettings, Stripe, WebhookFaults};
use stackpro_cloud::local::{LocalCloud, LocalSettings};
use stackpro_domain::plan::{DEFAULT_PLANS, Plans};
use stackpro_domain::prices::{DEFAULT_PRICES, Prices};
use stackpro_domain::{Clock, Time};
use stackpro_server::agents::Agents;
use stackpro_server::auth::password::Passwords;
use stackpro_server::ids::Ids;
use stackpro_server::prober::Prober;
use stackpro_server::recipes::Recipes;
use stackpro_server::secrets::Secrets;
use stackpro_server::till::{Till, TillConfig};
use stackpro_server::world::{LastAccount, Rates, Settings, TimeMachine, Wakes, World};
use stackpro_store::{Options, Store};
use stackpro_testkit::eventually;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) struct Server {
    pub world: Arc<World>,
    pub cloud: LocalCloud,
    node: Node,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

/// One of the processes that serve the same database.
pub(crate) struct Node(Router);

impl Deref for Server {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn location(&self) -> &str {
        self.headers.get("location").map_or("", |value| value.to_str().unwrap())
    }
}

struct Machine(Arc<stackpro_cloud::local::LocalClock>, Stripe);

impl TimeMachine for Machine {
    fn now(&self) -> Time {
        self.0.now()
    }
    fn offset(&self) -> i64 {
        self.0.offset()
    }
    fn next_due(&self) -> Option<Time> {
        self.1.next_due(self.0.now())
    }
    fn advance(&self, ms: i64) -> Result<Time, String> {
        self.0.advance(ms).map_err(|error| error.to_string())
    }
}

impl Server {
    /// From now on, for as long as the answer is kept, the till takes calls and answers none.
    pub(crate) async fn silence_the_till(&self) -> tokio::net::TcpListener {
        self.shutdown.cancel();
        let at = self.world.till.page_origins()[0].trim_start_matches("http://").to_owned();
        eventually("the till has stopped", Duration::from_secs(30), async || {
            tokio::net::TcpListener::bind(&at).await.ok()
        })
        .await
    }

    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::in_cloud(|_| {}, change).await
    }

    /// With a plan file of the operator's.
    pub(crate) async fn selling(plans: &str) -> Self {
        Self::made(plans, |_| {}, |_| {}).await
    }

    pub(crate) async fn in_cloud(
        change_cloud: impl FnOnce(&mut LocalSettings),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::made(DEFAULT_PLANS, change_cloud, change).await
    }

    async fn made(
        plans: &str,
        change_cloud: impl FnOnce(&mut LocalSettings),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let mut local = LocalSettings::new(folder.path().join("cloud"), "/nonexistent/stackpro");
        change_cloud(&mut local);
        let cloud = LocalCloud::open(local).unwrap();
        let clock = cloud.clock();
        let secrets = Secrets::new([9; 32]);
        let shutdown = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let stripe_settings = StripeSettings {
            api_key: secrets.till_api_key(),
            publishable_name: "StackPro".into(),
            base_url: base_url.clone(),
            webhook_endpoints: Vec::new(),
            faults: WebhookFaults::default(),
        };
        let stripe = Stripe::open(&folder.path().join("stripe"), stripe_settings, clock.clone()).unwrap();
        let (stop, machine) = (shutdown.clone(), Machine(clock.clone(), stripe.clone()));
        tokio::spawn(async move { stripe.run(listener, stop).await });
        let url = format!("sqlite:{}", folder.path().join("stackpro.db").display());
        let store = Store::open(&url, Options::new(clock.clone())).await.unwrap();
        let mut settings = settings();
        change(&mut settings);
        let till = TillConfig {
            base_url,
            secret_key: secrets.till_api_key().into(),
            webhook_secrets: vec![secrets.till_webhook_secret().into(), "whsec_next".to_owned().into()],
        };
        let world = Arc::new(World {
            store,
            cloud: cloud.cloud(),
            agents: Agents::new(secrets.clone()).unwrap(),
            till: Till::new(till).unwrap(),
            prober: Prober::new(std::net::SocketAddr::from(([127, 0, 0, 1], 9))).unwrap(),
            ids: Ids::random(),
            clock: clock.clone(),
            recipes: Recipes::read(None, &["site".into(), "wordpress".into()]).unwrap(),
            plans: Plans::parse(plans).unwrap(),
            prices: Prices::parse(DEFAULT_PRICES).unwrap(),
            passwords: Passwords::start(settings.hash_queue).unwrap(),
            settings,
            secrets,
            events: tokio::sync::watch::Sender::new(0),
            runner: OnceLock::new(),
            wakes: Wakes::default(),
            drift: stackpro_server::drift::LastDrift::default(),
            launch_checked: OnceLock::new(),
            mail_account: LastAccount::default(),
            time_machine: Some(Arc::new(machine)),
            mailbox: None,
        });
        let hooked = Arc::downgrade(&world);
        world.store.on_commit(move |committed| {
            if let Some(world) = hooked.upgrade() {
                world.committed(committed);
            }
        });
        let node = Node(stackpro_server::router(world.clone()));
        Self { world, cloud, node, shutdown, _folder: folder }
    }

    pub(crate) fn another_node(&self) -> Node {
        Node(stackpro_server::router(self.world.clone()))
    }

    /// Lets the cloud tell what became of the mails that were sent, over a real socket, until all is heard.
    pub(crate) async fn hear_of_mails(&self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.cloud.set_server_url(&format!("http://{}", listener.local_addr().unwrap()));
        let service = self.node.0.clone().into_make_service_with_connect_info::<std::net::SocketAddr>();
        let (stop, cloud) = (CancellationToken::new(), self.cloud.clone());
        let serving = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
        let told = async {
            let outbox = self.cloud.folder().join("mail-events");
            until("all was heard", async || std::fs::read_dir(&outbox).unwrap().next().is_none()).await;
            stop.cancel();
        };
        let (served, (), ()) = tokio::join!(serving.into_future(), cloud.tell_mail_events(stop.clone()), told);
        served.unwrap();
    }

    /// Signs `company` up; the answer's JSON has `clientId` and `token`.
    pub(crate) async fn sign_up(&self, company: &str) -> Value {
        let answer = self.post("/api/auth/signup", "", &signup(company)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        answer.json()
    }
}

impl Node {
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.0.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(request(Method::GET, path, token).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let request = request(Method::POST, path, token).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

/// Looks again and again; panics after 20 seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "waited in vain until {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn request(method: Method, path: &str, token: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    if token.is_empty() { request } else { request.header("authorization", format!("Bearer {token}")) }
}

pub(crate) fn signup(company: &str) -> Value {
    let name: String = company.chars().filter(char::is_ascii_alphanumeric).collect();
    json!({
        "email": format!("owner@{}.example", name.to_lowercase()), "password": PASSWORD, "firstName": "Ann",
        "lastName": "Other", "company": company, "plan": "starter",
    })
}

pub(crate) const PASSWORD: &str = "plum-violin-orbit";

fn settings() -> Settings {
    Settings {
        name: "StackPro".into(),
        public_url: "http://127.0.0.1:8080".into(),
        client_domain: "stackpro.localhost".into(),
        mail_from: "StackPro <hello@stackpro.localhost>".into(),
        support_email: "help@stackpro.localhost".into(),
        time_zone: stackpro_domain::zone::Zone::default(),
        warm_places: 0,
        dns_ttl_seconds: 60,
        acme: None,
        trusted_proxies: Vec::new(),
        cors_origins: vec!["https://site.example".into()],
        hash_queue: 64,
        rates: Rates::default(),
        admission: stackpro_domain::admission::Rules::default(),
        signup_networks: (24, 56),
        patience: stackpro_server::world::PATIENCE,
    }
}

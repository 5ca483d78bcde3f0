//! One product on one account of AWS, with a Stripe beside it; and whether the account holds what the ledger
//! says, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use stackpro_cloud::local::stripe::{Settings, Stripe, WebhookEndpoint, WebhookFaults};
use stackpro_domain::{Clock, Time};
use stackpro_store::{Options, Resource, ResourceKind, Store};
use stackpro_testkit::aws::{Behaviour, Emulator, Inventory, Moto, Recorded, ZONE};
use stackpro_testkit::{Builder, TestApp, eventually};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_stackpro");
/// For a server that was killed: its leases run out after 15 s.
pub(crate) const WITHIN: Duration = Duration::from_mins(3);

/// Of the mailer's, after it has prepared the sender of our own mails.
const ASKED_AFTER: &str = "ses.GetAccount";
/// The mailer tries again after 10 s, and waits for an answer until then.
const NEXT_ATTEMPT: Duration = Duration::from_secs(15);

const API_KEY: &str = "sk_test_of_the_account";
const WEBHOOK_SECRET: &str = "whsec_of_the_account";

/// Ends everything that it began.
pub(crate) struct Site {
    pub(crate) app: TestApp,
    pub(crate) account: Emulator,
    stop: CancellationToken,
    _stripe: tempfile::TempDir,
}

struct Machine;

impl Clock for Machine {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_millisecond())
    }
}

impl Site {
    /// Waits until the client's stack is ready on this kind of instance.
    pub(crate) async fn is_on(&self, client: &str, kind: &str) {
        eventually(&format!("{client} is ready on a {kind} instance"), WITHIN, async || {
            let shown = self.app.command_json(&["clients", "show", client, "--json"]);
            let is =
                |value: &serde_json::Value, word: &str| value.as_str().is_some_and(|v| v.eq_ignore_ascii_case(word));
            (is(&shown["stack"], "ready") && is(&shown["instance"]["kind"], kind)).then_some(())
        })
        .await;
    }

    pub(crate) async fn open(moto: &Arc<Moto>, behaviour: Behaviour, change: impl FnOnce(Builder) -> Builder) -> Self {
        let account = Emulator::start(moto, BINARY, behaviour).await;
        let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let listener = TcpListener::bind(account.beside(8081)).await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let settings = Settings {
            api_key: API_KEY.into(),
            publishable_name: "StackPro".into(),
            base_url: base_url.clone(),
            webhook_endpoints: vec![WebhookEndpoint {
                url: format!("http://{}/api/stripe-webhook", account.beside(80)),
                secret: WEBHOOK_SECRET.into(),
            }],
            faults: WebhookFaults::default(),
        };
        let stripe = Stripe::open(folder.path(), settings, Arc::new(Machine)).unwrap();
        let stopped = stop.clone();
        tokio::spawn(async move { stripe.run(listener, stopped).await });
        let product = TestApp::with(BINARY)
            .on_aws(&account)
            .env("STRIPE_API_BASE", base_url)
            .env("STRIPE_SECRET_KEY", API_KEY)
            .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET);
        let app = change(product).start().await;
        Self { app, account, stop, _stripe: folder }
    }

    /// Waits until what our own mails need is there, and the mailer is not at it any more.
    pub(crate) async fn is_prepared(&self) {
        eventually("the sender of our own mails is ready", WITHIN, async || {
            let calls = self.account.calls();
            // It begins with the one, and asks the other after each attempt, of which there is a next one if it failed.
            let last =
                calls.iter().rfind(|made| ["sns.CreateTopic", ASKED_AFTER].contains(&made.call.name.as_str()))?;
            let over = calls.iter().all(went_well) || last.began.elapsed() > NEXT_ATTEMPT;
            if last.call.name != ASKED_AFTER || !over {
                return None;
            }
            let held = self.account.inventory().await;
            let keys = held.records.iter().filter(|record| record.ends_with(&format!("_domainkey.{ZONE}"))).count();
            let is_all = (held.topics.len(), held.zones.len(), held.configuration_sets.len(), keys) == (1, 1, 1, 3);
            (is_all && held.identities.iter().any(|domain| domain == ZONE)).then_some(())
        })
        .await;
    }

    /// What the server keeps.
    pub(crate) async fn store(&self) -> Store {
        let url = format!("sqlite:{}", self.app.data().join("stackpro.db").display());
        Store::open(&url, Options::new(Arc::new(Machine))).await.unwrap()
    }

    /// Rows of the ledger that stand for something that exists.
    pub(crate) async fn ledger(&self) -> Vec<Resource> {
        let store = self.store().await;
        let rows = store.live_resources(None, 10_000).await.unwrap();
        store.close().await;
        rows
    }

    /// The account holds what the ledger says, nothing else, and nothing twice. Waits until it is so, since a
    /// sweeper may have something to put right.
    pub(crate) async fn tally(&self) -> Inventory {
        let mut wrong = Vec::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let inventory = self.account.inventory().await;
            let found = differences(&self.ledger().await, &inventory);
            if found.is_empty() {
                return inventory;
            }
            // Told by what stays, not by what passes.
            if std::time::Instant::now() > deadline {
                wrong.extend(found);
                break;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("the account is not as the ledger says: {wrong:#?}\n{}", self.app.log_tail());
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether a call did what it should, or found that something is there, or that nothing is.
fn went_well(made: &Recorded) -> bool {
    let told =
        made.code.as_deref().is_some_and(|code| code.ends_with("NotFoundException") || code.contains("AlreadyExists"));
    made.took < NEXT_ATTEMPT / 5 && (told || made.status.is_some_and(|status| status < 400))
}

/// Where the ledger's live rows and the account differ, for people.
fn differences(ledger: &[Resource], account: &Inventory) -> Vec<String> {
    let mut wrong: Vec<String> = account.doubled().into_iter().map(|name| format!("{name} exists twice")).collect();
    let mut compare = |kind: ResourceKind, exist: Vec<String>, said: &dyn Fn(&Resource) -> String| {
        let rows: Vec<String> = ledger.iter().filter(|row| row.kind == kind).map(said).collect();
        let ownerless = exist.iter().filter(|name| !rows.contains(name)).map(|name| format!("{name} has no row"));
        let missing = rows.iter().filter(|name| !exist.contains(name)).map(|name| format!("{name} does not exist"));
        wrong.extend(ownerless.chain(missing).map(|text| format!("{}: {text}", kind.as_str())));
    };
    let name = |row: &Resource| row.name.clone();
    compare(ResourceKind::Bucket, account.buckets.clone(), &name);
    compare(ResourceKind::Instance, account.instance_of.values().cloned().collect(), &|row| row.id.to_string());
    let addresses = account.records.iter().filter_map(|record| record.strip_prefix("A ")).map(str::to_owned);
    compare(ResourceKind::Record, addresses.collect(), &name);
    // The sender of our own mails is the installation's, and no client's.
    let identities = account.identities.iter().filter(|domain| *domain != ZONE).cloned();
    compare(ResourceKind::MailIdentity, identities.collect(), &name);
    compare(ResourceKind::Role, account.roles.clone(), &name);
    compare(ResourceKind::Role, account.profiles.clone(), &name);
    wrong
}

//! What a round of the lifecycle reconciler takes that finds a hundred clients due, of 10,000 and of 1,000,000, on
//! SQLite and on PostgreSQL: it reads the due ones alone, so its time does not grow with all. The rounds of the two
//! sizes alternate, so that what else the machine does hits both.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stackpro_cloud::local::{LocalCloud, LocalSettings};
use stackpro_domain::lifecycle::{Life, State};
use stackpro_domain::plan::{DEFAULT_PLANS, Plans, Trial};
use stackpro_domain::prices::{DEFAULT_PRICES, Prices};
use stackpro_domain::time::MINUTE;
use stackpro_domain::zone::Zone;
use stackpro_domain::{ClientId, Clock, Time};
use stackpro_server::agents::Agents;
use stackpro_server::auth::password::Passwords;
use stackpro_server::ids::Ids;
use stackpro_server::prober::Prober;
use stackpro_server::recipes::Recipes;
use stackpro_server::reconcilers::lifecycle;
use stackpro_server::secrets::Secrets;
use stackpro_server::till::{Till, TillConfig};
use stackpro_server::world::{LastAccount, PATIENCE, Rates, Settings, Wakes, World};
use stackpro_store::{Client, Options, StackPhase, Store};

use crate::footprint::owner;
use crate::{line, percentile, quick, rounded};

const DUE: u64 = 100;
/// The first of each size warms what later ones find, and is not counted.
const ROUNDS: u64 = 11;
/// How much longer the large one may take, beyond which it grows.
const MOST: f64 = 1.5;
/// Clients that one transaction inserts.
const CHUNK: usize = 500;
/// Noon in UTC: mails about dates wait for the day.
const NOON: Time = Time(1_795_608_000_000);

pub(crate) async fn measure() -> Value {
    drop(rustls::crypto::ring::default_provider().install_default());
    let sizes = if quick() { [2_000, 20_000] } else { [10_000, 1_000_000] };
    let (mut pass, mut figures) = (true, json!({"due": DUE, "clients": sizes, "rounds": ROUNDS - 1}));
    for database in ["sqlite", "postgres"] {
        let folder = tempfile::tempdir().expect("a folder");
        let small = Business::open(database, &folder.path().join("small"), sizes[0]).await;
        let large = Business::open(database, &folder.path().join("large"), sizes[1]).await;
        let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            of_small.push(small.round(round).await);
            of_large.push(large.round(round).await);
        }
        small.check().await;
        large.check().await;
        let median = |times: &[Duration]| percentile(&times[1..], 0.5).as_secs_f64() * 1_000.0;
        let (of_small, of_large) = (median(&of_small), median(&of_large));
        let ratio = of_large / of_small;
        pass &= ratio <= MOST;
        figures[database] =
            json!({"smallMs": rounded(of_small), "largeMs": rounded(of_large), "ratio": rounded(ratio)});
    }
    line("lifecycle", pass, figures)
}

struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::SeqCst))
    }
}

struct Business {
    world: World,
    clock: Arc<Hand>,
}

impl Business {
    /// With so many clients, of whom a hundred are due in each round and the rest later than all rounds.
    async fn open(database: &str, folder: &Path, clients: u64) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let clock = Arc::new(Hand(AtomicI64::new(NOON.ms())));
        let url = match database {
            "sqlite" => format!("sqlite:{}", folder.join("stackpro.db").display()),
            _ => stackpro_testkit::postgres::database().await,
        };
        let options = Options::new(Arc::clone(&clock) as Arc<dyn Clock>);
        // While they are put in nobody waits for the disk.
        let hasty = Store::open(&url, Options { throwaway: true, ..options.clone() }).await.expect("a database");
        let plans = Plans::parse(DEFAULT_PLANS).expect("plans");
        let all: Vec<u64> = (0..clients).collect();
        for chunk in all.chunks(CHUNK) {
            let rows: Vec<Client> = chunk.iter().map(|number| client(&plans.trial, *number)).collect();
            let mut tx = hasty.begin().await.expect("a transaction");
            tx.insert_clients(&rows).await.expect("clients");
            for (number, row) in chunk.iter().zip(&rows).filter(|(number, _)| **number < DUE * ROUNDS) {
                tx.insert_member(&owner(&row.id, *number, NOON)).await.expect("an owner");
            }
            tx.commit().await.expect("a commit");
        }
        hasty.close().await;
        let store = Store::open(&url, options).await.expect("a database");
        Self { world: world(folder, Arc::clone(&clock), store), clock }
    }

    /// How long the round takes in which a hundred are due.
    async fn round(&self, round: u64) -> Duration {
        let now = due_at(round);
        self.clock.0.store(now.ms(), Ordering::SeqCst);
        let due = self.world.store.due_clients(now, 1_000).await.expect("who is due");
        assert_eq!(due.len() as u64, DUE, "round {round}");
        let began = Instant::now();
        lifecycle::round(&self.world).await.expect("a round");
        let took = began.elapsed();
        let left = self.world.store.due_clients(now, 1).await.expect("who is due");
        assert!(left.is_empty(), "everything due is done");
        took
    }

    /// Everybody moved who was due, and nobody else.
    async fn check(&self) {
        let counts = self.world.store.counts_by_state().await.expect("counts");
        let grace = counts.iter().find(|(state, _)| *state == State::Grace).map(|(_, count)| *count);
        assert_eq!(grace, Some(DUE * ROUNDS), "{counts:?}");
    }
}

fn due_at(round: u64) -> Time {
    NOON.plus((round as i64 + 1) * MINUTE)
}

fn client(trial: &Trial, number: u64) -> Client {
    let id: ClientId = format!("measured-{number}").parse().expect("an id");
    let round = number / DUE;
    let life = if round < ROUNDS {
        let life = Life::begin(trial, due_at(round).plus_days(-trial.days));
        // Every reminder before the end was sent.
        Life { reminded_until: life.trial_ends_at.plus(-1), ..life }
    } else {
        Life::begin(trial, NOON.plus(-(number as i64 % 5_000) * MINUTE))
    };
    Client {
        host: format!("{id}.stackpro.localhost"),
        id,
        company: "Measured Company".into(),
        plan: "starter".into(),
        interval: None,
        life,
        stack: StackPhase::Ready,
        hosting: None,
        customer_id: None,
        price: None,
        subscription_id: None,
        certificate: None,
        portal_rotation: 0,
        recipe: "site".into(),
        created_at: NOON,
    }
}

/// As the binary makes one, except that nothing of it runs but what is measured.
fn world(folder: &Path, clock: Arc<Hand>, store: Store) -> World {
    let cloud = LocalCloud::open(LocalSettings::new(folder.join("cloud"), env!("CARGO_BIN_EXE_stackpro")));
    let secrets = Secrets::new([7; 32]);
    let till = TillConfig {
        base_url: "http://127.0.0.1:9".into(),
        secret_key: secrets.till_api_key().into(),
        webhook_secrets: Vec::new(),
    };
    World {
        store,
        cloud: cloud.expect("a cloud").cloud(),
        agents: Agents::new(secrets.clone()).expect("a client for agents"),
        till: Till::new(till).expect("a till"),
        prober: Prober::new(std::net::SocketAddr::from(([127, 0, 0, 1], 9))).expect("a prober"),
        ids: Ids::random(),
        clock,
        recipes: Recipes::read(None, &["site".into()]).expect("recipes"),
        plans: Plans::parse(DEFAULT_PLANS).expect("plans"),
        prices: Prices::parse(DEFAULT_PRICES).expect("prices"),
        passwords: Passwords::start(1).expect("a thread"),
        settings: settings(),
        secrets,
        events: tokio::sync::watch::Sender::new(0),
        runner: OnceLock::new(),
        wakes: Wakes::default(),
        drift: stackpro_server::drift::LastDrift::default(),
        launch_checked: OnceLock::new(),
        mail_account: LastAccount::default(),
        time_machine: None,
        mailbox: None,
    }
}

fn settings() -> Settings {
    Settings {
        name: "StackPro".into(),
        public_url: "http://127.0.0.1:8080".into(),
        client_domain: "stackpro.localhost".into(),
        mail_from: "StackPro <hello@stackpro.localhost>".into(),
        support_email: "help@stackpro.localhost".into(),
        time_zone: Zone::default(),
        warm_places: 0,
        dns_ttl_seconds: 60,
        acme: None,
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        hash_queue: 1,
        rates: Rates::default(),
        admission: stackpro_domain::admission::Rules::default(),
        signup_networks: (24, 56),
        patience: PATIENCE,
    }
}

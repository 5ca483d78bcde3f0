//! What a process is made of: from the configuration to a [`World`], for every command alike.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;

use secrecy::ExposeSecret;
use stackpro_cloud::Cloud;
use stackpro_domain::admission::Rules;
use stackpro_domain::plan::{DEFAULT_PLANS, Plans};
use stackpro_domain::prices::{DEFAULT_PRICES, Prices};
use stackpro_domain::zone::Zone;
use stackpro_domain::{Clock, Time, names};
use stackpro_server::agents::Agents;
use stackpro_server::auth::password::Passwords;
use stackpro_server::ids::Ids;
use stackpro_server::prober::Prober;
use stackpro_server::recipes::Recipes;
use stackpro_server::secrets::Secrets;
use stackpro_server::till::{Till, TillConfig};
use stackpro_server::world::{Acme, LastAccount, Rate, Rates, Settings, Wakes, World};
use stackpro_store::Store;
use stackpro_tls::Roots;
use stackpro_tls::acme::Directory;
use tokio::net::TcpListener;

use crate::config::{CloudName, Config, REAL_STRIPE};
use crate::local::Local;
use crate::{aws, served};

/// Anything that keeps a command from doing its work; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fatal(pub String);

impl Fatal {
    pub(crate) fn new(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {cause}"))
    }
}

pub(crate) type Result<T> = std::result::Result<T, Fatal>;

/// A process's parts.
pub(crate) struct App {
    pub config: Config,
    /// What everything acts through.
    pub world: Arc<World>,
    /// What only the local cloud has; none on any other.
    pub local: Option<Local>,
}

/// Where this process is reached, known once it listens; the configured address otherwise.
pub(crate) struct Reached {
    pub listen: SocketAddr,
    /// Base address of Stripe's API, simulated or not.
    pub stripe: String,
}

impl App {
    /// For a command that works beside a server: at the addresses that it last said.
    pub(crate) async fn beside(config: Config) -> Result<Self> {
        let stripe = config.real_stripe().unwrap_or_else(|| served::stripe_base(&config));
        let listen = served::last_address(&config).unwrap_or(config.listen);
        Self::open(config, &Reached { listen, stripe }).await
    }

    pub(crate) async fn open(config: Config, reached: &Reached) -> Result<Self> {
        let roots = roots(&config)?;
        let settings = settings(&config, reached.listen, &roots)?;
        let Ground { cloud, clock, local, prober } = ground(&config, &settings, reached.listen, &roots).await?;
        let store = Store::open(&config.database_url(), stackpro_store::Options::new(Arc::clone(&clock))).await;
        let store = store.map_err(|e| Fatal::new("opening the database", e))?;
        let secrets = Secrets::new(master_key(&config)?);
        let world = World {
            agents: Agents::new(secrets.clone()).map_err(|e| Fatal::new("preparing to call agents", e))?,
            till: till(&config, reached, &secrets)?,
            prober,
            ids: Ids::random(),
            clock,
            plans: read(config.plans.as_deref(), DEFAULT_PLANS, Plans::parse)?,
            prices: read(config.prices.as_deref(), DEFAULT_PRICES, Prices::parse)?,
            recipes: Recipes::read(config.recipes_folder.as_deref(), &config.recipes)
                .map_err(|e| Fatal::new("reading the recipes", e))?,
            passwords: Passwords::start(config.hash_queue)
                .map_err(|e| Fatal::new("starting the hashing threads", e))?,
            events: tokio::sync::watch::Sender::new(0),
            runner: OnceLock::new(),
            wakes: Wakes::default(),
            drift: stackpro_server::drift::LastDrift::default(),
            launch_checked: OnceLock::new(),
            mail_account: LastAccount::default(),
            time_machine: local.as_ref().map(Local::time_machine),
            mailbox: local.as_ref().map(Local::mailbox),
            cloud,
            store,
            settings,
            secrets,
        };
        Ok(Self { config, world: Arc::new(world), local })
    }
}

/// What a process stands on.
struct Ground {
    cloud: Cloud,
    clock: Arc<dyn Clock>,
    local: Option<Local>,
    prober: Prober,
}

async fn ground(config: &Config, settings: &Settings, listen: SocketAddr, roots: &Roots) -> Result<Ground> {
    let own = names::mail_domain(&settings.mail_from)
        .ok_or_else(|| Fatal(format!("STACKPRO_MAIL_FROM is not a mail address: {}", settings.mail_from)))?;
    match config.cloud {
        CloudName::Local => {
            if config.instance_tls.is_some() && !(config.acme && settings.is_https()) {
                let needs = "STACKPRO_INSTANCE_TLS needs STACKPRO_ACME=true and an https STACKPRO_PUBLIC_URL";
                return Err(Fatal(format!("{needs}: without a certificate no client's site could be looked at")));
            }
            // The operator's own senders; a client's name has an identity of its own.
            let local = Local::open(config, listen, vec![own, config.client_domain.clone()])?;
            let (cloud, clock) = (local.cloud.cloud(), Arc::clone(&local.clock) as Arc<dyn Clock>);
            let prober = prober(settings, &local, listen, roots)?;
            Ok(Ground { cloud, clock, local: Some(local), prober })
        }
        CloudName::Aws => {
            let cloud = aws::open(config, settings).await?;
            let prober = Prober::world(settings.is_https(), roots, config.resolver);
            let prober = prober.map_err(|e| Fatal::new("preparing to probe", e))?;
            Ok(Ground { cloud, clock: Arc::new(MachineClock), local: None, prober })
        }
    }
}

/// The machine's own time.
struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_millisecond())
    }
}

/// As a visitor comes: by https, and where the local cloud's instances have TLS, straight to them.
fn prober(settings: &Settings, local: &Local, listen: SocketAddr, roots: &Roots) -> Result<Prober> {
    let prober = match local.lookup_of_tls_doors() {
        Some(lookup) if settings.is_https() => Prober::https(roots, lookup),
        _ => Prober::new(listen),
    };
    prober.map_err(|e| Fatal::new("preparing to probe", e))
}

fn roots(config: &Config) -> Result<Roots> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).map_err(|e| Fatal::new(&format!("reading {}", file.display()), e))
    };
    let roots = Roots { more: config.trusted_roots.as_ref().map(read).transpose()? };
    roots.client_config().map_err(|e| Fatal::new("reading the setting trusted_roots", e))?;
    Ok(roots)
}

fn acme(config: &Config, roots: &Roots) -> Option<Acme> {
    let contact = config.acme_contact.as_ref().map(|address| format!("mailto:{address}"));
    let directory = Directory { url: config.acme_directory.clone(), contact, roots: roots.clone() };
    config.acme.then(|| Acme::new(directory, i64::from(config.acme_retry_seconds) * 1000))
}

fn settings(config: &Config, listen: SocketAddr, roots: &Roots) -> Result<Settings> {
    let domain = &config.client_domain;
    let rates = Rates {
        signup_address: Rate { limit: config.signups_per_address_per_hour, ..Rates::default().signup_address },
        signup_network: Rate { limit: config.signups_per_network_per_day, ..Rates::default().signup_network },
        ..Rates::default()
    };
    let time_zone = Zone::parse(&config.time_zone).ok_or_else(|| {
        let advice = "take a name such as Europe/Berlin; the system's package tzdata brings them";
        Fatal(format!("STACKPRO_TIME_ZONE is no time zone that this system knows: {}; {advice}", config.time_zone))
    })?;
    Ok(Settings {
        name: config.name.clone(),
        public_url: config.public_url.clone().unwrap_or_else(|| format!("http://{listen}")),
        client_domain: domain.clone(),
        mail_from: config.mail_from.clone().unwrap_or_else(|| format!("{} <hello@{domain}>", config.name)),
        support_email: config.support_email.clone().unwrap_or_else(|| format!("help@{domain}")),
        time_zone,
        dns_ttl_seconds: config.dns_ttl_seconds,
        warm_places: config.warm_places,
        acme: acme(config, roots),
        trusted_proxies: config.trusted_proxies.clone(),
        cors_origins: config.cors_origins.clone(),
        hash_queue: config.hash_queue,
        rates,
        admission: read(config.signup_rules.as_deref(), "", Rules::parse)?,
        signup_networks: signup_networks(config)?,
        patience: stackpro_server::world::PATIENCE,
    })
}

pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        Fatal(format!("cannot listen on {address}: {e}. Is StackPro running already? --listen takes another address"))
    })
}

/// At least a network of a provider's customer each, at most a single address, or what an IPv6 household has.
fn signup_networks(config: &Config) -> Result<(u8, u8)> {
    let (v4, v6) = (config.signup_network_ipv4, config.signup_network_ipv6);
    if (8..=32).contains(&v4) && (32..=64).contains(&v6) {
        return Ok((v4, v6));
    }
    let advice = "the first must be from 8 to 32, the second from 32 to 64";
    Err(Fatal(format!("STACKPRO_SIGNUP_NETWORK_IPV4 is {v4} and STACKPRO_SIGNUP_NETWORK_IPV6 is {v6}: {advice}")))
}

/// A file that the operator may replace: theirs, or the built-in one.
fn read<T, E: std::fmt::Display>(
    file: Option<&Path>,
    built_in: &str,
    parse: fn(&str) -> std::result::Result<T, E>,
) -> Result<T> {
    let Some(file) = file else { return parse(built_in).map_err(|e| Fatal(e.to_string())) };
    let doing = format!("reading {}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| Fatal::new(&doing, e))?;
    parse(&text).map_err(|e| Fatal::new(&doing, e))
}

/// The master key: given, or made once and kept in the data folder, readable by its owner alone.
fn master_key(config: &Config) -> Result<[u8; 32]> {
    let file = config.data.join("secret.key");
    let hex = match &config.secret_key {
        Some(key) => key.expose_secret().to_owned(),
        None => kept_key(&file).map_err(|e| Fatal::new(&format!("keeping the key in {}", file.display()), e))?,
    };
    let hex = hex.trim();
    let bytes: Option<Vec<u8>> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        Fatal("the secret key must be 64 hex digits (32 bytes), e.g. from `openssl rand -hex 32`".into())
    })
}

fn kept_key(file: &Path) -> io::Result<String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let fresh = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file.with_extension("new"));
    if !file.exists() {
        // Of several processes that start at once only one makes the key; linking makes it appear whole.
        if let Ok(mut fresh) = fresh {
            let key: [u8; 32] = rand::random();
            for byte in key {
                write!(fresh, "{byte:02x}")?;
            }
            fresh.sync_all()?;
            let _ = std::fs::hard_link(file.with_extension("new"), file);
        }
    }
    let _ = std::fs::remove_file(file.with_extension("new"));
    std::fs::read_to_string(file)
}

fn till(config: &Config, reached: &Reached, secrets: &Secrets) -> Result<Till> {
    let webhook_secrets = match &config.stripe_webhook_secret {
        Some(text) => text.expose_secret().split(',').map(|secret| secret.trim().to_owned()).collect(),
        None => vec![secrets.till_webhook_secret()],
    };
    let secret_key = match &config.stripe_secret_key {
        Some(key) => key.expose_secret().to_owned(),
        None if reached.stripe == REAL_STRIPE => {
            let what = "STRIPE_SECRET_KEY is not set, and payments go to Stripe itself on this cloud";
            return Err(Fatal(format!("{what}: make a restricted key in Stripe's dashboard")));
        }
        None => secrets.till_api_key(),
    };
    let till = TillConfig {
        base_url: reached.stripe.clone(),
        secret_key: secret_key.into(),
        webhook_secrets: webhook_secrets.into_iter().map(Into::into).collect(),
    };
    Till::new(till).map_err(|e| Fatal::new("preparing the till", e))
}

//! What everything in the server acts with: the store, the cloud, the till, the clock and the settings.
//! Plain values; there is one [`World`] a process, shared as `Arc<World>` by handlers, flows and reconcilers.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use stackpro_cloud::{Cloud, MailAccount, Message};
use stackpro_domain::admission;
use stackpro_domain::plan::Plans;
use stackpro_domain::prices::Prices;
use stackpro_domain::time::{DAY, HOUR, MINUTE};
use stackpro_domain::zone::Zone;
use stackpro_domain::{ClientId, Clock, Time};
use stackpro_store::{Committed, Store};
use stackpro_tls::acme::Directory;
use tokio::sync::{Notify, watch};

use crate::agents::Agents;
use crate::auth::password::Passwords;
use crate::drift::LastDrift;
use crate::ids::Ids;
use crate::prober::Prober;
use crate::recipes::Recipes;
use crate::secrets::Secrets;
use crate::till::Till;

pub struct World {
    pub store: Store,
    pub cloud: Cloud,
    pub agents: Agents,
    pub till: Till,
    pub prober: Prober,
    pub ids: Ids,
    /// The business's clock, which the time machine moves.
    pub clock: Arc<dyn Clock>,
    pub plans: Plans,
    pub prices: Prices,
    pub recipes: Recipes,
    pub settings: Settings,
    pub secrets: Secrets,
    pub passwords: Passwords,
    /// Changes with every commit: whoever follows something live looks again.
    pub events: watch::Sender<u64>,
    /// Whether the flow runner is alive. Set once, by whoever starts it.
    pub runner: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
    pub wakes: Wakes,
    /// What the sweeper saw last.
    pub drift: LastDrift,
    /// Set once it is known that this cloud can launch instances.
    pub launch_checked: OnceLock<()>,
    /// What the cloud said last about sending mail.
    pub mail_account: LastAccount,
    pub time_machine: Option<Arc<dyn TimeMachine>>,
    pub mailbox: Option<Arc<dyn Mailbox>>,
}

/// None as long as this process has not asked.
#[derive(Default)]
pub struct LastAccount(Mutex<Option<MailAccount>>);

impl LastAccount {
    pub fn of(account: MailAccount) -> Self {
        Self(Mutex::new(Some(account)))
    }

    pub fn get(&self) -> Option<MailAccount> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set(&self, account: MailAccount) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(account);
    }
}

/// Wakes reconcilers: it may be worth looking now. A hint that is lost costs the time until they look anyway.
#[derive(Default)]
pub struct Wakes {
    pub lifecycle: Notify,
    pub fleet: Notify,
    pub sweeper: Notify,
    pub mailer: Notify,
    pub till_events: Notify,
    pub attention: Notify,
}

impl World {
    /// To be called after every commit of this process.
    pub fn committed(&self, committed: &Committed) {
        if committed.queued_mail {
            self.wakes.mailer.notify_one();
        }
        if committed.till_event {
            self.wakes.till_events.notify_one();
        }
        if committed.parked {
            self.wakes.attention.notify_one();
        }
        if committed.enqueued_flow {
            self.wakes.fleet.notify_one();
        }
        self.events.send_modify(|count| *count += 1);
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Real time, on which sessions, access tokens and rate limits run: nobody is signed out because the
    /// time machine was used.
    pub fn real_now(&self) -> Time {
        let offset = self.time_machine.as_ref().map_or(0, |machine| machine.offset());
        self.clock.now().plus(-offset)
    }

    /// No runner in this process (a node that only serves) is as good as a live one.
    pub fn runner_alive(&self) -> bool {
        self.runner.get().is_none_or(|alive| alive())
    }
}

/// Moves the business's clock: the local cloud has one, a real cloud has none.
pub trait TimeMachine: Send + Sync {
    fn now(&self) -> Time;
    /// How far the business's clock is ahead of real time, in milliseconds.
    fn offset(&self) -> i64;
    /// When the local cloud itself does something next, such as a renewal; `None` when nothing waits.
    fn next_due(&self) -> Option<Time>;
    /// Moves the clock forward by so many milliseconds, for good. The error is for people.
    fn advance(&self, ms: i64) -> Result<Time, String>;
}

/// The mails that a local cloud has delivered.
#[async_trait]
pub trait Mailbox: Send + Sync {
    /// Newest first.
    async fn list(&self, limit: usize) -> Result<Vec<Delivered>, String>;
    async fn get(&self, key: &str) -> Result<Option<Delivered>, String>;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// By which the mailbox finds it again.
    pub key: String,
    pub at: Time,
    pub message: Message,
}

/// [`Settings::patience`], where someone waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How this installation presents itself and what it allows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `StackPro`, or the operator's own brand.
    pub name: String,
    /// Scheme, host and port by which the world reaches us, without a final slash: `http://127.0.0.1:8080`.
    pub public_url: String,
    /// Clients' names are below it: `stackpro.localhost`.
    pub client_domain: String,
    /// `StackPro <hello@stackpro.localhost>`
    pub mail_from: String,
    pub support_email: String,
    /// Of clients who did not say theirs.
    pub time_zone: Zone,
    /// So many trials find a place at once: shared instances are launched ahead.
    pub warm_places: u32,
    /// How long the world may remember where a client's name leads.
    pub dns_ttl_seconds: u32,
    /// Where certificates for the clients' names come from; none where there are to be none.
    pub acme: Option<Acme>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
    /// Passwords that may wait to be hashed; beyond it the answer is 503.
    pub hash_queue: usize,
    pub rates: Rates,
    /// Whose sign-up is a trial, beside the rules that everybody has.
    pub admission: admission::Rules,
    /// Addresses with so many leading bits in common are one network: of IPv4, and of IPv6.
    pub signup_networks: (u8, u8),
    /// How long one execution of a step waits for what should come soon (an agent's enrolment, a site's
    /// answer) before it counts as failed and is tried again.
    pub patience: Duration,
}

impl Settings {
    /// Cookies are `Secure` and `__Host-`, and HSTS is sent.
    pub fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }

    /// A client's public address, with the scheme and the port of ours.
    pub fn client_url(&self, host: &str) -> String {
        let (scheme, rest) = self.public_url.split_once("://").unwrap_or(("http", &self.public_url));
        match rest.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        }
    }

    pub fn dashboard_url(&self, client: &ClientId) -> String {
        format!("{}{}", self.public_url, dashboard_path(client))
    }
}

/// Certificates of a CA.
#[derive(Clone, Debug)]
pub struct Acme {
    pub directory: Directory,
    /// The pause after a failed order, which doubles with each one, in milliseconds.
    pub retry_ms: i64,
    /// How long a node that works on the certificate may say nothing, in milliseconds.
    pub lease_ms: i64,
}

impl Acme {
    /// Two minutes of lease.
    pub fn new(directory: Directory, retry_ms: i64) -> Self {
        Self { directory, retry_ms, lease_ms: 2 * MINUTE }
    }
}

/// Where a client's pages are, below [`Settings::public_url`].
pub fn dashboard_path(client: &ClientId) -> String {
    format!("/dashboard/{client}")
}

/// At most `limit` in each window of `window_ms` milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub limit: u32,
    pub window_ms: i64,
}

#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub login_account: Rate,
    pub login_address: Rate,
    pub signup_address: Rate,
    pub signup_network: Rate,
    pub contact_address: Rate,
    /// What visitors of one site may write to its owner.
    pub messages_client: Rate,
    /// Mails that a member can cause by a button, per member.
    pub mail_member: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            login_account: Rate { limit: 10, window_ms: 10 * MINUTE },
            login_address: Rate { limit: 100, window_ms: 10 * MINUTE },
            signup_address: Rate { limit: 20, window_ms: HOUR },
            signup_network: Rate { limit: 100, window_ms: DAY },
            contact_address: Rate { limit: 10, window_ms: HOUR },
            messages_client: Rate { limit: 60, window_ms: HOUR },
            mail_member: Rate { limit: 10, window_ms: HOUR },
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn client_addresses_take_scheme_and_port_from_ours() {
        let mut settings = crate::testing::settings();
        settings.public_url = "http://127.0.0.1:8080".into();
        assert_eq!(settings.client_url("a.stackpro.localhost"), "http://a.stackpro.localhost:8080");
        settings.public_url = "https://stackpro.io".into();
        assert_eq!(settings.client_url("a.stackpro.io"), "https://a.stackpro.io");
    }
}

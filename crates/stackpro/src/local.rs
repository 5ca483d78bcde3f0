//! What only the local cloud has, beside what every cloud can do: instances that a server starts again, a
//! name server, an edge that routes by host name, a mailbox, a clock that can be moved, and a simulated
//! Stripe. A real cloud, the world's DNS and Stripe itself do all this without us.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use axum::Router;
use stackpro_cloud::local::stripe::Stripe;
use stackpro_cloud::local::{LocalClock, LocalCloud, LocalSettings};
use stackpro_domain::{Clock, Time};
use stackpro_server::prober::Lookup;
use stackpro_server::world::{Delivered, Mailbox, TimeMachine, World};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{Fatal, Result};
use crate::config::Config;
use crate::edge;
use crate::simulated::SimulatedStripe;

/// The local cloud, as this process has it.
#[derive(Clone)]
pub(crate) struct Local {
    pub(crate) cloud: LocalCloud,
    pub(crate) clock: Arc<LocalClock>,
    /// Where this process, or the server that it works beside, is reached on this machine.
    pub(crate) listen: SocketAddr,
    /// The simulated Stripe, once this process runs it.
    pub(crate) stripe: Arc<OnceLock<Stripe>>,
}

/// Where agents find what runs stacks in containers: the little of our settings that they need.
fn engine(config: &Config) -> Vec<(String, String)> {
    let settings = [("STACKPRO_ENGINE", &config.engine), ("STACKPRO_COMPOSE", &config.compose)];
    let set = |(name, path): (&str, &Option<PathBuf>)| Some((name.to_owned(), path.as_ref()?.display().to_string()));
    settings.into_iter().filter_map(set).collect()
}

impl Local {
    /// `verified_domains` may send mail without an identity of their own.
    pub(crate) fn open(config: &Config, listen: SocketAddr, verified_domains: Vec<String>) -> Result<Self> {
        let program = std::env::current_exe().map_err(|e| Fatal::new("finding this program", e))?;
        let settings = LocalSettings {
            server_url: format!("http://{listen}"),
            zone: config.client_domain.clone(),
            dns_port: config.dns_port,
            verified_domains,
            faults: config.faults.clone(),
            tls: config.instance_tls,
            agent_environment: engine(config),
            ..LocalSettings::new(config.data.join("cloud"), program)
        };
        let cloud = LocalCloud::open(settings).map_err(|e| Fatal(e.to_string()))?;
        Ok(Self { clock: cloud.clock(), cloud, listen, stripe: Arc::new(OnceLock::new()) })
    }

    /// Where a client's name leads, when instances have doors of their own with TLS.
    pub(crate) fn lookup_of_tls_doors(&self) -> Option<Lookup> {
        let cloud = self.cloud.clone();
        self.cloud.has_tls().then(|| Arc::new(move |name: &str| cloud.lookup(name)) as Lookup)
    }

    pub(crate) fn time_machine(&self) -> Arc<dyn TimeMachine> {
        Arc::new(self.clone())
    }

    pub(crate) fn mailbox(&self) -> Arc<dyn Mailbox> {
        Arc::new(self.clone())
    }

    /// Begins all that is only local, and puts the edge before the control plane. Nothing waits for the
    /// instances: visitors are answered meanwhile.
    pub(crate) fn serve(
        &self,
        router: Router,
        stripe: SimulatedStripe,
        (config, world): (&Config, &Arc<World>),
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<Router> {
        stripe.start(self, (config, world), shutdown, tasks)?;
        let (cloud, waked) = (self.cloud.clone(), Arc::clone(world));
        tasks.spawn(async move {
            for (instance, error) in cloud.start_all().await {
                tracing::error!(%instance, %error, "an instance could not be started");
            }
            waked.wakes.fleet.notify_one();
        });
        let (cloud, stop) = (self.cloud.clone(), shutdown.clone());
        tasks.spawn(async move { cloud.tell_mail_events(stop).await });
        let (cloud, stop) = (self.cloud.clone(), shutdown.clone());
        tasks.spawn(async move {
            match cloud.serve_dns().await {
                Ok(server) => {
                    tracing::info!(address = %server.address(), "the local name server answers");
                    stop.cancelled().await;
                }
                Err(error) => tracing::warn!(%error, "the local name server does not run"),
            }
        });
        Ok(edge::before(router, self.cloud.clone(), Arc::clone(world)))
    }
}

impl TimeMachine for Local {
    fn now(&self) -> Time {
        self.clock.now()
    }

    fn offset(&self) -> i64 {
        self.clock.offset()
    }

    fn next_due(&self) -> Option<Time> {
        self.stripe.get()?.next_due(self.clock.now())
    }

    fn advance(&self, ms: i64) -> std::result::Result<Time, String> {
        self.clock.advance(ms).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Mailbox for Local {
    async fn list(&self, limit: usize) -> std::result::Result<Vec<Delivered>, String> {
        let mailbox = self.cloud.mailbox().clone();
        let listed = tokio::task::spawn_blocking(move || {
            let (mut mails, mut page) = (Vec::new(), 0);
            while mails.len() < limit {
                let more = mailbox.list(page)?.mails;
                if more.is_empty() {
                    break;
                }
                mails.extend(more);
                page += 1;
            }
            mails.truncate(limit);
            Ok::<_, io::Error>(mails)
        });
        let mails = listed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(mails.into_iter().map(delivered).collect())
    }

    async fn get(&self, key: &str) -> std::result::Result<Option<Delivered>, String> {
        let mail = self.cloud.mailbox().get(key).map_err(|error| error.to_string())?;
        Ok(mail.map(delivered))
    }
}

fn delivered(mail: stackpro_cloud::local::Delivered) -> Delivered {
    Delivered { key: mail.key, at: mail.at, message: mail.message }
}

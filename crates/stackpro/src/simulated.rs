//! The local cloud's Stripe, wired to this process.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use stackpro_cloud::local::stripe::{self, Stripe, WebhookEndpoint, WebhookFaults};
use stackpro_domain::Clock;
use stackpro_server::world::World;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{Fatal, Result, bind};
use crate::config::Config;
use crate::local::Local;
use crate::served::{stripe_base, stripe_folder};

/// The local cloud's Stripe, unless a real one is configured. Of several processes on one data folder one
/// runs it, and the others find it.
pub(crate) enum SimulatedStripe {
    Elsewhere(String),
    Here { listener: TcpListener, address: SocketAddr, lock: File },
}

impl SimulatedStripe {
    pub(crate) async fn bind(config: &Config) -> Result<Self> {
        if let Some(base) = config.real_stripe() {
            return Ok(Self::Elsewhere(base));
        }
        let folder = stripe_folder(config);
        let failed = |e| Fatal::new(&format!("preparing {}", folder.display()), e);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::create(folder.join("run.lock")).map_err(failed)?;
        if lock.try_lock().is_err() {
            return Ok(Self::Elsewhere(stripe_base(config)));
        }
        let listener = bind(config.stripe_listen()).await?;
        let address = listener.local_addr().map_err(|e| Fatal::new("asking for the address", e))?;
        std::fs::write(folder.join("address"), format!("http://{address}")).map_err(failed)?;
        Ok(Self::Here { listener, address, lock })
    }

    pub(crate) fn base(&self) -> String {
        match self {
            Self::Elsewhere(base) => base.clone(),
            Self::Here { address, .. } => format!("http://{address}"),
        }
    }

    pub(crate) fn start(
        self,
        local: &Local,
        (config, world): (&Config, &World),
        shutdown: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Result<()> {
        let Self::Here { listener, address, lock } = self else { return Ok(()) };
        // What answers by https stands before us, and for the world: this Stripe is beside us.
        let public = &world.settings.public_url;
        let ours = if world.settings.is_https() { format!("http://{}", local.listen) } else { public.clone() };
        let settings = stripe::Settings {
            api_key: world.secrets.till_api_key(),
            publishable_name: world.settings.name.clone(),
            base_url: format!("http://{address}"),
            webhook_endpoints: vec![WebhookEndpoint {
                url: format!("{ours}/api/stripe-webhook"),
                secret: world.secrets.till_webhook_secret(),
            }],
            faults: WebhookFaults::default(),
        };
        let clock = Arc::clone(&local.clock) as Arc<dyn Clock>;
        let stripe = Stripe::open(&stripe_folder(config), settings, clock)
            .map_err(|e| Fatal::new("opening the simulated Stripe", e))?;
        local.stripe.get_or_init(|| stripe.clone());
        let stop = shutdown.clone();
        tasks.spawn(async move {
            let _lock = lock;
            if let Err(error) = stripe.run(listener, stop).await {
                tracing::error!(%error, "the simulated Stripe ended");
            }
        });
        Ok(())
    }
}

//! The simulated Stripe alone: `stripe FOLDER ADDRESS [WEBHOOK_URL SECRET]`.
//!
//! Prints its address once it listens, and runs until it is killed.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;

use stackpro_cloud::local::stripe::{Settings, Stripe, WebhookEndpoint, WebhookFaults};
use stackpro_domain::{Clock, Time};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The time that it really is.
struct Now;

impl Clock for Now {
    fn now(&self) -> Time {
        Time(jiff::Timestamp::now().as_millisecond())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next();
    let (Some(folder), Some(address)) = (next(), next()) else {
        return Err("usage: stripe FOLDER ADDRESS [WEBHOOK_URL SECRET]".into());
    };
    // The pure-Rust side of reqwest wants a provider even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind(address).await?;
    let base_url = format!("http://{}", listener.local_addr()?);
    let webhook = next().zip(next()).map(|(url, secret)| WebhookEndpoint { url, secret });
    let settings = Settings {
        api_key: "sk_test_stackpro".to_owned(),
        publishable_name: "StackPro".to_owned(),
        base_url: base_url.clone(),
        webhook_endpoints: webhook.into_iter().collect(),
        faults: WebhookFaults::default(),
    };
    let stripe = Stripe::open(&PathBuf::from(folder), settings, Arc::new(Now))?;
    println!("{base_url}");
    stripe.run(listener, CancellationToken::new()).await?;
    Ok(())
}

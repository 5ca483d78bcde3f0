//! The agent as a process of its own: `agent DIR`. What the tests start, and kill.

use std::path::Path;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "a crypto provider is installed already")?;
    let dir = std::env::args().nth(1).ok_or("usage: agent DIR")?;
    Ok(stackpro_agent::run(Path::new(&dir), stackpro_agent::Options::default()).await?)
}

//! Hands the certificate to every agent that has public doors, and tells it of which CA it orders the rest.

use futures::{StreamExt, stream};
use stackpro_domain::ResourceId;
use stackpro_domain::time::MINUTE;
use stackpro_protocol::agent::{AcmeDirectory, Certificates, Chain};
use stackpro_store::{InstanceRow, StoreError};

use super::{CertificateError, opened};
use crate::agents::AgentError;
use crate::auth::hash_token;
use crate::world::{Acme, World};

/// Agents that are told side by side.
const AT_ONCE: usize = 16;
/// An agent that has not reported for so long is told when it does.
const SILENT: i64 = MINUTE;

/// What agents are to have now. None when there is nothing to tell them.
async fn present(world: &World, acme: &Acme) -> Result<Certificates, CertificateError> {
    let domain = &world.settings.client_domain;
    let chain = world.store.certificate(domain).await?.and_then(|row| opened(world, &row));
    let mut certificates = Certificates {
        edition: String::new(),
        domain: domain.clone(),
        wildcard: chain.map(|chain| Chain { chain: chain.chain, key: chain.key }),
        acme: Some(AcmeDirectory {
            url: acme.directory.url.clone(),
            contact: acme.directory.contact.clone(),
            roots: acme.directory.roots.more.clone(),
            retry_seconds: (acme.retry_ms / 1000).unsigned_abs(),
        }),
    };
    let content = serde_json::to_string(&certificates).unwrap_or_default();
    certificates.edition = hash_token(&content);
    Ok(certificates)
}

/// Tells every agent that answers, and has something else.
pub(crate) async fn hand_out(world: &World, acme: &Acme) -> Result<(), CertificateError> {
    let certificates = present(world, acme).await?;
    let since = world.real_now().plus(-SILENT);
    let instances = world.store.instances_without_edition(&certificates.edition, since).await?;
    let telling = instances.iter().map(|instance| tell(world, instance, &certificates));
    let mut told = stream::iter(telling.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    while let Some(told) = told.next().await {
        if let Err(error) = told {
            tracing::warn!(%error, "an agent does not have the certificate yet");
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TellError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Sees to it that an agent has what there is, before stacks are placed on its instance.
pub(crate) async fn equip(world: &World, instance: &InstanceRow) -> Result<(), TellError> {
    let Some(acme) = world.settings.acme.as_ref().filter(|_| instance.fingerprint.is_some()) else { return Ok(()) };
    let certificates = present(world, acme).await?;
    if instance.edition.as_ref() == Some(&certificates.edition) {
        return Ok(());
    }
    tell(world, instance, &certificates).await
}

async fn tell(world: &World, instance: &InstanceRow, certificates: &Certificates) -> Result<(), TellError> {
    world.agents.of(instance)?.put_certificate(certificates).await?;
    Ok(note_edition(world, &instance.id, &certificates.edition).await?)
}

async fn note_edition(world: &World, instance: &ResourceId, edition: &str) -> Result<(), StoreError> {
    let mut tx = world.store.begin().await?;
    if let Some(mut row) = tx.instance(instance).await? {
        row.edition = Some(edition.to_owned());
        tx.update_instance(&row).await?;
    }
    tx.commit().await
}

//! Orders certificates for hosts that the control plane's wildcard does not cover, by HTTP-01, with an
//! account of the agent's own. One order at a time; after a failure a pause that doubles; both on the disk,
//! so that no death makes the CA be asked more often.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use stackpro_domain::Time;
use stackpro_protocol::agent::{AcmeDirectory, StackState};
use stackpro_tls::acme::{AcmeError, Answer, Directory, Keeper, Progress, Proof, obtain};
use stackpro_tls::{Roots, pace};
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::certificates::PutError;
use crate::{blocking, disk};

/// The CA's challenges that are answered now: host and token to the page.
#[derive(Default)]
pub(crate) struct Pages(RwLock<HashMap<(String, String), String>>);

impl Pages {
    pub(crate) fn get(&self, host: &str, token: &str) -> Option<String> {
        let pages = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pages.get(&(host.to_owned(), token.to_owned())).cloned()
    }

    /// These, and no others.
    fn set(&self, answers: &[Answer]) {
        let pages = answers.iter().map(|answer| ((answer.name.clone(), answer.token.clone()), answer.value.clone()));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pages.collect();
    }
}

/// What is on the disk.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    progress: Progress,
    /// The host that the order in flight is for.
    ordering: Option<String>,
    failing: BTreeMap<String, Failing>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failing {
    failures: u32,
    next_at: Time,
}

#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error(transparent)]
    Acme(#[from] AcmeError),
    #[error(transparent)]
    Put(#[from] PutError),
    #[error("{0}")]
    Disk(#[from] io::Error),
}

/// How often it looks, when nothing changed.
const EVERY: Duration = Duration::from_mins(1);
/// How long one order may take before it rests.
const PATIENCE: Duration = Duration::from_mins(3);

/// Orders what is missing for as long as the agent runs.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut kept = loop {
        let path = file(&agent);
        match blocking(move || disk::read_json::<Kept>(&path)).await.and_then(|read| read) {
            Ok(kept) => break kept.unwrap_or_default(),
            Err(error) => tracing::error!(%error, "the state of orders cannot be read"),
        }
        sleep(EVERY).await;
    };
    loop {
        let wait = match next(&agent, &mut kept).await {
            Ok(Some(host)) => {
                if let Err(error) = order(&agent, &mut kept, &host).await {
                    tracing::warn!(%error, host, "there is no certificate yet");
                }
                continue;
            }
            Ok(None) => pause(&agent, &kept),
            Err(error) => {
                tracing::error!(%error, "orders rest");
                EVERY
            }
        };
        let _ = timeout(wait, agent.ordering.notified()).await;
    }
}

/// Until the next failing host may be tried again.
fn pause(agent: &Agent, kept: &Kept) -> Duration {
    let next = kept.failing.values().map(|failing| failing.next_at.since(agent.clock.now())).min();
    next.map_or(EVERY, |ms| Duration::from_millis(ms.max(10) as u64).min(EVERY))
}

/// The host that a certificate is to be ordered for now. What is of no interest any more is forgotten.
async fn next(agent: &Arc<Agent>, kept: &mut Kept) -> Result<Option<String>, OrderError> {
    let now = agent.clock.now();
    let (mut here, mut known) = (BTreeSet::new(), BTreeSet::new());
    for stack in agent.stacks() {
        let hosts = stack.spec().hosts.clone();
        // Where a stack arrives or has left, the names lead elsewhere.
        if matches!(stack.state(), StackState::Serving | StackState::Suspended) {
            here.extend(hosts.iter().cloned());
        }
        known.extend(hosts);
    }
    let of = Arc::clone(agent);
    blocking(move || of.certificates.keep_only(|host| known.contains(host))).await??;
    kept.failing.retain(|host, _| here.contains(host));
    let ready = |host: &&String| {
        agent.certificates.wants(host, now) && kept.failing.get(*host).is_none_or(|failing| failing.next_at <= now)
    };
    // The order in flight first: it costs the CA nothing.
    let in_flight = kept.ordering.as_ref().filter(|host| here.contains(*host)).filter(ready);
    Ok(in_flight.or_else(|| here.iter().find(ready)).cloned())
}

async fn order(agent: &Arc<Agent>, kept: &mut Kept, host: &str) -> Result<(), OrderError> {
    let Some(acme) = agent.certificates.told().and_then(|told| told.acme.clone()) else { return Ok(()) };
    let first_ms = (acme.retry_seconds.min(86_400) * 1000) as i64;
    let failures = kept.failing.get(host).map_or(0, |failing| failing.failures) + 1;
    // Before the CA hears of it: who dies on the way waits as if the order had failed.
    rest(agent, kept, host, failures, pace::pause(first_ms, failures)).await?;
    let mut progress = kept.progress.clone();
    let mut desk = Desk { agent: Arc::clone(agent), kept: kept.clone(), host: host.to_owned() };
    let names = [host.to_owned()];
    let directory = directory(&acme);
    let obtaining = Box::pin(obtain(&directory, &names, Proof::Http, None, &mut progress, &mut desk));
    let obtained = timeout(PATIENCE, obtaining).await;
    agent.pages.set(&[]);
    *kept = desk.kept;
    match obtained {
        Ok(Ok(chain)) => {
            let (of, name) = (Arc::clone(agent), host.to_owned());
            blocking(move || of.certificates.put_host(&name, chain)).await??;
            tracing::info!(host, "a certificate is there");
            (kept.progress, kept.ordering) = (progress, None);
            kept.failing.remove(host);
            Ok(save(agent, kept).await?)
        }
        Ok(Err(error)) => {
            kept.progress = progress;
            kept.ordering = kept.ordering.take().filter(|_| kept.progress.has_order());
            let wait = pace::pause_after(&error, first_ms, failures);
            rest(agent, kept, host, failures, wait).await?;
            Err(error.into())
        }
        Err(_) => Err(AcmeError::Unreachable("it takes too long".into()).into()),
    }
}

async fn rest(agent: &Agent, kept: &mut Kept, host: &str, failures: u32, ms: i64) -> io::Result<()> {
    let next_at = agent.clock.now().plus(ms);
    kept.failing.insert(host.to_owned(), Failing { failures, next_at });
    save(agent, kept).await
}

async fn save(agent: &Agent, kept: &Kept) -> io::Result<()> {
    let (path, kept) = (file(agent), kept.clone());
    blocking(move || disk::write_json(&path, &kept)).await?
}

fn file(agent: &Agent) -> PathBuf {
    agent.dir.join("orders.json")
}

fn directory(acme: &AcmeDirectory) -> Directory {
    let roots = Roots { more: acme.roots.clone() };
    Directory { url: acme.url.clone(), contact: acme.contact.clone(), roots }
}

struct Desk {
    agent: Arc<Agent>,
    kept: Kept,
    host: String,
}

#[async_trait]
impl Keeper for Desk {
    async fn keep(&mut self, progress: &Progress) -> Result<(), String> {
        self.kept.progress = progress.clone();
        self.kept.ordering = progress.has_order().then(|| self.host.clone());
        save(&self.agent, &self.kept).await.map_err(|error| format!("the disk refused: {error}"))
    }

    async fn answer(&mut self, answers: &[Answer]) -> Result<(), String> {
        self.agent.pages.set(answers);
        Ok(())
    }
}

//! The certificates that visitors are shown: the wildcard that the control plane keeps, and one for each
//! host elsewhere, which the agent orders itself. All are on the disk, readable by the agent alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use stackpro_domain::Time;
use stackpro_protocol::agent::Certificates as Told;
use stackpro_tls::{ChainError, Facts, KeyedChain, pace};

use crate::disk;

pub(crate) struct Certificates {
    dir: PathBuf,
    /// One change at a time. What is shown can be looked up while the disk is written.
    changing: Mutex<()>,
    shown: RwLock<Shown>,
}

#[derive(Default)]
struct Shown {
    told: Option<Arc<Told>>,
    wildcard: Option<Arc<Held>>,
    hosts: BTreeMap<String, Arc<Held>>,
}

/// A certificate, ready to be shown.
struct Held {
    chain: KeyedChain,
    facts: Facts,
    key: Arc<CertifiedKey>,
}

/// A host's own certificate, as it is kept and as a move takes it along.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfHost {
    host: String,
    chain: KeyedChain,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error("the certificate cannot be used: {0}")]
    Chain(#[from] ChainError),
    #[error("the certificate is not for {0}")]
    OtherName(String),
    #[error("the disk refused: {0}")]
    Disk(#[from] io::Error),
}

impl Held {
    fn new(chain: KeyedChain, host: &str) -> Result<Arc<Self>, PutError> {
        let (key, facts) = (Arc::new(chain.certified_key()?), chain.facts()?);
        if facts.covers(host) {
            Ok(Arc::new(Self { chain, facts, key }))
        } else {
            Err(PutError::OtherName(host.to_owned()))
        }
    }
}

impl Certificates {
    /// What is on the disk. Blocks. A certificate that cannot be used any more is as good as none.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let mut shown = Shown::default();
        if let Some(told) = disk::read_json::<Told>(&dir.join(TOLD))? {
            shown.wildcard = wildcard(&told).unwrap_or_else(|error| {
                tracing::error!(%error, "the kept wildcard is not shown");
                None
            });
            shown.told = Some(Arc::new(told));
        }
        for OfHost { host, chain } in disk::read_json::<Vec<OfHost>>(&dir.join(HOSTS))?.unwrap_or_default() {
            match Held::new(chain, &host) {
                Ok(held) => _ = shown.hosts.insert(host, held),
                Err(error) => tracing::error!(%error, host, "a kept certificate is not shown"),
            }
        }
        Ok(Self { dir: dir.to_owned(), changing: Mutex::default(), shown: RwLock::new(shown) })
    }

    /// What the control plane said last.
    pub(crate) fn told(&self) -> Option<Arc<Told>> {
        self.read().told.clone()
    }

    /// Keeps what the control plane says, durably, and shows it from now on. Blocks.
    pub(crate) fn put(&self, told: Told) -> Result<(), PutError> {
        let held = wildcard(&told)?;
        let _changing = self.changing();
        if self.told().as_deref() != Some(&told) {
            disk::write_json(&self.dir.join(TOLD), &told)?;
            let mut shown = self.write();
            shown.told = Some(Arc::new(told));
            shown.wildcard = held;
        }
        Ok(())
    }

    /// Keeps a host's own certificate, durably, and shows it from now on. Blocks.
    pub(crate) fn put_host(&self, host: &str, chain: KeyedChain) -> Result<(), PutError> {
        let held = Held::new(chain, host)?;
        self.change(|hosts| {
            hosts.insert(host.to_owned(), held);
            Ok(())
        })
    }

    /// The hosts' own certificates, for a move.
    pub(crate) fn export(&self, hosts: &[String]) -> Vec<OfHost> {
        let shown = self.read();
        let of_host = |host: &String| {
            let held = shown.hosts.get(host)?;
            Some(OfHost { host: host.clone(), chain: held.chain.clone() })
        };
        hosts.iter().filter_map(of_host).collect()
    }

    /// Takes over what another agent exported of these hosts, where it lasts longer than what is here. Blocks.
    pub(crate) fn import(&self, hosts: &[String], mut exported: Vec<OfHost>) -> Result<(), PutError> {
        exported.retain(|of_host| hosts.contains(&of_host.host));
        if exported.is_empty() {
            return Ok(());
        }
        self.change(|hosts| {
            for OfHost { host, chain } in exported {
                let held = Held::new(chain, &host)?;
                if hosts.get(&host).is_none_or(|here| here.facts.not_after < held.facts.not_after) {
                    hosts.insert(host, held);
                }
            }
            Ok(())
        })
    }

    /// Forgets the certificates of hosts that are nobody's here. Blocks.
    pub(crate) fn keep_only(&self, wanted: impl Fn(&str) -> bool) -> Result<(), PutError> {
        if self.read().hosts.keys().all(|host| wanted(host)) {
            return Ok(());
        }
        self.change(|hosts| {
            hosts.retain(|host, _| wanted(host));
            Ok(())
        })
    }

    /// What a visitor who asks for this name is shown: a certificate whose time is over, when there is no
    /// better one.
    pub(crate) fn of(&self, name: &str, now: Time) -> Option<Arc<CertifiedKey>> {
        let held = self.held(name);
        let best = held.iter().flatten().find(|held| held.facts.is_valid_at(now));
        best.or_else(|| held.iter().flatten().next()).map(|held| Arc::clone(&held.key))
    }

    pub(crate) fn is_valid(&self, host: &str, now: Time) -> bool {
        self.held(host).iter().flatten().any(|held| held.facts.is_valid_at(now))
    }

    /// Whether the agent is to order a certificate for this host now.
    pub(crate) fn wants(&self, host: &str, now: Time) -> bool {
        let shown = self.read();
        let Some(told) = shown.told.as_ref().filter(|told| told.acme.is_some()) else { return false };
        let is_below = |host: &str| host.split_once('.').is_some_and(|(_, above)| above == told.domain);
        let due = |held: &Arc<Held>| now >= pace::renew_at(&held.facts);
        host != told.domain && !is_below(host) && host.contains('.') && shown.hosts.get(host).is_none_or(due)
    }

    /// Its own, and the wildcard if it covers it.
    fn held(&self, host: &str) -> [Option<Arc<Held>>; 2] {
        let shown = self.read();
        [shown.hosts.get(host).cloned(), shown.wildcard.clone().filter(|held| held.facts.covers(host))]
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Arc<Held>>) -> Result<(), PutError>,
    ) -> Result<(), PutError> {
        let _changing = self.changing();
        let mut hosts = self.read().hosts.clone();
        change(&mut hosts)?;
        let kept = hosts.iter().map(|(host, held)| OfHost { host: host.clone(), chain: held.chain.clone() });
        disk::write_json(&self.dir.join(HOSTS), &kept.collect::<Vec<_>>())?;
        self.write().hosts = hosts;
        Ok(())
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shown> {
        self.shown.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }
}

const TOLD: &str = "certificates.json";
const HOSTS: &str = "host-certificates.json";

fn wildcard(told: &Told) -> Result<Option<Arc<Held>>, PutError> {
    let chain = told.wildcard.as_ref().map(|chain| KeyedChain { chain: chain.chain.clone(), key: chain.key.clone() });
    chain.map(|chain| Held::new(chain, &format!("any.{}", told.domain))).transpose()
}

#[cfg(test)]
mod tests {
    use stackpro_protocol::agent::{AcmeDirectory, Chain};

    use super::*;

    fn told(edition: &str, wildcard: Option<&KeyedChain>) -> Told {
        let acme = AcmeDirectory { url: "https://ca.example".into(), contact: None, roots: None, retry_seconds: 240 };
        Told {
            edition: edition.into(),
            domain: "clients.example".into(),
            wildcard: wildcard.map(|chain| Chain { chain: chain.chain.clone(), key: chain.key.clone() }),
            acme: Some(acme),
        }
    }

    #[test]
    fn what_is_told_is_shown_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::open(dir.path()).unwrap();
        let now = Time(1_800_000_000_000);
        assert!(certificates.told().is_none() && !certificates.wants("www.acme.example", now));
        let wildcard = KeyedChain::self_signed(&["*.clients.example", "clients.example"]).unwrap();
        certificates.put(told("1", Some(&wildcard))).unwrap();
        for certificates in [&certificates, &Certificates::open(dir.path()).unwrap()] {
            assert!(certificates.of("acme.clients.example", now).is_some());
            assert!(certificates.is_valid("acme.clients.example", now));
            assert!(!certificates.is_valid("acme.clients.example", Time(i64::MAX)));
            assert!(certificates.of("acme.clients.example", Time(i64::MAX)).is_some(), "better than none");
            assert!(certificates.of("www.acme.example", now).is_none());
            assert_eq!(certificates.told().unwrap().edition, "1");
        }
        // What cannot be used is refused, and what was shown stays.
        let other = KeyedChain::self_signed(&["*.other.example"]).unwrap();
        assert!(matches!(certificates.put(told("2", Some(&other))), Err(PutError::OtherName(_))));
        let torn = KeyedChain { key: other.key, ..wildcard };
        assert!(matches!(certificates.put(told("2", Some(&torn))), Err(PutError::Chain(_))));
        assert_eq!(certificates.told().unwrap().edition, "1");
    }

    #[test]
    fn orders_are_for_hosts_elsewhere_and_come_along_with_a_move() {
        let (dir, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificates = Certificates::open(dir.path()).unwrap();
        certificates.put(told("1", None)).unwrap();
        let now = Time(1_800_000_000_000);
        for (host, wanted) in [
            ("acme.clients.example", false),
            ("clients.example", false),
            ("a.b.clients.example", true),
            ("www.acme.example", true),
            ("localhost", false),
        ] {
            assert_eq!(certificates.wants(host, now), wanted, "{host}");
        }
        let own = KeyedChain::self_signed(&["www.acme.example"]).unwrap();
        assert!(matches!(certificates.put_host("other.example", own.clone()), Err(PutError::OtherName(_))));
        certificates.put_host("www.acme.example", own).unwrap();
        assert!(!certificates.wants("www.acme.example", now) && certificates.is_valid("www.acme.example", now));
        let moved = Certificates::open(there.path()).unwrap();
        let (hosts, others) = (["www.acme.example".into(), "none.example".into()], ["other.example".into()]);
        moved.import(&others, certificates.export(&hosts)).unwrap();
        assert!(moved.of("www.acme.example", now).is_none(), "not one of the stack's that moves");
        moved.import(&hosts, certificates.export(&hosts)).unwrap();
        assert!(Certificates::open(there.path()).unwrap().is_valid("www.acme.example", now));
        moved.keep_only(|host| host != "www.acme.example").unwrap();
        assert!(Certificates::open(there.path()).unwrap().of("www.acme.example", now).is_none());
    }
}

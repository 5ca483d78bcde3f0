//! DNS records: one file each, and a look-up that is quick enough for every request at the edge.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use stackpro_domain::names;

use super::faults::{Failure, Faults, refuse};
use super::files;
use crate::{Dns, Record, Result};

/// How long another process's change may go unseen.
const FRESH: Duration = Duration::from_millis(200);

/// The records of one zone, shared by the trait, the edge and the name server.
pub(super) struct Records {
    folder: PathBuf,
    /// The text records: a list of values for each name.
    texts: PathBuf,
    /// Lower case, without the final dot.
    pub(super) zone: String,
    /// Only of names that exist, so that strangers who ask for others cannot make it grow.
    cache: RwLock<HashMap<String, (SocketAddr, Instant)>>,
}

impl Records {
    pub(super) fn new(folder: PathBuf, texts: PathBuf, zone: String) -> Self {
        Self { folder, texts, zone, cache: RwLock::default() }
    }

    /// Where a host name leads; at most 200 ms behind a change by another process.
    pub(super) fn lookup(&self, name: &str) -> Option<SocketAddr> {
        let cached = self.cache.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if let Some((target, seen)) = cached
            && seen.elapsed() < FRESH
        {
            return Some(target);
        }
        match self.read(name) {
            Ok(Some(record)) => {
                self.remember(name, Some(record.target));
                Some(record.target)
            }
            Ok(None) => {
                if cached.is_some() {
                    self.remember(name, None);
                }
                None
            }
            Err(error) => {
                tracing::warn!(name, %error, "a DNS record cannot be read; what was known of it stays");
                cached.map(|(target, _)| target)
            }
        }
    }

    fn remember(&self, name: &str, target: Option<SocketAddr>) {
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        match target {
            Some(target) => drop(cache.insert(name.to_owned(), (target, Instant::now()))),
            None => drop(cache.remove(name)),
        }
    }

    /// The record of a name, which may be anything.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Record>> {
        match self.path(name) {
            Some(path) => files::read(&path),
            None => Ok(None),
        }
    }

    /// The text records of a name, which may be anything.
    pub(super) fn read_texts(&self, name: &str) -> io::Result<Vec<String>> {
        match self.text_path(name) {
            Some(path) => Ok(files::read(&path)?.unwrap_or_default()),
            None => Ok(Vec::new()),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let ok = self.is_ours(name) && names::host(name).as_deref() == Some(name);
        ok.then(|| self.folder.join(format!("{name}.json")))
    }

    /// Of names that are no host's, such as `_acme-challenge.stackpro.localhost`, too.
    fn text_path(&self, name: &str) -> Option<PathBuf> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        (self.is_ours(name) && name.split('.').all(is_label)).then(|| self.texts.join(format!("{name}.json")))
    }

    /// In the zone, and short enough: a name is at most 253 long, and a file name may be 255.
    fn is_ours(&self, name: &str) -> bool {
        name.len() <= 250 && name.strip_suffix(&self.zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Whether names below this one exist, so that it exists too, without records (RFC 8020).
    pub(super) fn has_below(&self, name: &str) -> io::Result<bool> {
        let end = format!(".{name}.json");
        let has = |folder| files::names(folder).map(|names| names.iter().any(|file| file.ends_with(&end)));
        Ok(has(&self.folder)? || has(&self.texts)?)
    }

    fn checked(&self, path: Option<PathBuf>) -> Result<PathBuf, Failure> {
        match path {
            Some(path) => Ok(path),
            None => refuse("InvalidChangeBatch", format!("RRSet with this DNS name is not permitted in {}", self.zone)),
        }
    }

    fn upsert(&self, record: &Record) -> Result<(), Failure> {
        files::write(&self.checked(self.path(&record.name))?, record)?;
        self.remember(&record.name, Some(record.target));
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), Failure> {
        files::remove(&self.checked(self.path(name))?)?;
        self.remember(name, None);
        Ok(())
    }

    fn set_texts(&self, name: &str, values: &[String]) -> Result<(), Failure> {
        let path = self.checked(self.text_path(name))?;
        if values.iter().any(|value| !value.bytes().all(|b| matches!(b, b' '..=b'~')) || value.len() > 4_000) {
            return refuse("InvalidChangeBatch", "a value has a character that needs an escape, or too many");
        }
        if values.is_empty() { Ok(files::remove(&path)?) } else { Ok(files::write(&path, &values)?) }
    }

    /// Changes with every change of the zone (RFC 1035's SERIAL): the seconds of the last one.
    pub(super) fn serial(&self) -> u32 {
        let changed = |folder| std::fs::metadata(folder).and_then(|metadata| metadata.modified()).ok();
        let changed = changed(&self.folder).max(changed(&self.texts));
        let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(1, |since| since.as_secs() as u32)
    }
}

pub(super) struct LocalDns {
    pub(super) records: Arc<Records>,
    pub(super) faults: Arc<Faults>,
}

#[async_trait]
impl Dns for LocalDns {
    async fn upsert(&self, record: &Record) -> Result<()> {
        let (records, record) = (self.records.clone(), record.clone());
        self.faults.around("dns.upsert", move || records.upsert(&record)).await
    }

    async fn get(&self, name: &str) -> Result<Option<Record>> {
        let (records, name) = (self.records.clone(), name.to_owned());
        self.faults.around("dns.get", move || Ok(records.read(&name)?)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let (records, name) = (self.records.clone(), name.to_owned());
        self.faults.around("dns.delete", move || records.delete(&name)).await
    }

    async fn list(&self) -> Result<Vec<Record>> {
        let records = self.records.clone();
        self.faults.around("dns.list", move || Ok(files::read_all(&records.folder)?)).await
    }

    async fn set_text(&self, name: &str, values: &[String]) -> Result<()> {
        let (records, name, values) = (self.records.clone(), name.to_owned(), values.to_owned());
        self.faults.around("dns.set_text", move || records.set_texts(&name, &values)).await
    }
}

//! Mail: who may send, as SES rules it, and the mailbox in which everything lands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use stackpro_domain::{Clock, Time, names};

use super::clock::LocalClock;
use super::faults::{Failure, Faults, refuse};
use super::files;
use super::mail_events::{self, Outbox};
use crate::{Mail, MailAccount, MailEvent, MailIdentity, Message, Result, Tags};

pub(super) struct LocalMail {
    pub(super) identities: PathBuf,
    /// Domains that the operator verified by hand: they may send, and are nobody's resource.
    pub(super) verified: Vec<String>,
    pub(super) mailbox: Mailbox,
    pub(super) events: Arc<Outbox>,
    pub(super) clock: Arc<LocalClock>,
    pub(super) faults: Arc<Faults>,
    /// Since when this second runs, and how many mails were taken in it.
    pub(super) taken: Arc<Mutex<Option<(Instant, u32)>>>,
}

/// Where every mail lands that the local cloud delivers.
#[derive(Clone)]
pub struct Mailbox {
    /// `<time>-<digest of the id>.json` each.
    pub(super) messages: PathBuf,
    /// By the digest of a message's id: the name under which it was, or is about to be, delivered.
    pub(super) delivered: PathBuf,
}

/// A mail that was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Its name in the mailbox; sorts by time.
    pub key: String,
    pub at: Time,
    pub message: Message,
}

/// A part of the mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailPage {
    /// Newest first, at most [`Mailbox::PAGE`].
    pub mails: Vec<Delivered>,
    /// In the whole mailbox.
    pub total: usize,
}

impl Mailbox {
    /// Mails on a page.
    pub const PAGE: usize = 50;

    /// A page, counted from 0. Reads files: for a blocking thread when the mailbox is large.
    pub fn list(&self, page: usize) -> io::Result<MailPage> {
        let mut keys = files::names(&self.messages)?;
        let total = keys.len();
        keys.reverse();
        let keys = keys.iter().skip(page.saturating_mul(Self::PAGE)).take(Self::PAGE);
        let mails = keys.map(|key| files::read(&self.messages.join(key))).collect::<io::Result<Vec<_>>>()?;
        Ok(MailPage { mails: mails.into_iter().flatten().collect(), total })
    }

    /// The mail with this key; none when there is none, or the key is not one.
    pub fn get(&self, key: &str) -> io::Result<Option<Delivered>> {
        if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            files::read(&self.messages.join(format!("{key}.json")))
        } else {
            Ok(None)
        }
    }

    /// First the id is taken by a file that holds all, then that file gets its name in the mailbox, by
    /// whoever comes: a death in between is made good by the next try.
    fn deliver(&self, message: &Message, now: Time) -> io::Result<()> {
        let digest = digest(&message.id);
        let claim = self.delivered.join(format!("{digest}.json"));
        let wanted = Delivered { key: format!("{:014}-{digest}", now.ms()), at: now, message: message.clone() };
        let first = if files::create(&claim, &wanted)? { wanted } else { files::read(&claim)?.unwrap_or(wanted) };
        files::link(&claim, &self.messages.join(format!("{}.json", first.key))).map(drop)
    }
}

#[async_trait]
impl Mail for LocalMail {
    async fn create_identity(&self, domain: &str, tags: &Tags) -> Result<()> {
        let identity = MailIdentityFile { domain: domain.to_owned(), tags: tags.clone() };
        let folder = self.identities.clone();
        let work = move || {
            let path = identity_path(&folder, &identity.domain)?;
            Ok(files::create(&path, &identity).map(drop)?)
        };
        self.faults.around("mail.create_identity", work).await
    }

    async fn delete_identity(&self, domain: &str) -> Result<()> {
        let (folder, domain) = (self.identities.clone(), domain.to_owned());
        let work = move || Ok(files::remove(&identity_path(&folder, &domain)?)?);
        self.faults.around("mail.delete_identity", work).await
    }

    async fn list_identities(&self) -> Result<Vec<MailIdentity>> {
        let folder = self.identities.clone();
        let work = move || {
            let all = files::read_all::<MailIdentityFile>(&folder)?;
            Ok(all.into_iter().map(|file| MailIdentity { domain: file.domain, tags: file.tags }).collect())
        };
        self.faults.around("mail.list_identities", work).await
    }

    async fn send(&self, message: &Message) -> Result<()> {
        let (identities, verified, mailbox) = (self.identities.clone(), self.verified.clone(), self.mailbox.clone());
        let (message, now, events) = (message.clone(), self.clock.now(), self.events.clone());
        let (settings, taken) = (self.faults.settings().clone(), self.taken.clone());
        let work = move || {
            if settings.mail_per_second > 0 {
                take(&taken, settings.mail_per_second)?;
            }
            check(&message, &identities, &verified, settings.mail_sandbox)?;
            mailbox.deliver(&message, now)?;
            Ok(events.put(&digest(&message.id), &mail_events::of(&message, now))?)
        };
        self.faults.around("mail.send", work).await
    }

    fn doubt(&self) -> Duration {
        Duration::ZERO
    }

    async fn account(&self) -> Result<MailAccount> {
        let settings = self.faults.settings();
        let account = MailAccount {
            per_second: Some(settings.mail_per_second).filter(|rate| *rate > 0),
            warning: settings.mail_sandbox.then(|| SANDBOX.to_owned()),
        };
        self.faults.around("mail.account", move || Ok(account)).await
    }

    /// The operator's own domains are verified by what the local cloud is opened with.
    async fn prepare(&self, _: &str) -> Result<()> {
        self.faults.around("mail.prepare", || Ok(())).await
    }

    /// The local cloud has no list of its own.
    async fn forgive(&self, _: &str) -> Result<()> {
        self.faults.around("mail.forgive", || Ok(())).await
    }

    async fn read_events(&self, body: &[u8]) -> Result<Vec<MailEvent>> {
        self.events.read(body)
    }
}

/// What the operator of a cloud in the sandbox is told.
pub(super) const SANDBOX: &str = "The local cloud plays SES's sandbox (STACKPRO_FAULTS has mail_sandbox): mail reaches verified \
    domains alone.";

/// Counts one more in this second, as SES counts against an account's rate.
fn take(taken: &Mutex<Option<(Instant, u32)>>, per_second: u32) -> Result<(), Failure> {
    const SECOND: Duration = Duration::from_secs(1);
    let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
    let (since, count) = taken.filter(|(since, _)| since.elapsed() < SECOND).unwrap_or((Instant::now(), 0));
    if count >= per_second {
        return Err(Failure::Throttled(SECOND.saturating_sub(since.elapsed())));
    }
    *taken = Some((since, count + 1));
    Ok(())
}

/// `identities/<domain>.json`
#[derive(Serialize, Deserialize)]
struct MailIdentityFile {
    domain: String,
    tags: Tags,
}

fn identity_path(folder: &Path, domain: &str) -> Result<PathBuf, Failure> {
    match names::host(domain) {
        Some(name) if name == domain && name.contains('.') => Ok(folder.join(format!("{name}.json"))),
        _ => refuse("BadRequestException", "the identity is not a valid domain"),
    }
}

/// What SES refuses: `MessageRejected` and `BadRequestException` of `SendEmail` (API v2). An identity covers
/// the domain and those below it. What is not verified may be so later.
fn check(message: &Message, identities: &Path, verified: &[String], sandbox: bool) -> Result<(), Failure> {
    let header_ok = |text: &str| !text.chars().any(char::is_control);
    let (Some(from), Some(to)) = (names::mailbox(&message.from), names::mailbox(&message.to)) else {
        return refuse("BadRequestException", "an address is not valid");
    };
    if ![&message.from, &message.to, &message.subject].into_iter().all(|text| header_ok(text)) {
        return refuse("BadRequestException", "control characters are not allowed in a header");
    }
    let known = |address: &str| {
        let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
        let mut above = std::iter::successors(Some(domain), |name| name.split_once('.').map(|(_, rest)| rest));
        above.any(|name| verified.iter().any(|known| known == name) || identities.join(format!("{name}.json")).exists())
    };
    let unverified = match (known(&from), sandbox && !known(&to) && !mail_events::is_simulator(&to)) {
        (true, false) => return Ok(()),
        (false, _) => from,
        (true, true) => to,
    };
    let what = "Email address is not verified. The following identities failed the check in region LOCAL";
    Err(Failure::Passing(format!("MessageRejected: {what}: {unverified}")))
}

fn digest(id: &str) -> String {
    super::hex(&Sha256::digest(id))[..32].to_owned()
}

//! What becomes of the mailbox's mails, told to the control plane as SES tells it: by a signed request, again and
//! again until it is heard, in whatever order. Some addresses have a fate of their own, as those of SES's
//! mailbox simulator. <https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html>

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use stackpro_domain::mail::Fate;
use stackpro_domain::{Time, names};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::files;
use crate::{CloudError, MailEvent, Message, Result};

/// How often other processes' events are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const SIDE_BY_SIDE: usize = 8;
const CALL: &str = "mail.read_events";

/// Events that are still to be told: a file for each mail.
pub(super) struct Outbox {
    folder: PathBuf,
    is_used: bool,
    /// By the key that all processes on this folder share.
    mac: Hmac<Sha256>,
    bell: Notify,
}

/// A request's body.
#[derive(Serialize, Deserialize)]
struct Signed {
    /// JSON, as it was signed.
    message: String,
    /// HMAC-SHA256 in hexadecimal.
    signature: String,
}

impl Outbox {
    pub(super) fn open(folder: PathBuf, is_used: bool) -> io::Result<Self> {
        let file = folder.with_extension("key");
        files::create(&file, &rand::random::<[u8; 32]>())?;
        let key: [u8; 32] = files::read(&file)?.ok_or(io::ErrorKind::NotFound)?;
        let mac = Hmac::new_from_slice(&key).map_err(io::Error::other)?;
        Ok(Self { folder, is_used, mac, bell: Notify::new() })
    }

    /// Before the mail's sender hears that it was taken; `name` is the mail's.
    pub(super) fn put(&self, name: &str, events: &[MailEvent]) -> io::Result<()> {
        if self.is_used {
            files::create(&self.folder.join(format!("{name}.json")), &events)?;
            self.bell.notify_one();
        }
        Ok(())
    }

    pub(super) fn read(&self, body: &[u8]) -> Result<Vec<MailEvent>> {
        let refused = |cause: &str| CloudError::Refused { call: CALL, cause: cause.to_owned() };
        let signed: Signed = serde_json::from_slice(body).map_err(|_| refused("it is not a signed message"))?;
        let signature: Option<Vec<u8>> = (0..signed.signature.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(signed.signature.get(at..at + 2)?, 16).ok())
            .collect();
        let proved = signature.is_some_and(|signature| self.mac(&signed.message).verify_slice(&signature).is_ok());
        if !proved {
            return Err(refused("its signature is not the local cloud's"));
        }
        serde_json::from_str(&signed.message).map_err(|_| refused("it holds no events"))
    }

    fn mac(&self, message: &str) -> Hmac<Sha256> {
        self.mac.clone().chain_update(message)
    }

    fn sign(&self, message: String) -> Signed {
        let signature = super::hex(&self.mac(&message).finalize().into_bytes());
        Signed { message, signature }
    }

    pub(super) async fn deliver(&self, server: impl Fn() -> String, shutdown: CancellationToken) {
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build();
        let Ok(client) = client else {
            tracing::error!("what becomes of mails cannot be told: no HTTP client");
            return;
        };
        while !shutdown.is_cancelled() {
            let waiting = files::names(&self.folder).unwrap_or_default();
            let url = format!("{}/api/mail-events", server());
            let telling = stream::iter(&waiting).for_each_concurrent(SIDE_BY_SIDE, |name| {
                let path = self.folder.join(name);
                self.tell(&client, &url, path)
            });
            tokio::select! {
                () = telling => {}
                () = shutdown.cancelled() => return,
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Tells one mail's events; they stay when they were not heard. A refusal is for good, as with SNS.
    async fn tell(&self, client: &reqwest::Client, url: &str, path: PathBuf) {
        let Some(message) = read(&path) else { return };
        let answer = client.post(url).json(&self.sign(message)).send().await;
        let status = match answer {
            Ok(answer) => answer.status(),
            Err(error) => return tracing::debug!(%error, "what became of a mail was not heard"),
        };
        if status.is_client_error() && status != reqwest::StatusCode::TOO_MANY_REQUESTS {
            tracing::error!(%status, file = %path.display(), "what became of a mail was refused");
        } else if !status.is_success() {
            return;
        }
        if let Err(error) = files::remove(&path) {
            tracing::warn!(%error, file = %path.display(), "a told event could not be removed");
        }
    }
}

/// None when another process has told it meanwhile.
fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Whether it is one of the addresses that have a fate of their own; they may be written to from a sandbox, too.
pub(super) fn is_simulator(address: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(_, domain)| domain.starts_with("simulator."))
}

/// What happens to this mail. `bounce+anything@simulator.…` is as `bounce@simulator.…`.
pub(super) fn of(message: &Message, now: Time) -> Vec<MailEvent> {
    let to = names::mailbox(&message.to).unwrap_or_default();
    let word = if is_simulator(&to) { to.split(['@', '+']).next().unwrap_or_default() } else { "" };
    let delivered = (Fate::Delivered, "250 2.0.0 OK");
    let fates = match word {
        "bounce" => vec![(Fate::HardBounce, "General: smtp; 550 5.1.1 user unknown")],
        "suppressionlist" => vec![(Fate::HardBounce, "Suppressed: the address is on the carrier's suppression list")],
        "complaint" => vec![delivered, (Fate::Complaint, "abuse")],
        "ooto" => vec![delivered, (Fate::SoftBounce, "General: out of the office")],
        _ => vec![delivered],
    };
    let event = |(fate, detail): (Fate, &str)| MailEvent {
        id: format!("{}/{}", message.id, fate.as_str()),
        message: Some(message.id.clone()),
        from_domain: names::mail_domain(&message.from),
        to: to.clone(),
        fate,
        detail: detail.to_owned(),
        at: now,
    };
    std::iter::once((Fate::Sent, "")).chain(fates).map(event).collect()
}

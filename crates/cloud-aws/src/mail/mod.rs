//! Mail by SES: a domain of each client's that may send, with what proves it written to the zone; mails; and what
//! becomes of them.
//!
//! ```text
//! mod         mails, and what the account may send
//! identities  domains that may send
//! channel     how SES tells what becomes of mails: a topic of SNS, and us as its subscriber
//! notice      whether a message is SNS's
//! told        what SES says of a mail
//! ```

mod channel;
mod identities;
mod notice;
mod told;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sesv2::operation::get_account::GetAccountOutput;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message as Written, MessageHeader, MessageTag};
use stackpro_cloud::{Check, CloudError, Mail, MailAccount, MailEvent, MailIdentity, Message, Result, Tags};

use crate::Aws;
use crate::dns::Route53;
use crate::error::{Failed, classify, code, is};
use crate::pace::Pace;
use crate::zone::Zone;
use notice::Keys;

/// In a mail, so that two copies of it can be told to be one; and in SES's events, so that they name it.
const HEADER: &str = "X-StackPro-Mail";
const TAG: &str = "stackpro-mail";
/// Of a day's mails.
const NEARLY_ALL: f64 = 0.9;
/// Longer than any call may take, and long enough for an event to tell of the mail.
const DOUBT: Duration = Duration::from_secs(30);
/// What SES says of what passes when somebody does something about it.
const PASSING: [&str; 5] = [
    "AccountSuspendedException",
    "LimitExceededException",
    "MailFromDomainNotVerifiedException",
    // Of the configuration set, as long as nothing is prepared.
    "NotFoundException",
    "SendingPausedException",
];
const SANDBOX: &str = "SES has this account in its sandbox: mail reaches verified addresses alone. Ask for production \
                       access in the SES console, under Account dashboard";

/// SES of one account and region.
pub struct Ses {
    aws: Aws,
    api: aws_sdk_sesv2::Client,
    zone: Arc<Zone>,
    /// Of domains, whose they are; SES tells one's at a time. No domain is a second client's.
    known: Mutex<HashMap<String, Option<Tags>>>,
    topics: aws_sdk_sns::Client,
    pace: Pace,
    /// By which SNS signs.
    keys: Keys,
}

impl Ses {
    /// Its records are made together with those of `names`.
    pub fn new(aws: &Aws, names: &Route53) -> Self {
        Self {
            aws: aws.clone(),
            api: aws_sdk_sesv2::Client::new(aws.sdk()),
            zone: Arc::clone(&names.zone),
            known: Mutex::default(),
            topics: aws_sdk_sns::Client::new(aws.sdk()),
            pace: Pace::of_ses(),
            keys: Keys::new(aws),
        }
    }

    /// What a doctor says of SES.
    pub async fn check(&self) -> Check {
        let found = match self.asked().await {
            Err(error) => Err(format!("SES does not answer: {error}. Look at credentials, region and policy")),
            Ok(found) => match (account(&found), day(&found)) {
                (MailAccount { warning: Some(warning), .. }, _) => Err(warning),
                (_, Some((sent, most))) if sent > most * NEARLY_ALL => Err(format!(
                    "{sent} of {most} mails a day are sent: ask for more in Service Quotas, service ses, \"Sending quota\""
                )),
                (MailAccount { per_second, .. }, day) => {
                    let rate = per_second.map_or("any number of".to_owned(), |rate| rate.to_string());
                    let day = day.map_or(String::new(), |(sent, most)| format!(", {sent} of {most} a day are sent"));
                    Ok(format!("SES takes mail to everyone, {rate} a second{day}"))
                }
            },
        };
        Check { name: "mail".to_owned(), found }
    }

    async fn asked(&self) -> Result<GetAccountOutput> {
        const CALL: &str = "ses.GetAccount";
        self.pace.turn(CALL).await?;
        self.api.get_account().send().await.map_err(|error| classify(CALL, error))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Option<Tags>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mail for Ses {
    async fn create_identity(&self, domain: &str, tags: &Tags) -> Result<()> {
        Box::pin(self.make_identity(domain, tags)).await
    }

    async fn delete_identity(&self, domain: &str) -> Result<()> {
        Box::pin(self.remove_identity(domain)).await
    }

    async fn list_identities(&self) -> Result<Vec<MailIdentity>> {
        self.identities().await
    }

    /// SES has nothing by which a second copy could be refused (`docs/decisions/mail-sent-again.md`).
    async fn send(&self, message: &Message) -> Result<()> {
        let header = MessageHeader::builder().name(HEADER).value(&message.id).build().map_err(unbuilt)?;
        let body = Body::builder().text(text(&message.text)?).html(text(&message.html)?).build();
        let content = Written::builder().subject(text(&message.subject)?).body(body).headers(header).build();
        self.api
            .send_email()
            .from_email_address(&message.from)
            .set_reply_to_addresses(message.reply_to.clone().map(|address| vec![address]))
            .destination(Destination::builder().to_addresses(&message.to).build())
            .content(EmailContent::builder().simple(content).build())
            .email_tags(MessageTag::builder().name(TAG).value(&message.id).build().map_err(unbuilt)?)
            .configuration_set_name(self.own_set())
            .send()
            .await
            .map(drop)
            .map_err(unsent)
    }

    fn doubt(&self) -> Duration {
        DOUBT
    }

    async fn account(&self) -> Result<MailAccount> {
        Ok(account(&self.asked().await?))
    }

    async fn prepare(&self, sender: &str) -> Result<()> {
        Box::pin(self.open_channel()).await?;
        Box::pin(self.make_sender(sender)).await
    }

    async fn forgive(&self, address: &str) -> Result<()> {
        const CALL: &str = "ses.DeleteSuppressedDestination";
        self.pace.turn(CALL).await?;
        match self.api.delete_suppressed_destination().email_address(address).send().await {
            Err(error) if !is(&error, "NotFoundException") => Err(classify(CALL, error)),
            _ => Ok(()),
        }
    }

    async fn read_events(&self, body: &[u8]) -> Result<Vec<MailEvent>> {
        Box::pin(self.hear(body)).await
    }
}

fn account(found: &GetAccountOutput) -> MailAccount {
    let status = found.enforcement_status().unwrap_or("HEALTHY");
    let warning = if status == "SHUTDOWN" || !found.sending_enabled {
        Some(format!("SES sends nothing from this account ({status}): see Account dashboard in the SES console"))
    } else if !found.production_access_enabled {
        Some(SANDBOX.to_owned())
    } else if status == "PROBATION" {
        Some("SES has this account under review: see Reputation metrics in the SES console".to_owned())
    } else {
        None
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few a second; SES says -1 of none")]
    let per_second = found
        .send_quota()
        .map(|quota| quota.max_send_rate)
        .filter(|rate| *rate >= 0.0)
        .map(|rate| rate.max(1.0) as u32);
    MailAccount { per_second, warning }
}

/// Mails sent in the last 24 hours, and how many may be; none when there is no limit.
fn day(found: &GetAccountOutput) -> Option<(f64, f64)> {
    let quota = found.send_quota()?;
    (quota.max24_hour_send >= 0.0).then_some((quota.sent_last24_hours, quota.max24_hour_send))
}

fn text(data: &str) -> Result<Content> {
    Content::builder().data(data).charset("UTF-8").build().map_err(unbuilt)
}

fn unsent(error: Failed<aws_sdk_sesv2::operation::send_email::SendEmailError>) -> CloudError {
    // A domain that SES has not verified yet, or an address that the sandbox does not reach.
    let unverified = error
        .as_service_error()
        .and_then(|error| error.meta().message())
        .is_some_and(|said| said.contains("not verified"));
    let passing = code(&error).is_some_and(|code| PASSING.contains(&code)) || unverified;
    match classify("ses.SendEmail", error) {
        CloudError::Refused { call, cause } if passing => CloudError::Transient { call, cause },
        other => other,
    }
}

fn unbuilt(error: impl std::fmt::Display) -> CloudError {
    CloudError::Refused { call: "ses", cause: error.to_string() }
}

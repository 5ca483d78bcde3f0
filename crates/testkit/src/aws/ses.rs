//! SES: identities that are verified by the records that SES asks for, configuration sets, and mails. All of it is kept
//! here: moto knows no keys, no MAIL FROM and no destinations of events. What becomes of a mail is not told.
//! <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Operations.html>

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::call::Call;
use super::limits::SEND_RATE;
use super::names::record_sets;
use super::{Shared, lock};

/// What one account has.
#[derive(Default)]
pub(crate) struct Ses {
    identities: Mutex<BTreeMap<String, Identity>>,
    /// Names of their destinations of events, by their own.
    sets: Mutex<BTreeMap<String, Vec<String>>>,
    mails: Mutex<Vec<Mail>>,
}

#[derive(Clone, Debug)]
struct Identity {
    tags: Value,
    configuration_set: Value,
    mail_from: Value,
}

/// A mail that SES took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub from: String,
    pub to: String,
    pub subject: String,
    /// Of the header by which copies are told to be one.
    pub id: String,
}

/// Status and body.
type Answer = (u16, Value);

impl Ses {
    pub(crate) fn identities(&self) -> Vec<String> {
        lock(&self.identities).keys().cloned().collect()
    }

    pub(crate) fn configuration_sets(&self) -> Vec<String> {
        lock(&self.sets).keys().cloned().collect()
    }

    pub(crate) fn mails(&self) -> Vec<Mail> {
        lock(&self.mails).clone()
    }

    /// The answer to a call; none when SES has no such.
    pub(crate) async fn answer(&self, shared: &Shared, call: &Call) -> Option<Answer> {
        let body: Value = serde_json::from_str(&call.body).unwrap_or_default();
        let name = named(call);
        Some(match call.operation() {
            "CreateEmailIdentity" => self.create(shared, &body),
            "GetEmailIdentity" => self.describe(shared, &name).await,
            "PutEmailIdentityMailFromAttributes" => {
                let mut identities = lock(&self.identities);
                let Some(identity) = identities.get_mut(&name) else { return Some(missing(&name)) };
                identity.mail_from = body;
                (200, json!({}))
            }
            "DeleteEmailIdentity" => match lock(&self.identities).remove(&name) {
                Some(_) => (200, json!({})),
                None => missing(&name),
            },
            "ListEmailIdentities" => {
                let of = |name: &String| json!({ "IdentityType": "DOMAIN", "IdentityName": name });
                let all: Vec<Value> = lock(&self.identities).keys().map(of).collect();
                (200, json!({ "EmailIdentities": all }))
            }
            "CreateConfigurationSet" => {
                let name = text(&body["ConfigurationSetName"]);
                let mut sets = lock(&self.sets);
                if sets.contains_key(&name) {
                    return Some(there(&name));
                }
                sets.insert(name, Vec::new());
                (200, json!({}))
            }
            "DeleteConfigurationSet" => match lock(&self.sets).remove(&name) {
                Some(_) => (200, json!({})),
                None => missing(&name),
            },
            "CreateConfigurationSetEventDestination" => {
                let mut sets = lock(&self.sets);
                let Some(destinations) = sets.get_mut(&name) else { return Some(missing(&name)) };
                let destination = text(&body["EventDestinationName"]);
                if destinations.contains(&destination) {
                    return Some(there(&destination));
                }
                destinations.push(destination);
                (200, json!({}))
            }
            "GetAccount" => {
                let quota = json!({ "Max24HourSend": 50_000.0, "MaxSendRate": SEND_RATE, "SentLast24Hours": 0.0 });
                let account = json!({
                    "ProductionAccessEnabled": true, "SendingEnabled": true, "EnforcementStatus": "HEALTHY",
                    "SendQuota": quota,
                });
                (200, account)
            }
            "SendEmail" => self.send(shared, &body).await,
            "DeleteSuppressedDestination" => missing(&name),
            _ => return None,
        })
    }

    fn create(&self, shared: &Shared, body: &Value) -> Answer {
        let domain = text(&body["EmailIdentity"]);
        let mut identities = lock(&self.identities);
        if identities.contains_key(&domain) {
            return there(&domain);
        }
        let identity = Identity {
            tags: body["Tags"].clone(),
            configuration_set: body["ConfigurationSetName"].clone(),
            mail_from: json!({}),
        };
        identities.insert(domain.clone(), identity);
        let dkim = keys(&shared.account, &domain, false);
        (200, json!({ "IdentityType": "DOMAIN", "VerifiedForSendingStatus": false, "DkimAttributes": dkim }))
    }

    async fn describe(&self, shared: &Shared, domain: &str) -> Answer {
        let Some(identity) = lock(&self.identities).get(domain).cloned() else { return missing(domain) };
        let verified = is_verified(shared, domain).await;
        let body = json!({
            "IdentityType": "DOMAIN", "VerifiedForSendingStatus": verified, "Tags": identity.tags,
            "DkimAttributes": keys(&shared.account, domain, verified),
            "ConfigurationSetName": identity.configuration_set, "MailFromAttributes": identity.mail_from,
        });
        (200, body)
    }

    /// From a domain that is verified, and by a set that is there.
    async fn send(&self, shared: &Shared, body: &Value) -> Answer {
        let from = text(&body["FromEmailAddress"]);
        let domain = from.rsplit_once('@').map_or("", |(_, domain)| domain).trim_end_matches('>').to_owned();
        let is_known = lock(&self.identities).contains_key(&domain);
        if !is_known || !is_verified(shared, &domain).await {
            let message = format!("Email address is not verified. The following identities failed the check: {from}");
            return (400, json!({ "__type": "MessageRejected", "message": message }));
        }
        let set = text(&body["ConfigurationSetName"]);
        if !set.is_empty() && !lock(&self.sets).contains_key(&set) {
            return missing(&set);
        }
        let simple = &body["Content"]["Simple"];
        let mail = Mail {
            from,
            to: text(&body["Destination"]["ToAddresses"][0]),
            subject: text(&simple["Subject"]["Data"]),
            id: text(&simple["Headers"][0]["Value"]),
        };
        let mut mails = lock(&self.mails);
        mails.push(mail);
        (200, json!({ "MessageId": format!("{:060x}", mails.len()) }))
    }
}

/// Once all of its keys are in the zone.
async fn is_verified(shared: &Shared, domain: &str) -> bool {
    let sets = record_sets(shared).await;
    tokens(&shared.account, domain).iter().all(|token| {
        let name = format!("{token}._domainkey.{domain}");
        sets.iter().any(|set| set.kind == "CNAME" && set.name == name)
    })
}

/// <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_DkimAttributes.html>
fn keys(account: &str, domain: &str, verified: bool) -> Value {
    json!({
        "SigningEnabled": true, "Status": if verified { "SUCCESS" } else { "PENDING" },
        "Tokens": tokens(account, domain), "SigningAttributesOrigin": "AWS_SES",
        "NextSigningKeyLength": "RSA_2048_BIT", "CurrentSigningKeyLength": "RSA_2048_BIT",
    })
}

/// Three, the same each time, of 32 letters and digits.
fn tokens(account: &str, domain: &str) -> [String; 3] {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    [0_u8, 1, 2].map(|number| {
        let digest = Sha256::new().chain_update(account).chain_update(domain).chain_update([number]).finalize();
        digest.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
    })
}

/// Identity, set or address in the path: `/v2/email/identities/{name}`, `/v2/email/suppression/addresses/{name}`.
fn named(call: &Call) -> String {
    let path = call.path.split('?').next().unwrap_or_default();
    let mut parts = path.split('/').skip(3).skip_while(|part| *part == "suppression").skip(1);
    let encoded = parts.next().unwrap_or_default();
    percent_encoding::percent_decode_str(encoded).decode_utf8_lossy().into_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn there(name: &str) -> Answer {
    (400, json!({ "__type": "AlreadyExistsException", "message": format!("{name} already exists.") }))
}

fn missing(name: &str) -> Answer {
    (404, json!({ "__type": "NotFoundException", "message": format!("{name} does not exist.") }))
}

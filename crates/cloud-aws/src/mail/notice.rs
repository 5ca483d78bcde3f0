//! Whether a message is SNS's, and of our topic: it is signed by a key whose certificate SNS itself serves.
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use stackpro_cloud::{CloudError, MailEvent, Result};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Ses, told};
use crate::Aws;
use crate::error::classify;
use crate::http::Http;

const CALL: &str = "mail.read_events";
/// Of a certificate, in PEM; they are of some 2 KB.
const LIMIT_BYTES: usize = 64 * 1024;
/// SNS has one or two at a time.
const KEPT: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notice {
    #[serde(rename = "Type")]
    kind: String,
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    message: String,
    timestamp: String,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    certificate_url: String,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
}

impl Notice {
    /// What is signed: names and values, in this order, each on a line.
    fn signed(&self) -> String {
        let is_notification = self.kind == "Notification";
        let fields = [
            ("Message", Some(&self.message)),
            ("MessageId", Some(&self.message_id)),
            ("Subject", self.subject.as_ref().filter(|_| is_notification)),
            ("SubscribeURL", self.subscribe_url.as_ref().filter(|_| !is_notification)),
            ("Timestamp", Some(&self.timestamp)),
            ("Token", self.token.as_ref().filter(|_| !is_notification)),
            ("TopicArn", Some(&self.topic_arn)),
            ("Type", Some(&self.kind)),
        ];
        let present = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        present.fold(String::new(), |text, (name, value)| format!("{text}{name}\n{value}\n"))
    }
}

/// SNS's public keys, by the address of their certificates.
pub(super) struct Keys {
    /// All certificates are below one of these.
    served_at: Vec<String>,
    kept: Mutex<HashMap<String, Vec<u8>>>,
    http: Http,
}

impl Keys {
    pub(super) fn new(aws: &Aws) -> Self {
        let region = aws.region().unwrap_or_default();
        let served_at = match &aws.settings().endpoint {
            // Everything of an emulator's is there.
            Some(endpoint) => vec![format!("{}/", endpoint.trim_end_matches('/'))],
            None => ["com", "com.cn"].map(|end| format!("https://sns.{region}.amazonaws.{end}/")).to_vec(),
        };
        Self { served_at, kept: Mutex::default(), http: Http::default() }
    }

    async fn key(&self, url: &str) -> Result<Vec<u8>> {
        if !self.served_at.iter().any(|start| url.starts_with(start)) {
            return Err(refused("its certificate is not SNS's"));
        }
        if let Some(key) = self.kept().get(url) {
            return Ok(key.clone());
        }
        let later = |cause| CloudError::Transient { call: CALL, cause };
        let pem = self.http.get(url, LIMIT_BYTES).await.map_err(later)?;
        let key = public_key(&pem).ok_or_else(|| refused("its certificate cannot be read"))?;
        let mut kept = self.kept();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(url.to_owned(), key.clone());
        Ok(key)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ses {
    /// What a request to us tells, once it is proved. A subscription is confirmed by a call, so that no address that
    /// somebody sends is ever followed.
    pub(super) async fn hear(&self, body: &[u8]) -> Result<Vec<MailEvent>> {
        let notice: Notice = serde_json::from_slice(body).map_err(|_| refused("it is not a message of SNS's"))?;
        // Before anything is fetched for it.
        if notice.topic_arn != self.topic().await? {
            return Err(refused("it is of another topic"));
        }
        self.prove(&notice).await?;
        match notice.kind.as_str() {
            "Notification" => Ok(told::events(&notice.message).unwrap_or_else(|| {
                // SES says a word when it first reaches the topic.
                tracing::info!(message = notice.message_id, "a message about mail holds no event");
                Vec::new()
            })),
            "SubscriptionConfirmation" => {
                let token = notice.token.ok_or_else(|| refused("it has no token"))?;
                let request = self.topics.confirm_subscription().topic_arn(notice.topic_arn).token(token);
                // Nobody ends it but the account.
                let answer = request.authenticate_on_unsubscribe("true").send().await;
                answer.map(|_| Vec::new()).map_err(|error| classify("sns.ConfirmSubscription", error))
            }
            _ => {
                tracing::warn!(kind = notice.kind, "what becomes of mails is not told any more");
                Ok(Vec::new())
            }
        }
    }

    async fn prove(&self, notice: &Notice) -> Result<()> {
        if notice.signature_version != "2" {
            return Err(refused("it is not signed with SHA-256, which our topic asks for"));
        }
        let signature = aws_smithy_types::base64::decode(&notice.signature);
        let signature = signature.map_err(|_| refused("its signature cannot be read"))?;
        let key = self.keys.key(&notice.certificate_url).await?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        key.verify(notice.signed().as_bytes(), &signature).map_err(|_| refused("its signature is not SNS's"))
    }
}

/// The key of a certificate, as an RSA public key in DER.
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

fn refused(cause: &str) -> CloudError {
    CloudError::Refused { call: CALL, cause: cause.to_owned() }
}

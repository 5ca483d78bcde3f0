//! What SNS brings: proved, or refused.

use std::sync::{Arc, Mutex};

use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use stackpro_cloud::{CloudError, Mail};
use stackpro_cloud_aws::{Route53, Ses};
use stackpro_domain::mail::Fate;

use crate::between::{Between, Call};
use crate::moto::Moto;

const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:test-mail-events";
/// A pair that signs nothing but what is here.
const KEY: &str = include_str!("sns/key.pem");
const CERTIFICATE: &str = include_str!("sns/certificate.pem");
const PATH: &str = "/SimpleNotificationService-1.pem";

/// By the order that SNS documents.
fn sign(notice: &mut Value) {
    let names = match notice["Type"].as_str().unwrap() {
        "Notification" => vec!["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        _ => vec!["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let text: String =
        names.into_iter().filter_map(|name| Some(format!("{name}\n{}\n", notice.get(name)?.as_str()?))).collect();
    let pem: String = KEY.lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&aws_smithy_types::base64::decode(pem).unwrap()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    notice["Signature"] = json!(aws_smithy_types::base64::encode(signature));
}

fn notice(endpoint: &str) -> Value {
    let event = json!({
        "eventType": "Bounce",
        "mail": {
            "timestamp": "2026-11-25T10:00:00.000Z", "messageId": "0107", "destination": ["ann@example.com"],
            "tags": { "stackpro-mail": ["0192-a"] },
        },
        "bounce": {
            "bounceType": "Permanent", "bounceSubType": "General", "timestamp": "2026-11-25T10:00:01.000Z",
            "bouncedRecipients": [{ "emailAddress": "ann@example.com" }],
        },
    });
    json!({
        "Type": "Notification", "MessageId": "m1", "TopicArn": TOPIC, "Subject": "Amazon SES Email Event Notification",
        "Message": event.to_string(), "Timestamp": "2026-11-25T10:00:02.000Z", "SignatureVersion": "2",
        "SigningCertURL": format!("{endpoint}{PATH}"),
    })
}

struct Setting {
    _moto: Moto,
    _between: Between,
    ses: Ses,
    endpoint: String,
    /// Calls by their description.
    calls: Arc<Mutex<Vec<String>>>,
}

impl Setting {
    async fn new() -> Self {
        let moto = Moto::start();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = calls.clone();
        let between = Between::and(&moto, move |call: &Call| {
            let body = call.text();
            let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
            seen.lock().unwrap().push(format!("{}{action}", call.what));
            match (call.what.ends_with(PATH), action) {
                (true, _) => Some((200, CERTIFICATE.to_owned())),
                (_, "ConfirmSubscription") => Some((200, confirmed(call))),
                _ => None,
            }
        })
        .await;
        let aws = between.aws(&moto).await;
        let endpoint = aws.settings().endpoint.clone().unwrap();
        Self { ses: Ses::new(&aws, &Route53::new(&aws)), _moto: moto, _between: between, endpoint, calls }
    }

    fn count(&self, what: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| call.ends_with(what)).count()
    }

    async fn refused(&self, notice: &Value) -> String {
        match self.ses.read_events(notice.to_string().as_bytes()).await {
            Err(CloudError::Refused { cause, .. }) => cause,
            other => panic!("{notice}: {other:?}"),
        }
    }
}

fn confirmed(call: &Call) -> String {
    assert_eq!(call.parameter("Token").as_deref(), Some("t0ken"));
    assert_eq!(call.parameter("TopicArn").as_deref(), Some(TOPIC));
    "<ConfirmSubscriptionResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><ConfirmSubscriptionResult>\
     <SubscriptionArn>arn</SubscriptionArn></ConfirmSubscriptionResult></ConfirmSubscriptionResponse>"
        .to_owned()
}

#[tokio::test]
async fn an_event_is_read_and_the_certificate_is_fetched_once() {
    let setting = Setting::new().await;
    let mut notice = notice(&setting.endpoint);
    sign(&mut notice);
    for _ in 0..2 {
        let events = setting.ses.read_events(notice.to_string().as_bytes()).await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].message.as_deref(), events[0].fate), (Some("0192-a"), Fate::HardBounce));
    }
    assert_eq!(setting.count(PATH), 1);

    // The first that SES publishes, and it has no subject.
    notice.as_object_mut().unwrap().remove("Subject");
    notice["Message"] = json!("Successfully validated SNS topic for Amazon SES event publishing.");
    sign(&mut notice);
    assert_eq!(setting.ses.read_events(notice.to_string().as_bytes()).await.unwrap(), []);
}

#[tokio::test]
async fn a_subscription_is_confirmed_by_a_call_and_no_address_is_followed() {
    let setting = Setting::new().await;
    let mut notice = notice(&setting.endpoint);
    notice["Type"] = json!("SubscriptionConfirmation");
    notice["Token"] = json!("t0ken");
    notice["SubscribeURL"] = json!(format!("{}/follow-me", setting.endpoint));
    sign(&mut notice);
    assert_eq!(setting.ses.read_events(notice.to_string().as_bytes()).await.unwrap(), []);
    assert_eq!((setting.count("ConfirmSubscription"), setting.count("/follow-me")), (1, 0));
}

#[tokio::test]
async fn what_is_not_proved_is_refused() {
    let setting = Setting::new().await;
    let mut good = notice(&setting.endpoint);
    sign(&mut good);
    let mut other_topic = notice(&setting.endpoint);
    other_topic["TopicArn"] = json!("arn:aws:sns:eu-central-1:123456789012:another");
    sign(&mut other_topic);
    assert!(setting.refused(&other_topic).await.contains("another topic"));
    let mut elsewhere = notice("https://sns.eu-central-1.amazonaws.com.evil.example");
    sign(&mut elsewhere);
    assert!(setting.refused(&elsewhere).await.contains("certificate"));
    assert_eq!(setting.count(PATH), 0, "nothing was fetched for them");

    for (field, value) in [
        ("Message", "{}"),
        ("Timestamp", "2026-11-25T10:00:03.000Z"),
        ("Subject", "another"),
        ("MessageId", "m2"),
        ("Signature", "AAAA"),
        ("Signature", "not base64!"),
        ("SignatureVersion", "1"),
    ] {
        let mut changed = good.clone();
        changed[field] = json!(value);
        setting.refused(&changed).await;
    }
    for body in ["", "{}", "[]", "null", "\u{0}"] {
        assert!(matches!(setting.ses.read_events(body.as_bytes()).await, Err(CloudError::Refused { .. })), "{body:?}");
    }
    setting.ses.read_events(good.to_string().as_bytes()).await.unwrap();
}

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stackpro_cloud::{CloudError, Dns, Mail, Message, Record, Tags};
use stackpro_cloud_aws::{Aws, Route53, Ses};

use crate::between::{Between, Call};
use crate::moto::Moto;

const DOMAIN: &str = "acme-law-7f3k.stackpro.test";
const SET: &str = "test_acme-law-7f3k";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:test-mail-events";

type Identities = Arc<Mutex<BTreeMap<String, Value>>>;

fn tags(resource: &str) -> Tags {
    Tags { resource_id: resource.into(), client_id: Some("acme-law-7f3k".into()) }
}

fn ses(aws: &Aws) -> Ses {
    Ses::new(aws, &Route53::new(aws))
}

fn failed(status: u16, code: &str, message: &str) -> (u16, String) {
    (status, json!({ "__type": code, "message": message }).to_string())
}

/// The emulator's identities have no keys and no MAIL FROM, and its configuration sets no destinations, so these are
/// kept here, as SES documents them.
fn identities(kept: &Identities, call: &Call) -> Option<(u16, String)> {
    let (method, path) = call.what.split_once(' ').unwrap();
    let path = path.split('?').next().unwrap();
    if let Some(rest) = path.strip_prefix("/v2/email/configuration-sets") {
        return Some(sets(kept, method, rest, &serde_json::from_slice(&call.body).unwrap_or_default()));
    }
    let is_list = path.ends_with("/list-identities");
    let (method, rest) = if is_list { ("GET", "") } else { (method, path.strip_prefix("/v2/email/identities")?) };
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let mut kept = kept.lock().unwrap();
    let mut parts = rest.trim_start_matches('/').split('/');
    let (domain, of) = (parts.next().unwrap(), parts.next());
    let answer = match (method, domain, of) {
        ("GET", "", None) => {
            let all: Vec<_> = kept
                .keys()
                .filter(|key| !key.contains('/'))
                .map(|name| json!({ "IdentityType": "DOMAIN", "IdentityName": name }))
                .collect();
            json!({ "EmailIdentities": all })
        }
        ("POST", "", None) => {
            let domain = body["EmailIdentity"].as_str().unwrap().to_owned();
            if kept.contains_key(&domain) {
                return Some(failed(400, "AlreadyExistsException", "it is there"));
            }
            let dkim = json!({ "SigningEnabled": true, "Status": "PENDING", "Tokens": ["k1", "k2", "k3"] });
            let set = &body["ConfigurationSetName"];
            kept.insert(domain, json!({ "DkimAttributes": dkim, "Tags": body["Tags"], "ConfigurationSetName": set }));
            json!({ "IdentityType": "DOMAIN", "DkimAttributes": dkim })
        }
        (_, domain, _) if !kept.contains_key(domain) => return Some(failed(404, "NotFoundException", "there is none")),
        ("GET", domain, None) => kept[domain].clone(),
        ("PUT", domain, Some("mail-from")) => {
            kept.get_mut(domain).unwrap()["MailFrom"] = body;
            json!({})
        }
        ("DELETE", domain, None) => {
            kept.remove(domain);
            json!({})
        }
        other => panic!("{other:?}"),
    };
    Some((200, answer.to_string()))
}

/// Sets as `SET/`, their destinations as `SET/TOPIC`, among the identities.
fn sets(kept: &Identities, method: &str, rest: &str, body: &Value) -> (u16, String) {
    let topic = body["EventDestination"]["SnsDestination"]["TopicArn"].as_str().unwrap_or_default();
    let name = rest.split('/').nth(1).or(body["ConfigurationSetName"].as_str()).unwrap();
    let key = format!("{name}/{topic}");
    let mut kept = kept.lock().unwrap();
    let there = kept.contains_key(&key);
    match method {
        "POST" if there => return failed(400, "AlreadyExistsException", "it is there"),
        "DELETE" if !there => return failed(404, "NotFoundException", "there is none"),
        "DELETE" => kept.retain(|other, _| !other.starts_with(&key)),
        _ => drop(kept.insert(key, body["EventDestination"]["MatchingEventTypes"].clone())),
    }
    (200, "{}".into())
}

async fn zone(aws: &Aws) -> BTreeMap<(String, String), String> {
    let client = aws_sdk_route53::Client::new(aws.sdk());
    let mut all = BTreeMap::new();
    for zone in client.list_hosted_zones().send().await.unwrap().hosted_zones {
        let sets = client.list_resource_record_sets().hosted_zone_id(&zone.id).send().await.unwrap();
        for set in sets.resource_record_sets.into_iter().filter(|set| !["SOA", "NS"].contains(&set.r#type.as_str())) {
            let values: Vec<_> = set.resource_records().iter().map(|record| record.value.as_str()).collect();
            all.insert((set.name.trim_end_matches('.').to_owned(), set.r#type.to_string()), values.join(" "));
        }
    }
    all
}

#[tokio::test]
async fn a_domain_may_send_and_proves_it_and_leaves_nothing_behind() {
    let moto = Moto::start();
    let kept = Identities::default();
    let (answers, mut broken) = (kept.clone(), false);
    let between = Between::and(&moto, move |call: &Call| {
        // The first time, the records are not written.
        if call.text().contains("_domainkey") && !broken {
            broken = true;
            return Some((500, String::new()));
        }
        identities(&answers, call)
    })
    .await;
    let aws = between.aws(&moto).await;
    let names = Route53::new(&aws);
    let target = ([192, 0, 2, 1], 443).into();
    let address = Record { name: DOMAIN.into(), target, ttl_seconds: 60, tags: tags("address") };
    names.upsert(&address).await.unwrap();
    let before = zone(&aws).await;

    let mail = Ses::new(&aws, &names);
    assert!(matches!(mail.create_identity(DOMAIN, &tags("r1")).await, Err(CloudError::Transient { .. })));
    for mail in [&mail, &ses(&aws)] {
        mail.create_identity(DOMAIN, &tags("r1")).await.unwrap();
    }
    let mut written = zone(&aws).await;
    written.retain(|key, _| !before.contains_key(key));
    let expected = [
        ("_dmarc.", "TXT", "\"v=DMARC1; p=reject\""),
        ("bounces.", "MX", "10 feedback-smtp.eu-central-1.amazonses.com"),
        ("bounces.", "TXT", "\"v=spf1 include:amazonses.com -all\""),
        ("k1._domainkey.", "CNAME", "k1.dkim.amazonses.com"),
        ("k2._domainkey.", "CNAME", "k2.dkim.amazonses.com"),
        ("k3._domainkey.", "CNAME", "k3.dkim.amazonses.com"),
    ];
    let expected = expected.map(|(name, kind, value)| ((format!("{name}{DOMAIN}"), kind.to_owned()), value.to_owned()));
    assert_eq!(written.into_iter().collect::<Vec<_>>(), expected);
    let from = kept.lock().unwrap()[DOMAIN]["MailFrom"].clone();
    assert_eq!(from["MailFromDomain"], format!("bounces.{DOMAIN}"));
    assert_eq!(kept.lock().unwrap()[DOMAIN]["ConfigurationSetName"], SET);
    assert!(kept.lock().unwrap().contains_key(&format!("{SET}/{TOPIC}")), "what becomes of its mails is told");

    let listed = mail.list_identities().await.unwrap();
    assert_eq!(
        listed.iter().map(|found| (found.domain.as_str(), &found.tags)).collect::<Vec<_>>(),
        [(DOMAIN, &tags("r1"))]
    );
    let calls = between.calls().len();
    mail.list_identities().await.unwrap();
    assert_eq!(between.calls().len() - calls, 1, "whose they are is asked for once");

    for _ in 0..2 {
        mail.delete_identity(DOMAIN).await.unwrap();
    }
    assert_eq!(zone(&aws).await, before, "the address and its companion stay");
    assert!(mail.list_identities().await.unwrap().is_empty());
    assert!(kept.lock().unwrap().is_empty(), "its set is gone, too");
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_stays() {
    let moto = Moto::start();
    let kept = Identities::default();
    let theirs = "theirs-7f3k.stackpro.test";
    for domain in [theirs, "example.com", "stackpro.test"] {
        let dkim = json!({ "SigningEnabled": true, "Tokens": ["a", "b", "c"] });
        kept.lock().unwrap().insert(domain.into(), json!({ "DkimAttributes": dkim, "Tags": [] }));
    }
    let answers = kept.clone();
    let between = Between::and(&moto, move |call: &Call| identities(&answers, call)).await;
    let aws = between.aws(&moto).await;
    let mail = ses(&aws);
    mail.create_identity(DOMAIN, &tags("r1")).await.unwrap();
    for domain in [theirs, "example.com", "stackpro.test", "notstackpro.test"] {
        let made = mail.create_identity(domain, &tags("r1")).await;
        assert!(
            matches!(&made, Err(CloudError::Refused { cause, .. }) if cause.contains(domain)),
            "{domain}: {made:?}"
        );
        mail.delete_identity(domain).await.unwrap();
    }
    assert!(matches!(mail.create_identity(DOMAIN, &tags("r2")).await, Err(CloudError::Refused { .. })));
    let left: Vec<_> = kept.lock().unwrap().keys().filter(|key| !key.contains('/')).cloned().collect();
    assert_eq!(left.len(), 4, "nothing of theirs was touched: {left:?}");
    assert_eq!(mail.list_identities().await.unwrap().len(), 1);
}

#[tokio::test]
async fn our_own_sender_is_made_in_the_zone_and_elsewhere_the_operator_is_told_to() {
    let moto = Moto::start();
    let kept = Identities::default();
    let answers = kept.clone();
    let between = Between::and(&moto, move |call: &Call| identities(&answers, call)).await;
    let aws = between.aws(&moto).await;
    let mail = ses(&aws);
    let refused = mail.prepare("elsewhere.example").await;
    assert!(matches!(&refused, Err(CloudError::Refused { cause, .. }) if cause.contains("elsewhere.example")));

    for mail in [&mail, &ses(&aws)] {
        mail.prepare("stackpro.test").await.unwrap();
    }
    let identity = kept.lock().unwrap()["stackpro.test"].clone();
    assert_eq!(identity["ConfigurationSetName"], "test");
    let zone = zone(&aws).await;
    assert!(zone.contains_key(&("k1._domainkey.stackpro.test".into(), "CNAME".into())), "{zone:?}");
    assert!(!zone.keys().any(|(name, _)| name.starts_with("_dmarc")), "the operator says it: {zone:?}");
    let told = kept.lock().unwrap()[&format!("test/{TOPIC}")].clone();
    assert_eq!(told, json!(["SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY"]));

    let topics = aws_sdk_sns::Client::new(aws.sdk());
    let attributes = topics.get_topic_attributes().topic_arn(TOPIC).send().await.unwrap().attributes.unwrap();
    assert!(attributes["Policy"].contains("ses.amazonaws.com"), "{attributes:?}");
    let found = topics.list_subscriptions_by_topic().topic_arn(TOPIC).send().await.unwrap().subscriptions.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].endpoint(), Some("https://console.stackpro.test/api/mail-events"));

    // What the operator has made stays theirs.
    kept.lock().unwrap().insert("theirs.example".into(), json!({ "Tags": [], "VerifiedForSendingStatus": false }));
    mail.prepare("theirs.example").await.unwrap();
}

#[tokio::test]
async fn a_mail_bears_its_id_and_each_refusal_says_whether_it_passes() {
    let moto = Moto::start();
    let cases = [
        (400, "MessageRejected", "Email address is not verified.", "transient"),
        (400, "MessageRejected", "Illegal address", "refused"),
        (400, "SendingPausedException", "paused", "transient"),
        (404, "NotFoundException", "Configuration set <test> does not exist.", "transient"),
        (429, "TooManyRequestsException", "Maximum sending rate exceeded.", "throttled"),
        (500, "InternalServiceError", "no", "transient"),
        (400, "BadRequestException", "no", "refused"),
    ];
    let mut answers = cases.map(|(status, code, said, _)| failed(status, code, said)).into_iter();
    let sent = Arc::new(Mutex::new(Value::Null));
    let seen = sent.clone();
    let between = Between::and(&moto, move |call: &Call| {
        if !call.what.contains("outbound-emails") {
            return None;
        }
        *seen.lock().unwrap() = serde_json::from_slice(&call.body).unwrap();
        answers.next()
    })
    .await;
    let aws = between.aws(&moto).await;
    let mail = ses(&aws);
    aws_sdk_sesv2::Client::new(aws.sdk()).create_email_identity().email_identity(DOMAIN).send().await.unwrap();
    let message = Message {
        id: "0192-a".into(),
        from: format!("Acme <hello@{DOMAIN}>"),
        to: "ann@example.com".into(),
        reply_to: None,
        subject: "Grüße".into(),
        text: "hello".into(),
        html: "<p>hello".into(),
    };
    for (_, code, said, expected) in cases {
        let kind = match mail.send(&message).await.unwrap_err() {
            CloudError::Transient { .. } => "transient",
            CloudError::Throttled { .. } => "throttled",
            CloudError::Refused { .. } => "refused",
            _ => "another",
        };
        assert_eq!(kind, expected, "{code}: {said}");
    }
    mail.send(&message).await.unwrap();
    let sent = sent.lock().unwrap().clone();
    assert_eq!(sent["ConfigurationSetName"], "test");
    assert_eq!(sent["EmailTags"], json!([{ "Name": "stackpro-mail", "Value": "0192-a" }]));
    let simple = &sent["Content"]["Simple"];
    assert_eq!(simple["Headers"], json!([{ "Name": "X-StackPro-Mail", "Value": "0192-a" }]));
    assert_eq!(simple["Subject"]["Data"], "Grüße");
    assert_eq!(
        (&simple["Body"]["Text"]["Data"], &simple["Body"]["Html"]["Data"]),
        (&json!("hello"), &json!("<p>hello"))
    );
    assert_eq!(sent["Destination"]["ToAddresses"], json!(["ann@example.com"]));
}

#[tokio::test]
async fn what_an_account_may_send_is_said_with_what_to_do_about_it() {
    let moto = Moto::start();
    let account = |production: bool, enabled: bool, status: &str, rate: f64| {
        let quota = json!({ "Max24HourSend": 200.0, "MaxSendRate": rate, "SentLast24Hours": 0.0 });
        json!({
            "ProductionAccessEnabled": production, "SendingEnabled": enabled, "EnforcementStatus": status,
            "SendQuota": quota,
        })
    };
    let cases = [
        (account(false, true, "HEALTHY", 1.0), Some(1), Some("sandbox")),
        (account(true, true, "HEALTHY", 14.0), Some(14), None),
        (account(true, true, "PROBATION", 14.0), Some(14), Some("under review")),
        (account(true, false, "SHUTDOWN", 0.5), Some(1), Some("SES sends nothing")),
        (account(true, true, "HEALTHY", -1.0), None, None),
    ];
    for (answer, per_second, warning) in cases {
        let between = Between::and(&moto, move |call: &Call| match call.what.as_str() {
            "GET /v2/email/account" => Some((200, answer.to_string())),
            what if what.starts_with("DELETE /v2/email/suppression") => {
                Some(failed(404, "NotFoundException", "there is none"))
            }
            _ => None,
        })
        .await;
        let mail = ses(&between.aws(&moto).await);
        let found = mail.account().await.unwrap();
        assert_eq!(found.per_second, per_second);
        assert_eq!(found.warning.is_some(), warning.is_some(), "{found:?}");
        let check = mail.check().await.found;
        match warning {
            Some(part) => assert!(check.unwrap_err().contains(part)),
            None => assert!(check.is_ok()),
        }
        mail.forgive("ann@example.com").await.unwrap();
    }
}

//! What SES says of a mail, in JSON.
//! <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html>

use std::collections::HashMap;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::Deserialize;
use stackpro_cloud::MailEvent;
use stackpro_domain::mail::Fate;
use stackpro_domain::{Time, names};

use super::TAG;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "eventType")]
    kind: String,
    mail: Told,
    bounce: Option<Bounce>,
    complaint: Option<Complaint>,
    delivery: Option<Delivery>,
    reject: Option<Reject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    timestamp: String,
    message_id: String,
    #[serde(default)]
    destination: Vec<String>,
    #[serde(default)]
    tags: HashMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounce {
    #[serde(rename = "bounceType")]
    kind: String,
    #[serde(default, rename = "bounceSubType")]
    reason: String,
    bounced_recipients: Vec<Recipient>,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complaint {
    complained_recipients: Vec<Recipient>,
    #[serde(rename = "complaintFeedbackType")]
    reason: Option<String>,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recipient {
    email_address: String,
    diagnostic_code: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    recipients: Vec<String>,
    smtp_response: Option<String>,
    timestamp: String,
}

#[derive(Deserialize)]
struct Reject {
    reason: Option<String>,
}

/// What happened to whom, and when.
struct Happened {
    to: String,
    fate: Fate,
    detail: String,
    at: String,
}

/// Nothing of a kind of event that we did not ask for. None when it is no event of SES's.
pub(super) fn events(json: &str) -> Option<Vec<MailEvent>> {
    let Event { kind, mail, bounce, complaint, delivery, reject } = serde_json::from_str(json).ok()?;
    let to_all = |fate, detail: String| {
        let each = mail.destination.iter();
        each.map(|to| Happened { to: to.clone(), fate, detail: detail.clone(), at: mail.timestamp.clone() }).collect()
    };
    let happened: Vec<Happened> = match kind.as_str() {
        "Send" => to_all(Fate::Sent, String::new()),
        "Reject" => to_all(Fate::Rejected, reject?.reason.unwrap_or_default()),
        "Delivery" => delivered(delivery?),
        "Bounce" => bounced(bounce?),
        "Complaint" => complained(complaint?),
        _ => Vec::new(),
    };
    let tag = |name: &str| mail.tags.get(name).and_then(|values| values.first()).cloned();
    let told = happened.into_iter().filter_map(|happened| {
        let to = names::mailbox(&happened.to)?;
        Some(MailEvent {
            id: format!("{}/{}/{to}", mail.message_id, happened.fate.as_str()),
            message: tag(TAG),
            from_domain: tag("ses:from-domain"),
            to,
            fate: happened.fate,
            detail: happened.detail,
            at: time(&happened.at)?,
        })
    });
    Some(told.collect())
}

fn delivered(delivery: Delivery) -> Vec<Happened> {
    let Delivery { recipients, smtp_response, timestamp } = delivery;
    let detail = smtp_response.unwrap_or_default();
    let happened = |to| Happened { to, fate: Fate::Delivered, detail: detail.clone(), at: timestamp.clone() };
    recipients.into_iter().map(happened).collect()
}

/// Of what is not known to be for good, SES says that a mail may reach the address later.
fn bounced(bounce: Bounce) -> Vec<Happened> {
    let Bounce { kind, reason, bounced_recipients, timestamp } = bounce;
    let fate = if kind == "Permanent" { Fate::HardBounce } else { Fate::SoftBounce };
    let happened = |recipient: Recipient| {
        let said = recipient.diagnostic_code.unwrap_or(kind.clone());
        let detail = format!("{reason}: {said}");
        Happened { to: recipient.email_address, fate, detail, at: timestamp.clone() }
    };
    bounced_recipients.into_iter().map(happened).collect()
}

fn complained(complaint: Complaint) -> Vec<Happened> {
    let Complaint { complained_recipients, reason, timestamp } = complaint;
    let detail = reason.unwrap_or_default();
    let happened = |recipient: Recipient| Happened {
        to: recipient.email_address,
        fate: Fate::Complaint,
        detail: detail.clone(),
        at: timestamp.clone(),
    };
    complained_recipients.into_iter().map(happened).collect()
}

fn time(text: &str) -> Option<Time> {
    DateTime::from_str(text, Format::DateTime).ok()?.to_millis().ok().map(Time)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(event: &str, more: Value) -> Vec<MailEvent> {
        let mut said = json!({
            "eventType": event,
            "mail": {
                "timestamp": "2026-11-25T10:00:00.000Z",
                "messageId": "0107",
                "source": "StackPro <hello@stackpro.example>",
                "destination": ["Ann <Ann@Example.com>", "bob@example.com"],
                "tags": { "stackpro-mail": ["0192-a"], "ses:from-domain": ["stackpro.example"] },
            },
        });
        said.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        events(&said.to_string()).unwrap()
    }

    fn brief(events: &[MailEvent]) -> Vec<(&str, Fate, &str)> {
        events.iter().map(|event| (event.to.as_str(), event.fate, event.detail.as_str())).collect()
    }

    #[test]
    fn each_recipient_has_a_fate_of_their_own() {
        let at = "2026-11-25T10:00:01.500Z";
        let sent = told("Send", json!({ "send": {} }));
        assert_eq!(brief(&sent), [("ann@example.com", Fate::Sent, ""), ("bob@example.com", Fate::Sent, "")]);
        assert_eq!(sent[0].message.as_deref(), Some("0192-a"));
        assert_eq!(sent[0].from_domain.as_deref(), Some("stackpro.example"));
        assert_ne!(sent[0].id, sent[1].id);

        let said = json!({ "timestamp": at, "recipients": ["ann@example.com"], "smtpResponse": "250 ok" });
        let delivered = told("Delivery", json!({ "delivery": said }));
        assert_eq!(brief(&delivered), [("ann@example.com", Fate::Delivered, "250 ok")]);
        assert_eq!(delivered[0].at.0 - sent[0].at.0, 1_500);

        let said = json!({ "timestamp": at, "complaintFeedbackType": "abuse",
                           "complainedRecipients": [{ "emailAddress": "ann@example.com" }] });
        let complained = told("Complaint", json!({ "complaint": said }));
        assert_eq!(brief(&complained), [("ann@example.com", Fate::Complaint, "abuse")]);

        let rejected = told("Reject", json!({ "reject": { "reason": "Bad content" } }));
        assert_eq!(rejected.len(), 2);
        assert_eq!(rejected[1].fate, Fate::Rejected);
    }

    #[test]
    fn only_what_is_permanent_is_for_good() {
        for (kind, fate) in
            [("Permanent", Fate::HardBounce), ("Transient", Fate::SoftBounce), ("Undetermined", Fate::SoftBounce)]
        {
            let who = json!([{ "emailAddress": "ann@example.com", "diagnosticCode": "smtp; 550 no such user" }]);
            let said = json!({ "bounceType": kind, "bounceSubType": "General", "bouncedRecipients": who,
                               "timestamp": "2026-11-25T10:00:01Z" });
            let bounced = told("Bounce", json!({ "bounce": said }));
            assert_eq!(brief(&bounced), [("ann@example.com", fate, "General: smtp; 550 no such user")]);
        }
    }

    #[test]
    fn what_nobody_asked_for_is_nothing_and_what_is_no_event_is_none() {
        assert_eq!(told("Open", json!({ "open": {} })), []);
        assert_eq!(events("{}"), None);
        assert_eq!(events("Successfully validated SNS topic for Amazon SES event publishing."), None);
    }
}

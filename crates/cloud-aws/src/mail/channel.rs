//! How SES tells what becomes of mails: each configuration set publishes to one topic of SNS, and the control plane
//! subscribes to it. A client's domain has a set of its own, our own mails have another one.

use aws_sdk_sesv2::types::{
    EventDestinationDefinition, EventType, ReputationOptions, SendingOptions, SnsDestination, SuppressionListReason,
    SuppressionOptions, Tag,
};
use serde_json::json;
use stackpro_cloud::{CloudError, Result};

use super::{Ses, unbuilt};
use crate::error::{classify, code, is};
use crate::tags::INSTALLATION;

/// Of a set's one destination.
const DESTINATION: &str = "control-plane";
/// Below the control plane's address (`crates/server/src/http/mail_events.rs`).
const PATH: &str = "/api/mail-events";
const THERE: &str = "AlreadyExistsException";

impl Ses {
    /// Topic, subscription, and the set of our own mails, made or put right.
    pub(super) async fn open_channel(&self) -> Result<()> {
        let topic = self.make_topic().await?;
        let server = self.aws.settings().server_url.trim_end_matches('/');
        let protocol = server.split_once("://").map_or("https", |(scheme, _)| scheme);
        // SNS answers it with a signed message, which `hear` confirms. A subscription that is there is found.
        let request = self.topics.subscribe().topic_arn(&topic).protocol(protocol).endpoint(format!("{server}{PATH}"));
        request.send().await.map_err(|error| classify("sns.Subscribe", error))?;
        self.make_set(&self.own_set()).await
    }

    /// Where everything is published, by its name alone: nobody needs to ask.
    pub(super) async fn topic(&self) -> Result<String> {
        let identity = self.aws.identity().await?;
        let region = self.aws.region().unwrap_or_default();
        Ok(format!("arn:{}:sns:{region}:{}:{}", identity.partition, identity.account, self.topic_name()))
    }

    fn topic_name(&self) -> String {
        format!("{}-mail-events", self.aws.settings().installation)
    }

    async fn make_topic(&self) -> Result<String> {
        const CALL: &str = "sns.SetTopicAttributes";
        let (topic, identity) = (self.topic().await?, self.aws.identity().await?);
        let tag = aws_sdk_sns::types::Tag::builder().key(INSTALLATION).value(&self.aws.settings().installation);
        // Found when it is there; attributes given here would have to be the very same then.
        let request = self.topics.create_topic().name(self.topic_name()).tags(tag.build().map_err(unbuilt)?);
        request.send().await.map_err(|error| classify("sns.CreateTopic", error))?;
        // <https://docs.aws.amazon.com/ses/latest/dg/configure-sns-notifications.html>
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Service": "ses.amazonaws.com" },
                "Action": "sns:Publish",
                "Resource": topic,
                "Condition": { "StringEquals": { "AWS:SourceAccount": identity.account } },
            }],
        });
        // Signatures by SHA-256; the first version's are by SHA-1.
        for (name, value) in [("SignatureVersion", "2".to_owned()), ("Policy", policy.to_string())] {
            let request = self.topics.set_topic_attributes().topic_arn(&topic).attribute_name(name);
            request.attribute_value(value).send().await.map_err(|error| classify(CALL, error))?;
        }
        Ok(topic)
    }

    /// Of our own mails.
    pub(super) fn own_set(&self) -> String {
        self.aws.settings().installation.clone()
    }

    /// Of what comes from a client's domain, which is one label below the zone.
    pub(super) fn set_of(&self, domain: &str) -> String {
        let label = domain.split('.').next().unwrap_or_default();
        format!("{}_{label}", self.aws.settings().installation)
    }

    pub(super) async fn make_set(&self, name: &str) -> Result<()> {
        const CALL: &str = "ses.CreateConfigurationSet";
        self.pace.turn(CALL).await?;
        let tag = Tag::builder().key(INSTALLATION).value(&self.aws.settings().installation).build().map_err(unbuilt)?;
        let suppressed = [SuppressionListReason::Bounce, SuppressionListReason::Complaint].to_vec();
        let request = self.api.create_configuration_set().configuration_set_name(name).tags(tag);
        let request = request.sending_options(SendingOptions::builder().sending_enabled(true).build());
        let request = request.reputation_options(ReputationOptions::builder().reputation_metrics_enabled(true).build());
        let request =
            request.suppression_options(SuppressionOptions::builder().set_suppressed_reasons(Some(suppressed)).build());
        match request.send().await {
            // The emulator says so in a longer word.
            Err(error) if code(&error).is_none_or(|code| !code.ends_with(THERE)) => {
                return Err(classify(CALL, error));
            }
            _ => {}
        }
        self.make_destination(name).await
    }

    async fn make_destination(&self, set: &str) -> Result<()> {
        const CALL: &str = "ses.CreateConfigurationSetEventDestination";
        self.pace.turn(CALL).await?;
        let topic = SnsDestination::builder().topic_arn(self.topic().await?).build().map_err(unbuilt)?;
        let told = [EventType::Send, EventType::Reject, EventType::Bounce, EventType::Complaint, EventType::Delivery];
        let destination = EventDestinationDefinition::builder().enabled(true).sns_destination(topic);
        let destination = destination.set_matching_event_types(Some(told.to_vec())).build();
        let request = self.api.create_configuration_set_event_destination().configuration_set_name(set);
        match request.event_destination_name(DESTINATION).event_destination(destination).send().await {
            Err(error) if is(&error, THERE) => Ok(()),
            // SES tries the topic; it may not be there yet.
            Err(error) if is(&error, "BadRequestException") => {
                let cause = format!("SES cannot publish to the topic {} (yet)", self.topic_name());
                Err(CloudError::Transient { call: CALL, cause })
            }
            Err(error) => Err(classify(CALL, error)),
            Ok(_) => Ok(()),
        }
    }

    pub(super) async fn remove_set(&self, name: &str) -> Result<()> {
        const CALL: &str = "ses.DeleteConfigurationSet";
        self.pace.turn(CALL).await?;
        match self.api.delete_configuration_set().configuration_set_name(name).send().await {
            Err(error) if !is(&error, "NotFoundException") => Err(classify(CALL, error)),
            _ => Ok(()),
        }
    }
}

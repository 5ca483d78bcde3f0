//! Domains that may send. Below a client's domain are three keys (DKIM), a bounce domain of its own (MAIL FROM), so
//! that SPF is for the same domain as the sender, and a DMARC policy by which others refuse what only pretends to come
//! from it.

use std::collections::HashMap;

use aws_sdk_route53::types::RrType;
use aws_sdk_sesv2::operation::get_email_identity::GetEmailIdentityOutput;
use aws_sdk_sesv2::types::{BehaviorOnMxFailure, DkimAttributes, Tag};
use stackpro_cloud::{CloudError, MailIdentity, Result, Tags};

use super::{Ses, unbuilt};
use crate::error::{classify, is};
use crate::tags;
use crate::zone::RecordSet;

/// Where bounces go, below the domain.
const BOUNCES: &str = "bounces";
const DMARC: &str = "_dmarc.";
/// Of mail's records, in seconds.
const TTL: u32 = 300;
/// Where DKIM's keys are when SES does not say.
/// <https://docs.aws.amazon.com/ses/latest/dg/send-email-authentication-dkim-easy-setup-domain.html>
const KEYS: &str = "dkim.amazonses.com";

impl Ses {
    /// Lets mail be sent from this domain, once SES has seen the records: within minutes, mostly.
    ///
    /// # Errors
    /// `Refused` when the domain is not below the zone, or is somebody else's identity.
    pub(super) async fn make_identity(&self, domain: &str, tags: &Tags) -> Result<()> {
        if !self.is_below(domain) {
            let cause = format!("{domain} is not below the zone {}: its records cannot be written", self.zone.domain);
            return Err(CloudError::Refused { call: "ses.CreateEmailIdentity", cause });
        }
        let set = self.set_of(domain);
        self.make_set(&set).await?;
        let dkim = self.make(domain, &set, tags).await?;
        self.publish(domain, &self.records(domain, &dkim)?).await
    }

    /// The domain that our own mails come from. In the zone it is made, and what it says of DMARC stays the
    /// operator's, as a domain that they have made themselves does.
    ///
    /// # Errors
    /// `Refused` when it is outside of the zone and nobody has made it.
    pub(super) async fn make_sender(&self, domain: &str) -> Result<()> {
        match self.find(domain).await? {
            Some(found) if found.verified_for_sending_status || self.tags_of(&found).is_none() => return Ok(()),
            _ => {}
        }
        if !self.is_below(domain) && domain != self.zone.domain {
            let cause = format!(
                "mails come from {domain}, which SES does not know and which is not in the zone {}: make it an \
                 identity in the SES console, or set another STACKPRO_MAIL_FROM",
                self.zone.domain
            );
            return Err(CloudError::Refused { call: "ses.CreateEmailIdentity", cause });
        }
        let dkim = self.make(domain, &self.own_set(), &Tags::default()).await?;
        let mut records = self.records(domain, &dkim)?;
        records.retain(|set| !set.name.starts_with(DMARC));
        self.publish(domain, &records).await
    }

    async fn publish(&self, domain: &str, records: &[RecordSet]) -> Result<()> {
        const CALL: &str = "ses.PutEmailIdentityMailFromAttributes";
        self.pace.turn(CALL).await?;
        let from = format!("{BOUNCES}.{domain}");
        let call = self.api.put_email_identity_mail_from_attributes().email_identity(domain).mail_from_domain(&from);
        // Mail goes out also while that domain is not there yet.
        let call = call.behavior_on_mx_failure(BehaviorOnMxFailure::UseDefaultValue);
        call.send().await.map_err(|error| classify(CALL, error))?;
        // Nobody waits for them but SES, which looks by itself.
        self.zone.write(records).await
    }

    /// Removes the configuration set and the records, then the identity, which is how what is left of them can be
    /// found. Nothing happens when there is none, or it is not ours.
    pub(super) async fn remove_identity(&self, domain: &str) -> Result<()> {
        const CALL: &str = "ses.DeleteEmailIdentity";
        if self.is_below(domain) {
            self.remove_set(&self.set_of(domain)).await?;
        }
        let Some(found) = self.find(domain).await?.filter(|found| self.tags_of(found).is_some()) else {
            return Ok(());
        };
        let names = found.dkim_attributes.as_ref().map_or_else(Vec::new, |dkim| names(domain, dkim));
        let mut records = self.zone.at(domain, true).await?;
        records.retain(|found| names.iter().any(|(name, kind)| (name, kind) == (&found.set.name, &found.set.kind)));
        self.zone.delete(&records).await?;
        self.pace.turn(CALL).await?;
        match self.api.delete_email_identity().email_identity(domain).send().await {
            Err(error) if !is(&error, "NotFoundException") => return Err(classify(CALL, error)),
            _ => {}
        }
        self.known().remove(domain);
        Ok(())
    }

    /// This installation's.
    pub(super) async fn identities(&self) -> Result<Vec<MailIdentity>> {
        const CALL: &str = "ses.ListEmailIdentities";
        let mut pages = self.api.list_email_identities().page_size(1_000).into_paginator().send();
        let mut ours = HashMap::new();
        self.pace.turn(CALL).await?;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify(CALL, error))?;
            if page.next_token.is_some() {
                self.pace.turn(CALL).await?;
            }
            let domains = page.email_identities.unwrap_or_default().into_iter().filter_map(|found| found.identity_name);
            for domain in domains.filter(|domain| self.is_below(domain)) {
                let known = self.known().get(&domain).cloned();
                let tags = match known {
                    Some(tags) => tags,
                    None => match self.find(&domain).await? {
                        Some(found) => self.tags_of(&found),
                        // Removed since.
                        None => continue,
                    },
                };
                // At once: what was learned stays so, whatever comes of this look.
                self.known().insert(domain.clone(), tags.clone());
                ours.insert(domain, tags);
            }
        }
        self.known().clone_from(&ours);
        Ok(ours.into_iter().filter_map(|(domain, tags)| Some(MailIdentity { domain, tags: tags? })).collect())
    }

    /// Makes the identity, or finds it: its keys.
    async fn make(&self, domain: &str, set: &str, tags: &Tags) -> Result<DkimAttributes> {
        const CALL: &str = "ses.CreateEmailIdentity";
        let pairs = tags::pairs(&self.aws.settings().installation, tags).into_iter();
        let built = pairs.map(|(key, value)| Tag::builder().key(key).value(value).build());
        let marked = built.collect::<Result<Vec<_>, _>>().map_err(unbuilt)?;
        self.pace.turn(CALL).await?;
        let request = self.api.create_email_identity().email_identity(domain).configuration_set_name(set);
        let dkim = match request.set_tags(Some(marked)).send().await {
            Ok(made) => {
                self.known().insert(domain.to_owned(), Some(tags.clone()));
                made.dkim_attributes
            }
            Err(error) if is(&error, "AlreadyExistsException") => {
                let found = self.find(domain).await?;
                let Some(found) = found else {
                    let cause = format!("{domain} is there and cannot be seen yet");
                    return Err(CloudError::Transient { call: CALL, cause });
                };
                if self.tags_of(&found).is_none_or(|found| found.resource_id != tags.resource_id) {
                    let cause = format!("{domain} is an identity of SES's already, and not this client's: remove it");
                    return Err(CloudError::Refused { call: CALL, cause });
                }
                found.dkim_attributes
            }
            Err(error) => return Err(classify(CALL, error)),
        };
        dkim.filter(|dkim| !dkim.tokens().is_empty()).ok_or_else(|| CloudError::Transient {
            call: CALL,
            cause: format!("SES has no DKIM keys for {domain} yet"),
        })
    }

    async fn find(&self, domain: &str) -> Result<Option<GetEmailIdentityOutput>> {
        const CALL: &str = "ses.GetEmailIdentity";
        self.pace.turn(CALL).await?;
        match self.api.get_email_identity().email_identity(domain).send().await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is(&error, "NotFoundException") => Ok(None),
            Err(error) => Err(classify(CALL, error)),
        }
    }

    fn tags_of(&self, found: &GetEmailIdentityOutput) -> Option<Tags> {
        tags::read(&self.aws.settings().installation, found.tags().iter().map(|tag| (tag.key(), tag.value())))
    }

    /// <https://docs.aws.amazon.com/ses/latest/dg/mail-from.html>
    fn records(&self, domain: &str, dkim: &DkimAttributes) -> Result<Vec<RecordSet>> {
        let Some(region) = self.aws.region() else {
            return Err(CloudError::Transient { call: "ses.CreateEmailIdentity", cause: "no region is known".into() });
        };
        let host = dkim.signing_hosted_zone().unwrap_or(KEYS).trim_end_matches('.');
        let mut values: Vec<_> = dkim.tokens().iter().map(|token| format!("{token}.{host}")).collect();
        values.push(format!("10 feedback-smtp.{region}.amazonses.com"));
        values.push("v=spf1 include:amazonses.com -all".to_owned());
        values.push("v=DMARC1; p=reject".to_owned());
        let named = names(domain, dkim).into_iter().zip(values);
        Ok(named.map(|((name, kind), value)| RecordSet::new(name, kind, TTL, vec![value])).collect())
    }

    fn is_below(&self, domain: &str) -> bool {
        domain.strip_suffix(self.zone.domain.as_str()).is_some_and(|start| start.len() > 1 && start.ends_with('.'))
    }
}

/// Of a domain's records for mail: its keys, then MAIL FROM's two, then DMARC's.
fn names(domain: &str, dkim: &DkimAttributes) -> Vec<(String, RrType)> {
    let mut names: Vec<_> =
        dkim.tokens().iter().map(|token| (format!("{token}._domainkey.{domain}"), RrType::Cname)).collect();
    names.push((format!("{BOUNCES}.{domain}"), RrType::Mx));
    names.push((format!("{BOUNCES}.{domain}"), RrType::Txt));
    names.push((format!("{DMARC}{domain}"), RrType::Txt));
    names
}

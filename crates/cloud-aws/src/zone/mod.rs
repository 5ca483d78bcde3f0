//! One hosted zone of Route 53's and its records, whoever needs them: addresses ([`crate::dns`]), mail, proofs for
//! certificates. It knows nothing of whose they are.
//!
//! ```text
//! records   as they are written here, and there
//! changes   made together, since a whole account has five calls a second
//! ```

mod changes;
mod records;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_route53::types::{
    Change, ChangeAction, HostedZone, HostedZoneConfig, ResourceRecordSet, RrType, Tag, TagResourceType,
};
use stackpro_cloud::{CloudError, Result};
use tokio::sync::OnceCell;

pub(crate) use changes::Unmade;
pub(crate) use records::RecordSet;

use crate::Aws;
use crate::error::{classify, is};
use crate::pace::Pace;
use crate::tags::INSTALLATION;
use changes::{Queue, Submitted};
use records::{plain_name, unbuilt};

/// A change is everywhere long before, and has been asked about, however many wait. What is asked for again later is
/// made again.
const FORGET: Duration = Duration::from_mins(10);
const LIST: &str = "route53.ListResourceRecordSets";
/// What Route 53 gives a new zone's SOA, in seconds.
const SOA_TTL: u32 = 900;
/// In a zone that is made here, so long the world may remember that a name is not there, in seconds: less than
/// the 15 minutes of Route 53's own, for a client who looks before their address is published.
const NEGATIVE_TTL: u32 = 60;

/// The changes for which somebody waits, by the records that they shall bring about.
type Awaited = HashMap<Vec<RecordSet>, Arc<Submitted>>;

pub(crate) struct Zone {
    client: aws_sdk_route53::Client,
    /// For every call of this zone's.
    pace: Pace,
    installation: String,
    /// Lower case, without the final dot.
    pub(crate) domain: String,
    id: OnceCell<String>,
    queue: Queue,
    awaited: Mutex<Awaited>,
}

/// A record set as it is, which is how it must be named to be deleted.
pub(crate) struct Found {
    pub(crate) set: RecordSet,
    raw: ResourceRecordSet,
}

/// One of several changes that happen together or not at all.
pub(crate) enum Edit<'a> {
    /// Refused when there is a set of this name and type.
    Create(&'a RecordSet),
    Upsert(&'a RecordSet),
    /// Refused when it is not as it was found any more.
    Delete(&'a Found),
}

impl Zone {
    pub(crate) fn new(aws: &Aws) -> Self {
        Self {
            client: aws_sdk_route53::Client::new(aws.sdk()),
            pace: Pace::of_route53(),
            installation: aws.settings().installation.clone(),
            domain: aws.settings().zone.trim_end_matches('.').to_ascii_lowercase(),
            id: OnceCell::new(),
            queue: Queue::default(),
            awaited: Mutex::default(),
        }
    }

    /// Makes each of these sets so, all or none. `Pending` until every name server answers them.
    pub(crate) async fn upsert(&self, sets: &[RecordSet]) -> Result<()> {
        if let Some(settled) = self.settle(sets).await {
            return settled;
        }
        let edits: Vec<_> = sets.iter().map(Edit::Upsert).collect();
        self.change(&edits, sets).await?;
        self.settle(sets).await.unwrap_or(Ok(()))
    }

    /// The same, for records that nobody waits for.
    pub(crate) async fn write(&self, sets: &[RecordSet]) -> Result<()> {
        let edits: Vec<_> = sets.iter().map(Edit::Upsert).collect();
        Ok(self.change(&edits, &[]).await?)
    }

    /// Removes what is there under these names and types. Nothing happens when nothing is.
    pub(crate) async fn remove(&self, keys: &[(&str, RrType)]) -> Result<()> {
        let mut found = Vec::new();
        for (name, kind) in keys {
            found.extend(self.at(name, false).await?.into_iter().filter(|found| found.set.kind == *kind));
        }
        self.delete(&found).await
    }

    /// Removes these sets if they are still as they were found.
    pub(crate) async fn delete(&self, found: &[Found]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let edits: Vec<_> = found.iter().map(Edit::Delete).collect();
        match self.change(&edits, &[]).await {
            Ok(()) => Ok(()),
            // Somebody else was quicker: what is there now is looked at again.
            Err(Unmade::Unfit(CloudError::Refused { call, cause })) => Err(CloudError::Transient { call, cause }),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes these changes together. Whoever waits for them does so by `awaited`, the sets that are to be answered.
    pub(crate) async fn change(&self, edits: &[Edit<'_>], awaited: &[RecordSet]) -> Result<(), Unmade> {
        let id = self.id().await.map_err(Unmade::Failed)?;
        let mut changes = Vec::new();
        for edit in edits {
            let (action, raw) = match edit {
                Edit::Create(set) => (ChangeAction::Create, set.to_aws()),
                Edit::Upsert(set) => (ChangeAction::Upsert, set.to_aws()),
                Edit::Delete(found) => (ChangeAction::Delete, Ok(found.raw.clone())),
            };
            let change = Change::builder().action(action).resource_record_set(raw.map_err(Unmade::Failed)?);
            changes.push(change.build().map_err(|error| Unmade::Failed(unbuilt(error)))?);
        }
        let names: Vec<_> = edits.iter().map(|edit| edit.name().to_owned()).collect();
        // Before the call, whatever its end: what anybody knows of these names may be out of date from now on.
        self.forget(&names);
        let submitted = self.queue.submit(&self.client, &self.pace, id, changes).await?;
        if !awaited.is_empty() {
            self.awaited().insert(awaited.to_vec(), submitted);
        }
        Ok(())
    }

    /// Whether these sets are answered by every name server; none when nobody here has just asked for them.
    pub(crate) async fn settle(&self, sets: &[RecordSet]) -> Option<Result<()>> {
        let submitted = self.awaited().get(sets).cloned()?;
        if submitted.age() > FORGET {
            self.awaited().remove(sets);
            return None;
        }
        // Several names may be in one change.
        let awaited = self.awaited().values().map(Arc::as_ptr).collect::<HashSet<_>>().len();
        let settled = submitted.settle(&self.client, &self.pace, awaited).await;
        if !matches!(settled, Err(CloudError::Pending { .. } | CloudError::Throttled { .. })) {
            self.awaited().remove(sets);
        }
        Some(settled)
    }

    /// What is there under a name, and under those below it when they are asked for.
    pub(crate) async fn at(&self, name: &str, below: bool) -> Result<Vec<Found>> {
        let end = format!(".{name}");
        let ours = |found: &Found| found.set.name == name || below && found.set.name.ends_with(&end);
        // Names below another follow it.
        let mut found = self.read(Some(name), |found| found.set.name == name || found.set.name.ends_with(&end)).await?;
        found.retain(ours);
        Ok(found)
    }

    pub(crate) async fn list(&self) -> Result<Vec<Found>> {
        self.read(None, |_| true).await
    }

    /// Page by page, from a name on, as long as it is wanted.
    async fn read(&self, from: Option<&str>, wanted: impl Fn(&Found) -> bool) -> Result<Vec<Found>> {
        let id = self.id().await?;
        let mut all = Vec::new();
        let mut request = self.client.list_resource_record_sets().hosted_zone_id(id);
        request = request.set_start_record_name(from.map(str::to_owned));
        loop {
            self.pace.turn(LIST).await?;
            let page = request.send().await.map_err(|error| classify(LIST, error))?;
            for raw in page.resource_record_sets {
                let found = Found { set: RecordSet::from_aws(&raw), raw };
                if !wanted(&found) {
                    return Ok(all);
                }
                all.push(found);
            }
            if !page.is_truncated {
                return Ok(all);
            }
            request = self
                .client
                .list_resource_record_sets()
                .hosted_zone_id(id)
                .set_start_record_name(page.next_record_name)
                .set_start_record_type(page.next_record_type)
                .set_start_record_identifier(page.next_record_identifier);
        }
    }

    /// The zone's id: found, or made the first time that it is needed.
    pub(crate) async fn id(&self) -> Result<&str> {
        let found = async {
            let found = self.find().await?;
            let made_here = found.as_ref().is_none_or(|zone| zone.caller_reference == self.reference());
            let id = match found {
                Some(zone) => zone.id,
                None => self.create().await?,
            };
            // Also when it was made by one of us who died right after.
            if made_here {
                self.tag(&id).await?;
                self.shorten_negative_answers(&id).await?;
            }
            Ok(id)
        };
        self.id.get_or_try_init(|| found).await.map(String::as_str)
    }

    /// Who answers for it, as [`stackpro_cloud::resolver::name_servers`] says it.
    pub(crate) async fn name_servers(&self, id: &str) -> Result<Vec<String>> {
        let answer = self.client.get_hosted_zone().id(id).send().await;
        let answer = answer.map_err(|error| classify("route53.GetHostedZone", error))?;
        let servers = answer.delegation_set.map(|set| set.name_servers).unwrap_or_default();
        let mut servers: Vec<String> = servers.iter().map(|server| plain_name(server)).collect();
        servers.sort();
        Ok(servers)
    }

    /// The public zone of exactly this name.
    pub(crate) async fn find(&self) -> Result<Option<HostedZone>> {
        const CALL: &str = "route53.ListHostedZonesByName";
        let mut found = Vec::new();
        let mut request = self.client.list_hosted_zones_by_name().dns_name(&self.domain);
        loop {
            self.pace.turn(CALL).await?;
            let page = request.send().await.map_err(|error| classify(CALL, error))?;
            let mut passed = false;
            for zone in page.hosted_zones {
                passed |= plain_name(&zone.name) != self.domain;
                let private = zone.config.as_ref().is_some_and(|config| config.private_zone);
                if !passed && !private {
                    found.push(zone);
                }
            }
            if passed || !page.is_truncated {
                break;
            }
            request = self.client.list_hosted_zones_by_name().set_dns_name(page.next_dns_name);
            request = request.set_hosted_zone_id(page.next_hosted_zone_id);
        }
        let ids = found.iter().map(|zone| zone.id.clone()).collect::<Vec<_>>().join(", ");
        let reference = self.reference();
        match found.iter().position(|zone| zone.caller_reference == reference) {
            Some(ours) => Ok(Some(found.swap_remove(ours))),
            None if found.len() > 1 => {
                let cause = format!(
                    "there are several public hosted zones named {} ({ids}), and the world asks one of them at most: \
                     delete the others",
                    self.domain
                );
                Err(CloudError::Refused { call: CALL, cause })
            }
            None => Ok(found.pop()),
        }
    }

    /// By which a zone that is made twice is made once.
    fn reference(&self) -> String {
        format!("stackpro-{}-{}", self.installation, self.domain)
    }

    async fn create(&self) -> Result<String> {
        const CALL: &str = "route53.CreateHostedZone";
        self.pace.turn(CALL).await?;
        let comment = format!("StackPro's clients ({})", self.installation);
        let made = self
            .client
            .create_hosted_zone()
            .name(&self.domain)
            .caller_reference(self.reference())
            .hosted_zone_config(HostedZoneConfig::builder().comment(comment).build())
            .send()
            .await;
        let id = match made {
            Ok(answer) => answer.hosted_zone.map(|zone| zone.id),
            // Made by another of us a moment ago; or by one whose zone was deleted since, and then a person has
            // to make it, since a reference serves once.
            Err(error) if is(&error, "HostedZoneAlreadyExists") => {
                let cause = format!(
                    "{} is just being made; or it was made before and deleted: then make the public hosted zone {} by hand",
                    self.domain, self.domain
                );
                return Err(CloudError::Transient { call: CALL, cause });
            }
            Err(error) => return Err(classify(CALL, error)),
        };
        let Some(id) = id else {
            return Err(CloudError::Transient { call: CALL, cause: "the answer does not name the zone".into() });
        };
        tracing::info!(zone = self.domain, id, "made a hosted zone; its domain must be delegated to it");
        Ok(id)
    }

    async fn tag(&self, id: &str) -> Result<()> {
        const CALL: &str = "route53.ChangeTagsForResource";
        self.pace.turn(CALL).await?;
        let tag = Tag::builder().key(INSTALLATION).value(&self.installation).build();
        let tagged = self
            .client
            .change_tags_for_resource()
            .resource_type(TagResourceType::Hostedzone)
            .resource_id(id.trim_start_matches("/hostedzone/"))
            .add_tags(tag)
            .send()
            .await;
        tagged.map(drop).map_err(|error| classify(CALL, error))
    }

    /// Resolvers remember that a name is not there for as long as the SOA lives or its last figure, whichever is
    /// less (RFC 2308, 5). One that is not Route 53's own any more is somebody's choice, and stays.
    /// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/SOA-NSrecords.html>
    async fn shorten_negative_answers(&self, id: &str) -> Result<()> {
        let request = self.client.list_resource_record_sets().hosted_zone_id(id).max_items(1);
        let request = request.start_record_name(&self.domain).start_record_type(RrType::Soa);
        self.pace.turn(LIST).await?;
        let page = request.send().await.map_err(|error| classify(LIST, error))?;
        let soa = page.resource_record_sets.first().map(RecordSet::from_aws);
        let Some(mut soa) = soa.filter(|set| set.kind == RrType::Soa && set.ttl_seconds == SOA_TTL) else {
            return Ok(());
        };
        soa.ttl_seconds = NEGATIVE_TTL;
        let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(soa.to_aws()?);
        self.queue.submit(&self.client, &self.pace, id, vec![change.build().map_err(unbuilt)?]).await?;
        Ok(())
    }

    fn forget(&self, names: &[String]) {
        self.awaited()
            .retain(|sets, submitted| submitted.age() <= FORGET && !sets.iter().any(|set| names.contains(&set.name)));
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edit<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Create(set) | Self::Upsert(set) => &set.name,
            Self::Delete(found) => &found.set.name,
        }
    }
}

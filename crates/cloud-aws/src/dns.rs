//! Names of clients on Route 53: an address and, beside it, a companion that says whose it is.
//!
//! Route 53 has no tags on records, and the operator's own records are in the same zone. So `acme.example.com A`
//! has a `_stackpro.acme.example.com TXT`, written and removed in the same change. What has none is not ours, and
//! is never touched. `docs/decisions/records-with-companions.md` says more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_route53::types::RrType;
use stackpro_cloud::{Check, CloudError, Dns, Record, Result, Tags, resolver};

use crate::zone::{Edit, Found, RecordSet, Unmade, Zone};
use crate::{Aws, AwsSettings};

const PREFIX: &str = "_stackpro.";
const HERITAGE: &str = "heritage=stackpro";
/// In seconds. It says the same for as long as the record is there.
const COMPANION_TTL: u32 = 300;
/// Of text records that answer a question of the moment, in seconds.
const TEXT_TTL: u32 = 10;
/// An address in DNS has no port; this is the scheme's own.
const HTTPS: u16 = 443;
const CALL: &str = "route53.ChangeResourceRecordSets";

/// [`Dns`] by one hosted zone.
pub struct Route53 {
    pub(crate) zone: Arc<Zone>,
    installation: String,
    resolver: Option<SocketAddr>,
}

/// What a name has of an address.
#[derive(Default)]
struct Held {
    addresses: Vec<Found>,
    companion: Option<Found>,
}

impl Route53 {
    pub fn new(aws: &Aws) -> Self {
        let AwsSettings { installation, resolver, .. } = aws.settings();
        Self { zone: Arc::new(Zone::new(aws)), installation: installation.clone(), resolver: *resolver }
    }

    /// What a doctor says of the zone, and of whether the world asks it; nothing is made by looking.
    pub(crate) async fn check(&self) -> Check {
        let found = self.delegation().await;
        Check { name: "zone".into(), found: found.unwrap_or_else(|error| Err(error.to_string())) }
    }

    async fn delegation(&self) -> Result<std::result::Result<String, String>> {
        let domain = &self.zone.domain;
        let Some(zone) = self.zone.find().await? else {
            return Ok(Ok(format!("{domain} is made with the first client; its domain must be delegated to it then")));
        };
        let (id, serving) = (zone.id.trim_start_matches("/hostedzone/"), self.zone.name_servers(&zone.id).await?);
        let Some(resolver) = self.resolver.or_else(resolver::of_the_system) else {
            return Ok(Err("no name server is known: set STACKPRO_RESOLVER".into()));
        };
        let advice = format!("set the name servers of {domain}, where it is registered, to {}", serving.join(", "));
        Ok(match resolver::name_servers(resolver, domain).await {
            Ok(asked) if asked == serving => Ok(format!("{domain} is {id}, and the world asks it")),
            Ok(asked) if asked.is_empty() => Err(format!("{domain} is {id}, and the world asks nobody: {advice}")),
            Ok(asked) => Err(format!("{domain} is {id}, and the world asks {}: {advice}", asked.join(", "))),
            Err(error) => Err(format!("who answers for {domain} cannot be looked up: {error}")),
        })
    }

    async fn held(&self, name: &str) -> Result<Held> {
        let companion = format!("{PREFIX}{name}");
        let mut held = Held::default();
        for found in self.zone.at(name, true).await? {
            if found.set.name == name && is_address(&found.set.kind) {
                held.addresses.push(found);
            } else if found.set.name == companion && found.set.kind == RrType::Txt {
                held.companion = Some(found);
            }
        }
        Ok(held)
    }

    /// Where a name leads and what it is marked with, if it is ours.
    fn record(&self, address: &RecordSet, companion: &RecordSet) -> Option<Record> {
        let tags = self.read_companion(companion)?;
        let target = SocketAddr::new(address.values.first()?.parse().ok()?, HTTPS);
        Some(Record { name: address.name.clone(), target, ttl_seconds: address.ttl_seconds, tags })
    }

    fn sets(&self, record: &Record) -> [RecordSet; 2] {
        let kind = if record.target.is_ipv4() { RrType::A } else { RrType::Aaaa };
        let address = RecordSet::new(&record.name, kind, record.ttl_seconds, vec![record.target.ip().to_string()]);
        let mut says = vec![
            HERITAGE.to_owned(),
            format!("installation={}", self.installation),
            format!("resource={}", record.tags.resource_id),
        ];
        says.extend(record.tags.client_id.as_ref().map(|client| format!("client={client}")));
        let companion =
            RecordSet::new(format!("{PREFIX}{}", record.name), RrType::Txt, COMPANION_TTL, vec![says.join(",")]);
        [address, companion]
    }

    /// None when another installation, or somebody else, has written it.
    fn read_companion(&self, companion: &RecordSet) -> Option<Tags> {
        let mut says = companion.values.first()?.split(',');
        if says.next() != Some(HERITAGE) {
            return None;
        }
        let says: HashMap<&str, &str> = says.filter_map(|part| part.split_once('=')).collect();
        if says.get("installation") != Some(&self.installation.as_str()) {
            return None;
        }
        Some(Tags {
            resource_id: says.get("resource").copied().unwrap_or_default().to_owned(),
            client_id: says.get("client").map(|&client| client.to_owned()),
        })
    }

    fn is_ours(&self, held: &Held) -> bool {
        held.companion.as_ref().is_some_and(|found| self.read_companion(&found.set).is_some())
    }

    /// Changes what is there already, if it is ours.
    async fn replace(&self, name: &str, sets: &[RecordSet; 2]) -> Result<()> {
        let held = self.held(name).await?;
        if !self.is_ours(&held) && (!held.addresses.is_empty() || held.companion.is_some()) {
            return Err(foreign(name));
        }
        let mut edits: Vec<_> = sets.iter().map(Edit::Upsert).collect();
        // An address of the other kind would go on leading to the old place.
        edits.extend(held.addresses.iter().filter(|found| found.set.kind != sets[0].kind).map(Edit::Delete));
        Ok(self.zone.change(&edits, sets).await?)
    }
}

#[async_trait]
impl Dns for Route53 {
    async fn upsert(&self, record: &Record) -> Result<()> {
        let sets = self.sets(record);
        if let Some(settled) = self.zone.settle(&sets).await {
            return settled;
        }
        // What is new needs one call; and by Route 53's refusal it is known, without a gap, what is not.
        let edits: Vec<_> = sets.iter().map(Edit::Create).collect();
        match self.zone.change(&edits, &sets).await {
            Ok(()) => {}
            Err(Unmade::Unfit(_)) => self.replace(&record.name, &sets).await?,
            Err(error) => return Err(error.into()),
        }
        self.zone.settle(&sets).await.unwrap_or(Ok(()))
    }

    async fn get(&self, name: &str) -> Result<Option<Record>> {
        let held = self.held(name).await?;
        let both = held.addresses.first().zip(held.companion.as_ref());
        Ok(both.and_then(|(address, companion)| self.record(&address.set, &companion.set)))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let mut held = self.held(name).await?;
        match &held.companion {
            Some(_) if self.is_ours(&held) => {
                let mut found = std::mem::take(&mut held.addresses);
                found.extend(held.companion);
                self.zone.delete(&found).await
            }
            // Another installation's; or nobody's.
            Some(_) => Ok(()),
            None if held.addresses.is_empty() => Ok(()),
            None => Err(foreign(name)),
        }
    }

    async fn list(&self) -> Result<Vec<Record>> {
        let all = self.zone.list().await?;
        let companions: HashMap<&str, &RecordSet> = all
            .iter()
            .filter(|found| found.set.kind == RrType::Txt)
            .filter_map(|found| Some((found.set.name.strip_prefix(PREFIX)?, &found.set)))
            .collect();
        let addresses = all.iter().map(|found| &found.set).filter(|set| is_address(&set.kind));
        Ok(addresses.filter_map(|set| self.record(set, companions.get(set.name.as_str())?)).collect())
    }

    async fn set_text(&self, name: &str, values: &[String]) -> Result<()> {
        if values.is_empty() {
            return self.zone.remove(&[(name, RrType::Txt)]).await;
        }
        self.zone.upsert(&[RecordSet::new(name, RrType::Txt, TEXT_TTL, values.to_vec())]).await
    }
}

fn is_address(kind: &RrType) -> bool {
    matches!(kind, RrType::A | RrType::Aaaa)
}

/// An address without our companion would be a stranger's; or it is ours, and somebody removed the companion.
/// Either way a person has to look: an address that leads to a machine which we give back may become anybody's.
fn foreign(name: &str) -> CloudError {
    let cause = format!(
        "{name} has an address without {PREFIX}{name}, the TXT record that would say that it is ours: remove the \
         address if nobody needs it, and try again"
    );
    CloudError::Refused { call: CALL, cause }
}

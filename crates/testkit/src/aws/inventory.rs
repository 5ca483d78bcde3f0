//! Everything that exists in an account, from moto itself.

use std::collections::BTreeMap;

use super::names::record_sets;
use super::{Shared, machines, xml};

const EC2: (&str, &str) = ("Version", "2016-11-15");
const IAM: (&str, &str) = ("Version", "2010-05-08");

/// Names by what they are, in order; a name that exists twice stands twice. What AWS makes by itself (a zone's
/// own records, default security groups) is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Ids of those that are not terminated.
    pub instances: Vec<String>,
    pub buckets: Vec<String>,
    pub zones: Vec<String>,
    /// `A acme.stackpro.test`
    pub records: Vec<String>,
    pub identities: Vec<String>,
    pub configuration_sets: Vec<String>,
    pub roles: Vec<String>,
    pub profiles: Vec<String>,
    pub security_groups: Vec<String>,
    pub launch_templates: Vec<String>,
    pub topics: Vec<String>,
    /// The resource of the ledger that each instance is tagged with.
    pub instance_of: BTreeMap<String, String>,
}

impl Inventory {
    /// What is there twice under one name.
    pub fn doubled(&self) -> Vec<String> {
        let kinds = [
            &self.buckets,
            &self.zones,
            &self.records,
            &self.identities,
            &self.configuration_sets,
            &self.roles,
            &self.profiles,
            &self.security_groups,
            &self.launch_templates,
            &self.topics,
        ];
        let twice = |names: &&Vec<String>| -> Vec<String> {
            names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect()
        };
        let mut resources: Vec<&String> = self.instance_of.values().collect();
        resources.sort();
        let instances = resources.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone());
        kinds.iter().flat_map(twice).chain(instances).collect()
    }
}

pub(crate) async fn take(shared: &Shared) -> Inventory {
    let mut inventory = Inventory::default();
    for instance in machines::described(shared).await {
        if matches!(instance.state.as_str(), "terminated" | "shutting-down") {
            continue;
        }
        inventory.instances.push(instance.id.clone());
        inventory.instance_of.insert(instance.id, instance.resource);
    }
    let groups = shared.ask("ec2", &[("Action", "DescribeSecurityGroups"), EC2]).await;
    inventory.security_groups = names(&groups, "groupName").into_iter().filter(|name| name != "default").collect();
    let templates = shared.ask("ec2", &[("Action", "DescribeLaunchTemplates"), EC2]).await;
    inventory.launch_templates = names(&templates, "launchTemplateName");
    let buckets = shared.get("s3", "/").await;
    inventory.buckets = xml::all(&buckets, "Bucket").filter_map(|b| Some(xml::text(b, "Name")?.to_owned())).collect();
    let zones = shared.get("route53", "/2013-04-01/hostedzone").await;
    inventory.zones = xml::all(&zones, "HostedZone").filter_map(|z| Some(xml::text(z, "Name")?.to_owned())).collect();
    let records = record_sets(shared).await.into_iter().filter(|set| !matches!(set.kind.as_str(), "NS" | "SOA"));
    inventory.records = records.map(|set| format!("{} {}", set.kind, set.name)).collect();
    inventory.identities = shared.ses.identities();
    inventory.configuration_sets = shared.ses.configuration_sets();
    let roles = shared.ask("iam", &[("Action", "ListRoles"), IAM]).await;
    inventory.roles = names(&roles, "RoleName");
    let profiles = shared.ask("iam", &[("Action", "ListInstanceProfiles"), IAM]).await;
    inventory.profiles = names(&profiles, "InstanceProfileName");
    // A role stands in each profile that holds it, too.
    let topics = shared.ask("sns", &[("Action", "ListTopics"), ("Version", "2010-03-31")]).await;
    inventory.topics = names(&topics, "TopicArn");
    for kind in [&mut inventory.buckets, &mut inventory.records, &mut inventory.zones] {
        kind.sort();
    }
    inventory
}

fn names(answer: &str, tag: &str) -> Vec<String> {
    let mut names: Vec<String> = xml::all(answer, tag).map(xml::plain).collect();
    names.sort();
    names
}

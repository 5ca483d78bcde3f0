//! What all instances of an installation stand on: subnets, one security group, one launch template. Found or
//! made by their names, made right where they are not, and then remembered.

use std::sync::Arc;

use aws_sdk_ec2::types::{
    IpPermission, IpRange, Ipv6Range, LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
    LaunchTemplateHttpTokensState, LaunchTemplateInstanceMetadataEndpointState,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateInstanceMetadataTagsState, LaunchTemplateVersion,
    RequestLaunchTemplateData, ResourceType, SecurityGroup, ShutdownBehavior, Tag, TagSpecification, VolumeType,
};
use sha2::{Digest, Sha256};
use stackpro_cloud::{CloudError, Result};

use super::{Ec2, HTTP, HTTPS, filter};
use crate::error::{classify, is, made_since};
use crate::tags;

pub(super) struct Ground {
    /// At least one; all of one VPC; by zone.
    pub(super) subnets: Vec<Subnet>,
    /// The security group's id.
    pub(super) group: String,
    pub(super) template: Template,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subnet {
    pub(super) zone: String,
    pub(super) id: String,
    vpc: String,
    pub(super) free_addresses: i32,
}

pub(super) struct Template {
    pub(super) name: String,
    /// The number of the version that holds what we want.
    pub(super) version: String,
}

impl Ec2 {
    pub(super) async fn ground(&self) -> Result<Arc<Ground>> {
        // Of many launches at once one looks, and the others wait for what it finds.
        let mut known = self.ground.lock().await;
        if let Some(ground) = &*known {
            return Ok(ground.clone());
        }
        let subnets = self.subnets().await?;
        let group = Box::pin(self.group(&subnets[0].vpc)).await?;
        let ground = Arc::new(Ground { template: Box::pin(self.template()).await?, subnets, group });
        *known = Some(ground.clone());
        Ok(ground)
    }

    /// Those of the settings, or the default VPC's.
    pub(super) async fn subnets(&self) -> Result<Vec<Subnet>> {
        const CALL: &str = "ec2.DescribeSubnets";
        let chosen = &self.settings.subnets;
        let which = if chosen.is_empty() { filter("default-for-az", ["true"]) } else { filter("subnet-id", chosen) };
        let mut pages = self.api.describe_subnets().filters(which).into_paginator().send();
        let mut subnets = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify(CALL, error))?;
            subnets.extend(page.subnets().iter().filter_map(subnet));
        }
        subnets.sort();
        let refused = |cause: String| Err(CloudError::Refused { call: CALL, cause });
        let what_to_do = "set STACKPRO_AWS_SUBNETS to public subnets of one VPC, best one in each zone";
        if let Some(missing) = chosen.iter().find(|id| subnets.iter().all(|subnet| subnet.id != **id)) {
            return refused(format!("there is no subnet {missing} in this region; {what_to_do}"));
        }
        let Some(first) = subnets.first() else {
            return refused(format!("this region has no default VPC with subnets; {what_to_do}"));
        };
        if let Some(other) = subnets.iter().find(|subnet| subnet.vpc != first.vpc) {
            return refused(format!("{} and {} are of different VPCs; {what_to_do}", first.id, other.id));
        }
        Ok(subnets)
    }

    /// Lets 80 and 443 in from everywhere, and nothing else.
    async fn group(&self, vpc: &str) -> Result<String> {
        let name = self.shared_name();
        let (group, found) = match self.find_group(vpc, &name).await? {
            Some(found) => found,
            None => self.create_group(vpc, &name).await?,
        };
        let missing: Vec<_> = wanted_rules().into_iter().filter(|rule| !found.contains(rule)).collect();
        if !missing.is_empty() {
            let request = self.api.authorize_security_group_ingress().group_id(&group);
            let answer = request.set_ip_permissions(Some(missing)).send().await;
            answer.map_err(|error| {
                made_since("ec2.AuthorizeSecurityGroupIngress", error, "InvalidPermission.Duplicate")
            })?;
        }
        let surplus: Vec<_> = found.into_iter().filter(|rule| !wanted_rules().contains(rule)).collect();
        if !surplus.is_empty() {
            tracing::warn!(group, ?surplus, "closing what the security group lets in beyond 80 and 443");
            let request = self.api.revoke_security_group_ingress().group_id(&group);
            let answer = request.set_ip_permissions(Some(surplus)).send().await;
            answer.map_err(|error| classify("ec2.RevokeSecurityGroupIngress", error))?;
        }
        Ok(group)
    }

    async fn find_group(&self, vpc: &str, name: &str) -> Result<Option<(String, Vec<IpPermission>)>> {
        let request = self.api.describe_security_groups();
        let answer = request.filters(filter("group-name", [name])).filters(filter("vpc-id", [vpc])).send().await;
        let answer = answer.map_err(|error| classify("ec2.DescribeSecurityGroups", error))?;
        let found = answer.security_groups().first();
        Ok(found.and_then(|group| Some((group.group_id()?.to_owned(), rules(group)))))
    }

    async fn create_group(&self, vpc: &str, name: &str) -> Result<(String, Vec<IpPermission>)> {
        const CALL: &str = "ec2.CreateSecurityGroup";
        let request = self.api.create_security_group().group_name(name).vpc_id(vpc);
        let request = request.description("StackPro instances: HTTP and HTTPS from everywhere, nothing else");
        let answer = request.tag_specifications(self.tag(ResourceType::SecurityGroup)).send().await;
        let answer = answer.map_err(|error| made_since(CALL, error, "InvalidGroup.Duplicate"))?;
        let id = answer.group_id.ok_or(CloudError::Transient { call: CALL, cause: "no id was answered".into() })?;
        Ok((id, Vec::new()))
    }

    /// The template's version that holds what we want; a new one when none does.
    async fn template(&self) -> Result<Template> {
        let (name, data) = (self.shared_name(), template_data(self.settings.volume_gib));
        // A version is recognised by its description.
        let mark = mark(&data);
        let request = self.api.describe_launch_template_versions().launch_template_name(&name);
        let mut pages = request.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if is(&error, "InvalidLaunchTemplateName.NotFoundException") => {
                    return self.create_template(name, data, mark).await;
                }
                Err(error) => return Err(classify("ec2.DescribeLaunchTemplateVersions", error)),
            };
            let version = page.launch_template_versions().iter().find(|v| v.version_description() == Some(&mark));
            if let Some(version) = version.and_then(LaunchTemplateVersion::version_number) {
                return Ok(Template { name, version: version.to_string() });
            }
        }
        self.create_template_version(name, data, mark).await
    }

    async fn create_template(&self, name: String, data: RequestLaunchTemplateData, mark: String) -> Result<Template> {
        const CALL: &str = "ec2.CreateLaunchTemplate";
        let request = self.api.create_launch_template().launch_template_name(&name).client_token(&mark);
        let request = request.version_description(&mark).launch_template_data(data);
        let answer = request.tag_specifications(self.tag(ResourceType::LaunchTemplate)).send().await;
        answer.map_err(|error| made_since(CALL, error, "InvalidLaunchTemplateName.AlreadyExistsException"))?;
        Ok(Template { name, version: "1".into() })
    }

    async fn create_template_version(
        &self,
        name: String,
        data: RequestLaunchTemplateData,
        mark: String,
    ) -> Result<Template> {
        const CALL: &str = "ec2.CreateLaunchTemplateVersion";
        let request = self.api.create_launch_template_version().launch_template_name(&name).client_token(&mark);
        let answer = request.version_description(&mark).launch_template_data(data).send().await;
        let answer = answer.map_err(|error| classify(CALL, error))?;
        let version = answer.launch_template_version.and_then(|version| version.version_number);
        let version = version.ok_or(CloudError::Transient { call: CALL, cause: "no number was answered".into() })?;
        Ok(Template { name, version: version.to_string() })
    }

    /// Of what is one for the whole installation.
    fn shared_name(&self) -> String {
        format!("{}-instances", self.settings.installation)
    }

    fn tag(&self, kind: ResourceType) -> TagSpecification {
        let tag = Tag::builder().key(tags::INSTALLATION).value(&self.settings.installation).build();
        TagSpecification::builder().resource_type(kind).tags(tag).build()
    }
}

fn subnet(found: &aws_sdk_ec2::types::Subnet) -> Option<Subnet> {
    Some(Subnet {
        zone: found.availability_zone()?.to_owned(),
        id: found.subnet_id()?.to_owned(),
        vpc: found.vpc_id()?.to_owned(),
        free_addresses: found.available_ip_address_count().unwrap_or_default(),
    })
}

fn wanted_rules() -> Vec<IpPermission> {
    let mut rules = Vec::new();
    for port in [HTTP, HTTPS].map(i32::from) {
        let rule = || IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
        rules.push(rule().ip_ranges(IpRange::builder().cidr_ip("0.0.0.0/0").build()).build());
        rules.push(rule().ipv6_ranges(Ipv6Range::builder().cidr_ipv6("::/0").build()).build());
    }
    rules
}

/// What a group lets in, each source by itself and without its description, so that rules can be compared.
fn rules(group: &SecurityGroup) -> Vec<IpPermission> {
    let mut rules = Vec::new();
    for found in group.ip_permissions() {
        let rule = || {
            let rule = IpPermission::builder().set_ip_protocol(found.ip_protocol.clone());
            rule.set_from_port(found.from_port).set_to_port(found.to_port)
        };
        let v4 = found.ip_ranges().iter().map(|range| range.cidr_ip().unwrap_or_default());
        rules.extend(v4.map(|cidr| rule().ip_ranges(IpRange::builder().cidr_ip(cidr).build()).build()));
        let v6 = found.ipv6_ranges().iter().map(|range| range.cidr_ipv6().unwrap_or_default());
        rules.extend(v6.map(|cidr| rule().ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build()).build()));
        rules.extend(found.user_id_group_pairs().iter().map(|pair| rule().user_id_group_pairs(pair.clone()).build()));
        rules.extend(found.prefix_list_ids().iter().map(|list| rule().prefix_list_ids(list.clone()).build()));
    }
    rules
}

fn template_data(volume_gib: i32) -> RequestLaunchTemplateData {
    let volume = LaunchTemplateEbsBlockDeviceRequest::builder()
        .volume_type(VolumeType::Gp3)
        .volume_size(volume_gib)
        .encrypted(true)
        .delete_on_termination(true)
        .build();
    // Credentials for clients' buckets are behind it. One hop ends on the host: nothing in a container's network
    // of its own ever gets an answer.
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Enabled)
        .http_tokens(LaunchTemplateHttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .instance_metadata_tags(LaunchTemplateInstanceMetadataTagsState::Disabled)
        .build();
    RequestLaunchTemplateData::builder()
        // Amazon Linux's root device.
        .block_device_mappings(
            LaunchTemplateBlockDeviceMappingRequest::builder().device_name("/dev/xvda").ebs(volume).build(),
        )
        .metadata_options(metadata)
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .build()
}

/// Differs when the content differs.
fn mark(data: &RequestLaunchTemplateData) -> String {
    let digest = Sha256::digest(format!("{data:?}"));
    digest.iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

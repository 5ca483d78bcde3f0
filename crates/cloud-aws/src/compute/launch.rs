//! How an instance begins, and what may keep it from beginning.
//!
//! A launch names its subnet, and then the client token holds in that subnet's zone only ("RunInstances
//! idempotency", Amazon EC2 Developer Guide: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>).
//! So that a second attempt never makes a second instance in another zone, it looks first for what the first one
//! made, and begins where the first one ended.

use aws_sdk_ec2::types::{
    IamInstanceProfileSpecification, InstanceNetworkInterfaceSpecification, InstanceType, LaunchTemplateSpecification,
    ResourceType, Tag, TagSpecification,
};
use aws_smithy_types::base64;
use sha2::{Digest, Sha256};
use stackpro_cloud::{CloudError, Instance, InstanceState, LaunchSpec, Result};

use super::ground::{Ground, Subnet};
use super::image::Architecture;
use super::userdata::user_data;
use super::{Ec2, filter};
use crate::error::{Failed, classify, code};
use crate::tags;

type RunError = Failed<aws_sdk_ec2::operation::run_instances::RunInstancesError>;

const CALL: &str = "ec2.RunInstances";

/// The zone has no room for the type now, or never has it, or the subnet has no address left. "Error codes",
/// Amazon EC2 Developer Guide: <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>
pub(super) fn lacks_capacity(code: &str) -> bool {
    const CODES: [&str; 4] =
        ["InsufficientInstanceCapacity", "InsufficientCapacity", "InsufficientFreeAddressesInSubnet", NOT_OFFERED];
    CODES.contains(&code)
}
const NOT_OFFERED: &str = "Unsupported";
/// What a launch names, and someone may have removed since we looked.
const REMOVABLE: [&str; 4] = ["InvalidGroup", "InvalidLaunchTemplate", "InvalidSubnetID", "InvalidAMIID"];

impl Ec2 {
    pub(super) async fn launch_once(&self, spec: &LaunchSpec) -> Result<Instance> {
        if let Some(made) = self.made_before(spec).await? {
            return Ok(made);
        }
        let user_data = base64::encode(user_data(&self.settings, spec)?);
        let ground = Box::pin(self.ground()).await?;
        let image = self.image(Architecture::of(&spec.instance_type)).await?;
        let mut lacking = Vec::new();
        for subnet in self.order(&ground, &spec.token) {
            self.recent().tried.insert(spec.token.clone(), subnet.id.clone());
            let error = match self.run(spec, &user_data, &ground, &image, subnet).await {
                Ok(instance) => return Ok(instance),
                Err(error) => error,
            };
            match code(&error) {
                Some(code) if lacks_capacity(code) => lacking.push((subnet.zone.as_str(), code.to_owned())),
                _ => return Err(self.explain(error, spec).await),
            }
        }
        self.recent().tried.remove(&spec.token);
        Err(no_zone_has_it(&spec.instance_type, &lacking))
    }

    /// What an earlier attempt made, whichever its answer was.
    async fn made_before(&self, spec: &LaunchSpec) -> Result<Option<Instance>> {
        let resource = filter(&format!("tag:{}", tags::RESOURCE), [&spec.tags.resource_id]);
        let mut found = self.find(vec![resource]).await?;
        found.sort_by_key(|instance| instance.state == InstanceState::Terminated);
        match found.into_iter().next() {
            Some(gone) if gone.state == InstanceState::Terminated => Err(terminated_since(gone.id.as_str())),
            found => Ok(found),
        }
    }

    /// Every subnet once: the one in which this launch was last tried first, otherwise one that differs from
    /// launch to launch, so that instances are spread over the zones.
    fn order<'a>(&self, ground: &'a Ground, token: &str) -> Vec<&'a Subnet> {
        let tried = self.recent().tried.get(token).cloned();
        let first = ground.subnets.iter().position(|subnet| Some(&subnet.id) == tried.as_ref());
        rotated(&ground.subnets, first.unwrap_or_else(|| place_of(token, ground.subnets.len())))
    }

    async fn run(
        &self,
        spec: &LaunchSpec,
        user_data: &str,
        ground: &Ground,
        image: &str,
        subnet: &Subnet,
    ) -> Result<Instance, RunError> {
        let template = LaunchTemplateSpecification::builder()
            .launch_template_name(&ground.template.name)
            .version(&ground.template.version)
            .build();
        let network = InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .subnet_id(&subnet.id)
            .groups(&ground.group)
            .associate_public_ip_address(true)
            .delete_on_termination(true)
            .build();
        let request = self
            .api
            .run_instances()
            .client_token(&spec.token)
            .min_count(1)
            .max_count(1)
            .launch_template(template)
            .image_id(image)
            .user_data(user_data)
            .iam_instance_profile(IamInstanceProfileSpecification::builder().name(&spec.role).build())
            .instance_type(InstanceType::from(spec.instance_type.as_str()))
            .network_interfaces(network)
            // One client's own holds what nobody else has.
            .disable_api_termination(spec.tags.client_id.is_some())
            .set_tag_specifications(Some(self.tagged(spec)));
        let answer = request.send().await?;
        let made = answer.instances().first().and_then(|instance| self.read(instance));
        let made = made.ok_or_else(|| RunError::construction_failure("the answer holds no instance of ours"))?;
        let mut recent = self.recent();
        recent.launched.insert(made.id.clone(), std::time::Instant::now());
        recent.tried.remove(&spec.token);
        Ok(made)
    }

    /// All that comes with an instance bears its tags.
    fn tagged(&self, spec: &LaunchSpec) -> Vec<TagSpecification> {
        let mut pairs = tags::pairs(&self.settings.installation, &spec.tags);
        pairs.push(("Name", format!("{}-{}", self.settings.installation, spec.tags.resource_id)));
        let tags: Vec<Tag> =
            pairs.into_iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        [ResourceType::Instance, ResourceType::Volume, ResourceType::NetworkInterface]
            .map(|kind| TagSpecification::builder().resource_type(kind).set_tags(Some(tags.clone())).build())
            .into()
    }

    /// What a refusal means for whoever launches.
    async fn explain(&self, error: RunError, spec: &LaunchSpec) -> CloudError {
        let (code, message) = (code(&error).unwrap_or_default(), crate::error::message(&error).unwrap_or_default());
        let transient =
            |cause: &str| CloudError::Transient { call: CALL, cause: format!("{cause} ({code}: {message})") };
        match code {
            "VcpuLimitExceeded" | "InstanceLimitExceeded" => CloudError::Refused {
                call: CALL,
                cause: format!(
                    "the account's quota leaves no room for a {}; ask for more in the AWS console under Service \
                     Quotas, Amazon EC2, \"Running On-Demand Standard instances\", then try again ({message})",
                    spec.instance_type
                ),
            },
            "IdempotentInstanceTerminated" => terminated_since("the instance"),
            // It was made with other words, an image of last week's; by its tag it is found in a moment.
            "IdempotentParameterMismatch" => transient("an earlier attempt made it, and it is not listed yet"),
            // IAM is eventually consistent, too.
            "InvalidParameterValue" if message.to_ascii_lowercase().contains("iam instance profile") => {
                transient("its role is not known to EC2 yet")
            }
            _ if REMOVABLE.iter().any(|what| code.starts_with(what)) && code.contains("NotFound") => {
                // Someone removed what we found or made: the next attempt looks again.
                self.ground.lock().await.take();
                transient("something that it needs is not there (any more, or yet)")
            }
            _ => classify(CALL, error),
        }
    }
}

fn terminated_since(which: &str) -> CloudError {
    let cause = format!("{which} that this launch made was terminated since; another launch makes another one");
    CloudError::Refused { call: CALL, cause }
}

fn no_zone_has_it(instance_type: &str, lacking: &[(&str, String)]) -> CloudError {
    let zones: Vec<String> = lacking.iter().map(|(zone, code)| format!("{zone}: {code}")).collect();
    let zones = zones.join(", ");
    if lacking.iter().all(|(_, code)| code == NOT_OFFERED) {
        let cause = format!("no zone offers {instance_type} ({zones}); choose another type in the plans file");
        return CloudError::Refused { call: CALL, cause };
    }
    CloudError::Transient { call: CALL, cause: format!("no zone has room for a {instance_type} now ({zones})") }
}

fn place_of(token: &str, places: usize) -> usize {
    let digest = Sha256::digest(token);
    let number = digest.iter().take(4).fold(0, |number, byte| number << 8 | usize::from(*byte));
    number.checked_rem(places).unwrap_or_default()
}

fn rotated<T>(all: &[T], first: usize) -> Vec<&T> {
    all.iter().cycle().skip(first).take(all.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_are_spread_over_the_zones_and_each_begins_where_it_began() {
        let mut counts = [0; 3];
        for number in 0..300 {
            let token = format!("launch-{number}");
            assert_eq!(place_of(&token, 3), place_of(&token, 3));
            counts[place_of(&token, 3)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 70), "{counts:?}");
        assert_eq!(rotated(&["a", "b", "c"], 2), [&"c", &"a", &"b"]);
    }

    #[test]
    fn a_type_that_no_zone_has_is_told_from_one_that_none_has_now() {
        let lacking = |codes: [&str; 2]| no_zone_has_it("t3.nano", &[("a", codes[0].into()), ("b", codes[1].into())]);
        assert!(matches!(lacking([NOT_OFFERED, NOT_OFFERED]), CloudError::Refused { .. }));
        let now = lacking([NOT_OFFERED, "InsufficientInstanceCapacity"]);
        assert!(matches!(now, CloudError::Transient { .. }));
        assert!(now.to_string().contains("b: InsufficientInstanceCapacity"), "{now}");
    }
}

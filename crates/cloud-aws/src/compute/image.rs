//! What an instance runs from: Amazon Linux 2023, as AWS publishes it in each region, by its architecture.

use stackpro_cloud::{CloudError, Result};

use super::Ec2;
use crate::error::classify;

/// Of an instance's processor, as EC2 and Amazon Linux call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Architecture {
    X86,
    Arm,
}

impl Architecture {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "arm64",
        }
    }

    /// Of an instance type: `t3.micro`, `t4g.micro`. A `g` after the generation's number means Graviton; before
    /// it, it is a family's name (`g5`). Amazon EC2 User Guide, "Instance type naming conventions":
    /// <https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html>
    pub(super) fn of(instance_type: &str) -> Self {
        let family = instance_type.split('.').next().unwrap_or_default();
        let options = family.trim_start_matches(|c: char| !c.is_ascii_digit());
        let options = options.trim_start_matches(|c: char| c.is_ascii_digit()).split('-').next();
        let is_arm = family == "a1" || options.is_some_and(|options| options.contains('g'));
        if is_arm { Self::Arm } else { Self::X86 }
    }
}

/// The public parameter that names the newest image. Amazon Linux 2023 User Guide, "Launching AL2023 using the
/// SSM parameter": <https://docs.aws.amazon.com/linux/al2023/ug/ec2.html#launch-via-aws-cli>
fn parameter(architecture: Architecture) -> String {
    let image = "al2023-ami-kernel-default";
    format!("/aws/service/ami-amazon-linux-latest/{image}-{}", architecture.as_str())
}

impl Ec2 {
    /// `ami-0d27e0fb3bac4d724`: the newest image, which another call may find replaced.
    pub(super) async fn image(&self, architecture: Architecture) -> Result<String> {
        const CALL: &str = "ssm.GetParameter";
        let name = parameter(architecture);
        let answer = self.parameters.get_parameter().name(&name).send().await.map_err(|error| classify(CALL, error))?;
        let value = answer.parameter.and_then(|parameter| parameter.value);
        let image = value.filter(|value| value.starts_with("ami-"));
        image.ok_or_else(|| CloudError::Refused { call: CALL, cause: format!("{name} names no image") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_types_name_says_its_architecture() {
        for arm in [
            "t4g.micro",
            "m6g.large",
            "c7gn.xlarge",
            "m7gd.medium",
            "im4gn.large",
            "x2gd.medium",
            "g5g.xlarge",
            "a1.medium",
            "c8gb.large",
        ] {
            assert_eq!(Architecture::of(arm), Architecture::Arm, "{arm}");
        }
        for x86 in [
            "t3.medium",
            "t3a.small",
            "t2.micro",
            "m5.large",
            "c7i-flex.large",
            "g4dn.xlarge",
            "g5.xlarge",
            "gr6.4xlarge",
            "m7i.large",
            "u-6tb1.metal",
            "",
        ] {
            assert_eq!(Architecture::of(x86), Architecture::X86, "{x86}");
        }
    }
}

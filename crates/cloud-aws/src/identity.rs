//! Who we are to AWS: the account, and the principal that policies must not shut out.

use stackpro_cloud::{CloudError, Result};

use crate::Aws;
use crate::error::classify;

const CALL: &str = "sts.GetCallerIdentity";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) account: String,
    /// `aws`, `aws-cn`, `aws-us-gov`
    pub(crate) partition: String,
    /// Patterns of `aws:PrincipalArn` that are us, and nobody else.
    pub(crate) principals: Vec<String>,
}

impl Identity {
    fn of(account: &str, arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (partition, service) = (parts.nth(1)?, parts.next()?);
        let name = parts.nth(2)?;
        let principals = match (service, name.split_once('/')) {
            // A session's ARN leaves the role's path out, and a role is known by its ARN with the path. A name is
            // given to one role of an account only, whatever its path.
            // <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
            ("sts", Some(("assumed-role", session))) => {
                let role = session.split('/').next()?;
                let start = format!("arn:{partition}:iam::{account}:role/");
                vec![format!("{start}{role}"), format!("{start}*/{role}")]
            }
            _ => vec![arn.to_owned()],
        };
        Some(Self { account: account.to_owned(), partition: partition.to_owned(), principals })
    }
}

impl Aws {
    /// Asked for once, since it does not change while credentials are renewed.
    pub(crate) async fn identity(&self) -> Result<&Identity> {
        let ask = async || {
            let client = aws_sdk_sts::Client::new(&self.sdk);
            let caller = client.get_caller_identity().send().await.map_err(|error| classify(CALL, error))?;
            let known = Identity::of(caller.account().unwrap_or_default(), caller.arn().unwrap_or_default());
            known.ok_or_else(|| CloudError::Transient { call: CALL, cause: "the answer names no principal".into() })
        };
        self.identity.get_or_try_init(ask).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_role_wherever_that_is() {
        let principals = |arn: &str| Identity::of("123456789012", arn).unwrap().principals;
        assert_eq!(
            principals("arn:aws:sts::123456789012:assumed-role/StackPro/i-0abc"),
            ["arn:aws:iam::123456789012:role/StackPro", "arn:aws:iam::123456789012:role/*/StackPro"]
        );
        let user = "arn:aws-cn:iam::123456789012:user/ops/ann";
        assert_eq!(principals(user), [user]);
        assert_eq!(Identity::of("123456789012", user).unwrap().partition, "aws-cn");
        assert_eq!(Identity::of("", ""), None);
    }
}

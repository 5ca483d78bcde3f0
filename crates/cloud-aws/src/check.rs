//! What `doctor` asks of AWS, and what is looked at before the first launch: each a line, and what to do about it.

use async_trait::async_trait;
use stackpro_cloud::{Checks, Result};

use crate::Aws;
use crate::buckets::S3;
use crate::compute::Ec2;
use crate::dns::Route53;
use crate::mail::Ses;
use crate::quotas::{self, Used};

pub use stackpro_cloud::Check;

/// [`Checks`] of one account and region.
pub(crate) struct Doctor {
    pub(crate) aws: Aws,
    pub(crate) compute: Ec2,
    pub(crate) buckets: std::sync::Arc<S3>,
    pub(crate) names: std::sync::Arc<Route53>,
    pub(crate) mail: std::sync::Arc<Ses>,
}

#[async_trait]
impl Checks for Doctor {
    async fn all(&self) -> Vec<Check> {
        let mut checks = self.before_launch().await;
        let (quotas, zone, mail) = tokio::join!(self.quotas(), self.names.check(), self.mail.check());
        checks.extend(quotas);
        checks.extend([zone, mail]);
        checks
    }

    async fn before_launch(&self) -> Vec<Check> {
        let (credentials, instances) = tokio::join!(self.credentials(), self.compute.check());
        [vec![self.region(), credentials], instances].concat()
    }
}

impl Doctor {
    async fn quotas(&self) -> Vec<Check> {
        let (vcpus, buckets) = tokio::join!(self.compute.vcpus(), self.buckets.count());
        quotas::check(&self.aws, Used { vcpus, buckets }).await
    }

    fn region(&self) -> Check {
        let advice = "none is known: set STACKPRO_AWS_REGION, as eu-central-1";
        let found = self.aws.region().map(str::to_owned).ok_or_else(|| advice.to_owned());
        Check { name: "region".into(), found }
    }

    async fn credentials(&self) -> Check {
        let found = match self.aws.identity().await {
            Ok(identity) => Ok(format!("of the account {}, as {}", identity.account, identity.principals.join(" or "))),
            Err(error) => Err(format!(
                "{error}; give this process credentials as any AWS tool takes them: an instance role, a profile, or \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )),
        };
        Check { name: "credentials".into(), found }
    }
}

/// A line from what a call found.
pub(crate) fn line<T>(name: &str, found: Result<T>, say: impl FnOnce(T) -> String) -> Check {
    Check { name: name.to_owned(), found: found.map(say).map_err(|error| error.to_string()) }
}

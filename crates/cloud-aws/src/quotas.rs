//! How much the account may have, and how much of it is used. An instance, a bucket and an identity are each a
//! client's, so that a quota that is nearly used up is a sign-up that will fail.

use aws_sdk_servicequotas::operation::get_service_quota::GetServiceQuotaError;
use stackpro_cloud::{Check, Result};

use crate::Aws;
use crate::check::line;
use crate::error::{classify, is};

/// Of a service, as Service Quotas knows it: <https://docs.aws.amazon.com/servicequotas/latest/userguide/intro.html>
struct Quota {
    service: &'static str,
    code: &'static str,
    /// In the console's words.
    name: &'static str,
    /// With less left than so much an operator has to do something.
    reserve: f64,
}

/// In vCPUs, of all On-Demand instances of the usual families. Each has a public address of EC2's own, which no quota
/// counts: no Elastic IP is used.
const INSTANCES: Quota = Quota {
    service: "ec2",
    code: "L-1216C47A",
    name: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    reserve: 8.0,
};
const BUCKETS: Quota = Quota { service: "s3", code: "L-DC2B2D3D", name: "General purpose buckets", reserve: 50.0 };

/// What is used, as each service counts it.
pub(crate) struct Used {
    pub(crate) vcpus: Result<u32>,
    pub(crate) buckets: Result<u32>,
}

pub(crate) async fn check(aws: &Aws, used: Used) -> Vec<Check> {
    let client = aws_sdk_servicequotas::Client::new(aws.sdk());
    let (instances, buckets) = tokio::join!(limit(&client, &INSTANCES), limit(&client, &BUCKETS));
    vec![
        one("quota of instances", "vCPUs", &INSTANCES, used.vcpus, instances),
        one("quota of buckets", "buckets", &BUCKETS, used.buckets, buckets),
    ]
}

fn one(name: &str, unit: &str, quota: &Quota, used: Result<u32>, limit: Result<f64>) -> Check {
    let both = used.and_then(|used| Ok((f64::from(used), limit?)));
    let mut check = line(name, both.clone(), |(used, limit)| format!("{used} of {limit} {unit} are used"));
    if let Ok((used, limit)) = both
        && limit - used < quota.reserve
    {
        check.found = Err(format!(
            "{used} of {limit} {unit} are used: ask for more in Service Quotas, service {}, \"{}\" ({})",
            quota.service, quota.name, quota.code
        ));
    }
    check
}

/// The account's own, or what every account begins with.
async fn limit(client: &aws_sdk_servicequotas::Client, quota: &Quota) -> Result<f64> {
    let asked = client.get_service_quota().service_code(quota.service).quota_code(quota.code).send().await;
    let found = match asked {
        Ok(answer) => answer.quota,
        Err(error) if is_default(&error) => {
            let request = client.get_aws_default_service_quota().service_code(quota.service).quota_code(quota.code);
            let answer = request.send().await;
            answer.map_err(|error| classify("servicequotas.GetAWSDefaultServiceQuota", error))?.quota
        }
        Err(error) => return Err(classify("servicequotas.GetServiceQuota", error)),
    };
    Ok(found.and_then(|quota| quota.value).unwrap_or_default())
}

fn is_default(error: &crate::error::Failed<GetServiceQuotaError>) -> bool {
    is(error, "NoSuchResourceException")
}

//! The main job, end to end, on AWS.

use std::collections::BTreeSet;
use std::sync::Arc;

use stackpro_testkit::aws::{Behaviour, Moto, calls_in_the_code};

use crate::site::Site;
use crate::travel::travel;

/// What the code calls and this journey does not: it is for what goes wrong, for links and credentials that nobody asks
/// for here, and for an installation that has changed since. `crates/cloud-aws/tests/aws` makes each of them.
const ELSEWHERE: [&str; 17] = [
    "ec2.CreateLaunchTemplateVersion",
    "ec2.ModifyInstanceAttribute",
    "ec2.RevokeSecurityGroupIngress",
    "ec2.StartInstances",
    "iam.GetInstanceProfile",
    "iam.GetRole",
    "iam.GetRolePolicy",
    "iam.UpdateAssumeRolePolicy",
    "s3.AbortMultipartUpload",
    "s3.DeleteObjects",
    "s3.GetBucketTagging",
    "s3.GetObject",
    "s3.PutObject",
    "servicequotas.GetAWSDefaultServiceQuota",
    "ses.DeleteSuppressedDestination",
    "sns.ConfirmSubscription",
    "sts.AssumeRole",
];

#[tokio::test(flavor = "multi_thread")]
async fn from_a_sign_up_to_an_instance_of_ones_own_and_to_the_receipts() {
    let site = Site::open(&Arc::new(Moto::start()), Behaviour::default(), |product| product).await;
    travel(&site.app).await;
    site.app.at_rest().await;
    let left = site.tally().await;
    assert_eq!((left.buckets.len(), left.records.iter().filter(|record| record.starts_with("A ")).count()), (0, 0));
    assert_eq!((left.security_groups.len(), left.launch_templates.len(), left.zones.len()), (1, 1, 1), "{left:#?}");
    assert_eq!(left.roles.len(), left.instances.len(), "{left:#?}");
    assert!(site.account.mails().iter().any(|mail| mail.subject.contains("Acme Law & Söhne")), "the client is told");

    // What the policy is for (`crates/testkit/tests/policy.rs`) is what is called: nothing else, and all of it.
    let made = site.account.calls().into_iter().filter(|made| made.call.by_sdk).map(|made| made.call.name);
    let (made, named) = (made.collect::<BTreeSet<_>>(), calls_in_the_code());
    let unheard: Vec<_> = made.difference(&named).collect();
    assert!(unheard.is_empty(), "called, and not named in the code: {unheard:?}");
    let untried: Vec<_> = named.difference(&made).filter(|call| !ELSEWHERE.contains(&call.as_str())).collect();
    assert!(untried.is_empty(), "not called by the journey, nor said to be called elsewhere: {untried:?}");
}

//! The control plane's policy on AWS allows what the code calls, and nothing else: each call stands in the code by
//! the name that its errors bear (`"ec2.RunInstances"`), and each action of the policy is of such a call.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stackpro_testkit::aws::{calls_in_the_code, texts_in, texts_of};

/// Where an action has not the name of its call, or one call needs several: the Service Authorization Reference,
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html>.
const ACTIONS: [(&str, &[&str]); 19] = [
    // Tags in a request are actions of their own, and so is handing a role to an instance.
    ("ec2.RunInstances", &["ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"]),
    ("ec2.CreateSecurityGroup", &["ec2:CreateSecurityGroup", "ec2:CreateTags"]),
    ("ec2.CreateLaunchTemplate", &["ec2:CreateLaunchTemplate", "ec2:CreateTags"]),
    ("iam.CreateRole", &["iam:CreateRole", "iam:TagRole"]),
    ("iam.CreateInstanceProfile", &["iam:CreateInstanceProfile", "iam:TagInstanceProfile"]),
    ("iam.AddRoleToInstanceProfile", &["iam:AddRoleToInstanceProfile", "iam:PassRole"]),
    ("s3.CreateBucket", &["s3:CreateBucket", "s3:PutBucketOwnershipControls", "s3:TagResource"]),
    ("s3.DeleteObjects", &["s3:DeleteObject", "s3:DeleteObjectVersion"]),
    ("s3.ListBuckets", &["s3:ListAllMyBuckets"]),
    ("s3.ListMultipartUploads", &["s3:ListBucketMultipartUploads"]),
    ("s3.ListObjectVersions", &["s3:ListBucketVersions"]),
    ("s3.PutBucketEncryption", &["s3:PutEncryptionConfiguration"]),
    ("s3.PutBucketLifecycleConfiguration", &["s3:PutLifecycleConfiguration"]),
    ("s3.PutPublicAccessBlock", &["s3:PutBucketPublicAccessBlock"]),
    // What is encrypted with the operator's key is so in the name of whoever signed the link.
    ("s3.GetObject", &["s3:GetObject", "kms:Decrypt"]),
    ("s3.PutObject", &["s3:PutObject", "kms:GenerateDataKey"]),
    ("ses.CreateEmailIdentity", &["ses:CreateEmailIdentity", "ses:TagResource"]),
    ("sns.CreateTopic", &["sns:CreateTopic", "sns:TagResource"]),
    // Everybody may.
    ("sts.GetCallerIdentity", &[]),
];

fn actions_of(call: &str) -> Vec<String> {
    match ACTIONS.iter().find(|(known, _)| *known == call) {
        Some((_, actions)) => actions.iter().map(|&action| action.to_owned()).collect(),
        None => vec![call.replacen('.', ":", 1)],
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn statements(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(root().join("deploy/iam").join(file)).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["Statement"].as_array().unwrap().clone()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        other => other.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
    }
}

fn allowed(file: &str) -> BTreeSet<String> {
    statements(file).iter().flat_map(|statement| texts(&statement["Action"])).collect()
}

#[test]
fn the_policy_allows_what_the_code_calls_and_nothing_else() {
    let (allowed, calls) = (allowed("control-plane.json"), calls_in_the_code());
    assert!(calls.len() > 50, "{calls:?}");
    let needed: BTreeSet<String> = calls.iter().flat_map(|call| actions_of(call)).collect();
    let missing: Vec<_> = needed.difference(&allowed).collect();
    let surplus: Vec<_> = allowed.difference(&needed).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "not allowed: {missing:#?}; needed by no call: {surplus:#?}");
}

/// What a service cannot narrow is said here, so that nothing is wide by mistake.
#[test]
fn what_changes_something_is_narrowed_to_what_is_ours() {
    let reads = ["Describe", "Get", "List"];
    let mut wide = Vec::new();
    for statement in statements("control-plane.json") {
        assert_eq!(statement["Effect"], "Allow");
        let actions = texts(&statement["Action"]);
        assert!(!actions.iter().any(|action| action.contains('*')), "{statement}");
        if texts(&statement["Resource"]).contains(&"*".to_owned()) && statement["Condition"].is_null() {
            let is_read = |action: &String| reads.iter().any(|verb| action.contains(&format!(":{verb}")));
            wide.extend(actions.into_iter().filter(|action| !is_read(action)));
        }
    }
    // They take neither a resource nor a condition of ours (Service Authorization Reference).
    assert_eq!(wide, ["route53:CreateHostedZone", "ses:DeleteSuppressedDestination"]);
}

/// A role beyond the boundary would be a way to everything.
#[test]
fn what_instances_may_do_is_at_most_what_their_boundary_says() {
    let code = root().join("crates/cloud-aws/src");
    // Of a bucket's own policy, which denies, nothing.
    let sessions = fs::read_to_string(code.join("buckets/policy.rs")).unwrap();
    let sessions = sessions.split("fn statements(").nth(1).unwrap().split("\n}\n").next().unwrap();
    let granted = texts_of(&code.join("roles.rs")).into_iter().chain(texts_in(sessions));
    let granted: BTreeSet<_> = granted.filter(|text| ["s3:", "kms:"].iter().any(|of| text.starts_with(of))).collect();
    assert_eq!(granted, allowed("instance-boundary.json"));
    for statement in statements("control-plane.json") {
        let gives = ["iam:CreateRole", "iam:PutRolePolicy"];
        if texts(&statement["Action"]).iter().any(|action| gives.contains(&action.as_str())) {
            let boundary = &statement["Condition"]["StringLike"]["iam:PermissionsBoundary"];
            assert_eq!(boundary, "arn:aws:iam::*:policy/stackpro-instance-boundary", "{statement}");
        }
    }
}

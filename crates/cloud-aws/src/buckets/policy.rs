//! Who may do what in a client's bucket, as policies. `docs/decisions/bucket-policies.md` says why so.

use serde_json::{Value, json};

use crate::identity::Identity;

/// Below it a client may write; what lies elsewhere (backups) they may read.
pub(crate) const CLIENTS_FOLDER: &str = "files/";

/// Of AWS's actions on a bucket, what is never denied: an account's administrator can always look at a policy and
/// mend it, so that nobody is locked out for good; and what is ours can always be listed.
const NEVER_DENIED: [&str; 4] =
    ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:GetBucketTagging"];

/// Both of a bucket: itself and all that is in it.
fn bucket_and_contents(identity: &Identity, bucket: &str) -> [String; 2] {
    let arn = format!("arn:{}:s3:::{bucket}", identity.partition);
    [format!("{arn}/*"), arn]
}

/// The roles of this installation's instances. Which of them may use which bucket is in each role's own policy.
pub(super) fn instance_roles(identity: &Identity, installation: &str) -> String {
    format!("arn:{}:iam::{}:role/stackpro/{installation}/*", identity.partition, identity.account)
}

/// A bucket's own policy. It allows nothing: what allows is the role's own policy, and this one denies everyone who
/// is not admitted, whatever they may do elsewhere; also over TLS.
pub(super) fn bucket(identity: &Identity, bucket: &str, admitted: &[String]) -> Value {
    let resource = bucket_and_contents(identity, bucket);
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyOverTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": resource,
                "Condition": { "Bool": { "aws:SecureTransport": "false" } },
            },
            {
                "Sid": "OnlyTheAdmitted",
                "Effect": "Deny",
                "Principal": "*",
                "NotAction": NEVER_DENIED,
                "Resource": resource,
                "Condition": { "ArnNotLike": { "aws:PrincipalArn": admitted } },
            },
        ],
    })
}

/// What one session may do, of what its role may: a client's hour with their own bucket.
pub(super) fn session(identity: &Identity, bucket: &str, kms_key: Option<&str>) -> Value {
    statements(&format!("arn:{}:s3:::{bucket}", identity.partition), kms_key)
}

/// What the role for such sessions may do: the same in every bucket of a client's.
pub(super) fn storage_role(identity: &Identity, kms_key: Option<&str>) -> Value {
    statements(&format!("arn:{}:s3:::{}*", identity.partition, stackpro_cloud::BUCKET_PREFIX), kms_key)
}

fn statements(arn: &str, kms_key: Option<&str>) -> Value {
    let mut policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation"],
                "Resource": arn,
            },
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": format!("{arn}/*"),
            },
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": format!("{arn}/{CLIENTS_FOLDER}*"),
            },
        ],
    });
    if let (Some(key), Some(statements)) = (kms_key, policy["Statement"].as_array_mut()) {
        statements.push(json!({
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": key,
        }));
    }
    policy
}

/// Who may take the role: the account says yes to those of its own who may, and of them only we are meant.
pub(super) fn trust(identity: &Identity, ours: &[String]) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:{}:iam::{}:root", identity.partition, identity.account) },
            "Action": "sts:AssumeRole",
            "Condition": { "ArnLike": { "aws:PrincipalArn": ours } },
        }],
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

//! Roles: IAM. Each instance has a role of its own, behind an instance profile of the same name, and its one
//! inline policy is the whole of what it may do: use the buckets of the clients on it. Sessions of the Systems
//! Manager are not granted: nobody needs a shell there.

use async_trait::async_trait;
use aws_sdk_iam::types::Tag;
use serde_json::{Value, json};
use stackpro_cloud::{CloudError, Result, Role, Roles, Tags};

use crate::error::{classify, is, made_since};
use crate::{Aws, AwsSettings, tags};

/// The name of the one inline policy.
const POLICY: &str = "buckets";
/// What a client's stack and its backups do with its bucket, and with what is in it.
const ON_BUCKET: [&str; 3] = ["s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"];
const ON_OBJECTS: [&str; 5] =
    ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"];
/// With the key that buckets are encrypted with, where it is not S3's own.
const BY_KEY: [&str; 2] = ["kms:Decrypt", "kms:GenerateDataKey"];
const MISSING: &str = "NoSuchEntity";
const THERE: &str = "EntityAlreadyExists";

/// IAM of one account. A clone is the same one.
#[derive(Clone)]
pub struct Iam {
    api: aws_sdk_iam::Client,
    settings: AwsSettings,
    /// `aws`, or `aws-cn`: what ARNs begin with.
    partition: &'static str,
}

impl Iam {
    pub fn new(aws: &Aws) -> Self {
        Self {
            api: aws_sdk_iam::Client::new(aws.sdk()),
            settings: aws.settings().clone(),
            partition: partition(aws.region().unwrap_or_default()),
        }
    }

    /// Under which our roles are listed: IAM lists by path, and tells no tags when it lists.
    fn path(&self) -> String {
        format!("/stackpro/{}/", self.settings.installation)
    }

    async fn create_role(&self, name: &str, tags: &Tags) -> Result<()> {
        const CALL: &str = "iam.CreateRole";
        let request = self.api.create_role().role_name(name).path(self.path()).description(described(tags));
        let request = request.assume_role_policy_document(trust().to_string());
        let request = request.set_permissions_boundary(self.settings.permissions_boundary.clone());
        let Err(error) = request.set_tags(Some(self.tags(CALL, tags)?)).send().await else { return Ok(()) };
        if !is(&error, THERE) {
            return Err(classify(CALL, error));
        }
        let found = self.api.get_role().role_name(name).send().await;
        let found = found.map_err(|error| made_since("iam.GetRole", error, MISSING))?.role;
        let ours = |role| read(role).is_some_and(|read| read.tags == *tags) && role.path() == self.path();
        if found.as_ref().is_some_and(ours) {
            return Ok(());
        }
        let cause = format!("a role {name} that is not ours exists; remove it, or set another STACKPRO_INSTALLATION");
        Err(CloudError::Refused { call: CALL, cause })
    }

    async fn create_profile(&self, name: &str, tags: &Tags) -> Result<()> {
        const CALL: &str = "iam.CreateInstanceProfile";
        let request = self.api.create_instance_profile().instance_profile_name(name).path(self.path());
        match request.set_tags(Some(self.tags(CALL, tags)?)).send().await {
            Err(error) if !is(&error, THERE) => Err(classify(CALL, error)),
            _ => Ok(()),
        }
    }

    async fn fill_profile(&self, name: &str) -> Result<()> {
        const CALL: &str = "iam.AddRoleToInstanceProfile";
        let request = self.api.add_role_to_instance_profile().instance_profile_name(name).role_name(name);
        let Err(error) = request.send().await else { return Ok(()) };
        // A profile holds one role; ours, when an earlier answer was lost.
        if is(&error, "LimitExceeded") {
            let found = self.api.get_instance_profile().instance_profile_name(name).send().await;
            let found = found.map_err(|error| classify("iam.GetInstanceProfile", error))?.instance_profile;
            if found.is_some_and(|profile| profile.roles().iter().any(|role| role.role_name() == name)) {
                return Ok(());
            }
        }
        // Either was made a moment ago, and is not known everywhere yet.
        Err(made_since(CALL, error, MISSING))
    }

    fn tags(&self, call: &'static str, tags: &Tags) -> Result<Vec<Tag>> {
        let pairs = tags::pairs(&self.settings.installation, tags).into_iter();
        let built = pairs.map(|(key, value)| Tag::builder().key(key).value(value).build());
        built.collect::<Result<_, _>>().map_err(|error| CloudError::Refused { call, cause: error.to_string() })
    }

    /// What a role may do that may use these buckets.
    fn policy(&self, buckets: &[String]) -> Value {
        let arns = |end: &str| -> Vec<String> {
            buckets.iter().map(|bucket| format!("arn:{}:s3:::{bucket}{end}", self.partition)).collect()
        };
        let mut statements = vec![
            json!({ "Effect": "Allow", "Action": ON_BUCKET, "Resource": arns("") }),
            json!({ "Effect": "Allow", "Action": ON_OBJECTS, "Resource": arns("/*") }),
        ];
        if let Some(key) = &self.settings.kms_key {
            statements.push(json!({ "Effect": "Allow", "Action": BY_KEY, "Resource": key }));
        }
        json!({ "Version": "2012-10-17", "Statement": statements })
    }
}

#[async_trait]
impl Roles for Iam {
    /// The role first: it is what is listed, so that nothing is ever without an owner that can be found.
    async fn create(&self, name: &str, tags: &Tags) -> Result<()> {
        Box::pin(self.create_role(name, tags)).await?;
        Box::pin(self.create_profile(name, tags)).await?;
        Box::pin(self.fill_profile(name)).await
    }

    async fn allow(&self, name: &str, buckets: &[String]) -> Result<()> {
        // A policy without a resource is malformed; a role without a policy may do nothing.
        if buckets.is_empty() {
            let answer = self.api.delete_role_policy().role_name(name).policy_name(POLICY).send().await;
            return unless_missing("iam.DeleteRolePolicy", answer);
        }
        let request = self.api.put_role_policy().role_name(name).policy_name(POLICY);
        let answer = request.policy_document(self.policy(buckets).to_string()).send().await;
        answer.map(drop).map_err(|error| made_since("iam.PutRolePolicy", error, MISSING))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let request = self.api.remove_role_from_instance_profile().instance_profile_name(name).role_name(name);
        unless_missing("iam.RemoveRoleFromInstanceProfile", request.send().await)?;
        let request = self.api.delete_instance_profile().instance_profile_name(name);
        unless_missing("iam.DeleteInstanceProfile", request.send().await)?;
        let request = self.api.delete_role_policy().role_name(name).policy_name(POLICY);
        unless_missing("iam.DeleteRolePolicy", request.send().await)?;
        unless_missing("iam.DeleteRole", self.api.delete_role().role_name(name).send().await)
    }

    async fn list(&self) -> Result<Vec<Role>> {
        let mut pages = self.api.list_roles().path_prefix(self.path()).into_paginator().send();
        let mut roles = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| classify("iam.ListRoles", error))?;
            roles.extend(page.roles().iter().filter_map(read));
        }
        Ok(roles)
    }
}

fn unless_missing<T, E>(call: &'static str, answer: Result<T, crate::error::Failed<E>>) -> Result<()>
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Err(error) if !is(&error, MISSING) => Err(classify(call, error)),
        _ => Ok(()),
    }
}

/// EC2 gives the role to whoever runs on the instance.
fn trust() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Effect": "Allow", "Principal": { "Service": "ec2.amazonaws.com" }, "Action": "sts:AssumeRole" },
        ],
    })
}

/// Tags, where a list tells them: in the description (`ListRoles` "does not return … tags",
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListRoles.html>).
fn described(tags: &Tags) -> String {
    json!(tags).to_string()
}

fn read(role: &aws_sdk_iam::types::Role) -> Option<Role> {
    let tags = serde_json::from_str(role.description()?).ok()?;
    Some(Role { name: role.role_name().to_owned(), tags })
}

/// "Amazon Resource Names", AWS General Reference:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

//! A client's own way to their bucket: links that are good for minutes, and credentials for an hour that reach
//! their bucket alone.

use std::time::Duration;

use aws_sdk_iam::types::Tag;
use aws_sdk_s3::presigning::PresigningConfig;
use secrecy::SecretString;
use stackpro_cloud::{BucketCredentials, CloudError, Link, LinkUse, Result};

use super::{S3, policy, unbuilt};
use crate::error::{classify, is};
use crate::identity::Identity;
use crate::tags::INSTALLATION;

/// A role is known everywhere some seconds after it was made.
const KNOWN_AFTER: Duration = Duration::from_secs(10);

impl S3 {
    pub(super) async fn presign(&self, name: &str, key: &str, what: &LinkUse, lifetime: Duration) -> Result<Link> {
        let for_so_long = PresigningConfig::expires_in(lifetime).map_err(unbuilt)?;
        let signed = match what {
            LinkUse::Get => {
                let call = self.client.get_object().bucket(name).key(key);
                // Never shown as a page of the bucket's host.
                let call = call.response_content_disposition("attachment");
                call.presigned(for_so_long).await.map_err(|error| classify("s3.GetObject", error))?
            }
            LinkUse::Put { content_type, content_length } => {
                let length = i64::try_from(*content_length).map_err(unbuilt)?;
                let call = self.client.put_object().bucket(name).key(key);
                let call = call.content_type(content_type).content_length(length);
                call.presigned(for_so_long).await.map_err(|error| classify("s3.PutObject", error))?
            }
        };
        let headers = signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Link { method: signed.method().to_owned(), url: signed.uri().to_owned(), headers })
    }

    /// The role of which clients' sessions are, each held to one bucket.
    pub(super) fn storage_role(&self, identity: &Identity) -> String {
        format!(
            "arn:{}:iam::{}:role{}{}",
            identity.partition,
            identity.account,
            self.roles_path(),
            self.storage_role_name()
        )
    }

    /// Under which every role of ours is (`crates/cloud-aws/src/roles.rs`).
    fn roles_path(&self) -> String {
        format!("/stackpro/{}/", self.installation())
    }

    fn storage_role_name(&self) -> String {
        format!("{}-storage", self.installation())
    }

    pub(super) async fn session(&self, name: &str, lifetime: Duration) -> Result<BucketCredentials> {
        const CALL: &str = "sts.AssumeRole";
        let identity = self.aws.identity().await?;
        let seconds = i32::try_from(lifetime.as_secs()).map_err(unbuilt)?;
        let taken = aws_sdk_sts::Client::new(self.aws.sdk())
            .assume_role()
            .role_arn(self.storage_role(identity))
            // In the account's logs; at most 64 letters, and a bucket's name has no others than these.
            .role_session_name(name)
            .policy(policy::session(identity, name, self.aws.settings().kms_key.as_deref()).to_string())
            .duration_seconds(seconds)
            .send()
            .await;
        let given = match taken {
            Ok(answer) => answer.credentials,
            // AWS says so of a role that is not there, too.
            Err(error) if is(&error, "AccessDenied") => {
                if self.make_storage_role(identity).await? {
                    let what = "the role for storage sessions is being made".to_owned();
                    return Err(CloudError::Pending { call: CALL, what, after: KNOWN_AFTER });
                }
                return Err(classify(CALL, error));
            }
            Err(error) => return Err(classify(CALL, error)),
        };
        let Some(given) = given else {
            return Err(CloudError::Transient { call: CALL, cause: "the answer holds no credentials".into() });
        };
        Ok(BucketCredentials {
            region: self.aws.region().unwrap_or(super::FIRST_REGION).to_owned(),
            endpoint: self.aws.settings().endpoint.clone(),
            access_key_id: given.access_key_id,
            secret_access_key: SecretString::from(given.secret_access_key),
            session_token: SecretString::from(given.session_token),
            writable: policy::CLIENTS_FOLDER.to_owned(),
        })
    }

    /// One of an installation, made at the first need. True when there was none, or it lacked its policy.
    async fn make_storage_role(&self, identity: &Identity) -> Result<bool> {
        let iam = aws_sdk_iam::Client::new(self.aws.sdk());
        let name = self.storage_role_name();
        let mut ours = identity.principals.clone();
        ours.extend(self.aws.settings().bucket_principals.clone());
        let trust = policy::trust(identity, &ours).to_string();
        let tag = Tag::builder().key(INSTALLATION).value(self.installation()).build().map_err(unbuilt)?;
        let made = iam
            .create_role()
            .role_name(&name)
            .path(self.roles_path())
            .set_permissions_boundary(self.aws.settings().permissions_boundary.clone())
            .description("Clients' hours with their own buckets, each held to one by a session policy")
            .assume_role_policy_document(&trust)
            .tags(tag)
            .send()
            .await;
        let is_new = match made {
            Ok(_) => true,
            Err(error) if is(&error, "EntityAlreadyExists") => false,
            Err(error) => return Err(classify("iam.CreateRole", error)),
        };
        if !is_new {
            let held = iam.get_role_policy().role_name(&name).policy_name(&name).send().await;
            match held {
                // It is whole, and yet we may not take it: then our own rights, or its trust, are not as they were.
                Ok(_) => {
                    let update = iam.update_assume_role_policy().role_name(&name).policy_document(&trust);
                    update.send().await.map_err(|error| classify("iam.UpdateAssumeRolePolicy", error))?;
                    return Ok(false);
                }
                Err(error) if is(&error, "NoSuchEntity") => {}
                Err(error) => return Err(classify("iam.GetRolePolicy", error)),
            }
        }
        let rights = policy::storage_role(identity, self.aws.settings().kms_key.as_deref()).to_string();
        let put = iam.put_role_policy().role_name(&name).policy_name(&name).policy_document(rights).send().await;
        put.map_err(|error| classify("iam.PutRolePolicy", error))?;
        Ok(true)
    }
}

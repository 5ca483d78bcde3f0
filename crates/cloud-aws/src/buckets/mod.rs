//! A bucket per client on S3: closed to the public, versioned, encrypted, and reached over TLS by those who are
//! admitted alone.
//!
//! ```text
//! mod      made, configured, listed
//! whose    whether a name is ours, before anything is done to it
//! empty    emptied and removed, a bounded part at a time
//! policy   who may do what
//! access   links and credentials for a client
//! ```

mod access;
mod empty;
pub(crate) mod policy;
mod whose;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint, BucketVersioningStatus,
    CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
    NoncurrentVersionExpiration, ObjectOwnership, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule, Tag, Tagging,
    VersioningConfiguration,
};
use stackpro_cloud::{Bucket, BucketCredentials, Buckets, CloudError, Link, LinkUse, Result, Tags};

use crate::Aws;
use crate::error::{classify, is};
use crate::identity::Identity;
use whose::Whose;

/// So long an old version can be brought back, in days.
const OLD_VERSIONS_DAYS: i32 = 30;
/// An upload in parts that was begun and not ended is of no use; its parts cost.
const ABANDONED_UPLOADS_DAYS: i32 = 3;
/// The first region: it takes no location, and answers a second creation as if it were the first.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>
const FIRST_REGION: &str = "us-east-1";

/// [`Buckets`] on S3.
pub struct S3 {
    aws: Aws,
    client: aws_sdk_s3::Client,
    /// What each bucket of a name is marked with, none when it is not ours: it never changes, and S3 tells one
    /// bucket's at a time. By name and time of creation, since a name may be another bucket's later.
    marks: Mutex<HashMap<(String, i64), Option<Tags>>>,
}

impl S3 {
    pub fn new(aws: &Aws) -> Self {
        let config = aws_sdk_s3::config::Builder::from(aws.sdk())
            // Emulators have no name for each bucket.
            .force_path_style(aws.settings().endpoint.is_some())
            .build();
        Self { aws: aws.clone(), client: aws_sdk_s3::Client::from_conf(config), marks: Mutex::default() }
    }

    fn installation(&self) -> &str {
        &self.aws.settings().installation
    }

    async fn account(&self) -> Result<&str> {
        Ok(&self.aws.identity().await?.account)
    }

    /// Who always reaches a bucket: we, whom the operator names, and clients' sessions, which are held to one bucket.
    fn always_admitted(&self, identity: &Identity) -> Vec<String> {
        let mut admitted = identity.principals.clone();
        admitted.extend(self.aws.settings().bucket_principals.clone());
        admitted.push(self.storage_role(identity));
        admitted
    }

    /// Makes it, unless it is there. `Taken` when somebody else has it.
    async fn make(&self, name: &str, tags: &Tags) -> Result<()> {
        const CALL: &str = "s3.CreateBucket";
        let region = self.aws.region().unwrap_or(FIRST_REGION);
        if region == FIRST_REGION && self.is_made(name, tags).await? {
            return Ok(());
        }
        let place = (region != FIRST_REGION).then(|| BucketLocationConstraint::from(region));
        let configuration = CreateBucketConfiguration::builder()
            .set_location_constraint(place)
            .set_tags(Some(self.tags(tags)?))
            .build();
        let made = self
            .client
            .create_bucket()
            .bucket(name)
            .object_ownership(ObjectOwnership::BucketOwnerEnforced)
            .create_bucket_configuration(configuration)
            .send()
            .await;
        match made {
            Ok(_) => Ok(()),
            Err(error) if is(&error, "BucketAlreadyOwnedByYou") => {
                if self.is_made(name, tags).await? {
                    return Ok(());
                }
                let cause = format!("{name} is there and cannot be seen yet");
                Err(CloudError::Transient { call: CALL, cause })
            }
            Err(error) if is(&error, "BucketAlreadyExists") => Err(taken(name)),
            Err(error) if is(&error, "TooManyBuckets") => {
                let cause = "TooManyBuckets: raise the account's quota of S3 buckets in Service Quotas".to_owned();
                Err(CloudError::Refused { call: CALL, cause })
            }
            Err(error) => Err(classify(CALL, error)),
        }
    }

    /// Whether there is one, made for this resource.
    async fn is_made(&self, name: &str, tags: &Tags) -> Result<bool> {
        match self.whose(name).await? {
            Whose::Nobodys => Ok(false),
            Whose::Ours(found) if found.resource_id == tags.resource_id => Ok(true),
            // Made by one of us who died before it was marked: it bears our name, and nothing is in it.
            Whose::Unmarked if self.is_empty(name).await? => Ok(true),
            Whose::Ours(_) | Whose::Unmarked | Whose::Strangers => Err(taken(name)),
        }
    }

    /// Everything that is said of a bucket, one after another: S3 refuses two at once. Each call says how it
    /// shall be, so that one that was made before, or changed by hand, is put right.
    async fn configure(&self, name: &str, tags: &Tags) -> Result<()> {
        let owner = self.account().await?;
        let closed = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let call = self.client.put_public_access_block().bucket(name).expected_bucket_owner(owner);
        let done = call.public_access_block_configuration(closed).send().await;
        done.map_err(|error| configuring("s3.PutPublicAccessBlock", error))?;

        let versions = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let call = self.client.put_bucket_versioning().bucket(name).expected_bucket_owner(owner);
        let done = call.versioning_configuration(versions).send().await;
        done.map_err(|error| configuring("s3.PutBucketVersioning", error))?;

        let call = self.client.put_bucket_encryption().bucket(name).expected_bucket_owner(owner);
        let done = call.server_side_encryption_configuration(self.encryption()?).send().await;
        done.map_err(|error| configuring("s3.PutBucketEncryption", error))?;

        let call = self.client.put_bucket_lifecycle_configuration().bucket(name).expected_bucket_owner(owner);
        let done = call.lifecycle_configuration(lifecycle()?).send().await;
        done.map_err(|error| configuring("s3.PutBucketLifecycleConfiguration", error))?;

        let tags = Tagging::builder().set_tag_set(Some(self.tags(tags)?)).build().map_err(unbuilt)?;
        let call = self.client.put_bucket_tagging().bucket(name).expected_bucket_owner(owner);
        let done = call.tagging(tags).send().await;
        done.map_err(|error| configuring("s3.PutBucketTagging", error))?;
        Ok(())
    }

    /// `instances` are admitted beside those who always are.
    async fn put_policy(&self, name: &str, instances: Option<String>) -> Result<()> {
        let identity = self.aws.identity().await?;
        let mut admitted = self.always_admitted(identity);
        admitted.extend(instances);
        let policy = policy::bucket(identity, name, &admitted).to_string();
        let call = self.client.put_bucket_policy().bucket(name).expected_bucket_owner(&identity.account);
        let done = call.policy(policy).send().await;
        done.map(drop).map_err(|error| configuring("s3.PutBucketPolicy", error))
    }

    fn encryption(&self) -> Result<ServerSideEncryptionConfiguration> {
        let default = match &self.aws.settings().kms_key {
            Some(key) => {
                let default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::AwsKms);
                default.kms_master_key_id(key).build()
            }
            None => ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256).build(),
        };
        // One key for a bucket's objects of a while, instead of a call to KMS for each.
        let rule = ServerSideEncryptionRule::builder().bucket_key_enabled(true);
        let rule = rule.apply_server_side_encryption_by_default(default.map_err(unbuilt)?).build();
        ServerSideEncryptionConfiguration::builder().rules(rule).build().map_err(unbuilt)
    }

    fn tags(&self, tags: &Tags) -> Result<Vec<Tag>> {
        let pairs = crate::tags::pairs(self.installation(), tags).into_iter();
        pairs.map(|(key, value)| Tag::builder().key(key).value(value).build().map_err(unbuilt)).collect()
    }
}

#[async_trait]
impl Buckets for S3 {
    async fn create(&self, name: &str, tags: &Tags) -> Result<()> {
        self.make(name, tags).await?;
        self.configure(name, tags).await?;
        let instances = policy::instance_roles(self.aws.identity().await?, self.installation());
        self.put_policy(name, Some(instances)).await
    }

    async fn delete(&self, name: &str, resource_id: &str) -> Result<()> {
        let ours = match self.whose(name).await? {
            Whose::Ours(tags) => tags.resource_id == resource_id,
            Whose::Unmarked => self.is_empty(name).await?,
            Whose::Nobodys | Whose::Strangers => false,
        };
        if ours { self.remove(name).await } else { Ok(()) }
    }

    /// S3 tells the tags of one bucket at a time. So they are asked for once a process and bucket, and a usual
    /// look is one call.
    async fn list(&self) -> Result<Vec<Bucket>> {
        let mut found = HashMap::new();
        for (name, made_at) in self.names(stackpro_cloud::BUCKET_PREFIX).await? {
            let known = self.marks().get(&(name.clone(), made_at)).cloned();
            let tags = match known {
                Some(tags) => tags,
                None => match self.whose(&name).await? {
                    Whose::Ours(tags) => Some(tags),
                    // Not marked yet: asked again the next time.
                    Whose::Unmarked | Whose::Nobodys => continue,
                    Whose::Strangers => None,
                },
            };
            found.insert((name, made_at), tags);
        }
        self.marks().clone_from(&found);
        let ours = found.into_iter().filter_map(|((name, _), tags)| Some(Bucket { name, tags: tags? }));
        Ok(ours.collect())
    }

    async fn link(&self, name: &str, key: &str, what: &LinkUse, lifetime: Duration) -> Result<Link> {
        self.presign(name, key, what, lifetime).await
    }

    async fn credentials(&self, name: &str, lifetime: Duration) -> Result<Option<BucketCredentials>> {
        self.session(name, lifetime).await.map(Some)
    }
}

impl S3 {
    fn marks(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i64), Option<Tags>>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lifecycle() -> Result<BucketLifecycleConfiguration> {
    let old = NoncurrentVersionExpiration::builder().noncurrent_days(OLD_VERSIONS_DAYS).build();
    let parts = AbortIncompleteMultipartUpload::builder().days_after_initiation(ABANDONED_UPLOADS_DAYS).build();
    let rule = LifecycleRule::builder()
        .id("stackpro-tidy")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build())
        .noncurrent_version_expiration(old)
        // A mark of deletion with nothing below it.
        .expiration(LifecycleExpiration::builder().expired_object_delete_marker(true).build())
        .abort_incomplete_multipart_upload(parts)
        .build()
        .map_err(unbuilt)?;
    BucketLifecycleConfiguration::builder().rules(rule).build().map_err(unbuilt)
}

fn taken(name: &str) -> CloudError {
    CloudError::Taken { call: "s3.CreateBucket", cause: format!("somebody else has a bucket named {name}") }
}

/// A bucket may be unknown in places for a moment after it was made.
fn configuring<E>(call: &'static str, error: crate::error::Failed<E>) -> CloudError
where
    E: aws_smithy_types::error::metadata::ProvideErrorMetadata + std::error::Error + 'static,
{
    let unknown_yet = is(&error, "NoSuchBucket");
    match classify(call, error) {
        CloudError::Refused { call, cause } if unknown_yet => CloudError::Transient { call, cause },
        other => other,
    }
}

fn unbuilt(error: impl std::fmt::Display) -> CloudError {
    CloudError::Refused { call: "s3", cause: error.to_string() }
}

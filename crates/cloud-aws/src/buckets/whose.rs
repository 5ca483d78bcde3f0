//! Whether a bucket of some name is ours. Names are the whole world's, so this is asked before anything is done to
//! one that we have not just made.

use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use stackpro_cloud::{CloudError, Result, Tags};

use super::S3;
use crate::error::{classify, code};

pub(super) enum Whose {
    Nobodys,
    /// This installation's.
    Ours(Tags),
    /// In our account, and nothing says what it is for.
    Unmarked,
    /// Another account's; or in ours, and another installation's or the operator's own.
    Strangers,
}

impl S3 {
    pub(super) async fn whose(&self, name: &str) -> Result<Whose> {
        const CALL: &str = "s3.GetBucketTagging";
        let owner = self.account().await?;
        let error = match self.client.get_bucket_tagging().bucket(name).expected_bucket_owner(owner).send().await {
            Ok(answer) => {
                let pairs = answer.tag_set().iter().map(|tag| (tag.key(), tag.value()));
                let ours = crate::tags::read(self.installation(), pairs);
                return Ok(ours.map_or(Whose::Strangers, Whose::Ours));
            }
            Err(error) => error,
        };
        match code(&error) {
            Some("NoSuchBucket") => Ok(Whose::Nobodys),
            Some("NoSuchTagSet") => Ok(Whose::Unmarked),
            // Another region's is not one that was made here.
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed") => Ok(Whose::Strangers),
            // Said of others' buckets, and of ours when we may not look.
            Some("AccessDenied") => {
                let owned = self.names(name).await?.iter().any(|(owned, _)| owned == name);
                if owned { Err(classify(CALL, error)) } else { Ok(Whose::Strangers) }
            }
            _ => Err(classify(CALL, error)),
        }
    }

    /// The account's buckets here whose names begin so, and when each was made, in seconds.
    pub(super) async fn names(&self, prefix: &str) -> Result<Vec<(String, i64)>> {
        let mut names = Vec::new();
        let mut token = None;
        loop {
            let call = self.client.list_buckets().prefix(prefix).max_buckets(1_000);
            let call = call.set_bucket_region(self.aws.region().map(str::to_owned)).set_continuation_token(token);
            let page = call.send().await.map_err(|error| classify("s3.ListBuckets", error))?;
            for bucket in page.buckets() {
                let Some(name) = bucket.name().filter(|name| name.starts_with(prefix)) else { continue };
                let made_at = bucket.creation_date().map_or(0, aws_smithy_types::DateTime::secs);
                names.push((name.to_owned(), made_at));
            }
            token = page.continuation_token;
            if token.is_none() {
                return Ok(names);
            }
        }
    }

    /// How many the account has, in every region.
    pub(crate) async fn count(&self) -> Result<u32> {
        let (mut count, mut token) = (0, None);
        loop {
            let call = self.client.list_buckets().max_buckets(1_000).set_continuation_token(token);
            let page = call.send().await.map_err(|error| classify("s3.ListBuckets", error))?;
            count += u32::try_from(page.buckets().len()).unwrap_or(u32::MAX);
            token = page.continuation_token;
            if token.is_none() {
                return Ok(count);
            }
        }
    }

    pub(super) async fn is_empty(&self, name: &str) -> Result<bool> {
        let owner = self.account().await?;
        let call = self.client.list_object_versions().bucket(name).expected_bucket_owner(owner).max_keys(1);
        match call.send().await {
            Ok(page) => Ok(page.versions().is_empty() && page.delete_markers().is_empty()),
            Err(error) if error.code() == Some("NoSuchBucket") => {
                let cause = "the bucket cannot be seen yet".to_owned();
                Err(CloudError::Transient { call: "s3.ListObjectVersions", cause })
            }
            Err(error) => Err(classify("s3.ListObjectVersions", error)),
        }
    }
}

//! A bucket is emptied and removed: every version, every mark of deletion, every unfinished upload. There may be
//! millions, so one call does a bounded part, and the next goes on where it ended.

use std::time::Duration;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use stackpro_cloud::{CloudError, Result};

use super::{S3, unbuilt};
use crate::error::{classify, is};

/// Of a thousand objects each, which is as many as S3 takes in one call, and a call takes about a second.
const PAGES: usize = 10;
const AGAIN: Duration = Duration::from_millis(100);

impl S3 {
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        // Whoever still runs for the client writes nothing more; and if we were shut out ourselves, no longer.
        match self.put_policy(name, None).await {
            // It is gone since somebody looked.
            Err(CloudError::Transient { cause, .. }) if cause.starts_with("NoSuchBucket") => return Ok(()),
            done => done?,
        }
        let mut removed = 0;
        for _ in 0..PAGES {
            let page = self.remove_page(name).await? + self.abort_uploads(name).await?;
            removed += page;
            if page == 0 {
                return self.remove_empty(name).await;
            }
        }
        Err(pending(format!("{removed} objects removed, and there are more")))
    }

    /// Of objects, at most a thousand: how many.
    async fn remove_page(&self, name: &str) -> Result<usize> {
        let owner = self.account().await?;
        let call = self.client.list_object_versions().bucket(name).expected_bucket_owner(owner);
        let page = call.send().await.map_err(|error| classify("s3.ListObjectVersions", error))?;
        let versions = page.versions().iter().map(|version| (version.key(), version.version_id()));
        let marks = page.delete_markers().iter().map(|mark| (mark.key(), mark.version_id()));
        let mut objects = Vec::new();
        for (key, version) in versions.chain(marks) {
            let object = ObjectIdentifier::builder().key(key.unwrap_or_default());
            objects.push(object.set_version_id(version.map(str::to_owned)).build().map_err(unbuilt)?);
        }
        let count = objects.len();
        if count == 0 {
            return Ok(0);
        }
        // Answered with what could not be removed alone.
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(unbuilt)?;
        let call = self.client.delete_objects().bucket(name).expected_bucket_owner(owner).delete(delete);
        let answer = call.send().await.map_err(|error| classify("s3.DeleteObjects", error))?;
        match answer.errors().first() {
            None => Ok(count),
            Some(error) => {
                let (code, key) = (error.code().unwrap_or_default(), error.key().unwrap_or_default());
                let said = error.message().unwrap_or_default();
                let cause = format!("{code}: {said} ({} objects, the first is {key:?})", answer.errors().len());
                Err(CloudError::Transient { call: "s3.DeleteObjects", cause })
            }
        }
    }

    async fn abort_uploads(&self, name: &str) -> Result<usize> {
        let owner = self.account().await?;
        let call = self.client.list_multipart_uploads().bucket(name).expected_bucket_owner(owner).max_uploads(100);
        let page = call.send().await.map_err(|error| classify("s3.ListMultipartUploads", error))?;
        for upload in page.uploads() {
            let (key, id) = (upload.key().unwrap_or_default(), upload.upload_id().unwrap_or_default());
            let call = self.client.abort_multipart_upload().bucket(name).expected_bucket_owner(owner);
            match call.key(key).upload_id(id).send().await {
                Ok(_) => {}
                Err(error) if is(&error, "NoSuchUpload") => {}
                Err(error) => return Err(classify("s3.AbortMultipartUpload", error)),
            }
        }
        Ok(page.uploads().len())
    }

    async fn remove_empty(&self, name: &str) -> Result<()> {
        let owner = self.account().await?;
        match self.client.delete_bucket().bucket(name).expected_bucket_owner(owner).send().await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, "NoSuchBucket") => Ok(()),
            Err(error) if is(&error, "BucketNotEmpty") => Err(pending("something was written meanwhile".into())),
            Err(error) => Err(classify("s3.DeleteBucket", error)),
        }
    }
}

fn pending(what: String) -> CloudError {
    CloudError::Pending { call: "s3.DeleteBucket", what, after: AGAIN }
}

//! Buckets: folders with tags, under S3's rules for names.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::faults::{Failure, Faults, refuse};
use super::files;
use super::storage::Storage;
use crate::{Bucket, BucketCredentials, Buckets, Link, LinkUse, Result, Tags};

pub(super) struct LocalBuckets {
    pub(super) folder: PathBuf,
    pub(super) storage: Arc<Storage>,
    pub(super) faults: Arc<Faults>,
}

/// `buckets/<name>/bucket.json`
#[derive(Serialize, Deserialize)]
struct BucketFile {
    tags: Tags,
}

#[async_trait]
impl Buckets for LocalBuckets {
    async fn create(&self, name: &str, tags: &Tags) -> Result<()> {
        let (folder, name, tags) = (self.folder.clone(), name.to_owned(), tags.clone());
        self.faults.around("buckets.create", move || create(folder, &name, tags)).await
    }

    async fn delete(&self, name: &str, resource_id: &str) -> Result<()> {
        let (folder, name, resource) = (self.folder.clone(), name.to_owned(), resource_id.to_owned());
        let work = move || {
            check_name(&name)?;
            let path = folder.join(name);
            match files::read::<BucketFile>(&path.join("bucket.json"))? {
                Some(bucket) if bucket.tags.resource_id == resource => Ok(files::remove_folder(&path)?),
                _ => Ok(()),
            }
        };
        self.faults.around("buckets.delete", work).await
    }

    async fn list(&self) -> Result<Vec<Bucket>> {
        let folder = self.folder.clone();
        let work = move || {
            let mut buckets = Vec::new();
            for name in files::names(&folder)? {
                // None when it was deleted since.
                if let Some(file) = files::read::<BucketFile>(&folder.join(&name).join("bucket.json"))? {
                    buckets.push(Bucket { name, tags: file.tags });
                }
            }
            Ok(buckets)
        };
        self.faults.around("buckets.list", work).await
    }

    async fn link(&self, name: &str, key: &str, what: &LinkUse, lifetime: Duration) -> Result<Link> {
        let (storage, name, key, what) = (self.storage.clone(), name.to_owned(), key.to_owned(), what.clone());
        let work = move || {
            check_name(&name)?;
            Ok(storage.link(&name, &key, &what, lifetime))
        };
        self.faults.around("buckets.link", work).await
    }

    /// There is nothing that they would be good for: no tool for S3 reaches a folder.
    async fn credentials(&self, _: &str, _: Duration) -> Result<Option<BucketCredentials>> {
        Ok(None)
    }
}

fn create(folder: PathBuf, name: &str, tags: Tags) -> Result<(), Failure> {
    check_name(name)?;
    let path = folder.join(name);
    let file = BucketFile { tags };
    let made = files::create_folder(&path, |new| {
        fs::create_dir(new.join("objects"))?;
        files::write(&new.join("bucket.json"), &file)
    })?;
    if made {
        return Ok(());
    }
    match files::read::<BucketFile>(&path.join("bucket.json"))? {
        Some(owner) if owner.tags.resource_id != file.tags.resource_id => {
            Err(Failure::Taken("BucketAlreadyExists: the requested bucket name is not available".to_owned()))
        }
        _ => Ok(()),
    }
}

/// S3's rules for general purpose buckets (Amazon S3 User Guide, "General purpose bucket naming rules").
fn check_name(name: &str) -> Result<(), Failure> {
    const PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
    const SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = name.as_bytes();
    let ok = (3..=63).contains(&name.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
        && edge(bytes.first())
        && edge(bytes.last())
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err()
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if ok { Ok(()) } else { refuse("InvalidBucketName", "the specified bucket is not valid") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_s3() {
        for good in ["abc", "stackpro-acme-law-7f3k", "a.b-c.0", &"x".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            &"x".repeat(64),
            "Abc",
            "a_b",
            "-abc",
            "abc-",
            ".abc",
            "a..b",
            "192.168.5.4",
            "xn--abc",
            "sthree-abc",
            "amzn-s3-demo-x",
            "abc-s3alias",
            "abc--ol-s3",
            "../../etc",
            "a/b",
            "a\0b",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

//! Roles: files that say which buckets an instance may use, under IAM's rules for names.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::faults::{Failure, Faults, refuse};
use super::files;
use crate::{Result, Role, Roles, Tags};

pub(super) struct LocalRoles {
    pub(super) files: RoleFiles,
    pub(super) faults: Arc<Faults>,
}

/// `roles/<name>.json` each.
#[derive(Clone)]
pub(super) struct RoleFiles {
    pub(super) folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct RoleFile {
    tags: Tags,
    buckets: Vec<String>,
}

#[async_trait]
impl Roles for LocalRoles {
    async fn create(&self, name: &str, tags: &Tags) -> Result<()> {
        let (files, name, tags) = (self.files.clone(), name.to_owned(), tags.clone());
        self.faults.around("roles.create", move || files.create(&name, tags)).await
    }

    async fn allow(&self, name: &str, buckets: &[String]) -> Result<()> {
        let (files, name, buckets) = (self.files.clone(), name.to_owned(), buckets.to_vec());
        self.faults.around("roles.allow", move || files.allow(&name, buckets)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let (files, name) = (self.files.clone(), name.to_owned());
        self.faults.around("roles.delete", move || files.delete(&name)).await
    }

    async fn list(&self) -> Result<Vec<Role>> {
        let files = self.files.clone();
        self.faults.around("roles.list", move || Ok(files.list()?)).await
    }
}

impl RoleFiles {
    /// Whether an instance can be launched with it.
    pub(super) fn exists(&self, name: &str) -> bool {
        self.path(name).is_ok_and(|path| path.exists())
    }

    fn create(&self, name: &str, tags: Tags) -> Result<(), Failure> {
        let (path, file) = (self.path(name)?, RoleFile { tags, buckets: Vec::new() });
        if files::create(&path, &file)? {
            return Ok(());
        }
        match files::read::<RoleFile>(&path)? {
            Some(owner) if owner.tags != file.tags => {
                refuse("EntityAlreadyExists", format!("Role with name {name} already exists."))
            }
            _ => Ok(()),
        }
    }

    fn allow(&self, name: &str, buckets: Vec<String>) -> Result<(), Failure> {
        let path = self.path(name)?;
        // One that is deleted meanwhile does not come back.
        let _busy = self.lock()?;
        match files::read::<RoleFile>(&path)? {
            Some(file) => Ok(files::write(&path, &RoleFile { buckets, ..file })?),
            None => refuse("NoSuchEntity", format!("The role with name {name} cannot be found.")),
        }
    }

    fn delete(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name)?;
        let _busy = self.lock()?;
        Ok(files::remove(&path)?)
    }

    fn list(&self) -> io::Result<Vec<Role>> {
        let mut roles = Vec::new();
        for file in files::names(&self.folder)? {
            // None when it was deleted since.
            if let Some(name) = file.strip_suffix(".json")
                && let Some(RoleFile { tags, .. }) = files::read(&self.folder.join(&file))?
            {
                roles.push(Role { name: name.to_owned(), tags });
            }
        }
        Ok(roles)
    }

    /// IAM's rule: 1 to 64 letters, digits and `+=,.@_-`
    /// (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>).
    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        let ok = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b));
        if ok {
            Ok(self.folder.join(format!("{name}.json")))
        } else {
            refuse("ValidationError", "1 validation error detected: the value at 'roleName' is not a role's name")
        }
    }

    fn lock(&self) -> io::Result<fs::File> {
        let file = files::lock_file(&self.folder.join(".lock"))?;
        file.lock()?;
        Ok(file)
    }
}

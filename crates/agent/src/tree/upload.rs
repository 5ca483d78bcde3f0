//! A file on its way in: limited while it streams, hashed as it is written, and visible at once or never.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::index::Node;
use super::{Result, Tree, TreeError, now_ns, scan};
use crate::disk;
use crate::path::DataPath;

pub(crate) struct Upload {
    tree: Arc<Tree>,
    path: DataPath,
    temporary: PathBuf,
    file: Option<tokio::fs::File>,
    hasher: blake3::Hasher,
    written: u64,
    expected: Option<u64>,
    /// Bytes of the file that this one replaces: they need no room of their own.
    credit: u64,
    /// What of [`super::State::reserved`] is ours.
    reserved: u64,
}

impl Upload {
    pub(super) fn begin(tree: Arc<Tree>, path: &DataPath, expected: Option<u64>) -> Result<Self> {
        let credit = {
            let state = tree.state();
            state.check_place(path)?;
            match state.index.get(path) {
                Some(Node::Folder { .. }) => return Err(TreeError::Exists),
                Some(node) => node.bytes(),
                None => 0,
            }
        };
        let temporary = tree.staging.join(disk::unique("upload"));
        let (hasher, path) = (blake3::Hasher::new(), path.clone());
        let mut upload = Self { tree, path, temporary, file: None, hasher, written: 0, expected, credit, reserved: 0 };
        upload.reserve(expected.unwrap_or(0))?;
        let file = fs::File::options().write(true).create_new(true).open(&upload.temporary)?;
        upload.file = Some(tokio::fs::File::from_std(file));
        Ok(upload)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let total = self.written + bytes.len() as u64;
        self.reserve(total)?;
        let file = self.file.as_mut().ok_or(TreeError::Incomplete)?;
        file.write_all(bytes).await?;
        self.hasher.update(bytes);
        self.written = total;
        Ok(())
    }

    /// Makes the file visible, durably. When this returns an error nothing has changed.
    pub(crate) async fn finish(mut self) -> Result<Node> {
        if self.expected.is_some_and(|expected| expected != self.written) {
            return Err(TreeError::Incomplete);
        }
        let mut file = self.file.take().ok_or(TreeError::Incomplete)?;
        file.flush().await?;
        let file = file.into_std().await;
        tokio::task::spawn_blocking(move || {
            file.sync_all()?;
            self.publish(&file.metadata()?)
        })
        .await
        .map_err(std::io::Error::other)?
    }

    fn publish(mut self, metadata: &fs::Metadata) -> Result<Node> {
        let hash = Some(self.hasher.finalize().to_hex().to_string());
        let node = Node::File { bytes: self.written, modified_ns: scan::modified_ns(metadata), hash };
        {
            let mut state = self.tree.state();
            state.check_place(&self.path)?;
            let replaced = match state.index.get(&self.path) {
                Some(Node::Folder { .. }) => return Err(TreeError::Exists),
                Some(node) => node.bytes(),
                None => 0,
            };
            // Again, since what this replaces may have become smaller meanwhile.
            let others = state.index.bytes() - replaced + (state.reserved - self.reserved);
            state.limits.check_storage(others, self.written)?;
            fs::rename(&self.temporary, self.tree.place(&self.path))?;
            state.index.set(&self.path, node.clone());
            if let Some(parent) = self.path.parent() {
                state.index.touch(&parent, now_ns());
            }
            state.reserved -= std::mem::take(&mut self.reserved);
        }
        if let Some(parent) = self.path.parent() {
            disk::sync_folder(&self.tree.place(&parent))?;
        }
        Ok(node)
    }

    /// Makes sure that there is room for `total` bytes of this file.
    fn reserve(&mut self, total: u64) -> Result<()> {
        let more = total.saturating_sub(self.credit).saturating_sub(self.reserved);
        if more > 0 {
            let mut state = self.tree.state();
            state.limits.check_storage(state.index.bytes().saturating_add(state.reserved), more)?;
            state.reserved = state.reserved.saturating_add(more);
            self.reserved += more;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.tree.state().reserved -= self.reserved;
        // After a successful rename there is nothing at this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

//! What two agents say to each other during the move of volumes, beside [`super::transfer`], and the source's
//! side of it.

use std::io;

use axum::Json;
use axum::body::Body;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::source::NotNow;
use super::transfer::Admitted;
use crate::blocking;
use crate::tree::Cursor;
use crate::volumes::{BLOCK, Changes, Volumes, read_block};

/// Changes in one answer.
const PAGE: usize = 5_000;
/// Says instead of a length that there is no such block (any more).
const GONE: u32 = u32::MAX;

/// `POST volumes/changes` → [`VolumePage`]
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeQuestion {
    pub after: Cursor,
    /// Look at the disk first. Not while the stack is at rest: it was looked at then.
    pub look: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumePage {
    pub changes: Changes,
    pub files: u64,
    pub bytes: u64,
}

/// `POST volumes/blocks` (a list of these) → for each block a length (32 bits, little endian), and so many
/// bytes; or [`GONE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wanted {
    pub path: String,
    /// First block and how many.
    pub runs: Vec<(u32, u32)>,
}

pub(super) async fn list_changes(
    Admitted { stack, .. }: Admitted,
    Json(question): Json<VolumeQuestion>,
) -> Result<Json<VolumePage>, NotNow> {
    let project = stack.project.clone().ok_or(NotNow::Refused)?;
    // A look would wait for itself, and while nothing runs it finds nothing.
    let look = question.look && !stack.gate.is_held();
    let listed = blocking(move || {
        if look {
            project.volumes.look()?;
        }
        let (_, sums) = project.volumes.now();
        let changes = project.volumes.changes_since(&question.after, PAGE);
        Ok::<_, io::Error>(VolumePage { changes, files: sums.files, bytes: sums.bytes })
    });
    Ok(Json(listed.await??))
}

pub(super) async fn send_blocks(
    Admitted { stack, .. }: Admitted,
    Json(wanted): Json<Vec<Wanted>>,
) -> Result<Body, NotNow> {
    let project = stack.project.clone().ok_or(NotNow::Refused)?;
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        let sent = wanted.iter().try_for_each(|wanted| send(&project.volumes, wanted, &sender));
        if let Err(error) = sent {
            // The receiver sees a body that ends too early.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Ok(Body::from_stream(ReceiverStream::new(receiver)))
}

fn send(volumes: &Volumes, wanted: &Wanted, sender: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let file = volumes.place().open(&wanted.path)?;
    let mut buffer = vec![0; BLOCK];
    for index in wanted.runs.iter().flat_map(|(first, count)| *first..first.saturating_add(*count)) {
        let read = match &file {
            Some(file) => read_block(file, index, &mut buffer)?,
            None => 0,
        };
        let head = if read == 0 { GONE } else { read as u32 };
        let mut piece = Vec::with_capacity(4 + read);
        piece.extend_from_slice(&head.to_le_bytes());
        piece.extend_from_slice(&buffer[..read]);
        sender.blocking_send(Ok(piece.into())).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The length that a head says; none for a block that is gone.
pub(super) fn length_of(head: u32) -> Option<usize> {
    (head != GONE).then_some(head as usize)
}

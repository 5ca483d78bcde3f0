//! Who is signed in at a stack's portal. Only hashes of tokens are kept, on the disk, so that a restart
//! and a move sign nobody out.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use stackpro_domain::Time;
use stackpro_domain::time::HOUR;

use crate::{disk, secret};

/// How long a sign-in lasts.
const SESSION: i64 = 12 * HOUR;
/// Sessions and used links that are kept for one stack; beyond it the oldest end.
const MAX: usize = 200;

pub(crate) struct Sessions {
    file: PathBuf,
    kept: Mutex<Kept>,
}

/// What is on the disk, and what a move takes along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    sessions: Vec<Mark>,
    used_links: Vec<Mark>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mark {
    sha256: String,
    ends_at: Time,
}

impl Sessions {
    pub(crate) fn open(file: PathBuf) -> io::Result<Self> {
        let kept = Mutex::new(disk::read_json(&file)?.unwrap_or_default());
        Ok(Self { file, kept })
    }

    /// The token of a new session.
    pub(crate) fn begin(&self, now: Time) -> io::Result<String> {
        let token = secret::random();
        self.change(now, |kept| {
            kept.sessions.push(Mark { sha256: secret::sha256(&token), ends_at: now.plus(SESSION) });
        })?;
        Ok(token)
    }

    pub(crate) fn is_open(&self, token: &str, now: Time) -> bool {
        let hash = secret::sha256(token);
        self.kept().sessions.iter().any(|mark| mark.ends_at > now && secret::same(&mark.sha256, &hash))
    }

    pub(crate) fn end(&self, token: &str, now: Time) -> io::Result<()> {
        let hash = secret::sha256(token);
        self.change(now, |kept| kept.sessions.retain(|mark| mark.sha256 != hash))
    }

    /// Marks a link as used; `false` when it was before.
    pub(crate) fn use_link(&self, signature: &str, ends_at: Time, now: Time) -> io::Result<bool> {
        let sha256 = secret::sha256(signature);
        let mut fresh = false;
        self.change(now, |kept| {
            fresh = !kept.used_links.iter().any(|mark| mark.sha256 == sha256);
            if fresh {
                kept.used_links.push(Mark { sha256, ends_at });
            }
        })?;
        Ok(fresh)
    }

    pub(crate) fn export(&self) -> Kept {
        self.kept().clone()
    }

    pub(crate) fn import(&self, from: Kept, now: Time) -> io::Result<()> {
        self.change(now, |kept| *kept = from)
    }

    fn change(&self, now: Time, change: impl FnOnce(&mut Kept)) -> io::Result<()> {
        let mut kept = self.kept();
        let mut next = kept.clone();
        for marks in [&mut next.sessions, &mut next.used_links] {
            marks.retain(|mark| mark.ends_at > now);
        }
        change(&mut next);
        for marks in [&mut next.sessions, &mut next.used_links] {
            marks.drain(..marks.len().saturating_sub(MAX));
        }
        disk::write_atomic(&self.file, &serde_json::to_vec(&next)?)?;
        *kept = next;
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_outlives_a_restart_and_ends_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sessions.json");
        let now = Time(1_000);
        let token = Sessions::open(file.clone()).unwrap().begin(now).unwrap();
        let again = Sessions::open(file.clone()).unwrap();
        assert!(again.is_open(&token, now) && !again.is_open("other", now));
        assert!(!again.is_open(&token, now.plus(SESSION)));
        assert!(!std::fs::read_to_string(&file).unwrap().contains(&token));
        again.end(&token, now).unwrap();
        assert!(!again.is_open(&token, now));
    }

    #[test]
    fn a_link_is_used_once_and_many_sessions_stay_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(dir.path().join("s")).unwrap();
        assert!(sessions.use_link("a", Time(9), Time(1)).unwrap());
        assert!(!sessions.use_link("a", Time(9), Time(1)).unwrap());
        let tokens: Vec<String> = (0..=MAX).map(|_| sessions.begin(Time(1)).unwrap()).collect();
        assert!(!sessions.is_open(&tokens[0], Time(1)) && sessions.is_open(&tokens[MAX], Time(1)));
    }
}

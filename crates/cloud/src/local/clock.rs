//! The time machine's clock: the system's time, and an offset that only grows and that all processes on
//! one folder share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use stackpro_domain::{Clock, Time};

use super::files;

/// How often the file is read for what other processes did, in milliseconds.
const LOOK_EVERY_MS: i64 = 500;

/// Reads the time in nanoseconds of work, but for a glance at `clock.json` twice a second.
pub struct LocalClock {
    file: PathBuf,
    offset: AtomicI64,
    looked: AtomicI64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClockFile {
    offset_ms: i64,
}

impl LocalClock {
    /// The clock of this folder, which exists. Fails when its file cannot be read: a clock that went back
    /// would be worse.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let file = folder.join("clock.json");
        let offset = read_offset(&file)?;
        Ok(Self { file, offset: AtomicI64::new(offset), looked: AtomicI64::new(system_ms()) })
    }

    /// Milliseconds that this clock is ahead of the system's.
    pub fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Moves the clock forward for every process, and returns the new time. It never goes back: a negative
    /// `ms` is taken as 0. Other processes notice within a second.
    pub fn advance(&self, ms: i64) -> io::Result<Time> {
        let lock = files::lock_file(&self.file.with_extension("lock"))?;
        lock.lock()?;
        let offset_ms = read_offset(&self.file)?.saturating_add(ms.max(0));
        files::write(&self.file, &ClockFile { offset_ms })?;
        self.offset.fetch_max(offset_ms, Ordering::Relaxed);
        Ok(self.now())
    }

    fn look(&self) {
        match read_offset(&self.file) {
            Ok(offset) => drop(self.offset.fetch_max(offset, Ordering::Relaxed)),
            Err(error) => tracing::warn!(%error, "the clock's file cannot be read; its last offset stays"),
        }
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Time {
        let system = system_ms();
        let looked = self.looked.load(Ordering::Relaxed);
        let due = !(looked..looked + LOOK_EVERY_MS).contains(&system);
        if due && self.looked.compare_exchange(looked, system, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.look();
        }
        Time(system.saturating_add(self.offset()))
    }
}

fn read_offset(file: &Path) -> io::Result<i64> {
    Ok(files::read::<ClockFile>(file)?.unwrap_or_default().offset_ms.max(0))
}

#[allow(clippy::disallowed_methods)] // the one place where real time enters: everything else is given a clock
fn system_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use stackpro_domain::time::DAY;

    use super::*;

    #[test]
    fn it_goes_forward_only_survives_and_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let clock = LocalClock::open(folder.path()).unwrap();
        let other = LocalClock::open(folder.path()).unwrap();
        let start = clock.now();
        clock.advance(DAY).unwrap();
        assert!((DAY..DAY + 10_000).contains(&clock.now().since(start)));
        clock.advance(-DAY).unwrap();
        assert_eq!(clock.offset(), DAY);
        assert_eq!(LocalClock::open(folder.path()).unwrap().offset(), DAY);
        let patience = Instant::now();
        while other.now().since(start) < DAY {
            assert!(patience.elapsed() < Duration::from_secs(5), "the other clock never noticed");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn advances_of_several_at_once_add_up() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let clock = LocalClock::open(folder.path()).unwrap();
                    (0..10).for_each(|_| assert!(clock.advance(5).unwrap().ms() > 0));
                });
            }
        });
        assert_eq!(LocalClock::open(folder.path()).unwrap().offset(), 400);
    }

    #[test]
    fn a_damaged_file_is_an_error_not_a_jump_back() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clock.json"), "").unwrap();
        assert!(LocalClock::open(folder.path()).is_err());
    }
}

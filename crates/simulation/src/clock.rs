//! Virtual time: it stands still until it is set.

use std::sync::atomic::{AtomicI64, Ordering};

use stackpro_domain::{Clock, Time};

pub(crate) struct VirtualClock(AtomicI64);

impl VirtualClock {
    pub(crate) fn at(start: Time) -> Self {
        Self(AtomicI64::new(start.ms()))
    }

    /// Time does not go back: what is due in the past is due now.
    pub(crate) fn advance_to(&self, time: Time) {
        self.0.fetch_max(time.ms(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        Time(self.0.load(Ordering::Relaxed))
    }
}

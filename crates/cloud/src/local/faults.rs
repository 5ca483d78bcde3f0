//! What goes wrong in a cloud, on purpose: latency, throttling, errors before a call took effect, and
//! answers lost after it did. Off unless set. Every call of every trait goes through [`Faults::around`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{CloudError, Result};

/// How often calls go wrong by chance. The k-th call of a name has the same fate in every run with the
/// same seed, whatever else runs beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultSettings {
    pub seed: u64,
    /// Probabilities from 0 to 1; together at most 1.
    pub throttle: f64,
    pub error_before: f64,
    pub error_after: f64,
    /// Each call takes this much longer, at least and at most, in milliseconds.
    pub latency_min_ms: u64,
    pub latency_max_ms: u64,
    /// Mail reaches verified domains alone, as in SES's sandbox.
    pub mail_sandbox: bool,
    /// Mails that are taken in a second by this process; 0 is any number.
    pub mail_per_second: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused for now, without effect.
    Throttle,
    /// Fails without effect.
    Before,
    /// Takes effect, and the answer is lost.
    After,
}

impl Fault {
    pub const ALL: [Self; 3] = [Self::Throttle, Self::Before, Self::After];
}

/// Why the work of a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    Refused(String),
    /// Passes when someone does something about it.
    Passing(String),
    Throttled(Duration),
    Taken(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Refuses, with the code and message that AWS would give.
pub(super) fn refuse<T>(code: &str, message: impl std::fmt::Display) -> Result<T, Failure> {
    Err(Failure::Refused(format!("{code}: {message}")))
}

pub struct Faults {
    settings: FaultSettings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: BTreeMap<&'static str, u64>,
    plan: HashMap<(String, u64), Fault>,
}

impl Faults {
    pub fn new(settings: FaultSettings) -> Self {
        Self { settings, state: Mutex::default() }
    }

    pub(super) fn settings(&self) -> &FaultSettings {
        &self.settings
    }

    /// Lets the `nth` call of this name from now on (the next is 1) go wrong in this way.
    pub fn plan(&self, call: &str, nth: u64, fault: Fault) {
        let mut state = self.state();
        let made = state.counts.get(call).copied().unwrap_or(0);
        state.plan.insert((call.to_owned(), made + nth), fault);
    }

    /// Calls of this name that were begun.
    pub fn count(&self, call: &str) -> u64 {
        self.state().counts.get(call).copied().unwrap_or(0)
    }

    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().counts.clone()
    }

    /// Makes one call, with what goes wrong around it.
    pub(super) async fn around<T: Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let (fault, latency) = self.fate(call);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        match fault {
            Some(Fault::Throttle) => return Err(CloudError::Throttled { call, after: Duration::from_millis(100) }),
            Some(Fault::Before) => return Err(transient(call, "an injected fault, before any effect")),
            Some(Fault::After) | None => {}
        }
        match run(call, work).await {
            Ok(_) if fault == Some(Fault::After) => Err(transient(call, "an injected fault: the answer was lost")),
            result => result,
        }
    }

    fn fate(&self, call: &'static str) -> (Option<Fault>, Duration) {
        let mut state = self.state();
        let count = state.counts.entry(call).or_default();
        *count += 1;
        let count = *count;
        let planned = state.plan.remove(&(call.to_owned(), count));
        drop(state);
        let [chance, latency] = self.draw(call, count);
        let s = &self.settings;
        let by_chance = if chance < s.throttle {
            Some(Fault::Throttle)
        } else if chance < s.throttle + s.error_before {
            Some(Fault::Before)
        } else if chance < s.throttle + s.error_before + s.error_after {
            Some(Fault::After)
        } else {
            None
        };
        let spread = s.latency_max_ms.saturating_sub(s.latency_min_ms) as f64;
        let latency = Duration::from_millis(s.latency_min_ms + (latency * spread) as u64);
        (planned.or(by_chance), latency)
    }

    /// Two numbers in [0, 1), each a function of the seed, the call's name and its count.
    fn draw(&self, call: &str, count: u64) -> [f64; 2] {
        let hash = Sha256::new()
            .chain_update(self.settings.seed.to_be_bytes())
            .chain_update(count.to_be_bytes())
            .chain_update(call)
            .finalize();
        [0, 8].map(|at| {
            let number = hash.iter().skip(at).take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            number as f64 / (1_u64 << 48) as f64
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does the work on a thread that may block; once begun it ends, also when the caller stops waiting.
pub(super) async fn run<T: Send + 'static>(
    call: &'static str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Failure::Io(error))) => Err(transient(call, error)),
        Ok(Err(Failure::Refused(cause))) => Err(CloudError::Refused { call, cause }),
        Ok(Err(Failure::Passing(cause))) => Err(transient(call, cause)),
        Ok(Err(Failure::Throttled(after))) => Err(CloudError::Throttled { call, after }),
        Ok(Err(Failure::Taken(cause))) => Err(CloudError::Taken { call, cause }),
        Err(error) => Err(transient(call, error)),
    }
}

fn transient(call: &'static str, cause: impl ToString) -> CloudError {
    CloudError::Transient { call, cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(seed: u64) -> Vec<Option<Fault>> {
        let settings =
            FaultSettings { seed, throttle: 0.1, error_before: 0.2, error_after: 0.3, ..FaultSettings::default() };
        let faults = Faults::new(settings);
        (0..1000).map(|_| faults.fate("dns.get").0).collect()
    }

    #[test]
    fn a_seed_fixes_every_fate_and_probabilities_are_kept() {
        let all = fates(7);
        assert_eq!(all, fates(7));
        assert_ne!(all, fates(8));
        for (fault, expected) in [(Fault::Throttle, 100), (Fault::Before, 200), (Fault::After, 300)] {
            let seen = all.iter().filter(|fate| **fate == Some(fault)).count();
            assert!(seen.abs_diff(expected) < 60, "{fault:?}: {seen}");
        }
    }

    #[tokio::test]
    async fn a_plan_counts_from_now_and_an_error_after_has_its_effect() {
        let faults = Faults::new(FaultSettings::default());
        assert!(faults.around("x.y", || Ok(())).await.is_ok());
        faults.plan("x.y", 2, Fault::After);
        assert!(faults.around("x.y", || Ok(())).await.is_ok());
        let (sender, receiver) = std::sync::mpsc::channel();
        let lost = faults.around("x.y", move || sender.send(()).map_err(|_| Failure::Refused(String::new()))).await;
        assert!(matches!(lost, Err(CloudError::Transient { .. })));
        assert!(receiver.try_recv().is_ok());
        assert_eq!(faults.count("x.y"), 3);
    }
}

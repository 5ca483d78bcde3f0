//! Where ids, tokens and other random choices come from. One place, so that a run can be repeated by its seed.

use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stackpro_domain::{FlowId, MemberId, ResourceId, Time};

/// A source of randomness. Seeded from the operating system unless a seed is given.
pub struct Ids(Mutex<StdRng>);

impl Ids {
    pub fn random() -> Self {
        Self(Mutex::new(StdRng::from_rng(&mut rand::rng())))
    }

    /// The same choices in the same order for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    pub fn number(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// A uuid of version 7: sorts by `now`.
    pub fn uuid(&self, now: Time) -> String {
        let mut random = [0_u8; 10];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(now.ms().unsigned_abs(), &random).into_uuid().to_string()
    }

    /// 256 bits that cannot be guessed, in 43 characters that a link can bear.
    pub fn token(&self) -> String {
        let mut random = [0_u8; 32];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut random);
        URL_SAFE_NO_PAD.encode(random)
    }

    pub fn flow(&self, now: Time) -> FlowId {
        parsed(&self.uuid(now))
    }

    pub fn member(&self, now: Time) -> MemberId {
        parsed(&self.uuid(now))
    }

    pub fn resource(&self, now: Time) -> ResourceId {
        parsed(&self.uuid(now))
    }
}

#[allow(clippy::expect_used)] // A uuid's text is an id of every kind.
fn parsed<T: std::str::FromStr>(uuid: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    uuid.parse().expect("a uuid is an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_ids_sort_by_time() {
        let (a, b) = (Ids::seeded(1), Ids::seeded(1));
        assert_eq!((a.token(), a.number(), a.uuid(Time(5))), (b.token(), b.number(), b.uuid(Time(5))));
        assert_ne!(a.token(), a.token());
        assert!(a.uuid(Time(1_000)) < a.uuid(Time(2_000)));
    }
}

//! Finished answers, kept for a moment: dashboards are asked for far more often than they change.
//!
//! An answer is good while this process has committed nothing since, and for at most a second, because
//! other processes write too.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use stackpro_domain::{ClientId, MemberId, Time};

/// Longest life of an answer, in milliseconds of the business's clock.
const LIFE_MS: i64 = 1_000;
const MAX_CLIENTS: usize = 4_096;
const MAX_OF_A_CLIENT: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Dashboard,
    Trial,
}

#[derive(Default)]
pub struct Cache {
    entries: RwLock<HashMap<ClientId, Vec<Entry>>>,
}

struct Entry {
    view: View,
    member: MemberId,
    generation: u64,
    made: Time,
    bytes: Bytes,
}

impl Cache {
    pub fn get(
        &self,
        view: View,
        (client, member): (&ClientId, &MemberId),
        generation: u64,
        now: Time,
    ) -> Option<Bytes> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(client)?.iter().find(|e| e.view == view && e.member == *member)?;
        let fresh = entry.generation == generation && (0..=LIFE_MS).contains(&now.since(entry.made));
        fresh.then(|| entry.bytes.clone())
    }

    /// `generation` and `made` are as they were before the answer was read from the store.
    pub fn put(&self, view: View, (client, member): (&ClientId, &MemberId), generation: u64, made: Time, bytes: Bytes) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_CLIENTS && !entries.contains_key(client) {
            entries.clear();
        }
        let of_client = entries.entry(client.clone()).or_default();
        of_client.retain(|e| !(e.view == view && e.member == *member));
        if of_client.len() >= MAX_OF_A_CLIENT {
            of_client.remove(0);
        }
        of_client.push(Entry { view, member: member.clone(), generation, made, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_only_good_for_whom_and_when_it_was_made() {
        let cache = Cache::default();
        let (acme, ann, bob) = ("acme-7f3k".parse().unwrap(), "ann".parse().unwrap(), "bob".parse().unwrap());
        let now = Time(10_000);
        cache.put(View::Dashboard, (&acme, &ann), 1, now, Bytes::from_static(b"ann"));
        let get = |view, member, generation, now| cache.get(view, (&acme, member), generation, now);
        assert_eq!(get(View::Dashboard, &ann, 1, now), Some(Bytes::from_static(b"ann")));
        assert_eq!(get(View::Dashboard, &bob, 1, now), None, "another member");
        assert_eq!(get(View::Trial, &ann, 1, now), None, "another view");
        assert_eq!(get(View::Dashboard, &ann, 2, now), None, "something was written");
        assert_eq!(get(View::Dashboard, &ann, 1, now.plus(1_001)), None, "too old");
        assert_eq!(get(View::Dashboard, &ann, 1, now.plus(-1)), None, "the clock was moved");
    }

    #[test]
    fn it_stays_small() {
        let cache = Cache::default();
        let acme: ClientId = "acme-7f3k".parse().unwrap();
        for i in 0..100 {
            let member = format!("m{i}").parse().unwrap();
            cache.put(View::Trial, (&acme, &member), 1, Time(0), Bytes::new());
        }
        for i in 0..MAX_CLIENTS + 10 {
            let client = format!("c{i}-0000").parse().unwrap();
            cache.put(View::Trial, (&client, &"ann".parse().unwrap()), 1, Time(0), Bytes::new());
        }
        let entries = cache.entries.read().unwrap();
        assert!(entries.len() <= MAX_CLIENTS);
        assert!(entries.values().all(|of_client| of_client.len() <= MAX_OF_A_CLIENT));
    }
}

//! One trial for each claimant, whoever comes at once.

use futures::future::join_all;
use stackpro_domain::ClientId;
use stackpro_store::{Store, Trial};

use crate::place::Place;
use crate::samples::{NOW, insert_clients};

on_both!(
    the_first_who_confirms_has_the_trial_however_many_come_at_once,
    nobody_signs_up_past_one_who_confirms,
    who_made_no_claim_is_free,
);

async fn sign_up(store: &Store, client: &ClientId, claimant: &str) -> Option<ClientId> {
    let mut tx = store.begin().await.unwrap();
    let holder = tx.trial_holder(claimant).await.unwrap();
    if holder.is_none() {
        tx.claim_trial(client, claimant).await.unwrap();
    }
    tx.commit().await.unwrap();
    holder
}

async fn confirm(store: &Store, client: &ClientId) -> Trial {
    let mut tx = store.begin().await.unwrap();
    let found = tx.hold_trial(client, NOW).await.unwrap();
    if let Trial::Held { rivals } = &found {
        for rival in rivals {
            // As the server does, which pauses them.
            assert!(tx.client(rival).await.unwrap().is_some());
        }
    }
    tx.commit().await.unwrap();
    found
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("acme-{n}")).collect()
}

async fn the_first_who_confirms_has_the_trial_however_many_come_at_once(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &names(8)).await;
    let signed = join_all(ids.iter().map(|id| sign_up(&store, id, "company acme.example"))).await;
    assert!(signed.iter().all(Option::is_none), "who only signed up is in nobody's way");
    let confirmed = join_all(ids.iter().map(|id| confirm(&store, id))).await;
    let held: Vec<usize> = (0..8).filter(|n| matches!(confirmed[*n], Trial::Held { .. })).collect();
    assert_eq!(held.len(), 1, "{confirmed:?}");
    let winner = &ids[held[0]];
    let Trial::Held { rivals } = &confirmed[held[0]] else { unreachable!() };
    let mut others: Vec<&ClientId> = ids.iter().filter(|id| *id != winner).collect();
    others.sort();
    assert_eq!(rivals.iter().collect::<Vec<_>>(), others);
    assert_eq!(confirmed.iter().filter(|one| **one == Trial::Lost).count(), 7);
    // The same again, and later.
    assert_eq!(confirm(&store, winner).await, confirmed[held[0]]);
    assert_eq!(confirm(&store, others[0]).await, Trial::Lost);
    let late = insert_clients(&store, &["late".into(), "other".into()]).await;
    assert_eq!(sign_up(&store, &late[0], "company acme.example").await.as_ref(), Some(winner));
    assert_eq!(sign_up(&store, &late[1], "company bolt.example").await, None);
}

async fn nobody_signs_up_past_one_who_confirms(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &names(20)).await;
    for (pair, claimant) in ids.chunks(2).zip(0..) {
        let claimant = format!("company {claimant}.example");
        assert_eq!(sign_up(&store, &pair[0], &claimant).await, None);
        let (holder, confirmed) = tokio::join!(sign_up(&store, &pair[1], &claimant), confirm(&store, &pair[0]));
        let Trial::Held { rivals } = confirmed else { panic!("{confirmed:?}") };
        // Either they came too late, or whoever confirmed knows of them.
        let known = rivals == [pair[1].clone()];
        assert!(known != holder.is_some(), "{holder:?} {rivals:?}");
    }
}

async fn who_made_no_claim_is_free(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &names(1)).await;
    assert_eq!(confirm(&store, &ids[0]).await, Trial::Free);
}

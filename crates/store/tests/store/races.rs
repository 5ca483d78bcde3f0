//! Many at once: exactly as many win as may.

use futures::future::join_all;
use stackpro_store::{InstancePhase, InstanceRow, Purpose, Store};

use crate::place::Place;
use crate::samples::{NOW, insert_clients, insert_instances, member, session, shared};

on_both!(
    no_instance_gets_more_than_it_holds,
    who_comes_while_an_instance_is_launched_waits_for_it,
    one_rotation_wins,
    one_use_of_a_token_wins,
    one_node_has_the_certificate,
    a_limit_lets_so_many_through,
    a_window_that_ends_starts_anew,
);

async fn no_instance_gets_more_than_it_holds(place: Place) {
    let store = place.store().await;
    let other = place.store().await;
    let ids: Vec<String> = (0..50).map(|n| format!("client-{n}")).collect();
    let ids = insert_clients(&store, &ids).await;
    insert_instances(&store, &[shared("i1", 10), shared("i2", 10), shared("i3", 10)]).await;
    let placed = join_all(ids.iter().enumerate().map(|(n, id)| {
        let (store, id) = (if n % 2 == 0 { store.clone() } else { other.clone() }, id.clone());
        tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            let on = tx.place_on_shared(&id).await.unwrap();
            tx.commit().await.unwrap();
            on
        })
    }))
    .await;
    assert_eq!(placed.into_iter().filter(|on| on.as_ref().unwrap().is_some()).count(), 30);
    for instance in store.instances(false).await.unwrap() {
        assert_eq!(instance.clients, 10, "{}", instance.id);
    }
}

async fn who_comes_while_an_instance_is_launched_waits_for_it(place: Place) {
    let store = place.store().await;
    let ids: Vec<String> = (0..8).map(|n| format!("client-{n}")).collect();
    let ids = insert_clients(&store, &ids).await;
    let launching = InstanceRow { cloud_id: None, state: InstancePhase::Launching, ..shared("i1", 4) };
    insert_instances(&store, &[launching, shared("i2", 2)]).await;
    let mut on = Vec::new();
    // Each asks twice, as a step does that dies in between.
    for id in ids.iter().flat_map(|id| [id, id]) {
        let mut tx = store.begin().await.unwrap();
        on.push(tx.place_on_shared(id).await.unwrap().map_or("none".into(), |row| row.id.to_string()));
        tx.commit().await.unwrap();
    }
    let expected = ["i2", "i2", "i1", "i1", "i1", "i1", "none", "none"].map(|id| [id, id]).concat();
    assert_eq!(on, expected, "what is ready comes first");
}

async fn one_rotation_wins(place: Place) {
    let store = place.store().await;
    let ann = member("ann", None);
    let mut tx = store.begin().await.unwrap();
    tx.insert_member(&ann).await.unwrap();
    tx.insert_session(&session("s1", &ann.id)).await.unwrap();
    tx.commit().await.unwrap();
    let wins = twenty(&store, async |store, n| {
        let mut tx = store.begin().await.unwrap();
        let won = tx.rotate_session("s1", "hash-s1-0", &format!("new-{n}"), NOW, NOW).await.unwrap();
        tx.commit().await.unwrap();
        won
    })
    .await;
    assert_eq!(wins, 1);
}

async fn one_node_has_the_certificate(place: Place) {
    let store = place.store().await;
    let wins = twenty(&store, async |store, _| {
        let mut tx = store.begin().await.unwrap();
        let claimed = tx.claim_certificate("clients.example", 60_000).await.unwrap();
        tx.commit().await.unwrap();
        claimed.is_some()
    })
    .await;
    assert_eq!(wins, 1);
}

async fn one_use_of_a_token_wins(place: Place) {
    let store = place.store().await;
    let mut tx = store.begin().await.unwrap();
    tx.insert_token(Purpose::Enrol, "h", "i1", NOW.plus(1)).await.unwrap();
    tx.commit().await.unwrap();
    let wins = twenty(&store, async |store, _| {
        let mut tx = store.begin().await.unwrap();
        let won = tx.use_token(Purpose::Enrol, "h", NOW).await.unwrap().is_some();
        tx.commit().await.unwrap();
        won
    })
    .await;
    assert_eq!(wins, 1);
}

async fn a_limit_lets_so_many_through(place: Place) {
    let store = place.store().await;
    let wins = twenty(&store, async |store, _| {
        let mut tx = store.begin().await.unwrap();
        let refused = tx.take_rate("login:1.2.3.4", 7, 60_000, NOW).await.unwrap();
        tx.commit().await.unwrap();
        refused.is_none()
    })
    .await;
    assert_eq!(wins, 7);
}

async fn a_window_that_ends_starts_anew(place: Place) {
    let store = place.store().await;
    let mut tx = store.begin().await.unwrap();
    let start = stackpro_domain::Time(NOW.ms() / 1000 * 1000);
    assert_eq!(tx.take_rate("k", 1, 1000, start.plus(100)).await.unwrap(), None);
    assert_eq!(tx.take_rate("k", 1, 1000, start.plus(300)).await.unwrap(), Some(700));
    assert_eq!(tx.take_rate("other", 1, 1000, start.plus(300)).await.unwrap(), None);
    assert_eq!(tx.take_rate("k", 1, 1000, start.plus(1000)).await.unwrap(), None);
    assert_eq!(tx.take_rate("k", 1, 1000, start.plus(1999)).await.unwrap(), Some(1));
    tx.commit().await.unwrap();
    store.forget_expired(start.plus(2000)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.take_rate("k", 1, 1000, start.plus(1999)).await.unwrap(), None);
}

async fn twenty<F>(store: &Store, attempt: impl Fn(Store, usize) -> F) -> usize
where
    F: Future<Output = bool>,
{
    join_all((0..20).map(|n| attempt(store.clone(), n))).await.into_iter().filter(|won| *won).count()
}

//! Opening a database: at once from several processes, again, and when it cannot be.

use futures::future::join_all;
use stackpro_store::{Options, Store, StoreError};

use crate::place::Place;
use crate::samples::insert_clients;

on_both!(several_open_at_once, what_was_committed_is_there_again);

async fn several_open_at_once(place: Place) {
    let stores = join_all((0..6).map(|_| {
        let (url, options) = (place.url.clone(), Options::new(place.clock.clone()));
        tokio::spawn(async move { Store::open(&url, options).await })
    }))
    .await;
    for store in stores {
        let store = store.unwrap().unwrap();
        store.ping().await.unwrap();
        assert_eq!(store.is_postgres(), place.url.starts_with("postgres"));
        assert!(store.now_ms().await.unwrap() > 1_600_000_000_000);
        store.close().await;
    }
}

async fn what_was_committed_is_there_again(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    store.close().await;
    assert!(place.store().await.client(&ids[0]).await.unwrap().is_some());
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let clock = crate::place::sqlite().clock;
    for url in ["mysql://x", "sqlite::memory:", "sqlite:", "sqlite:/no/such/folder/x.db", "postgres://127.0.0.1:1/x"] {
        match Store::open(url, Options::new(clock.clone())).await {
            Err(StoreError::Unavailable(why)) => assert!(!why.is_empty()),
            Err(other) => panic!("{url}: {other:?}"),
            Ok(_) => panic!("{url} was opened"),
        }
    }
}

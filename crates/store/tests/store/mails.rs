//! Mails: who gets them for sending, what is told of them, and who gets none.

use futures::future::join_all;
use stackpro_domain::Time;
use stackpro_domain::mail::{Fate, MailState};
use stackpro_store::{ClaimedMails, MailAsk, MailEvent, MailFilter, OutMail, Pace, Store, StoreError};

use crate::place::Place;
use crate::samples::{NOW, insert_clients, mail, mail_event};

on_both!(
    a_mail_is_sent_fails_or_waits,
    a_claimed_mail_is_nobody_elses_until_its_time_is_over,
    no_second_takes_more_than_it_may,
    what_is_told_late_twice_and_in_any_order_ends_alike,
    a_suppressed_address_gets_nothing_until_it_is_lifted,
    the_log_is_narrowed_and_paged,
    only_a_clients_own_mails_count,
);

async fn enqueue(store: &Store, ids: &[&str]) {
    let mut tx = store.begin().await.unwrap();
    for (n, id) in ids.iter().enumerate() {
        tx.enqueue_mail(&mail(id, None, NOW.plus(n as i64))).await.unwrap();
    }
    tx.commit().await.unwrap();
}

fn ask(now: Time) -> MailAsk {
    MailAsk { now, until: now.plus(30_000), limit: 10, pace: None }
}

fn ids(claimed: &ClaimedMails) -> Vec<&str> {
    claimed.mails.iter().map(|mail| mail.id.as_str()).collect()
}

async fn state(store: &Store, id: &str) -> (MailState, Option<String>) {
    let mail = store.mail(id).await.unwrap().unwrap();
    (mail.state, mail.error)
}

async fn tell(store: &Store, event: &MailEvent) -> bool {
    let mut tx = store.begin().await.unwrap();
    let fresh = tx.mail_told(event).await.unwrap();
    tx.commit().await.unwrap();
    fresh
}

async fn a_mail_is_sent_fails_or_waits(place: Place) {
    let store = place.store().await;
    for _ in 0..2 {
        enqueue(&store, &["m1", "m2", "m3", "m4"]).await;
    }
    assert_eq!(ids(&store.claim_mails(&ask(NOW.plus(2))).await.unwrap()), ["m1", "m2", "m3"]);
    let mut tx = store.begin().await.unwrap();
    tx.mail_sent("m1", NOW.plus(30)).await.unwrap();
    tx.mail_sent("m1", NOW.plus(31)).await.unwrap();
    tx.mail_failed("m1", "too late to fail", NOW, false).await.unwrap();
    tx.mail_put_off("m1", "too late to wait", NOW).await.unwrap();
    tx.mail_failed("m2", "greylisted", NOW.plus(40), false).await.unwrap();
    tx.mail_put_off("m3", "throttled", NOW.plus(40)).await.unwrap();
    tx.mail_failed("m4", "no such mailbox", NOW, true).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(ids(&store.claim_mails(&ask(NOW.plus(39))).await.unwrap()), [""; 0]);
    assert_eq!(ids(&store.claim_mails(&ask(NOW.plus(40))).await.unwrap()), ["m2", "m3"]);
    let mails = join_all(["m1", "m2", "m3", "m4"].map(|id| store.mail(id))).await;
    let [sent, failed, waits, over] = mails.try_into().unwrap();
    let sent = sent.unwrap().unwrap();
    assert_eq!((sent.state, sent.sent_at, sent.attempts), (MailState::Sent, Some(NOW.plus(30)), 0));
    let failed = failed.unwrap().unwrap();
    assert_eq!((failed.state, failed.attempts, failed.error.as_deref()), (MailState::Queued, 1, Some("greylisted")));
    let waits = waits.unwrap().unwrap();
    assert_eq!((waits.attempts, waits.error.as_deref()), (0, Some("throttled")));
    assert_eq!(over.unwrap().unwrap().state, MailState::Failed);
}

async fn a_claimed_mail_is_nobody_elses_until_its_time_is_over(place: Place) {
    let store = place.store().await;
    let all: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
    enqueue(&store, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let claims = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.claim_mails(&ask(NOW.plus(100))).await.unwrap() })
    });
    let mut got: Vec<String> = Vec::new();
    for claim in join_all(claims).await {
        got.extend(ids(&claim.unwrap()).into_iter().map(str::to_owned));
    }
    got.sort();
    got.dedup();
    let rest = store.claim_mails(&MailAsk { limit: 100, ..ask(NOW.plus(100)) }).await.unwrap();
    got.extend(ids(&rest).into_iter().map(str::to_owned));
    got.sort();
    assert_eq!(got, all, "each was claimed once");
    let again = store.claim_mails(&MailAsk { limit: 100, ..ask(NOW.plus(30_100)) }).await.unwrap();
    assert_eq!(again.mails.len(), 40, "whoever claimed them has died");
}

async fn no_second_takes_more_than_it_may(place: Place) {
    let store = place.store().await;
    enqueue(&store, &["m1", "m2", "m3", "m4", "m5"]).await;
    let paced = |at: i64| MailAsk { pace: Some(Pace { per_second: 2, at: Time(at) }), limit: 3, ..ask(NOW.plus(10)) };
    let first = store.claim_mails(&paced(10_000)).await.unwrap();
    assert_eq!((ids(&first), first.full), (vec!["m1", "m2"], true));
    let same = store.claim_mails(&paced(10_999)).await.unwrap();
    assert_eq!((ids(&same), same.full), (vec![], true));
    let next = store.claim_mails(&paced(11_000)).await.unwrap();
    assert_eq!(ids(&next), ["m3", "m4"]);
    let last = store.claim_mails(&paced(12_000)).await.unwrap();
    assert_eq!((ids(&last), last.full), (vec!["m5"], false));
}

async fn what_is_told_late_twice_and_in_any_order_ends_alike(place: Place) {
    let store = place.store().await;
    enqueue(&store, &["m1", "m2", "m3", "m4"]).await;
    let events = |mail: &str| {
        [Fate::Sent, Fate::Delivered, Fate::SoftBounce]
            .map(|fate| mail_event(&format!("{mail}-{}", fate.as_str()), Some(mail), fate, NOW.plus(5)))
    };
    for (mail, order) in [("m1", [0, 1, 2]), ("m2", [2, 1, 0]), ("m3", [1, 2, 0])] {
        for n in order {
            assert!(tell(&store, &events(mail)[n]).await);
            assert!(!tell(&store, &events(mail)[n]).await, "told twice");
        }
        assert_eq!(state(&store, mail).await, (MailState::Delivered, None), "{order:?}");
        assert_eq!(store.mail_events(mail).await.unwrap().len(), 3);
    }
    // Told before the sender wrote that it was sent, and sent no more.
    let claimed = store.claim_mails(&ask(NOW.plus(60_000))).await.unwrap();
    assert_eq!(ids(&claimed), ["m4"]);
    let mut tx = store.begin().await.unwrap();
    tx.mail_sent("m1", NOW.plus(70_000)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.mail("m1").await.unwrap().unwrap().sent_at, Some(NOW.plus(5)));

    let bounce = mail_event("m4-bounce", Some("m4"), Fate::HardBounce, NOW.plus(9));
    let twice = join_all((0..6).map(|n| {
        let (store, bounce) = (store.clone(), bounce.clone());
        let other = mail_event("m4-delivered", Some("m4"), Fate::Delivered, NOW.plus(8));
        tokio::spawn(async move { tell(&store, if n % 2 == 0 { &bounce } else { &other }).await })
    }));
    assert_eq!(twice.await.into_iter().filter(|fresh| *fresh.as_ref().unwrap()).count(), 2);
    assert_eq!(state(&store, "m4").await, (MailState::Bounced, Some("hard_bounce said so".into())));
    assert!(tell(&store, &mail_event("nobodys", Some("unknown"), Fate::Delivered, NOW)).await);
}

async fn a_suppressed_address_gets_nothing_until_it_is_lifted(place: Place) {
    let store = place.store().await;
    enqueue(&store, &["m1"]).await;
    assert!(tell(&store, &mail_event("soft", None, Fate::SoftBounce, NOW)).await);
    assert_eq!(store.suppression("ann@example.com").await.unwrap(), None);
    let complaint = mail_event("e1", None, Fate::Complaint, NOW.plus(1));
    tell(&store, &complaint).await;
    tell(&store, &mail_event("e2", None, Fate::HardBounce, NOW.plus(2))).await;
    let kept = store.suppression("ann@example.com").await.unwrap().unwrap();
    assert_eq!((kept.fate, kept.event_id.as_str(), kept.since), (Fate::Complaint, "e1", NOW.plus(1)));
    assert_eq!(store.claim_mails(&ask(NOW.plus(1))).await.unwrap(), ClaimedMails::default());
    assert_eq!(state(&store, "m1").await, (MailState::Suppressed, Some("complaint: complaint said so".into())));
    assert_eq!(store.claim_mails(&ask(NOW.plus(60_000))).await.unwrap(), ClaimedMails::default());

    let listed = store.suppressions(None, 10).await.unwrap();
    assert_eq!((listed.rows, listed.next), (vec![kept], None));
    assert!(matches!(store.suppressions(Some("x"), 10).await, Err(StoreError::Invalid("cursor"))));
    let mut tx = store.begin().await.unwrap();
    assert!(tx.lift_suppression("ann@example.com").await.unwrap());
    assert!(!tx.lift_suppression("ann@example.com").await.unwrap());
    tx.enqueue_mail(&mail("m2", None, NOW)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!tell(&store, &complaint).await, "an old event told again suppresses nobody");
    assert_eq!(ids(&store.claim_mails(&ask(NOW)).await.unwrap()), ["m2"]);
    assert!(tell(&store, &mail_event("e3", Some("m2"), Fate::HardBounce, NOW.plus(9))).await);
    assert!(store.suppression("ann@example.com").await.unwrap().is_some(), "a new one does");
}

async fn the_log_is_narrowed_and_paged(place: Place) {
    let store = place.store().await;
    let clients = insert_clients(&store, &["acme-law".into(), "other".into()]).await;
    let mut tx = store.begin().await.unwrap();
    for (n, client) in [Some(&clients[0]), Some(&clients[1]), None, Some(&clients[0])].into_iter().enumerate() {
        tx.enqueue_mail(&mail(&format!("m{n}"), client, NOW.plus(n as i64 / 2))).await.unwrap();
    }
    tx.mail_sent("m3", NOW).await.unwrap();
    tx.commit().await.unwrap();
    let listed = async |client: Option<usize>, state: Option<MailState>| {
        let filter = MailFilter { client: client.map(|n| clients[n].clone()), state };
        let rows = store.mails(&filter, None, 10).await.unwrap().rows;
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, None).await, ["m3", "m2", "m1", "m0"]);
    assert_eq!(listed(Some(0), None).await, ["m3", "m0"]);
    assert_eq!(listed(None, Some(MailState::Queued)).await, ["m2", "m1", "m0"]);
    assert_eq!(listed(Some(0), Some(MailState::Sent)).await, ["m3"]);
    let all = MailFilter::default();
    let first = store.mails(&all, None, 3).await.unwrap();
    let second = store.mails(&all, first.next.as_deref(), 3).await.unwrap();
    assert_eq!((second.rows.len(), second.rows[0].id.as_str(), second.next), (1, "m0", None));
    assert!(matches!(store.mails(&all, Some("1"), 3).await, Err(StoreError::Invalid("cursor"))));
}

async fn only_a_clients_own_mails_count(place: Place) {
    let store = place.store().await;
    let clients = insert_clients(&store, &["acme-law".into()]).await;
    let mut tx = store.begin().await.unwrap();
    tx.enqueue_mail(&mail("welcome", Some(&clients[0]), NOW)).await.unwrap();
    for (id, fate, at) in [("e1", Fate::Sent, 0), ("e2", Fate::Delivered, 1), ("e3", Fate::Sent, 2)] {
        let event = MailEvent { client_id: Some(clients[0].clone()), ..mail_event(id, None, fate, NOW.plus(at)) };
        assert!(tx.mail_told(&event).await.unwrap());
    }
    for (id, fate) in [("e4", Fate::Delivered), ("e5", Fate::Sent)] {
        tx.mail_told(&mail_event(id, Some("welcome"), fate, NOW)).await.unwrap();
    }
    tx.mail_sent("welcome", NOW).await.unwrap();
    tx.commit().await.unwrap();
    // What we pay for is both.
    assert_eq!(store.usage_months(&clients[0], 10).await.unwrap()[0].mails, 3);
    assert_eq!(store.emails_since(&clients[0], NOW).await.unwrap(), 2);
    assert_eq!(store.emails_since(&clients[0], NOW.plus(1)).await.unwrap(), 1);
    // A visitor's message counts before it is sent, once, and an answer to it goes to the visitor.
    let reply_to = Some("visitor@example.com".to_owned());
    let message = OutMail { kind: "message".into(), reply_to, ..mail("m1", Some(&clients[0]), NOW.plus(1)) };
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.has_mail("m1").await.unwrap());
    for _ in 0..2 {
        tx.enqueue_mail(&message).await.unwrap();
        assert!(tx.has_mail("m1").await.unwrap());
        assert_eq!(tx.emails_since(&clients[0], NOW.plus(1)).await.unwrap(), 2);
    }
    tx.commit().await.unwrap();
    assert_eq!(store.mail("m1").await.unwrap(), Some(message));
    assert_eq!(store.emails_since(&clients[0], NOW.plus(2)).await.unwrap(), 1);
    // What was told long ago is forgotten.
    store.forget_expired(NOW.plus_days(91)).await.unwrap();
    assert_eq!(store.emails_since(&clients[0], NOW).await.unwrap(), 1);
}

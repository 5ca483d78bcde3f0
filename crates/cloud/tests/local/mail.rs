use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use futures::future::join_all;
use stackpro_cloud::local::{FaultSettings, Mailbox};
use stackpro_cloud::{CloudError, Message};
use stackpro_domain::mail::Fate;
use tokio_util::sync::CancellationToken;

use super::{Home, names, tags, until};

fn message(id: &str, from: &str) -> Message {
    let text = |text: &str| text.to_owned();
    let (to, subject) = (text("ann@example.com"), text("Hello"));
    Message { id: text(id), from: text(from), to, reply_to: None, subject, text: text("Hi"), html: text("<p>Hi") }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_delivered_once_however_often_it_is_sent() {
    let home = Home::new();
    let clouds = [home.local.cloud(), home.again().cloud()];
    let sends = (0..16).map(|n| {
        let mail = clouds[n % 2].mail.clone();
        tokio::spawn(async move { mail.send(&message("m/1", "StackPro <hello@stackpro.localhost>")).await.unwrap() })
    });
    join_all(sends).await;
    let page = home.local.mailbox().list(0).unwrap();
    assert_eq!(page.total, 1);
    let mail = &page.mails[0];
    assert_eq!(mail.message.id, "m/1");
    assert_eq!(home.local.mailbox().get(&mail.key).unwrap().as_ref(), Some(mail));
    for unknown in ["../clock", "", "nope"] {
        assert_eq!(home.local.mailbox().get(unknown).unwrap(), None);
    }
}

#[tokio::test]
async fn a_delivery_that_died_after_taking_the_id_is_finished_by_the_next() {
    let home = Home::new();
    let mail = home.local.cloud().mail;
    mail.send(&message("1", "hello@stackpro.localhost")).await.unwrap();
    let folder = home.local.folder().join("mail");
    let name = names(&folder).remove(0);
    std::fs::remove_file(folder.join(&name)).unwrap();
    mail.send(&message("1", "hello@stackpro.localhost")).await.unwrap();
    assert_eq!(names(&folder), [name]);
}

#[tokio::test]
async fn the_mailbox_is_paged_newest_first() {
    let home = Home::new();
    let mail = home.local.cloud().mail;
    for n in 0..=Mailbox::PAGE {
        mail.send(&message(&n.to_string(), "hello@stackpro.localhost")).await.unwrap();
        home.local.clock().advance(1000).unwrap();
    }
    let [first, second] = [0, 1].map(|page| home.local.mailbox().list(page).unwrap());
    assert_eq!((first.mails.len(), second.mails.len(), first.total), (Mailbox::PAGE, 1, Mailbox::PAGE + 1));
    assert_eq!(first.mails[0].message.id, Mailbox::PAGE.to_string());
    assert_eq!(second.mails[0].message.id, "0");
}

#[tokio::test]
async fn only_a_verified_domain_sends() {
    let home = Home::new();
    let mail = home.local.cloud().mail;
    let refused = mail.send(&message("1", "ann@acme.example")).await.unwrap_err();
    assert!(matches!(&refused, CloudError::Transient { cause, .. } if cause.contains("is not verified")), "{refused}");
    mail.create_identity("acme.example", &tags("r")).await.unwrap();
    mail.create_identity("acme.example", &tags("r")).await.unwrap();
    let listed = mail.list_identities().await.unwrap();
    assert_eq!((listed.len(), listed[0].domain.as_str(), &listed[0].tags), (1, "acme.example", &tags("r")));
    mail.send(&message("1", "ann@acme.example")).await.unwrap();
    mail.send(&message("2", "Ann <ann@below.acme.example>")).await.unwrap();
    for _ in 0..2 {
        mail.delete_identity("acme.example").await.unwrap();
    }
    assert!(mail.send(&message("3", "ann@acme.example")).await.is_err());
    assert_eq!(home.local.mailbox().list(0).unwrap().total, 2);
}

#[tokio::test]
async fn hostile_mails_and_domains_are_refused() {
    let home = Home::new();
    let mail = home.local.cloud().mail;
    let good = message("1", "a@stackpro.localhost");
    let with = |change: fn(&mut Message)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    for bad in [
        with(|m| m.to = "nobody".into()),
        with(|m| m.to = "a@b.c\r\nBcc: x@y.z".into()),
        with(|m| m.subject = "a\r\nBcc: x@y.z".into()),
        with(|m| m.from = "x\n <a@stackpro.localhost>".into()),
    ] {
        assert!(matches!(mail.send(&bad).await, Err(CloudError::Refused { .. })), "{bad:?}");
    }
    for bad in ["", "localhost", "../x.y", "UPPER.example", "a b.c"] {
        assert!(mail.create_identity(bad, &tags("r")).await.is_err(), "{bad}");
    }
    assert_eq!(home.local.mailbox().list(0).unwrap().total, 0);
}

/// A control plane that hears nothing at first, and then keeps what it is told.
async fn control_plane(answers: &'static [u16]) -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = heard.clone();
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let hear = move |body: axum::body::Bytes| {
        let nth = told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        kept.lock().unwrap().push(body.to_vec());
        std::future::ready(StatusCode::from_u16(answers.get(nth).copied().unwrap_or(200)).unwrap())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/mail-events", post(hear));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_mail_is_told_until_it_is_heard_and_by_whoever_comes() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let (server, heard) = control_plane(&[503, 429, 500]).await;
    let home = Home::with(|settings| settings.server_url = server.clone());
    let mail = home.local.cloud().mail;
    // Sent by a process that dies before it could tell.
    home.again().cloud().mail.send(&message("m1", "hello@stackpro.localhost")).await.unwrap();
    let outbox = home.local.folder().join("mail-events");
    assert_eq!(names(&outbox).len(), 1);
    let shutdown = CancellationToken::new();
    let (local, stop) = (home.local.clone(), shutdown.clone());
    let telling = tokio::spawn(async move { local.tell_mail_events(stop).await });
    until("it was heard", || async { names(&outbox).is_empty() }).await;
    let bodies = heard.lock().unwrap().clone();
    assert_eq!(bodies.len(), 4, "three times it was not heard");
    let events = mail.read_events(&bodies[3]).await.unwrap();
    assert_eq!(events, mail.read_events(&bodies[0]).await.unwrap(), "the same event has the same id");
    let fates: Vec<_> = events.iter().map(|event| (event.fate, event.message.as_deref(), event.to.as_str())).collect();
    assert_eq!(fates, [Fate::Sent, Fate::Delivered].map(|fate| (fate, Some("m1"), "ann@example.com")));
    assert_eq!(events[0].from_domain.as_deref(), Some("stackpro.localhost"));
    shutdown.cancel();
    telling.await.unwrap();

    // Not everyone may tell.
    let whole = String::from_utf8(bodies[0].clone()).unwrap();
    let signature = whole.rsplit('"').nth(1).unwrap();
    for (what, body) in [
        ("one byte changed", whole.replace("ann@example.com", "bob@example.com")),
        ("another signature", whole.replace(signature, &"0".repeat(64))),
        ("no hexadecimal", whole.replace(signature, "no")),
        ("nothing", String::new()),
        ("another thing", "[]".into()),
    ] {
        let refused = mail.read_events(body.as_bytes()).await;
        assert!(matches!(refused, Err(CloudError::Refused { .. })), "{what}: {refused:?}");
    }
    let other = Home::new().local.cloud().mail.read_events(&bodies[0]).await;
    assert!(matches!(other, Err(CloudError::Refused { .. })), "another cloud's key: {other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_not_told_again() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let (server, heard) = control_plane(&[400]).await;
    let home = Home::with(|settings| settings.server_url = server);
    home.local.cloud().mail.send(&message("m1", "hello@stackpro.localhost")).await.unwrap();
    let (local, shutdown) = (home.local.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    tokio::spawn(async move { local.tell_mail_events(stop).await });
    until("it was refused", || async { names(&home.local.folder().join("mail-events")).is_empty() }).await;
    assert_eq!(heard.lock().unwrap().len(), 1);
    shutdown.cancel();
}

#[tokio::test]
async fn simulated_addresses_have_a_fate_of_their_own() {
    let home = Home::new();
    let mail = home.local.cloud().mail;
    let outbox = home.local.folder().join("mail-events");
    for (to, fates) in [
        ("success@simulator.localhost", vec![Fate::Sent, Fate::Delivered]),
        ("bounce@simulator.amazonses.com", vec![Fate::Sent, Fate::HardBounce]),
        ("bounce+acme@simulator.localhost", vec![Fate::Sent, Fate::HardBounce]),
        ("suppressionlist@simulator.localhost", vec![Fate::Sent, Fate::HardBounce]),
        ("complaint@simulator.localhost", vec![Fate::Sent, Fate::Delivered, Fate::Complaint]),
        ("ooto@simulator.localhost", vec![Fate::Sent, Fate::Delivered, Fate::SoftBounce]),
        ("bounce@example.com", vec![Fate::Sent, Fate::Delivered]),
    ] {
        let message = Message { to: to.into(), ..message(to, "hello@stackpro.localhost") };
        mail.send(&message).await.unwrap();
        let file = outbox.join(names(&outbox).remove(0));
        let events: Vec<stackpro_cloud::MailEvent> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(events.iter().map(|event| event.fate).collect::<Vec<_>>(), fates, "{to}");
        std::fs::remove_file(file).unwrap();
    }
}

#[tokio::test]
async fn a_sandbox_reaches_verified_domains_alone_and_takes_so_many_a_second() {
    let faults = FaultSettings { mail_sandbox: true, mail_per_second: 2, ..FaultSettings::default() };
    let home = Home::with(|settings| settings.faults = faults);
    let mail = home.local.cloud().mail;
    let account = mail.account().await.unwrap();
    assert_eq!(account.per_second, Some(2));
    assert!(account.warning.unwrap().contains("sandbox"));
    let to = |id: &str, to: &str| Message { to: to.into(), ..message(id, "hello@stackpro.localhost") };
    let refused = mail.send(&to("1", "ann@example.com")).await;
    assert!(
        matches!(&refused, Err(CloudError::Transient { cause, .. }) if cause.contains("ann@example.com")),
        "{refused:?}"
    );
    mail.send(&to("2", "bounce@simulator.localhost")).await.unwrap();
    let throttled = mail.send(&to("3", "me@stackpro.localhost")).await;
    assert!(matches!(throttled, Err(CloudError::Throttled { .. })), "{throttled:?}");
    until("the next second", || async { mail.send(&to("3", "me@stackpro.localhost")).await.is_ok() }).await;

    let open = Home::new().local.cloud().mail.account().await.unwrap();
    assert_eq!((open.per_second, open.warning), (None, None));
}

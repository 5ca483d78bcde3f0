use futures::future::join_all;
use stackpro_cloud::local::Mailbox;
use stackpro_cloud::{CloudError, Message};

use super::{Home, names, tags};

fn message(id: &str, from: &str) -> Message {
    let text = |text: &str| text.to_owned();
    let (to, subject) = (text("ann@example.com"), text("Hello"));
    Message { id: text(id), from: text(from), to, subject, text: text("Hi"), html: text("<p>Hi") }
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
    assert!(matches!(&refused, CloudError::Refused { cause, .. } if cause.contains("is not verified")), "{refused}");
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

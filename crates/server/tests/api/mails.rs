//! Mails: sent no faster than they are taken, what is told of them, and the addresses that get none.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::json;
use stackpro_cloud::MailAccount;
use stackpro_cloud::local::Fault;
use stackpro_domain::Time;
use stackpro_domain::mail::MailState;
use stackpro_server::reconcilers::mailer;
use stackpro_store::{MailFilter, MailLine, OutMail};

use crate::common::{Answer, Server, request, signup, until};
use crate::pages::{Browser, operator};

/// As the mailer has asked what may be sent.
async fn server() -> Server {
    let server = Server::start().await;
    server.world.mail_account.set(MailAccount::default());
    server
}

async fn queue(server: &Server, id: &str, to: &str) {
    let mail = OutMail {
        id: id.into(),
        client_id: None,
        kind: "welcome".into(),
        to: to.into(),
        reply_to: None,
        subject: "Hello".into(),
        text: "Hello".into(),
        html: "<p>Hello".into(),
        state: MailState::Queued,
        attempts: 0,
        error: None,
        created_at: server.world.now(),
        sent_at: None,
    };
    let mut tx = server.world.store.begin().await.unwrap();
    tx.enqueue_mail(&mail).await.unwrap();
    tx.commit().await.unwrap();
}

async fn line(server: &Server, id: &str) -> MailLine {
    let all = server.world.store.mails(&MailFilter::default(), None, 100).await.unwrap().rows;
    all.into_iter().find(|mail| mail.id == id).unwrap()
}

fn in_mailbox(server: &Server) -> usize {
    server.cloud.mailbox().list(0).unwrap().total
}

async fn round(server: &Server) -> Duration {
    mailer::round(&server.world).await.unwrap()
}

async fn tell(server: &Server, body: &str) -> Answer {
    server.send(request(Method::POST, "/api/mail-events", "").body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_bounces_gets_no_more_until_the_operator_says_so() {
    let server = server().await;
    let mut form = signup("Acme Law");
    form["email"] = json!("bounce+acme@simulator.localhost");
    let made = server.post("/api/auth/signup", "", &form).await.json();
    round(&server).await;
    let client = made["clientId"].as_str().unwrap();
    let welcome = server.world.store.mails(&MailFilter::default(), None, 1).await.unwrap().rows.remove(0);
    assert_eq!((welcome.state, welcome.client_id.as_ref().unwrap().as_str()), (MailState::Sent, client));
    server.hear_of_mails().await;
    let welcome = line(&server, &welcome.id).await;
    assert_eq!(welcome.state, MailState::Bounced);
    assert!(welcome.error.unwrap().contains("user unknown"));

    queue(&server, "second", "bounce+acme@simulator.localhost").await;
    queue(&server, "other", "ann@acme.example").await;
    round(&server).await;
    let second = line(&server, "second").await;
    assert_eq!(second.state, MailState::Suppressed);
    assert!(second.error.unwrap().starts_with("hard_bounce: "));
    assert_eq!((line(&server, "other").await.state, in_mailbox(&server)), (MailState::Sent, 2));
    // What we write to them is not what they send.
    let usage = server.get(&format!("/api/dashboard/{client}"), made["token"].as_str().unwrap()).await.json();
    assert_eq!(usage["usage"]["emailsThisMonth"], 0);

    let olga = operator(&server).await;
    let log = olga.get("/console/mails?state=suppressed").await.text;
    assert!(log.contains("bounce+acme@simulator.localhost") && !log.contains("ann@acme.example"), "{log}");
    let history = olga.get(&format!("/console/mails/{}", welcome.id)).await.text;
    assert!(history.contains("user unknown") && history.contains("This address gets no more mail"), "{history}");
    let page = "/console/mails/suppressed";
    let csrf = olga.csrf(page).await;
    let fields = [("csrf", csrf.as_str()), ("address", "bounce+acme@simulator.localhost")];
    assert_eq!(Browser::new(&server).post(page, &fields).await.status, StatusCode::SEE_OTHER);
    server.cloud.faults().plan("mail.forgive", 1, Fault::Before);
    assert_eq!(olga.post(page, &fields).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(olga.get(page).await.text.contains("bounce+acme@simulator.localhost"), "still there");
    assert_eq!(olga.post(page, &fields).await.location(), "/console/mails/suppressed?said=lifted");
    assert_eq!(olga.post(page, &fields).await.status, StatusCode::NOT_FOUND);
    let audit = server.world.store.audit(None, 10).await.unwrap();
    assert_eq!((audit[0].action.as_str(), audit[0].detail.as_str()), ("lift suppression", fields[1].1));
    queue(&server, "third", "bounce+acme@simulator.localhost").await;
    round(&server).await;
    assert_eq!(line(&server, "third").await.state, MailState::Sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_bounces_and_complaints_end_as_they_should() {
    let server = server().await;
    for (id, to) in [("ooto", "ooto@simulator.localhost"), ("complaint", "complaint@simulator.localhost")] {
        queue(&server, id, to).await;
    }
    round(&server).await;
    server.hear_of_mails().await;
    assert_eq!(line(&server, "ooto").await.state, MailState::Delivered);
    assert_eq!(line(&server, "complaint").await.state, MailState::Complained);
    let suppressed = server.world.store.suppressions(None, 10).await.unwrap().rows;
    let addresses: Vec<_> = suppressed.iter().map(|row| row.address.as_str()).collect();
    assert_eq!(addresses, ["complaint@simulator.localhost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_stored_before_they_are_answered_and_only_the_clouds() {
    let server = server().await;
    for body in ["", "[]", "{}", r#"{"message":"[]","signature":"00"}"#, "\u{0}"] {
        let answer = tell(&server, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    let large = "x".repeat(1024 * 1024 + 1);
    assert_eq!(tell(&server, &large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(server.world.store.suppressions(None, 1).await.unwrap().rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_sending_was_not_recorded_is_sent_again_later_and_delivered_once() {
    let server = server().await;
    queue(&server, "lost", "ann@acme.example").await;
    server.cloud.faults().plan("mail.send", 1, Fault::After);
    round(&server).await;
    let lost = line(&server, "lost").await;
    assert_eq!(lost.state, MailState::Queued);
    assert!(lost.error.unwrap().contains("the answer was lost"));
    // It was taken, as an event tells; it is not sent again.
    server.hear_of_mails().await;
    assert_eq!(line(&server, "lost").await.state, MailState::Delivered);
    server.cloud.clock().advance(60_000).unwrap();
    round(&server).await;
    assert_eq!((server.cloud.faults().count("mail.send"), in_mailbox(&server)), (1, 1));

    // Whoever claimed it died: nobody else sends it for a while, then someone does.
    queue(&server, "claimed", "bob@acme.example").await;
    let now = server.world.now();
    let ask = stackpro_store::MailAsk { now, until: now.plus(30_000), limit: 9, pace: None };
    assert_eq!(server.world.store.claim_mails(&ask).await.unwrap().mails.len(), 1);
    round(&server).await;
    assert_eq!(in_mailbox(&server), 1);
    server.cloud.clock().advance(31_000).unwrap();
    round(&server).await;
    assert_eq!((line(&server, "claimed").await.state, in_mailbox(&server)), (MailState::Sent, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_slows_and_fails_nothing() {
    let server = server().await;
    for n in 0..3 {
        queue(&server, &format!("m{n}"), "ann@acme.example").await;
    }
    for nth in 1..=3 {
        server.cloud.faults().plan("mail.send", nth, Fault::Throttle);
    }
    round(&server).await;
    for n in 0..3 {
        let mail = server.world.store.mail(&format!("m{n}")).await.unwrap().unwrap();
        assert_eq!((mail.state, mail.attempts), (MailState::Queued, 0));
    }
    server.cloud.clock().advance(1_000).unwrap();
    round(&server).await;
    assert_eq!(in_mailbox(&server), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_sent_in_a_second_than_the_account_may() {
    let server = Server::start().await;
    for n in 0..5 {
        queue(&server, &format!("m{n}"), "ann@acme.example").await;
    }
    // What the account may send is not known yet: one a second is always allowed.
    let unknown = round(&server).await;
    assert_eq!(in_mailbox(&server), 1);
    assert!(unknown <= Duration::from_secs(1), "{unknown:?}");
    server.world.mail_account.set(MailAccount { per_second: Some(2), warning: None });
    let mut by_second = std::collections::BTreeMap::<i64, usize>::new();
    until("all are sent", async || {
        let (second, before) = (server.world.real_now(), in_mailbox(&server));
        round(&server).await;
        let sent = in_mailbox(&server) - before;
        if second_of(second) == second_of(server.world.real_now()) {
            *by_second.entry(second_of(second)).or_default() += sent;
        }
        in_mailbox(&server) == 5
    })
    .await;
    assert!(by_second.values().all(|sent| *sent <= 2), "{by_second:?}");
}

fn second_of(time: Time) -> i64 {
    time.ms().div_euclid(1000)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_says_what_keeps_mail_from_reaching_everyone() {
    let server = server().await;
    let olga = operator(&server).await;
    assert!(!olga.get("/console").await.text.contains("sandbox"));
    let warning = Some("The account is in the sandbox <b>".to_owned());
    server.world.mail_account.set(MailAccount { per_second: Some(1), warning });
    for path in ["/console", "/console/mails", "/console/clients"] {
        assert!(olga.get(path).await.text.contains("The account is in the sandbox &#60;b&#62;"), "{path}");
    }
    for path in ["/console/mails?after=x", "/console/mails/none", "/console/mails/suppressed?after=1"] {
        assert_eq!(olga.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

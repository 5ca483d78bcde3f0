//! Operators hear of what stopped: by one mail each, each time.

use serde_json::json;
use stackpro_domain::MemberId;
use stackpro_flow::{Ask, Ended, Flow, FlowState, Journal, Outcome};
use stackpro_server::flows;
use stackpro_server::reconcilers::attention;
use stackpro_store::{MailFilter, Member, OutMail, Role, TillEvent, TillEventState};

use crate::common::Server;

async fn operator(server: &Server, name: &str) {
    let operator = Member {
        id: name.parse::<MemberId>().unwrap(),
        client_id: None,
        email: format!("{name}@stackpro.example"),
        first_name: "Olga".into(),
        last_name: "Ops".into(),
        role: Role::Operator,
        password_hash: None,
        email_verified_at: None,
        created_at: server.world.now(),
    };
    let mut tx = server.world.store.begin().await.unwrap();
    tx.insert_member(&operator).await.unwrap();
    tx.commit().await.unwrap();
}

/// The mails about what stopped, after the operators were told twice.
async fn told(server: &Server) -> Vec<OutMail> {
    attention::round(&server.world).await.unwrap();
    attention::round(&server.world).await.unwrap();
    let lines = server.world.store.mails(&MailFilter::default(), None, 100).await.unwrap().rows;
    let mut mails = Vec::new();
    for line in lines.into_iter().filter(|line| line.kind == "attention") {
        mails.extend(server.world.store.mail(&line.id).await.unwrap());
    }
    mails.sort_by(|a, b| a.to.cmp(&b.to));
    mails
}

/// Lets the steps that are due end like this, until none is.
async fn all_end(server: &Server, outcome: Outcome) {
    let ask = Ask { owner: "test".into(), lease_ms: 60_000, steps: 1, per_api: 9, known: flows::known().into() };
    let mut claims = server.world.store.claim(&ask).await.unwrap();
    while let Some(claim) = claims.pop() {
        match server.world.store.end(&claim.key, outcome.clone(), &ask).await.unwrap() {
            Ended::Recorded(next) => claims.extend(next),
            Ended::Fenced => panic!("fenced"),
        }
    }
}

async fn parked(server: &Server) -> Flow {
    server.world.store.flows(Some(FlowState::Parked), None, 10).await.unwrap().rows.pop().unwrap()
}

#[tokio::test]
async fn every_operator_hears_of_a_flow_once_each_time_that_it_parks() {
    let server = Server::start().await;
    let client = server.sign_up("Acme").await["clientId"].as_str().unwrap().to_owned();
    // Its first step and what undoes that fail for good, so that it needs a person.
    all_end(&server, Outcome::Failed("no <way>".into())).await;
    let flow = parked(&server).await;
    assert!(told(&server).await.is_empty(), "nobody is there to be told");

    operator(&server, "olga").await;
    operator(&server, "otto").await;
    let mails = told(&server).await;
    let to: Vec<&str> = mails.iter().map(|mail| mail.to.as_str()).collect();
    assert_eq!(to, ["olga@stackpro.example", "otto@stackpro.example"]);
    let mail = &mails[0];
    assert!(mail.client_id.is_none(), "it is no mail of the client's");
    assert!(mail.subject.contains("Set up") && mail.subject.contains(&client), "{}", mail.subject);
    let link = format!("http://127.0.0.1:8080/console/flows/{}", flow.id);
    assert!(mail.text.contains(&link) && mail.text.contains("no <way>"), "{}", mail.text);
    assert!(mail.html.contains("&#60;way&#62;"), "{}", mail.html);

    // The clock has moved on when it parks again.
    server.world.time_machine.as_ref().unwrap().advance(60_000).unwrap();
    let mut tx = server.world.store.begin().await.unwrap();
    tx.retry_flow(&flow.id).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert_eq!(told(&server).await.len(), 2, "it goes on");
    all_end(&server, Outcome::Failed("still none".into())).await;
    assert_eq!(parked(&server).await.id, flow.id);
    assert_eq!(told(&server).await.len(), 4);
}

#[tokio::test]
async fn a_flow_that_goes_on_before_anyone_was_told_is_no_news() {
    let server = Server::start().await;
    server.sign_up("Acme").await;
    operator(&server, "olga").await;
    all_end(&server, Outcome::Failed("no way".into())).await;
    let mut tx = server.world.store.begin().await.unwrap();
    tx.retry_flow(&parked(&server).await.id).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert!(told(&server).await.is_empty());
}

#[tokio::test]
async fn every_operator_hears_of_an_event_once_each_time_that_it_parks() {
    let server = Server::start().await;
    operator(&server, "olga").await;
    let event = TillEvent {
        id: "evt_odd".into(),
        kind: "invoice.paid".into(),
        payload: json!({}).to_string(),
        state: TillEventState::Received,
        attempts: 0,
        error: None,
        received_at: server.world.now(),
        handled_at: None,
    };
    let park = async || {
        let (now, mut tx) = (server.world.now(), server.world.store.begin().await.unwrap());
        tx.insert_till_event(&event).await.unwrap();
        tx.till_event_handled("evt_odd", TillEventState::Parked, now, Some("the till refused"), None).await.unwrap();
        tx.commit().await.unwrap();
    };
    park().await;
    let mails = told(&server).await;
    assert_eq!(mails.len(), 1);
    assert!(mails[0].subject.contains("invoice.paid") && mails[0].text.contains("the till refused"), "{mails:#?}");
    assert!(mails[0].text.contains("http://127.0.0.1:8080/console/flows#events"), "{}", mails[0].text);

    server.world.time_machine.as_ref().unwrap().advance(60_000).unwrap();
    let mut tx = server.world.store.begin().await.unwrap();
    assert!(tx.retry_till_event("evt_odd", server.world.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(told(&server).await.len(), 1);
    park().await;
    assert_eq!(told(&server).await.len(), 2);
}

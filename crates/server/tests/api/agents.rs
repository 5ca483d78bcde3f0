//! What agents may say.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use stackpro_domain::{InstanceId, ResourceId};
use stackpro_server::auth::hash_token;
use stackpro_store::{
    HostKind, InstancePhase, InstanceRow, MailFilter, Purpose, Resource, ResourceKind, ResourceState,
};

use crate::common::{Server, request};

async fn instance(server: &Server, id: &str) -> ResourceId {
    let id: ResourceId = id.parse().unwrap();
    let now = server.world.now();
    let mut tx = server.world.store.begin().await.unwrap();
    let resource = Resource {
        id: id.clone(),
        kind: ResourceKind::Instance,
        name: format!("launch-{id}"),
        cloud_id: None,
        client_id: None,
        state: ResourceState::Intended,
        created_at: now,
        deleted_at: None,
    };
    tx.insert_resource(&resource).await.unwrap();
    let row = InstanceRow {
        id: id.clone(),
        cloud_id: None,
        kind: HostKind::Shared,
        instance_type: "t3.medium".into(),
        capacity: 10,
        state: InstancePhase::Launching,
        front: None,
        control: None,
        fingerprint: None,
        edition: None,
        version: None,
        enrolled_at: None,
        last_report_at: None,
        created_at: now,
        clients: 0,
    };
    tx.insert_instance(&row).await.unwrap();
    let hash = hash_token(&server.world.secrets.enrol_token(&id));
    tx.insert_token(Purpose::Enrol, &hash, id.as_str(), now.plus(3_600_000)).await.unwrap();
    tx.commit().await.unwrap();
    id
}

fn word(instance: &str) -> Value {
    json!({"instanceId": instance, "front": "127.0.0.1:4001", "control": "127.0.0.1:4002", "version": "0.1.0"})
}

fn enrol(server: &Server, id: &ResourceId, instance: &str) -> Value {
    let mut body = word(instance);
    body["token"] = json!(server.world.secrets.enrol_token(id));
    body
}

#[tokio::test]
async fn an_agent_enrols_once_and_again_only_when_its_answer_was_lost() {
    let server = Server::start().await;
    let id = instance(&server, "r1").await;
    let mut forged = word("i-1");
    forged["token"] = json!("guessed");
    assert_eq!(server.post("/api/agents/enrol", "", &forged).await.status, StatusCode::FORBIDDEN);

    let first = server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let again = server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await;
    assert_eq!(first.json()["key"], again.json()["key"]);
    assert_eq!(server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-2")).await.status, StatusCode::FORBIDDEN);
    let row = server.world.store.instance(&id).await.unwrap().unwrap();
    assert_eq!(row.cloud_id.unwrap().as_str(), "i-1");
    assert_eq!(row.control.unwrap().to_string(), "127.0.0.1:4002");

    // The time machine moves no agent's clock; eleven real minutes do.
    server.world.time_machine.as_ref().unwrap().advance(11 * 60_000).unwrap();
    assert_eq!(server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await.status, StatusCode::OK);
    let mut tx = server.world.store.begin().await.unwrap();
    let mut row = tx.instance(&id).await.unwrap().unwrap();
    row.enrolled_at = row.enrolled_at.map(|at| at.plus(-11 * 60_000));
    tx.update_instance(&row).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_setup_that_fails_tells_its_log_until_its_agent_has_enrolled() {
    let server = Server::start().await;
    let id = instance(&server, "r1").await;
    let token = server.world.secrets.enrol_token(&id);
    let tell = async |token: &str, log: String| {
        let request = request(Method::POST, "/api/agents/setup-failed", token).body(log.into()).unwrap();
        server.send(request).await.status
    };
    let kept = async || server.world.store.setup_failure(&id).await.unwrap();
    assert_eq!(tell("guessed", "a lie".into()).await, StatusCode::FORBIDDEN);
    assert_eq!(kept().await, None);
    let log = format!("{}\u{1b}[31mfirst\nno room on the disk\n", "x".repeat(100_000));
    assert_eq!(tell(&token, log).await, StatusCode::NO_CONTENT);
    let failure = kept().await.unwrap();
    assert!(failure.log.len() <= 8_000 && failure.log.ends_with("[31mfirst\nno room on the disk"), "{failure:?}");
    assert_eq!(tell(&token, "x".repeat(300_000)).await, StatusCode::PAYLOAD_TOO_LARGE);

    assert_eq!(server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await.status, StatusCode::OK);
    assert_eq!(kept().await, None, "it is over");
    assert_eq!(tell(&token, "again".into()).await, StatusCode::FORBIDDEN);
}

/// Who learned the token later (it is in the instance's user data) cannot put a certificate of their own in
/// the place of the agent's.
#[tokio::test]
async fn the_certificate_of_an_enrolment_is_the_one_for_ever() {
    let server = Server::start().await;
    let id = instance(&server, "r1").await;
    let with = |fingerprint: Value| {
        let mut body = enrol(&server, &id, "i-1");
        body["fingerprint"] = fingerprint;
        body
    };
    let (own, other) = (json!("5c".repeat(32)), json!("6d".repeat(32)));
    for bad in [json!("5c"), json!("5C".repeat(32)), json!(7)] {
        let answer = server.post("/api/agents/enrol", "", &with(bad)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    for _ in 0..2 {
        assert_eq!(server.post("/api/agents/enrol", "", &with(own.clone())).await.status, StatusCode::OK);
    }
    for bad in [other, Value::Null] {
        assert_eq!(server.post("/api/agents/enrol", "", &with(bad)).await.status, StatusCode::FORBIDDEN);
    }
    let row = server.world.store.instance(&id).await.unwrap().unwrap();
    assert_eq!(row.fingerprint.unwrap().as_str(), own.as_str().unwrap());
}

#[tokio::test]
async fn an_agent_speaks_for_itself_and_for_who_is_placed_on_it() {
    let server = Server::start().await;
    let acme = server.sign_up("Acme Law").await;
    let other = server.sign_up("Other Law").await;
    let (acme, other) = (acme["clientId"].as_str().unwrap(), other["clientId"].as_str().unwrap());
    let id = instance(&server, "r1").await;
    let enrolled = server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await.json();
    let key = enrolled["key"].as_str().unwrap().to_owned();
    let mut tx = server.world.store.begin().await.unwrap();
    tx.add_stack(&acme.parse().unwrap(), &id).await.unwrap();
    tx.commit().await.unwrap();

    let stack = |client: &str, files: u64| {
        let usage = json!({"storageBytes": u64::MAX, "files": files, "requests": u64::MAX, "trafficBytes": 1});
        json!({"clientId": client, "state": "serving", "usage": usage})
    };
    let mut body = word("i-1");
    body["stacks"] = json!([stack(acme, 7), stack(other, 7), stack("nobody-2222", 7)]);
    assert_eq!(server.post("/api/agents/report", "", &body).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.post("/api/agents/report", "wrong", &body).await.status, StatusCode::UNAUTHORIZED);
    for _ in 0..2 {
        let answer = server.post("/api/agents/report", &key, &body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    }
    // What it says of our certificate is believed, since it is what visitors see.
    for edition in [json!("second"), Value::Null] {
        body["edition"] = edition.clone();
        assert_eq!(server.post("/api/agents/report", &key, &body).await.status, StatusCode::NO_CONTENT);
        let row = server.world.store.instance(&id).await.unwrap().unwrap();
        assert_eq!(json!(row.edition), edition);
    }
    let usage = async |client: &str| server.world.store.usage(&client.parse().unwrap()).await.unwrap();
    assert_eq!(usage(acme).await.files, 7);
    assert_eq!(usage(other).await.files, 0, "it is not placed there");

    body["instanceId"] = json!("i-2");
    assert_eq!(server.post("/api/agents/report", &key, &body).await.status, StatusCode::UNAUTHORIZED, "another's name");
    let strange: InstanceId = "i-2".parse().unwrap();
    let answer = server.post("/api/agents/report", &server.world.secrets.agent_key(&strange), &body).await;
    assert_eq!(answer.status, StatusCode::GONE);
}

/// A visitor of that client's site wrote, as its agent passes it on.
fn written(client: &str, n: u64) -> Value {
    json!({"instanceId": "i-1", "clientId": client, "id": format!("{n:016}"), "name": "Vera Visitor",
        "email": "vera@visitors.example", "message": "Hello,\r\n\r\nare you open <b>today</b>?"})
}

#[tokio::test]
async fn what_visitors_write_is_mailed_once_within_the_plan() {
    let server = Server::with(|settings| settings.rates.messages_client.limit = 120).await;
    let world = &server.world;
    let acme = server.sign_up("Acme Law").await;
    let client = acme["clientId"].as_str().unwrap();
    let id = instance(&server, "r1").await;
    let enrolled = server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await.json();
    let key = enrolled["key"].as_str().unwrap().to_owned();
    let tell = async |body: &Value| server.post("/api/agents/messages", &key, body).await.status;
    assert_eq!(tell(&written(client, 0)).await, StatusCode::NOT_FOUND, "it is not placed there");
    let mut tx = world.store.begin().await.unwrap();
    tx.add_stack(&client.parse().unwrap(), &id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        server.post("/api/agents/messages", "wrong", &written(client, 0)).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(tell(&written(client, 0)).await, StatusCode::CONFLICT, "no owner has confirmed an address");
    let mut owner = world.store.members(&client.parse().unwrap()).await.unwrap().remove(0);
    owner.email_verified_at = Some(world.now());
    let mut tx = world.store.begin().await.unwrap();
    tx.update_member(&owner).await.unwrap();
    tx.commit().await.unwrap();
    let log = async || {
        let filter = MailFilter { client: Some(client.parse().unwrap()), state: None };
        world.store.mails(&filter, None, 200).await.unwrap().rows
    };
    let count = async |kind: &str| log().await.iter().filter(|mail| mail.kind == kind).count();
    // The answer to the first may be lost, and so it is told again.
    for n in [0, 0].into_iter().chain(1..100) {
        assert_eq!(tell(&written(client, n)).await, StatusCode::ACCEPTED, "{n}");
    }
    assert_eq!((count("message").await, count("mails_used_up").await), (100, 0));
    let mail = world.store.mail(&format!("message-{:016}-{}", 0, owner.id)).await.unwrap().unwrap();
    assert_eq!((mail.to, mail.reply_to.as_deref()), (owner.email.clone(), Some("vera@visitors.example")));
    assert_eq!(mail.subject, "Message from Vera Visitor");
    assert!(mail.text.contains("Hello,\n\nare you open") && mail.html.contains("&#60;b&#62;today"), "{}", mail.html);
    // The trial has 100 a month.
    for _ in 0..2 {
        assert_eq!(tell(&written(client, 100)).await, StatusCode::FORBIDDEN);
    }
    assert_eq!(tell(&written(client, 7)).await, StatusCode::ACCEPTED, "that one was sent");
    assert_eq!((count("message").await, count("mails_used_up").await), (100, 1), "they are told once");
    let used = server.get(&format!("/api/dashboard/{client}"), acme["token"].as_str().unwrap()).await.json();
    assert_eq!((&used["usage"]["emailsThisMonth"], &used["usage"]["emailsLimit"]), (&json!(100), &json!(100)));
    // Nobody can flood an owner, whatever their plan.
    for n in 0..20 {
        tell(&written(client, n)).await;
    }
    assert_eq!(tell(&written(client, 0)).await, StatusCode::TOO_MANY_REQUESTS);
    // Everything a visitor says is looked at.
    for (field, bad) in [
        ("id", json!("short")),
        ("id", json!("UPPERCASE-LETTERS-0")),
        ("name", json!("")),
        ("name", json!("a\nBcc: b@c.example")),
        ("email", json!("nobody")),
        ("email", json!("a@b.example\r\nBcc: c@d.example")),
        ("message", json!(" ")),
        ("message", json!("x".repeat(5_001))),
        ("clientId", json!("../etc")),
    ] {
        let mut body = written(client, 0);
        body[field] = bad;
        let answer = server.post("/api/agents/messages", &key, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", answer.text);
        assert_eq!(answer.json()["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn hostile_reports_are_refused() {
    let server = Server::start().await;
    let id = instance(&server, "r1").await;
    let enrolled = server.post("/api/agents/enrol", "", &enrol(&server, &id, "i-1")).await.json();
    let key = enrolled["key"].as_str().unwrap();
    let with = |field: &str, value: Value| {
        let mut body = word("i-1");
        body["stacks"] = json!([]);
        body[field] = value;
        body
    };
    for (field, bad) in [
        ("version", json!("")),
        ("version", json!("a\nb")),
        ("version", json!("x".repeat(65))),
        ("edition", json!("x".repeat(101))),
        ("front", json!("localhost")),
        ("control", json!("1.2.3.4")),
        ("stacks", json!([{"clientId": "../etc"}])),
        ("instanceId", json!("i-1\u{0}")),
    ] {
        let answer = server.post("/api/agents/report", key, &with(field, bad)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", answer.text);
        assert!(answer.json()["errors"][0]["field"].as_str().unwrap().starts_with(field));
    }
}

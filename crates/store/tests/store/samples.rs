//! Rows to begin with.

use stackpro_domain::lifecycle::Life;
use stackpro_domain::mail::{Fate, MailState};
use stackpro_domain::plan::{DEFAULT_PLANS, Plans};
use stackpro_domain::{ClientId, MemberId, ResourceId, Time};
use stackpro_store::{
    Client, HostKind, InstancePhase, InstanceRow, MailEvent, Member, OutMail, Resource, ResourceKind, ResourceState,
    Role, Session, StackPhase, Store, TillEvent, TillEventState,
};

pub(crate) const NOW: Time = Time(1_795_562_204_123);

pub(crate) fn client(id: &str) -> Client {
    let trial = Plans::parse(DEFAULT_PLANS).unwrap().trial;
    Client {
        id: id.parse().unwrap(),
        company: format!("Company of {id}"),
        plan: "starter".into(),
        interval: None,
        life: Life::begin(&trial, NOW),
        stack: StackPhase::Provisioning,
        hosting: None,
        host: format!("{id}.stackpro.localhost"),
        customer_id: None,
        price: None,
        subscription_id: None,
        certificate: None,
        portal_rotation: 0,
        recipe: "site".into(),
        created_at: NOW,
    }
}

pub(crate) fn member(id: &str, client: Option<&ClientId>) -> Member {
    Member {
        id: id.parse().unwrap(),
        client_id: client.cloned(),
        email: format!("{id}@example.com"),
        first_name: "Ann".into(),
        last_name: "O'Hara \u{1F600}".into(),
        role: if client.is_some() { Role::Owner } else { Role::Operator },
        password_hash: None,
        email_verified_at: None,
        created_at: NOW,
    }
}

pub(crate) fn session(id: &str, member: &MemberId) -> Session {
    Session {
        id: id.into(),
        member_id: member.clone(),
        refresh_hash: format!("hash-{id}-0"),
        previous_hash: None,
        rotated_at: NOW,
        expires_at: NOW.plus_days(30),
        created_at: NOW,
    }
}

pub(crate) fn shared(id: &str, capacity: u32) -> InstanceRow {
    InstanceRow {
        id: id.parse().unwrap(),
        cloud_id: Some(format!("cloud-{id}").parse().unwrap()),
        kind: HostKind::Shared,
        instance_type: "t3.medium".into(),
        capacity,
        state: InstancePhase::Ready,
        front: Some("127.0.0.1:8081".parse().unwrap()),
        control: Some("[::1]:8082".parse().unwrap()),
        fingerprint: Some("5c".repeat(32).parse().unwrap()),
        edition: Some("first".into()),
        version: Some("0.1.0".into()),
        enrolled_at: Some(NOW),
        last_report_at: None,
        created_at: NOW,
        clients: 0,
    }
}

pub(crate) fn resource(id: &str, client: Option<&ClientId>) -> Resource {
    Resource {
        id: id.parse::<ResourceId>().unwrap(),
        kind: ResourceKind::Bucket,
        name: format!("stackpro-{id}"),
        cloud_id: None,
        client_id: client.cloned(),
        state: ResourceState::Intended,
        created_at: NOW,
        deleted_at: None,
    }
}

pub(crate) fn mail(id: &str, client: Option<&ClientId>, at: Time) -> OutMail {
    OutMail {
        id: id.into(),
        client_id: client.cloned(),
        kind: "welcome".into(),
        to: "ann@example.com".into(),
        reply_to: None,
        subject: "Welcome".into(),
        text: "Hello".into(),
        html: "<p>Hello</p>".into(),
        state: MailState::Queued,
        attempts: 0,
        error: None,
        created_at: at,
        sent_at: None,
    }
}

/// About Ann.
pub(crate) fn mail_event(id: &str, mail: Option<&str>, fate: Fate, at: Time) -> MailEvent {
    MailEvent {
        id: id.into(),
        mail_id: mail.map(str::to_owned),
        client_id: None,
        address: "ann@example.com".into(),
        fate,
        detail: format!("{} said so", fate.as_str()),
        at,
        received_at: NOW,
    }
}

pub(crate) fn till_event(id: &str) -> TillEvent {
    TillEvent {
        id: id.into(),
        kind: "invoice.paid".into(),
        payload: "{\"a\":1}".into(),
        state: TillEventState::Received,
        attempts: 0,
        error: None,
        received_at: NOW,
        handled_at: None,
    }
}

/// Makes these clients.
pub(crate) async fn insert_clients(store: &Store, ids: &[String]) -> Vec<ClientId> {
    let mut tx = store.begin().await.unwrap();
    for id in ids {
        tx.insert_client(&client(id)).await.unwrap();
    }
    tx.commit().await.unwrap();
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

/// Makes these instances.
pub(crate) async fn insert_instances(store: &Store, instances: &[InstanceRow]) {
    let mut tx = store.begin().await.unwrap();
    for instance in instances {
        tx.insert_instance(instance).await.unwrap();
    }
    tx.commit().await.unwrap();
}

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};
use stackpro_cloud::{CloudError, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Home, tags, until};

fn record(name: &str, port: u16) -> Record {
    Record { name: name.into(), target: ([127, 0, 0, 1], port).into(), ttl_seconds: 30, tags: tags("r") }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message.to_vec().unwrap()
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(name, kind), server).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn soa_of(message: &Message) -> &RData {
    &message.authorities[0].data
}

#[tokio::test]
async fn a_record_added_live_is_answered_over_udp_and_tcp_until_it_goes() {
    let home = Home::new();
    let server = home.local.serve_dns().await.unwrap();
    let dns = home.again().cloud().dns;
    let missing = ask(server.address(), "acme.stackpro.localhost.", RecordType::A).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert!(matches!(soa_of(&missing), RData::SOA(soa) if soa.minimum == 1));

    dns.upsert(&record("acme.stackpro.localhost", 25_000)).await.unwrap();
    let found = ask(server.address(), "ACME.stackpro.localhost.", RecordType::A).await;
    assert_eq!(found.metadata.response_code, ResponseCode::NoError);
    assert!(found.metadata.authoritative);
    assert_eq!(found.answers[0].data, RData::A(A::new(127, 0, 0, 1)));
    assert_eq!(found.answers[0].ttl, 30);

    let service = ask(server.address(), "_http._tcp.acme.stackpro.localhost.", RecordType::SRV).await;
    assert!(matches!(&service.answers[0].data, RData::SRV(srv) if srv.port == 25_000));

    let mut tcp = TcpStream::connect(server.address()).await.unwrap();
    let asked = question("acme.stackpro.localhost.", RecordType::A);
    tcp.write_u16(u16::try_from(asked.len()).unwrap()).await.unwrap();
    tcp.write_all(&asked).await.unwrap();
    let mut answer = vec![0; tcp.read_u16().await.unwrap().into()];
    tcp.read_exact(&mut answer).await.unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);

    dns.delete("acme.stackpro.localhost").await.unwrap();
    let gone = ask(server.address(), "acme.stackpro.localhost.", RecordType::A).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_name_without_that_type_is_no_data_and_other_zones_are_refused() {
    let home = Home::new();
    let running = home.local.serve_dns().await.unwrap();
    let server = running.address();
    home.local.cloud().dns.upsert(&record("a.b.stackpro.localhost", 1)).await.unwrap();
    for (name, kind) in [
        ("a.b.stackpro.localhost.", RecordType::AAAA),
        ("a.b.stackpro.localhost.", RecordType::MX),
        ("b.stackpro.localhost.", RecordType::A),
        ("_tcp.a.b.stackpro.localhost.", RecordType::SRV),
        ("stackpro.localhost.", RecordType::MX),
    ] {
        let answer = ask(server, name, kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
        assert!(answer.answers.is_empty() && matches!(soa_of(&answer), RData::SOA(_)), "{name}");
    }
    for (kind, count) in [(RecordType::SOA, 1), (RecordType::NS, 1), (RecordType::A, 1), (RecordType::ANY, 3)] {
        assert_eq!(ask(server, "stackpro.localhost.", kind).await.answers.len(), count, "{kind}");
    }
    for name in ["example.com.", "notstackpro.localhost.", "."] {
        assert_eq!(ask(server, name, RecordType::A).await.metadata.response_code, ResponseCode::Refused, "{name}");
    }
}

fn texts_of(message: &Message) -> Vec<String> {
    let mut texts: Vec<String> =
        message.answers.iter().map(|record| record.data.to_string().replace(' ', "")).collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn text_records_are_exactly_what_was_said_last_and_touch_nothing_else() {
    let home = Home::new();
    let running = home.local.serve_dns().await.unwrap();
    let (server, dns) = (running.address(), home.again().cloud().dns);
    let name = "_acme-challenge.stackpro.localhost";
    let asked = async |name: &str| ask(server, &format!("{name}."), RecordType::TXT).await;
    assert_eq!(asked(name).await.metadata.response_code, ResponseCode::NXDomain);
    dns.set_text(name, &["one".into(), "two".into()]).await.unwrap();
    let answer = asked("_ACME-challenge.stackpro.localhost").await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert_eq!(texts_of(&answer), ["one", "two"]);
    let long = "k".repeat(300);
    dns.set_text(name, std::slice::from_ref(&long)).await.unwrap();
    assert_eq!(texts_of(&asked(name).await).concat().replace('"', ""), long);
    // A host's address and its texts are apart, and the list has no texts.
    let host = record("acme.stackpro.localhost", 1);
    dns.upsert(&host).await.unwrap();
    dns.set_text(&host.name, &["v=1".into()]).await.unwrap();
    assert_eq!(ask(server, "acme.stackpro.localhost.", RecordType::A).await.answers.len(), 1);
    assert_eq!(asked(&host.name).await.answers.len(), 1);
    assert_eq!(dns.list().await.unwrap(), std::slice::from_ref(&host));
    dns.delete(&host.name).await.unwrap();
    assert_eq!(asked(&host.name).await.answers.len(), 1);
    for name in [name, &host.name] {
        for _ in 0..2 {
            dns.set_text(name, &[]).await.unwrap();
        }
        assert_eq!(asked(name).await.metadata.response_code, ResponseCode::NXDomain);
    }
    for bad in ["_x.example.com", "../x.stackpro.localhost", "_X.stackpro.localhost", "", "*.stackpro.localhost"] {
        assert!(matches!(dns.set_text(bad, &["a".into()]).await, Err(CloudError::Refused { .. })), "{bad}");
    }
    assert!(matches!(dns.set_text(name, &["a\nb".into()]).await, Err(CloudError::Refused { .. })));
}

#[tokio::test]
async fn a_port_has_one_name_server_until_it_is_dropped() {
    let home = Home::new();
    let first = home.local.serve_dns().await.unwrap();
    let port = first.address().port();
    let second = home.on_dns_port(port);
    assert!(second.serve_dns().await.is_err());
    drop(first);
    until("the port is free", || async { second.serve_dns().await.is_ok() }).await;
}

#[tokio::test]
async fn look_ups_follow_changes_of_another_process_and_survive_hostile_names() {
    let home = Home::new();
    let other = home.again().cloud().dns;
    let name = "acme.stackpro.localhost";
    let port = || home.local.lookup(name).map(|target| target.port());
    assert_eq!(port(), None);
    other.upsert(&record(name, 1)).await.unwrap();
    assert_eq!(port(), Some(1));
    other.upsert(&record(name, 2)).await.unwrap();
    until("the change is seen", || async { port() == Some(2) }).await;
    other.delete(name).await.unwrap();
    until("the removal is seen", || async { port().is_none() }).await;
    home.local.cloud().dns.upsert(&record(name, 3)).await.unwrap();
    assert_eq!(port(), Some(3), "one's own change is seen at once");
    for bad in ["", "..", "../clock", "a/b", "ACME.stackpro.localhost", "a\0.stackpro.localhost", &"x.".repeat(200)] {
        assert_eq!(home.local.lookup(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn records_stay_within_the_zone() {
    let home = Home::new();
    let dns = home.local.cloud().dns;
    for bad in ["acme.example.com", "notstackpro.localhost", "../x.stackpro.localhost", "A.stackpro.localhost", ""] {
        assert!(matches!(dns.upsert(&record(bad, 1)).await, Err(CloudError::Refused { .. })), "{bad}");
    }
    let good = record("acme.stackpro.localhost", 1);
    dns.upsert(&good).await.unwrap();
    assert_eq!(dns.get(&good.name).await.unwrap(), Some(good.clone()));
    assert_eq!(dns.list().await.unwrap(), vec![good.clone()]);
    for _ in 0..2 {
        dns.delete(&good.name).await.unwrap();
    }
    assert_eq!(dns.get(&good.name).await.unwrap(), None);
}

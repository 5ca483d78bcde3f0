//! Whether the emulator is as honest as the tests that stand on it need it to be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use stackpro_testkit::aws::{Behaviour, Emulator, Event, Fault, Latency, Moto};
use stackpro_testkit::eventually;

const BINARY: &str = env!("CARGO_BIN_EXE_stackpro");

async fn emulator(behaviour: Behaviour) -> Emulator {
    Emulator::start(&Arc::new(Moto::start()), BINARY, behaviour).await
}

/// Answers to requests as an SDK makes them; none when the connection was dropped.
struct Caller {
    http: reqwest::Client,
    endpoint: String,
}

impl Caller {
    fn of(emulator: &Emulator) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { http, endpoint: emulator.endpoint() }
    }

    async fn ask(&self, service: &str, method: Method, path: &str, body: &str) -> Option<(StatusCode, String)> {
        let scope = format!("AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/{service}/aws4_request, Signature=0");
        let kind = match service {
            "ec2" => "application/x-www-form-urlencoded",
            "ses" => "application/json",
            _ => "application/xml",
        };
        let request = self.http.request(method, format!("{}{path}", self.endpoint));
        let request = request.header("authorization", scope).header("content-type", kind).body(body.to_owned());
        let answer = request.send().await.ok()?;
        Some((answer.status(), answer.text().await.ok()?))
    }

    async fn ec2(&self, form: &str) -> (StatusCode, String) {
        self.ask("ec2", Method::POST, "/", &format!("{form}&Version=2016-11-15")).await.expect("an answer")
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    text.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(inside, _)| inside)
}

const RUN: &str = "Action=RunInstances&ImageId=ami-12c6146b&MinCount=1&MaxCount=1&ClientToken=launch-1";

#[tokio::test]
async fn a_token_makes_one_instance_however_often_it_is_used() {
    let emulator = emulator(Behaviour::default()).await;
    let caller = Caller::of(&emulator);
    let same = [RUN; 4].map(|form| caller.ec2(form));
    let ids: Vec<String> = futures::future::join_all(same)
        .await
        .iter()
        .map(|(_, answer)| between(answer, "<instanceId>", "</").to_owned())
        .collect();
    assert!(ids[0].starts_with("i-") && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(emulator.inventory().await.instances, [ids[0].clone()]);

    let (status, other) = caller.ec2(&format!("{RUN}&InstanceType=t3.large")).await;
    assert_eq!((status, between(&other, "<Code>", "</")), (StatusCode::BAD_REQUEST, "IdempotentParameterMismatch"));

    caller.ec2(&format!("Action=TerminateInstances&InstanceId.1={}", ids[0])).await;
    let (_, gone) = caller.ec2(RUN).await;
    assert_eq!(between(&gone, "<Code>", "</"), "IdempotentInstanceTerminated");
}

const CREATE: &str = "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                      <Name>stackpro.test</Name><CallerReference>once</CallerReference></CreateHostedZoneRequest>";

/// Makes it, and returns its id.
async fn zone(caller: &Caller) -> String {
    let (_, made) = caller.ask("route53", Method::POST, "/2013-04-01/hostedzone", CREATE).await.unwrap();
    between(&made, "<Id>/hostedzone/", "</").to_owned()
}

async fn write(caller: &Caller, zone: &str, name: &str, kind: &str, value: &str) {
    let change = format!(
        "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch>\
         <Changes><Change><Action>UPSERT</Action><ResourceRecordSet><Name>{name}</Name><Type>{kind}</Type>\
         <TTL>2</TTL><ResourceRecords><ResourceRecord><Value>{value}</Value></ResourceRecord></ResourceRecords>\
         </ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    );
    let path = format!("/2013-04-01/hostedzone/{zone}/rrset");
    let (status, answer) = caller.ask("route53", Method::POST, &path, &change).await.unwrap();
    assert!(status.is_success(), "{answer}");
}

#[tokio::test]
async fn a_reference_makes_one_zone_and_its_records_are_answered() {
    let emulator = emulator(Behaviour::default()).await;
    let caller = Caller::of(&emulator);
    let zone = zone(&caller).await;
    let (status, again) = caller.ask("route53", Method::POST, "/2013-04-01/hostedzone", CREATE).await.unwrap();
    assert_eq!((status, between(&again, "<Code>", "</")), (StatusCode::CONFLICT, "HostedZoneAlreadyExists"));

    let resolver = emulator.resolver();
    for address in ["127.0.0.8", "127.0.0.9"] {
        write(&caller, &zone, "acme.stackpro.test", "A", address).await;
        assert_eq!(resolver.look_up("Acme.stackpro.test").await, [address.parse::<std::net::Ipv4Addr>().unwrap()]);
    }
    assert!(resolver.look_up("other.stackpro.test").await.is_empty());
    assert_eq!(emulator.inventory().await.records, ["A acme.stackpro.test"]);
}

const HERE: &str = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                    <LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>";

#[tokio::test]
async fn every_fault_is_what_it_says() {
    let emulator = emulator(Behaviour::default()).await;
    let caller = Caller::of(&emulator);
    let list = || caller.ask("s3", Method::GET, "/?x-id=ListBuckets", "");
    let make = |name: &str| {
        let path = format!("/{name}");
        let caller = &caller;
        async move { caller.ask("s3", Method::PUT, &path, HERE).await.map(|(status, _)| status.as_u16()) }
    };
    for (fault, status, code) in [
        (Fault::Throttled, 503, "SlowDown"),
        (Fault::ServerError, 500, "InternalError"),
        (Fault::Expired, 400, "ExpiredToken"),
    ] {
        emulator.plan("s3.ListBuckets", 1, Event::Fault(fault));
        let (got, answer) = list().await.unwrap();
        assert_eq!((got.as_u16(), between(&answer, "<Code>", "</")), (status, code));
    }
    emulator.plan("s3.ListBuckets", 1, Event::Fault(Fault::Wordless));
    assert_eq!(list().await.unwrap(), (StatusCode::INTERNAL_SERVER_ERROR, String::new()));
    assert!(list().await.unwrap().0.is_success());

    emulator.plan("s3.CreateBucket", 1, Event::Fault(Fault::DroppedBefore));
    assert_eq!((make("before").await, emulator.inventory().await.buckets.len()), (None, 0));
    emulator.plan("s3.CreateBucket", 1, Event::Fault(Fault::DroppedAfter));
    assert_eq!((make("after").await, emulator.inventory().await.buckets), (None, vec!["after".to_owned()]));
    emulator.plan("s3.CreateBucket", 1, Event::Fault(Fault::Slow(Duration::from_millis(300))));
    let began = Instant::now();
    assert_eq!(make("slow").await, Some(200));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(emulator.unplan(), 0);
    let named: Vec<_> = emulator.calls().iter().map(|made| (made.call.name.clone(), made.status)).collect();
    assert_eq!(named.len(), 8, "{named:?}");
    assert_eq!((named[0].clone(), named[5].1), (("s3.ListBuckets".to_owned(), Some(503)), None));
}

#[tokio::test]
async fn a_domain_is_verified_by_the_records_that_ses_asks_for() {
    let emulator = emulator(Behaviour::default()).await;
    let caller = Caller::of(&emulator);
    let body = r#"{"EmailIdentity":"acme.stackpro.test"}"#;
    let (_, made) = caller.ask("ses", Method::POST, "/v2/email/identities", body).await.unwrap();
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let tokens = made["DkimAttributes"]["Tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), &made["DkimAttributes"]["Status"]), (3, &"PENDING".into()));
    let (_, read) = caller.ask("ses", Method::GET, "/v2/email/identities/acme.stackpro.test", "").await.unwrap();
    let read: serde_json::Value = serde_json::from_str(&read).unwrap();
    assert_eq!(read["DkimAttributes"]["Tokens"], made["DkimAttributes"]["Tokens"]);
    assert_eq!(read["VerifiedForSendingStatus"], false);

    let mail = r#"{"FromEmailAddress":"Acme <a@acme.stackpro.test>","Destination":{"ToAddresses":["b@example.com"]},
        "Content":{"Simple":{"Subject":{"Data":"Hello"},"Headers":[{"Name":"X","Value":"m1"}]}}}"#;
    let send = || caller.ask("ses", Method::POST, "/v2/email/outbound-emails", mail);
    let (status, refused) = send().await.unwrap();
    assert!(status == StatusCode::BAD_REQUEST && refused.contains("not verified"), "{refused}");
    let zone = zone(&caller).await;
    for token in tokens {
        let name = format!("{}._domainkey.acme.stackpro.test", token.as_str().unwrap());
        write(&caller, &zone, &name, "CNAME", "key.example.com").await;
    }
    assert_eq!(send().await.unwrap().0, StatusCode::OK);
    let taken = emulator.mails();
    assert_eq!((taken.len(), taken[0].to.as_str(), taken[0].id.as_str()), (1, "b@example.com", "m1"));
}

#[tokio::test]
async fn ec2_throttles_as_documented_and_time_is_taken() {
    let behaviour = Behaviour { request_limits: true, latency: Some(Latency::realistic()), ..Behaviour::default() };
    let emulator = emulator(behaviour).await;
    let caller = Caller::of(&emulator);
    let forms: Vec<String> = (0..9).map(|number| RUN.replace("launch-1", &format!("launch-{number}"))).collect();
    let began = Instant::now();
    let answers = futures::future::join_all(forms.iter().map(|form| caller.ec2(form))).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    let throttled = answers.iter().filter(|(_, answer)| answer.contains("RequestLimitExceeded")).count();
    // Five at once, and two more each second while they come in.
    assert!((2..=4).contains(&throttled), "{throttled}");
    let (_, described) = caller.ec2("Action=DescribeInstances").await;
    assert!(described.contains("<name>pending</name>") && !described.contains("<ipAddress>"), "{described}");
    eventually("instances run, at addresses that lead somewhere", Duration::from_secs(20), async || {
        let (_, described) = caller.ec2("Action=DescribeInstances").await;
        (described.contains("<name>running</name>") && described.contains("<ipAddress>127.")).then_some(())
    })
    .await;
}

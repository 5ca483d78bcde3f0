use std::collections::HashSet;
use std::net::SocketAddr;

use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, HostedZoneConfig, ResourceRecord, ResourceRecordSet, RrType, Vpc, VpcRegion,
};
use stackpro_cloud::{CloudError, Dns, Record, Tags};
use stackpro_cloud_aws::{AwsSettings, Route53};

use crate::between::Between;
use crate::moto::Moto;

const ADDRESS: &str = "203.0.113.7:443";

fn record(name: &str, target: &str, ttl_seconds: u32) -> Record {
    let tags = Tags { resource_id: "res-1".into(), client_id: Some("acme-law-7f3k".into()) };
    Record { name: format!("{name}.stackpro.test"), target: target.parse().unwrap(), ttl_seconds, tags }
}

/// Everything in the only zone, as `name type ttl values`.
async fn zone(client: &aws_sdk_route53::Client) -> Vec<String> {
    let zones = client.list_hosted_zones().send().await.unwrap().hosted_zones;
    assert_eq!(zones.len(), 1, "{zones:?}");
    let sets = client.list_resource_record_sets().hosted_zone_id(&zones[0].id).send().await.unwrap();
    let line = |set: &ResourceRecordSet| {
        let values: Vec<_> = set.resource_records().iter().map(|record| record.value.as_str()).collect();
        format!("{} {} {} {}", set.name, set.r#type.as_str(), set.ttl.unwrap_or_default(), values.join("|"))
    };
    sets.resource_record_sets.iter().map(line).collect()
}

async fn put(client: &aws_sdk_route53::Client, name: &str, kind: RrType, value: &str) {
    let zone = client.list_hosted_zones().send().await.unwrap().hosted_zones[0].id.clone();
    let value = ResourceRecord::builder().value(value).build().unwrap();
    let set = ResourceRecordSet::builder().name(name).r#type(kind).ttl(300).resource_records(value).build().unwrap();
    let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(set).build().unwrap();
    let batch = ChangeBatch::builder().changes(change).build().unwrap();
    client.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch).send().await.unwrap();
}

#[tokio::test]
async fn an_address_is_made_changed_and_removed_with_its_companion() {
    let moto = Moto::start();
    let aws = moto.aws().await;
    let (dns, client) = (Route53::new(&aws), aws_sdk_route53::Client::new(aws.sdk()));
    assert_eq!(dns.get("acme.stackpro.test").await.unwrap(), None);
    dns.delete("acme.stackpro.test").await.unwrap();

    let first = record("acme", ADDRESS, 300);
    dns.upsert(&first).await.unwrap();
    // The answer was lost, and another process makes the call again.
    Route53::new(&aws).upsert(&first).await.unwrap();
    assert_eq!(dns.get("acme.stackpro.test").await.unwrap(), Some(first.clone()));
    assert_eq!(dns.list().await.unwrap(), [first]);

    let moved = record("acme", "203.0.113.8:443", 30);
    dns.upsert(&moved).await.unwrap();
    assert_eq!(dns.list().await.unwrap(), [moved]);
    let held = zone(&client).await;
    assert!(held.contains(&"acme.stackpro.test. A 30 203.0.113.8".to_owned()), "{held:?}");
    assert!(held.iter().any(|line| line.starts_with("_stackpro.acme.stackpro.test. TXT 300 \"heritage=stackpro,")));

    let sixth = record("acme", "[2001:db8::7]:443", 30);
    dns.upsert(&sixth).await.unwrap();
    assert_eq!(dns.list().await.unwrap(), [sixth], "the address of the other kind is gone");

    dns.delete("acme.stackpro.test").await.unwrap();
    dns.delete("acme.stackpro.test").await.unwrap();
    let left: Vec<_> = zone(&client).await.into_iter().filter(|line| line.contains("acme")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let moto = Moto::start();
    let aws = moto.aws().await;
    let (dns, client) = (Route53::new(&aws), aws_sdk_route53::Client::new(aws.sdk()));
    dns.upsert(&record("acme", ADDRESS, 60)).await.unwrap();
    put(&client, "www.stackpro.test", RrType::A, "198.51.100.1").await;
    put(&client, "acme.stackpro.test", RrType::Mx, "10 mail.stackpro.test").await;

    let other = AwsSettings::new("other", "stackpro.test", "https://other.stackpro.test");
    let others = Route53::new(&moto.aws_with(other).await);
    others.upsert(&record("beta", ADDRESS, 60)).await.unwrap();
    let names = |records: Vec<Record>| records.into_iter().map(|record| record.name).collect::<Vec<_>>();
    assert_eq!(names(dns.list().await.unwrap()), ["acme.stackpro.test"]);
    assert_eq!(names(others.list().await.unwrap()), ["beta.stackpro.test"]);
    assert_eq!(dns.get("www.stackpro.test").await.unwrap(), None);

    assert!(
        matches!(dns.delete("www.stackpro.test").await, Err(CloudError::Refused { cause, .. }) if cause.contains("_stackpro.www"))
    );
    dns.delete("beta.stackpro.test").await.unwrap();
    dns.delete("acme.stackpro.test").await.unwrap();
    let held = zone(&client).await;
    for left in ["www.stackpro.test. A", "acme.stackpro.test. MX", "beta.stackpro.test. A", "_stackpro.beta"] {
        assert!(held.iter().any(|line| line.starts_with(left)), "{left}: {held:?}");
    }
}

/// As AWS says it; the emulator would make a second set of the same name.
#[tokio::test]
async fn an_address_that_a_stranger_has_is_refused() {
    let moto = Moto::start();
    let between = Between::and(&moto, |call| {
        (call.what.ends_with("/rrset") && call.text().contains("<Action>CREATE</Action>")).then(|| (400, EXISTS.into()))
    })
    .await;
    let (aws, client) = (between.aws(&moto).await, aws_sdk_route53::Client::new(moto.aws().await.sdk()));
    client.create_hosted_zone().name("stackpro.test").caller_reference("theirs").send().await.unwrap();
    put(&client, "www.stackpro.test", RrType::A, "198.51.100.1").await;
    let refused = Route53::new(&aws).upsert(&record("www", ADDRESS, 60)).await;
    assert!(matches!(&refused, Err(CloudError::Refused { cause, .. }) if cause.contains("www.stackpro.test")));
    assert!(zone(&client).await.contains(&"www.stackpro.test. A 300 198.51.100.1".to_owned()));
}

const EXISTS: &str = r#"<?xml version="1.0"?>
<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type>
<Code>InvalidChangeBatch</Code><Message>[Tried to create resource record set [name='www.stackpro.test.', type='A'] but
it already exists]</Message></Error><RequestId>r</RequestId></ErrorResponse>"#;

fn error(code: &str) -> String {
    EXISTS.replace("InvalidChangeBatch", code)
}

#[tokio::test]
async fn a_change_is_pending_until_the_name_servers_know_it_and_is_sent_once() {
    let moto = Moto::start();
    let mut looks = 0;
    let between = Between::and(&moto, move |call| {
        let info = |status| format!("<ChangeInfo><Id>/change/C1</Id><Status>{status}</Status><SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo>");
        if call.what.ends_with("/rrset") {
            let body = info("PENDING");
            return Some((200, format!("<ChangeResourceRecordSetsResponse>{body}</ChangeResourceRecordSetsResponse>")));
        }
        call.what.contains("/change/C1").then(|| {
            looks += 1;
            (200, format!("<GetChangeResponse>{}</GetChangeResponse>", info(if looks < 3 { "PENDING" } else { "INSYNC" })))
        })
    })
    .await;
    let client = aws_sdk_route53::Client::new(moto.aws().await.sdk());
    client.create_hosted_zone().name("stackpro.test").caller_reference("theirs").send().await.unwrap();
    let dns = Route53::new(&between.aws(&moto).await);
    let wanted = record("acme", ADDRESS, 60);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut pending = 0;
    while let Err(error) = dns.upsert(&wanted).await {
        assert!(matches!(error, CloudError::Pending { .. }), "{error}");
        assert!(tokio::time::Instant::now() < deadline, "never in sync");
        pending += 1;
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    assert!(pending >= 3, "it was said to be done after {pending} looks");
    assert_eq!(between.count("/rrset"), 1, "{:?}", between.calls());
    assert_eq!(between.count("/change/"), 3, "asked at most once a second");
}

#[tokio::test]
async fn too_many_calls_slow_down_and_what_does_not_fit_is_told_apart() {
    for (code, status) in [("PriorRequestNotComplete", 400), ("Throttling", 400), ("ServiceUnavailable", 503)] {
        let moto = Moto::start();
        let body = error(code);
        let between =
            Between::and(&moto, move |call| call.what.ends_with("/rrset").then(|| (status, body.clone()))).await;
        let client = aws_sdk_route53::Client::new(moto.aws().await.sdk());
        client.create_hosted_zone().name("stackpro.test").caller_reference("theirs").send().await.unwrap();
        let dns = Route53::new(&between.aws(&moto).await);
        let failed = dns.upsert(&record("acme", ADDRESS, 60)).await.unwrap_err();
        match code {
            "ServiceUnavailable" => assert!(matches!(failed, CloudError::Transient { .. }), "{failed}"),
            _ => assert!(matches!(failed, CloudError::Throttled { .. }), "{failed}"),
        }
    }
}

#[tokio::test]
async fn many_at_once_are_changed_together() {
    let moto = Moto::start();
    let between = Between::and(&moto, |_| None).await;
    let dns = std::sync::Arc::new(Route53::new(&between.aws(&moto).await));
    dns.upsert(&record("first", ADDRESS, 60)).await.unwrap();
    let before = between.calls().len();
    let many = (0..200).map(|number| {
        let dns = std::sync::Arc::clone(&dns);
        tokio::spawn(async move { dns.upsert(&record(&format!("c{number}"), ADDRESS, 60)).await })
    });
    for made in many.collect::<Vec<_>>() {
        made.await.unwrap().unwrap();
    }
    let calls = between.calls().len() - before;
    assert!(calls <= 12, "{calls} calls for 200 addresses, and an account has five a second");
    let names: HashSet<_> = dns.list().await.unwrap().into_iter().map(|record| record.name).collect();
    assert_eq!(names.len(), 201);
}

#[tokio::test]
async fn one_that_does_not_fit_does_not_keep_the_others() {
    let moto = Moto::start();
    let between = Between::and(&moto, |call| {
        let bad = call.what.ends_with("/rrset") && call.text().contains("<Name>c3.stackpro.test</Name>");
        bad.then(|| (400, error("InvalidChangeBatch")))
    })
    .await;
    let dns = std::sync::Arc::new(Route53::new(&between.aws(&moto).await));
    let many = (0..20).map(|number| {
        let dns = std::sync::Arc::clone(&dns);
        tokio::spawn(async move { (number, dns.upsert(&record(&format!("c{number}"), ADDRESS, 60)).await) })
    });
    for made in many.collect::<Vec<_>>() {
        let (number, result) = made.await.unwrap();
        match result {
            Err(CloudError::Refused { .. }) => assert_eq!(number, 3),
            other => assert!(number != 3 && other.is_ok(), "{number}: {other:?}"),
        }
    }
    assert_eq!(dns.list().await.unwrap().len(), 19);
}

#[tokio::test]
async fn the_zone_is_found_by_its_exact_name_or_made_once() {
    let moto = Moto::start();
    let aws = moto.aws().await;
    let client = aws_sdk_route53::Client::new(aws.sdk());
    let address: SocketAddr = ADDRESS.parse().unwrap();
    // Others that must not be taken for it.
    client.create_hosted_zone().name("a.stackpro.test").caller_reference("1").send().await.unwrap();
    let vpc = Vpc::builder().vpc_id("vpc-1").vpc_region(VpcRegion::EuCentral1).build();
    let private = HostedZoneConfig::builder().private_zone(true).build();
    let hidden = client.create_hosted_zone().name("stackpro.test").caller_reference("2").vpc(vpc);
    hidden.hosted_zone_config(private).send().await.unwrap();

    let many = (0..8).map(|number| {
        let dns = Route53::new(&aws);
        async move { dns.upsert(&record(&format!("c{number}"), &address.to_string(), 60)).await }
    });
    // One after another: AWS would refuse the second of two at once, and the emulator makes two zones.
    for made in many {
        made.await.unwrap();
    }
    let zones = client.list_hosted_zones().send().await.unwrap().hosted_zones;
    let ours: Vec<_> = zones.iter().filter(|zone| zone.caller_reference == "stackpro-test-stackpro.test").collect();
    assert_eq!(ours.len(), 1, "{zones:?}");
    let sets = client.list_resource_record_sets().hosted_zone_id(&ours[0].id).send().await.unwrap();
    let soa = sets.resource_record_sets.iter().find(|set| set.r#type == RrType::Soa).unwrap();
    assert_eq!(soa.ttl, Some(60), "a name that is not there yet is forgotten soon");

    // A second public one: nobody can know which of them the world asks.
    let aws = moto.aws_with(AwsSettings::new("test", "b.test", "https://b.test")).await;
    for reference in ["3", "4"] {
        client.create_hosted_zone().name("b.test").caller_reference(reference).send().await.unwrap();
    }
    let refused = Route53::new(&aws).list().await;
    assert!(matches!(refused, Err(CloudError::Refused { cause, .. }) if cause.contains("several public hosted zones")));
}

//! Every kind of fault at every call: made again without the fault, there is exactly one of each, or none.

use std::time::{Duration, Instant};

use stackpro_cloud::local::{Fault, FaultSettings};
use stackpro_cloud::{Cloud, CloudError, LinkUse, Message, Record, Result};
use stackpro_domain::InstanceId;

use super::{Home, spec, tags};

const BUCKET: &str = "acme-files";
const ROLE: &str = "stackpro-r1";
const DOMAIN: &str = "acme.example";
const HOST: &str = "acme.stackpro.localhost";

/// In an order in which each has something to do: what makes, what reads, what removes.
const CALLS: [&str; 24] = [
    "compute.launch",
    "compute.describe",
    "compute.list",
    "compute.start",
    "compute.terminate",
    "buckets.create",
    "buckets.link",
    "buckets.list",
    "buckets.delete",
    "roles.create",
    "roles.allow",
    "roles.list",
    "roles.delete",
    "dns.upsert",
    "dns.get",
    "dns.list",
    "dns.delete",
    "mail.create_identity",
    "mail.list_identities",
    "mail.send",
    "mail.account",
    "mail.prepare",
    "mail.forgive",
    "mail.delete_identity",
];

async fn call(cloud: &Cloud, name: &str, id: &InstanceId) -> Result<()> {
    let record = || Record { name: HOST.into(), target: ([127, 0, 0, 1], 1).into(), ttl_seconds: 1, tags: tags("r") };
    let message = || Message {
        id: "m".into(),
        from: format!("a@{DOMAIN}"),
        to: "b@example.com".into(),
        reply_to: None,
        subject: String::new(),
        text: String::new(),
        html: String::new(),
    };
    match name {
        "compute.launch" => cloud.compute.launch(&spec("t")).await.map(drop),
        "compute.describe" => cloud.compute.describe(id).await.map(drop),
        "compute.list" => cloud.compute.list().await.map(drop),
        "compute.start" => cloud.compute.start(id).await,
        "compute.terminate" => cloud.compute.terminate(id).await,
        "buckets.create" => cloud.buckets.create(BUCKET, &tags("r")).await,
        "buckets.link" => cloud.buckets.link(BUCKET, "k", &LinkUse::Get, Duration::from_mins(1)).await.map(drop),
        "buckets.list" => cloud.buckets.list().await.map(drop),
        "roles.create" => cloud.roles.create(ROLE, &tags("r")).await,
        "roles.allow" => cloud.roles.allow(ROLE, &[BUCKET.into()]).await,
        "roles.list" => cloud.roles.list().await.map(drop),
        "roles.delete" => cloud.roles.delete(ROLE).await,
        "buckets.delete" => cloud.buckets.delete(BUCKET, "r").await,
        "dns.upsert" => cloud.dns.upsert(&record()).await,
        "dns.get" => cloud.dns.get(HOST).await.map(drop),
        "dns.list" => cloud.dns.list().await.map(drop),
        "dns.delete" => cloud.dns.delete(HOST).await,
        "mail.create_identity" => cloud.mail.create_identity(DOMAIN, &tags("r")).await,
        "mail.list_identities" => cloud.mail.list_identities().await.map(drop),
        "mail.send" => cloud.mail.send(&message()).await,
        "mail.account" => cloud.mail.account().await.map(drop),
        "mail.prepare" => cloud.mail.prepare(DOMAIN).await,
        "mail.forgive" => cloud.mail.forgive("b@example.com").await,
        "mail.delete_identity" => cloud.mail.delete_identity(DOMAIN).await,
        _ => unreachable!("{name}"),
    }
}

/// Of processes, instances, buckets, records, identities, mails and roles, as a cloud without faults sees them.
async fn census(home: &Home, cloud: &Cloud) -> [usize; 7] {
    [
        home.processes(),
        cloud.compute.list().await.unwrap().len(),
        cloud.buckets.list().await.unwrap().len(),
        cloud.dns.list().await.unwrap().len(),
        cloud.mail.list_identities().await.unwrap().len(),
        home.local.mailbox().list(0).unwrap().total,
        cloud.roles.list().await.unwrap().len(),
    ]
}

/// What the census shall be after a call.
fn expected(census: &mut [usize; 7], name: &str) {
    match name {
        "compute.launch" => (census[0], census[1]) = (1, 1),
        "compute.terminate" => (census[0], census[1]) = (0, 0),
        "buckets.create" => census[2] = 1,
        "buckets.delete" => census[2] = 0,
        "dns.upsert" => census[3] = 1,
        "dns.delete" => census[3] = 0,
        "mail.create_identity" => census[4] = 1,
        "mail.delete_identity" => census[4] = 0,
        "mail.send" => census[5] = 1,
        "roles.create" => census[6] = 2,
        "roles.delete" => census[6] = 1,
        _ => {}
    }
}

#[tokio::test]
async fn every_fault_at_every_call_is_made_good_by_calling_again() {
    for fault in Fault::ALL {
        let home = Home::new();
        let (cloud, witness) = (home.local.cloud(), home.again().cloud());
        // The token alone decides the id, wherever it is launched.
        let id = Home::new().local.cloud().compute.launch(&spec("t")).await.unwrap().id;
        // The role that launches name is there.
        let mut wanted = [0, 0, 0, 0, 0, 0, 1];
        for name in CALLS {
            let before = wanted;
            home.local.faults().plan(name, 1, fault);
            let failed = call(&cloud, name, &id).await.unwrap_err();
            assert_eq!(matches!(failed, CloudError::Throttled { .. }), fault == Fault::Throttle, "{name}: {failed}");
            expected(&mut wanted, name);
            let effect = if fault == Fault::After { wanted } else { before };
            assert_eq!(census(&home, &witness).await, effect, "{fault:?} at {name}");
            call(&cloud, name, &id).await.unwrap();
            assert_eq!(census(&home, &witness).await, wanted, "{name} again after {fault:?}");
        }
        let mut named: Vec<_> = home.local.faults().counts().into_keys().collect();
        let mut all = CALLS.to_vec();
        named.sort_unstable();
        all.sort_unstable();
        assert_eq!(named, all, "every call is counted, by its name");
    }
}

#[tokio::test]
async fn chance_and_latency_come_from_the_settings() {
    let home = Home::with(|settings| {
        let calm = FaultSettings { latency_min_ms: 30, latency_max_ms: 40, ..FaultSettings::default() };
        settings.faults = FaultSettings { seed: 1, throttle: 1.0, ..calm };
    });
    let begun = Instant::now();
    let throttled = home.local.cloud().dns.list().await;
    assert!(matches!(throttled, Err(CloudError::Throttled { call: "dns.list", .. })));
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

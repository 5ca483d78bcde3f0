//! Every function at least once: what is written is what is read, and twice is as good as once.

use std::sync::{Arc, Mutex};

use stackpro_domain::lifecycle::{Event, State};
use stackpro_domain::mail::Fate;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::plan::{DEFAULT_PLANS, Interval, Plans};
use stackpro_domain::{ClientId, Time};
use stackpro_store::{
    AuditRow, CertificateRow, ClientFilter, Committed, Contact, Counters, HostKind, Hosting, InstancePhase,
    InstanceRow, MailEvent, Purpose, Resource, ResourceFilter, ResourceKind, ResourceState, Role, SetupFailure,
    StackPhase, StoreError, TillEventState, Usage,
};

use crate::place::Place;
use crate::samples::{
    NOW, client, insert_clients, insert_instances, mail, mail_event, member, resource, session, shared, till_event,
};

on_both!(
    clients_round_trip,
    clients_are_listed_in_pages,
    members_and_sessions,
    tokens_are_used_once,
    instances_and_stacks,
    a_certificate_has_one_worker_at_a_time,
    usage_adds_up_over_restarts,
    where_a_client_is_bound_for,
    the_ledger,
    buckets_of_an_instance,
    till_events,
    contacts_and_audit,
    the_dashboard,
    hooks_fire_after_commits_only,
);

async fn clients_round_trip(place: Place) {
    let store = place.store().await;
    insert_instances(&store, &[shared("i1", 10)]).await;
    let mut full = client("acme-law");
    full.company = "Müller & Söhne \u{202e} '; DROP TABLE clients; --".into();
    let mut tx = store.begin().await.unwrap();
    tx.insert_client(&full).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.client(&full.id).await.unwrap().unwrap(), full);

    full.interval = Some(Interval::Year);
    full.stack = StackPhase::Ready;
    full.hosting = Some(Hosting {
        instance_id: "i1".parse().unwrap(),
        cloud_id: Some("cloud-i1".parse().unwrap()),
        kind: HostKind::Shared,
    });
    full.customer_id = Some("cus_1".into());
    full.subscription_id = Some("sub_1".into());
    full.portal_rotation = 3;
    full.recipe = "wordpress".into();
    full.certificate = Some(Certificate {
        files: 1,
        bytes: u64::MAX,
        source_hash: "a".into(),
        copy_hash: "a".into(),
        rounds: 2,
        held_files: 0,
        held_ms: 6,
        committed_at: NOW,
    });
    let mut tx = store.begin().await.unwrap();
    assert!(tx.client(&full.id).await.unwrap().is_some());
    tx.update_client(&full).await.unwrap();
    assert_eq!(tx.client_by_customer("cus_1").await.unwrap().unwrap(), full);
    tx.commit().await.unwrap();
    assert_eq!(store.client(&full.id).await.unwrap().unwrap(), full);
    assert_eq!(store.client_by_customer("cus_1").await.unwrap().unwrap().id, full.id);
    assert_eq!(store.client_by_customer("cus_2").await.unwrap(), None);
    assert_eq!(store.client(&"no-one".parse().unwrap()).await.unwrap(), None);

    // A date of its life is due when it has come, and never again once it is behind.
    let first = full.life.next().unwrap().at;
    assert_eq!(store.next_date_after(NOW).await.unwrap(), Some(first));
    assert_eq!(store.due_clients(first.plus(-1), 10).await.unwrap(), []);
    assert_eq!(store.due_clients(first, 10).await.unwrap(), [full.id.clone()]);
    let trial = Plans::parse(DEFAULT_PLANS).unwrap().trial;
    full.life = full.life.apply(Event::Deleted, &trial, NOW).unwrap().0;
    let mut tx = store.begin().await.unwrap();
    tx.update_client(&full).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.due_clients(Time(i64::MAX), 10).await.unwrap(), []);
    assert_eq!(store.next_date_after(NOW).await.unwrap(), None);
    assert_eq!(store.counts_by_state().await.unwrap(), [(State::Deleted, 1)]);

    let conflicts = [
        (stackpro_store::Client { host: "other".into(), ..client("acme-law") }, "client"),
        (stackpro_store::Client { host: full.host.clone(), ..client("other") }, "host"),
        (stackpro_store::Client { customer_id: full.customer_id.clone(), ..client("other") }, "customer"),
    ];
    for (taken, what) in conflicts {
        let mut tx = store.begin().await.unwrap();
        let error = tx.insert_client(&taken).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(found) if found == what), "{what}: {error:?}");
    }
}

async fn clients_are_listed_in_pages(place: Place) {
    let store = place.store().await;
    let ids: Vec<String> = (0..25).map(|n| format!("client-{n:02}")).collect();
    let ids = insert_clients(&store, &ids).await;
    let mut tx = store.begin().await.unwrap();
    tx.insert_member(&member("owner", Some(&ids[7]))).await.unwrap();
    tx.commit().await.unwrap();

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.clients(&ClientFilter::default(), after.as_deref(), 10).await.unwrap();
        assert!(page.rows.len() <= 10);
        seen.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let newest_first: Vec<ClientId> = ids.iter().rev().cloned().collect();
    assert_eq!(seen.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), newest_first);
    assert_eq!(seen[17].owner_email.as_deref(), Some("owner@example.com"));

    let found = async |filter: ClientFilter| {
        let page = store.clients(&filter, None, 100).await.unwrap();
        page.rows.into_iter().map(|row| row.id.to_string()).collect::<Vec<_>>()
    };
    let search = |text: &str| ClientFilter { search: Some(text.into()), ..ClientFilter::default() };
    assert_eq!(found(search("OWNER@example")).await, ["client-07"]);
    assert_eq!(found(search("company OF client-03")).await, ["client-03"]);
    assert_eq!(found(search(" ")).await.len(), 25);
    for nothing in ["%", "_", "!", "'", "\0%", "client%"] {
        assert_eq!(found(search(nothing)).await, Vec::<String>::new(), "{nothing:?}");
    }
    assert_eq!(found(ClientFilter { state: Some(State::Active), ..ClientFilter::default() }).await.len(), 0);
    assert_eq!(found(ClientFilter { state: Some(State::Trial), ..ClientFilter::default() }).await.len(), 25);
    assert_eq!(found(ClientFilter { attention: true, ..ClientFilter::default() }).await.len(), 0);
    for bad in ["", "x", "1", "x_y", "1_\0"] {
        let error = store.clients(&ClientFilter::default(), Some(bad), 10).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid("cursor")), "{bad:?}: {error}");
    }
}

async fn members_and_sessions(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    assert!(!store.operators_exist().await.unwrap());
    let (mut ann, operator) = (member("ann", Some(&ids[0])), member("op", None));
    let mut tx = store.begin().await.unwrap();
    tx.insert_member(&ann).await.unwrap();
    tx.insert_member(&operator).await.unwrap();
    assert_eq!(tx.member_count(&ids[0]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert!(store.operators_exist().await.unwrap());

    let mut tx = store.begin().await.unwrap();
    let twin = stackpro_store::Member { email: ann.email.clone(), ..member("twin", Some(&ids[0])) };
    assert!(matches!(tx.insert_member(&twin).await, Err(StoreError::Conflict("email"))));
    drop(tx);

    ann.password_hash = Some("$argon2id$".into());
    ann.email_verified_at = Some(NOW);
    ann.role = Role::Admin;
    let mut tx = store.begin().await.unwrap();
    assert!(tx.member(&ann.id).await.unwrap().is_some());
    tx.update_member(&ann).await.unwrap();
    assert_eq!(tx.member_by_email("ann@example.com").await.unwrap().unwrap(), ann);
    let first = session("s1", &ann.id);
    tx.insert_session(&first).await.unwrap();
    tx.insert_session(&session("s2", &ann.id)).await.unwrap();
    tx.insert_session(&session("s3", &operator.id)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.member(&ann.id).await.unwrap().unwrap(), ann);
    assert_eq!(store.members(&ids[0]).await.unwrap(), [ann.clone()]);
    assert_eq!(store.member_count(&ids[0]).await.unwrap(), 1);
    assert_eq!(store.session_by_hash("hash-s1-0").await.unwrap().unwrap(), (first, ann.clone()));
    assert!(store.session_lives("s1").await.unwrap() && !store.session_lives("s0").await.unwrap());
    assert_eq!(store.member_of_session("s3").await.unwrap().unwrap(), operator);

    let mut tx = store.begin().await.unwrap();
    let later = NOW.plus(5);
    assert!(tx.rotate_session("s1", "hash-s1-0", "new", later, later.plus_days(30)).await.unwrap());
    assert!(!tx.rotate_session("s1", "hash-s1-0", "newer", later, later).await.unwrap());
    tx.delete_session("s2").await.unwrap();
    tx.commit().await.unwrap();
    for hash in ["hash-s1-0", "new"] {
        let (rotated, _) = store.session_by_hash(hash).await.unwrap().unwrap();
        assert_eq!((rotated.refresh_hash.as_str(), rotated.rotated_at), ("new", later));
        assert_eq!(rotated.previous_hash.as_deref(), Some("hash-s1-0"));
    }
    assert_eq!(store.session_by_hash("hash-s2-0").await.unwrap(), None);
    assert!(!store.session_lives("s2").await.unwrap());
    assert_eq!(store.member_of_session("s2").await.unwrap(), None);

    let mut tx = store.begin().await.unwrap();
    tx.delete_sessions_of(&operator.id).await.unwrap();
    tx.delete_member(&ann.id).await.unwrap();
    tx.delete_member(&ann.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.session_by_hash("new").await.unwrap(), None);
    assert_eq!(store.session_by_hash("hash-s3-0").await.unwrap(), None);
    assert_eq!(store.member_by_email("ann@example.com").await.unwrap(), None);
}

async fn tokens_are_used_once(place: Place) {
    let store = place.store().await;
    let mut tx = store.begin().await.unwrap();
    for _ in 0..2 {
        tx.insert_token(Purpose::Enrol, "h1", "i1", NOW.plus(10)).await.unwrap();
    }
    tx.insert_token(Purpose::VerifyEmail, "h2", "ann", NOW.plus(10)).await.unwrap();
    assert_eq!(tx.use_token(Purpose::SetPassword, "h1", NOW).await.unwrap(), None);
    assert_eq!(tx.use_token(Purpose::Enrol, "h0", NOW).await.unwrap(), None);
    assert_eq!(tx.use_token(Purpose::Enrol, "h1", NOW.plus(10)).await.unwrap(), None);
    for (purpose, hash, at) in [(Purpose::SetPassword, "h1", 0), (Purpose::Enrol, "h0", 0), (Purpose::Enrol, "h1", 10)]
    {
        assert_eq!(tx.token_subject(purpose, hash, NOW.plus(at)).await.unwrap(), None);
    }
    assert_eq!(tx.token_subject(Purpose::Enrol, "h1", NOW).await.unwrap().as_deref(), Some("i1"));
    assert_eq!(tx.use_token(Purpose::Enrol, "h1", NOW).await.unwrap().as_deref(), Some("i1"));
    assert_eq!(tx.token_subject(Purpose::Enrol, "h1", NOW).await.unwrap(), None);
    assert_eq!(tx.use_token(Purpose::Enrol, "h1", NOW).await.unwrap(), None);
    tx.commit().await.unwrap();
    store.forget_expired(NOW.plus(10)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.use_token(Purpose::VerifyEmail, "h2", NOW).await.unwrap(), None);
}

async fn instances_and_stacks(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into(), "bolt-co".into()]).await;
    let mut one = shared("i1", 2);
    let bare = stackpro_store::InstanceRow {
        cloud_id: None,
        front: None,
        control: None,
        state: InstancePhase::Launching,
        created_at: NOW.plus(-3_600_000),
        ..shared("i2", 1)
    };
    insert_instances(&store, &[one.clone(), one.clone(), bare.clone()]).await;
    assert_eq!(store.instances(true).await.unwrap(), [bare.clone(), one.clone()]);

    let mut tx = store.begin().await.unwrap();
    for _ in 0..2 {
        let on = tx.place_on_shared(&ids[0]).await.unwrap().unwrap();
        assert_eq!((on.id.as_str(), on.clients), ("i1", 1));
    }
    tx.add_stack(&ids[1], &bare.id).await.unwrap();
    tx.add_stack(&ids[1], &bare.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.clients_on(&one.id).await.unwrap(), [ids[0].clone()]);
    assert_eq!(store.stacks_of(&ids[1]).await.unwrap(), std::slice::from_ref(&bare.id));

    one.state = InstancePhase::Draining;
    one.last_report_at = Some(NOW);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.instance(&one.id).await.unwrap().unwrap().clients, 1);
    let by_cloud = tx.instance_by_cloud_id(one.cloud_id.as_ref().unwrap()).await.unwrap().unwrap();
    assert_eq!(by_cloud.id, one.id);
    tx.update_instance(&one).await.unwrap();
    // i1 drains, i2 should be there long since; who has a place keeps it.
    assert_eq!(tx.place_on_shared(&ids[0]).await.unwrap().unwrap().id, one.id);
    tx.remove_stack(&ids[1], &bare.id).await.unwrap();
    assert_eq!(tx.place_on_shared(&ids[1]).await.unwrap(), None);
    tx.commit().await.unwrap();
    // i2 has never reported.
    for (edition, since, found) in
        [("first", NOW.plus(-1), vec![]), ("second", NOW, vec![]), ("second", NOW.plus(-1), vec![one.id.clone()])]
    {
        let without = store.instances_without_edition(edition, since).await.unwrap();
        assert_eq!(without.into_iter().map(|row| row.id).collect::<Vec<_>>(), found, "{edition} {since:?}");
    }
    one.clients = 1;
    assert_eq!(store.instance(&one.id).await.unwrap().unwrap(), one);
    assert_eq!(store.instance_by_cloud_id(one.cloud_id.as_ref().unwrap()).await.unwrap().unwrap(), one);

    let failure = SetupFailure { log: "no room on the disk".into(), at: NOW };
    for failure in [Some(failure), None] {
        let mut tx = store.begin().await.unwrap();
        tx.set_setup_failure(&bare.id, failure.as_ref()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.setup_failure(&bare.id).await.unwrap(), failure);
        assert_eq!(store.setup_failure(&one.id).await.unwrap(), None);
    }

    let mut tx = store.begin().await.unwrap();
    tx.update_instance(&stackpro_store::InstanceRow { state: InstancePhase::Released, ..bare.clone() }).await.unwrap();
    let taken = stackpro_store::InstanceRow { id: "i3".parse().unwrap(), ..one.clone() };
    tx.commit().await.unwrap();
    assert_eq!(store.instances(false).await.unwrap(), [one]);
    assert_eq!(store.instances(true).await.unwrap().len(), 2);
    let mut tx = store.begin().await.unwrap();
    assert!(matches!(tx.insert_instance(&taken).await, Err(StoreError::Conflict("instance"))));
}

async fn a_certificate_has_one_worker_at_a_time(place: Place) {
    let store = place.store().await;
    assert_eq!(store.certificate("clients.example").await.unwrap(), None);
    let claim = async |lease_ms: i64| {
        let mut tx = store.begin().await.unwrap();
        let claimed = tx.claim_certificate("clients.example", lease_ms).await.unwrap();
        tx.commit().await.unwrap();
        claimed
    };
    let write = async |row: &CertificateRow, next_in_ms: i64| {
        let mut tx = store.begin().await.unwrap();
        let written = tx.update_certificate(row, next_in_ms).await.unwrap();
        tx.commit().await.unwrap();
        written
    };
    let first = claim(60_000).await.unwrap();
    assert_eq!((first.fence, first.attempts, first.published), (1, 0, false));
    assert_eq!(claim(60_000).await, None, "someone works on it");
    let full = CertificateRow {
        directory: Some("https://ca.example/directory".into()),
        sealed: Some("sealed".into()),
        fingerprint: Some("5c".repeat(32).parse().unwrap()),
        not_before: Some(NOW),
        not_after: Some(NOW.plus(90)),
        renew_at: Some(NOW.plus(60)),
        progress: Some("progress".into()),
        ordered_at: Some(NOW),
        published: true,
        attempts: 3,
        error: Some("the CA is down".into()),
        ..first.clone()
    };
    assert!(write(&full, 0).await);
    let stored = store.certificate("clients.example").await.unwrap().unwrap();
    assert_eq!(CertificateRow { next_at: full.next_at, ..stored.clone() }, full);
    assert!(stored.next_at < full.next_at, "its lease is over");
    // Who claims it next finds what was kept, and the one before writes no more.
    let second = claim(60_000).await.unwrap();
    assert_eq!((second.fence, second.progress.as_deref()), (2, Some("progress")));
    assert!(!write(&CertificateRow { sealed: None, ..full }, 0).await);
    assert_eq!(store.certificate("clients.example").await.unwrap().unwrap(), second);
}

async fn usage_adds_up_over_restarts(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    insert_instances(&store, &[shared("i1", 2), shared("i2", 2)]).await;
    assert_eq!(store.usage(&ids[0]).await.unwrap(), Usage::default());
    let reports = [("i1", 100, 10), ("i1", 120, 15), ("i1", 120, 15), ("i1", 130, 4), ("i2", 200, 7)];
    for (n, (instance, storage, requests)) in reports.into_iter().enumerate() {
        let counters =
            Counters { storage_bytes: storage, files: storage / 10, requests, traffic_bytes: requests * 1000 };
        let mut tx = store.begin().await.unwrap();
        let reported = [(ids[0].clone(), counters)].into();
        tx.record_usages(&instance.parse().unwrap(), reported, NOW.plus(n as i64)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let total = Usage {
        storage_bytes: 200,
        files: 20,
        requests: 15 + 4 + 7,
        traffic_bytes: 26_000,
        reported_at: Some(NOW.plus(4)),
    };
    assert_eq!(store.usage(&ids[0]).await.unwrap(), total);
    // What they are served from counts, whoever reported last.
    let mut moved = store.client(&ids[0]).await.unwrap().unwrap();
    moved.hosting = Some(Hosting { instance_id: "i1".parse().unwrap(), cloud_id: None, kind: HostKind::Shared });
    let mut tx = store.begin().await.unwrap();
    tx.update_client(&moved).await.unwrap();
    tx.commit().await.unwrap();
    let at_home = Usage { storage_bytes: 130, files: 13, reported_at: Some(NOW.plus(3)), ..total };
    assert_eq!(store.usage(&ids[0]).await.unwrap(), at_home);
}

async fn where_a_client_is_bound_for(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into(), "other-law".into()]).await;
    let types = [("i1", "t3.micro"), ("i2", "t3.small"), ("i3", "t3.medium")];
    for (at, (id, kind)) in (0..).zip(types) {
        insert_instances(&store, &[InstanceRow { instance_type: kind.into(), ..shared(id, 1) }]).await;
        let mut tx = store.begin().await.unwrap();
        let owner = if id == "i3" { &ids[1] } else { &ids[0] };
        let row = Resource { kind: ResourceKind::Instance, created_at: NOW.plus(at), ..resource(id, Some(owner)) };
        tx.insert_resource(&row).await.unwrap();
        tx.insert_resource(&Resource { created_at: NOW.plus(9), ..resource(&format!("b{id}"), Some(owner)) })
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.newest_instance_type(&ids[0]).await.unwrap().as_deref(), Some("t3.small"), "the newest of their own");
    tx.resource_created(&"i1".parse().unwrap(), Some("c1")).await.unwrap();
    tx.resource_deleting(&"i2".parse().unwrap()).await.unwrap();
    assert_eq!(tx.newest_instance_type(&ids[0]).await.unwrap().as_deref(), Some("t3.micro"), "not one that goes");
    tx.resource_deleted(&"i1".parse().unwrap(), NOW).await.unwrap();
    assert_eq!(tx.newest_instance_type(&ids[0]).await.unwrap(), None);
}

async fn the_ledger(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    let (mut bucket, shared) = (resource("r1", Some(&ids[0])), resource("r2", None));
    let mut tx = store.begin().await.unwrap();
    for _ in 0..2 {
        tx.insert_resource(&bucket).await.unwrap();
        tx.insert_resource(&shared).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(store.live_resources(None, 10).await.unwrap(), [bucket.clone(), shared.clone()]);
    assert_eq!(store.live_resources(None, 1).await.unwrap(), [bucket.clone()]);
    assert_eq!(store.live_resources(Some(&bucket.id), 10).await.unwrap(), std::slice::from_ref(&shared));
    assert_eq!(store.resources_of(&ids[0]).await.unwrap(), [bucket.clone()]);

    let mut tx = store.begin().await.unwrap();
    let name = bucket.name.clone();
    assert!(tx.rename_resource(&bucket.id, &name, "b-2").await.unwrap());
    assert!(!tx.rename_resource(&bucket.id, &name, "b-3").await.unwrap(), "its name is another by now");
    bucket.name = "b-2".into();
    tx.resource_created(&bucket.id, Some("b-1")).await.unwrap();
    assert!(!tx.rename_resource(&bucket.id, "b-2", "b-3").await.unwrap(), "it exists under its name");
    tx.resource_created(&bucket.id, None).await.unwrap();
    bucket.cloud_id = Some("b-1".into());
    bucket.state = ResourceState::Created;
    assert_eq!(tx.resource(&bucket.id).await.unwrap().unwrap(), bucket);
    tx.resource_deleting(&bucket.id).await.unwrap();
    tx.resource_created(&bucket.id, Some("b-1")).await.unwrap();
    bucket.state = ResourceState::Deleting;
    assert_eq!(tx.resource(&bucket.id).await.unwrap().unwrap(), bucket);
    tx.resource_deleted(&bucket.id, NOW.plus(1)).await.unwrap();
    tx.resource_deleted(&bucket.id, NOW.plus(2)).await.unwrap();
    tx.resource_deleting(&bucket.id).await.unwrap();
    tx.commit().await.unwrap();
    bucket.state = ResourceState::Deleted;
    bucket.deleted_at = Some(NOW.plus(1));
    assert_eq!(store.resource(&bucket.id).await.unwrap().unwrap(), bucket);
    assert_eq!(store.live_resources(None, 10).await.unwrap(), std::slice::from_ref(&shared));

    let listed = async |filter: ResourceFilter| {
        let page = store.resources(&filter, None, 10).await.unwrap();
        page.rows.into_iter().map(|row| row.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed(ResourceFilter::default()).await, ["r2", "r1"]);
    assert_eq!(listed(ResourceFilter { client: Some(ids[0].clone()), ..Default::default() }).await, ["r1"]);
    assert_eq!(listed(ResourceFilter { state: Some(ResourceState::Intended), ..Default::default() }).await, ["r2"]);
    assert_eq!(listed(ResourceFilter { kind: Some(ResourceKind::Record), ..Default::default() }).await.len(), 0);
    let first = store.resources(&ResourceFilter::default(), None, 1).await.unwrap();
    let second = store.resources(&ResourceFilter::default(), first.next.as_deref(), 1).await.unwrap();
    assert_eq!((second.rows, second.next), (vec![bucket], None));
}

async fn buckets_of_an_instance(place: Place) {
    let store = place.store().await;
    insert_instances(&store, &[shared("i1", 10), shared("i2", 10)]).await;
    let ids = insert_clients(&store, &["acme".into(), "baker".into(), "elsewhere".into()]).await;
    let [i1, i2] = ["i1", "i2"].map(|id| id.parse().unwrap());
    let mut tx = store.begin().await.unwrap();
    for (client, instance) in [(&ids[0], &i1), (&ids[1], &i1), (&ids[2], &i2)] {
        tx.add_stack(client, instance).await.unwrap();
    }
    for (id, client) in [("r1", 0), ("r2", 1), ("r3", 2), ("r4", 0), ("r5", 0), ("r6", 0)] {
        let kind = if id == "r6" { ResourceKind::Record } else { ResourceKind::Bucket };
        tx.insert_resource(&Resource { kind, ..resource(id, Some(&ids[client])) }).await.unwrap();
    }
    tx.resource_created(&"r2".parse().unwrap(), None).await.unwrap();
    // On their way out, and gone.
    tx.resource_deleting(&"r4".parse().unwrap()).await.unwrap();
    tx.resource_deleted(&"r5".parse().unwrap(), NOW).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.buckets_on(&i1).await.unwrap(), ["stackpro-r1", "stackpro-r2"]);
    assert_eq!(store.buckets_on(&i2).await.unwrap(), ["stackpro-r3"]);
    assert!(store.buckets_on(&"i3".parse().unwrap()).await.unwrap().is_empty());
}

async fn till_events(place: Place) {
    let store = place.store().await;
    let mut tx = store.begin().await.unwrap();
    assert!(tx.insert_till_event(&till_event("e1")).await.unwrap());
    assert!(!tx.insert_till_event(&till_event("e1")).await.unwrap());
    let group = ["e1", "e2", "e3", "e2"].map(till_event);
    assert_eq!(tx.insert_till_events(&group).await.unwrap(), [false, true, true, false]);
    assert_eq!(tx.insert_till_events(&[]).await.unwrap(), Vec::<bool>::new());
    tx.commit().await.unwrap();
    let due = async |at: i64| {
        let events = store.till_events_due(at, 10).await.unwrap();
        events.into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    assert_eq!(due(NOW.ms()).await, ["e1", "e2", "e3"]);

    let mut tx = store.begin().await.unwrap();
    tx.till_event_handled("e1", TillEventState::Handled, NOW, None, None).await.unwrap();
    let again = Some(NOW.plus(50));
    tx.till_event_handled("e2", TillEventState::Received, NOW, Some("the till is away"), again).await.unwrap();
    tx.till_event_handled("e3", TillEventState::Parked, NOW, Some("no such client"), None).await.unwrap();
    assert!(!tx.insert_till_event(&till_event("e1")).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(due(NOW.plus(49).ms()).await, Vec::<String>::new());
    assert_eq!(due(NOW.plus(50).ms()).await, ["e2"]);
    let parked = store.till_event("e3").await.unwrap().unwrap();
    assert_eq!((parked.state, parked.attempts, parked.handled_at), (TillEventState::Parked, 1, Some(NOW)));
    assert_eq!(store.till_events_parked(10).await.unwrap(), std::slice::from_ref(&parked));
    assert_eq!(store.untold_till_events(10).await.unwrap(), [(parked, NOW)]);
    for first in [true, false] {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.till_event_is_told("e3", NOW).await.unwrap(), first);
        tx.commit().await.unwrap();
    }
    assert_eq!(store.untold_till_events(10).await.unwrap(), []);
    assert_eq!(store.till_events_needing_attention().await.unwrap(), 1);
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.retry_till_event("e1", NOW).await.unwrap(), "what is handled stays handled");
    assert!(tx.retry_till_event("e3", NOW).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!((store.till_events_needing_attention().await.unwrap(), due(NOW.ms()).await), (0, vec!["e3".to_owned()]));

    let many: Vec<_> = (0..1200).map(|n| till_event(&format!("many-{n}"))).collect();
    let mut tx = store.begin().await.unwrap();
    assert!(tx.insert_till_events(&many).await.unwrap().into_iter().all(|new| new));
    tx.commit().await.unwrap();
}

async fn contacts_and_audit(place: Place) {
    let store = place.store().await;
    let id: ClientId = "acme-law".parse().unwrap();
    let contact = |n: i64| Contact {
        id: format!("c{n}"),
        name: "Ann".into(),
        email: "ann@example.com".into(),
        message: "a\0b".into(),
        created_at: NOW.plus(n),
    };
    let mut tx = store.begin().await.unwrap();
    for n in [0, 1, 2, 2] {
        tx.insert_contact(&contact(n)).await.unwrap();
    }
    for (n, client_id) in [(0, None), (1, Some(id.clone()))] {
        let row = AuditRow {
            at: NOW.plus(n),
            actor: "system".into(),
            action: "client_suspended".into(),
            client_id,
            detail: String::new(),
        };
        tx.audit(&row).await.unwrap();
    }
    tx.commit().await.unwrap();
    let first = store.contacts(None, 2).await.unwrap();
    assert_eq!(first.rows.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["c2", "c1"]);
    // PostgreSQL cannot keep a NUL; both databases keep the same.
    assert_eq!(first.rows[0].message, "a\u{fffd}b");
    assert_eq!(store.contacts(first.next.as_deref(), 2).await.unwrap().rows[0].id, "c0");
    assert_eq!(store.audit(None, 10).await.unwrap().len(), 2);
    assert_eq!(store.audit(Some(&id), 10).await.unwrap()[0].at, NOW.plus(1));
}

async fn the_dashboard(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    let ann = member("ann", Some(&ids[0]));
    assert_eq!(store.dashboard(&ids[0], &ann.id).await.unwrap(), None);
    let mut tx = store.begin().await.unwrap();
    tx.insert_member(&ann).await.unwrap();
    tx.enqueue_mail(&mail("m1", Some(&ids[0]), NOW)).await.unwrap();
    for (id, at) in [("e0", NOW.month_start().plus(-1)), ("e1", NOW)] {
        let event = MailEvent { client_id: Some(ids[0].clone()), ..mail_event(id, None, Fate::Sent, at) };
        tx.mail_told(&event).await.unwrap();
    }
    tx.enqueue_flow(crate::sight::flow("f1", "acme-law", "line")).await.unwrap();
    tx.enqueue_flow(crate::sight::flow("f2", "acme-law", "line")).await.unwrap();
    tx.commit().await.unwrap();
    let row = store.dashboard(&ids[0], &ann.id).await.unwrap().unwrap();
    assert_eq!((row.member, row.client.id, row.members, row.emails), (ann, ids[0].clone(), 1, 1));
    let timeline = row.timeline.unwrap();
    assert_eq!(timeline.flow.id.as_str(), "f2");
    assert_eq!(timeline.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
}

async fn hooks_fire_after_commits_only(place: Place) {
    let store = place.store().await;
    let seen: Arc<Mutex<Vec<Committed>>> = Arc::default();
    let (writer, observed) = (Arc::clone(&seen), store.clone());
    let before = store.generation();
    store.on_commit(move |committed| {
        assert!(observed.generation() > before);
        writer.lock().unwrap().push(committed.clone());
    });
    let mut tx = store.begin().await.unwrap();
    tx.insert_client(&client("acme-law")).await.unwrap();
    tx.enqueue_mail(&mail("m1", None, NOW)).await.unwrap();
    drop(tx);
    assert_eq!((store.generation(), seen.lock().unwrap().len()), (before, 0));
    assert_eq!(store.client(&"acme-law".parse().unwrap()).await.unwrap(), None);

    let mut tx = store.begin().await.unwrap();
    tx.insert_client(&client("acme-law")).await.unwrap();
    tx.enqueue_flow(crate::sight::flow("f1", "acme-law", "line")).await.unwrap();
    tx.enqueue_mail(&mail("m1", None, NOW)).await.unwrap();
    tx.insert_till_event(&till_event("e1")).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 0);
    tx.commit().await.unwrap();
    let touched = ["acme-law".into()].into();
    let all = Committed { enqueued_flow: true, queued_mail: true, till_event: true, parked: false, touched };
    assert_eq!(*seen.lock().unwrap(), [all]);
    store.ping().await.unwrap();
    store.close().await;
    assert!(store.ping().await.is_err());
}

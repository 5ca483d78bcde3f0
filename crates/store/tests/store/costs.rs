//! What is kept of where and when, so that a month can be added up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use stackpro_domain::cost::{Facts, Instance, Stay, Stored, Term, Used, kib_seconds};
use stackpro_domain::lifecycle::{Event, Life};
use stackpro_domain::plan::{DEFAULT_PLANS, Interval, Plans};
use stackpro_domain::reversal::{Reversal, ReversalKind};
use stackpro_domain::time::{DAY, HOUR, SECOND};
use stackpro_domain::{Cents, ClientId, Span, Time};
use stackpro_store::{
    Counters, HostKind, InstancePhase, InstanceRow, Resource, ResourceKind, Store, UsageMonth, Whose, statements,
};

use crate::place::Place;
use crate::samples::{NOW, insert_clients, insert_instances, mail, member, resource, shared};

on_both!(
    who_moved_was_on_both,
    an_instance_costs_from_its_launch_to_its_release,
    what_is_stored_is_counted_for_as_long_as_it_is,
    a_term_ends_when_its_plan_does,
    what_is_taken_back_is_missing_in_its_month_unless_it_is_given_back,
    mails_and_members_are_of_their_month,
    no_agent_counts_beyond_what_fits,
    a_month_takes_as_many_statements_for_a_thousand_as_for_one,
);

fn set(place: &Place, at: Time) {
    place.clock.0.store(at.ms(), Ordering::Relaxed);
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

async fn month(store: &Store, at: Time) -> Facts {
    store.month(at, Whose::Everyones).await.unwrap()
}

fn stay(client: &str, instance: &str, from: Time, until: Time) -> Stay {
    Stay { client: id(client), instance: id(instance), span: Span { from, until } }
}

async fn stack(store: &Store, client: &ClientId, instance: &str, there: bool) {
    let mut tx = store.begin().await.unwrap();
    for _ in 0..2 {
        if there {
            tx.add_stack(client, &id(instance)).await.unwrap();
        } else {
            tx.remove_stack(client, &id(instance)).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

async fn who_moved_was_on_both(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into(), "bolt-co".into()]).await;
    insert_instances(&store, &[shared("i1", 10), shared("i2", 10), shared("i3", 10)]).await;
    let mut tx = store.begin().await.unwrap();
    for client in [&ids[0], &ids[1], &ids[0]] {
        assert_eq!(tx.place_on_shared(client).await.unwrap().unwrap().id.as_str(), "i1");
    }
    tx.commit().await.unwrap();
    set(&place, NOW.plus(HOUR));
    stack(&store, &ids[0], "i2", true).await;
    set(&place, NOW.plus(2 * HOUR));
    stack(&store, &ids[0], "i1", false).await;
    // Back and forth within a millisecond is a stay that went on.
    stack(&store, &ids[0], "i2", false).await;
    stack(&store, &ids[0], "i2", true).await;
    let expected = [
        stay("acme-law", "i1", NOW, NOW.plus(2 * HOUR)),
        stay("acme-law", "i2", NOW.plus(HOUR), NOW.plus(2 * HOUR)),
        stay("acme-law", "i2", NOW.plus(2 * HOUR), Time::NEVER),
        stay("bolt-co", "i1", NOW, Time::NEVER),
    ];
    let sorted = |mut facts: Facts| {
        facts.stays.sort_by_key(|stay| (stay.client.clone(), stay.instance.clone(), stay.span.from));
        facts.stays
    };
    assert_eq!(sorted(month(&store, NOW.plus(3 * HOUR)).await), expected);
    assert_eq!(sorted(month(&store, NOW.plus_days(31)).await), expected[2..]);
    // For a page: all who were where these clients were.
    let acme = store.month(NOW.plus(3 * HOUR), Whose::Clients(&ids[..1])).await.unwrap();
    assert_eq!(sorted(acme.clone()), expected);
    assert_eq!(acme.instances.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["i1", "i2"]);
    let bolt = store.month(NOW.plus(3 * HOUR), Whose::Clients(&ids[1..])).await.unwrap();
    assert_eq!(sorted(bolt), [expected[0].clone(), expected[3].clone()]);
    let nobody = store.month(NOW, Whose::Clients(&[])).await.unwrap();
    assert_eq!((nobody.instances, nobody.stays), (vec![], vec![]));
    let there = [id("i2"), id("i3")];
    let there = store.month(NOW.plus(3 * HOUR), Whose::Instances(&there)).await.unwrap();
    assert_eq!(there.instances.len(), 2);
    assert_eq!(sorted(there), expected[1..3]);
}

async fn an_instance_costs_from_its_launch_to_its_release(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    let mut row = InstanceRow { cloud_id: None, kind: HostKind::Dedicated, ..shared("i1", 1) };
    insert_instances(&store, std::slice::from_ref(&row)).await;
    let mut tx = store.begin().await.unwrap();
    let resource = Resource { id: id("i1"), kind: ResourceKind::Instance, ..resource("i1", Some(&ids[0])) };
    tx.insert_resource(&resource).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(month(&store, NOW).await.instances, [], "it is only intended");
    let mut update = async |at: Time, phase: InstancePhase| {
        set(&place, at);
        row.cloud_id = Some(id("cloud-1"));
        row.state = phase;
        let mut tx = store.begin().await.unwrap();
        tx.update_instance(&row).await.unwrap();
        tx.commit().await.unwrap();
    };
    update(NOW.plus(1), InstancePhase::Launching).await;
    update(NOW.plus(2), InstancePhase::Ready).await;
    let instance = |until| Instance {
        id: id("i1"),
        cloud_id: Some(id("cloud-1")),
        instance_type: "t3.medium".into(),
        owner: Some(ids[0].clone()),
        span: Span { from: NOW.plus(1), until },
    };
    // Whose own it is counts, also before they are on it.
    let own = store.month(NOW.plus(2), Whose::Clients(&ids)).await.unwrap();
    assert_eq!(own.instances, [instance(Time::NEVER)]);
    update(NOW.plus_days(1), InstancePhase::Released).await;
    update(NOW.plus_days(2), InstancePhase::Released).await;
    assert_eq!(month(&store, NOW.plus_days(3)).await.instances, [instance(NOW.plus_days(1))]);
    assert_eq!(month(&store, NOW.plus_days(31)).await.instances, []);
}

async fn report(store: &Store, client: &ClientId, instance: &str, storage_bytes: u64, requests: u64) {
    let counters = Counters { storage_bytes, files: 1, requests, traffic_bytes: requests * 1000 };
    let mut tx = store.begin().await.unwrap();
    tx.record_usages(&id(instance), [(client.clone(), counters)].into(), NOW).await.unwrap();
    tx.commit().await.unwrap();
}

async fn what_is_stored_is_counted_for_as_long_as_it_is(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    insert_instances(&store, &[shared("i1", 10)]).await;
    stack(&store, &ids[0], "i1", true).await;
    let (november, december) = (NOW.month_start(), NOW.plus_days(10).month_start());
    assert_eq!(december, "2026-12-01T00:00:00Z".parse().unwrap());
    let (mb, day) = (1 << 20, DAY.unsigned_abs());
    report(&store, &ids[0], "i1", 10 * mb, 5).await;
    set(&place, december.plus_days(-2));
    report(&store, &ids[0], "i1", 20 * mb, 9).await;
    // Nothing is heard over the month's end.
    set(&place, december.plus_days(3));
    report(&store, &ids[0], "i1", 30 * mb, 2).await;
    let first = kib_seconds(10 * mb, december.plus_days(-2).since(NOW).unsigned_abs());
    let months = [
        (december, kib_seconds(20 * mb, 3 * day), 30 * mb, 2),
        (november, first + kib_seconds(20 * mb, 2 * day), 20 * mb, 9),
    ]
    .map(|(month, kib_seconds, storage_bytes, requests)| UsageMonth {
        month,
        kib_seconds,
        storage_bytes,
        members: 0,
        mails: 0,
        requests,
        traffic_bytes: requests * 1000,
    });
    assert_eq!(store.usage_months(&ids[0], 10).await.unwrap(), months);
    assert_eq!(store.usage_months(&ids[0], 1).await.unwrap(), months[..1]);
    let used = |kib_seconds, stores| Used {
        client: ids[0].clone(),
        since: NOW,
        kib_seconds,
        stores,
        traffic_bytes: 2000,
        requests: 2,
        mails: 0,
    };
    let facts = month(&store, december.plus_days(4)).await;
    let still = Stored { bytes: 30 * mb, counted_until: december.plus_days(3) };
    assert_eq!(facts.used, [used(months[0].kib_seconds, vec![still])]);
    assert_eq!(facts.traffic_bytes, 2000);
    // In a month of which no agent has reported yet, what is stored still counts.
    let january = month(&store, december.plus_days(40)).await;
    assert_eq!((january.used[0].stores.clone(), january.used[0].kib_seconds), (vec![still], 0));

    set(&place, december.plus_days(5));
    stack(&store, &ids[0], "i1", false).await;
    let gone = months[0].kib_seconds + kib_seconds(30 * mb, 2 * day);
    assert_eq!(month(&store, december.plus_days(6)).await.used, [used(gone, vec![])]);
    assert_eq!(store.usage(&ids[0]).await.unwrap().storage_bytes, 0);
}

async fn a_term_ends_when_its_plan_does(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    let trial = Plans::parse(DEFAULT_PLANS).unwrap().trial;
    let mut client = store.client(&ids[0]).await.unwrap().unwrap();
    let mut write = async |at: Time, life: &Life, plan: &str, interval: Interval, price: Option<i64>| {
        set(&place, at);
        client.life = life.clone();
        client.plan = plan.into();
        client.interval = Some(interval);
        client.price = price.map(Cents);
        let mut tx = store.begin().await.unwrap();
        tx.update_client(&client).await.unwrap();
        tx.update_client(&client).await.unwrap();
        tx.commit().await.unwrap();
    };
    let begun = client_life(&trial);
    write(NOW, &begun, "starter", Interval::Month, None).await;
    let after = async |at: Time| month(&store, at).await.terms;
    assert_eq!(after(NOW).await, [], "on trial nobody pays");
    let (paid, _) = begun.apply(Event::Paid { until: NOW.plus_days(30) }, &trial, NOW).unwrap();
    write(NOW.plus_days(1), &paid, "starter", Interval::Month, None).await;
    let (late, _) = paid.apply(Event::PaymentFailed { dunning_ends_at: NOW.plus_days(9) }, &trial, NOW).unwrap();
    write(NOW.plus_days(2), &late, "starter", Interval::Month, None).await;
    write(NOW.plus_days(3), &late, "business", Interval::Year, None).await;
    // They pay less from the fifth day on.
    write(NOW.plus_days(5), &late, "business", Interval::Year, Some(500_000)).await;
    // The clock jumps: who was to be suspended on the ninth day is so since then.
    let (over, _) = late.apply(Event::DateCame, &trial, NOW.plus_days(20)).unwrap();
    write(NOW.plus_days(20), &over, "business", Interval::Year, Some(500_000)).await;
    write(NOW.plus_days(21), &over, "business", Interval::Year, Some(500_000)).await;
    let term = |plan: &str, interval, price: Option<i64>, from, until| Term {
        client: ids[0].clone(),
        plan: plan.into(),
        interval,
        price: price.map(Cents),
        span: Span { from: NOW.plus_days(from), until: NOW.plus_days(until) },
    };
    let reduced = term("business", Interval::Year, Some(500_000), 5, 9);
    assert_eq!(
        after(NOW.plus_days(4)).await,
        [term("starter", Interval::Month, None, 1, 3), term("business", Interval::Year, None, 3, 5), reduced.clone(),]
    );
    assert_eq!(after(NOW.plus_days(20)).await, [reduced]);
}

fn client_life(trial: &stackpro_domain::plan::Trial) -> Life {
    Life::begin(trial, NOW)
}

async fn what_is_taken_back_is_missing_in_its_month_unless_it_is_given_back(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into(), "bolt-co".into()]).await;
    let reversal = |id: &str, kind, state: &str, at: Time| Reversal {
        id: id.into(),
        kind,
        charge: "ch_1".into(),
        amount: Cents(500),
        state: state.into(),
        reason: Some("fraudulent".into()),
        created_at: at,
        due_at: Some(at.plus(DAY)),
    };
    let refund = reversal("re_1", ReversalKind::Refund, "succeeded", NOW);
    let open = reversal("du_1", ReversalKind::Dispute, "needs_response", NOW.plus(1));
    let earlier = reversal("re_0", ReversalKind::Refund, "succeeded", NOW.plus_days(-60));
    let put = async |rows: &[&Reversal]| {
        let mut tx = store.begin().await.unwrap();
        for row in rows {
            tx.put_reversal(&ids[0], row).await.unwrap();
            tx.put_reversal(&ids[0], row).await.unwrap();
        }
        tx.commit().await.unwrap();
    };
    put(&[&refund, &open, &earlier]).await;
    assert_eq!(store.reversals_of(&ids[0], 2).await.unwrap(), [open.clone(), refund.clone()]);
    assert_eq!(store.unanswered_disputes(9).await.unwrap(), [(ids[0].clone(), open.clone())]);
    let taken = async |whose: Whose<'_>| {
        let returned = store.month(NOW.plus(2), whose).await.unwrap().returned;
        returned.iter().map(|returned| returned.amount.0).sum::<i64>()
    };
    assert_eq!(taken(Whose::Everyones).await, 1_000);
    assert_eq!((taken(Whose::Clients(&ids[..1])).await, taken(Whose::Clients(&ids[1..])).await), (1_000, 0));
    put(&[&Reversal { state: "won".into(), ..open.clone() }]).await;
    assert_eq!(taken(Whose::Everyones).await, 500);
    assert_eq!(store.unanswered_disputes(9).await.unwrap(), []);
}

async fn mails_and_members_are_of_their_month(place: Place) {
    let store = place.store().await;
    let ids = insert_clients(&store, &["acme-law".into()]).await;
    insert_instances(&store, &[shared("i1", 10)]).await;
    let mut tx = store.begin().await.unwrap();
    tx.insert_member(&member("ann", Some(&ids[0]))).await.unwrap();
    tx.insert_member(&member("bob", Some(&ids[0]))).await.unwrap();
    for (name, of) in [("m1", Some(&ids[0])), ("m2", Some(&ids[0])), ("m3", None), ("m4", Some(&ids[0]))] {
        tx.enqueue_mail(&mail(name, of, NOW)).await.unwrap();
    }
    for (name, at) in [("m1", NOW), ("m1", NOW), ("m2", NOW.plus_days(20)), ("m3", NOW), ("none", NOW)] {
        tx.mail_sent(name, at).await.unwrap();
    }
    tx.delete_member(&id("bob")).await.unwrap();
    tx.commit().await.unwrap();
    stack(&store, &ids[0], "i1", true).await;
    report(&store, &ids[0], "i1", 1, 1).await;
    let months = store.usage_months(&ids[0], 10).await.unwrap();
    assert_eq!(months.iter().map(|m| (m.mails, m.members, m.requests)).collect::<Vec<_>>(), [(1, 2, 0), (1, 2, 1)]);
}

async fn no_agent_counts_beyond_what_fits(place: Place) {
    let store = place.store().await;
    let names: Vec<String> = (0..10).map(|n| format!("client-{n}")).collect();
    let ids = insert_clients(&store, &names).await;
    insert_instances(&store, &[shared("i1", 10)]).await;
    for round in 0..8 {
        let most = if round % 2 == 0 { u64::MAX } else { 0 };
        let counters = Counters { storage_bytes: u64::MAX, files: u64::MAX, requests: most, traffic_bytes: most };
        let reported: BTreeMap<ClientId, Counters> = ids.iter().map(|id| (id.clone(), counters)).collect();
        let mut tx = store.begin().await.unwrap();
        tx.record_usages(&id("i1"), reported, NOW).await.unwrap();
        tx.commit().await.unwrap();
        set(&place, NOW.plus(i64::from(round) * SECOND));
    }
    let usage = store.usage(&ids[0]).await.unwrap();
    assert!(usage.traffic_bytes > 1 << 59, "{usage:?}");
    let facts = month(&store, NOW.plus_days(4)).await;
    assert!(facts.traffic_bytes > 1 << 53);
    let prices = stackpro_domain::prices::Prices::parse(stackpro_domain::prices::DEFAULT_PRICES).unwrap();
    let costs = facts.projected(&prices, &Plans::parse(DEFAULT_PLANS).unwrap());
    assert!(costs.totals().clients.known.0 > 0);
}

async fn a_month_takes_as_many_statements_for_a_thousand_as_for_one(place: Place) {
    let store = place.store().await;
    let count = async |ids: &[ClientId]| {
        let (everyones, all) = statements(store.month(NOW, Whose::Everyones)).await;
        let (clients, page) = statements(store.month(NOW, Whose::Clients(ids))).await;
        let (_, there) = statements(store.month(NOW, Whose::Instances(&[id("i0")]))).await;
        (everyones.unwrap().used.len(), clients.unwrap().used.len(), [all, page, there])
    };
    populate(&store, 0..1).await;
    let (_, _, one) = count(&[id("client-0")]).await;
    let ids = populate(&store, 1..1000).await;
    let (everyone, page, thousand) = count(&ids[..50]).await;
    assert_eq!((everyone, page), (1000, 50));
    assert_eq!(one, thousand);
    // And one report of ten stacks takes as many as one of one.
    let reported = |ids: &[ClientId]| ids.iter().map(|id| (id.clone(), Counters::default())).collect();
    let mut tx = store.begin().await.unwrap();
    let (done, one) = statements(tx.record_usages(&id("i1"), reported(&ids[..1]), NOW)).await;
    done.unwrap();
    let (done, ten) = statements(tx.record_usages(&id("i1"), reported(&ids[..10]), NOW)).await;
    done.unwrap();
    assert_eq!((one, ten), (3, 3));
}

/// Clients by tens on instances, each with something stored.
async fn populate(store: &Store, range: std::ops::Range<usize>) -> Vec<ClientId> {
    let names: Vec<String> = range.clone().map(|n| format!("client-{n}")).collect();
    let ids = insert_clients(store, &names).await;
    let instances: Vec<InstanceRow> = range.clone().map(|n| shared(&format!("i{}", n / 10), 10)).collect();
    insert_instances(store, &instances).await;
    let mut tx = store.begin().await.unwrap();
    for (n, client) in range.zip(&ids) {
        let instance = id(&format!("i{}", n / 10));
        tx.add_stack(client, &instance).await.unwrap();
        let counters = Counters { storage_bytes: 1 << 20, ..Counters::default() };
        tx.record_usages(&instance, [(client.clone(), counters)].into(), NOW).await.unwrap();
    }
    tx.commit().await.unwrap();
    ids
}

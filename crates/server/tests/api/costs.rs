//! What the operator reads of the month's money, and what it takes to show it.

use axum::http::StatusCode;
use stackpro_domain::lifecycle::{Event, Life};
use stackpro_domain::plan::Interval;
use stackpro_domain::time::DAY;
use stackpro_domain::{Cents, ClientId, Micros, Span};
use stackpro_server::web::money;
use stackpro_store::{Client, Counters, HostKind, InstancePhase, InstanceRow, StackPhase, statements};

use crate::common::Server;
use crate::pages::operator;

pub(crate) fn instance(server: &Server, n: usize, instance_type: &str) -> InstanceRow {
    InstanceRow {
        id: format!("r{n}").parse().unwrap(),
        cloud_id: Some(format!("i-{n}").parse().unwrap()),
        kind: HostKind::Shared,
        instance_type: instance_type.into(),
        capacity: 10,
        state: InstancePhase::Ready,
        front: None,
        control: None,
        fingerprint: None,
        edition: None,
        version: None,
        enrolled_at: None,
        last_report_at: None,
        created_at: server.world.now(),
        clients: 0,
    }
}

fn client(server: &Server, n: usize) -> Client {
    let (now, id) = (server.world.now(), format!("client-{n}"));
    Client {
        id: id.parse().unwrap(),
        company: format!("Company {n}"),
        plan: "starter".into(),
        recipe: "site".into(),
        interval: None,
        life: Life::begin(&server.world.plans.trial, now),
        stack: StackPhase::Ready,
        hosting: None,
        host: format!("{id}.stackpro.localhost"),
        customer_id: None,
        price: None,
        subscription_id: None,
        certificate: None,
        portal_rotation: 0,
        created_at: now,
    }
}

/// Clients by tens on instances, each with something stored.
async fn populate(server: &Server, range: std::ops::Range<usize>) {
    let mut tx = server.world.store.begin().await.unwrap();
    for n in range {
        let (client, there) = (client(server, n), instance(server, n / 10, "t3.medium"));
        tx.insert_client(&client).await.unwrap();
        tx.insert_instance(&there).await.unwrap();
        tx.add_stack(&client.id, &there.id).await.unwrap();
        let counters = Counters { storage_bytes: 1 << 20, traffic_bytes: 1 << 20, ..Counters::default() };
        tx.record_usages(&there.id, [(client.id, counters)].into(), server.world.now()).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The fewest of a few loads: now and then one asks anew who is looking.
async fn taken(server: &Server, browser: &crate::pages::Browser<'_>, path: &str) -> u64 {
    let generation = server.world.store.generation();
    let mut fewest = u64::MAX;
    for _ in 0..3 {
        let (answer, statements) = statements(browser.get(path)).await;
        assert_eq!((answer.status, server.world.store.generation()), (StatusCode::OK, generation), "{path}");
        fewest = fewest.min(statements);
    }
    assert!(fewest > 0, "{path} is counted");
    fewest
}

#[tokio::test]
async fn a_page_takes_as_many_statements_for_a_thousand_clients_as_for_one() {
    let server = Server::start().await;
    let olga = operator(&server).await;
    populate(&server, 0..1).await;
    let pages = [
        "/console",
        "/console/clients",
        "/console/clients?q=company",
        "/console/instances",
        "/console/clients/client-0",
        "/console/instances/r0",
        "/console/resources",
        "/console/flows",
    ];
    let mut one = Vec::new();
    for path in pages {
        one.push(taken(&server, &olga, path).await);
    }
    populate(&server, 1..1000).await;
    for (path, one) in pages.into_iter().zip(one) {
        assert_eq!(taken(&server, &olga, path).await, one, "{path}");
    }
}

#[tokio::test]
async fn the_months_money_is_on_the_operators_pages() {
    let server = Server::start().await;
    let olga = operator(&server).await;
    populate(&server, 0..2).await;
    let world = &server.world;
    let mut payer = client(&server, 0);
    let trial = &world.plans.trial;
    payer.life = payer.life.apply(Event::Paid { until: world.now().plus_days(400) }, trial, world.now()).unwrap().0;
    payer.interval = Some(Interval::Year);
    let mut tx = world.store.begin().await.unwrap();
    tx.update_client(&payer).await.unwrap();
    tx.insert_instance(&instance(&server, 7, "t3.micro")).await.unwrap();
    tx.commit().await.unwrap();
    // A month that has just begun: nothing so far, and all of it ahead.
    let now = world.now();
    world.time_machine.as_ref().unwrap().advance(Span::month_of(now).until.since(now)).unwrap();

    let month = Span::month_of(world.now());
    let days = (month.ms() / DAY.unsigned_abs()) as i64;
    let (shared, empty) = (Micros(days * 24 * 46_600 + 2_400_000), Micros(days * 24 * 15_400 + 2_400_000));
    // Each has half of it, and stores a megabyte.
    let own = Micros(shared.0 / 2 + 23_000 / 1024);
    let revenue = Cents(299_000 / 12 + 1);
    let shown = |amount: Micros| money::cents(amount.cents());

    let page = olga.get("/console/clients/client-0").await.text;
    assert!(page.contains(&format!("What it brings and costs</h2><span class=\"soft small\">{}", month.from.month())));
    for figure in [money::cents(revenue), shown(own), money::cents(revenue - own.cents()), "under 1¢".into()] {
        assert!(page.contains(&figure), "{figure}: {page}");
    }
    let list = olga.get("/console/clients").await.text;
    assert_eq!(list.matches(&format!("small\">{}<", shown(own))).count(), 2, "{list}");
    assert!(
        list.contains(&format!("small\">{}<", money::cents(Cents(0) - own.cents()))),
        "trials bring nothing: {list}"
    );
    let page = olga.get("/console/instances/r0").await.text;
    assert!(page.contains(&shown(shared)) && page.contains(&shown(Micros(shared.0 / 2))), "{page}");
    let page = olga.get("/console/instances/r7").await.text;
    assert!(page.contains(&shown(empty)) && page.contains("while nobody is on it"), "{page}");
    let page = olga.get("/console/instances").await.text;
    assert!(
        page.contains("nobody: the cost is yours") && page.contains(&format!("small\">{}<", shown(empty))),
        "{page}"
    );
    assert_eq!(olga.get("/console/instances/nothing").await.status, StatusCode::NOT_FOUND);
    let page = olga.get("/console").await.text;
    let all = Micros(2 * own.0 + empty.0 + 500_000);
    for figure in [money::cents(revenue), shown(all), money::cents(revenue - all.cents()), shown(empty)] {
        assert!(
            page.contains(&format!("about {figure} by month's end")) || page.contains(&format!("soft\">{figure}<")),
            "{figure}: {page}"
        );
    }
}

#[tokio::test]
async fn what_has_no_price_is_said_to_be_unknown() {
    let server = Server::start().await;
    let olga = operator(&server).await;
    let mut tx = server.world.store.begin().await.unwrap();
    let (client, there) = (client(&server, 0), instance(&server, 0, "m9.huge"));
    tx.insert_client(&client).await.unwrap();
    tx.insert_instance(&there).await.unwrap();
    tx.add_stack(&client.id, &there.id).await.unwrap();
    tx.commit().await.unwrap();
    let overview = olga.get("/console").await.text;
    assert!(overview.contains("m9.huge (an instance) has no price") && overview.contains("at least $"), "{overview}");
    for path in ["/console/clients", "/console/clients/client-0", "/console/instances", "/console/instances/r0"] {
        assert!(olga.get(path).await.text.contains("unknown"), "{path}");
    }
    let balances = server.world.month(stackpro_store::Whose::Everyones).await.unwrap();
    let id: ClientId = "client-0".parse().unwrap();
    assert!(balances.balances(&id).iter().all(|balance| balance.margin().is_none()));
}

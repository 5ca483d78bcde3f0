//! Enrolment, the control door and the front door, against an agent that is a process of its own.

use crate::support::*;
use reqwest::Method;
use stackpro_protocol::agent::*;

#[tokio::test]
async fn it_enrols_once_and_serves_again_after_kill_without_the_server() {
    let agent = TestAgent::prepare("http://127.0.0.1:9", Doors::Local);
    agent.launch();
    let health = format!("http://{}/v1/health", agent.control);
    until("the door is open", async || agent.http.get(&health).send().await.ok()).await;
    let spec = spec("acme-law-7f3k");
    let path = format!("/v1/stacks/{}", spec.client_id);
    assert_eq!(agent.ask(Method::PUT, &path).json(&spec).send().await.unwrap().status(), 401);
    // The server appears at an address that is written into the file meanwhile.
    let (server, heard) = control_plane().await;
    let file = agent.dir.path().join("agent.json");
    let said = std::fs::read_to_string(&file).unwrap().replace("http://127.0.0.1:9", &server);
    std::fs::write(&file, said).unwrap();
    agent.enrolled().await;
    let refused =
        agent.http.put(format!("http://{}{path}", agent.control)).bearer_auth("wrong").json(&spec).send().await;
    assert_eq!(refused.unwrap().status(), 401);
    assert_eq!(agent.put_stack(&spec).await.state, StackState::Serving);
    let reported = || heard.reports.lock().unwrap().last().is_some_and(|report| report.stacks.len() == 1);
    until("a report", async || reported().then_some(())).await;
    assert_eq!(agent.store(&spec, "/dav/files/a.txt", "hello").await, 201);

    agent.kill();
    agent.restart().await;
    assert_eq!(heard.enrolments.lock().unwrap().len(), 1);
    assert_eq!(text(agent.dav("GET", &spec, "/dav/files/a.txt").send().await.unwrap()).await, "hello");
    let status = agent.status(&spec).await;
    assert_eq!((status.usage.storage_bytes, status.usage.files), (5, 1));
    assert!(status.usage.requests >= 1);
    let mut second = spawn(agent.dir.path());
    assert!(!second.wait().unwrap().success(), "a second agent on the same folder");
}

#[tokio::test]
async fn hosts_lead_to_their_own_client_only() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let (one, mut two) = (spec("one-aaaa"), spec("two-bbbb"));
    agent.put_stack(&one).await;
    agent.put_stack(&two).await;
    let welcome = text(agent.visit("GET", &one.hosts[0], "/").send().await.unwrap()).await;
    assert!(welcome.contains("one-aaaa") && !welcome.contains("<b>") && welcome.contains("/portal/"), "{welcome}");
    assert_eq!(agent.store(&one, "/dav/site/index.html", "one").await, 201);
    assert_eq!(agent.store(&one, "/dav/files/secret", "one").await, 201);
    let loud = one.hosts[0].to_uppercase() + ":8080";
    assert_eq!(text(agent.visit("GET", &loud, "/").send().await.unwrap()).await, "one");
    for host in ["nobody.localhost", "127.0.0.1", "one-aaaa", "a b", "../one-aaaa"] {
        assert_eq!(agent.visit("GET", host, "/").send().await.unwrap().status(), 404, "{host}");
    }
    for path in [
        "/dav/files/secret",
        "/dav/files/../../one-aaaa/data/files/secret",
        "/../../one-aaaa/data/files/secret",
        "/%2e%2e/%2e%2e/one-aaaa/data/files/secret",
        "/..%2f..%2fone-aaaa%2fdata%2ffiles%2fsecret",
        "/files/secret",
    ] {
        let answer = agent.dav("GET", &two, path).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}");
    }
    two.hosts.push(one.hosts[0].clone());
    let stolen = agent.ask(Method::PUT, "/v1/stacks/two-bbbb").json(&two).send().await.unwrap();
    assert_eq!(stolen.status(), 409);
    for _ in 0..2 {
        assert_eq!(agent.ask(Method::DELETE, "/v1/stacks/one-aaaa").send().await.unwrap().status(), 204);
    }
    assert_eq!(agent.visit("GET", &one.hosts[0], "/").send().await.unwrap().status(), 404);
    assert!(!agent.folder(&one).exists());
    agent.put_stack(&two).await;
    let welcome = text(agent.visit("GET", &one.hosts[0], "/").send().await.unwrap()).await;
    assert!(welcome.contains("two-bbbb"), "a host that is free again");
}

#[tokio::test]
async fn suspended_and_receiving_stacks_do_not_serve() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let mut spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    assert_eq!(agent.store(&spec, "/dav/files/a", "kept").await, 201);
    spec.wanted = Wanted::Suspended;
    assert_eq!(agent.put_stack(&spec).await.state, StackState::Suspended);
    let page = agent.visit("GET", &spec.hosts[0], "/").send().await.unwrap();
    assert_eq!(page.status(), 503);
    let page = text(page).await;
    assert!(page.contains("data is safe") && page.contains(&spec.dashboard_url), "{page}");
    assert_eq!(agent.store(&spec, "/dav/files/b", "x").await, 503);
    spec.wanted = Wanted::Receiving;
    agent.put_stack(&spec).await;
    assert_eq!(agent.visit("GET", &spec.hosts[0], "/").send().await.unwrap().status(), 404);
    spec.wanted = Wanted::Serving;
    agent.put_stack(&spec).await;
    assert_eq!(text(agent.dav("GET", &spec, "/dav/files/a").send().await.unwrap()).await, "kept");
}

#[tokio::test]
async fn bad_orders_are_refused() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let good = spec("acme-law-7f3k");
    let path = "/v1/stacks/acme-law-7f3k";
    let bad = [
        StackSpec { recipe: "other".into(), ..good.clone() },
        StackSpec { hosts: vec!["UPPER.localhost".into()], ..good.clone() },
        StackSpec { hosts: vec!["a/../b".into()], ..good.clone() },
        StackSpec { company: "x".repeat(3_000), ..good.clone() },
        StackSpec { client_id: "other-client".parse().unwrap(), ..good.clone() },
    ];
    for spec in bad {
        assert_eq!(agent.ask(Method::PUT, path).json(&spec).send().await.unwrap().status(), 422, "{spec:?}");
    }
    let large = format!("{{\"x\": \"{}\"}}", "x".repeat(300_000));
    let large = agent.ask(Method::PUT, path).header("content-type", "application/json").body(large);
    assert_eq!(large.send().await.unwrap().status(), 413);
    assert_eq!(agent.ask(Method::GET, path).send().await.unwrap().status(), 404);
    assert_eq!(agent.ask(Method::GET, "/v1/stacks/..%2f..").send().await.unwrap().status(), 400);
    assert_eq!(agent.ask(Method::POST, "/v1/stop").send().await.unwrap().status(), 202);
    until("the agent ends", async || (!agent.dir.path().join("agent.pid").exists()).then_some(())).await;
}

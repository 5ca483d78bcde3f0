//! The doors on a public network, which here is loopback: which certificate is shown to whom, and what
//! nobody reaches.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use stackpro_protocol::agent::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::moves::Pair;
use crate::support::*;

/// What one request without TLS is answered, raw.
async fn say(at: SocketAddr, host: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn the_control_door_is_behind_its_name_and_its_certificate() {
    let (server, heard) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    let fingerprint = agent.fingerprint().unwrap();
    {
        let enrolments = heard.enrolments.lock().unwrap();
        assert_eq!(enrolments[0].fingerprint.as_ref(), Some(&fingerprint), "it is told at the enrolment");
        assert_eq!((enrolments[0].front, enrolments[0].control), (agent.front, agent.control));
    }
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let port = agent.control.port();
    let (control, client) = (format!("https://{CONTROL_NAME}:{port}"), &spec.hosts[0]);
    // Another certificate than the pinned one is not spoken to.
    let other = stackpro_tls::KeyedChain::self_signed(&[CONTROL_NAME]).unwrap().facts().unwrap().fingerprint;
    let refused = agent.pinned(CONTROL_NAME, &other).get(format!("{control}/v1/health")).send().await;
    assert!(refused.unwrap_err().is_connect());
    // Under the control door's name no other host is answered, and under any other name it is not there.
    let pinned = agent.pinned(CONTROL_NAME, &fingerprint);
    let misdirected = pinned.get(format!("{control}/v1/health")).header("host", client).send().await.unwrap();
    assert_eq!(misdirected.status(), 421);
    let front = agent.pinned(FRONT_NAME, &fingerprint);
    for host in [CONTROL_NAME, FRONT_NAME, client] {
        let path = format!("https://{FRONT_NAME}:{port}/v1/stacks/{}", spec.client_id);
        let answer = front.get(path).bearer_auth(KEY).header("host", host).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{host}");
    }
    for name in [client.as_str(), "stackpro.internal", "x.control.stackpro.internal", "127.0.0.1"] {
        let pinned = agent.pinned(name, &fingerprint);
        assert!(pinned.get(format!("https://{name}:{port}/v1/health")).send().await.is_err(), "{name}");
    }
    // Nor is it there without TLS.
    let http = agent.public.unwrap().http;
    for host in [CONTROL_NAME, client] {
        let answer = say(http, host, &format!("/v1/stacks/{}", spec.client_id)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{host}: {answer}");
        let garbage = say(agent.control, host, "/v1/health").await.unwrap_or_default();
        assert!(!garbage.contains("HTTP/1.1"), "{garbage}");
    }
    // The identity stays.
    agent.kill();
    agent.restart().await;
    assert_eq!(agent.fingerprint().unwrap(), fingerprint);
    assert_eq!(agent.status(&spec).await.state, StackState::Serving);
}

#[tokio::test]
async fn no_client_has_a_reserved_name() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    for host in [CONTROL_NAME, FRONT_NAME, RESERVED_DOMAIN, "a.control.stackpro.internal"] {
        let spec = StackSpec { hosts: vec![host.into()], ..spec("acme-law-7f3k") };
        let path = format!("/v1/stacks/{}", spec.client_id);
        assert_eq!(agent.ask(Method::PUT, &path).json(&spec).send().await.unwrap().status(), 422, "{host}");
    }
    let near = StackSpec { hosts: vec!["xstackpro.internal".into()], ..spec("acme-law-7f3k") };
    agent.put_stack(&near).await;
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_waiting_and_a_stop_is_orderly() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(agent.control).await.unwrap());
        silent.push(TcpStream::connect(agent.plain()).await.unwrap());
    }
    let answered = async { (agent.status(&spec).await.state, agent.visit("GET", &spec.hosts[0], "/").send().await) };
    let (state, page) = tokio::time::timeout(Duration::from_secs(5), answered).await.unwrap();
    assert_eq!((state, page.unwrap().status().as_u16()), (StackState::Serving, 200));
    assert_eq!(agent.ask(Method::POST, "/v1/stop").send().await.unwrap().status(), 202);
    until("the agent has ended", async || agent.has_ended().then_some(())).await;
}

#[tokio::test]
async fn visitors_do_not_choose_for_whom_they_are_taken() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    // Each wrong password from another invented address: the limit counts them as one visitor's.
    let mut last = 0;
    for n in 0..40 {
        let request = agent.visit("PROPFIND", &spec.hosts[0], "/dav/files/").basic_auth("any", Some("wrong"));
        last = request.header("x-forwarded-for", format!("10.0.0.{n}")).send().await.unwrap().status().as_u16();
    }
    assert_eq!(last, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_from_and_to_pinned_doors_only() {
    let pair = Pair::with(Doors::Public, 10, 100).await;
    let good = pair.order("job-1", true).await;
    let impostor = pair.destination.fingerprint();
    let order = MoveOrder { source_fingerprint: impostor, ..good.clone() };
    pair.put(&order).await.unwrap();
    let refused = async || pair.status().await?.error.filter(|error| error.contains("cannot be reached"));
    until("the impostor is refused", refused).await;
    assert_eq!(pair.status().await.unwrap().files_copied, 0);
    pair.destination.ask(Method::DELETE, &format!("/v1/stacks/{}", pair.spec.client_id)).send().await.unwrap();
    pair.destination.put_stack(&StackSpec { wanted: Wanted::Receiving, ..pair.spec.clone() }).await;
    pair.put(&good).await.unwrap();
    pair.reached(MovePhase::Committed).await;
    let through = pair.source.visit("GET", &pair.spec.hosts[0], "/").send().await.unwrap();
    assert_eq!(through.status(), 200);
    // Someone else at the destination's address gets no visitor's request.
    pair.destination.kill();
    std::fs::remove_file(pair.destination.dir.path().join("identity.json")).unwrap();
    pair.destination.restart().await;
    let through = pair.source.visit("GET", &pair.spec.hosts[0], "/").send().await.unwrap();
    assert!(through.status().is_server_error(), "{}", through.status());
    assert_eq!(pair.state(&pair.destination).await, StackState::Serving);
}

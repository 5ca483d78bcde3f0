//! The doors on a public network, which here is loopback: which certificate is shown to whom, and what
//! nobody reaches.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use stackpro_protocol::agent::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
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

/// A connection that is kept, as browsers keep theirs.
struct Kept(BufReader<TcpStream>);

impl Kept {
    async fn open(at: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(at).await.unwrap()))
    }

    /// The head of the answer, in small letters.
    async fn ask(&mut self, host: &str) -> String {
        self.0.write_all(format!("HEAD / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).await.unwrap(), 0, "it ended: {head}");
        }
        head.to_lowercase()
    }

    async fn ends(mut self) {
        let end = tokio::time::timeout(Duration::from_secs(5), self.0.read(&mut [0])).await;
        assert_eq!(end.expect("it ends").unwrap(), 0, "nothing is said any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kept_connection_leads_to_where_a_stack_was() {
    let pair = Pair::with(Doors::Public, 10, 100).await;
    let (host, at) = (pair.spec.hosts[0].clone(), pair.source.plain());
    let neighbour = spec("neighbour-7f3k");
    pair.source.put_stack(&neighbour).await;
    let (mut busy, mut quiet, mut neighbours) = (Kept::open(at).await, Kept::open(at).await, Kept::open(at).await);
    for kept in [&mut busy, &mut quiet] {
        let head = kept.ask(&host).await;
        assert!(head.starts_with("http/1.1 200") && !head.contains("connection: close"), "{head}");
    }
    neighbours.ask(&neighbour.hosts[0]).await;
    // One that led to the stack before, and leads elsewhere now, is its next one's.
    quiet.ask(&neighbour.hosts[0]).await;
    quiet.ask(&host).await;
    pair.put(&pair.order("job-1", true).await).await.unwrap();
    pair.reached(MovePhase::Committed).await;
    // Whoever still comes here is served, and asks the DNS anew the next time.
    for mut kept in [busy, Kept::open(at).await] {
        let head = kept.ask(&host).await;
        assert!(head.starts_with("http/1.1 200") && head.contains("\r\nconnection: close\r\n"), "{head}");
        kept.ends().await;
    }
    let path = format!("/v1/stacks/{}", pair.spec.client_id);
    assert_eq!(pair.source.ask(Method::DELETE, &path).send().await.unwrap().status(), 204);
    quiet.ends().await;
    let head = neighbours.ask(&neighbour.hosts[0]).await;
    assert!(head.starts_with("http/1.1 200") && !head.contains("connection: close"), "others' stay: {head}");
}

#[tokio::test]
async fn a_connection_on_which_nothing_was_said_yet_ends_with_the_stack_of_its_name() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let wildcard = stackpro_tls::KeyedChain::self_signed(&["*.stackpro.localhost"]).unwrap();
    assert_eq!(tell(&agent, &told("1", Some(&wildcard), None)).await, 204);
    let config = stackpro_tls::Roots { more: Some(wildcard.chain.clone()) }.client_config().unwrap();
    let name = rustls::pki_types::ServerName::try_from(spec.hosts[0].clone()).unwrap();
    let stream = TcpStream::connect(agent.front).await.unwrap();
    let mut ready = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    let path = format!("/v1/stacks/{}", spec.client_id);
    assert_eq!(agent.ask(Method::DELETE, &path).send().await.unwrap().status(), 204);
    let end = tokio::time::timeout(Duration::from_secs(5), ready.read(&mut [0])).await;
    assert_eq!(end.expect("it ends").unwrap(), 0);
}

/// A client that visits `host` at this agent by https, and believes this CA.
fn visitor(agent: &TestAgent, host: &str, root: &str) -> reqwest::Client {
    let config = stackpro_tls::Roots { more: Some(root.to_owned()) }.client_config().unwrap();
    let none = reqwest::redirect::Policy::none();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(config).redirect(none).no_proxy();
    builder.resolve(host, agent.front).timeout(Duration::from_secs(10)).build().unwrap()
}

fn told(edition: &str, wildcard: Option<&stackpro_tls::KeyedChain>, acme: Option<AcmeDirectory>) -> Certificates {
    let wildcard = wildcard.map(|chain| Chain { chain: chain.chain.clone(), key: chain.key.clone() });
    Certificates { edition: edition.into(), domain: "stackpro.localhost".into(), wildcard, acme }
}

async fn tell(agent: &TestAgent, certificates: &Certificates) -> u16 {
    agent.ask(Method::PUT, "/v1/certificate").json(certificates).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn visitors_are_shown_the_certificate_of_their_name_and_led_to_https() {
    let (server, heard) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let host = spec.hosts[0].as_str();
    let url = format!("https://{host}:{}", agent.front.port());
    let wildcard = stackpro_tls::KeyedChain::self_signed(&["*.stackpro.localhost", "stackpro.localhost"]).unwrap();
    // Without a certificate the site is there all the same.
    assert_eq!(agent.visit("GET", host, "/").send().await.unwrap().status(), 200);
    assert!(visitor(&agent, host, &wildcard.chain).get(&url).send().await.is_err());
    let without_key = agent.http.put(format!("http://{}/v1/certificate", agent.plain()));
    assert_eq!(without_key.json(&told("1", Some(&wildcard), None)).send().await.unwrap().status(), 404);
    assert_eq!(tell(&agent, &told("1", Some(&wildcard), None)).await, 204);
    let visit = async || {
        let answer = visitor(&agent, host, &wildcard.chain).get(&url).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[STACK_HEADER]),
            (200, &"acme-law-7f3k".parse::<reqwest::header::HeaderValue>().unwrap())
        );
    };
    visit().await;
    // Another client's name under the same certificate is no way to this one's site.
    let crossed =
        visitor(&agent, host, &wildcard.chain).get(&url).header("host", "other.stackpro.localhost").send().await;
    assert_eq!(crossed.unwrap().status(), 421);
    let led = agent.visit("GET", host, "/a%20b?c=d").send().await.unwrap();
    let location = led.headers()["location"].to_str().unwrap();
    assert_eq!((led.status().as_u16(), location), (308, format!("{url}/a%20b?c=d").as_str()));
    let nobody = agent.visit("GET", "nobody.stackpro.localhost", "/").send().await.unwrap();
    assert_eq!(nobody.status(), 404);
    // What cannot be used changes nothing, and what was told survives.
    let other = stackpro_tls::KeyedChain::self_signed(&["*.other.example"]).unwrap();
    assert_eq!(tell(&agent, &told("2", Some(&other), None)).await, 422);
    agent.kill();
    agent.restart().await;
    visit().await;
    let reported = || heard.reports.lock().unwrap().last().is_some_and(|report| report.edition.as_deref() == Some("1"));
    until("it says which edition it has", async || reported().then_some(())).await;
    // A session that began by https stays there.
    let signed_in = visitor(&agent, host, &wildcard.chain)
        .post(format!("{url}/portal/sign-in"))
        .header("origin", &url)
        .form(&[("password", PASSWORD)])
        .send()
        .await
        .unwrap();
    if let Some(cookie) = signed_in.headers().get("set-cookie") {
        assert!(cookie.to_str().unwrap().contains("; Secure"), "{cookie:?}");
    }
}

/// A CA whose pages are looked for at the agent's port 80.
async fn ca_of(agent: &TestAgent) -> (stackpro_testkit::ChallengeServer, stackpro_testkit::Ca) {
    let names = stackpro_testkit::ChallengeServer::start().await;
    let ca = stackpro_testkit::Ca::start(names.dns, agent.plain().port()).await;
    (names, ca)
}

fn directory(ca: &stackpro_testkit::Ca) -> AcmeDirectory {
    AcmeDirectory { url: ca.directory(), contact: None, roots: Some(ca.server_root()), retry_seconds: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_elsewhere_gets_a_certificate_of_its_own_whatever_goes_wrong() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start_with(&server, Doors::Public).await;
    let (_names, ca) = ca_of(&agent).await;
    let host = "www.acme.example";
    let mut spec = spec("acme-law-7f3k");
    spec.hosts.push(host.into());
    agent.put_stack(&spec).await;
    assert_eq!(ca.seen("/order-plz"), 0, "nobody has said of which CA");
    // The answer to the signing is lost, and then the agent dies.
    ca.lose("/finalize-order/", stackpro_testkit::Lost::Answer);
    assert_eq!(tell(&agent, &told("1", None, Some(directory(&ca)))).await, 204);
    until("the CA has signed", async || ca.has_lost_all().then_some(())).await;
    agent.kill();
    agent.restart().await;
    let url = format!("https://{host}:{}", agent.front.port());
    let root = ca.issuer_root().await;
    let visit = async || visitor(&agent, host, &root).get(&url).send().await.ok();
    let answer = until("the site answers by https", visit).await;
    assert_eq!(answer.status(), 200);
    assert_eq!((ca.seen("/order-plz"), ca.seen("/finalize-order/")), (1, 1), "{:?}", ca.requests());
    // Names that the wildcard is for are none of its business.
    assert!(visitor(&agent, &spec.hosts[0], &root).get(&url).send().await.is_err());
    let kept = std::fs::read_to_string(agent.dir.path().join("orders.json")).unwrap();
    assert!(!kept.contains("nextAt"), "nothing fails: {kept}");
    // It is not ordered again after a restart, and forgotten with its host.
    agent.kill();
    agent.restart().await;
    assert_eq!(visit().await.unwrap().status(), 200);
    assert_eq!(ca.seen("/order-plz"), 1);
    spec.hosts.pop();
    agent.put_stack(&spec).await;
    until("the certificate is gone", async || visit().await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_comes_along_with_a_move() {
    let (server, _) = control_plane().await;
    let host = "www.acme.example";
    let pair = Pair::with(Doors::Public, 5, 100).await;
    drop(server);
    let mut spec = pair.spec.clone();
    spec.hosts.push(host.into());
    pair.source.put_stack(&spec).await;
    pair.destination.put_stack(&StackSpec { wanted: Wanted::Receiving, ..spec.clone() }).await;
    let (_names, ca) = ca_of(&pair.source).await;
    for agent in [&pair.source, &pair.destination] {
        assert_eq!(tell(agent, &told("1", None, Some(directory(&ca)))).await, 204);
    }
    let root = ca.issuer_root().await;
    let visit = async |agent: &TestAgent| {
        let url = format!("https://{host}:{}", agent.front.port());
        visitor(agent, host, &root).get(url).send().await.ok().map(|answer| answer.status().as_u16())
    };
    assert_eq!(until("the source has it", async || visit(&pair.source).await).await, 200);
    pair.put(&pair.order("job-1", true).await).await.unwrap();
    pair.reached(MovePhase::Committed).await;
    assert_eq!(visit(&pair.destination).await, Some(200), "without an order of its own");
    assert_eq!(visit(&pair.source).await, Some(200), "and what still goes there is forwarded");
    assert_eq!(ca.seen("/order-plz"), 1);
}

//! The storage limit at every way in, and what a kill in the middle of a write leaves.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use stackpro_domain::limits::Limits;
use stackpro_protocol::agent::StackSpec;

use crate::support::*;

const LIMIT: u64 = 100_000;

async fn limited(agent: &TestAgent) -> StackSpec {
    let limits = Limits { storage_bytes: Some(LIMIT), ..Limits::default() };
    let spec = StackSpec { limits, ..spec("acme-law-7f3k") };
    agent.put_stack(&spec).await;
    spec
}

/// A body without a length, in small pieces.
fn chunked(bytes: usize) -> Body {
    let piece = Bytes::from(vec![b'x'; 1_000]);
    let pieces = futures::stream::iter((0..bytes / 1_000).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    Body::wrap_stream(pieces)
}

fn stored(agent: &TestAgent, spec: &StackSpec) -> Vec<String> {
    let names = |folder: &str| std::fs::read_dir(agent.folder(spec).join(folder)).unwrap();
    let all = names("data/files").chain(names("staging"));
    let mut all: Vec<String> = all.map(|found| found.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn webdav_obeys_the_limit_with_and_without_a_length() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = limited(&agent).await;
    assert_eq!(agent.store(&spec, "/dav/files/a", vec![b'a'; 60_000]).await, 201);
    for body in [Body::from(vec![b'b'; 60_000]), chunked(60_000), chunked(5_000_000)] {
        let answer = agent.dav("PUT", &spec, "/dav/files/b").body(body).send().await.unwrap();
        assert_eq!(answer.status(), 507);
        assert!(text(answer).await.contains("upgrade"));
        assert_eq!(stored(&agent, &spec), ["a"]);
    }
    for (from, to) in [("a", "b"), ("a", "../site/b")] {
        let to = format!("http://{}/dav/files/{to}", spec.hosts[0]);
        let copy = agent.dav("COPY", &spec, &format!("/dav/files/{from}")).header("destination", &to).send().await;
        assert_eq!(copy.unwrap().status(), 507);
    }
    assert_eq!(agent.store(&spec, "/dav/files/a", vec![b'a'; 100_000]).await, 204);
    assert_eq!(agent.store(&spec, "/dav/files/b", "x").await, 507);
    assert_eq!(agent.store(&spec, "/dav/files/a", "").await, 204);
    assert_eq!(agent.store(&spec, "/dav/files/b", chunked(100_000)).await, 201);
    let usage = agent.status(&spec).await.usage;
    assert_eq!((usage.storage_bytes, usage.files), (LIMIT, 2));
}

#[tokio::test]
async fn uploads_at_once_never_exceed_it_together() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = limited(&agent).await;
    let puts = (0..20).map(|n| {
        let body = if n % 2 == 0 { Body::from(vec![b'x'; 30_000]) } else { chunked(30_000) };
        agent.dav("PUT", &spec, &format!("/dav/files/{n}")).body(body).send()
    });
    let answers: Vec<u16> =
        futures::future::join_all(puts).await.into_iter().map(|a| a.unwrap().status().as_u16()).collect();
    assert!(answers.iter().all(|status| [201, 507].contains(status)), "{answers:?}");
    let made = answers.iter().filter(|status| **status == 201).count();
    assert!((1..=3).contains(&made), "{answers:?}");
    let usage = agent.status(&spec).await.usage;
    assert_eq!((usage.files, stored(&agent, &spec).len()), (made as u64, made));
    // What was reserved for those that failed is free again.
    assert_eq!(agent.store(&spec, "/dav/site/rest", vec![0; (LIMIT - usage.storage_bytes) as usize]).await, 201);
}

#[tokio::test]
async fn the_portal_says_so_on_its_page() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = limited(&agent).await;
    let cookie = crate::portal::sign_in(&agent, &spec).await;
    let file = |name: &str, bytes: usize| Part::bytes(vec![b'x'; bytes]).file_name(name.to_owned());
    let form =
        Form::new().text("to", "files").part("file", file("small", 1_000)).part("file", file("large", 3_000_000));
    let upload = agent.visit("POST", &spec.hosts[0], "/portal/upload").header("cookie", &cookie);
    let answer = upload.header("origin", format!("http://{}", spec.hosts[0])).multipart(form).send().await.unwrap();
    assert_eq!(answer.status(), 507);
    let page = text(answer).await;
    assert!(page.contains("Storage is full") && page.contains("small"), "{page}");
    assert_eq!(stored(&agent, &spec), ["small"]);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_put_leaves_the_old_content() {
    let (server, _) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = limited(&agent).await;
    assert_eq!(agent.store(&spec, "/dav/files/a", "old").await, 201);
    let endless = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from(vec![b'n'; 50_000])) })
        .chain(futures::stream::pending());
    let put = tokio::spawn(agent.dav("PUT", &spec, "/dav/files/a").body(Body::wrap_stream(endless)).send());
    until("half of it is there", async || {
        let staged = std::fs::read_dir(agent.folder(&spec).join("staging")).unwrap();
        staged.filter_map(|file| file.ok()?.metadata().ok()).any(|file| file.len() > 0).then_some(())
    })
    .await;
    agent.kill();
    assert!(tokio::time::timeout(Duration::from_secs(5), put).await.unwrap().unwrap().is_err());
    agent.restart().await;
    assert_eq!(text(agent.dav("GET", &spec, "/dav/files/a").send().await.unwrap()).await, "old");
    assert_eq!(stored(&agent, &spec), ["a"]);
    assert_eq!(agent.status(&spec).await.usage.storage_bytes, 3);
}

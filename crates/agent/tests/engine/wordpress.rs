//! The recipe that is sold: WordPress, with its database, as a visitor and its owner see it.

use std::time::Instant;

use stackpro_protocol::agent::*;
use stackpro_testkit::wordpress::{WordPress, pdf};

use crate::stacks::*;
use crate::support::*;

pub(crate) fn site(agent: &TestAgent, spec: &StackSpec) -> WordPress {
    let password = spec.compose.as_ref().unwrap().variables["ADMIN_PASSWORD"].clone();
    let (base, host) = (format!("http://{}", agent.plain()), spec.hosts[0].clone());
    WordPress { http: agent.http.clone(), base, host, password }
}

#[tokio::test(flavor = "multi_thread")]
async fn wordpress_is_installed_and_ready_to_write_in() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let spec = stack("acme-law-7f3k", "wordpress");
    let began = Instant::now();
    agent.put_stack(&spec).await;
    // Nobody else can install it first: until it is set up nothing is let through.
    let early = agent.visit("GET", &spec.hosts[0], "/wp-admin/install.php").send().await.unwrap();
    assert!(early.status() == 503 || text(early).await.contains("already installed"));
    let page = agent.answers(&spec, "/").await;
    println!("WordPress answers after {} ms", began.elapsed().as_millis());
    assert!(page.contains("Sons"), "the company's name is on its page: {page}");
    let author = site(&agent, &spec).sign_in().await;
    let post = author.publish("A first post").await.unwrap();
    assert!(agent.answers(&spec, &format!("/?p={post}")).await.contains("A first post"));
    let file = author.upload("notes.pdf", pdf("noted", 3_000_000)).await.unwrap();
    assert_eq!(agent.answers(&spec, &file).await.len(), 3_000_000, "more than PHP's usual 2 MB");
    let problem = author.publish("").await;
    assert!(problem.is_err(), "an author hears what WordPress says");
    assert_eq!(agent.status(&spec).await.problem, None);
}

//! A stack's life in containers: made, found again, bounded, suspended, removed.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use stackpro_domain::limits::Limits;
use stackpro_protocol::agent::*;

use crate::stacks::*;
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_lives_as_it_is_told_and_leaves_nothing_behind() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let spec = stack("acme-law-7f3k", "plain");
    let site = StackSpec { hosts: vec!["site.stackpro.localhost".into()], ..crate::support::spec("other-site-1a2b") };
    agent.put_stack(&site).await;
    let began = std::time::Instant::now();
    agent.put_stack(&spec).await;
    let page = agent.answers(&spec, "/").await;
    println!("a plain stack answers after {} ms", began.elapsed().as_millis());
    let variables = &spec.compose.as_ref().unwrap().variables;
    assert_eq!(page, format!("{}|{}", variables["COMPANY"], variables["PASSWORD"]), "words and secrets as they are");
    let set_up = agent.get(&spec, "/read?name=set-up").await.1;
    assert_eq!(set_up, format!("{}\n{}", variables["COMPANY"], variables["PASSWORD"]), "set up once, before anyone");
    assert_eq!(agent.status(&spec).await.problem, None);

    // What a program of the stack sees of its visitors.
    let headers = agent
        .visit("GET", &spec.hosts[0], "/headers")
        .header("x-stackpro-pass", "x")
        .header("x-forwarded-proto", "https");
    let headers: Value = headers.send().await.unwrap().json().await.unwrap();
    let header = |name: &str| {
        headers
            .as_object()
            .unwrap()
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    assert_eq!(header("host").unwrap(), spec.hosts[0]);
    assert_eq!(header("x-forwarded-for").unwrap(), "127.0.0.1");
    assert_eq!((header("x-forwarded-proto").unwrap(), header("x-stackpro-pass")), (Value::from("https"), None));

    // Its users are not the machine's, and its data lies with the stack.
    assert_eq!(agent.run(&spec, "id -u; touch /data/mine; stat -c %u /data/mine").await, "0\n0");
    let mine = std::fs::metadata(agent.folder(&spec).join("volumes/data/mine")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::uid(&mine) >= 0x1000_0000);
    assert_ne!(agent.run(&spec, "cat /proc/self/uid_map").await.split_whitespace().nth(1), Some("0"));

    // Its services find each other without asking anyone.
    let found = agent.run(&spec, "getent -s files hosts worker | tr -s ' '").await;
    assert!(found.ends_with(" worker") || found.contains(" worker "), "{found}");

    // The agent is killed: the containers run on, and are found.
    let before = agent.containers();
    assert_eq!(before.len(), 2);
    agent.kill();
    agent.restart().await;
    agent.answers(&spec, "/").await;
    assert_eq!(agent.containers(), before);
    assert_eq!(agent.get(&spec, "/read?name=set-up").await.1, set_up, "not set up again");

    // A program ends: it is started again.
    podman(&["kill", &agent.container(&spec, "web")]);
    agent.answers(&spec, "/").await;

    // Suspended nothing runs; resumed everything is there.
    assert_eq!(agent.post(&spec, "/store?name=kept", "kept").await, (200, "stored".into()));
    let suspended = agent.put_stack(&StackSpec { wanted: Wanted::Suspended, ..spec.clone() }).await;
    assert_eq!((suspended.state, suspended.problem), (StackState::Suspended, None));
    assert_eq!((agent.containers(), agent.networks()), (vec![], vec![]));
    let (status, page) = agent.get(&spec, "/").await;
    assert!(status == 503 && page.contains("Your data is safe"), "{page}");
    agent.put_stack(&spec).await;
    agent.answers(&spec, "/").await;
    assert_eq!(agent.get(&spec, "/read?name=kept").await, (200, "kept".into()));

    // The built-in recipe beside it needs none of this.
    assert_eq!(agent.store(&site, "/dav/files/a", "a").await, 201);
    assert_eq!(text(agent.dav("GET", &site, "/dav/files/a").send().await.unwrap()).await, "a");

    // Another recipe would not know its data.
    let other = StackSpec { recipe: "other".into(), ..spec.clone() };
    let refused = agent.ask(Method::PUT, &format!("/v1/stacks/{}", spec.client_id)).json(&other).send().await.unwrap();
    assert_eq!(refused.status(), 422);

    for spec in [&spec, &site] {
        let removed = agent.ask(Method::DELETE, &format!("/v1/stacks/{}", spec.client_id)).send().await.unwrap();
        assert_eq!((removed.status().as_u16(), text(removed).await), (204, String::new()));
        assert!(!agent.folder(spec).exists());
    }
    assert_eq!((agent.containers(), agent.networks()), (vec![], vec![]));
}

/// Podman's own name server is deaf for a moment each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_stack_finds_its_own_while_others_come_and_go() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let spec = stack("acme-law-7f3k", "plain");
    agent.put_stack(&spec).await;
    agent.answers(&spec, "/").await;
    let name = format!("beside-{}", agent.id());
    let others = tokio::task::spawn_blocking(move || {
        for _ in 0..10 {
            podman(&["network", "create", &name]);
            podman(&["run", "--rm", "--network", &name, "--entrypoint=true", "docker.io/library/mariadb:11"]);
            podman(&["network", "rm", &name]);
        }
    });
    let script = "php -r '$n = 0; $bad = []; while (!file_exists(\"/data/over\")) { $t = microtime(true); \
        $at = gethostbyname(\"worker\"); $n++; $ms = (int) (1000 * (microtime(true) - $t)); \
        if ($at === \"worker\" || $ms > 1000) $bad[] = \"$at after $ms ms\"; usleep(2000); } \
        echo $n > 500 ? \"asked\" : \"only $n\", implode($bad);'";
    let asked = agent.run(&spec, script);
    let over = async {
        others.await.unwrap();
        std::fs::write(agent.folder(&spec).join("volumes/data/over"), "").unwrap();
    };
    assert_eq!(tokio::join!(asked, over).0, "asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let spec = stack("acme-law-7f3k", "plain");
    agent.put_stack(&spec).await;
    agent.answers(&spec, "/").await;
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.CpuQuota}} {{.HostConfig.PidsLimit}}";
    let web = agent.container(&spec, "web");
    assert_eq!(podman(&["inspect", "--format", limits, &web]), "67108864 67108864 50000 40");
    // Memory: what asks for more than it may have is killed, and is back.
    assert_eq!(agent.get(&spec, "/memory?mb=20").await, (200, (20 * 1024 * 1024).to_string()));
    let beyond = agent.visit("GET", &spec.hosts[0], "/memory?mb=200").send().await;
    assert!(!beyond.is_ok_and(|answer| answer.status() == 200), "it got 200 MB of 64");
    agent.answers(&spec, "/").await;
    // Processes: a fork bomb stays in its stack.
    let forked = agent.run(&spec, "for i in $(seq 100); do sleep 3 & done; echo over").await;
    assert!(forked.contains("Cannot fork") || forked.contains("Resource temporarily unavailable"), "{forked}");
    tokio::time::timeout(Duration::from_secs(30), agent.answers(&spec, "/")).await.unwrap();
    // A larger plan has larger limits, and the same data.
    agent.post(&spec, "/store?name=kept", "kept").await;
    let mut larger = spec.clone();
    let size = larger.compose.as_mut().unwrap().sizes.get_mut("web").unwrap();
    size.memory_mb = 128;
    agent.put_stack(&larger).await;
    agent.answers(&spec, "/").await;
    let web = agent.container(&spec, "web");
    assert!(podman(&["inspect", "--format", limits, &web]).starts_with("134217728 "));
    assert_eq!(agent.get(&spec, "/read?name=kept").await, (200, "kept".into()));
    // Storage: measured, refused with words, and room can be made.
    let limited = StackSpec { limits: Limits { storage_bytes: Some(3 << 20), ..Limits::default() }, ..larger };
    agent.put_stack(&limited).await;
    assert_eq!(agent.post(&limited, "/store?name=large", vec![7; 2_500_000]).await.0, 200);
    let full = async || (agent.post(&limited, "/store?name=more", vec![7; 900_000]).await.0 == 507).then_some(());
    until("the storage is full", full).await;
    let (_, page) = agent.post(&limited, "/store?name=more", vec![7; 900_000]).await;
    assert!(page.contains("Storage is full") && page.contains("of 3 MB used"), "{page}");
    assert!(agent.status(&limited).await.usage.storage_bytes > 2_500_000);
    assert_eq!(agent.run(&limited, "rm /data/large; echo gone").await, "gone");
    let room = async || (agent.post(&limited, "/store?name=more", vec![7; 900_000]).await.0 == 200).then_some(());
    until("there is room", room).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let mut spec = stack("acme-law-7f3k", "plain");
    let files = &mut spec.compose.as_mut().unwrap().files;
    let text = files["compose.yaml"].clone();
    let problem = async |change: (&str, &str)| {
        let mut spec = spec.clone();
        let changed = text.replace(change.0, change.1);
        assert_ne!(changed, text);
        spec.compose.as_mut().unwrap().files.insert("compose.yaml".into(), changed);
        agent.put_stack(&spec).await.problem.unwrap()
    };
    let privileged = problem(("init: false", "privileged: true")).await;
    assert!(privileged.contains("service worker") && privileged.contains("privileged"), "{privileged}");
    let outside = problem(("./index.php", "/etc/passwd")).await;
    assert!(outside.contains("/etc/passwd"), "{outside}");
    let unknown = problem(("${PASSWORD:?}", "${NOBODY:?}")).await;
    assert!(unknown.contains("NOBODY"), "{unknown}");
    let (status, page) = agent.get(&spec, "/").await;
    assert!(status == 503 && page.contains("starting"), "{status} {page}");
    // An engine that is not there.
    let lonely = TestAgent::start(&server).await;
    let nowhere = lonely.dir.path().join("nowhere.sock");
    std::fs::write(lonely.dir.path().join(ENGINE), nowhere.to_str().unwrap()).unwrap();
    lonely.kill();
    lonely.restart().await;
    let problem = lonely.put_stack(&stack("acme-law-7f3k", "plain")).await.problem.unwrap();
    assert!(problem.contains("nowhere.sock") && problem.contains("Docker"), "{problem}");
    let removed = lonely.ask(Method::DELETE, &format!("/v1/stacks/{}", spec.client_id)).send().await.unwrap();
    assert_eq!(removed.status(), 204, "what could not be made can be removed");
}

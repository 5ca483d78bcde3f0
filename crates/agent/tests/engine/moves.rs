//! Stacks in containers move: under load, with whatever a client has in its volumes, and through every crash.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use reqwest::Method;
use stackpro_protocol::agent::*;
use stackpro_testkit::wordpress::{Load, Outcome, Written, dump, rows};

use crate::stacks::*;
use crate::support::*;
use crate::wordpress::site;

/// Two agents with engines, and a stack that serves at the first.
async fn pair(recipe: &str, doors: Doors) -> Move<EngineAgent> {
    let (server, _) = control_plane().await;
    let start = || EngineAgent::start_with(&server, doors);
    let (source, destination) = (start().await, start().await);
    let spec = stack("acme-law-7f3k", recipe);
    source.put_stack(&spec).await;
    source.answers(&spec, "/").await;
    destination.put_stack(&StackSpec { wanted: Wanted::Receiving, ..spec.clone() }).await;
    Move { source, destination, spec }
}

async fn order(pair: &Move<EngineAgent>, job: &str, cut_over: bool) -> MoveOrder {
    MoveOrder { max_hold_ms: 20_000, ..pair.order(job, cut_over).await }
}

/// Everything below a stack's volumes: kind, mode, owner as the stack sees it, time in nanoseconds, content.
type Tree = BTreeMap<Vec<u8>, (String, u32, u32, u32, i128, Vec<u8>)>;

fn tree(agent: &EngineAgent, spec: &StackSpec) -> Tree {
    use std::os::unix::ffi::OsStrExt;
    let folder = agent.folder(spec);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("engine.json")).unwrap()).unwrap();
    let first = kept["firstUser"].as_u64().unwrap() as u32;
    let root = folder.join("volumes");
    let (mut found, mut folders, mut names) = (Tree::new(), vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(&root).unwrap().as_os_str().as_bytes().to_vec();
            let (kind, content) = if metadata.is_dir() {
                folders.push(path);
                ("folder".to_owned(), vec![])
            } else if metadata.is_symlink() {
                ("link".to_owned(), std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            } else if !metadata.is_file() {
                // A fifo is made anew by whoever uses it.
                continue;
            } else {
                let first = names.entry(metadata.ino()).or_insert_with(|| name.clone()).clone();
                (format!("file {:?} of {}", first, metadata.nlink()), std::fs::read(&path).unwrap())
            };
            let time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
            let owner = (metadata.uid() - first, metadata.gid() - first);
            found.insert(name, (kind, metadata.mode(), owner.0, owner.1, time, content));
        }
    }
    found
}

fn assert_same(one: &Tree, other: &Tree) {
    for (name, entry) in one {
        let there = other.get(name);
        let words = |entry: &(String, u32, u32, u32, i128, Vec<u8>)| {
            (entry.0.clone(), entry.1, entry.2, entry.3, entry.4, entry.5.len())
        };
        let name = String::from_utf8_lossy(name);
        assert!(there == Some(entry), "{name}: {:?} and {:?}", words(entry), there.map(words));
    }
    assert_eq!(one.len(), other.len());
}

/// What no portal would let a client do, and a program does.
const ODD: &str = "cd /data && mkdir -p deep/er empty 'sp ace' && echo one > deep/one && ln deep/one deep/er/same && \
    ln deep/one also-same && ln -s ../nowhere deep/dangling && ln -s /etc/passwd absolute && ln -s deep folder-link && \
    chown 33:44 deep/one && chmod 4751 deep/one && chown -h 7:8 absolute && chmod 700 deep && chown 1000:1000 deep && \
    truncate -s 50M sparse && printf x | dd of=sparse bs=1 seek=20000000 conv=notrunc 2>/dev/null && \
    head -c 3000000 /dev/urandom > large && printf '%s' \"$(printf '\\377\\376%%41')\" > bytes && \
    touch \"$(printf 'b\\377d%%41\\nname')\" 'ümlaut' && mkfifo pipe && : > nothing && touch -d '1969-01-01 00:00:00.5' old && echo made";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_in_the_volumes_arrives_as_it_was() {
    let pair = pair("plain", Doors::Local).await;
    let Move { source, destination, spec } = &pair;
    assert_eq!(source.run(spec, ODD).await, "made");
    pair.put(&order(&pair, "job-1", false).await).await.unwrap();
    let status = pair.reached(MovePhase::InStep).await;
    assert!(status.bytes_copied >= 3_000_000, "{status:?}");
    // Changes of every kind while it follows: another kind, another link, less, more, gone, only a mode.
    let changed = "cd /data && rm -rf empty && echo file > empty && rm also-same && echo own > also-same && rm absolute && \
        mkdir absolute && touch absolute/in && ln -sfn ../other deep/dangling && truncate -s 70000 large && chmod 600 old && \
        printf y | dd of=sparse bs=1 seek=40000000 conv=notrunc 2>/dev/null && mv deep/er/same deep/er/renamed && \
        rm 'ümlaut' && echo more >> nothing && mv 'sp ace' moved && echo changed";
    assert_eq!(source.run(spec, changed).await, "changed");
    // And within the clock's tick: a whole second says nothing.
    assert_eq!(
        source.run(spec, "cd /data; for i in 1 2 3; do echo $i > tick; done; echo 3 > tick; echo ok").await,
        "ok"
    );
    let began = Instant::now();
    pair.put(&order(&pair, "job-1", true).await).await.unwrap();
    let status = pair.reached(MovePhase::Committed).await;
    let certificate = status.certificate.unwrap();
    println!("moved in {} ms: {certificate:?}", began.elapsed().as_millis());
    assert_eq!(certificate.source_hash, certificate.copy_hash);
    let after = tree(destination, spec);
    assert_same(&tree(source, spec), &after);
    assert!(after[&b"data/b\xffd%41\nname"[..]].5.is_empty() && !after.contains_key("data/ümlaut".as_bytes()));
    let sparse = destination.folder(spec).join("volumes/data/sparse").metadata().unwrap();
    assert!(sparse.len() == 50 << 20 && sparse.blocks() * 512 < 1 << 20, "holes stay holes");
    // It serves there, also for whoever still comes to the old place, and never again at the source.
    for agent in [source, destination] {
        assert_eq!(agent.get(spec, "/read?name=tick").await, (200, "3\n".into()));
    }
    assert_eq!(source.status(spec).await.state, StackState::Forwarding);
    until("nothing is left at the source's engine", async || source.containers().is_empty().then_some(())).await;
    assert_eq!(source.post(spec, "/store?name=after", "after").await, (200, "stored".into()));
    assert!(destination.folder(spec).join("volumes/data/after").exists());
    source.kill();
    source.restart().await;
    assert_eq!((source.get(spec, "/read?name=after").await, source.containers()), ((200, "after".into()), vec![]));
    let removed = source.ask(Method::DELETE, &format!("/v1/stacks/{}", spec.client_id)).send().await.unwrap();
    assert_eq!((removed.status().as_u16(), source.networks()), (204, vec![]));
}

fn running_of(agent: &EngineAgent) -> usize {
    let label = format!("label={}", agent.label());
    podman(&["ps", "--quiet", "--filter", "status=running", "--filter", &label]).lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_given_up_leaves_the_stack_running() {
    let pair = pair("plain", Doors::Local).await;
    let Move { source, destination, spec } = &pair;
    // The destination's machine cannot run it: the move fails again and again, and visitors never notice.
    let mut broken = spec.clone();
    broken.wanted = Wanted::Receiving;
    broken.compose.as_mut().unwrap().health = "/run".into();
    broken.compose.as_mut().unwrap().port = 81;
    destination.put_stack(&broken).await;
    pair.put(&MoveOrder { max_hold_ms: 1_500, ..order(&pair, "job-1", true).await }).await.unwrap();
    let failing = async || pair.status().await?.error;
    let error = until("it fails", failing).await;
    println!("{error}");
    assert_eq!(source.post(spec, "/store?name=on", "on").await, (200, "stored".into()), "writes go on");
    assert_eq!(pair.abort("job-1").await, AbortAnswer::Aborted);
    assert_eq!(source.status(spec).await.state, StackState::Serving);
    assert_eq!(source.get(spec, "/read?name=on").await, (200, "on".into()));
    let running = async || (running_of(source) == 2).then_some(());
    until("everything runs again at the source", running).await;
    // Another job, at a machine that can, goes through; the source is killed while it is at rest.
    destination.ask(Method::DELETE, &format!("/v1/stacks/{}", spec.client_id)).send().await.unwrap();
    destination.put_stack(&StackSpec { wanted: Wanted::Receiving, ..spec.clone() }).await;
    pair.put(&order(&pair, "job-2", true).await).await.unwrap();
    until("the hold", async || pair.status().await.filter(|status| status.phase == MovePhase::CuttingOver)).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    source.kill();
    source.restart().await;
    let status = pair.reached(MovePhase::Committed).await;
    let certificate = status.certificate.unwrap();
    assert_eq!(certificate.source_hash, certificate.copy_hash);
    assert_eq!(source.get(spec, "/read?name=on").await, (200, "on".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_the_destination_ends_in_a_whole_move() {
    let pair = pair("plain", Doors::Local).await;
    let Move { source, destination, spec } = &pair;
    source.run(spec, "head -c 20000000 /dev/urandom > /data/large; echo ok").await;
    pair.put(&order(&pair, "job-1", true).await).await.unwrap();
    for phase in [MovePhase::Copying, MovePhase::CuttingOver] {
        let over = |status: &MoveStatus| status.phase == phase || status.phase == MovePhase::Committed;
        until(&format!("{phase:?}"), async || pair.status().await.filter(over)).await;
        destination.kill();
        destination.restart().await;
    }
    pair.reached(MovePhase::Committed).await;
    destination.answers(spec, "/").await;
    assert_same(&tree(source, spec), &tree(destination, spec));
}

/// The database that the source was left with.
async fn dump_of_what_is_left(pair: &Move<EngineAgent>) -> String {
    let folder = pair.source.folder(&pair.spec);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("engine.json")).unwrap()).unwrap();
    let users = format!("0:{}:65536", kept["firstUser"]);
    let volume = format!("{}:/var/lib/mysql", folder.join("volumes/db").display());
    let variables = &pair.spec.compose.as_ref().unwrap().variables;
    let password = format!("MARIADB_PASSWORD={}", variables["DB_PASSWORD"]);
    let agent = pair.source.label();
    let args = [
        "run",
        "--detach",
        "--network=none",
        "--tmpfs=/run/mysqld",
        "--uidmap",
        &users,
        "--gidmap",
        &users,
        "--label",
        &agent,
    ];
    let args: Vec<&str> = args.into_iter().chain(["--volume", &volume, "--env", &password]).collect();
    let image = ["docker.io/library/mariadb:11", "--innodb-log-file-size=16M"];
    let database = podman(&args.into_iter().chain(image).collect::<Vec<_>>());
    until("the database that was left starts", async || dump(&database)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn wordpress_moves_under_load_and_loses_nothing() {
    let pair = pair("wordpress", Doors::Public).await;
    let Move { source, destination, spec } = &pair;
    let site = site(source, spec);
    let author = site.sign_in().await;
    let mut before = Written::default();
    for n in 0..20 {
        author.write(&format!("written before {n}"), 200_000, &mut before).await;
    }
    let load = Load::start(&site, 4, 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    pair.put(&order(&pair, "job-1", false).await).await.unwrap();
    pair.reached(MovePhase::InStep).await;
    assert_eq!(destination.get(spec, "/").await.0, 404, "the copy is not to be seen");
    pair.put(&order(&pair, "job-1", true).await).await.unwrap();
    let status = pair.reached(MovePhase::Committed).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let Outcome { reads, failed_reads, longest_read, mut written, .. } = load.end().await;
    assert_eq!(failed_reads, Vec::<String>::new(), "failed reads");
    assert!(written.iter().all(|writer| writer.posts.len() > 2 && writer.files.len() > 2));
    written.push(before);
    for writer in &written {
        assert_eq!(writer.failed, Vec::<String>::new(), "failed writes");
    }
    let certificate = status.certificate.unwrap();
    let (posts, files) = written.iter().fold((0, 0), |(p, f), w| (p + w.posts.len(), f + w.files.len()));
    println!("{reads} reads, {posts} posts, {files} files; longest read {longest_read:?}; {certificate:?}");
    assert_eq!(certificate.source_hash, certificate.copy_hash);
    // All that was acknowledged is there, at the new place and through the old one.
    for (id, title) in written.iter().flat_map(|w| &w.posts) {
        assert!(destination.answers(spec, &format!("/?p={id}")).await.contains(title), "{title}");
    }
    for (path, content) in written.iter().flat_map(|w| &w.files) {
        assert_eq!(source.answers(spec, path).await.as_bytes(), content, "{path}");
    }
    // What the source was left with, its database started once more apart from everything, is all at the
    // destination, byte by byte and row by row; there is more there, since writers went on.
    let uploads = |agent: &EngineAgent| -> Tree {
        tree(agent, spec).into_iter().filter(|(name, _)| name.starts_with(b"site/wp-content/uploads/")).collect()
    };
    let (there, here) = (uploads(source), uploads(destination));
    for (name, entry) in there.iter().filter(|(_, entry)| entry.0 != "folder") {
        assert_eq!(here.get(name).map(|entry| &entry.5), Some(&entry.5), "{}", String::from_utf8_lossy(name));
    }
    let left = dump_of_what_is_left(&pair).await;
    let now = dump(&destination.container(spec, "db")).unwrap();
    for table in ["wp_posts", "wp_postmeta", "wp_users", "wp_terms"] {
        let (before, after) = (rows(&left, table), rows(&now, table));
        assert!(!before.is_empty() && before.is_subset(&after), "{table}: {:?}", before.difference(&after).next());
    }
}

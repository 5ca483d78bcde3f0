//! What a kill -9 leaves, at instants that are prepared, and at instants as they come.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use stackpro_cloud::{CloudError, InstanceState};

use super::{Home, names, spec, tags, toy_agent, until};

#[tokio::test]
async fn a_launch_that_died_before_the_spawn_is_finished_by_the_next() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    home.local.stop_all().await;
    for left in ["agent.pid", "agent.lock", "agent.log"] {
        fs::remove_file(home.instance(&made.id).join(left)).unwrap();
    }
    assert_eq!(compute.describe(&made.id).await.unwrap().unwrap().state, InstanceState::Stopped);
    assert_eq!(compute.launch(&spec("a")).await.unwrap(), made);
    assert_eq!(home.processes(), 1);
}

#[tokio::test]
async fn what_was_half_made_or_half_removed_is_swept_when_it_is_old() {
    let home = Home::new();
    let hour_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for part in ["instances", "buckets", "mail"] {
        for name in [".new-old", ".new-young"] {
            let path = home.local.folder().join(part).join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "half").unwrap();
            if name == ".new-old" {
                File::open(&path).unwrap().set_modified(hour_ago).unwrap();
            }
        }
    }
    let cloud = home.again();
    assert!(cloud.cloud().compute.list().await.unwrap().is_empty());
    assert!(cloud.cloud().buckets.list().await.unwrap().is_empty());
    assert_eq!(cloud.mailbox().list(0).unwrap().total, 0);
    for part in ["instances", "buckets", "mail"] {
        assert_eq!(names(&home.local.folder().join(part)), [".new-young"]);
    }
}

#[tokio::test]
async fn a_termination_that_died_after_its_tombstone_is_finished_at_the_next_start() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    let tombstone = home.local.folder().join(format!("terminated/{}.json", made.id));
    fs::copy(home.instance(&made.id).join("instance.json"), tombstone).unwrap();
    assert_eq!(compute.describe(&made.id).await.unwrap().unwrap().state, InstanceState::Terminated);
    assert!(home.again().start_all().await.is_empty());
    assert_eq!(home.processes(), 0);
    assert!(!home.instance(&made.id).exists());
}

#[tokio::test]
async fn a_control_plane_killed_at_any_instant_of_a_launch_leaves_one_instance() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    for n in 0..24_u64 {
        let token = format!("k{n}");
        let mut launcher = Command::new(toy_agent())
            .args(["launch", home.local.folder().to_str().unwrap(), &token])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_micros(n * 800)).await;
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        assert_eq!(compute.launch(&spec(&token)).await.unwrap().state, InstanceState::Running);
        let expected = usize::try_from(n + 1).unwrap();
        until("one process is left of each", || async { home.processes() == expected }).await;
        assert_eq!(compute.list().await.unwrap().len(), expected);
    }
}

#[tokio::test]
async fn a_control_plane_killed_amid_everything_leaves_a_cloud_that_works() {
    let home = Home::new();
    let path = home.local.folder().to_str().unwrap();
    for n in 0..16_u64 {
        let mut churner = Command::new(toy_agent())
            .args(["churn", path, &format!("round{n}")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(60 + n * 7)).await;
        assert_eq!(churner.try_wait().unwrap(), None, "it ended by itself");
        churner.kill().unwrap();
        churner.wait().unwrap();
        let restarted = home.again();
        // An agent whose starter died before it came up may stand in its own way once; it is tried again.
        until("everything is recovered", || async { restarted.start_all().await.is_empty() }).await;
        let cloud = restarted.cloud();
        let instances = cloud.compute.list().await.unwrap();
        assert!(instances.len() <= 1 && instances.iter().all(|i| i.state == InstanceState::Running), "{instances:?}");
        until("no other process is left", || async { home.processes() == instances.len() }).await;
        for instance in instances {
            cloud.compute.terminate(&instance.id).await.unwrap();
        }
        assert!(cloud.buckets.list().await.unwrap().len() <= 1);
        assert!(cloud.dns.list().await.unwrap().len() <= 1);
        assert!(cloud.roles.list().await.unwrap().len() <= 2, "the one that launches name, and one more");
        assert!(cloud.mail.list_identities().await.unwrap().len() <= 1);
        let mails = names(&home.local.folder().join("mail"));
        let mails: Vec<_> = mails.iter().filter_map(|name| name.split_once('-')).collect();
        let ids: BTreeSet<_> = mails.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), mails.len(), "each id was delivered once");
        let checks = cloud.checks.all().await;
        let wrong: Vec<_> = checks.into_iter().filter(|check| check.found.is_err()).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    assert!(home.local.mailbox().list(0).unwrap().total > 0, "nothing was done at all");
}

#[tokio::test]
async fn buckets_are_one_each_and_follow_their_owner() {
    let home = Home::new();
    let buckets = home.local.cloud().buckets;
    for _ in 0..2 {
        buckets.create("acme-files", &tags("r1")).await.unwrap();
    }
    assert!(matches!(buckets.create("acme-files", &tags("r2")).await, Err(CloudError::Taken { .. })));
    buckets.delete("acme-files", "r2").await.unwrap();
    assert!(buckets.create("../escape", &tags("r1")).await.is_err());
    assert!(buckets.delete("../instances", "r1").await.is_err());
    let object = home.local.folder().join("buckets/acme-files/objects/file");
    fs::write(object, "content").unwrap();
    let listed = home.again().cloud().buckets.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), &listed[0].tags), ("acme-files", &tags("r1")));
    for _ in 0..2 {
        buckets.delete("acme-files", "r1").await.unwrap();
    }
    assert!(names(&home.local.folder().join("buckets")).is_empty());
}

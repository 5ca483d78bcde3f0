use std::fs;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use stackpro_cloud::{CloudError, InstanceState};
use tokio::net::TcpStream;

use super::{Home, spec, until};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_token_makes_one_instance_that_listens() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let first = compute.launch(&spec("a")).await.unwrap();
    assert_eq!(first.state, InstanceState::Running);
    assert!(first.id.as_str().starts_with("i-") && first.id.as_str().len() == 19, "{}", first.id);
    assert_eq!(compute.launch(&spec("a")).await.unwrap(), first);
    assert_eq!(compute.describe(&first.id).await.unwrap(), Some(first.clone()));
    assert_eq!(compute.list().await.unwrap(), vec![first.clone()]);
    assert_eq!(home.processes(), 1);
    for door in [first.front, first.control] {
        TcpStream::connect(door.unwrap()).await.unwrap();
    }
    let other = compute.launch(&spec("b")).await.unwrap();
    assert_ne!(other.id, first.id);
    assert_eq!(home.processes(), 2);
}

#[tokio::test]
async fn a_token_with_another_wish_is_refused_even_when_terminated() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    let mut other = spec("a");
    other.instance_type = "t3.large".into();
    for _ in 0..2 {
        let refused = compute.launch(&other).await.unwrap_err();
        assert!(matches!(&refused, CloudError::Refused { cause, .. } if cause.contains("IdempotentParameterMismatch")));
        compute.terminate(&made.id).await.unwrap();
    }
    let again = compute.launch(&spec("a")).await.unwrap_err();
    assert!(matches!(&again, CloudError::Refused { cause, .. } if cause.contains("IdempotentInstanceTerminated")));
    assert_eq!(home.processes(), 0);
}

#[tokio::test]
async fn what_ends_is_seen_reaped_and_started_again_with_its_ports() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    let pid = home.pid(&made.id);
    kill(pid);
    let process = format!("/proc/{pid}");
    until("the dead agent is reaped", || async { !fs::exists(&process).unwrap() }).await;
    assert_eq!(compute.describe(&made.id).await.unwrap().unwrap().state, InstanceState::Stopped);
    compute.start(&made.id).await.unwrap();
    compute.start(&made.id).await.unwrap();
    assert_eq!(compute.describe(&made.id).await.unwrap(), Some(made.clone()));
    assert_ne!(home.pid(&made.id), pid);
    assert_eq!(home.processes(), 1);
}

#[tokio::test]
async fn a_terminated_instance_is_gone_and_remembered() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    for _ in 0..2 {
        compute.terminate(&made.id).await.unwrap();
    }
    assert_eq!(home.processes(), 0);
    assert!(!home.instance(&made.id).exists());
    assert_eq!(compute.describe(&made.id).await.unwrap().unwrap().state, InstanceState::Terminated);
    assert!(compute.list().await.unwrap().is_empty());
    assert!(matches!(compute.start(&made.id).await, Err(CloudError::Refused { .. })));
    let unknown = "i-00000000000000000".parse().unwrap();
    assert_eq!(compute.describe(&unknown).await.unwrap(), None);
    assert!(matches!(compute.start(&unknown).await, Err(CloudError::Refused { .. })));
    compute.terminate(&unknown).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_does_not_listen_is_killed() {
    let home = Home::with(|settings| settings.agent_environment = vec![("MISBEHAVE".into(), "deaf".into())]);
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    let begun = Instant::now();
    compute.terminate(&made.id).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(4), "it was given no time");
    assert_eq!(home.processes(), 0);
}

#[tokio::test]
async fn an_agent_that_ends_at_once_is_an_error_that_says_why_and_can_be_tried_again() {
    let home = Home::with(|settings| settings.agent_environment = vec![("MISBEHAVE".into(), "crash".into())]);
    let failed = home.local.cloud().compute.launch(&spec("a")).await.unwrap_err();
    assert!(matches!(&failed, CloudError::Transient { cause, .. } if cause.contains("no heart")), "{failed}");
    let healthy = home.again().cloud().compute;
    assert_eq!(healthy.launch(&spec("a")).await.unwrap().state, InstanceState::Running);
    assert_eq!(healthy.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn instances_outlive_the_server_and_learn_where_it_is() {
    let home = Home::new();
    let made = home.local.cloud().compute.launch(&spec("a")).await.unwrap();
    let second = home.local.cloud().compute.launch(&spec("b")).await.unwrap();
    let pid = home.pid(&made.id);
    kill(home.pid(&second.id));
    until("the killed agent is dead", || async { home.processes() == 1 }).await;
    let restarted = home.again();
    restarted.set_server_url("http://127.0.0.1:9999");
    assert!(restarted.start_all().await.is_empty());
    assert_eq!(home.pid(&made.id), pid, "what ran was left alone");
    let states: Vec<_> = restarted.cloud().compute.list().await.unwrap().into_iter().map(|i| i.state).collect();
    assert_eq!(states, [InstanceState::Running; 2]);
    for id in [&made.id, &second.id] {
        assert_eq!(home.agent_file(id).server_url, "http://127.0.0.1:9999");
    }
    assert!(restarted.stop_all().await.is_empty());
    assert_eq!(home.processes(), 0);
    assert_eq!(restarted.cloud().compute.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn every_agent_can_be_killed_and_starts_again() {
    let home = Home::with(|settings| settings.agent_environment = vec![("MISBEHAVE".into(), "deaf".into())]);
    let compute = home.local.cloud().compute;
    assert_eq!(home.local.kill_agents().unwrap(), 0);
    for token in ["a", "b"] {
        compute.launch(&spec(token)).await.unwrap();
    }
    let begun = Instant::now();
    assert_eq!(home.local.kill_agents().unwrap(), 2);
    assert!(begun.elapsed() < Duration::from_secs(4), "they were asked first");
    assert_eq!(home.processes(), 0);
    for instance in compute.list().await.unwrap() {
        assert_eq!(instance.state, InstanceState::Stopped);
        compute.start(&instance.id).await.unwrap();
    }
    assert_eq!((home.processes(), home.local.kill_agents().unwrap()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_of_two_clouds_racing_for_a_token_make_one_process() {
    let home = Home::new();
    let clouds = [home.local.cloud(), home.again().cloud()];
    for token in ["a", "b", "c"] {
        let launches = (0..16).map(|n| {
            let compute = clouds[n % 2].compute.clone();
            tokio::spawn(async move { compute.launch(&spec(token)).await.unwrap() })
        });
        let made: Vec<_> = join_all(launches).await.into_iter().map(Result::unwrap).collect();
        assert!(made.iter().all(|instance| *instance == made[0]));
    }
    assert_eq!(home.processes(), 3);
    let ports: std::collections::BTreeSet<_> =
        clouds[1].compute.list().await.unwrap().into_iter().flat_map(|i| [i.front, i.control]).collect();
    assert_eq!(ports.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_while_it_starts_never_hinders_it() {
    let home = Home::new();
    let compute = home.again().cloud().compute;
    let looking = tokio::spawn(async move {
        loop {
            compute.list().await.unwrap();
        }
    });
    for n in 0..10 {
        let made = home.local.cloud().compute.launch(&spec(&format!("t{n}"))).await.unwrap();
        assert_eq!(made.state, InstanceState::Running);
    }
    looking.abort();
    assert_eq!(home.processes(), 10);
}

#[tokio::test]
async fn a_long_log_is_put_aside_at_the_next_start() {
    let home = Home::new();
    let compute = home.local.cloud().compute;
    let made = compute.launch(&spec("a")).await.unwrap();
    home.local.stop_all().await;
    let log = home.instance(&made.id).join("agent.log");
    fs::write(&log, vec![b'x'; 2 << 20]).unwrap();
    compute.start(&made.id).await.unwrap();
    assert!(fs::metadata(&log).unwrap().len() < 1 << 20);
    assert_eq!(fs::metadata(log.with_extension("log.1")).unwrap().len(), 2 << 20);
}

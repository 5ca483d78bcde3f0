//! Instances of EC2 that run: what comes up, what goes wrong at each call, and what dies in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use stackpro_cloud::{CloudError, Compute, Instance, InstanceState, LaunchSpec, Roles, Tags};
use stackpro_cloud_aws::{Aws, AwsSettings, Credentials, Ec2, Iam, Release};
use stackpro_protocol::agent::CONTROL_NAME;
use stackpro_testkit::aws::{Behaviour, Emulator, Event, Fault, Inventory, Moto, REGION, ZONE};
use stackpro_testkit::eventually;

const BINARY: &str = env!("CARGO_BIN_EXE_stackpro");
/// For moto on a busy machine, and where an answer shall come too late.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT_PATIENCE: Duration = Duration::from_secs(4);
const ATTEMPTS: usize = 6;
/// What takes effect though nobody waits any more.
const SLOW: [&str; 4] = ["iam.CreateRole", "ec2.RunInstances", "ec2.TerminateInstances", "iam.DeleteRole"];

struct Account {
    emulator: Emulator,
    aws: Aws,
}

impl Account {
    async fn open(moto: &Arc<Moto>, patience: Duration) -> Self {
        let emulator = Emulator::start(moto, BINARY, Behaviour::default()).await;
        let release = Some(Release { url: "https://releases.stackpro.test/1".into(), sha256: "0".repeat(64) });
        let settings = AwsSettings {
            region: Some(REGION.into()),
            endpoint: Some(emulator.endpoint()),
            release,
            patience,
            // Nobody is there: an agent serves all the same.
            ..AwsSettings::new("test", ZONE, format!("http://{}", emulator.beside(8080)))
        };
        let aws = Aws::open_as(settings, Credentials::new("AKIA", "secret", None, None, "test")).await;
        Self { emulator, aws }
    }

    /// As a process sees it that has just begun.
    fn parts(&self) -> (Iam, Ec2) {
        (Iam::new(&self.aws), Ec2::new(&self.aws))
    }
}

async fn moto() -> Arc<Moto> {
    Arc::new(tokio::task::spawn_blocking(Moto::start).await.unwrap())
}

fn tags() -> Tags {
    Tags { resource_id: "r1".into(), client_id: Some("acme".into()) }
}

fn spec() -> LaunchSpec {
    LaunchSpec {
        token: "launch-r1".into(),
        instance_type: "t3.micro".into(),
        role: "test-r1".into(),
        enrol_token: "once".into(),
        tags: tags(),
    }
}

/// What the agent says of itself at its control door, whose certificate nobody knows yet.
async fn health(door: SocketAddr) -> Option<Value> {
    let http = reqwest::Client::builder().danger_accept_invalid_certs(true).no_proxy().resolve(CONTROL_NAME, door);
    let answer = http.build().unwrap().get(format!("https://{CONTROL_NAME}/v1/health")).send().await.ok()?;
    answer.json().await.ok()
}

async fn up(compute: &Ec2, id: &stackpro_domain::InstanceId) -> Instance {
    eventually("the agent answers at the instance's address", Duration::from_secs(30), async || {
        let found = compute.describe(id).await.ok()??;
        let health = health(found.control?).await?;
        assert_eq!(health["instanceId"], id.as_str());
        Some(found)
    })
    .await
}

#[tokio::test]
async fn an_instance_runs_the_agent_of_its_user_data_until_it_is_terminated() {
    let account = Account::open(&moto().await, PATIENCE).await;
    let (roles, compute) = account.parts();
    roles.create("test-r1", &tags()).await.unwrap();
    let made = compute.launch(&spec()).await.unwrap();
    assert_eq!(made.state, InstanceState::Pending);
    let running = up(&compute, &made.id).await;
    assert_eq!(running.state, InstanceState::Running);
    assert_eq!(compute.list().await.unwrap(), std::slice::from_ref(&running));

    // What dies is started again, by itself.
    let [agent] = account.emulator.agents()[..] else { panic!("one agent") };
    let pid = rustix::process::Pid::from_raw(agent.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("another agent runs", Duration::from_secs(20), async || {
        let agents = account.emulator.agents();
        (agents.len() == 1 && agents[0] != agent).then_some(())
    })
    .await;
    up(&compute, &made.id).await;

    compute.terminate(&made.id).await.unwrap();
    eventually("the agent has ended", Duration::from_secs(20), async || {
        account.emulator.agents().is_empty().then_some(())
    })
    .await;
    assert!(health(running.control.unwrap()).await.is_none());
}

/// What a flow does until it succeeds, each time as a process that has just begun.
async fn until_done<T>(account: &Account, step: impl AsyncFn(Iam, Ec2) -> Result<T, CloudError>) -> T {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let (roles, compute) = account.parts();
        match step(roles, compute).await {
            Ok(done) => return done,
            Err(CloudError::Refused { call, cause }) => panic!("{call}: {cause}"),
            Err(error) => last = Some(error),
        }
    }
    panic!("{last:?}");
}

async fn whole_life(account: &Account, of: impl AsyncFn(Inventory)) {
    until_done(account, async |roles, _| roles.create("test-r1", &tags()).await).await;
    until_done(account, async |roles, _| roles.allow("test-r1", &["stackpro-acme".into()]).await).await;
    let made = until_done(account, async |_, compute| compute.launch(&spec()).await).await;
    of(account.emulator.inventory().await).await;
    until_done(account, async |_, compute| compute.terminate(&made.id).await).await;
    until_done(account, async |roles, _| roles.delete("test-r1").await).await;
}

/// Every call of an instance's life, in turn, meets every fault.
#[tokio::test]
async fn each_call_of_an_instances_life_may_go_wrong_in_any_way() {
    let moto = moto().await;
    let quiet = Account::open(&moto, PATIENCE).await;
    whole_life(&quiet, async |_| {}).await;
    let mut calls: Vec<(String, u64)> = Vec::new();
    for made in quiet.emulator.calls().into_iter().filter(|made| made.call.by_sdk) {
        let nth = calls.iter().filter(|(name, _)| *name == made.call.name).count() as u64 + 1;
        calls.push((made.call.name, nth));
    }
    assert!(calls.len() >= 15, "{calls:?}");
    drop(quiet);
    let quick = [Fault::Throttled, Fault::ServerError, Fault::DroppedBefore, Fault::DroppedAfter, Fault::Expired];
    let slow = Fault::Slow(SHORT_PATIENCE + Duration::from_millis(500));
    let slow = calls.iter().filter(|(name, _)| SLOW.contains(&name.as_str())).map(|call| (call, slow, SHORT_PATIENCE));
    let quick = calls.iter().flat_map(|call| quick.map(|fault| (call, fault, PATIENCE)));
    let cases: Vec<_> = quick.chain(slow).collect();
    let tried = futures::stream::iter(cases.iter().map(|((name, nth), fault, patience)| {
        let (moto, patience) = (&moto, *patience);
        async move {
            let account = Account::open(moto, patience).await;
            account.emulator.plan(name, *nth, Event::Fault(*fault));
            whole_life(&account, async |held| {
                let case = format!("{name} {nth} {fault:?}");
                assert_eq!((held.instances.len(), held.roles.len(), held.profiles.len()), (1, 1, 1), "{case}");
                assert_eq!(held.doubled(), [""; 0], "{case}");
                assert_eq!((held.security_groups.len(), held.launch_templates.len()), (1, 1), "{case}");
            })
            .await;
            assert_eq!(account.emulator.unplan(), 0, "{name} {nth} was not called");
            let left = account.emulator.inventory().await;
            assert_eq!((left.instances.len(), left.roles.len(), left.profiles.len()), (0, 0, 0), "{name} {fault:?}");
        }
    }));
    tried.buffer_unordered(4).collect::<Vec<()>>().await;
}

//! Instances made real: what moto says is running has an agent that runs, as a process on an address of its
//! own, started from the instance's user data, and started again when it ends, as systemd does. Or it boots
//! ([`super::boot`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::boot::{Booted, Ground};
use super::call::Call;
use super::faults::Refusal;
use super::latency::Latency;
use super::xml::Node;
use super::{Shared, lock, userdata, xml};

const VERSION: (&str, &str) = ("Version", "2016-11-15");
/// How often dead agents are looked for.
const GLANCE: Duration = Duration::from_millis(200);
/// From being asked to end until it is killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Every instance of an account that was ever seen.
pub(crate) struct Machines {
    folder: PathBuf,
    binary: PathBuf,
    /// The name server's; instances come after it.
    first: Ipv4Addr,
    known: Mutex<BTreeMap<String, Machine>>,
    /// Where machines boot, if they do.
    ground: Option<Ground>,
}

/// What an instance is here.
enum Running {
    Agent(Child),
    Machine(Booted),
}

impl Running {
    fn process(&mut self) -> &mut Child {
        match self {
            Self::Agent(process) => process,
            Self::Machine(booted) => booted.process(),
        }
    }
}

struct Machine {
    /// Where it really is.
    address: Ipv4Addr,
    /// What moto says.
    told: Option<String>,
    seen: Instant,
    running: Option<Running>,
    /// Why its user data cannot be run.
    broken: Option<String>,
    should_run: bool,
}

impl Machines {
    pub(crate) fn new(folder: PathBuf, binary: PathBuf, first: Ipv4Addr, ground: Option<Ground>) -> Self {
        Self { folder, binary, first, known: Mutex::default(), ground }
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        lock(&self.known).values_mut().filter_map(|machine| Some(machine.running.as_mut()?.process().id())).collect()
    }

    pub(crate) fn run_on(&self, id: &str, program: &[&str]) -> io::Result<Output> {
        // Whatever it takes, it holds up nobody.
        let command = match lock(&self.known).get(id).and_then(|machine| machine.running.as_ref()) {
            Some(Running::Machine(booted)) => booted.command(program),
            _ => Err(io::Error::other(format!("{id} is no machine that runs"))),
        };
        command?.output()
    }

    /// EC2's answer with addresses that lead somewhere, and with instances that take their time.
    pub(crate) fn rewritten(&self, call: &Call, text: &str, latency: Option<&Latency>) -> String {
        let mut known = lock(&self.known);
        let mut answer = String::with_capacity(text.len());
        for (number, part) in text.split("<instanceId>").enumerate() {
            if number == 0 {
                answer.push_str(part);
                continue;
            }
            answer.push_str("<instanceId>");
            let Some((id, _)) = part.split_once("</instanceId>") else { continue };
            let next = known.len() + 1;
            let machine = known.entry(id.to_owned()).or_insert_with(|| Machine::new(address(self.first, next)));
            if let Some(told) = xml::text(part, "ipAddress") {
                machine.told = Some(told.to_owned());
            }
            let pending = latency.is_some_and(|latency| machine.seen.elapsed() < latency.pending);
            let fresh = call.operation() == "RunInstances";
            if fresh || pending {
                let part = part.replace("<code>16</code><name>running</name>", "<code>0</code><name>pending</name>");
                answer.push_str(&without(&part, "ipAddress"));
            } else {
                answer.push_str(part);
            }
        }
        for machine in known.values() {
            if let Some(told) = &machine.told {
                answer = answer.replace(&format!(">{told}<"), &format!(">{}<", machine.address));
            }
        }
        answer
    }

    /// A token whose instance is gone makes no other one.
    pub(crate) async fn terminated_since(&self, shared: &Shared, answer: &str) -> Option<Refusal> {
        let id = xml::text(answer, "instanceId")?;
        let alive =
            |found: &Described| found.id == id && !matches!(found.state.as_str(), "terminated" | "shutting-down");
        let gone = !described(shared).await.iter().any(alive);
        let message = format!("The client token was used for {id}, which is terminated.");
        gone.then(|| Refusal::new(400, "IdempotentInstanceTerminated", message))
    }

    pub(crate) fn end_all(&self) {
        for machine in lock(&self.known).values_mut() {
            machine.end();
        }
    }

    fn start_and_end(&self, latency: Option<&Latency>) {
        for (id, machine) in lock(&self.known).iter_mut() {
            let has_ended = |running: &mut Running| running.process().try_wait().is_ok_and(|status| status.is_some());
            machine.running.take_if(has_ended);
            let booted = latency.is_none_or(|latency| machine.seen.elapsed() >= latency.pending + latency.boot);
            if machine.should_run && machine.running.is_none() && machine.broken.is_none() && booted {
                match self.start(id, machine.address) {
                    Ok(running) => machine.running = Some(running),
                    Err(error) => machine.broken = Some(error.to_string()),
                }
            } else if !machine.should_run {
                machine.end();
            }
        }
    }

    fn start(&self, id: &str, address: Ipv4Addr) -> io::Result<Running> {
        let folder = self.folder.join(id);
        match &self.ground {
            Some(ground) => ground.boot(id, address, &folder).map(Running::Machine),
            None => self.spawn(&folder).map(Running::Agent),
        }
    }

    /// A process group of its own, so that what it started ends with it.
    fn spawn(&self, folder: &Path) -> io::Result<Child> {
        let log = File::options().create(true).append(true).open(folder.join("agent.log"))?;
        let inherited = ["PATH", "HOME", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        Command::new(&self.binary)
            .arg("agent")
            .arg("--dir")
            .arg(folder)
            .current_dir(folder)
            .env_clear()
            .envs(inherited)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
    }
}

impl Machine {
    fn new(address: Ipv4Addr) -> Self {
        Self { address, told: None, seen: Instant::now(), running: None, broken: None, should_run: false }
    }

    fn end(&mut self) {
        // A machine is not asked: whatever is on it is gone when it is terminated.
        let Some(Running::Agent(mut agent)) = self.running.take() else { return };
        let begun = Instant::now();
        let group = Pid::from_child(&agent);
        let _ = kill_process_group(group, Signal::TERM);
        while agent.try_wait().is_ok_and(|status| status.is_none()) {
            if begun.elapsed() > END_WITHIN {
                let _ = kill_process_group(group, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Keeps processes as moto's instances are, until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        look(&shared).await;
        // A change is looked at as soon as it is told; between changes only processes may have ended.
        while tokio::time::timeout(GLANCE, shared.changed.notified()).await.is_err() {
            let machines = Arc::clone(&shared);
            let work = move || machines.machines.start_and_end(machines.behaviour.latency.as_ref());
            drop(tokio::task::spawn_blocking(work).await);
        }
    }
}

async fn look(shared: &Arc<Shared>) {
    for Described { id, state, .. } in &described(shared).await {
        let address = lock(&shared.machines.known).get(id).map(|machine| machine.address);
        let Some(address) = address else { continue };
        let folder = shared.machines.folder.join(id);
        if state == "running" && !folder.exists() {
            let prepared = prepare(shared, id, address).await;
            if let Some(machine) = lock(&shared.machines.known).get_mut(id) {
                machine.broken = prepared.err();
            }
        }
        if let Some(machine) = lock(&shared.machines.known).get_mut(id) {
            machine.should_run = state == "running" || state == "pending";
        }
    }
    let machines = Arc::clone(shared);
    let work = move || machines.machines.start_and_end(machines.behaviour.latency.as_ref());
    drop(tokio::task::spawn_blocking(work).await);
}

/// What the user data's script leaves behind; or the user data itself, for a machine that boots.
async fn prepare(shared: &Shared, id: &str, address: Ipv4Addr) -> Result<(), String> {
    let form = [("Action", "DescribeInstanceAttribute"), VERSION, ("InstanceId", id), ("Attribute", "userData")];
    let answer = shared.ask("ec2", &form).await;
    let encoded = xml::text(&answer, "value").ok_or("the instance has no user data")?;
    let text = userdata::decoded(encoded)?;
    let folder = shared.machines.folder.join(id);
    let (name, content) = if shared.machines.ground.is_some() {
        ("user-data", text.into_bytes())
    } else {
        let file = userdata::agent_file(&text, id, address)?;
        ("agent.json", serde_json::to_vec(&file).map_err(|error| error.to_string())?)
    };
    fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(name), content)).map_err(|e| e.to_string())
}

/// An instance, as moto says.
pub(crate) struct Described {
    pub(crate) id: String,
    pub(crate) state: String,
    /// Of the ledger's row that it is tagged with.
    pub(crate) resource: String,
}

/// Every instance that moto knows, terminated ones too.
pub(crate) async fn described(shared: &Shared) -> Vec<Described> {
    let answer = shared.ask("ec2", &[("Action", "DescribeInstances"), VERSION]).await;
    let root = Node::read(&answer);
    let instances = root.list("reservationSet").iter().flat_map(|reservation| reservation.list("instancesSet"));
    instances
        .map(|instance| {
            let tag = instance.list("tagSet").iter().find(|tag| tag.of("key") == "stackpro:resource");
            Described {
                id: instance.of("instanceId").to_owned(),
                state: instance.child("instanceState").map_or("", |state| state.of("name")).to_owned(),
                resource: tag.map_or("", |tag| tag.of("value")).to_owned(),
            }
        })
        .collect()
}

/// The one so many after the first.
fn address(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + number as u32)
}

/// Without any element of this name.
fn without(xml: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut parts = xml.split(&open);
    let mut left = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        left.push_str(part.split_once(&close).map_or("", |(_, after)| after));
    }
    left
}

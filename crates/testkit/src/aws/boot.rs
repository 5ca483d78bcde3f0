//! Instances that boot: a root made of Debian's packages, namespaces instead of hardware, systemd as process 1,
//! cloud-init that finds its user data where EC2 has it, and whatever the user data's script installs and starts.
//! `crates/testkit/machine` has the programs for it, which need root.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::task::JoinHandle;

use super::metadata::{self, Metadata};

/// The network on which an account's machines and everything else of its world are, and the root that they have.
pub(crate) struct Ground {
    root: PathBuf,
    bridge: String,
    /// The bridge's own.
    pub(crate) first: Ipv4Addr,
}

/// A machine that was switched on. Dropping it pulls the plug.
pub(crate) struct Booted {
    process: Child,
    namespace: String,
    metadata: JoinHandle<()>,
}

impl Ground {
    /// On a network of this machine that nobody uses.
    pub(crate) fn open(root: &Path) -> Self {
        let start: u8 = rand::random_range(1..250);
        for third in (start..250).chain(1..start) {
            let ground =
                Self { root: root.to_owned(), bridge: format!("sp-{third}"), first: Ipv4Addr::new(10, 213, third, 1) };
            if ip(&["link", "add", &ground.bridge, "type", "bridge"]).is_ok() {
                let address = format!("{}/24", ground.first);
                ip(&["address", "add", &address, "dev", &ground.bridge]).expect("the bridge's address");
                ip(&["link", "set", &ground.bridge, "up"]).expect("the bridge");
                return ground;
            }
        }
        panic!("no bridge can be made: machines boot for root alone, with iproute2 (./test aws brings it)");
    }

    /// Switches a machine on at this address, with what it writes in this folder.
    pub(crate) fn boot(&self, id: &str, address: Ipv4Addr, folder: &Path) -> io::Result<Booted> {
        let namespace = format!("{}-{}", self.bridge, address.octets()[3]);
        let service = service_of(&namespace);
        for name in [&namespace, &service] {
            drop(ip(&["netns", "delete", name]));
            ip(&["netns", "add", name])?;
            ip(&["-netns", name, "link", "set", "lo", "up"])?;
        }
        let machine = |arguments: &[&str]| ip(&[&["-netns", namespace.as_str()], arguments].concat());
        ip(&["link", "add", &namespace, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["link", "set", &namespace, "master", &self.bridge, "up"])?;
        machine(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        machine(&["link", "set", "eth0", "up"])?;
        machine(&["route", "add", "default", "via", &self.first.to_string()])?;
        // Its metadata service is of no other's world, and takes none of its ports.
        let beside = |arguments: &[&str]| ip(&[&["-netns", service.as_str()], arguments].concat());
        beside(&["link", "add", "eth0", "type", "veth", "peer", "name", "metadata", "netns", &namespace])?;
        let there = metadata::ADDRESS.ip().to_string();
        beside(&["address", "add", &there, "dev", "eth0"])?;
        beside(&["link", "set", "eth0", "up"])?;
        beside(&["route", "add", &address.to_string(), "dev", "eth0"])?;
        machine(&["link", "set", "metadata", "up"])?;
        machine(&["route", "add", &there, "dev", "metadata", "src", &address.to_string()])?;
        let listener = tokio::net::TcpListener::from_std(listen_within(&service, metadata::ADDRESS)?)?;
        let metadata = Metadata { id: id.to_owned(), address, user_data: fs::read(folder.join("user-data"))? };
        let metadata = tokio::spawn(metadata::serve(listener, metadata));
        let log = File::options().create(true).append(true).open(folder.join("boot.log"))?;
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("machine/boot"));
        command.arg(&self.root).arg(folder).arg(&namespace);
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Booted { process, namespace, metadata })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        drop(ip(&["link", "delete", &self.bridge]));
    }
}

impl Booted {
    pub(crate) fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// How to run a program on the machine.
    pub(crate) fn command(&self, program: &[&str]) -> io::Result<Command> {
        let parent = self.process.id();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let init = children.split_whitespace().next().ok_or_else(|| io::Error::other("the machine is off"))?;
        let mut command = Command::new("nsenter");
        command.args(["--target", init, "--all", "--"]).args(program).stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        self.metadata.abort();
        drop(ip(&["netns", "delete", &self.namespace]));
        drop(ip(&["netns", "delete", &service_of(&self.namespace)]));
        // Its processes are killed, and take a moment to be gone.
        let found = format!(r"find /sys/fs/cgroup -depth -type d -regex '.*/{}\(/.*\)?'", self.namespace);
        let groups = format!("until {found} -exec rmdir {{}} + 2>/dev/null; do sleep 0.1; done");
        drop(Command::new("timeout").args(["5", "sh", "-c", &groups]).status());
    }
}

/// Where the metadata service of a machine is.
fn service_of(namespace: &str) -> String {
    format!("{namespace}-m")
}

/// A socket belongs to the namespace of the thread that opens it, wherever it is used.
fn listen_within(namespace: &str, address: SocketAddr) -> io::Result<TcpListener> {
    use std::os::fd::AsFd;
    let namespace = File::open(Path::new("/run/netns").join(namespace))?;
    let listen = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    std::thread::spawn(listen).join().map_err(|_| io::Error::other("the thread died"))?
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {arguments:?}: {said}"))) }
}

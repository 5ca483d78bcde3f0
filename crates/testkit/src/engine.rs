//! An engine of the tests' own, with images of Debian's packages: what `./test recipes` made in
//! `target/tools/images`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Podman, served on a socket for as long as anyone asks it something.
pub struct Engine;

impl Engine {
    /// The socket. The service ends by itself when nobody has asked it anything for a minute.
    #[allow(clippy::zombie_processes)] // The test ends first, and with it whoever could wait.
    pub fn socket() -> &'static Path {
        static SOCKET: OnceLock<PathBuf> = OnceLock::new();
        SOCKET.get_or_init(|| {
            let path = folder().join(format!("engine-{}.sock", std::process::id()));
            let _ = std::fs::remove_file(&path);
            let log = std::fs::File::create(folder().join("service.log")).expect("the service's log");
            let address = format!("unix://{}", path.display());
            let mut service = command(&["system", "service", "--time=60", &address]);
            service.stdout(Stdio::null()).stderr(log).spawn().expect("podman: run ./test recipes, which installs it");
            let began = Instant::now();
            while UnixStream::connect(&path).is_err() {
                assert!(began.elapsed() < Duration::from_secs(20), "podman's service does not start: see its log");
                std::thread::sleep(Duration::from_millis(20));
            }
            path
        })
    }

    /// The Compose program.
    pub fn compose() -> PathBuf {
        let program = folder().join("../compose/docker-compose");
        program.canonicalize().expect("Compose: run ./test recipes, which brings it")
    }

    /// Runs podman. Panics when it fails.
    pub fn podman(args: &[&str]) -> String {
        Self::try_podman(args).unwrap_or_else(|error| panic!("podman {args:?}: {error}"))
    }

    pub fn try_podman(args: &[&str]) -> Result<String, String> {
        let output = command(args).output().expect("podman: run ./test recipes, which installs it");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Containers that have such a label.
    pub fn containers(label: &str) -> Vec<String> {
        Self::listed(&["ps", "--all", "--no-trunc"], label)
    }

    /// Networks that have such a label.
    pub fn networks(label: &str) -> Vec<String> {
        Self::listed(&["network", "ls"], label)
    }

    /// The container of one of a client's services, at one agent.
    pub fn container(client: &str, agent: &str, service: &str) -> String {
        let labels = [("stackpro.client", client), ("stackpro.agent", agent), ("docker.compose.service", service)];
        let labels = labels.map(|(name, value)| format!("label=com.{name}={value}"));
        let filters = labels.iter().flat_map(|label| ["--filter", label]);
        Self::podman(&["ps", "--all", "--quiet"].into_iter().chain(filters).collect::<Vec<_>>())
    }

    fn listed(what: &[&str], label: &str) -> Vec<String> {
        let label = format!("label={label}");
        let args: Vec<&str> = what.iter().copied().chain(["--quiet", "--filter", &label]).collect();
        Self::podman(&args).lines().map(str::to_owned).collect()
    }

    /// Ends and removes everything that has such a label.
    pub fn remove(label: &str) {
        // Each may go by itself at this moment; what matters is that it is gone.
        for container in Self::containers(label) {
            let _ = Self::try_podman(&["rm", "--force", "--time=0", &container]);
        }
        for network in Self::networks(label) {
            let _ = Self::try_podman(&["network", "rm", "--force", &network]);
        }
    }
}

/// Where `crates/agent/tests/engine/images/build` has put everything.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/images");
    assert!(folder.join("storage.conf").exists(), "no images: run ./test recipes, which makes them");
    folder.canonicalize().expect("the folder of images")
}

fn command(args: &[&str]) -> Command {
    let (folder, mut command) = (folder(), Command::new("podman"));
    // What conmon leaves in its working folder belongs there, too.
    command.args(args).stdin(Stdio::null()).current_dir(folder.join("tmp"));
    command.env("CONTAINERS_CONF", folder.join("containers.conf"));
    command.env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"));
    command
}

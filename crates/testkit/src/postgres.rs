//! A throw-away PostgreSQL: one cluster for each test process, one database for each test.
//!
//! The cluster listens on a socket in a folder of its own, keeps nothing safe (`fsync=off`), and is stopped
//! and removed when the test process ends, however it ends: its keeper, a shell, waits for the end of its
//! input, which we hold open.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct Cluster {
    bin: PathBuf,
    /// Where its socket is.
    folder: String,
    /// Holds the keeper's input open until this process is gone.
    _keeper: Child,
}

/// Makes an empty database and returns its address: `postgres://…`.
///
/// # Panics
/// When PostgreSQL is not installed, or does not start: a test that needs it has failed then.
pub async fn database() -> String {
    tokio::task::spawn_blocking(create).await.unwrap_or_else(|error| panic!("no PostgreSQL database: {error}"))
}

fn create() -> String {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let cluster = CLUSTER.get_or_init(start);
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let made = Command::new(cluster.bin.join("createdb"))
        .args(["--host", &cluster.folder, "--username", "postgres", "--no-password", &name])
        .output()
        .unwrap_or_else(|error| panic!("createdb cannot be run: {error}"));
    assert!(made.status.success(), "createdb failed: {}", String::from_utf8_lossy(&made.stderr));
    format!("postgres://postgres@localhost/{name}?host={}", cluster.folder)
}

/// Prints the folder once the server answers; stops it and removes the folder at the end of the input.
const KEEPER: &str = r#"
set -e
trap '' INT TERM HUP
folder=$(mktemp -d "${TMPDIR:-/tmp}/stackpro-pg.XXXXXX")
cd "$folder"
trap 'kill -QUIT "$server" 2>/dev/null; wait; cd /; rm -rf "$folder"' EXIT
"$1/initdb" -D data -A trust -U postgres -E UTF8 --locale=C --no-sync >log 2>&1 || { cat log >&2; exit 1; }
"$1/postgres" -D data -k "$folder" -c listen_addresses= -c fsync=off -c synchronous_commit=off \
    -c full_page_writes=off -c max_connections=300 -c shared_buffers=64MB >>log 2>&1 </dev/null &
server=$!
tries=0
until "$1/pg_isready" -q -h "$folder" -U postgres; do
    tries=$((tries + 1))
    kill -0 "$server" 2>/dev/null && [ "$tries" -lt 300 ] || { cat log >&2; exit 1; }
    sleep 0.05
done
echo "$folder"
read -r end || true
"#;

fn start() -> Cluster {
    let bin = find();
    // PostgreSQL refuses to run as root.
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    let mut keeper = command
        .args(["-c", KEEPER, "keeper"])
        .arg(&bin)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("PostgreSQL cannot be started: {error}"));
    let mut folder = String::new();
    if let Some(output) = keeper.stdout.take() {
        BufReader::new(output)
            .read_line(&mut folder)
            .unwrap_or_else(|error| panic!("PostgreSQL's keeper cannot be read: {error}"));
    }
    let folder = folder.trim().to_owned();
    assert!(!folder.is_empty(), "PostgreSQL did not start; its log is above");
    Cluster { bin, folder, _keeper: keeper }
}

/// Debian keeps the server's programs off the `PATH`.
fn find() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).filter(|bin| has(bin)).collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found
        .pop()
        .or_else(|| std::env::split_paths(&path).find(|bin| has(bin)))
        .unwrap_or_else(|| panic!("PostgreSQL is not installed (no initdb found): run ./test, which installs it"))
}

fn has(bin: &Path) -> bool {
    ["initdb", "postgres", "createdb", "pg_isready"].iter().all(|name| bin.join(name).is_file())
}

//! A `moto_server` of a test's own.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Python on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// An emulator with nothing in it, which ends with this value, or with this process however that ends.
pub struct Moto {
    /// A shell that holds moto. It waits for its input to end, and then ends moto.
    shell: Child,
    /// `http://127.0.0.1:41237`
    pub endpoint: String,
}

impl Moto {
    /// Blocks until it listens.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With variables of moto's in its environment, as `MOTO_ENABLE_AMI_VALIDATION`.
    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        const HOLD: &str = r#""$0" -H 127.0.0.1 -p 0 & moto=$!; read -r _; kill "$moto"; wait "$moto""#;
        let program = program();
        let mut shell = Command::new("sh")
            .args(["-c", HOLD])
            .arg(&program)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let told = BufReader::new(shell.stderr.take().expect("its errors are piped"));
        let (found, endpoint) = mpsc::channel();
        // Reads on to the end, so that moto never waits for a reader.
        std::thread::spawn(move || {
            let mut said = String::new();
            for line in told.lines().map_while(Result::ok) {
                match line.split_once(" * Running on ") {
                    Some((_, endpoint)) => drop(found.send(Ok(endpoint.trim().to_owned()))),
                    None if said.len() < 4000 => said.extend([&line, "\n"]),
                    None => {}
                }
            }
            drop(found.send(Err(said)));
        });
        let program = program.display();
        let endpoint = match endpoint.recv_timeout(PATIENCE) {
            Ok(Ok(endpoint)) => endpoint,
            Ok(Err(said)) => panic!("{program} ended at once, and said:\n{said}"),
            Err(error) => panic!("{program} did not listen within {PATIENCE:?}: {error}"),
        };
        Self { shell, endpoint }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().ok();
    }
}

/// `STACKPRO_MOTO` says where it is; otherwise what `./test` installed, or what is on the path.
fn program() -> PathBuf {
    if let Some(program) = env::var_os("STACKPRO_MOTO") {
        return program.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/python/bin/moto_server");
    let path = env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(installed).chain(env::split_paths(&path).map(|folder| folder.join("moto_server")));
    places.into_iter().find(|place| place.is_file()).expect(
        "moto_server is missing. `./test aws` installs it; or: python3 -m venv target/tools/python && \
         target/tools/python/bin/pip install 'moto[server]==5.2.*'; or set STACKPRO_MOTO to where it is",
    )
}

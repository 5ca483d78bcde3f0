//! What an instance makes of its user data: the real script, on a folder instead of a machine, with a release and
//! a metadata service that speak HTTP. The package manager and systemd only say what they were asked for.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use aws_sdk_ec2::types::InstanceAttributeName;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use stackpro_cloud::{CloudError, Compute, LaunchSpec, Roles, Tags};
use stackpro_cloud_aws::{AwsSettings, Ec2, Iam, Release};

use crate::moto::Moto;

/// A release, and the instance's metadata beside it.
struct World {
    endpoint: String,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Among the files: who told the control plane that a setup fails, and its log.
const TOLD: &str = "told";

type Shared = (Arc<Mutex<HashMap<String, Vec<u8>>>>, Arc<Mutex<Vec<String>>>);

async fn answer(State((files, asked)): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    asked.lock().unwrap().push(path.clone());
    let has_token = request.headers().get("x-aws-ec2-metadata-token").is_some_and(|token| token == "a-token");
    match (request.method().as_str(), path.as_str()) {
        ("PUT", "/latest/api/token") if request.headers().contains_key("x-aws-ec2-metadata-token-ttl-seconds") => {
            "a-token".into_response()
        }
        (_, path) if path.starts_with("/latest/") && !has_token => StatusCode::UNAUTHORIZED.into_response(),
        ("POST", "/api/agents/setup-failed") => {
            let by = request.headers()["authorization"].to_str().unwrap().to_owned();
            let log = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let told = [by.as_bytes(), b"\n", &log].concat();
            files.lock().unwrap().insert(TOLD.into(), told);
            StatusCode::NO_CONTENT.into_response()
        }
        ("GET", "/latest/meta-data/instance-id") => "i-0123456789abcdef0".into_response(),
        ("GET", "/latest/meta-data/public-ipv4") => "203.0.113.9".into_response(),
        (_, path) => match files.lock().unwrap().get(path) {
            Some(content) => content.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

fn sum(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

impl World {
    async fn open() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (files, asked) = (Arc::default(), Arc::default());
        let router = Router::new().fallback(answer).with_state((Arc::clone(&files), Arc::clone(&asked)));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, files, asked }
    }

    /// Publishes these, and says how an operator names them.
    fn publish(&self, version: &str, files: &[(&str, &str)]) -> Release {
        let line = |(name, content): &(&str, &str)| format!("{}  {name}\n", sum(content.as_bytes()));
        let sums = files.iter().map(line).collect::<Vec<_>>().concat();
        let mut published = self.files.lock().unwrap();
        for (name, content) in files.iter().chain(&[("SHA256SUMS", sums.as_str())]) {
            published.insert(format!("/{version}/{name}"), content.as_bytes().to_vec());
        }
        Release { url: format!("{}/{version}", self.endpoint), sha256: sum(sums.as_bytes()) }
    }

    fn downloads(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| !path.starts_with("/latest/")).count()
    }
}

/// A folder that the script takes for a machine.
struct Machine {
    root: tempfile::TempDir,
    metadata: String,
}

impl Machine {
    /// As cloud-init leaves it after `write_files`.
    fn boot(config: &Value, metadata: &str) -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap(), metadata: metadata.to_owned() };
        for file in config["write_files"].as_array().unwrap() {
            assert_eq!(file["owner"], "root:root");
            let path = machine.path(file["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file["content"].as_str().unwrap()).unwrap();
            let mode = u32::from_str_radix(file["permissions"].as_str().unwrap(), 8).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        for program in ["dnf", "systemctl"] {
            let path = machine.path("/tools").join(program);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\necho {program} \"$@\" >>'{}'\n", machine.path("/asked").display()))
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// As the unit of systemd does it.
    async fn setup(&self) -> Output {
        let environment = fs::read_to_string(self.path("/etc/stackpro/setup.env")).unwrap();
        let mut command = Command::new(self.path("/usr/local/sbin/stackpro-setup"));
        command
            .env_clear()
            .envs(environment.lines().filter_map(|line| line.split_once('=')))
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("/tools").display()))
            .env("METADATA_URL", &self.metadata)
            .env("STACKPRO_ROOT", self.root.path());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.path(path)).unwrap().permissions().mode() & 0o777
    }
}

fn settings(release: Option<Release>) -> AwsSettings {
    AwsSettings { release, ..AwsSettings::new("test", "stackpro.test", "https://console.stackpro.test") }
}

fn spec() -> LaunchSpec {
    LaunchSpec {
        token: "launch-r1".into(),
        instance_type: "t3.micro".into(),
        role: "test-r1".into(),
        enrol_token: "an-enrolment's \"token\"".into(),
        tags: Tags { resource_id: "r1".into(), client_id: None },
    }
}

/// The user data of an instance launched for this release, as EC2 keeps it.
async fn launched(release: Release) -> Value {
    launched_with(settings(Some(release))).await
}

async fn launched_with(settings: AwsSettings) -> Value {
    let moto = Moto::start();
    let aws = moto.aws_with(settings).await;
    Iam::new(&aws).create("test-r1", &spec().tags).await.unwrap();
    let made = Ec2::new(&aws).launch(&spec()).await.unwrap();
    let raw = aws_sdk_ec2::Client::new(aws.sdk());
    let request = raw.describe_instance_attribute().instance_id(made.id.as_str());
    let answer = request.attribute(InstanceAttributeName::UserData).send().await.unwrap();
    let encoded = answer.user_data().unwrap().value().unwrap();
    let text = String::from_utf8(aws_smithy_types::base64::decode(encoded).unwrap()).unwrap();
    serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap()
}

fn agents() -> Vec<(&'static str, &'static str)> {
    let machine = std::env::consts::ARCH;
    match machine {
        "x86_64" => vec![("stackpro-x86_64", "the agent"), ("docker-compose-x86_64", "compose")],
        "aarch64" => vec![("stackpro-aarch64", "the agent"), ("docker-compose-aarch64", "compose")],
        other => panic!("no instance is a {other}"),
    }
}

#[tokio::test]
async fn an_instance_installs_its_agent_and_tells_it_what_it_is() {
    let world = World::open().await;
    let config = launched(world.publish("1", &agents())).await;
    assert_eq!(config["runcmd"].as_array().unwrap().last().unwrap()[1], "start");
    let machine = Machine::boot(&config, &world.endpoint);
    for round in 0..2 {
        let done = machine.setup().await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let agent: Value =
            serde_json::from_slice(&fs::read(machine.path("/var/lib/stackpro/agent.json")).unwrap()).unwrap();
        let expected = json!({
            "instanceId": "i-0123456789abcdef0",
            "serverUrl": "https://console.stackpro.test",
            "enrolToken": "an-enrolment's \"token\"",
            "front": "203.0.113.9:443",
            "control": "203.0.113.9:443",
            "public": { "http": "0.0.0.0:80", "https": "0.0.0.0:443" },
            "reportSeconds": 10,
        });
        assert_eq!(agent, expected);
        assert_eq!(world.downloads(), 3, "round {round}: what is there is not fetched again");
    }
    assert_eq!(fs::read(machine.path("/usr/local/bin/stackpro")).unwrap(), b"the agent");
    assert_eq!([machine.mode("/usr/local/bin/stackpro"), machine.mode("/usr/local/bin/docker-compose")], [0o755; 2]);
    // The token is nobody's to read but root's.
    for secret in ["/etc/stackpro/agent.json.in", "/var/lib/stackpro/agent.json"] {
        assert_eq!(machine.mode(secret), 0o600, "{secret}");
    }
    let asked = fs::read_to_string(machine.path("/asked")).unwrap();
    assert!(asked.contains("systemctl enable --quiet --now docker"), "{asked}");
    // What the units start is what was written and installed.
    let unit = |name: &str| fs::read_to_string(machine.path(&format!("/etc/systemd/system/{name}.service"))).unwrap();
    assert!(unit("stackpro-setup").contains("ExecStart=/usr/local/sbin/stackpro-setup\n"));
    assert!(unit("stackpro-agent").contains("ExecStart=/usr/local/bin/stackpro agent --dir /var/lib/stackpro\n"));
}

#[tokio::test]
async fn nothing_is_installed_that_is_not_what_the_operator_named() {
    let world = World::open().await;
    let release = world.publish("1", &agents());
    let config = launched(release.clone()).await;
    let program = format!("/1/stackpro-{}", std::env::consts::ARCH);
    let installs = async |world: &World| {
        let machine = Machine::boot(&config, &world.endpoint);
        let done = machine.setup().await;
        let installed = machine.path("/usr/local/bin/stackpro").exists();
        assert_eq!(installed, done.status.success());
        assert_eq!(Path::exists(&machine.path("/var/lib/stackpro/agent.json")), done.status.success());
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    // Whoever can write to the folder, but not to the settings.
    let set = |path: &str, content: &str| world.files.lock().unwrap().insert(path.to_owned(), content.into()).unwrap();
    let honest = set(&program, "another agent");
    let (installed, said) = installs(&world).await;
    assert!(!installed && said.contains("is not what its checksum says"), "{said}");
    let sums = set("/1/SHA256SUMS", &format!("{}  {}\n", sum(b"another agent"), &program[3..]));
    let (installed, said) = installs(&world).await;
    assert!(!installed && said.contains("is not the one that this instance was launched for"), "{said}");
    world.files.lock().unwrap().extend([(program, honest), ("/1/SHA256SUMS".to_owned(), sums)]);
    assert!(installs(&world).await.0);
}

#[tokio::test]
async fn a_setup_that_fails_tells_its_log_to_the_control_plane() {
    let world = World::open().await;
    let release = world.publish("1", &agents());
    let config =
        launched_with(AwsSettings { server_url: world.endpoint.clone(), ..settings(Some(release.clone())) }).await;
    let machine = Machine::boot(&config, &world.endpoint);
    assert_eq!(machine.mode("/etc/stackpro/report.curl"), 0o600);
    let compose = format!("/1/docker-compose-{}", std::env::consts::ARCH);
    let kept = world.files.lock().unwrap().remove(&compose).unwrap();
    assert!(!machine.setup().await.status.success());
    let told = String::from_utf8(world.files.lock().unwrap().remove(TOLD).unwrap()).unwrap();
    assert!(told.starts_with("Bearer an-enrolment's \"token\"\n"), "{told}");
    assert!(told.contains("stackpro-setup: installed stackpro-") && told.contains("404"), "{told}");

    world.files.lock().unwrap().insert(compose, kept);
    assert!(machine.setup().await.status.success());
    assert!(!world.files.lock().unwrap().contains_key(TOLD), "there is nothing to tell");
}

/// By cloud-init's own program: what it calls valid, it understands.
#[tokio::test]
async fn cloud_init_calls_the_user_data_valid() {
    let world = World::open().await;
    let config = launched(world.publish("1", &agents())).await;
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let valid = |config: &Value| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("#cloud-config\n{config}\n")).unwrap();
        let mut command = Command::new(tools.join("python/bin/python"));
        command.args(["-m", "cloudinit.cmd.main", "schema", "--config-file"]).arg(file.path());
        command.env("PYTHONPATH", tools.join("cloud-init/usr/lib/python3/dist-packages"));
        let done = command.output().expect("cloud-init, which ./test aws unpacks");
        (done.status.success(), [done.stdout, done.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()))
    };
    let (is_valid, said) = valid(&config);
    assert!(is_valid && said[0].contains("Valid"), "{said:?}");
    let mut wrong = config;
    wrong["write_files"][0]["permissions"] = json!(600);
    let (is_valid, said) = valid(&wrong);
    assert!(!is_valid && said.concat().contains("permissions"), "{said:?}");
}

#[tokio::test]
async fn without_a_release_nothing_is_launched() {
    let moto = Moto::start();
    let good = Release { url: "https://releases.example/1".into(), sha256: "0".repeat(64) };
    for (release, part) in [
        (None, "STACKPRO_RELEASE_URL"),
        (Some(Release { url: "https://x.example/$(id)".into(), ..good.clone() }), "STACKPRO_RELEASE_URL"),
        (Some(Release { url: "file:///etc".into(), ..good.clone() }), "STACKPRO_RELEASE_URL"),
        (Some(Release { sha256: "latest".into(), ..good }), "STACKPRO_RELEASE_SHA256"),
    ] {
        let aws = moto.aws_with(settings(release)).await;
        let refused = Ec2::new(&aws).launch(&spec()).await.unwrap_err();
        assert!(matches!(&refused, CloudError::Refused { cause, .. } if cause.contains(part)), "{refused}");
    }
}

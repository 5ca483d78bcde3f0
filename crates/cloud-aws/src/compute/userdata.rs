//! What makes an instance ours at its first boot: cloud-init's user data. It is small: files, and two units of
//! systemd; what is installed comes from the operator's release, each file checked by its checksum
//! (`setup.sh`).

use serde_json::{Value, json};
use stackpro_cloud::{CloudError, LaunchSpec, Result};

use crate::AwsSettings;
use crate::settings::Release;

const CALL: &str = "ec2.RunInstances";
const SETUP: &str = include_str!("setup.sh");
/// Of user data, before it is encoded. Amazon EC2 User Guide, "Run commands when you launch an EC2 instance with
/// user data input": <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html>
const LIMIT_BYTES: usize = 16 * 1024;
const REPORT_SECONDS: u64 = 10;

/// Installs before the agent starts, at every boot; what fails is tried again.
const SETUP_UNIT: &str = "[Unit]
Description=Installs StackPro's agent
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/stackpro/setup.env
ExecStart=/usr/local/sbin/stackpro-setup
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
";

const AGENT_UNIT: &str = "[Unit]
Description=StackPro's agent
After=stackpro-setup.service docker.service
Requires=stackpro-setup.service

[Service]
ExecStart=/usr/local/bin/stackpro agent --dir /var/lib/stackpro
Restart=always
RestartSec=1
# What runs in containers outlives it.
KillMode=process

[Install]
WantedBy=multi-user.target
";

/// The same for the same launch, so that a launch may be asked for again with its token. A cloud-config is YAML,
/// which all JSON is.
pub(super) fn user_data(settings: &AwsSettings, spec: &LaunchSpec) -> Result<String> {
    let refused = |cause: String| CloudError::Refused { call: CALL, cause };
    let Some(release) = &settings.release else {
        return Err(refused("it is not known what instances install: set STACKPRO_RELEASE_URL".into()));
    };
    check(release).map_err(refused)?;
    let file = |path: &str, permissions: &str, content: &str| json!({ "path": path, "owner": "root:root", "permissions": permissions, "content": content });
    let environment = format!("RELEASE_URL={}\nRELEASE_SHA256={}\n", release.url.trim_end_matches('/'), release.sha256);
    let config = json!({
        "write_files": [
            file("/etc/stackpro/agent.json.in", "0600", &agent(settings, spec).to_string()),
            file("/etc/stackpro/setup.env", "0600", &environment),
            file("/etc/stackpro/report.curl", "0600", &report(settings, spec)),
            file("/usr/local/sbin/stackpro-setup", "0700", SETUP),
            file("/etc/systemd/system/stackpro-setup.service", "0644", SETUP_UNIT),
            file("/etc/systemd/system/stackpro-agent.service", "0644", AGENT_UNIT),
        ],
        "runcmd": [
            ["systemctl", "daemon-reload"],
            // Whoever waits for both would wait as long as the setup fails.
            ["systemctl", "enable", "stackpro-setup.service", "stackpro-agent.service"],
            ["systemctl", "start", "--no-block", "stackpro-setup.service", "stackpro-agent.service"],
        ],
    });
    let text = format!("#cloud-config\n{config}\n");
    if text.len() > LIMIT_BYTES {
        return Err(refused(format!("the user data is {} bytes long, and {LIMIT_BYTES} are allowed", text.len())));
    }
    Ok(text)
}

/// What the agent is told, but for what only the instance knows.
fn agent(settings: &AwsSettings, spec: &LaunchSpec) -> Value {
    json!({
        "instanceId": "@ID@",
        "serverUrl": settings.server_url,
        "enrolToken": spec.enrol_token,
        "front": "@ADDRESS@:443",
        "control": "@ADDRESS@:443",
        "public": { "http": "0.0.0.0:80", "https": "0.0.0.0:443" },
        "reportSeconds": REPORT_SECONDS,
    })
}

/// How curl says that the setup fails. Its quotes are JSON's.
fn report(settings: &AwsSettings, spec: &LaunchSpec) -> String {
    let url = json!(format!("{}/api/agents/setup-failed", settings.server_url.trim_end_matches('/')));
    let header = json!(format!("Authorization: Bearer {}", spec.enrol_token));
    format!("url = {url}\nheader = {header}\nheader = \"Content-Type: text/plain\"\n")
}

/// Both are read by a shell.
pub(super) fn check(release: &Release) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/".contains(c);
    if !(release.url.starts_with("https://") || release.url.starts_with("http://")) || !release.url.chars().all(plain) {
        return Err(format!("STACKPRO_RELEASE_URL is {:?}, which is no plain https:// address", release.url));
    }
    if release.sha256.len() != 64 || !release.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        let what = "STACKPRO_RELEASE_SHA256 is not a SHA-256: it is what `sha256sum SHA256SUMS` prints in the release";
        return Err(what.into());
    }
    Ok(())
}

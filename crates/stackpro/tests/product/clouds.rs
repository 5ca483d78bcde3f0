//! Which clouds this build has.

use std::process::Command;

#[test]
fn a_build_without_aws_says_so() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackpro"));
    command.args(["serve", "--cloud", "aws", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    let output = command.env_clear().current_dir(data.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--features aws"), "{said}");
}

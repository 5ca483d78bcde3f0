//! What a server on AWS cannot do without is said at once, by the name of the setting.

use std::process::Command;

use crate::site::BINARY;

/// Everything that is needed, with `change` made to it; what the start said.
fn refused(change: (&str, Option<&str>)) -> String {
    let data = tempfile::tempdir().unwrap();
    let settings = [
        ("STACKPRO_PUBLIC_URL", "https://console.stackpro.test"),
        ("CLIENT_DOMAIN", "stackpro.test"),
        ("STRIPE_SECRET_KEY", "sk_test_nobody_pays_here"),
        ("STACKPRO_ACME", "true"),
    ];
    let mut command = Command::new(BINARY);
    command.args(["serve", "--cloud", "aws", "--listen", "127.0.0.1:0", "--data"]).arg(data.path());
    command.env_clear().current_dir(data.path());
    command.envs(settings.into_iter().filter(|(name, _)| *name != change.0));
    command.envs(change.1.map(|value| (change.0, value)));
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{change:?}: it started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_missing_is_named() {
    let cases = [
        (("STACKPRO_PUBLIC_URL", None), "STACKPRO_PUBLIC_URL is not set"),
        (("STACKPRO_PUBLIC_URL", Some("https://console.stackpro.test:8443")), "own port"),
        (("CLIENT_DOMAIN", None), "CLIENT_DOMAIN is stackpro.localhost"),
        (("STRIPE_SECRET_KEY", None), "STRIPE_SECRET_KEY is not set"),
        (("STACKPRO_ACME", None), "STACKPRO_ACME=true"),
        (("STACKPRO_RELEASE_URL", Some("https://releases.stackpro.test/1")), "STACKPRO_RELEASE_SHA256"),
    ];
    for (change, expected) in cases {
        let said = refused(change);
        assert!(said.contains(expected), "{change:?}: {said}");
    }
}

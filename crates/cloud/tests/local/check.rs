use std::fs;
use std::net::UdpSocket;

use super::{Home, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cloud_passes_also_beside_a_running_server() {
    let home = Home::new();
    home.local.cloud().compute.launch(&spec("a")).await.unwrap();
    let server = home.local.serve_dns(0).await.unwrap();
    for port in [0, server.address().port()] {
        for (name, found) in home.local.check(port) {
            assert!(found.is_ok(), "{name}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    let home = Home::with(|settings| settings.program = "/nowhere/stackpro".into());
    let made = home.again().cloud().compute.launch(&spec("a")).await.unwrap();
    let tombstone = home.local.folder().join(format!("terminated/{}.json", made.id));
    fs::copy(home.instance(&made.id).join("instance.json"), tombstone).unwrap();
    let foreign = UdpSocket::bind("127.0.0.1:0").unwrap();
    let checks = home.local.check(foreign.local_addr().unwrap().port());
    let wrong: Vec<_> = checks.into_iter().filter(|(_, found)| found.is_err()).map(|(name, _)| name).collect();
    assert_eq!(wrong, ["agent program", "name server's port", "instances"]);
}

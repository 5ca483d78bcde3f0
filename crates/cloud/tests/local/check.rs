use std::fs;
use std::net::UdpSocket;

use stackpro_cloud::{Check, Checks};

use super::{Home, spec};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_cloud_passes_also_beside_a_running_server() {
    let home = Home::new();
    home.local.cloud().compute.launch(&spec("a")).await.unwrap();
    let server = home.local.serve_dns().await.unwrap();
    for port in [0, server.address().port()] {
        for check in home.on_dns_port(port).all().await {
            assert!(check.found.is_ok(), "{check:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    let foreign = UdpSocket::bind("127.0.0.1:0").unwrap();
    let home = Home::with(|settings| {
        settings.program = "/nowhere/stackpro".into();
        settings.dns_port = foreign.local_addr().unwrap().port();
    });
    let made = home.again().cloud().compute.launch(&spec("a")).await.unwrap();
    let tombstone = home.local.folder().join(format!("terminated/{}.json", made.id));
    fs::copy(home.instance(&made.id).join("instance.json"), tombstone).unwrap();
    let wrong = |checks: Vec<Check>| -> Vec<String> {
        checks.into_iter().filter(|check| check.found.is_err()).map(|check| check.name).collect()
    };
    assert_eq!(wrong(home.local.before_launch().await), ["agent program"]);
    assert_eq!(wrong(home.local.all().await), ["agent program", "name server's port", "instances"]);
}

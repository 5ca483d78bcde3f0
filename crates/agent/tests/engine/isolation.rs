//! One client's programs and another's.

use crate::stacks::*;
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_its_own_services_and_nobody_elses() {
    let (server, _) = control_plane().await;
    let agent = EngineAgent::start(&server).await;
    let (one, other) = (stack("acme-law-7f3k", "plain"), stack("rival-inc-9x2m", "wordpress"));
    agent.put_stack(&one).await;
    agent.put_stack(&other).await;
    agent.answers(&one, "/").await;
    agent.answers(&other, "/wp-login.php").await;
    let connect = async |to: &str| agent.get(&one, &format!("/connect?to={to}")).await.1;
    let address = |spec, service| {
        let container = agent.container(spec, service);
        podman(&["inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &container])
    };
    // Its own, so that what follows proves something.
    assert_eq!(connect("web:80").await, "connected");
    assert_eq!(connect(&format!("{}:80", address(&one, "web"))).await, "connected");
    let (web, db) = (address(&other, "wordpress"), address(&other, "db"));
    for to in [format!("{db}:3306"), format!("{web}:80"), "db:3306".into(), "wordpress:80".into()] {
        let answer = connect(&to).await;
        assert!(answer.starts_with("failed"), "{to}: {answer}");
    }
    // Nor the agent's doors, nor what the machine has at the networks' gateways.
    let gateway = |address: &str| format!("{}.1", address.rsplit_once('.').unwrap().0);
    for host in ["127.0.0.1", &gateway(&db), &gateway(&address(&one, "web"))] {
        for port in [3306, 80, agent.control.port()] {
            let answer = connect(&format!("{host}:{port}")).await;
            let own = host == "127.0.0.1" && port == 80;
            assert_eq!(answer.starts_with("failed"), !own, "{host}:{port}: {answer}");
        }
    }
    assert_eq!(podman(&["port", "--all"]), "", "nothing is published");
    // Its files are not to be seen, and nothing of the machine is to be had.
    assert_eq!(agent.run(&one, "ls /data").await, "set-up");
    let tries = "mknod /tmp/sda b 8 0; echo 1 > /proc/sys/vm/drop_caches; chroot /proc/1/root id -u; hostname changed; \
                 cat /proc/1/environ | grep -c stackpro; echo end";
    let tried = agent.run(&one, tries).await;
    for refused in ["sda: Operation not permitted", "Read-only file system", "cannot change root", "host name"] {
        assert!(tried.contains(refused), "{tried}");
    }
    assert!(tried.ends_with("0\nend"), "{tried}");
    let (user, root) = (agent.container(&one, "web"), agent.container(&other, "db"));
    let map = |container: &str| podman(&["exec", container, "cat", "/proc/self/uid_map"]);
    assert_ne!(map(&user), map(&root), "each has users of its own");
}

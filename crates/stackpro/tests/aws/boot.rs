//! Instances that boot: what EC2 is given as user data is run by cloud-init and systemd of a machine of its own, with
//! Docker, and a client's life goes by on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use stackpro_testkit::aws::{Behaviour, Moto};
use stackpro_testkit::{Person, eventually};

use crate::site::{Site, WITHIN};
use crate::travel::travel;

/// Made on the machine, of the machine itself: no registry of images is reachable.
const IMAGE: &str = "docker.io/library/debian:stackpro";
const COMPOSE: &str = "
services:
  web:
    image: docker.io/library/debian:stackpro
    command: [python3, -m, http.server, '80', --directory, /data]
    volumes: ['data:/data']
volumes:
  data:
";
const RECIPE: &str = "
title = 'Pages'
summary = 'Serves a folder.'
[run]
service = 'web'
port = 80
health = '/'
[run.size.default]
web = { memory_mb = 64, cpus = 0.5, pids = 40 }
";

fn recipe(folder: &Path) {
    let pages = folder.join("pages");
    std::fs::create_dir(&pages).unwrap();
    std::fs::write(pages.join("compose.yaml"), COMPOSE).unwrap();
    std::fs::write(pages.join("recipe.toml"), RECIPE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_makes_itself_an_instance_and_runs_stacks_with_docker() {
    let recipes = tempfile::tempdir().unwrap();
    recipe(recipes.path());
    let behaviour = Behaviour { boot: true, ..Behaviour::default() };
    let site = Site::open(&Arc::new(Moto::start()), behaviour, |product| {
        product
            .env("STACKPRO_RECIPES", "[\"site\", \"pages\"]")
            .env("STACKPRO_RECIPES_FOLDER", recipes.path().display())
            // One shared instance, on which the image is.
            .env("STACKPRO_WARM_PLACES", 0)
    })
    .await;
    let first = site.app.ready_client("Nile & Co").await;
    let shown = site.app.command_json(&["clients", "show", &first.client, "--json"]);
    let instance = shown["instance"]["cloudId"].as_str().unwrap().to_owned();
    let said = |script: &str| {
        let output = site.account.run_on(&instance, &["sh", "-c", script]).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    eventually("cloud-init has done all", WITHIN, async || said("cloud-init status").1.contains("done").then_some(()))
        .await;
    let (is_active, units, _) = said("systemctl is-active stackpro-setup stackpro-agent docker");
    assert!(is_active, "{units}");
    // The token is root's alone to read, and no good any more.
    assert_eq!(said("stat -c %a /var/lib/stackpro/agent.json").1, "600");

    // What dies is started again by the machine; what runs at every boot finds everything there.
    let agent = said("systemctl show --property MainPID --value stackpro-agent").1;
    assert!(said(&format!("kill -9 {agent}")).0);
    eventually("another agent serves", Duration::from_secs(30), async || {
        let url = site.app.deployment(&first).await["url"].as_str()?.to_owned();
        let answer = site.app.at_host(Method::GET, &url, "/").send().await.ok()?;
        let other = said("systemctl show --property MainPID --value stackpro-agent").1;
        (answer.status() == StatusCode::OK && other != agent).then_some(())
    })
    .await;
    let (is_done, log, _) = said("systemctl restart stackpro-setup && cat /var/lib/stackpro/setup.log");
    assert!(is_done && log.contains("is ready for its agent") && !log.contains("installed"), "{log}");

    // Docker runs a client's stack.
    let made = said(&format!(
        "tar -C / -c --exclude=usr/local --exclude=usr/share/packages bin etc lib lib64 usr | docker import - {IMAGE}"
    ));
    assert!(made.0, "{made:?}");
    let mut form = Person::form("Pages of Rome");
    form["recipe"] = "pages".into();
    let person = site.app.sign_up_with(&form).await;
    let ready = site.app.wait_for(&person, "ready", "shared").await;
    let page = site.app.at_host(Method::GET, ready["url"].as_str().unwrap(), "/").send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(page.contains("Directory listing for /"), "{page}");
    let running = said("docker ps --format '{{.Image}} {{.Networks}} {{.Ports}}'").1;
    assert!(running.starts_with(IMAGE.trim_start_matches("docker.io/library/")) && running.contains(&person.client));
    assert!(!running.contains("->"), "nothing is published: {running}");
    let limits = said("docker inspect --format '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}' $(docker ps -q)").1;
    assert_eq!(limits, format!("{} 40", 64 << 20));

    travel(&site.app).await;
    site.app.at_rest().await;
    site.tally().await;
}

//! Ctrl-C, kill -9, another port, dead agents: everything is as it was, and unfinished work goes on.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use stackpro_testkit::{PASSWORD, Person, Portal, TestApp, eventually, processes_of};

use crate::product;
use crate::travel::healthy;

const WITHIN: Duration = Duration::from_mins(1);

/// A client with one file, on a product that may be restarted.
async fn with_a_file(app: &TestApp) -> (Person, String, Portal) {
    let person = app.ready_client("Acme Law").await;
    let site = app.deployment(&person).await["url"].as_str().unwrap().to_owned();
    let browser = app.browser();
    browser.log_in(&person.email, PASSWORD).await;
    let portal = browser.portal(&person.client).await;
    assert!(app.put_file(&site, &portal, "files/a.txt", b"kept".to_vec()).await.is_success());
    (person, site, portal)
}

async fn file_is_there(app: &TestApp, person: &Person, portal: &Portal) {
    let site = app.deployment(person).await["url"].as_str().unwrap().to_owned();
    eventually("the file is served again", WITHIN, async || {
        let (status, body) = app.get_file(&site, portal, "files/a.txt").await;
        assert!(status != StatusCode::OK || body == b"kept");
        (status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn after_ctrl_c_everything_is_as_it_was() {
    let mut app = product().start().await;
    let (mut person, _, portal) = with_a_file(&app).await;
    let status = app.interrupt().await;
    assert!(status.success(), "Ctrl-C ends it in an orderly way: {status}");
    app.restart().await;
    person.token = app.log_in(&person.email).await;
    app.wait_for(&person, "ready", "shared").await;
    file_is_there(&app, &person, &portal).await;
    healthy(&app).await;
}

#[tokio::test]
async fn after_a_kill_on_another_port_agents_find_the_server_again() {
    let mut app = product().start().await;
    let (person, before, portal) = with_a_file(&app).await;
    app.kill9();
    app.restart().await;
    let after = app.deployment(&person).await["url"].as_str().unwrap().to_owned();
    assert_ne!(before, after, "the port is part of the address");
    file_is_there(&app, &person, &portal).await;
    let reported = async || {
        let path = format!("/api/dashboard/{}", person.client);
        let answer = app.as_person(&person, Method::GET, &path).send().await.unwrap();
        answer.json::<serde_json::Value>().await.unwrap()["usage"]["reportedAt"].clone()
    };
    let first = reported().await;
    eventually("its agent reports", WITHIN, async || (reported().await != first).then_some(())).await;
    healthy(&app).await;
}

#[tokio::test]
async fn a_killed_agent_is_started_again_with_its_files() {
    let app = product().start().await;
    let (person, _, portal) = with_a_file(&app).await;
    let agents = processes_of(&app.data().join("cloud"));
    assert!(!agents.is_empty());
    for pid in agents {
        let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    file_is_there(&app, &person, &portal).await;
    healthy(&app).await;
}

#[tokio::test]
async fn stop_ends_the_instances_and_a_start_brings_them_back() {
    let mut app = product().start().await;
    let (person, _, portal) = with_a_file(&app).await;
    assert!(app.interrupt().await.success());
    assert!(!processes_of(app.data()).is_empty(), "instances outlive the server");
    assert!(app.command(&["stop"]).status.success());
    assert!(processes_of(app.data()).is_empty());
    app.restart().await;
    file_is_there(&app, &person, &portal).await;
}

#[tokio::test]
async fn a_sign_up_that_was_acknowledged_goes_on_after_a_kill() {
    let mut app = product().start().await;
    let person = app.sign_up("Acme Law").await;
    app.kill9();
    app.restart().await;
    app.wait_for(&person, "ready", "shared").await;
    healthy(&app).await;
}

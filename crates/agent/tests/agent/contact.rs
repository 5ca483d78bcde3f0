//! What visitors write to the owner of a site.

use crate::support::*;
use reqwest::{RequestBuilder, StatusCode};
use stackpro_protocol::agent::*;

fn post(agent: &TestAgent, spec: &StackSpec, fields: &[(&str, &str)]) -> RequestBuilder {
    let host = &spec.hosts[0];
    agent.visit("POST", host, "/contact").header("origin", format!("http://{host}")).form(fields)
}

const FIELDS: [(&str, &str); 3] = [("name", "Vera"), ("email", "vera@visitors.example"), ("message", "Hello <you>")];

#[tokio::test]
async fn it_is_passed_on_and_what_was_typed_is_kept_when_it_cannot_be() {
    let (server, heard) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let form = text(agent.visit("GET", &spec.hosts[0], "/contact").send().await.unwrap()).await;
    assert!(form.contains("Write to") && form.contains(r#"action="/contact""#), "{form}");
    let sent = post(&agent, &spec, &FIELDS).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::OK);
    assert!(text(sent).await.contains("on its way"));
    let first = heard.messages.lock().unwrap().remove(0);
    assert_eq!((&first.client_id, first.message.as_str()), (&spec.client_id, "Hello <you>"));
    for (answer, status, words) in [
        (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNPROCESSABLE_ENTITY, "check your name"),
        (StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE, "no more messages this month"),
        (StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE, "not open yet"),
        (StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE, "could not be sent just now"),
    ] {
        heard.answers.lock().unwrap().push(answer);
        let refused = post(&agent, &spec, &FIELDS).send().await.unwrap();
        assert_eq!(refused.status(), status);
        let page = text(refused).await;
        assert!(page.contains(words) && page.contains("Hello &#60;you&#62;</textarea>"), "{answer}: {page}");
        // Whoever sends the same words again has written once.
        assert_eq!(heard.messages.lock().unwrap().pop().unwrap().id, first.id);
    }
    // That was as many as one address may send in a minute.
    let refused = post(&agent, &spec, &FIELDS).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(heard.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn programs_and_strangers_are_refused() {
    let (server, heard) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let host = &spec.hosts[0];
    let elsewhere = agent.visit("POST", host, "/contact").header("origin", "http://evil.example").form(&FIELDS);
    let without = agent.visit("POST", host, "/contact").form(&FIELDS);
    let filled = post(&agent, &spec, &[FIELDS[0], FIELDS[1], FIELDS[2], ("homepage", "http://spam.example")]);
    let long = "x".repeat(70_000);
    let too_long = post(&agent, &spec, &[FIELDS[0], FIELDS[1], ("message", long.as_str())]);
    let no_form = agent.visit("POST", host, "/contact").header("origin", format!("http://{host}")).body("{}");
    for (request, status) in [
        (elsewhere, StatusCode::FORBIDDEN),
        (without, StatusCode::FORBIDDEN),
        (filled, StatusCode::BAD_REQUEST),
        (too_long, StatusCode::BAD_REQUEST),
        (no_form, StatusCode::BAD_REQUEST),
        (agent.visit("DELETE", host, "/contact"), StatusCode::METHOD_NOT_ALLOWED),
    ] {
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    assert!(heard.messages.lock().unwrap().is_empty());
    // The client's own page of that name goes before ours; the form may be anywhere on the site.
    assert_eq!(agent.store(&spec, "/dav/site/contact", "ours").await, StatusCode::CREATED);
    assert_eq!(text(agent.visit("GET", host, "/contact").send().await.unwrap()).await, "ours");
    assert_eq!(post(&agent, &spec, &FIELDS).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(heard.messages.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_control_plane_that_is_away_is_said() {
    let (server, heard) = control_plane().await;
    let agent = TestAgent::start(&server).await;
    let spec = spec("acme-law-7f3k");
    agent.put_stack(&spec).await;
    let file = agent.dir.path().join("agent.json");
    let there = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, there.replace(&server, &format!("http://{}", stackpro_testkit::free_address()))).unwrap();
    let refused = post(&agent, &spec, &FIELDS).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(text(refused).await.contains("send it again in a moment"));
    std::fs::write(&file, there).unwrap();
    assert_eq!(post(&agent, &spec, &FIELDS).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(heard.messages.lock().unwrap().len(), 1);
}

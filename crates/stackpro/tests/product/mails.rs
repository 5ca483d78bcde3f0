//! Mails through the real binary: what becomes of each, the addresses that get none, and the sandbox.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use stackpro_testkit::{Browser, PASSWORD, Person, TestApp, eventually, free_address};

use crate::product;

const WITHIN: Duration = Duration::from_secs(30);

/// Signs up with this address, and says nothing more.
async fn sign_up(app: &TestApp, email: &str) -> String {
    let mut form = Person::form("Acme Law");
    form["email"] = json!(email);
    let answer = app.post("/api/auth/signup", &form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED, "{email}");
    answer.json::<serde_json::Value>().await.unwrap()["clientId"].as_str().unwrap().to_owned()
}

/// Waits until the operator's log of these mails says this.
async fn log_says(browser: &Browser<'_>, query: &str, text: &str) -> String {
    let path = format!("/console/mails?{query}");
    eventually(&format!("{path} says {text:?}"), WITHIN, async || {
        Some(browser.page(&path).await).filter(|page| page.contains(text))
    })
    .await
}

/// So many mails that the mailbox shows to this address.
async fn delivered(browser: &Browser<'_>, to: &str) -> usize {
    browser.page("/console/mailbox").await.matches(&format!("<bdi>{to}</bdi>")).count()
}

#[tokio::test]
async fn a_bounced_address_is_written_to_no_more_until_the_operator_lets_it() {
    let mut app = product().listen(&free_address().to_string()).start().await;
    let operator = app.operator().await;
    let address = "bounce+acme@simulator.localhost";
    let client = sign_up(&app, address).await;
    {
        let console = app.browser();
        console.log_in(&operator.email, PASSWORD).await;
        log_says(&console, &format!("client={client}"), "user unknown").await;
    }
    // What was told outlives a crash of whoever heard it.
    app.restart().await;
    let (console, ann) = (app.browser(), app.browser());
    console.log_in(&operator.email, PASSWORD).await;
    ann.log_in(address, PASSWORD).await;
    let dashboard = format!("/dashboard/{client}");
    let resend = async || {
        let answer = ann.fill(&dashboard, "/verify-email", &[]).await;
        assert!(answer.status().is_redirection(), "{}", answer.status());
    };
    resend().await;
    log_says(&console, &format!("client={client}&state=suppressed"), "hard_bounce: General").await;
    assert_eq!(delivered(&console, address).await, 1);

    let lifted = console.fill("/console/mails/suppressed", "/console/mails/suppressed", &[]).await;
    assert!(lifted.status().is_redirection(), "{}", lifted.status());
    assert!(!console.page("/console/mails/suppressed").await.contains(address));
    resend().await;
    eventually("it is written to again", WITHIN, async || (delivered(&console, address).await == 2).then_some(()))
        .await;
    // It bounces again, and is suppressed again.
    eventually("it is suppressed again", WITHIN, async || {
        console.page("/console/mails/suppressed").await.contains(address).then_some(())
    })
    .await;
}

/// The page of the newest mail with these words in its subject, to this address.
async fn mail(console: &Browser<'_>, to: &str, subject: &str) -> String {
    let href = eventually(&format!("a mail {subject:?} to {to}"), WITHIN, async || {
        let list = console.page("/console/mailbox").await;
        let mut rows = list.split("href=\"/console/mailbox/").skip(1);
        let row = rows.find(|row| row.contains(subject) && row.contains(&format!("<bdi>{to}</bdi>")))?;
        row.split('"').next().map(|key| format!("/console/mailbox/{key}"))
    })
    .await;
    console.page(&href).await
}

#[tokio::test]
async fn a_visitor_writes_to_the_owner_of_a_site() {
    let app = product().start().await;
    let operator = app.operator().await;
    let ann = app.ready_client("Acme Law").await;
    let deployment = app.deployment(&ann).await;
    let site = deployment["url"].as_str().unwrap();
    let (console, owner, host) = (app.browser(), app.browser(), site.split_once("://").unwrap().1);
    console.log_in(&operator.email, PASSWORD).await;
    let write = async |message: &str| {
        let fields = [("name", "Vera"), ("email", "vera@visitors.example"), ("message", message)];
        let form = app.at_host(Method::POST, site, "/contact").header("origin", format!("http://{host}")).form(&fields);
        let answer = form.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let form = app.at_host(Method::GET, site, "/contact").send().await.unwrap().text().await.unwrap();
    assert!(form.contains("Write to Acme Law"), "{form}");
    let (status, page) = write("Too early").await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && page.contains("not open yet"), "{page}");
    // The link in the welcome mail opens it.
    let welcome = mail(&console, &ann.email, "Welcome to StackPro").await;
    let link = welcome.split("/verify-email?token=").nth(1).unwrap();
    let token: String = link.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    let confirmed = owner.fill(&format!("/verify-email?token={token}"), "/verify", &[]).await;
    assert_eq!(confirmed.status(), StatusCode::OK);
    let (status, page) = write("Hello <b>Ann</b>,\r\nare you open?").await;
    assert!(status == StatusCode::OK && page.contains("on its way"), "{page}");
    let told = mail(&console, &ann.email, "Message from Vera").await;
    assert!(told.contains("An answer goes to <bdi>vera@visitors.example</bdi>"), "{told}");
    assert!(told.contains("Hello &#60;b&#62;Ann&#60;/b&#62;,") && !told.contains("<b>Ann"), "{told}");
    owner.log_in(&ann.email, PASSWORD).await;
    let dashboard = owner.page(&format!("/dashboard/{}", ann.client)).await;
    assert!(dashboard.contains("<span>Emails this month</span><span class=\"num\">1 <"), "{dashboard}");
    // The owner who is paused is not written to.
    app.command(&["clients", "suspend", &ann.client]);
    eventually("the site is paused", WITHIN, async || {
        (write("Anybody there?").await.0 == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
}

#[tokio::test]
async fn mail_is_sent_no_faster_than_the_account_may_and_the_sandbox_is_said() {
    let faults = "{mail_per_second=1, mail_sandbox=true, throttle=0.2, seed=3}";
    let app = product().env("STACKPRO_FAULTS", faults).start().await;
    let operator = app.operator().await;
    let addresses = ["success+1", "success+2", "success+3"].map(|name| format!("{name}@simulator.localhost"));
    let mut clients = Vec::new();
    for address in &addresses {
        clients.push(sign_up(&app, address).await);
    }
    let outside = sign_up(&app, "ann@acme.example").await;
    let console = app.browser();
    console.log_in(&operator.email, PASSWORD).await;
    for client in &clients {
        log_says(&console, &format!("client={client}"), "Delivered").await;
    }
    // It waits, and says for what.
    log_says(&console, &format!("client={outside}&state=queued"), "is not verified").await;
    assert!(console.page("/console").await.contains("plays SES&#39;s sandbox"), "{}", console.page("/console").await);
    let doctor = app.command(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("sandbox"), "{said}");
}

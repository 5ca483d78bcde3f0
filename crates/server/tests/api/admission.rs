//! One trial for each company: decided when an address is confirmed, so that nobody takes another's by typing it.

use axum::http::StatusCode;
use serde_json::{Value, json};
use stackpro_domain::admission::Rules;
use stackpro_domain::lifecycle::{Reminder, State};
use stackpro_server::world::Rate;
use stackpro_store::MailFilter;

use crate::common::{Answer, PASSWORD, Server, signup};
use crate::pages::{Browser, operator};
use crate::till::client;

async fn sign_up(server: &Server, email: &str) -> Answer {
    let mut form = signup("Acme Law");
    form["email"] = json!(email);
    server.post("/api/auth/signup", "", &form).await
}

async fn accepted(server: &Server, email: &str) -> String {
    let answer = sign_up(server, email).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    answer.json()["clientId"].as_str().unwrap().to_owned()
}

async fn refused(server: &Server, email: &str, status: StatusCode) -> String {
    let answer = sign_up(server, email).await;
    assert_eq!(answer.status, status, "{email}: {}", answer.text);
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// Presses the button of the welcome mail: what the page says.
async fn confirm(server: &Server, id: &str) -> String {
    let ours = MailFilter { client: Some(id.parse().unwrap()), state: None };
    let mails = server.world.store.mails(&ours, None, 20).await.unwrap().rows;
    let welcome = mails.iter().find(|mail| mail.id.starts_with("welcome-")).unwrap();
    let mail = server.world.store.mail(&welcome.id).await.unwrap().unwrap();
    let token = mail.text.split("verify-email?token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let page = Browser::new(server).post("/verify", &[("token", &token)]).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    page.text
}

async fn state(server: &Server, id: &str) -> State {
    client(server, id).await.life.state
}

#[tokio::test]
async fn who_confirms_first_has_the_companys_trial() {
    let server = Server::start().await;
    // Somebody types an address that is not theirs, and cannot confirm it.
    let squatter = accepted(&server, "ceo@acme.example").await;
    let first = accepted(&server, "ann@mail.acme.example").await;
    let third = accepted(&server, "bob@acme.example").await;
    assert!(confirm(&server, &first).await.contains("Your address is confirmed"));
    assert_eq!(state(&server, &first).await, State::Trial);
    for ended in [&squatter, &third] {
        assert_eq!(state(&server, ended).await, State::Suspended, "one trial for a company");
        // Now, or when it is day.
        let theirs = MailFilter { client: Some(ended.parse().unwrap()), state: None };
        let mails = server.world.store.mails(&theirs, None, 10).await.unwrap().rows;
        let told = mails.iter().any(|mail| mail.kind == "trial_had_already");
        let waits = client(&server, ended).await.life.untold.map(|untold| untold.reminder);
        assert!(told || waits == Some(Reminder::TrialHadAlready), "{mails:?} {waits:?}");
    }
    let late = confirm(&server, &third).await;
    assert!(late.contains("confirmed"), "{late}");
    let why = refused(&server, "eve@acme.example", StatusCode::CONFLICT).await;
    assert!(why.contains("acme.example has had its free trial") && why.contains("invite") && why.contains("help@"));
    // The operator brings back whom they like.
    let olga = operator(&server).await;
    let page = format!("/console/clients/{third}");
    let csrf = olga.csrf(&page).await;
    let resumed = olga.post(&format!("{page}/resume"), &[("csrf", &csrf)]).await;
    assert_eq!(resumed.status, StatusCode::SEE_OTHER, "{}", resumed.text);
    assert_eq!(state(&server, &third).await, State::Trial);
    accepted(&server, "ann@bolt.example").await;
}

#[tokio::test]
async fn of_two_who_confirm_at_once_one_has_the_trial() {
    let server = Server::start().await;
    let (one, two) = tokio::join!(accepted(&server, "a@acme.example"), accepted(&server, "b@acme.example"));
    let pages = tokio::join!(confirm(&server, &one), confirm(&server, &two));
    let mut states = [state(&server, &one).await, state(&server, &two).await];
    states.sort_unstable();
    assert_eq!(states, [State::Trial, State::Suspended]);
    let over = [&pages.0, &pages.1].iter().filter(|page| page.contains("the trial is over")).count();
    let told = [&pages.0, &pages.1].iter().filter(|page| page.contains("Your address is confirmed")).count();
    assert!(told == 2 && over <= 1, "{over} {told}");
}

#[tokio::test]
async fn at_a_public_provider_each_mailbox_has_one() {
    let server = Server::start().await;
    let ann = accepted(&server, "ann.meyer@gmail.com").await;
    confirm(&server, &ann).await;
    let why = refused(&server, "annmeyer+2@googlemail.com", StatusCode::CONFLICT).await;
    assert!(why.contains("annmeyer@gmail.com has had its free trial"), "{why}");
    let bob = accepted(&server, "bob@gmail.com").await;
    confirm(&server, &bob).await;
    assert_eq!((state(&server, &ann).await, state(&server, &bob).await), (State::Trial, State::Trial));
}

#[tokio::test]
async fn who_pays_keeps_everything() {
    let server = Server::start().await;
    let id = crate::till::buy(&server, "4242424242424242").await;
    let customer = client(&server, &id).await.customer_id.unwrap();
    crate::till::hint(&server, "evt_1", "invoice.paid", &customer).await;
    let colleague = accepted(&server, "other@acmelaw.example").await;
    confirm(&server, &colleague).await;
    assert_eq!(state(&server, &id).await, State::Active, "only a trial can be lost");
    assert!(!confirm(&server, &id).await.contains("the trial is over"));
    assert_eq!(state(&server, &id).await, State::Active);
}

#[tokio::test]
async fn throwaway_addresses_and_crowds_are_refused_unless_the_operator_says_otherwise() {
    let server = Server::with(|settings| {
        settings.admission =
            Rules::parse("allow vip.example\nallow ann@mailinator.com\ndisposable bad.example").unwrap();
        settings.rates.signup_network = Rate { limit: 2, window_ms: 86_400_000 };
    })
    .await;
    for bad in ["x@mailinator.com", "x@sub.bad.example"] {
        let why = refused(&server, bad, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert!(why.contains("email is one that is thrown away") && why.contains("help@"), "{why}");
    }
    accepted(&server, "ann@one.example").await;
    accepted(&server, "ann@two.example").await;
    let why = refused(&server, "ann@three.example", StatusCode::TOO_MANY_REQUESTS).await;
    assert!(why.contains("from your network today") && why.contains("help@"), "{why}");
    accepted(&server, "ann@mailinator.com").await;
    let vips = [accepted(&server, "a@vip.example").await, accepted(&server, "b@vip.example").await];
    for vip in &vips {
        confirm(&server, vip).await;
    }
    for vip in &vips {
        assert_eq!(state(&server, vip).await, State::Trial);
    }
}

#[tokio::test]
async fn whom_the_operator_makes_a_client_no_rule_stops() {
    let server = Server::start().await;
    let acme = accepted(&server, "ann@acme.example").await;
    confirm(&server, &acme).await;
    operator(&server).await;
    let login = json!({"email": "op@stackpro.example", "password": PASSWORD});
    let token = server.post("/api/auth/login", "", &login).await.json()["token"].as_str().unwrap().to_owned();
    let form: Value = json!({"email": "bob@acme.example", "firstName": "Bob", "lastName": "Meyer",
        "company": "Acme Two", "plan": "starter"});
    let made = server.post("/api/deploy", &token, &form).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json()["clientId"].as_str().unwrap().to_owned();
    assert_eq!(state(&server, &made).await, State::Trial);
}

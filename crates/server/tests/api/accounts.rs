//! Sign up, log in, log out.

use axum::http::StatusCode;
use serde_json::json;
use stackpro_domain::Time;
use stackpro_server::reconcilers::lifecycle;
use stackpro_server::world::{Rate, Rates};
use stackpro_store::{ClientFilter, MailFilter};

use crate::common::{PASSWORD, Server, signup};

#[tokio::test]
async fn a_sign_up_makes_a_client_who_can_look_at_once() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    let (id, token) = (made["clientId"].as_str().unwrap(), made["token"].as_str().unwrap());
    assert!(id.starts_with("acme-law-"), "{id}");
    assert_eq!(made["user"]["role"], "owner");
    assert_eq!(made["dashboardUrl"], format!("http://127.0.0.1:8080/dashboard/{id}"));

    let dashboard = server.get(&format!("/api/dashboard/{id}"), token).await;
    assert_eq!(dashboard.status, StatusCode::OK, "{}", dashboard.text);
    let dashboard = dashboard.json();
    assert_eq!(dashboard["client"]["state"], "trial");
    assert_eq!(dashboard["deployment"]["status"], "provisioning");
    assert_eq!(dashboard["deployment"]["url"], format!("http://{id}.stackpro.localhost:8080"));
    assert!(dashboard["deployment"]["steps"].as_array().unwrap().len() > 3);
    assert_eq!(dashboard["usage"]["storageLimitBytes"], 1 << 30);

    let trial = server.get(&format!("/api/trial-status/{id}"), token).await.json();
    assert_eq!(
        (&trial["daysRemaining"], &trial["isExpired"], &trial["requiresPayment"]),
        (&json!(14), &json!(false), &json!(false))
    );
    let deployment = server.get(&format!("/api/deployment-status/{id}"), token).await.json();
    assert_eq!(deployment["steps"][0]["status"], "pending");
}

#[tokio::test]
async fn time_moves_the_trial_and_signs_nobody_out() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    let (path, token) =
        (format!("/api/trial-status/{}", made["clientId"].as_str().unwrap()), made["token"].as_str().unwrap());
    assert_eq!(server.get(&path, token).await.json()["daysRemaining"], 14);
    server.world.time_machine.as_ref().unwrap().advance(15 * 86_400_000).unwrap();
    let later = server.get(&path, token).await.json();
    assert_eq!((&later["daysRemaining"], &later["isExpired"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn what_runs_is_chosen_from_what_is_sold() {
    let server = Server::start().await;
    let mut form = signup("Chosen Law");
    for (n, (given, kept)) in [(json!("wordpress"), "wordpress"), (json!(null), "site")].into_iter().enumerate() {
        form["recipe"] = given;
        form["email"] = json!(format!("{n}@chosen.example"));
        let made = server.post("/api/auth/signup", "", &form).await.json();
        let id = made["clientId"].as_str().unwrap().parse().unwrap();
        assert_eq!(server.world.store.client(&id).await.unwrap().unwrap().recipe, kept);
    }
    form["recipe"] = json!("drupal");
    let answer = server.post("/api/auth/signup", "", &form).await;
    let wrong = json!({ "field": "recipe", "message": "must be one of site, wordpress" });
    assert_eq!((answer.status, &answer.json()["errors"][0]), (StatusCode::UNPROCESSABLE_ENTITY, &wrong));
    let page = server.get("/signup", "").await.text;
    assert!(page.contains("value=\"site\" checked") && page.contains("value=\"wordpress\">"), "{page}");
}

#[tokio::test]
async fn a_client_is_reminded_by_day_where_they_are() {
    let server = Server::start().await;
    let zone = async |id: &str| {
        let client = server.world.store.client(&id.parse().unwrap()).await.unwrap().unwrap();
        client.life.zone.as_str().to_owned()
    };
    let mut form = signup("Night Law");
    for (given, kept) in [(json!("america/new_york"), "America/New_York"), (json!(null), "UTC")] {
        form["timeZone"] = given;
        form["email"] = json!(format!("{}@night.example", kept.replace('/', "-")));
        let made = server.post("/api/auth/signup", "", &form).await.json();
        assert_eq!(zone(made["clientId"].as_str().unwrap()).await, kept);
    }
    for bad in [json!("Mars/Olympus"), json!(""), json!("../../etc/passwd")] {
        form["timeZone"] = bad.clone();
        let answer = server.post("/api/auth/signup", "", &form).await;
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["field"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("timeZone")),
            "{bad}"
        );
    }

    // Their seven days before the end fall into the night of New York.
    form["timeZone"] = json!("America/New_York");
    form["email"] = json!("dated@night.example");
    let id = server.post("/api/auth/signup", "", &form).await.json()["clientId"].as_str().unwrap().to_owned();
    let mut tx = server.world.store.begin().await.unwrap();
    let mut row = tx.client(&id.parse().unwrap()).await.unwrap().unwrap();
    let day = 86_400_000;
    // 08:00 in UTC, which is 03:00 or 04:00 in New York, at least a day from now.
    let wanted = server.world.now().ms().div_euclid(day) * day + 2 * day + 8 * 3_600_000;
    row.life.trial_ends_at = Time(wanted).plus_days(7);
    tx.update_client(&row).await.unwrap();
    tx.commit().await.unwrap();
    let machine = server.world.time_machine.as_ref().unwrap();
    machine.advance(wanted - server.world.now().ms() + 60_000).unwrap();
    let reminders = async || {
        lifecycle::round(&server.world).await.unwrap();
        let filter = MailFilter { client: Some(id.parse().unwrap()), state: None };
        let rows = server.world.store.mails(&filter, None, 50).await.unwrap().rows;
        rows.into_iter().filter(|mail| mail.kind == "trial_ends_in_7").count()
    };
    assert_eq!(reminders().await, 0, "it is night there");
    machine.advance(6 * 3_600_000).unwrap();
    assert_eq!(reminders().await, 1);
    assert_eq!(reminders().await, 1);
}

#[tokio::test]
async fn an_address_has_one_account() {
    let server = Server::start().await;
    server.sign_up("Acme Law").await;
    let mut again = signup("Other Law");
    again["email"] = json!(" OWNER@acmelaw.example");
    let answer = server.post("/api/auth/signup", "", &again).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.json()["errors"][0]["field"], "email");
    assert_eq!(server.world.store.clients(&ClientFilter::default(), None, 10).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn sign_ups_of_one_address_at_once_make_one_client() {
    let server = Server::start().await;
    let body = signup("Acme Law");
    let all = futures::future::join_all((0..8).map(|_| server.post("/api/auth/signup", "", &body))).await;
    let count = |status| all.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(StatusCode::CREATED), count(StatusCode::CONFLICT)), (1, 7));
    assert_eq!(server.world.store.clients(&ClientFilter::default(), None, 10).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn log_in_says_nothing_about_who_has_an_account() {
    let server = Server::start().await;
    server.sign_up("Acme Law").await;
    let right = json!({"email": "Owner@AcmeLaw.example ", "password": PASSWORD});
    assert_eq!(server.post("/api/auth/login", "", &right).await.status, StatusCode::OK);
    let wrong = json!({"email": "owner@acmelaw.example", "password": "something else"});
    let nobody = json!({"email": "nobody@acmelaw.example", "password": "something else"});
    let (wrong, nobody) =
        (server.post("/api/auth/login", "", &wrong).await, server.post("/api/auth/login", "", &nobody).await);
    assert_eq!((wrong.status, nobody.status), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    let same = |answer: &crate::common::Answer| answer.json()["detail"].clone();
    assert_eq!(same(&wrong), same(&nobody));
}

#[tokio::test]
async fn after_log_out_the_token_is_worth_nothing() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    let (path, token) =
        (format!("/api/dashboard/{}", made["clientId"].as_str().unwrap()), made["token"].as_str().unwrap());
    assert_eq!(server.get(&path, token).await.status, StatusCode::OK);
    assert_eq!(server.post("/api/auth/logout", token, &json!({})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get(&path, token).await.status, StatusCode::UNAUTHORIZED);
}

/// Another node knows the token already, and has not heard of the log-out.
#[tokio::test]
async fn a_log_out_counts_on_every_node() {
    let server = Server::start().await;
    let node = server.another_node();
    let made = server.sign_up("Acme Law").await;
    let (path, token) =
        (format!("/api/dashboard/{}", made["clientId"].as_str().unwrap()), made["token"].as_str().unwrap());
    assert_eq!(node.get(&path, token).await.status, StatusCode::OK);
    assert_eq!(server.post("/api/auth/logout", token, &json!({})).await.status, StatusCode::NO_CONTENT);
    let order = json!({"planId": "starter", "interval": "month"});
    let changing = node.post("/api/create-checkout-session", token, &order).await;
    assert_eq!(changing.status, StatusCode::UNAUTHORIZED, "what changes something asks the database");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while node.get(&path, token).await.status != StatusCode::UNAUTHORIZED {
        assert!(std::time::Instant::now() < deadline, "the other node still accepts it");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn too_many_attempts_wait() {
    let few = Rate { limit: 2, window_ms: 600_000 };
    let server = Server::with(|settings| settings.rates = Rates { login_account: few, ..Rates::default() }).await;
    let body = json!({"email": "owner@acmelaw.example", "password": "something else"});
    for _ in 0..2 {
        assert_eq!(server.post("/api/auth/login", "", &body).await.status, StatusCode::UNAUTHORIZED);
    }
    let over = server.post("/api/auth/login", "", &body).await;
    assert_eq!(over.status, StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = over.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=600).contains(&wait), "{wait}");
    let other = json!({"email": "other@acmelaw.example", "password": "something else"});
    assert_eq!(server.post("/api/auth/login", "", &other).await.status, StatusCode::UNAUTHORIZED);
}

//! Another plan for one who pays: what it would cost, the change, and what follows from it.

use axum::http::StatusCode;
use serde_json::{Value, json};
use stackpro_domain::lifecycle::State;
use stackpro_domain::plan::DEFAULT_PLANS;
use stackpro_domain::time::{DAY, MINUTE};
use stackpro_server::reconcilers::till_events;
use stackpro_server::till::Change;
use stackpro_store::Counters;

use crate::common::{PASSWORD, Server};
use crate::pages::Browser;
use crate::till::{buy, client, hint};

const OWNER: &str = "owner@acmelaw.example";

/// A client on business, by the year, since just now; its id and a token.
async fn paying(server: &Server) -> (String, String) {
    let id = buy(server, "4242424242424242").await;
    let customer = client(server, &id).await.customer_id.unwrap();
    hint(server, "evt_paid", "invoice.paid", &customer).await;
    assert_eq!(client(server, &id).await.life.state, State::Active);
    let login = server.post("/api/auth/login", "", &json!({"email": OWNER, "password": PASSWORD})).await;
    (id, login.json()["token"].as_str().unwrap().to_owned())
}

fn advance(server: &Server, ms: i64) {
    server.world.time_machine.as_ref().unwrap().advance(ms).unwrap();
}

async fn preview(server: &Server, id: &str, token: &str, plan: &str, interval: &str) -> Value {
    let body = json!({"planId": plan, "interval": interval});
    let answer = server.post(&format!("/api/clients/{id}/plan/preview"), token, &body).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

/// Where each move that was begun leads: types of instances, the newest first.
async fn moves(server: &Server, id: &str) -> Vec<String> {
    let flows = server.world.store.timelines(&id.parse().unwrap(), 20).await.unwrap();
    let moves = flows.iter().filter(|timeline| timeline.flow.kind == "migrate");
    moves.map(|timeline| timeline.flow.params["instance"]["instance_type"].as_str().unwrap().to_owned()).collect()
}

async fn invoices(server: &Server, id: &str, token: &str) -> Vec<Value> {
    let answer = server.get(&format!("/api/clients/{id}/invoices"), token).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json().as_array().unwrap().clone()
}

#[tokio::test]
async fn what_was_previewed_is_what_is_charged_once() {
    let server = Server::start().await;
    let (id, token) = paying(&server).await;
    advance(&server, 100 * DAY);
    let shown = preview(&server, &id, &token, "enterprise", "year").await;
    assert_eq!(client(&server, &id).await.plan, "business", "nothing is changed by looking");
    let due = shown["dueCents"].as_i64().unwrap();
    // 265 of 365 days of the difference, and some seconds that the test took.
    let difference = (1_299_000 - 599_000) * 265 / 365;
    assert!((due - difference).abs() < 200, "{shown}");
    assert_eq!(shown["lines"].as_array().unwrap().iter().map(|l| l["amountCents"].as_i64().unwrap()).sum::<i64>(), due);
    // The answer to the first is lost, and it is sent again, a minute later.
    advance(&server, MINUTE);
    for _ in 0..2 {
        let answer = server.post(&format!("/api/clients/{id}/plan"), &token, &shown).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.text);
    }
    let row = client(&server, &id).await;
    assert_eq!((row.plan.as_str(), row.life.state), ("enterprise", State::Active));
    let all = invoices(&server, &id, &token).await;
    let paid: Vec<i64> = all.iter().map(|invoice| invoice["paidCents"].as_i64().unwrap()).collect();
    assert_eq!(paid, [due, 599_000], "{all:#?}");
    assert!(all[0]["url"].as_str().unwrap().contains("/i/in_") && all[0]["pdfUrl"].is_string(), "{}", all[0]);
    // An instance of the new plan's type, once, however often it is told.
    let customer = row.customer_id.unwrap();
    hint(&server, "evt_more", "customer.subscription.updated", &customer).await;
    assert_eq!(moves(&server, &id).await, ["t3.medium", "t3.small"]);
}

#[tokio::test]
async fn a_change_that_only_the_till_knows_of_is_learnt() {
    let server = Server::start().await;
    let (id, _) = paying(&server).await;
    let row = client(&server, &id).await;
    let world = &server.world;
    let subscription = world.till.subscription(row.subscription_id.as_ref().unwrap()).await.unwrap().unwrap();
    let at = stackpro_domain::Time(world.now().ms().div_euclid(1000) * 1000);
    let interval = stackpro_domain::plan::Interval::Month;
    let change = Change { subscription: &subscription, plan: world.plans.get("starter").unwrap(), interval, at };
    for _ in 0..2 {
        world.till.change_plan(&world.plans, &change).await.unwrap();
    }
    till_events::sweep_all(world).await.unwrap();
    let after = client(&server, &id).await;
    // There is nothing more to learn, and so nothing is written.
    let commits = world.store.generation();
    till_events::sweep_all(world).await.unwrap();
    assert_eq!(world.store.generation(), commits);
    assert_eq!((after.plan.as_str(), after.interval), ("starter", Some(interval)));
    let left = after.life.paid_until.unwrap().since(world.now());
    assert!(left < 32 * DAY, "what is paid is a month, and no more a year: {} days", left / DAY);
    assert_eq!(moves(&server, &id).await, ["t3.micro", "t3.small"]);
    let credit = world.till.invoices(&row.customer_id.unwrap(), 10).await.unwrap();
    assert!(credit[0].total.0 < -500_000 && credit[0].paid.0 == 0, "the rest of the year is kept for them: {credit:?}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_says_why() {
    let server = Server::start().await;
    let trial = server.sign_up("Trial Ltd").await;
    let (trial_id, trial_token) = (trial["clientId"].as_str().unwrap(), trial["token"].as_str().unwrap());
    let refused = async |id: &str, token: &str, path: &str, body: Value, status: StatusCode, why: &str| {
        let answer = server.post(&format!("/api/clients/{id}/plan{path}"), token, &body).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
        assert!(answer.text.contains(why), "{path}: {}", answer.text);
    };
    let monthly = json!({"planId": "starter", "interval": "month"});
    let (now, conflict) = (server.world.now(), StatusCode::CONFLICT);
    refused(trial_id, trial_token, "/preview", monthly.clone(), conflict, "pays for no plan").await;
    refused(trial_id, trial_token, "/cancel", json!({}), conflict, "pays for no plan").await;
    let (id, token) = paying(&server).await;
    refused(&id, &token, "/preview", json!({"planId": "business", "interval": "year"}), conflict, "that you have")
        .await;
    let unknown = json!({"planId": "gold", "interval": "day", "at": now.to_string()});
    refused(&id, &token, "", unknown, StatusCode::UNPROCESSABLE_ENTITY, "interval").await;
    let old = json!({"planId": "starter", "interval": "month", "at": "2020-01-01T00:00:00Z"});
    refused(&id, &token, "", old, conflict, "too old").await;
    let never = json!({"planId": "starter", "interval": "month", "at": "soon"});
    refused(&id, &token, "", never, StatusCode::UNPROCESSABLE_ENTITY, "\"at\"").await;
    refused(&id, trial_token, "/preview", monthly.clone(), StatusCode::NOT_FOUND, "").await;

    let order = async |word: &str| server.post(&format!("/api/clients/{id}/plan/{word}"), &token, &json!({})).await;
    assert_eq!(order("cancel").await.status, StatusCode::NO_CONTENT);
    assert!(client(&server, &id).await.life.cancels_at_period_end);
    refused(&id, &token, "/preview", monthly.clone(), conflict, "cancelled").await;
    assert_eq!(order("keep").await.status, StatusCode::NO_CONTENT);
    assert!(!client(&server, &id).await.life.cancels_at_period_end);
    assert_eq!(order("forget").await.status, StatusCode::NOT_FOUND);
    preview(&server, &id, &token, "starter", "month").await;
}

#[tokio::test]
async fn a_plan_with_too_little_room_is_refused_with_its_limit_the_use_and_the_way_on() {
    let small = "limits = { storage_bytes = 1_073_741_824, members = 1, subdomains = 1 }";
    let (before, starter) = DEFAULT_PLANS.split_once("id = \"starter\"").unwrap();
    let starter = starter.replacen("limits = { subdomains = 1 }", small, 1);
    let server = Server::selling(&format!("{before}id = \"starter\"{starter}")).await;
    let (id, token) = paying(&server).await;
    let place = crate::costs::instance(&server, 1, "t3.small");
    let mut tx = server.world.store.begin().await.unwrap();
    tx.insert_instance(&place).await.unwrap();
    tx.add_stack(&id.parse().unwrap(), &place.id).await.unwrap();
    let counters = Counters { storage_bytes: 3 << 30, ..Counters::default() };
    tx.record_usages(&place.id, [(id.parse().unwrap(), counters)].into(), server.world.now()).await.unwrap();
    tx.commit().await.unwrap();
    let body = json!({"planId": "starter", "interval": "month"});
    let answer = server.post(&format!("/api/clients/{id}/plan/preview"), &token, &body).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text);
    let why = "The plan has too little storage: 3 GB of 1 GB used, and this needs 2 GB more. Remove files first, or \
        choose a larger plan.";
    assert_eq!(answer.json()["detail"], why);
    let second = stackpro_domain::Time(server.world.now().ms() / 1_000 * 1_000).to_string();
    let at = json!({"planId": "starter", "interval": "month", "at": second});
    let changed = server.post(&format!("/api/clients/{id}/plan"), &token, &at).await;
    assert_eq!(changed.status, StatusCode::FORBIDDEN, "nor by confirming what was never previewed: {}", changed.text);
    assert_eq!(client(&server, &id).await.plan, "business");
}

#[tokio::test]
async fn a_change_that_cannot_be_paid_does_not_happen() {
    let server = Server::start().await;
    let (id, token) = paying(&server).await;
    // Their card is replaced by one that will be declined.
    let customer = client(&server, &id).await.customer_id.unwrap();
    let portal = server.world.till.create_portal(&customer, "http://127.0.0.1:8080/".into()).await.unwrap();
    let form = [("number", "4000000000000341"), ("expiry", "12 / 34"), ("cvc", "123"), ("name", "Ann Other")];
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let changed = http.post(format!("{portal}/card")).form(&form).send().await.unwrap();
    assert!(changed.status().is_redirection(), "{changed:?}");
    let shown = preview(&server, &id, &token, "enterprise", "year").await;
    let answer = server.post(&format!("/api/clients/{id}/plan"), &token, &shown).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.text);
    assert!(answer.text.contains("nothing has changed") && answer.text.contains("Change the card"), "{}", answer.text);
    till_events::sweep_all(&server.world).await.unwrap();
    let row = client(&server, &id).await;
    assert_eq!((row.plan.as_str(), row.life.state), ("business", State::Active));
    assert_eq!(moves(&server, &id).await, ["t3.small"]);
    assert_eq!(invoices(&server, &id, &token).await.len(), 1);
}

#[tokio::test]
async fn the_page_works_without_scripts() {
    let server = Server::start().await;
    let (id, _) = paying(&server).await;
    let ann = Browser::new(&server);
    let login = [("email", OWNER), ("password", PASSWORD)];
    assert_eq!(ann.post("/login", &login).await.status, StatusCode::SEE_OTHER);
    let page = ann.get(&format!("/dashboard/{id}/upgrade")).await;
    assert!(page.text.contains("Invoices") && page.text.contains("$5,990.00"), "{}", page.text);
    assert!(!page.text.contains("You pay now"));
    let asked = ann.get(&format!("/dashboard/{id}/upgrade?plan=enterprise&interval=year")).await;
    assert!(asked.text.contains("You pay now"), "{}", asked.text);
    let field = |name: &str| {
        let (_, rest) = asked.text.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let (csrf, at) = (field("csrf"), field("at"));
    let fields = [("csrf", csrf.as_str()), ("planId", "enterprise"), ("interval", "year"), ("at", &at)];
    let too_old = [fields[0], fields[1], fields[2], ("at", "2020-01-01T00:00:00Z")];
    let again = ann.post(&format!("/dashboard/{id}/plan"), &too_old).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.text.contains("too old") && again.text.contains("You pay now"), "shown anew: {}", again.text);
    let done = ann.post(&format!("/dashboard/{id}/plan"), &fields).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    assert_eq!(client(&server, &id).await.plan, "enterprise");
    let cancelled = ann.post(&format!("/dashboard/{id}/cancel"), &[("csrf", &csrf), ("sure", "yes")]).await;
    assert_eq!(cancelled.status, StatusCode::SEE_OTHER, "{}", cancelled.text);
    let page = ann.get(&format!("/dashboard/{id}/upgrade")).await;
    assert!(page.text.contains("Keep my plan"), "{}", page.text);
    assert_eq!(ann.post(&format!("/dashboard/{id}/keep"), &[("csrf", &csrf)]).await.status, StatusCode::SEE_OTHER);
    assert!(!client(&server, &id).await.life.cancels_at_period_end);
}

#[tokio::test]
async fn an_operator_gives_days_and_it_is_written_down() {
    let server = Server::start().await;
    let made = server.sign_up("Acme Law").await;
    let id = made["clientId"].as_str().unwrap().to_owned();
    let olga = crate::pages::operator(&server).await;
    let before = client(&server, &id).await.life;
    let page = format!("/console/clients/{id}");
    let csrf = olga.csrf(&page).await;
    let give = async |order: &str, days: &str| {
        olga.post(&format!("{page}/days"), &[("csrf", &csrf), ("order", order), ("days", days)]).await
    };
    assert_eq!(give("extend-trial", "10").await.status, StatusCode::SEE_OTHER);
    assert_eq!(give("grant-grace", "4").await.status, StatusCode::SEE_OTHER);
    let after = client(&server, &id).await.life;
    assert_eq!(after.trial_ends_at, before.trial_ends_at.plus_days(10));
    assert_eq!(after.grace_ends_at, before.grace_ends_at.plus_days(14));
    for wrong in ["0", "91", "", "x", "-3", "1e3"] {
        let answer = give("extend-trial", wrong).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert!(answer.text.contains("must be from 1 to 90"), "{wrong}");
    }
    assert_eq!(give("give-all", "3").await.status, StatusCode::NOT_FOUND);
    assert_eq!(client(&server, &id).await.life, after);
    let login = json!({"email": "op@stackpro.example", "password": PASSWORD});
    let token = server.post("/api/auth/login", "", &login).await.json()["token"].as_str().unwrap().to_owned();
    let path = format!("/api/operator/clients/{id}/extend-trial/2");
    assert_eq!(server.post(&path, made["token"].as_str().unwrap(), &json!({})).await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.post(&path, &token, &json!({})).await.status, StatusCode::NO_CONTENT);
    let audits = server.world.store.audit(Some(&id.parse().unwrap()), 10).await.unwrap();
    let told: Vec<(&str, &str)> = audits.iter().map(|row| (row.action.as_str(), row.detail.as_str())).collect();
    assert_eq!(told, [("extend trial", "2 days"), ("grant grace", "4 days"), ("extend trial", "10 days")]);
}

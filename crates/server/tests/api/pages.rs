//! The pages: sessions by cookie, forms that are guarded, and every page rendered for whom it is.

use std::cell::RefCell;
use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use stackpro_server::auth::hash_token;
use stackpro_store::{MailFilter, Purpose, TillEvent, TillEventState};

use crate::common::{Answer, PASSWORD, Server};
use crate::till::{buy, hint};

const ORIGIN: &str = "http://127.0.0.1:8080";

/// A browser: keeps cookies, sends what a browser sends.
pub(crate) struct Browser<'a> {
    server: &'a Server,
    cookies: RefCell<BTreeMap<String, String>>,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        Self { server, cookies: RefCell::default() }
    }

    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        let jar = self.cookies.borrow();
        let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder().method(method).uri(path).header("accept", "text/html");
        request.header("cookie", cookies.join("; "))
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.server.send(request).await;
        for line in answer.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            assert!(line.contains("; HttpOnly; SameSite=Lax") && line.contains("Path=/;") && !line.contains("Domain"));
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.borrow_mut().remove(name);
            } else {
                self.cookies.borrow_mut().insert(name.into(), value.into());
            }
        }
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from(ORIGIN, path, fields).await
    }

    async fn post_from(&self, origin: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let request = self.request(Method::POST, path).header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body.join("&"))).unwrap()).await
    }

    /// The token that a page's forms carry.
    pub(crate) async fn csrf(&self, path: &str) -> String {
        let page = self.get(path).await;
        let (_, rest) = page.text.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("{}", page.text));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Signs up; the path of the dashboard.
    pub(crate) async fn sign_up(&self, company: &str) -> String {
        let email = format!("owner@{}.example", company.to_lowercase().replace(' ', ""));
        let fields = [
            ("email", email.as_str()),
            ("password", PASSWORD),
            ("firstName", "Ann"),
            ("lastName", "Other"),
            ("company", company),
            ("plan", "starter"),
        ];
        let answer = self.post("/signup", &fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        answer.location().to_owned()
    }
}

pub(crate) async fn operator(server: &Server) -> Browser<'_> {
    let mut tx = server.world.store.begin().await.unwrap();
    let expires = server.world.real_now().plus(60_000);
    tx.insert_token(Purpose::MakeOperator, &hash_token("first-token"), "first", expires).await.unwrap();
    tx.commit().await.unwrap();
    let browser = Browser::new(server);
    for _ in 0..2 {
        let page = browser.get("/console/make-operator?token=first-token").await;
        assert_eq!(page.status, StatusCode::OK, "looking does not use the link up");
    }
    let fields =
        [("email", "op@stackpro.example"), ("password", PASSWORD), ("firstName", "Olga"), ("lastName", "Perator")];
    let weak =
        browser.post("/console/first/first-token", &[("email", "op@stackpro.example"), ("password", "short")]).await;
    assert_eq!(weak.status, StatusCode::UNPROCESSABLE_ENTITY);
    let made = browser.post("/console/first/first-token", &fields).await;
    assert_eq!((made.status, made.location()), (StatusCode::SEE_OTHER, "/console"), "{}", made.text);
    let again = Browser::new(server).post("/console/first/first-token", &fields).await;
    assert_eq!(again.status, StatusCode::GONE);
    browser
}

#[tokio::test]
async fn the_public_pages_are_there_for_everyone() {
    let server = Server::start().await;
    let visitor = Browser::new(&server);
    for path in [
        "/",
        "/plans",
        "/plans?interval=year",
        "/signup?plan=business",
        "/login",
        "/contact",
        "/api",
        "/verify-email?token=x",
    ] {
        let page = visitor.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        assert!(
            page.headers["content-security-policy"].to_str().unwrap().contains("form-action 'self' http"),
            "{path}"
        );
    }
    let asset = visitor.get("/assets/base.css").await;
    assert!(asset.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(visitor.get("/assets/..%2fCargo.toml").await.status, StatusCode::NOT_FOUND);
    let sent =
        visitor.post("/contact", &[("name", "Ann"), ("email", "a@b.example"), ("message", "Two\r\nlines")]).await;
    assert_eq!(sent.status, StatusCode::OK);
    assert_eq!(server.world.store.contacts(None, 5).await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_client_sees_their_pages_and_nobody_elses() {
    let server = Server::start().await;
    let (ann, bob) = (Browser::new(&server), Browser::new(&server));
    let acme = ann.sign_up("Acme Law").await;
    let other = bob.sign_up("Other Law").await;
    for page in ["", "/upgrade", "/move", "/members", "/settings", "/paid?cancelled=1", "/paid"] {
        let own = ann.get(&format!("{acme}{page}")).await;
        assert_eq!(own.status, StatusCode::OK, "{page}: {}", own.text);
        assert!(own.text.contains("Acme Law"), "{page}");
        let theirs = ann.get(&format!("{other}{page}")).await;
        assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{page}");
        assert!(!theirs.text.contains("Other Law"));
        let nobody = Browser::new(&server).get(&format!("{acme}{page}")).await;
        assert_eq!(nobody.status, StatusCode::SEE_OTHER, "{page}");
        assert!(nobody.location().starts_with("/login?next=%2Fdashboard%2F"), "{}", nobody.location());
    }
    for page in ["", "/clients", "/flows", "/time", "/mailbox", "/resources", "/instances", "/contacts"] {
        assert_eq!(ann.get(&format!("/console{page}")).await.status, StatusCode::FORBIDDEN, "{page}");
    }
    let csrf = ann.csrf(&acme).await;
    let forms =
        ["portal", "portal-password", "billing", "cancel", "checkout", "members", "verify-email", "plan", "keep"];
    for form in forms.into_iter().chain(["time-zone"]) {
        let answer = ann.post(&format!("{other}/{form}"), &[("csrf", &csrf), ("sure", "yes")]).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{form}");
    }
}

#[tokio::test]
async fn a_time_zone_is_the_browsers_until_they_choose_another() {
    let server = Server::start().await;
    let ann = Browser::new(&server);
    let fields = |zone: &'static str, email: &'static str| {
        [("email", email), ("password", PASSWORD), ("firstName", "Ann"), ("lastName", "Other"), ("company", "Acme Law")]
            .into_iter()
            .chain([("plan", "starter"), ("timeZone", zone)])
            .collect::<Vec<_>>()
    };
    let mut settings = String::new();
    // A browser may know more zones than we do, and one without scripts says none.
    for (said, email, kept) in [
        ("Mars/Olympus", "mars@acme.example", "UTC"),
        ("", "none@acme.example", "UTC"),
        ("Asia/Kolkata", "ann@acme.example", "Asia/Kolkata"),
    ] {
        settings = format!("{}/settings", ann.post("/signup", &fields(said, email)).await.location());
        let page = ann.get(&settings).await.text;
        assert!(page.contains(&format!("<option selected>{kept}</option>")), "{said}: {page}");
    }
    let csrf = ann.csrf(&settings).await;
    let form = settings.replace("/settings", "/time-zone");
    let choose = async |zone| ann.post(&form, &[("csrf", csrf.as_str()), ("timeZone", zone)]).await;
    assert_eq!(choose("Mars/Olympus").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(choose("Pacific/Auckland").await.location(), format!("{settings}?said=time-zone"));
    let page = ann.get(&settings).await.text;
    assert!(page.contains("<option selected>Pacific/Auckland</option>"), "{page}");
}

#[tokio::test]
async fn forms_need_our_own_page_and_its_token() {
    let server = Server::start().await;
    let ann = Browser::new(&server);
    let acme = ann.sign_up("Acme Law").await;
    let csrf = ann.csrf(&acme).await;
    let cancel = format!("{acme}/cancel");
    let fields = [("csrf", csrf.as_str()), ("sure", "yes")];
    let neighbour = format!("http://{}.stackpro.localhost:8080", acme.rsplit('/').next().unwrap());
    assert_eq!(ann.post_from(&neighbour, &cancel, &fields).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ann.post_from("null", &cancel, &fields).await.status, StatusCode::FORBIDDEN);
    assert_eq!(ann.post(&cancel, &[("sure", "yes")]).await.status, StatusCode::FORBIDDEN);
    let other = Browser::new(&server);
    let elsewhere = other.sign_up("Other Law").await;
    let foreign = other.csrf(&elsewhere).await;
    assert_eq!(ann.post(&cancel, &[("csrf", &foreign), ("sure", "yes")]).await.status, StatusCode::FORBIDDEN);
    let id = acme.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(server.world.store.client(&id).await.unwrap().unwrap().life.state.as_str(), "trial");
    assert_eq!(ann.post(&cancel, &fields).await.status, StatusCode::SEE_OTHER);
    assert_eq!(server.world.store.client(&id).await.unwrap().unwrap().life.state.as_str(), "suspended");
    // The API takes no cookie where something is changed.
    let checkout = ann.request(Method::POST, "/api/create-checkout-session").header("content-type", "application/json");
    let body = r#"{"planId":"starter","interval":"month"}"#;
    assert_eq!(ann.send(checkout.body(Body::from(body)).unwrap()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_session_goes_on_by_its_refresh_token_which_is_good_once() {
    let server = Server::start().await;
    let ann = Browser::new(&server);
    let acme = ann.sign_up("Acme Law").await;
    let first = ann.cookies.borrow().clone();
    let with_refresh = |token: &str| {
        let browser = Browser::new(&server);
        browser.cookies.borrow_mut().insert("refresh".into(), token.into());
        browser
    };
    let renewed = with_refresh(&first["refresh"]);
    assert_eq!(renewed.get(&acme).await.status, StatusCode::OK);
    let second = renewed.cookies.borrow()["refresh"].clone();
    assert_ne!(second, first["refresh"]);
    // Another request of the same browser, a moment later: accepted, without a new refresh token.
    let late = with_refresh(&first["refresh"]);
    assert_eq!(late.get(&acme).await.status, StatusCode::OK);
    assert_eq!(late.cookies.borrow()["refresh"], first["refresh"]);
    // Its use after that means that it was stolen: the session is over, also for the right one.
    let (session, _) = server.world.store.session_by_hash(&hash_token(&second)).await.unwrap().unwrap();
    let mut tx = server.world.store.begin().await.unwrap();
    let old = server.world.real_now().plus(-60_000);
    let third = hash_token("third");
    assert!(tx.rotate_session(&session.id, &hash_token(&second), &third, old, old.plus(86_400_000)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(with_refresh(&second).get(&acme).await.status, StatusCode::SEE_OTHER);
    assert_eq!(with_refresh("third").get(&acme).await.status, StatusCode::SEE_OTHER);
    assert_eq!(with_refresh("made-up").get(&acme).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn log_out_ends_the_session_everywhere() {
    let server = Server::start().await;
    let ann = Browser::new(&server);
    let acme = ann.sign_up("Acme Law").await;
    let kept = ann.cookies.borrow().clone();
    let csrf = ann.csrf(&acme).await;
    assert_eq!(ann.post("/logout", &[("csrf", &csrf)]).await.location(), "/");
    assert!(ann.cookies.borrow().is_empty());
    let thief = Browser::new(&server);
    *thief.cookies.borrow_mut() = kept;
    assert_eq!(thief.get(&acme).await.status, StatusCode::SEE_OTHER);
    let login = [("email", "owner@acmelaw.example"), ("password", PASSWORD), ("next", "//evil.example")];
    assert_eq!(ann.post("/login", &login).await.location(), acme);
    let wrong = Browser::new(&server).post("/login", &[("email", "owner@acmelaw.example"), ("password", "no")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.text.contains("owner@acmelaw.example"), "what was typed stays");
}

#[tokio::test]
async fn a_refused_sign_up_shows_what_is_wrong_and_escapes_what_was_typed() {
    let server = Server::start().await;
    let visitor = Browser::new(&server);
    let fields =
        [("email", "\"><script>x</script>"), ("company", "<b>Acme</b>"), ("password", "short"), ("plan", "gold")];
    let page = visitor.post("/signup", &fields).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.text.contains("is not a mail address") && page.text.contains("at least 10 characters"));
    assert!(!page.text.contains("<script>x") && !page.text.contains("<b>Acme"));
}

#[tokio::test]
async fn only_a_proved_address_invites_and_the_invited_choose_a_password() {
    let server = Server::start().await;
    let ann = Browser::new(&server);
    let acme = ann.sign_up("Acme Law").await;
    let csrf = ann.csrf(&acme).await;
    let members = format!("{acme}/members");
    let bob = [("csrf", csrf.as_str()), ("email", "bob@acmelaw.example"), ("firstName", "Bob"), ("lastName", "B")];
    assert_eq!(ann.post(&members, &bob).await.status, StatusCode::FORBIDDEN);

    let mail = |kind: &'static str, path: &'static str| {
        let (world, id) = (server.world.clone(), acme.rsplit('/').next().unwrap().parse().unwrap());
        async move {
            let ours = MailFilter { client: Some(id), state: None };
            let mails = world.store.mails(&ours, None, 20).await.unwrap().rows;
            let line = mails.into_iter().find(|mail| mail.kind == kind).unwrap();
            let text = world.store.mail(&line.id).await.unwrap().unwrap().text;
            let (_, token) = text.split_once(&format!("{path}?token=")).unwrap();
            token.split_whitespace().next().unwrap().to_owned()
        }
    };
    let token = mail("welcome", "/verify-email").await;
    assert_eq!(Browser::new(&server).get(&format!("/verify-email?token={token}")).await.status, StatusCode::OK);
    assert_eq!(ann.post(&members, &bob).await.status, StatusCode::FORBIDDEN, "looking at the link proves nothing");
    assert_eq!(Browser::new(&server).post("/verify", &[("token", &token)]).await.status, StatusCode::OK);
    assert_eq!(Browser::new(&server).post("/verify", &[("token", &token)]).await.status, StatusCode::GONE);
    assert_eq!(ann.post(&members, &bob).await.status, StatusCode::SEE_OTHER);
    assert_eq!(ann.post(&members, &bob).await.status, StatusCode::CONFLICT);

    let token = mail("invitation", "/set-password").await;
    let invited = Browser::new(&server);
    let page = invited.get(&format!("/set-password?token={token}")).await;
    assert!(page.text.contains("bob@acmelaw.example") && page.text.contains("Acme Law"));
    let set = |password: &'static str| [("token", token.clone()), ("password", password.to_owned())];
    let post = async |fields: [(&str, String); 2]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        invited.post("/set-password", &fields).await
    };
    assert_eq!(post(set("short")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(post(set("another-plum-violin")).await.location(), acme);
    assert_eq!(post(set("another-plum-violin")).await.status, StatusCode::GONE);
    // A member sees, and does not run, the client's affairs.
    let csrf = invited.csrf(&acme).await;
    assert_eq!(invited.get(&members).await.status, StatusCode::OK);
    let carol = [("csrf", csrf.as_str()), ("email", "carol@acmelaw.example"), ("firstName", "C"), ("lastName", "C")];
    assert_eq!(invited.post(&members, &carol).await.status, StatusCode::FORBIDDEN);
    // The trial's limit is three people.
    let csrf = ann.csrf(&acme).await;
    for (email, status) in [("carol@acmelaw.example", 303), ("dave@acmelaw.example", 403)] {
        let fields = [("csrf", csrf.as_str()), ("email", email), ("firstName", "X"), ("lastName", "Y")];
        let answer = ann.post(&members, &fields).await;
        assert_eq!(answer.status.as_u16(), status, "{email}");
    }
}

#[tokio::test]
async fn the_console_shows_everything_and_moves_time() {
    let server = Server::start().await;
    let ann = Browser::new(&server);
    let acme = ann.sign_up("Acme Law").await;
    let id = acme.rsplit('/').next().unwrap().to_owned();
    let olga = operator(&server).await;
    let flow = server.world.store.timelines(&id.parse().unwrap(), 1).await.unwrap().remove(0).flow.id;
    let pages = [
        "/console",
        "/console/clients",
        "/console/clients?q=ACME&state=trial",
        "/console/clients?q=%25_%00&page=9",
        "/console/instances",
        "/console/resources",
        "/console/flows",
        "/console/flows?state=parked&page=x",
        "/console/contacts",
        "/console/mails",
        "/console/mails?state=bounced&client=nobody-7f3k",
        "/console/mails?client=%00",
        "/console/mails/suppressed",
        "/console/time",
    ];
    for path in pages.map(str::to_owned).into_iter().chain([
        format!("/console/clients/{id}"),
        format!("/console/flows/{flow}"),
        acme.clone(),
    ]) {
        let page = olga.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
    }
    assert!(olga.get("/console/clients?q=acme").await.text.contains("Acme Law"));
    assert_eq!(olga.get("/console/mailbox").await.status, StatusCode::NOT_FOUND, "there is none here");
    let csrf = olga.csrf("/console/time").await;
    let before = server.world.now();
    assert_eq!(olga.post("/console/time", &[("csrf", &csrf), ("advance", "next")]).await.status, StatusCode::SEE_OTHER);
    let moved = server.world.now().since(before);
    assert!((6 * 86_400_000..8 * 86_400_000).contains(&moved), "to the reminder 7 days before the end: {moved}");
    assert_eq!(olga.get("/console").await.status, StatusCode::OK, "still signed in");

    let order = format!("/console/clients/{id}");
    let retry = olga.post(&format!("/console/flows/{flow}/retry"), &[("csrf", &csrf)]).await;
    assert_eq!(retry.status, StatusCode::CONFLICT);
    let unsure = olga.post(&format!("{order}/delete"), &[("csrf", &csrf)]).await;
    assert_eq!(unsure.status, StatusCode::CONFLICT);
    assert_eq!(olga.post(&format!("{order}/suspend"), &[("csrf", &csrf)]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        olga.post(&format!("{order}/delete"), &[("csrf", &csrf), ("confirm", &id)]).await.status,
        StatusCode::SEE_OTHER
    );
    let client = server.world.store.client(&id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(client.life.state.as_str(), "deleted");
    assert_eq!(server.world.store.audit(None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_parked_event_is_shown_and_tried_again() {
    let server = Server::start().await;
    let olga = operator(&server).await;
    let (store, now) = (&server.world.store, server.world.now());
    let event = TillEvent {
        id: "evt_odd".into(),
        kind: "invoice.paid".into(),
        payload: "{}".into(),
        state: TillEventState::Received,
        attempts: 15,
        error: None,
        received_at: now,
        handled_at: None,
    };
    let mut tx = store.begin().await.unwrap();
    tx.insert_till_event(&event).await.unwrap();
    tx.till_event_handled("evt_odd", TillEventState::Parked, now, Some("the till <refused>"), None).await.unwrap();
    tx.commit().await.unwrap();

    assert!(olga.get("/console").await.text.contains("<strong>1 event</strong> of the till"));
    let page = olga.get("/console/flows").await.text;
    assert!(page.contains("evt_odd") && page.contains("invoice.paid"), "{page}");
    assert!(page.contains("the till") && !page.contains("<refused>"), "{page}");
    let csrf = olga.csrf("/console/flows").await;
    let retry = "/console/events/evt_odd/retry";
    assert_eq!(olga.post(retry, &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(store.till_events_needing_attention().await.unwrap(), 1);
    assert_eq!(olga.post(retry, &[("csrf", &csrf)]).await.location(), "/console/flows?said=going");
    assert_eq!(olga.post(retry, &[("csrf", &csrf)]).await.status, StatusCode::CONFLICT);
    assert_eq!(olga.post("/console/events/none/retry", &[("csrf", &csrf)]).await.status, StatusCode::NOT_FOUND);
    let event = &store.till_events_due(server.world.now().ms(), 10).await.unwrap()[0];
    assert_eq!((event.id.as_str(), event.attempts), ("evt_odd", 0));
    assert_eq!(store.audit(None, 10).await.unwrap().len(), 1);
    assert!(!olga.get("/console/flows").await.text.contains("evt_odd"));
    assert!(!olga.get("/console").await.text.contains("of the till"));
}

#[tokio::test]
async fn the_next_event_may_be_a_renewal() {
    let server = Server::start().await;
    let olga = operator(&server).await;
    let id = buy(&server, "4242424242424242").await.parse().unwrap();
    let customer = server.world.store.client(&id).await.unwrap().unwrap().customer_id.unwrap();
    hint(&server, "evt_1", "invoice.paid", &customer).await;
    let paid_until = server.world.store.client(&id).await.unwrap().unwrap().life.paid_until.unwrap();
    assert_eq!(server.world.store.next_date_after(server.world.now()).await.unwrap(), None, "the till alone knows");
    let page = olga.get("/console/time").await.text;
    assert!(page.contains("The till: a renewal") && !page.contains(" disabled>"), "{page}");
    let csrf = olga.csrf("/console/time").await;
    let moved = olga.post("/console/time", &[("csrf", &csrf), ("advance", "next")]).await;
    assert_eq!(moved.status, StatusCode::SEE_OTHER, "{}", moved.text);
    let past = server.world.now().since(paid_until);
    assert!((0..60_000).contains(&past), "to the renewal: {past}");
}

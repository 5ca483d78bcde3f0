//! Every page with sample data: for looking at, and for the tests that hold for all of them.
//!
//! `PREVIEW_DIR=somewhere cargo test -p stackpro-server preview` writes them with what they load, ready for
//! any server of plain files; `PREVIEW_WORDS` replaces what people say in them.

use askama::Template;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::plan::{DEFAULT_PLANS, Interval, Plans};
use stackpro_domain::time::{DAY, HOUR};
use stackpro_domain::zone::Zone;
use stackpro_domain::{ClientId, Time};
use stackpro_protocol::api::{
    Client, Deployment, FieldError, Invoice, NextDate, PlanPreview, PreviewLine, Step, Usage,
};

use super::frame::{ClientFrame, SiteFrame};
use super::history::UsedMonth;
use super::mail::{Mail, MailContent, Receipt, Recipient};
use super::{PAGES, api_reference, client, host, site};

mod console;

pub(super) const NOW: Time = Time(1_795_562_204_123);

/// What the samples say wherever people or agents say something.
#[derive(Clone)]
pub(super) struct Words(pub(super) String);

type Pages = Vec<(&'static str, String)>;

/// Every page, in the order of [`PAGES`].
pub(super) fn all(words: &Words) -> Pages {
    [site_pages(words), client_pages(words), console::pages(words), host_pages(words), mails(words)].concat()
}

fn show(name: &'static str, page: &impl Template) -> (&'static str, String) {
    (name, page.render().unwrap())
}

fn plans() -> Plans {
    Plans::parse(DEFAULT_PLANS).unwrap()
}

fn id() -> ClientId {
    "baker-lane-7f3k".parse().unwrap()
}

impl Words {
    fn text(&self) -> String {
        self.0.clone()
    }

    fn errors(&self, fields: &[&str]) -> Vec<FieldError> {
        let message = format!("This is not what we expected: {}", self.0);
        fields.iter().map(|field| FieldError { field: (*field).into(), message: message.clone() }).collect()
    }

    fn client_frame(&self, state: &str, verified: bool) -> ClientFrame {
        ClientFrame {
            csrf: self.text(),
            client: id(),
            company: self.text(),
            person: self.text(),
            email: self.text(),
            verified,
            state: state.into(),
            flash: (state == "active").then(|| self.text()),
        }
    }

    fn client(&self, state: &str) -> Client {
        Client {
            id: id(),
            company: self.text(),
            state: state.into(),
            plan: "business".into(),
            interval: (state == "active").then(|| "month".into()),
            given: false,
            created_at: NOW.plus(-3 * DAY),
            next: self.dates(state).into_iter().find(|date| date.at > NOW),
        }
    }

    fn dates(&self, state: &str) -> Vec<NextDate> {
        let date = |days: i64, what: &str| NextDate {
            at: NOW.plus(days * DAY - HOUR),
            what: format!("{what} {}", self.extra()),
        };
        match state {
            "suspended" => {
                vec![date(-17, "You signed up"), date(-1, "Your site was paused"), date(29, "Your data is deleted")]
            }
            "active" => vec![
                date(-20, "You signed up"),
                date(-1, "You moved to a server of your own"),
                date(30, "Your plan renews"),
            ],
            _ => vec![
                date(-3, "You signed up"),
                date(11, "Your free trial ends"),
                date(14, "Your site pauses, and your data is kept"),
                date(44, "Your data is deleted"),
            ],
        }
    }

    /// The words, where they are hostile; nothing, where a page is to be looked at.
    fn extra(&self) -> &str {
        if self.0 == LOOKED_AT { "" } else { &self.0 }
    }

    fn steps(&self, done: usize, now: &str) -> Vec<Step> {
        let names = [
            "Find a place",
            "Create storage",
            "Set up your address",
            "Prepare your mail",
            "Start your site",
            "Check that it answers",
        ];
        let step = |(i, name): (usize, &&str)| {
            let start = NOW.plus(i as i64 * 40);
            let status = match i {
                i if i < done => "done",
                i if i == done => now,
                _ => "pending",
            };
            Step {
                name: format!("{name} {}", self.extra()),
                status: status.into(),
                started_at: (i <= done).then_some(start),
                finished_at: (i < done).then(|| start.plus(35 + 61 * i as i64)),
                error: (status == "failed")
                    .then(|| format!("The server did not answer in time. We try again. {}", self.extra())),
            }
        };
        names.iter().enumerate().map(step).collect()
    }

    fn deployment(&self, status: &str, done: usize, now: &str) -> Deployment {
        let moved = self.extra().is_empty() && status == "ready";
        Deployment {
            client_id: id(),
            status: status.into(),
            deployment_type: if moved { "dedicated" } else { "shared" }.into(),
            url: if self.extra().is_empty() {
                "http://baker-lane-7f3k.stackpro.localhost:8080".into()
            } else {
                format!("https://{}", self.0)
            },
            steps: self.steps(done, now),
            certificate: None,
        }
    }

    fn dashboard(&self, state: &str, status: &str, done: usize, step: &str) -> client::Dashboard {
        let mut deployment = self.deployment(status, done, step);
        if state == "active" {
            deployment.certificate = Some(certificate());
        } else {
            deployment.deployment_type = "shared".into();
        }
        client::Dashboard {
            frame: self.client_frame(state, status != "provisioning"),
            client: self.client(state),
            plan_name: if state == "active" { "Business".into() } else { "Free trial".into() },
            deployment,
            usage: usage(state != "active"),
            months: if status == "provisioning" { vec![] } else { used_months() },
            dates: self.dates(state),
            now: NOW,
            state_ends_at: Some(NOW.plus_days(12)),
            instance: (status != "suspended").then(|| "i-0f3a9c27d1".parse().unwrap()),
            portal: (status == "ready").then(|| client::Portal {
                webdav_url: "http://baker-lane-7f3k.stackpro.localhost:8080/files/".into(),
                user: id().to_string(),
                password: (state == "active").then(|| self.text()),
            }),
            sign_in: (status == "migrating").then(|| client::SignIn {
                title: "WordPress".into(),
                url: "http://baker-lane-7f3k.stackpro.localhost:8080/wp-login.php".into(),
                user: "admin".into(),
                password: None,
            }),
        }
    }
}

/// Of four months, one of which is missing.
fn used_months() -> Vec<UsedMonth> {
    let months = std::iter::successors(Some(NOW.month_start()), |month| Some(month.plus(-1).month_start())).take(5);
    let used = |(n, month): (usize, stackpro_domain::Time)| UsedMonth {
        month,
        storage_bytes: (912 << 20) >> n,
        members: 2,
        mails: 12 * n as u64,
        requests: 40_211,
        traffic_bytes: 3 << (25 + n),
    };
    months.enumerate().filter(|(n, _)| *n != 2).map(used).collect()
}

fn usage(limited: bool) -> Usage {
    Usage {
        storage_bytes: 912 << 20,
        storage_limit_bytes: limited.then_some(1 << 30),
        files: 1_284,
        members: 2,
        members_limit: limited.then_some(3),
        emails_this_month: 12,
        emails_limit: limited.then_some(100),
        requests: 40_211,
        traffic_bytes: 3 << 29,
        reported_at: Some(NOW),
    }
}

fn certificate() -> Certificate {
    let hash = "7d1c0e7bb2e3f0a9c5d48817a6b5e2f3197c0d44e1b8a35f60c2d7e894ab01c3";
    Certificate {
        files: 1_284,
        bytes: 912 << 20,
        source_hash: hash.into(),
        copy_hash: hash.into(),
        rounds: 3,
        held_files: 1,
        held_ms: 187,
        committed_at: NOW.plus(-DAY),
    }
}

fn signup(words: &Words, errors: Vec<FieldError>, problem: Option<String>) -> site::Signup {
    let form = site::SignupForm {
        email: words.text(),
        first_name: words.text(),
        last_name: words.text(),
        company: words.text(),
        plan: "business".into(),
        recipe: String::new(),
    };
    let form = if errors.is_empty() { site::SignupForm::default() } else { form };
    let summary = format!("{}: a website from a folder that you upload to, and a file portal.", words.text());
    let choice =
        |name: &str, title: &str| site::Choice { name: name.into(), title: title.into(), summary: summary.clone() };
    let recipes = vec![choice("site", "Website and files"), choice("wordpress", "WordPress")];
    site::Signup { frame: SiteFrame::default(), csrf: words.text(), plans: plans(), recipes, form, errors, problem }
}

fn contact(words: &Words, sent: bool) -> site::Contact {
    site::Contact {
        frame: SiteFrame::default(),
        csrf: words.text(),
        name: words.text(),
        email: words.text(),
        message: words.text(),
        errors: if sent { vec![] } else { words.errors(&["message"]) },
        sent,
    }
}

fn verify(words: &Words, outcome: Option<site::Verification>) -> site::Verify {
    site::Verify { frame: SiteFrame::default(), csrf: words.text(), token: words.text(), outcome }
}

fn set_password(words: &Words, expired: bool) -> site::SetPassword {
    site::SetPassword {
        frame: SiteFrame::default(),
        csrf: words.text(),
        token: words.text(),
        email: words.text(),
        company: words.text(),
        errors: words.errors(&["password"]),
        expired,
    }
}

fn error(words: &Words, status: u16) -> site::ErrorPage {
    let detail = if status == 422 { words.text() } else { String::new() };
    let frame = SiteFrame { dashboard: Some("/dashboard/baker-lane-7f3k".into()) };
    site::ErrorPage { frame, status, detail, request_id: format!("019ab7c2-77e0-7c31 {}", words.extra()) }
}

fn reference(words: &Words) -> api_reference::ApiReference {
    let document = serde_json::json!({
        "info": {"version": "0.1.0"},
        "paths": {
            "/api/auth/signup": {"post": {
                "tags": ["Accounts"], "summary": "Sign up", "description": words.text(),
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/SignupRequest"}}}},
                "responses": {"201": {"description": words.text()}, "422": {"description": "A field is wrong"}}}},
            "/api/auth/login": {"post": {"tags": ["Accounts"], "summary": "Log in", "responses": {}}},
            "/api/trial-status/{clientId}": {"get": {
                "tags": ["Clients"], "summary": "How the trial stands",
                "parameters": [{"name": "clientId", "required": true, "schema": {"type": "string"}}], "responses": {}}},
        },
        "components": {"schemas": {"SignupRequest": {"required": ["email"], "properties": {
            "email": {"type": "string", "description": words.text()}, "plan": {"type": ["string", "null"]}}}}}
    });
    api_reference::ApiReference::from_openapi(SiteFrame::default(), &document)
}

fn site_pages(words: &Words) -> Pages {
    let frame = SiteFrame::default;
    let login = site::Login {
        frame: frame(),
        csrf: words.text(),
        email: words.text(),
        problem: Some(format!("The address or the password is not right. {}", words.extra())),
        next: Some(words.text()),
    };
    let errors = [403, 404, 410, 422, 429, 500, 503].map(|status| error(words, status).render().unwrap());
    let names = [
        "site/error-403",
        "site/error-404",
        "site/error-410",
        "site/error-422",
        "site/error-429",
        "site/error-500",
        "site/error-503",
    ];
    let mut pages = vec![
        show("site/home", &site::Home { frame: frame(), plans: plans() }),
        show("site/plans", &site::PlansPage { frame: frame(), plans: plans(), interval: Interval::Month }),
        show("site/plans-year", &site::PlansPage { frame: frame(), plans: plans(), interval: Interval::Year }),
        show("site/signup", &signup(words, vec![], None)),
        show(
            "site/signup-wrong",
            &signup(words, words.errors(&["email", "password", "company", "plan"]), Some(words.text())),
        ),
        show("site/login", &login),
        show("site/contact", &contact(words, false)),
        show("site/contact-sent", &contact(words, true)),
        show("site/verify", &verify(words, None)),
        show("site/verify-done", &verify(words, Some(site::Verification::Verified))),
        show("site/verify-over", &verify(words, Some(site::Verification::TrialOver { whose: words.text() }))),
        show("site/verify-again", &verify(words, Some(site::Verification::Already))),
        show("site/verify-invalid", &verify(words, Some(site::Verification::Invalid))),
        show("site/set-password", &set_password(words, false)),
        show("site/set-password-expired", &set_password(words, true)),
        show("site/api", &reference(words)),
    ];
    pages.extend(names.into_iter().zip(errors));
    pages
}

fn members(words: &Words, verified: bool, count: usize) -> client::Members {
    let member = |i: usize| client::Member {
        id: "m-1".parse().unwrap(),
        name: words.text(),
        email: words.text(),
        role: ["owner", "admin", "member"][i].into(),
        joined_at: (i != 1).then_some(NOW),
        you: i == 0,
    };
    client::Members {
        frame: words.client_frame("trial", verified),
        members: (0..count).map(member).collect(),
        limit: Some(3),
        may_invite: true,
        email: words.text(),
        first_name: words.text(),
        last_name: words.text(),
        role: "member".into(),
        errors: words.errors(&["email"]),
    }
}

fn settings(words: &Words) -> client::Settings {
    client::Settings {
        frame: words.client_frame("active", true),
        role: "owner".into(),
        plan_name: words.text(),
        interval: Some("month".into()),
        billing: true,
        may_cancel: true,
        ends_at: Some(NOW.plus(9 * DAY)),
        retention_days: 30,
        time_zone: words.text(),
        time_zones: vec!["America/New_York".into(), words.text()],
        problem: Some(words.text()),
    }
}

fn migration(words: &Words, status: &str) -> client::Migration {
    let done = if status == "ready" { 6 } else { 3 };
    let step = match status {
        "migrating" => "running",
        _ => "undone",
    };
    let mut deployment = words.deployment(if status == "stopped" { "ready" } else { status }, done, step);
    deployment.certificate = (status == "ready").then(certificate);
    let progress = client::MoveProgress { files: 902, files_total: 1_284, bytes: 611 << 20, bytes_total: 912 << 20 };
    client::Migration {
        frame: words.client_frame("active", true),
        deployment,
        progress: (status == "migrating").then_some(progress),
    }
}

fn invoices() -> Vec<Invoice> {
    let invoice = |status: &str, url: Option<&str>| Invoice {
        id: "in_1".into(),
        number: url.map(|_| "ACME-0001".into()),
        created_at: NOW,
        status: status.into(),
        total_cents: 29_900,
        paid_cents: 29_900,
        url: url.map(str::to_owned),
        pdf_url: url.map(str::to_owned),
    };
    vec![invoice("paid", Some("https://pay.example/i/in_1")), invoice("draft", None)]
}

fn plan_page(words: &Words, cancelled: bool) -> client::PlanPage {
    let at = Time(1_795_562_204_000);
    let line = |amount_cents| PreviewLine { what: words.text(), amount_cents };
    let preview = PlanPreview {
        plan_id: "business".into(),
        interval: "month".into(),
        at,
        lines: vec![line(-14_950), line(29_950)],
        due_cents: 15_000,
        credit_cents: 0,
        price_cents: 59_900,
        discounted: cancelled,
    };
    client::PlanPage {
        frame: words.client_frame("active", true),
        plans: plans(),
        plan_name: words.text(),
        current: Some(Interval::Month),
        paid_until: Some(at),
        ends_at: cancelled.then_some(at),
        plan: "business".into(),
        interval: Interval::Month,
        preview: (!cancelled).then_some(preview),
        invoices: (!cancelled).then(invoices),
        may_pay: true,
        problem: cancelled.then(|| words.text()),
    }
}

fn client_pages(words: &Words) -> Pages {
    let upgrade = client::Upgrade {
        frame: words.client_frame("grace", true),
        plans: plans(),
        plan: "business".into(),
        interval: Interval::Month,
        problem: Some(words.text()),
    };
    let back = |cancelled| client::CheckoutReturn { frame: words.client_frame("trial", true), cancelled };
    vec![
        show("client/dashboard-setting-up", &words.dashboard("trial", "provisioning", 3, "running")),
        show("client/dashboard-failed", &words.dashboard("trial", "failed", 4, "failed")),
        show("client/dashboard", &words.dashboard("trial", "ready", 6, "")),
        show("client/dashboard-moving", &words.dashboard("trial", "migrating", 2, "running")),
        show("client/dashboard-active", &words.dashboard("active", "ready", 6, "")),
        show("client/dashboard-past-due", &words.dashboard("past_due", "ready", 6, "")),
        show("client/dashboard-suspended", &words.dashboard("suspended", "suspended", 6, "")),
        show("client/upgrade", &upgrade),
        show("client/plan", &plan_page(words, false)),
        show("client/plan-cancelled", &plan_page(words, true)),
        show("client/return", &back(false)),
        show("client/return-cancelled", &back(true)),
        show("client/move", &migration(words, "migrating")),
        show("client/move-stopped", &migration(words, "stopped")),
        show("client/move-done", &migration(words, "ready")),
        show(
            "client/certificate",
            &client::CertificatePage { frame: words.client_frame("trial", true), certificate: certificate() },
        ),
        show("client/members", &members(words, true, 2)),
        show("client/members-unverified", &members(words, false, 1)),
        show("client/members-full", &members(words, true, 3)),
        show("client/settings", &settings(words)),
    ]
}

fn host_pages(words: &Words) -> Pages {
    let host = || format!("baker-lane-7f3k.stackpro.localhost{}", words.extra());
    vec![
        show("host/starting", &host::Starting { host: host() }),
        show(
            "host/suspended",
            &host::Suspended { company: words.text(), login_url: "http://127.0.0.1:8080/login".into() },
        ),
        show("host/nobody", &host::Nobody { host: host(), site_url: "http://127.0.0.1:8080/".into() }),
    ]
}

/// One of each mail, under the names that [`PAGES`] gives them.
pub(super) fn letters(words: &Words) -> Vec<(&'static str, Mail)> {
    let url = || "http://127.0.0.1:8080/verify?token=0b7ce1".to_owned();
    let site_url = || "http://baker-lane-7f3k.stackpro.localhost:8080".to_owned();
    let at = NOW.plus_days(3);
    let receipt = |kind: &str| Receipt { kind: kind.into(), name: words.text(), removed_at: NOW };
    vec![
        (
            "mail/welcome",
            Mail::Welcome { verify_url: url(), site_url: site_url(), dashboard_url: url(), trial_ends_at: at },
        ),
        ("mail/verify", Mail::VerifyAddress { verify_url: url() }),
        ("mail/trial-7", Mail::TrialEnds { days: 7, at, upgrade_url: url() }),
        ("mail/trial-3", Mail::TrialEnds { days: 3, at, upgrade_url: url() }),
        ("mail/trial-1", Mail::TrialEnds { days: 1, at, upgrade_url: url() }),
        ("mail/grace", Mail::GraceBegan { pauses_at: at, upgrade_url: url() }),
        ("mail/given-7", Mail::GivenEnds { days: 7, plan: "Business".into(), at, upgrade_url: url() }),
        ("mail/given-ended", Mail::GivenEnded { plan: "Business".into(), pauses_at: at, upgrade_url: url() }),
        (
            "mail/trial-had-already",
            Mail::TrialHadAlready { delete_at: at, support: "help@stackpro.example".into(), upgrade_url: url() },
        ),
        ("mail/suspended", Mail::Suspended { delete_at: at, upgrade_url: url() }),
        ("mail/deletion-7", Mail::DeletionIn { days: 7, at, upgrade_url: url() }),
        ("mail/deletion-1", Mail::DeletionIn { days: 1, at, upgrade_url: url() }),
        ("mail/deleted", Mail::Deleted { receipts: vec![receipt("Storage"), receipt("Address")] }),
        ("mail/moved", Mail::Moved { certificate: certificate(), site_url: site_url(), certificate_url: url() }),
        ("mail/payment-failed", Mail::PaymentFailed { pauses_at: at, billing_url: url() }),
        (
            "mail/message",
            Mail::Message {
                name: words.text(),
                email: "visitor@example.com".into(),
                message: format!("{}\n\n{}", words.text(), words.text()),
                site_url: site_url(),
            },
        ),
        (
            "mail/used-up",
            Mail::MailsUsedUp { used: "100".into(), limit: "100".into(), again_at: at, upgrade_url: url() },
        ),
        ("mail/invitation", Mail::Invitation { inviter: words.text(), set_password_url: url() }),
        ("mail/attention", Mail::Attention { what: words.text(), cause: words.text(), url: url() }),
    ]
}

fn composed(words: &Words) -> Vec<(&'static str, MailContent)> {
    let to = Recipient { first_name: words.text(), company: words.text(), zone: Zone::default() };
    letters(words).into_iter().map(|(name, mail)| (name, mail.compose(&to).unwrap())).collect()
}

fn mails(words: &Words) -> Pages {
    composed(words).into_iter().map(|(name, content)| (name, content.html)).collect()
}

/// The words of the pages that are looked at.
pub(super) const LOOKED_AT: &str = "Baker & Lane";

#[test]
fn every_page_renders_and_can_be_looked_at() {
    let pages = all(&Words(LOOKED_AT.into()));
    let names: Vec<_> = pages.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, PAGES);
    let Ok(folder) = std::env::var("PREVIEW_DIR") else { return };
    let words = std::env::var("PREVIEW_WORDS").unwrap_or_else(|_| LOOKED_AT.into());
    let words = Words(words);
    let texts = composed(&words).into_iter().map(|(name, content)| (format!("{name}.txt"), content.text));
    let pages = all(&words).into_iter().map(|(name, html)| (format!("{name}.html"), html));
    for (name, content) in pages.chain(texts) {
        let file = std::path::Path::new(&folder).join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

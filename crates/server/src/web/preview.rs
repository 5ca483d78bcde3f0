//! Every page with sample data: for looking at, and for the tests that hold for all of them.

use askama::Template;
use stackpro_domain::Time;
use stackpro_domain::plan::{DEFAULT_PLANS, Interval, Plans};
use stackpro_domain::time::{DAY, HOUR};
use stackpro_protocol::api::{Client, Deployment, FieldError, NextDate, Step, Usage};

use super::frame::{ClientFrame, SiteFrame};
use super::{PAGES, assets, client, site};

const NOW: Time = Time(1_795_562_204_123);

/// What the samples say where people or agents say something.
struct Words {
    /// Stands for every text of outside.
    text: String,
}

fn plans() -> Plans {
    Plans::parse(DEFAULT_PLANS).unwrap()
}

fn errors(words: &Words, fields: &[&str]) -> Vec<FieldError> {
    fields
        .iter()
        .map(|field| FieldError { field: (*field).into(), message: format!("This is not right: {}", words.text) })
        .collect()
}

fn client_frame(words: &Words) -> ClientFrame {
    ClientFrame {
        csrf: "csrf-token".into(),
        client: "baker-lane-7f3k".parse().unwrap(),
        company: words.text.clone(),
        person: words.text.clone(),
        email: words.text.clone(),
        verified: true,
        state: "trial".into(),
        flash: None,
    }
}

fn steps(done: usize, now: &str) -> Vec<Step> {
    let names = [
        "Find a place",
        "Create storage",
        "Set up your address",
        "Prepare your mail",
        "Start your site",
        "Check that it answers",
    ];
    names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let start = NOW.plus(i as i64 * 40);
            let status = if i < done {
                "done"
            } else if i == done {
                now
            } else {
                "pending"
            };
            Step {
                name: (*name).into(),
                status: status.into(),
                started_at: (i <= done).then_some(start),
                finished_at: (i < done).then(|| start.plus(35 + 61 * i as i64)),
                error: (status == "failed").then(|| "The server did not answer in time. We try again.".into()),
            }
        })
        .collect()
}

fn deployment(status: &str, steps: Vec<Step>) -> Deployment {
    Deployment {
        client_id: "baker-lane-7f3k".parse().unwrap(),
        status: status.into(),
        deployment_type: "shared".into(),
        url: "http://baker-lane-7f3k.stackpro.localhost:8080".into(),
        steps,
        certificate: None,
    }
}

fn dates() -> Vec<NextDate> {
    let date = |days: i64, what: &str| NextDate { at: NOW.plus(days * DAY - HOUR), what: what.into() };
    vec![
        date(-3, "You signed up"),
        date(11, "Your free trial ends"),
        date(14, "Your site pauses, your data is kept"),
        date(44, "Your data is deleted"),
    ]
}

fn dashboard(words: &Words, status: &str, done: usize, step: &str, state: &str) -> client::Dashboard {
    let mut frame = client_frame(words);
    frame.verified = status != "provisioning";
    frame.state = state.into();
    client::Dashboard {
        frame,
        client: Client {
            id: "baker-lane-7f3k".parse().unwrap(),
            company: words.text.clone(),
            state: state.into(),
            plan: "starter".into(),
            interval: None,
            created_at: NOW.plus(-3 * DAY),
            next: Some(NextDate { at: NOW.plus(11 * DAY - HOUR), what: "Your free trial ends".into() }),
        },
        plan_name: "Free trial".into(),
        deployment: deployment(status, steps(done, step)),
        usage: Usage {
            storage_bytes: 912 << 20,
            storage_limit_bytes: Some(1 << 30),
            files: 1_284,
            members: 2,
            members_limit: Some(3),
            emails_this_month: 12,
            emails_limit: Some(100),
            requests: 40_211,
            traffic_bytes: 3 << 29,
            reported_at: Some(NOW),
        },
        dates: dates(),
        now: NOW,
        instance: Some("i-0f3a9c27d1".parse().unwrap()),
        portal: (status == "ready").then(|| client::Portal {
            webdav_url: "http://baker-lane-7f3k.stackpro.localhost:8080/files/".into(),
            user: "baker-lane-7f3k".into(),
            password: None,
        }),
    }
}

fn site_pages(words: &Words) -> Vec<(&'static str, String)> {
    let frame = SiteFrame::default;
    let text = || words.text.clone();
    let form = || site::SignupForm {
        email: text(),
        first_name: text(),
        last_name: text(),
        company: text(),
        plan: "business".into(),
    };
    vec![
        ("site/home", site::Home { frame: frame(), plans: plans() }.render().unwrap()),
        ("site/plans", site::PlansPage { frame: frame(), plans: plans(), interval: Interval::Month }.render().unwrap()),
        (
            "site/plans-year",
            site::PlansPage { frame: frame(), plans: plans(), interval: Interval::Year }.render().unwrap(),
        ),
        (
            "site/signup",
            site::Signup {
                frame: frame(),
                csrf: text(),
                plans: plans(),
                form: site::SignupForm::default(),
                errors: vec![],
                problem: None,
            }
            .render()
            .unwrap(),
        ),
        (
            "site/signup-wrong",
            site::Signup {
                frame: frame(),
                csrf: text(),
                plans: plans(),
                form: form(),
                errors: errors(words, &["email", "password", "company"]),
                problem: Some(text()),
            }
            .render()
            .unwrap(),
        ),
        (
            "site/login",
            site::Login {
                frame: frame(),
                csrf: text(),
                email: text(),
                problem: Some("The address or the password is not right.".into()),
                next: Some(text()),
            }
            .render()
            .unwrap(),
        ),
    ]
}

fn client_pages(words: &Words) -> Vec<(&'static str, String)> {
    vec![
        ("client/dashboard-setting-up", dashboard(words, "provisioning", 3, "running", "trial").render().unwrap()),
        ("client/dashboard", dashboard(words, "ready", 6, "", "trial").render().unwrap()),
    ]
}

fn all(words: &Words) -> Vec<(&'static str, String)> {
    [site_pages(words), client_pages(words)].concat()
}

/// Writes every page with what it loads into the folder that `PREVIEW_DIR` names, to be looked at.
#[test]
fn every_page_renders_and_can_be_looked_at() {
    let pages = all(&Words { text: "Baker & Lane".into() });
    let names: Vec<_> = pages.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, PAGES);
    let Ok(folder) = std::env::var("PREVIEW_DIR") else { return };
    let folder = std::path::PathBuf::from(folder);
    for (name, html) in pages {
        let file = folder.join(format!("{name}.html"));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, html).unwrap();
    }
    let _ = assets::get("base.css");
}

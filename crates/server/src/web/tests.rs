//! What holds for every page: nothing hostile gets through, nothing is inline, everything has its label.

use askama::Template;
use base64::Engine;
use sha2::Digest;
use stackpro_domain::plan::{DEFAULT_PLANS, Interval, Plans};
use stackpro_domain::zone::Zone;

use super::frame::SiteFrame;
use super::mail::Recipient;
use super::preview::{self, LOOKED_AT, Words};
use super::{assets, host, site};

/// Whether a page stands alone, with its style inside: a host's, or a mail.
fn alone(name: &str) -> bool {
    name.starts_with("host/") || name.starts_with("mail/")
}

fn hostile() -> Words {
    let attack = "<script>alert(1)</script>\" onmouseover=\"x' onfocus='y & \u{202e}\u{2066}{{ 7*7 }}%}</title><!--";
    Words(format!("{attack}{}", "W".repeat(300)))
}

/// The values of an attribute, wherever it stands.
fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    html.split(&start).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// The opening tags of an element.
fn tags<'a>(html: &'a str, element: &str) -> Vec<&'a str> {
    let start = format!("<{element} ");
    html.split(&start).skip(1).filter_map(|rest| rest.split('>').next()).collect()
}

#[test]
fn hostile_text_stays_text() {
    for (name, html) in preview::all(&hostile()) {
        let scripts = usize::from(!alone(name));
        assert_eq!(html.matches("<script").count(), scripts, "{name}");
        for attack in ["alert(1)</", "\" onmouseover=", "' onfocus=", "<!--", "7*7 }}%}</title>"] {
            assert!(!html.contains(attack), "{name}: {attack}");
        }
        // A bar's title is a month and a number, and says nothing that anyone else said.
        assert_eq!(html.matches("</title>").count() - html.matches("</title></rect>").count(), 1, "{name}");
    }
}

#[test]
fn mails_are_plain_text_and_one_line_of_subject() {
    let words = hostile();
    let to =
        Recipient { first_name: "Ann\r\nBcc: x@y.example".into(), company: words.0.clone(), zone: Zone::default() };
    for (name, mail) in preview::letters(&words) {
        let content = mail.compose(&to).unwrap();
        assert!(!content.subject.contains(['\r', '\n']) && !content.subject.is_empty(), "{name}");
        assert!(!content.html.contains("<script") && !content.html.contains('\u{202e}'), "{name}");
        assert!(!content.text.contains("&quot;") && !content.text.contains("&#"), "{name}: text is not HTML");
        assert!(!content.text.contains('\u{202e}') && !content.text.contains("\r\nBcc"), "{name}");
    }
    let (_, welcome) = preview::letters(&words).remove(0);
    let content = welcome
        .compose(&Recipient { first_name: "Ann".into(), company: "Baker & Lane".into(), zone: Zone::default() })
        .unwrap();
    assert!(content.text.contains("http://127.0.0.1:8080/verify?token=0b7ce1\n"));
    assert!(content.html.contains("href=\"http://127.0.0.1:8080/verify?token=0b7ce1\""));
    assert!(content.text.contains("Baker & Lane") && content.html.contains("Baker &#38; Lane"));
}

#[test]
fn every_kind_of_mail_has_its_sample() {
    // What the enum itself names when it is asked for a kind that it does not have.
    let error = serde_json::from_str::<super::mail::Mail>(r#"{"mail":"?"}"#).unwrap_err().to_string();
    let mut kinds: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    let tag = |mail| serde_json::to_value(mail).unwrap()["mail"].as_str().unwrap().to_owned();
    let mut sampled: Vec<String> = preview::letters(&hostile()).into_iter().map(|(_, mail)| tag(mail)).collect();
    kinds.sort_unstable();
    sampled.sort_unstable();
    sampled.dedup();
    assert!(kinds.len() > 10, "{error}");
    assert_eq!(kinds, sampled);
}

#[test]
fn a_mail_survives_being_stored() {
    for (name, mail) in preview::letters(&Words(LOOKED_AT.into())) {
        let json = serde_json::to_string(&mail).unwrap();
        let again: super::mail::Mail = serde_json::from_str(&json).unwrap();
        let to = Recipient { first_name: "Ann".into(), company: "Acme".into(), zone: Zone::default() };
        assert_eq!(mail.compose(&to).unwrap(), again.compose(&to).unwrap(), "{name}");
    }
}

#[test]
fn nothing_is_inline_so_that_the_policy_can_be_strict() {
    for (name, html) in preview::all(&Words(LOOKED_AT.into())) {
        if alone(name) || name == "console/mail" {
            continue;
        }
        for inline in [" style=", "<style", "javascript:", " onclick=", " onsubmit=", " onload="] {
            assert!(!html.contains(inline), "{name}: {inline}");
        }
        for source in values(&html, "src") {
            assert!(source.starts_with("/assets/"), "{name}: {source}");
        }
    }
    assert!(super::csp(&["https://till.example"]).contains("form-action 'self' https://till.example;"));
}

#[test]
fn a_hosts_page_may_use_its_own_style_and_nothing_else() {
    let (_, html) =
        preview::all(&Words(LOOKED_AT.into())).into_iter().find(|(name, _)| *name == "host/starting").unwrap();
    let style = html.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap();
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style.as_bytes()));
    assert!(host::CSP.contains(&format!("'sha256-{hash}'")));
}

#[test]
fn every_form_that_changes_something_carries_its_token() {
    for (name, html) in preview::all(&Words(LOOKED_AT.into())) {
        let posts = html.matches("method=\"post\"").count();
        assert_eq!(html.matches("name=\"csrf\"").count(), posts, "{name}");
    }
}

#[test]
fn every_page_can_be_walked_by_keyboard_and_by_ear() {
    for (name, html) in preview::all(&Words(LOOKED_AT.into())) {
        assert!(html.contains("<html lang=\"en\">"), "{name}: language");
        assert_eq!(html.matches("<h1").count(), 1, "{name}: one first heading");
        let ids = values(&html, "id");
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(ids.len(), unique.len(), "{name}: ids stand once: {ids:?}");
        for attribute in ["aria-describedby", "aria-labelledby"] {
            for id in values(&html, attribute).iter().flat_map(|value| value.split(' ')) {
                assert!(ids.contains(&id), "{name}: {attribute} names {id}");
            }
        }
        let labels = values(&html, "for");
        for tag in ["input", "select", "textarea"].iter().flat_map(|element| tags(&html, element)) {
            let quiet = ["type=\"hidden\"", "type=\"radio\"", "type=\"checkbox\"", "aria-hidden=\"true\""];
            let labelled = values(&format!(" {tag}"), "id").first().is_some_and(|id| labels.contains(id));
            assert!(labelled || quiet.iter().any(|sign| tag.contains(sign)), "{name}: no label: {tag}");
        }
        if !alone(name) {
            assert!(html.contains("class=\"skip\" href=\"#main\"") && html.contains("<main id=\"main\""), "{name}");
        }
    }
}

#[test]
fn what_is_live_works_without_scripts_too() {
    let pages = preview::all(&Words(LOOKED_AT.into()));
    let page = |wanted: &str| pages.iter().find(|(name, _)| *name == wanted).map(|(_, html)| html.clone()).unwrap();
    for live in ["client/dashboard-setting-up", "client/dashboard-moving", "client/move", "client/return"] {
        let html = page(live);
        assert!(html.contains("<noscript><meta http-equiv=\"refresh\""), "{live}");
        assert!(html.contains("data-follow=\"/api/clients/baker-lane-7f3k/steps\""), "{live}");
    }
    for still in ["client/dashboard", "client/move-done", "client/move-stopped", "client/return-cancelled"] {
        let html = page(still);
        assert!(!html.contains("http-equiv") && !html.contains("data-follow"), "{still}");
    }
}

#[test]
fn prices_and_limits_come_from_the_plans() {
    let text = DEFAULT_PLANS
        .replace("29_900", "12_345")
        .replace("days = 14", "days = 21")
        .replace("retention_days = 30", "retention_days = 45")
        .replace("1_073_741_824", "5_368_709_120");
    let plans = Plans::parse(&text).unwrap();
    let frame = SiteFrame::default;
    let home = site::Home { frame: frame(), plans: plans.clone() }.render().unwrap();
    let table = site::PlansPage { frame: frame(), plans, interval: Interval::Month }.render().unwrap();
    for html in [&home, &table] {
        assert!(html.contains("$123.45") && html.contains("21") && html.contains("45 days"));
        assert!(!html.contains("$299") && !html.contains("14 days") && !html.contains("30 days"));
    }
    assert!(table.contains("5 GB"));
}

/// Relative luminance, as WCAG 2.2 defines it.
fn luminance(hex: &str) -> f64 {
    let channel = |i: usize| {
        let value = f64::from(u8::from_str_radix(&hex[i..i + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn colours_can_be_read_in_both_schemes() {
    let css = String::from_utf8(assets::get("base.css").unwrap().bytes.into_owned()).unwrap();
    let schemes: Vec<&str> = css.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert_eq!(schemes.len(), 2);
    for scheme in schemes {
        let token = |name: &str| {
            let line = scheme.lines().find_map(|line| line.trim().strip_prefix(&format!("--{name}: "))).unwrap();
            line.trim_end_matches(';').to_owned()
        };
        let pairs = |fore: &[&str], back: &[&str], least: f64| {
            for (fore, back) in fore.iter().flat_map(|fore| back.iter().map(move |back| (fore, back))) {
                let ratio = contrast(&token(fore), &token(back));
                assert!(ratio >= least, "{fore} on {back}: {ratio:.2} of {least}");
            }
        };
        pairs(&["ink", "ink-soft", "brand", "good", "busy", "warn", "bad"], &["paper", "sheet", "sunk"], 4.5);
        pairs(&["on-brand"], &["brand", "brand-deep"], 4.5);
        pairs(&["ink", "ink-soft"], &["brand-wash", "good-wash", "busy-wash", "warn-wash", "bad-wash"], 4.5);
        for tone in ["good", "busy", "warn", "bad"] {
            pairs(&[tone], &[&format!("{tone}-wash")], 4.5);
        }
        pairs(&["line-strong", "focus"], &["paper", "sheet", "sunk"], 3.0);
    }
}

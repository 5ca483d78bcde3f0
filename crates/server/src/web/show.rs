//! How values are said to people: states, durations, shares of a limit.

use std::borrow::Borrow;
use std::fmt;

use askama::FastWritable;
use askama::filters::HtmlSafe;
use stackpro_domain::limits::{self, Limits};
use stackpro_domain::plan::{Interval, Plan};
use stackpro_domain::time::{DAY, HOUR, MINUTE, SECOND};
use stackpro_domain::{Cents, Time};
use stackpro_protocol::api::{FieldError, Step, Usage};

/// A state in words, and the tone in which it is shown. The tone is never the only sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    pub label: &'a str,
    /// A class of the style sheet: `good`, `busy`, `warn`, `bad` or `calm`.
    pub tone: &'static str,
}

/// Any state of a client, a deployment, a flow, a step, a resource or a mail; one that is not known is said as it is.
pub fn state(state: &str) -> Shown<'_> {
    let (label, tone) = match state {
        "trial" => ("Trial", "calm"),
        "grace" => ("Grace", "warn"),
        "active" => ("Active", "good"),
        "past_due" => ("Payment due", "bad"),
        "suspended" => ("Paused", "warn"),
        "deleted" => ("Deleted", "calm"),
        "provisioning" => ("Setting up", "busy"),
        "ready" => ("Running", "good"),
        "migrating" => ("Moving", "busy"),
        "failed" => ("Failed", "bad"),
        "pending" | "waiting" => ("Waiting", "calm"),
        "running" => ("In progress", "busy"),
        "done" => ("Done", "good"),
        "parked" => ("Needs attention", "bad"),
        "undoing" => ("Undoing", "warn"),
        "undone" => ("Undone", "calm"),
        "abandoned" => ("Given up", "calm"),
        "planned" | "creating" => ("Being made", "busy"),
        "live" | "created" => ("In use", "good"),
        "deleting" | "releasing" => ("Being removed", "busy"),
        "released" | "removed" | "gone" => ("Removed", "calm"),
        "missing" => ("Missing", "bad"),
        "leaked" | "orphaned" => ("Nobody's", "bad"),
        "queued" => ("To be sent", "busy"),
        "sent" => ("Sent", "good"),
        "delivered" => ("Delivered", "good"),
        "bounced" | "hard_bounce" => ("Came back", "bad"),
        "soft_bounce" => ("Came back for now", "warn"),
        "complained" | "complaint" => ("Called unwanted", "bad"),
        "suppressed" => ("Not sent", "warn"),
        "rejected" => ("Rejected", "bad"),
        "succeeded" => ("Paid back", "calm"),
        "canceled" => ("Cancelled", "calm"),
        "needs_response" => ("Answer it", "bad"),
        "warning_needs_response" => ("Answer the inquiry", "warn"),
        "under_review" | "warning_under_review" => ("With the bank", "busy"),
        "warning_closed" => ("Inquiry over", "calm"),
        "won" => ("Won", "good"),
        "lost" => ("Lost", "bad"),
        other => (other, "calm"),
    };
    Shown { label, tone }
}

/// How an instance is.
pub fn instance(healthy: bool, state: &str) -> Shown<'_> {
    let (label, tone) = match (state, healthy) {
        ("running" | "live" | "ready", true) => ("Healthy", "good"),
        ("running" | "live" | "ready", false) => ("Not answering", "bad"),
        ("pending" | "launching" | "creating" | "planned", _) => ("Starting", "busy"),
        ("draining", _) => ("Draining", "warn"),
        ("stopped", _) => ("Stopped", "bad"),
        ("terminated" | "released" | "deleted", _) => ("Released", "calm"),
        (other, _) => (other, "calm"),
    };
    Shown { label, tone }
}

/// What a flow does, by its name.
pub fn flow(kind: &str) -> &str {
    match kind {
        "provision" => "Set up",
        "migrate" => "Move to an instance of its own",
        "suspend" => "Pause",
        "resume" => "Bring back",
        "delete" => "Delete",
        "refresh" => "Update the notice",
        "launch" => "Launch a shared server",
        other => other,
    }
}

/// The wrong field's message, for the page of a form.
pub fn error<'a>(errors: &'a [FieldError], field: &str) -> Option<&'a str> {
    errors.iter().find(|error| error.field == field).map(|error| error.message.as_str())
}

/// What describes a field, as attributes: its hint and what is wrong with it.
pub fn described(name: &str, hint: &str, errors: &[FieldError]) -> Described {
    let wrong = error(errors, name).is_some();
    let ids = [(!hint.is_empty(), "hint"), (wrong, "wrong")];
    let ids = ids.iter().filter(|(is, _)| *is).map(|(_, suffix)| format!("{name}-{suffix}")).collect();
    Described { ids, wrong }
}

/// Attributes, made here of names of ours.
pub struct Described {
    ids: Vec<String>,
    wrong: bool,
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ids.is_empty() {
            write!(f, " aria-describedby=\"{}\"", self.ids.join(" "))?;
        }
        if self.wrong { f.write_str(" aria-invalid=\"true\"") } else { Ok(()) }
    }
}

impl FastWritable for Described {
    fn write_into(&self, dest: &mut dyn fmt::Write, _: &dyn askama::Values) -> askama::Result<()> {
        Ok(write!(dest, "{self}")?)
    }
}

impl HtmlSafe for Described {}

/// A text without what would change how the text around it is read: control characters, and those that
/// turn the direction of writing.
pub fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|&c| !turns(c)).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A length of time: `85 ms`, `1.2 s`, `3 min`, `2 h`, `5 days`.
pub fn duration(ms: impl Whole) -> String {
    match ms.whole() as i64 {
        ms if ms < SECOND => format!("{ms} ms"),
        ms if ms < 10 * SECOND => format!("{}.{} s", ms / SECOND, ms % SECOND / 100),
        ms if ms < MINUTE => format!("{} s", ms / SECOND),
        ms if ms < HOUR => format!("{} min {} s", ms / MINUTE, ms % MINUTE / SECOND),
        ms if ms < DAY => format!("{} h {} min", ms / HOUR, ms % HOUR / MINUTE),
        ms => count(ms / DAY, "day"),
    }
}

/// How long a step took, once it has ended.
pub fn took(started: &Option<Time>, finished: &Option<Time>) -> String {
    match (started, finished) {
        (Some(started), Some(finished)) => duration(finished.since(*started)),
        _ => String::new(),
    }
}

/// How long ago, in one unit: `12 s ago`, `3 min ago`.
pub fn since(at: impl Borrow<Time>, now: impl Borrow<Time>) -> String {
    match now.borrow().since(*at.borrow()).max(0) {
        ms if ms < SECOND => "just now".into(),
        ms if ms < MINUTE => format!("{} s ago", ms / SECOND),
        ms if ms < HOUR => format!("{} min ago", ms / MINUTE),
        ms if ms < DAY => format!("{} h ago", ms / HOUR),
        ms => format!("{} ago", count(ms / DAY, "day")),
    }
}

/// How long ago, or `never`.
pub fn ago(at: &Option<Time>, now: impl Borrow<Time>) -> String {
    at.map_or_else(|| "never".into(), |at| since(at, now))
}

/// A whole number, or a reference to one: templates hand over either.
pub trait Whole {
    /// Never below 0: what is counted here cannot be.
    fn whole(&self) -> u64;
}

macro_rules! whole {
    ($($kind:ty),*) => {$(
        impl Whole for $kind {
            fn whole(&self) -> u64 {
                u64::try_from(*self).unwrap_or(0)
            }
        }
    )*};
}

whole!(i64, u64, u32, usize);

impl<N: Whole> Whole for &N {
    fn whole(&self) -> u64 {
        (**self).whole()
    }
}

/// `1 day`, `3 days`; thousands are grouped.
pub fn count(number: impl Whole, noun: &str) -> String {
    match (number.whole(), noun) {
        (1, noun) => format!("1 {noun}"),
        (number, "person") => format!("{} people", grouped(number)),
        (number, noun) => format!("{} {noun}s", grouped(number)),
    }
}

/// `12,345`.
pub fn grouped(number: impl Whole) -> String {
    let digits = number.whole().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `812 KB`.
pub fn bytes(count: impl Whole) -> String {
    limits::bytes(count.whole())
}

/// A limit of bytes in words; none is unlimited.
pub fn bytes_limit(limit: &Option<u64>) -> String {
    limit.map_or_else(|| "Unlimited".into(), bytes)
}

/// A limit of things in words; none is unlimited.
pub fn limit(limit: &Option<u32>) -> String {
    limit.map_or_else(|| "Unlimited".into(), grouped)
}

/// `1 address`, `3 addresses`.
pub fn addresses(number: impl Whole) -> String {
    if number.whole() == 1 { "1 address".into() } else { format!("{} addresses", grouped(number)) }
}

/// How many domains of their own a plan takes; left out, it takes none.
pub fn own_domains(limits: &Limits) -> String {
    limits.own_domains.filter(|&number| number > 0).map_or_else(|| "None".into(), grouped)
}

/// `$299`, once a month or once a year.
pub fn price(plan: &Plan, interval: Interval) -> String {
    plan.price(interval).to_string()
}

/// What a year costs less than twelve months, when it does: `$598 less than twelve single months`.
pub fn saving(plan: &Plan) -> Option<String> {
    let saved = Cents(plan.month_cents.0.saturating_mul(12)) - plan.year_cents;
    (saved > Cents(0)).then(|| format!("{saved} less than twelve single months"))
}

/// Something used, against what may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    pub label: &'static str,
    pub used: String,
    /// None is unlimited.
    pub limit: Option<String>,
    pub bar: Option<Bar>,
}

/// A client's usage, as lines with bars.
pub fn amounts(usage: &Usage) -> [Amount; 3] {
    let things = |label, used: u32, limit: Option<u32>| Amount {
        label,
        used: grouped(used),
        limit: limit.map(grouped),
        bar: bar(used, limit),
    };
    let storage = Amount {
        label: "Storage",
        used: bytes(usage.storage_bytes),
        limit: usage.storage_limit_bytes.map(bytes),
        bar: bar(usage.storage_bytes, usage.storage_limit_bytes),
    };
    [
        storage,
        things("Team members", usage.members, usage.members_limit),
        things("Emails this month", usage.emails_this_month, usage.emails_limit),
    ]
}

/// Percent of a whole, 0 to 100; nothing of nothing is all of it.
pub fn share(part: impl Whole, whole: impl Whole) -> u64 {
    let (part, whole) = (u128::from(part.whole()), u128::from(whole.whole()));
    (part * 100).checked_div(whole).map_or(100, |percent| percent.min(100) as u64)
}

/// A member's role in words.
pub fn role(role: &str) -> &'static str {
    match role {
        "owner" => "Owner",
        "admin" => "Admin",
        "operator" => "Operator",
        _ => "Member",
    }
}

/// One bar of the usage: words first, the bar only shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// 0 to 100.
    pub percent: u64,
    pub tone: &'static str,
    /// `Almost full`, where that is so.
    pub remark: Option<&'static str>,
}

/// The bar of `used` out of `limit`. Without a limit there is none.
pub fn bar(used: impl Whole, limit: Option<impl Whole>) -> Option<Bar> {
    let (used, limit) = (used.whole(), limit?.whole());
    let percent = share(used, limit);
    let (tone, remark) = match percent {
        100 => ("bad", Some("Full")),
        80.. => ("warn", Some("Almost full")),
        _ => ("good", None),
    };
    Some(Bar { percent, tone, remark })
}

/// How far a list of steps is: `4 of 6 steps done`.
pub fn progress(steps: &[Step]) -> String {
    let done = steps.iter().filter(|step| step.status == "done").count();
    format!("{done} of {} done", count(steps.len(), "step"))
}

/// How long all steps took together, from the first start to the last end.
pub fn total(steps: &[Step]) -> Option<String> {
    let start = steps.iter().filter_map(|step| step.started_at).min()?;
    let end = steps.iter().filter_map(|step| step.finished_at).max()?;
    Some(duration(end.since(start)))
}

/// An address that may become a link: only what a browser opens as a page.
pub fn link(url: &str) -> Option<&str> {
    (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
}

/// The same of an address that may be none.
pub fn maybe_link(url: &Option<String>) -> Option<&str> {
    url.as_deref().and_then(link)
}

/// An address without its scheme, as people say it.
pub fn bare(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/')
}

/// The first letters of a name, for a mark beside it.
pub fn initials(name: &str) -> String {
    name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric())).take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_size() {
        let shown = [-5_i64, 85, 1_234, 12_999, 61_000, 2 * HOUR + MINUTE, DAY, 3 * DAY].map(duration);
        assert_eq!(shown, ["0 ms", "85 ms", "1.2 s", "12 s", "1 min 1 s", "2 h 1 min", "1 day", "3 days"]);
    }

    #[test]
    fn a_bar_says_in_words_when_it_is_nearly_full() {
        assert_eq!(bar(5_u64, None::<u64>), None);
        assert_eq!(bar(50_u64, Some(100_u64)).unwrap().remark, None);
        assert_eq!(bar(80_u64, Some(100_u64)).unwrap().remark, Some("Almost full"));
        assert_eq!(bar(0_u64, Some(0_u64)).unwrap().percent, 100);
        assert_eq!(bar(u64::MAX, Some(1_u64)).unwrap().percent, 100);
    }

    #[test]
    fn only_pages_become_links() {
        assert_eq!(link("javascript:alert(1)"), None);
        assert_eq!(link("https://a.example/"), Some("https://a.example/"));
        assert_eq!(bare("http://acme.stackpro.localhost:8080/"), "acme.stackpro.localhost:8080");
    }

    #[test]
    fn initials_of_anything_are_safe() {
        assert_eq!(initials("Ann Meyer"), "AM");
        assert_eq!(initials("<b> \u{202e} 株式会社"), "b株");
        assert_eq!(initials(""), "");
    }
}

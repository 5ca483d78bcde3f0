//! The operator's pages about mail: the log, what was told of one mail, and the addresses that get none.

use askama::Template;
use stackpro_domain::Time;
use stackpro_domain::mail::MailState;

use super::console::MailRow;
use super::frame::ConsoleFrame;
use super::{assets, show};

/// `GET /console/mails?client=&state=&after=`
#[derive(Template)]
#[template(path = "console/mails.html")]
pub struct MailLog {
    pub frame: ConsoleFrame,
    pub rows: Vec<MailRow>,
    /// Empty is any.
    pub client: String,
    /// Empty is any.
    pub state: String,
    /// Why the list could not be narrowed.
    pub problem: Option<String>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl MailLog {
    fn next_page(&self, after: &str) -> String {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        format!("/console/mails?client={}&state={}&after={}", encode(&self.client), encode(&self.state), encode(after))
    }
}

/// Something that was told of a mail.
#[derive(Clone, Debug)]
pub struct ToldRow {
    /// As [`stackpro_domain::mail::Fate`] names it.
    pub fate: String,
    pub detail: String,
    pub at: Time,
}

/// `GET /console/mails/{mail}`
#[derive(Template)]
#[template(path = "console/mail_history.html")]
pub struct MailHistory {
    pub frame: ConsoleFrame,
    pub mail: MailRow,
    /// `welcome`, `trial_ends_in_3`.
    pub kind: String,
    pub attempts: u32,
    pub created_at: Time,
    /// The oldest first.
    pub told: Vec<ToldRow>,
    /// Whether its address gets no more mail now.
    pub suppressed: bool,
}

/// An address that gets no more mail.
#[derive(Clone, Debug)]
pub struct SuppressedRow {
    pub address: String,
    /// As [`stackpro_domain::mail::Fate`] names it.
    pub fate: String,
    pub detail: String,
    pub since: Time,
}

/// `GET /console/mails/suppressed?after=`
#[derive(Template)]
#[template(path = "console/suppressed.html")]
pub struct Suppressed {
    pub frame: ConsoleFrame,
    pub rows: Vec<SuppressedRow>,
    /// Why an address could not be lifted.
    pub problem: Option<String>,
    /// Where the next page begins.
    pub next: Option<String>,
}

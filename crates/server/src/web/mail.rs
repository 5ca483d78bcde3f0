//! The mails. Each is a value that says what happened; [`Mail::compose`] puts it into words, once, and one
//! layout makes HTML and text of them.

use askama::Template;
use serde::{Deserialize, Serialize};
use stackpro_domain::Time;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::zone::Zone;

use super::show;

/// A mail, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailContent {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Whom it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipient {
    pub first_name: String,
    pub company: String,
    /// Whose dates are meant.
    pub zone: Zone,
}

/// One resource that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    pub kind: String,
    pub name: String,
    pub removed_at: Time,
}

/// What a mail says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "mail", rename_all = "snake_case")]
pub enum Mail {
    /// After a sign-up.
    Welcome {
        verify_url: String,
        site_url: String,
        dashboard_url: String,
        trial_ends_at: Time,
    },
    /// The link of [`Mail::Welcome`] once more.
    VerifyAddress {
        verify_url: String,
    },
    TrialEnds {
        days: i64,
        at: Time,
        upgrade_url: String,
    },
    GraceBegan {
        pauses_at: Time,
        upgrade_url: String,
    },
    /// A plan for nothing ends.
    GivenEnds {
        days: i64,
        plan: String,
        at: Time,
        upgrade_url: String,
    },
    GivenEnded {
        plan: String,
        pauses_at: Time,
        upgrade_url: String,
    },
    Suspended {
        delete_at: Time,
        upgrade_url: String,
    },
    /// Suspended, because their company has had its trial.
    TrialHadAlready {
        delete_at: Time,
        support: String,
        upgrade_url: String,
    },
    DeletionIn {
        days: i64,
        at: Time,
        upgrade_url: String,
    },
    Deleted {
        receipts: Vec<Receipt>,
    },
    Moved {
        certificate: Certificate,
        site_url: String,
        certificate_url: String,
    },
    PaymentFailed {
        pauses_at: Time,
        billing_url: String,
    },
    /// From a visitor of their site, by its form.
    Message {
        name: String,
        email: String,
        message: String,
        site_url: String,
    },
    /// What visitors write is not sent any more this month.
    MailsUsedUp {
        used: String,
        limit: String,
        again_at: Time,
        upgrade_url: String,
    },
    /// By a member, or by an operator who made the client for its owner.
    Invitation {
        inviter: String,
        set_password_url: String,
    },
    /// To an operator.
    Attention {
        what: String,
        cause: String,
        url: String,
    },
}

/// A mail's words, before they have a form.
struct Words {
    subject: String,
    heading: String,
    paragraphs: Vec<String>,
    facts: Vec<(String, String)>,
    /// Label and address.
    button: Option<(&'static str, String)>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "mail/mail.html")]
struct Html<'a> {
    to: &'a Recipient,
    words: &'a Words,
}

#[derive(Template)]
#[template(path = "mail/mail.txt")]
struct Text<'a> {
    to: &'a Recipient,
    words: &'a Words,
}

impl Mail {
    /// Puts it into words. The subject is one line, whatever the names in it hold.
    pub fn compose(&self, to: &Recipient) -> Result<MailContent, askama::Error> {
        let to = Recipient {
            first_name: show::plain(&to.first_name),
            company: show::plain(&to.company),
            zone: to.zone.clone(),
        };
        let words = self.words(&to).plain();
        let text = Text { to: &to, words: &words }.render()?;
        let html = Html { to: &to, words: &words }.render()?;
        Ok(MailContent { subject: words.subject, text, html })
    }

    fn words(&self, to: &Recipient) -> Words {
        match self {
            Self::Welcome { verify_url, site_url, dashboard_url, trial_ends_at } => {
                Words::new("Welcome to StackPro: please confirm your address", format!("Welcome, {}", to.first_name))
                    .say(format!("The stack of {} is being set up; it takes a few seconds.", to.company))
                    .fact("Your site", show::bare(site_url))
                    .fact("Your dashboard", dashboard_url)
                    .fact("Free until", &to.zone.date(*trial_ends_at))
                    .say(
                        "Please confirm your email address. Until then you can neither invite your team nor send mail.",
                    )
                    .button("Confirm my address", verify_url)
                    .after("If you did not sign up, ignore this mail.")
            }
            Self::VerifyAddress { verify_url } => {
                Words::new("Please confirm your address", "Confirm your email address")
                    .say("One press, and you can invite your team and send mail.")
                    .button("Confirm my address", verify_url)
                    .after("If you did not ask for this, ignore this mail.")
            }
            Self::TrialEnds { .. }
            | Self::GraceBegan { .. }
            | Self::GivenEnds { .. }
            | Self::GivenEnded { .. }
            | Self::Suspended { .. }
            | Self::TrialHadAlready { .. }
            | Self::DeletionIn { .. }
            | Self::PaymentFailed { .. } => self.reminder(to),
            Self::Deleted { receipts } => receipts.iter().fold(
                Words::new(format!("The data of {} has been deleted", to.company), "Deleted, with a receipt")
                    .say(format!("The stack of {} and everything that belonged to it are gone:", to.company)),
                |words, receipt| {
                    words.fact(
                        &receipt.kind,
                        &format!("{}, removed on {}", receipt.name, to.zone.date(receipt.removed_at)),
                    )
                },
            ),
            Self::Moved { certificate, site_url, certificate_url } => {
                Words::new("You have moved to a server of your own", "You have a server of your own")
                    .say("Your site moved with all its files. Each file was compared with its original.")
                    .fact("Your site", show::bare(site_url))
                    .fact(
                        "Files",
                        &format!("{} ({})", show::grouped(certificate.files), show::bytes(certificate.bytes)),
                    )
                    .fact("Writes were held for", &show::duration(certificate.held_ms))
                    .fact("Fingerprint of the originals", &certificate.source_hash)
                    .fact("Fingerprint of the copies", &certificate.copy_hash)
                    .button("See the certificate", certificate_url)
            }
            Self::Invitation { inviter, set_password_url } => {
                Words::new(format!("{inviter} invites you to {}", to.company), format!("Welcome to {}", to.company))
                    .say(format!("{inviter} has given you access to the website and the files of {}.", to.company))
                    .button("Choose a password", set_password_url)
                    .after("If you do not know what this is about, ignore this mail.")
            }
            Self::Message { .. } | Self::MailsUsedUp { .. } => self.written(to),
            Self::Attention { what, cause, url } => {
                Words::new(format!("Needs attention: {what}"), "Something needs you")
                    .say(what.clone())
                    .fact("Cause", cause)
                    .button("Look at it", url)
            }
        }
    }

    /// The mails about dates: what happens, when, and what to do if they would rather it did not.
    fn reminder(&self, to: &Recipient) -> Words {
        let company = &to.company;
        match self {
            Self::TrialEnds { days, at, upgrade_url } => {
                let left = show::count(days, "day");
                Words::new(format!("{left} left of your free trial"), format!("{left} left of your trial"))
                    .say(format!("The free trial of {company} ends on {}.", to.zone.date(*at)))
                    .say("Choose a plan and you move to a server of your own, with all your files. If you do nothing, you are charged nothing.")
                    .button("Choose a plan", upgrade_url)
            }
            Self::GraceBegan { pauses_at, upgrade_url } => {
                Words::new("Your free trial is over", "Your trial is over; your site still runs")
                    .say(format!(
                        "The site of {company} keeps running until {}. Then it pauses, and your data is kept.",
                        to.zone.date(*pauses_at)
                    ))
                    .button("Choose a plan", upgrade_url)
            }
            Self::GivenEnds { .. } | Self::GivenEnded { .. } => self.gift(to),
            Self::TrialHadAlready { delete_at, support, upgrade_url } => {
                Words::new(
                    format!("The second site of {company} is paused: there is a free trial already"),
                    "You have had a free trial already",
                )
                .say(format!(
                    "A company, or a person at a public mail provider, has one free trial, and another account has it already. So this second site, of {company}, is paused."
                ))
                .say("To use the site that runs, log in with the address that signed up for it, or ask the colleague who did to invite you. To run this one too, choose a plan.")
                .fact("Your data here is kept until", &to.zone.date(*delete_at))
                .button("Choose a plan", upgrade_url)
                .after(&format!("If you know of no such account, write to {support}."))
            }
            Self::Suspended { delete_at, upgrade_url } => {
                Words::new("Your site is paused, and your data is safe", "Paused, and your data is safe")
                    .say(format!(
                        "The site of {company} is paused. All its data is kept until {}.",
                        to.zone.date(*delete_at)
                    ))
                    .say("Choose a plan by then and everything is back as it was.")
                    .button("Choose a plan", upgrade_url)
            }
            Self::DeletionIn { days, at, upgrade_url } => {
                let left = show::count(days, "day");
                Words::new(format!("Your data is deleted in {left}"), format!("{left} until your data is deleted"))
                    .say(format!(
                        "On {} everything that {company} stored with us is deleted for good.",
                        to.zone.date(*at)
                    ))
                    .say("Choose a plan before then and everything is back as it was.")
                    .button("Keep my data", upgrade_url)
            }
            Self::PaymentFailed { pauses_at, billing_url } => {
                Words::new("Your payment did not go through", "Your payment did not go through")
                    .say(format!(
                        "We could not charge the card of {company}. We try again; your site keeps running until {}.",
                        to.zone.date(*pauses_at)
                    ))
                    .button("Check my card", billing_url)
            }
            _ => Words::new("", ""),
        }
    }
}

impl Mail {
    /// What visitors wrote, or could not.
    fn written(&self, to: &Recipient) -> Words {
        match self {
            Self::Message { name, email, message, site_url } => {
                let lines = message.lines().filter(|line| !line.trim().is_empty());
                lines
                    .fold(Words::new(format!("Message from {name}"), format!("{name} wrote to you")), Words::say)
                    .fact("From", name)
                    .fact("Email", email)
                    .after(&format!("Written in the contact form of {}. An answer to this mail goes to its writer.", show::bare(site_url)))
            }
            Self::MailsUsedUp { used, limit, again_at, upgrade_url } => {
                Words::new("The emails of this month are used up", "The emails of this month are used up")
                    .say(format!(
                        "{used} of {limit} emails of this month are used. What visitors write in the contact form of {} is not sent until {}; the form tells them so.",
                        to.company,
                        to.zone.date(*again_at)
                    ))
                    .say("Paid plans have no email limit.")
                    .button("Choose a plan", upgrade_url)
            }
            _ => Words::new("", ""),
        }
    }

    /// The end of a plan that cost nothing: it was no trial.
    fn gift(&self, to: &Recipient) -> Words {
        let company = &to.company;
        match self {
            Self::GivenEnds { days, plan, at, upgrade_url } => {
                let left = show::count(days, "day");
                Words::new(format!("{left} left of your free {plan} plan"), format!("{left} left of your free plan"))
                    .say(format!(
                        "The {plan} plan that we gave {company} for nothing ends on {}.",
                        to.zone.date(*at)
                    ))
                    .say("Choose a plan by then and everything stays as it is. If you do nothing, you are charged nothing.")
                    .button("Choose a plan", upgrade_url)
            }
            Self::GivenEnded { plan, pauses_at, upgrade_url } => {
                Words::new(format!("Your free {plan} plan is over"), "Your free plan is over; your site still runs")
                    .say(format!(
                        "The site of {company} keeps running until {}. Then it pauses, and your data is kept.",
                        to.zone.date(*pauses_at)
                    ))
                    .button("Choose a plan", upgrade_url)
            }
            _ => Words::new("", ""),
        }
    }
}

impl Words {
    fn new(subject: impl Into<String>, heading: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            heading: heading.into(),
            paragraphs: Vec::new(),
            facts: Vec::new(),
            button: None,
            after: None,
        }
    }

    /// Every text one line, read in the direction in which it is written.
    fn plain(self) -> Self {
        let plain = |text: String| show::plain(&text);
        Self {
            subject: plain(self.subject),
            heading: plain(self.heading),
            paragraphs: self.paragraphs.into_iter().map(plain).collect(),
            facts: self.facts.into_iter().map(|(name, value)| (plain(name), plain(value))).collect(),
            button: self.button.map(|(label, url)| (label, plain(url))),
            after: self.after.map(plain),
        }
    }

    fn say(mut self, paragraph: impl Into<String>) -> Self {
        self.paragraphs.push(paragraph.into());
        self
    }

    fn fact(mut self, name: &str, value: &str) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    fn button(mut self, label: &'static str, url: &str) -> Self {
        self.button = Some((label, url.into()));
        self
    }

    fn after(mut self, text: &str) -> Self {
        self.after = Some(text.into());
        self
    }
}

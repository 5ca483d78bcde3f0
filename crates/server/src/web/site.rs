//! The public site: what it is, what it costs, and the way in.

use askama::Template;
use stackpro_domain::plan::{Interval, Plans};
use stackpro_domain::recipe::Recipe;
use stackpro_protocol::api::FieldError;

use super::frame::SiteFrame;
use super::{assets, show};

/// `GET /`
#[derive(Template)]
#[template(path = "site/home.html")]
pub struct Home {
    pub frame: SiteFrame,
    pub plans: Plans,
}

/// `GET /plans?interval=month|year`
#[derive(Template)]
#[template(path = "site/plans.html")]
pub struct PlansPage {
    pub frame: SiteFrame,
    pub plans: Plans,
    pub interval: Interval,
}

impl PlansPage {
    fn yearly(&self) -> bool {
        self.interval == Interval::Year
    }
}

/// What was typed, so that it need not be typed again. Never the password.
#[derive(Clone, Debug, Default)]
pub struct SignupForm {
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    /// A plan's id.
    pub plan: String,
    /// A recipe's name.
    pub recipe: String,
}

/// A recipe that can be chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    pub name: String,
    pub title: String,
    pub summary: String,
}

impl Choice {
    pub fn of(recipe: &Recipe) -> Self {
        Self { name: recipe.name.clone(), title: recipe.title.clone(), summary: recipe.summary.clone() }
    }
}

/// `GET /signup?plan=…`, and again after a `POST /signup` that was refused.
#[derive(Template)]
#[template(path = "site/signup.html")]
pub struct Signup {
    pub frame: SiteFrame,
    pub csrf: String,
    pub plans: Plans,
    /// To choose from; a single one is no choice.
    pub recipes: Vec<Choice>,
    pub form: SignupForm,
    pub errors: Vec<FieldError>,
    /// What is wrong with no single field: `Too many sign-ups from here. Try again in a minute.`
    pub problem: Option<String>,
}

/// `GET /login?next=…`, and again after a `POST /login` that was refused.
#[derive(Template)]
#[template(path = "site/login.html")]
pub struct Login {
    pub frame: SiteFrame,
    pub csrf: String,
    pub email: String,
    pub problem: Option<String>,
    /// Where to go after; a path of ours, checked by the handler.
    pub next: Option<String>,
}

/// `GET /contact`, and again after `POST /contact`.
#[derive(Template)]
#[template(path = "site/contact.html")]
pub struct Contact {
    pub frame: SiteFrame,
    pub csrf: String,
    pub name: String,
    pub email: String,
    pub message: String,
    pub errors: Vec<FieldError>,
    pub sent: bool,
}

/// What a link in a mail led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    Verified,
    /// Verified, but others have had the trial: this one has ended.
    TrialOver {
        whose: String,
    },
    Already,
    /// Too old, used up, or no link of ours.
    Invalid,
}

/// `GET /verify?token=…` shows a button (a link checker must not verify), `POST /verify` its result.
#[derive(Template)]
#[template(path = "site/verify.html")]
pub struct Verify {
    pub frame: SiteFrame,
    pub csrf: String,
    pub token: String,
    /// None asks; the rest tells.
    pub outcome: Option<Verification>,
}

/// `GET /set-password?token=…` from an invitation, and again after a `POST /set-password` that was refused.
#[derive(Template)]
#[template(path = "site/set_password.html")]
pub struct SetPassword {
    pub frame: SiteFrame,
    pub csrf: String,
    pub token: String,
    pub email: String,
    pub company: String,
    pub errors: Vec<FieldError>,
    /// The link is too old or used up: there is no form.
    pub expired: bool,
}

/// Any error, for people.
#[derive(Template)]
#[template(path = "site/error.html")]
pub struct ErrorPage {
    pub frame: SiteFrame,
    pub status: u16,
    /// The user's message of the error; empty takes the one that fits the status.
    pub detail: String,
    pub request_id: String,
}

impl ErrorPage {
    fn title(&self) -> &'static str {
        match self.status {
            400 | 422 => "That did not work",
            401 => "Please log in first",
            403 => "This is not yours to see",
            404 => "There is nothing here",
            410 => "This link has been used up",
            429 => "A little slower, please",
            503 => "Busy, back in a moment",
            _ => "Something broke on our side",
        }
    }

    fn text(&self) -> &str {
        if !self.detail.is_empty() {
            return &self.detail;
        }
        match self.status {
            400 | 422 => "Something in the request is not as it must be. Go back, check it and try again.",
            401 => "Your session has ended. Log in and you are back where you were.",
            403 => "You are logged in, but this page belongs to someone else, or the form was open for too long.",
            404 => "The page may have moved, or the address has a typo.",
            410 => "It worked once, or it is too old. Ask for a new one.",
            429 => "There were many requests in a short time. Wait a minute and try again.",
            503 => "More is going on than we can answer at once. Nothing is lost; try again in a few seconds.",
            _ => "Nothing that you stored is affected. Try again; if it stays, write to us with the number below.",
        }
    }
}

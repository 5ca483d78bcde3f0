//! The client's pages: what runs, what happens when, and what can be done about it.

use askama::Template;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::plan::{Interval, Plans};
use stackpro_domain::{Cents, InstanceId, MemberId, Time};
use stackpro_protocol::api::{Client, Deployment, FieldError, Invoice, NextDate, PlanPreview, Usage};

use super::frame::ClientFrame;
use super::history::UsedMonth;
use super::{assets, history, money, show};

/// The file portal, as its own site names it.
#[derive(Clone, Debug)]
pub struct Portal {
    /// The WebDAV address, for the computer's own file manager.
    pub webdav_url: String,
    pub user: String,
    /// Only on the answer to the form that asks for it.
    pub password: Option<String>,
}

/// Where, and as whom, the client signs in at what runs for them.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The recipe's.
    pub title: String,
    pub url: String,
    pub user: String,
    /// Only on the answer to the form that asks for it.
    pub password: Option<String>,
}

/// `GET /dashboard/{client}`
#[derive(Template)]
#[template(path = "client/dashboard.html")]
pub struct Dashboard {
    pub frame: ClientFrame,
    pub client: Client,
    pub plan_name: String,
    pub deployment: Deployment,
    pub usage: Usage,
    /// The newest first.
    pub months: Vec<UsedMonth>,
    /// Every date of the client's life that is known, in order.
    pub dates: Vec<NextDate>,
    pub now: Time,
    /// When the present state of the client's life ends by itself.
    pub state_ends_at: Option<Time>,
    pub instance: Option<InstanceId>,
    /// None while nothing runs, and for a recipe that has none.
    pub portal: Option<Portal>,
    pub sign_in: Option<SignIn>,
}

impl Dashboard {
    /// Whether something is under way that the page follows.
    fn follows(&self) -> bool {
        matches!(self.deployment.status.as_str(), "provisioning" | "migrating")
    }

    fn runs(&self) -> bool {
        matches!(self.deployment.status.as_str(), "ready" | "migrating")
    }

    fn can_buy(&self) -> bool {
        self.client.given || matches!(self.client.state.as_str(), "trial" | "grace" | "suspended")
    }

    /// What the days left are left of.
    fn countdown(&self) -> Option<(i64, &'static str)> {
        let until = match self.client.state.as_str() {
            "trial" => "left of your free trial",
            "grace" => "until your site pauses",
            "suspended" => "until your data is deleted",
            "active" if self.client.given => "left of the plan that you were given",
            _ => return None,
        };
        self.state_ends_at.map(|at| (at.days_left(self.now), until))
    }

    fn when(&self, date: &NextDate) -> &'static str {
        when(&self.dates, date, self.now)
    }
}

/// `past`, `next` or `later`: a class of the style sheet, and said in words beside the date.
pub(super) fn when(dates: &[NextDate], date: &NextDate, now: Time) -> &'static str {
    if date.at <= now {
        return "past";
    }
    let next = dates.iter().filter(|other| other.at > now).map(|other| other.at).min();
    if next == Some(date.at) { "next" } else { "later" }
}

/// `GET /dashboard/{client}/upgrade`
#[derive(Template)]
#[template(path = "client/upgrade.html")]
pub struct Upgrade {
    pub frame: ClientFrame,
    pub plans: Plans,
    /// The plan's id that is chosen at first.
    pub plan: String,
    pub interval: Interval,
    pub problem: Option<String>,
}

/// `GET /dashboard/{client}/upgrade` of one who pays: the plan, what another would cost, the invoices.
#[derive(Template)]
#[template(path = "client/plan.html")]
pub struct PlanPage {
    pub frame: ClientFrame,
    pub plans: Plans,
    /// As it is now.
    pub plan_name: String,
    pub current: Option<Interval>,
    pub paid_until: Option<Time>,
    /// When a cancelled one ends.
    pub ends_at: Option<Time>,
    /// What is chosen in the form.
    pub plan: String,
    pub interval: Interval,
    pub preview: Option<PlanPreview>,
    /// None when the till does not answer.
    pub invoices: Option<Vec<Invoice>>,
    pub may_pay: bool,
    pub problem: Option<String>,
}

/// `GET /dashboard/{client}/return`: back from the till. The handler redirects once the payment is booked.
#[derive(Template)]
#[template(path = "client/checkout_return.html")]
pub struct CheckoutReturn {
    pub frame: ClientFrame,
    /// The client left the till without paying.
    pub cancelled: bool,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, Default)]
pub struct MoveProgress {
    pub files: u64,
    pub files_total: u64,
    pub bytes: u64,
    pub bytes_total: u64,
}

/// `GET /dashboard/{client}/move`: the move to an instance of one's own, live, and its certificate after.
#[derive(Template)]
#[template(path = "client/migration.html")]
pub struct Migration {
    pub frame: ClientFrame,
    pub deployment: Deployment,
    pub progress: Option<MoveProgress>,
}

impl Migration {
    fn follows(&self) -> bool {
        matches!(self.deployment.status.as_str(), "provisioning" | "migrating")
    }

    fn failed(&self) -> bool {
        self.deployment.steps.iter().any(|step| matches!(step.status.as_str(), "failed" | "undoing" | "undone"))
    }
}

/// `GET /dashboard/{client}/certificate`: the proof of the last move, to print.
#[derive(Template)]
#[template(path = "client/certificate.html")]
pub struct CertificatePage {
    pub frame: ClientFrame,
    pub certificate: Certificate,
}

/// A person of the client, in a list.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: MemberId,
    pub name: String,
    pub email: String,
    /// `owner`, `admin` or `member`.
    pub role: String,
    /// None while the invitation is open.
    pub joined_at: Option<Time>,
    pub you: bool,
}

/// `GET /dashboard/{client}/members`, and again after an invitation that was refused.
#[derive(Template)]
#[template(path = "client/members.html")]
pub struct Members {
    pub frame: ClientFrame,
    pub members: Vec<Member>,
    /// None is unlimited.
    pub limit: Option<u32>,
    /// Whether this member's role may invite.
    pub may_invite: bool,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub role: String,
    pub errors: Vec<FieldError>,
}

impl Members {
    fn full(&self) -> bool {
        self.limit.is_some_and(|limit| self.members.len() as u64 >= u64::from(limit))
    }
}

/// `GET /dashboard/{client}/settings`
#[derive(Template)]
#[template(path = "client/settings.html")]
pub struct Settings {
    pub frame: ClientFrame,
    pub role: String,
    pub plan_name: String,
    /// `month` or `year`, once they pay.
    pub interval: Option<String>,
    /// There is a customer at the till: invoices and cards are shown there.
    pub billing: bool,
    pub may_cancel: bool,
    /// When a cancelled plan ends.
    pub ends_at: Option<Time>,
    /// Days that the data is kept after a pause.
    pub retention_days: i64,
    /// By its name in IANA's database.
    pub time_zone: String,
    /// Which to choose from; none when it is not theirs to choose.
    pub time_zones: Vec<String>,
    pub problem: Option<String>,
}

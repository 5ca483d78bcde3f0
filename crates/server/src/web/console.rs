//! The operator's pages: every client, every instance, every resource, every flow, every cent.

use askama::Template;
use stackpro_domain::cost::{Amount, Balance};
use stackpro_domain::plan::Plans;
use stackpro_domain::{Cents, ClientId, FlowId, InstanceId, ResourceId, Time};
use stackpro_protocol::api::{Client, Deployment, FieldError, Invoice, NextDate, Reversal, Usage};

use super::client::when;
use super::frame::{ConsoleFrame, SiteFrame};
use super::history::UsedMonth;
use super::money::{Both, CostLine, ThisMonth};
use super::{assets, history, money, show};

/// `GET /console/first/{token}`: the one-time link that makes the first operator.
#[derive(Template)]
#[template(path = "console/first.html")]
pub struct FirstOperator {
    pub frame: SiteFrame,
    pub csrf: String,
    pub token: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub errors: Vec<FieldError>,
}

/// How many clients are in a state.
#[derive(Clone, Debug)]
pub struct StateCount {
    pub state: String,
    pub count: u64,
}

/// An instance, and who is on it.
#[derive(Clone, Debug)]
pub struct InstanceRow {
    pub id: InstanceId,
    /// Its row in the ledger.
    pub resource: ResourceId,
    pub dedicated: bool,
    /// As the cloud says it: `pending`, `running`, `stopped`, `terminated`; or `draining`.
    pub state: String,
    /// Its agent has reported lately.
    pub healthy: bool,
    pub address: String,
    pub instance_type: String,
    pub clients: Vec<ClientId>,
    /// How many clients it takes.
    pub capacity: u32,
    pub reported_at: Option<Time>,
    /// This month.
    pub cost: Both<Amount>,
}

impl InstanceRow {
    pub(super) fn fill(&self) -> show::Bar {
        let percent = show::share(self.clients.len(), self.capacity);
        show::Bar { percent, tone: "good", remark: None }
    }
}

/// A flow, in a list.
#[derive(Clone, Debug)]
pub struct FlowRow {
    pub id: FlowId,
    /// `provision`, `migrate`, …
    pub kind: String,
    /// Whom it is for; a client's id, mostly.
    pub subject: String,
    /// `waiting`, `running`, `parked`, `done`, `undone` or `abandoned`.
    pub state: String,
    pub undoing: bool,
    /// What a node must know to go on with it, where this one does not: `provision v2`.
    pub waits_for: Option<String>,
    /// The step that it is at.
    pub step: Option<String>,
    pub cause: Option<String>,
    pub created_at: Time,
    pub finished_at: Option<Time>,
}

/// An event of the till that could not be handled.
#[derive(Clone, Debug)]
pub struct EventRow {
    pub id: String,
    /// As the till names it: `invoice.paid`, …
    pub kind: String,
    pub cause: Option<String>,
    pub received_at: Time,
}

/// A row of the ledger.
#[derive(Clone, Debug)]
pub struct ResourceRow {
    pub id: ResourceId,
    /// `instance`, `bucket`, `dns_record`, …
    pub kind: String,
    pub name: String,
    pub state: String,
    pub client: Option<ClientId>,
    pub created_at: Time,
    /// It should not exist, or nobody owns it.
    pub leaked: bool,
}

/// A mail, in a list.
#[derive(Clone, Debug)]
pub struct MailRow {
    /// Where it is shown.
    pub href: String,
    pub to: String,
    pub subject: String,
    /// As [`stackpro_domain::mail::MailState`] names it.
    pub state: String,
    /// Why it came back, was not sent, or still waits.
    pub cause: Option<String>,
    pub client: Option<ClientId>,
    pub at: Time,
}

/// A client, in a list.
#[derive(Clone, Debug)]
pub struct ClientRow {
    pub id: ClientId,
    pub company: String,
    pub state: String,
    /// The deployment's status.
    pub status: String,
    pub plan: String,
    pub instance: Option<InstanceId>,
    /// What it brings and costs this month.
    pub balance: Both<Balance>,
    pub next: Option<NextDate>,
    pub created_at: Time,
}

/// A dispute that waits for an answer.
#[derive(Clone, Debug)]
pub struct DisputeRow {
    pub client: ClientId,
    pub amount: Cents,
    pub answer_by: Time,
}

/// `GET /console`
#[derive(Template)]
#[template(path = "console/overview.html")]
pub struct Overview {
    pub frame: ConsoleFrame,
    pub counts: Vec<StateCount>,
    pub month: ThisMonth,
    /// Parked flows, and those that no node knows.
    pub attention: Vec<FlowRow>,
    /// How many events of the till are parked.
    pub events: u64,
    /// That wait for an answer, the most urgent first.
    pub disputes: Vec<DisputeRow>,
    pub leaks: u64,
    /// Of the clients' names; none where there is to be none.
    pub certificate: Option<CertificateState>,
    /// Some of them.
    pub instances: Vec<InstanceRow>,
    pub instance_count: usize,
    pub newest: Vec<ClientRow>,
}

impl Overview {
    fn is_certified(&self) -> bool {
        self.certificate.as_ref().is_none_or(|certificate| certificate.is_well)
    }
}

/// How it stands with the certificate of the clients' names.
#[derive(Clone, Debug)]
pub struct CertificateState {
    pub is_well: bool,
    /// Until when it is valid, or what is wrong.
    pub text: String,
}

/// `GET /console/clients?q=&state=&page=`
#[derive(Template)]
#[template(path = "console/clients.html")]
pub struct Clients {
    pub frame: ConsoleFrame,
    pub rows: Vec<ClientRow>,
    pub query: String,
    pub state: String,
    /// From 1.
    pub page: u32,
    pub pages: u32,
    pub total: u64,
}

/// The states that a list of clients can be narrowed to.
const STATES: [&str; 6] = ["trial", "grace", "active", "past_due", "suspended", "deleted"];

impl Clients {
    fn page(&self, page: u32) -> String {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        format!("/console/clients?q={}&state={}&page={page}", encode(&self.query), encode(&self.state))
    }
}

/// Which of the operator's actions this client's state allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Actions {
    pub migrate: bool,
    pub suspend: bool,
    pub resume: bool,
    /// More days of trial, or of grace.
    pub give_days: bool,
    /// A plan for nothing.
    pub give_plan: bool,
    pub delete: bool,
}

/// `GET /console/clients/{client}`
#[derive(Template)]
#[template(path = "console/client.html")]
pub struct ClientPage {
    pub frame: ConsoleFrame,
    pub client: Client,
    pub owner_name: String,
    pub owner_email: String,
    pub owner_verified: bool,
    pub dates: Vec<NextDate>,
    pub deployment: Deployment,
    pub instance: Option<InstanceId>,
    pub usage: Usage,
    /// `November 2026`.
    pub month: String,
    pub balance: Both<Balance>,
    /// What it costs this month, thing by thing.
    pub costs: Vec<CostLine>,
    /// Of the revenue, what refunds and disputes took back this month.
    pub returned: Cents,
    /// None when the till does not answer.
    pub invoices: Option<Vec<Invoice>>,
    pub reversals: Vec<Reversal>,
    /// The newest first.
    pub months: Vec<UsedMonth>,
    pub flows: Vec<FlowRow>,
    pub resources: Vec<ResourceRow>,
    pub mails: Vec<MailRow>,
    pub actions: Actions,
    /// When the till charges them again though they are suspended, and brings them back.
    pub renews_at: Option<Time>,
    pub plans: Plans,
    /// Why an action was refused.
    pub problem: Option<String>,
}

impl ClientPage {
    fn when(&self, date: &NextDate) -> &'static str {
        when(&self.dates, date, self.frame.now)
    }

    fn at(&self, action: &str) -> String {
        format!("/console/clients/{}/{action}", self.client.id)
    }
}

/// `GET /console/instances`
#[derive(Template)]
#[template(path = "console/instances.html")]
pub struct Instances {
    pub frame: ConsoleFrame,
    pub rows: Vec<InstanceRow>,
}

/// `GET /console/resources?page=`
#[derive(Template)]
#[template(path = "console/resources.html")]
pub struct Resources {
    pub frame: ConsoleFrame,
    pub rows: Vec<ResourceRow>,
    pub leaks: u64,
    pub page: u32,
    pub pages: u32,
}

/// `GET /console/flows?state=&page=`
#[derive(Template)]
#[template(path = "console/flows.html")]
pub struct Flows {
    pub frame: ConsoleFrame,
    pub rows: Vec<FlowRow>,
    /// Parked events of the till, the oldest first.
    pub events: Vec<EventRow>,
    /// Empty is any.
    pub state: String,
    pub page: u32,
    pub pages: u32,
}

impl Flows {
    fn path(&self) -> String {
        let known = FLOW_STATES.iter().find(|state| **state == self.state).unwrap_or(&"");
        format!("/console/flows?state={known}&")
    }
}

/// The states that a list of flows can be narrowed to.
const FLOW_STATES: [&str; 6] = ["parked", "running", "waiting", "done", "undone", "abandoned"];

/// A step of a flow, with what went wrong.
#[derive(Clone, Debug)]
pub struct FlowStep {
    pub title: String,
    pub state: String,
    pub attempts: u32,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// What it is busy with.
    pub note: Option<String>,
    pub error: Option<String>,
    /// Once done, the flow cannot turn back.
    pub commit: bool,
}

/// `GET /console/flows/{flow}`
#[derive(Template)]
#[template(path = "console/flow.html")]
pub struct FlowPage {
    pub frame: ConsoleFrame,
    pub flow: FlowRow,
    pub steps: Vec<FlowStep>,
    /// Parked: may be tried again.
    pub may_retry: bool,
    /// Parked before its commit: may be undone.
    pub may_turn_back: bool,
    pub problem: Option<String>,
}

/// `GET /console/mailbox?page=`
#[derive(Template)]
#[template(path = "console/mailbox.html")]
pub struct Mailbox {
    pub frame: ConsoleFrame,
    pub rows: Vec<MailRow>,
    pub page: u32,
    pub pages: u32,
}

/// `GET /console/mailbox/{mail}`, served with [`super::mail_page_csp`].
#[derive(Template)]
#[template(path = "console/mail.html")]
pub struct MailPage {
    pub frame: ConsoleFrame,
    pub mail: MailRow,
    /// Whom an answer goes to, when not to whoever sent it.
    pub reply_to: Option<String>,
    /// Shown in a frame that runs nothing.
    pub html: String,
    pub text: String,
}

/// What a visitor wrote.
#[derive(Clone, Debug)]
pub struct ContactRow {
    pub name: String,
    pub email: String,
    pub message: String,
    pub at: Time,
}

/// `GET /console/contacts?page=`
#[derive(Template)]
#[template(path = "console/contacts.html")]
pub struct Contacts {
    pub frame: ConsoleFrame,
    pub rows: Vec<ContactRow>,
    pub page: u32,
    pub pages: u32,
}

/// Something that will happen to a client.
#[derive(Clone, Debug)]
pub struct Upcoming {
    pub client: ClientId,
    pub company: String,
    pub date: NextDate,
}

/// `GET /console/time`: the local cloud's time machine.
#[derive(Template)]
#[template(path = "console/time.html")]
pub struct TimeMachine {
    pub frame: ConsoleFrame,
    /// How far the clock is ahead of the machine's, in milliseconds.
    pub offset_ms: i64,
    /// The next dates of any client, the nearest first.
    pub upcoming: Vec<Upcoming>,
    /// When the till next charges somebody by itself.
    pub till_at: Option<Time>,
    pub problem: Option<String>,
}

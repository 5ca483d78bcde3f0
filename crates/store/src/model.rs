//! What the store keeps, as plain values. Times are [`Time`]; sizes are bytes; what is `Option` may be unknown yet.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stackpro_domain::lifecycle::{Life, State};
use stackpro_domain::mail::{Fate, MailState};
use stackpro_domain::manifest::Certificate;
use stackpro_domain::plan::Interval;
use stackpro_domain::{Cents, ClientId, Fingerprint, InstanceId, MemberId, ResourceId, Time};
use stackpro_flow::{Flow, Step};

/// A closed set of words, spelled alike in Rust, in the database and in JSON.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text)
            }
        }
    };
}

words!(
    /// Whether a client's stack is up: a state of its own, beside where the client stands in its life.
    StackPhase {
        Provisioning = "provisioning",
        Ready = "ready",
        Migrating = "migrating",
        Suspending = "suspending",
        Suspended = "suspended",
        Failed = "failed",
        Deleting = "deleting",
        Deleted = "deleted",
    }
);

words!(
    /// Many trials on one instance, or one paying client alone.
    HostKind { Shared = "shared", Dedicated = "dedicated" }
);

words!(
    /// What a person may do. An operator runs StackPro and belongs to no client.
    Role { Owner = "owner", Admin = "admin", Member = "member", Operator = "operator" }
);

words!(
    /// What a one-time token allows.
    Purpose {
        VerifyEmail = "verify_email",
        SetPassword = "set_password",
        MakeOperator = "make_operator",
        Enrol = "enrol",
    }
);

words!(
    /// Where an instance stands.
    InstancePhase {
        Launching = "launching",
        Ready = "ready",
        /// Takes no new client.
        Draining = "draining",
        Released = "released",
    }
);

words!(
    /// What can cost or leak.
    ResourceKind {
        Instance = "instance",
        Bucket = "bucket",
        Record = "record",
        MailIdentity = "mail_identity",
        Role = "role",
    }
);

words!(
    /// Where a resource stands. Its row is committed as intended before the cloud is asked for it.
    ResourceState { Intended = "intended", Created = "created", Deleting = "deleting", Deleted = "deleted" }
);

words!(
    /// Where an event of the till stands.
    TillEventState {
        Received = "received",
        Handled = "handled",
        /// Of a kind that means nothing to us.
        Ignored = "ignored",
        /// Could not be handled, and waits for a person.
        Parked = "parked",
    }
);

/// The company that buys.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    pub id: ClientId,
    pub company: String,
    /// The id of a plan: what they want to buy while on trial, what they have bought afterwards.
    pub plan: String,
    pub interval: Option<Interval>,
    /// What a period comes to, where a promotion code lowers the plan's price.
    pub price: Option<Cents>,
    /// The name of what runs for them.
    pub recipe: String,
    pub life: Life,
    pub stack: StackPhase,
    pub hosting: Option<Hosting>,
    /// Where their site is: `acme-law-7f3k.stackpro.localhost`.
    pub host: String,
    /// The till's ids.
    pub customer_id: Option<String>,
    pub subscription_id: Option<String>,
    /// Of their last migration.
    pub certificate: Option<Certificate>,
    /// Counts changes of the file portal's password.
    pub portal_rotation: i64,
    pub created_at: Time,
}

/// The instance from which a client is served. Only `instance_id` is written; the rest is the instance's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosting {
    pub instance_id: ResourceId,
    pub cloud_id: Option<InstanceId>,
    pub kind: HostKind,
}

/// A person of a client, or an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    /// None for an operator.
    pub client_id: Option<ClientId>,
    /// As [`stackpro_domain::names::email`] returns it: no two members have the same.
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub role: Role,
    /// argon2id, in PHC format; none until they have chosen one.
    pub password_hash: Option<String>,
    pub email_verified_at: Option<Time>,
    pub created_at: Time,
}

/// A logged-in browser. Of the refresh tokens only SHA-256 hashes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: String,
    pub member_id: MemberId,
    pub refresh_hash: String,
    /// What the last rotation replaced.
    pub previous_hash: Option<String>,
    pub rotated_at: Time,
    pub expires_at: Time,
    pub created_at: Time,
}

/// A machine that runs stacks. Its id is that of its row in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRow {
    pub id: ResourceId,
    pub cloud_id: Option<InstanceId>,
    pub kind: HostKind,
    pub instance_type: String,
    /// How many clients it may have.
    pub capacity: u32,
    pub state: InstancePhase,
    pub front: Option<SocketAddr>,
    pub control: Option<SocketAddr>,
    /// Of its agent's own certificate, told at the enrolment; none when its doors are without TLS.
    pub fingerprint: Option<Fingerprint>,
    /// Which edition of our certificate its agent says that it has.
    pub edition: Option<String>,
    pub version: Option<String>,
    pub enrolled_at: Option<Time>,
    pub last_report_at: Option<Time>,
    pub created_at: Time,
    /// How many clients have a stack there now; counted, never written.
    pub clients: u32,
}

/// What an instance's setup said when it last failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupFailure {
    /// The end of its log.
    pub log: String,
    pub at: Time,
}

/// A certificate of a CA for a domain of ours, and the way to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    pub domain: String,
    /// The CA that the present certificate is of.
    pub directory: Option<String>,
    /// Certificate and key, encrypted.
    pub sealed: Option<String>,
    pub fingerprint: Option<Fingerprint>,
    pub not_before: Option<Time>,
    pub not_after: Option<Time>,
    pub renew_at: Option<Time>,
    /// The account at the CA and the order that is in flight, encrypted.
    pub progress: Option<String>,
    /// When the order that is in flight was made.
    pub ordered_at: Option<Time>,
    /// Whether an answer to a challenge may stand in the zone.
    pub published: bool,
    /// Failures in a row.
    pub attempts: u32,
    pub error: Option<String>,
    /// Nobody works on it before, on the database's clock.
    pub next_at: Time,
    /// Grows with every claim.
    pub fence: i64,
}

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub id: ResourceId,
    pub kind: ResourceKind,
    /// Its deterministic name, or the token with which it is launched.
    pub name: String,
    pub cloud_id: Option<String>,
    /// None for what is shared.
    pub client_id: Option<ClientId>,
    pub state: ResourceState,
    pub created_at: Time,
    pub deleted_at: Option<Time>,
}

/// What a client uses. Storage and files are those of where it is served from; requests and traffic are
/// totals over all instances it ever ran on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub storage_bytes: u64,
    pub files: u64,
    pub requests: u64,
    pub traffic_bytes: u64,
    pub reported_at: Option<Time>,
}

/// What a client used in one month. Storage and members are the most that there were at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageMonth {
    /// When it began, in UTC.
    pub month: Time,
    /// What was stored, times how long it was.
    pub kib_seconds: u64,
    pub storage_bytes: u64,
    pub members: u32,
    pub mails: u64,
    pub requests: u64,
    pub traffic_bytes: u64,
}

/// What an agent counted for one stack. A counter that became smaller began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub storage_bytes: u64,
    pub files: u64,
    pub requests: u64,
    pub traffic_bytes: u64,
}

/// A mail that is to be sent, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutMail {
    pub id: String,
    pub client_id: Option<ClientId>,
    /// `welcome`, `trial_ends_in_3`.
    pub kind: String,
    pub to: String,
    /// Whom an answer goes to; none: whoever sends it.
    pub reply_to: Option<String>,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub state: MailState,
    pub attempts: u32,
    pub error: Option<String>,
    pub created_at: Time,
    pub sent_at: Option<Time>,
}

/// A mail in the log: without its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailLine {
    pub id: String,
    pub client_id: Option<ClientId>,
    pub kind: String,
    pub to: String,
    pub subject: String,
    pub state: MailState,
    /// Why it came back, was not sent, or still waits.
    pub error: Option<String>,
    pub created_at: Time,
    pub sent_at: Option<Time>,
}

/// Which mails the log shows; the default is all.
#[derive(Clone, Debug, Default)]
pub struct MailFilter {
    pub client: Option<ClientId>,
    pub state: Option<MailState>,
}

/// Which mails are wanted for sending.
#[derive(Clone, Debug)]
pub struct MailAsk {
    pub now: Time,
    /// Whoever claims them has sent them by then, or has died.
    pub until: Time,
    pub limit: u32,
    /// None when a carrier takes whatever it is given.
    pub pace: Option<Pace>,
}

/// So many in each second of real time, by all nodes together.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub per_second: u32,
    /// Real time.
    pub at: Time,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimedMails {
    pub mails: Vec<OutMail>,
    /// This second takes no more.
    pub full: bool,
}

/// What a carrier told of a mail and one of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailEvent {
    /// The carrier's own: the same event has the same one.
    pub id: String,
    /// Of the mail in our log that it is about.
    pub mail_id: Option<String>,
    /// Whose mail it was, when it was not one of ours.
    pub client_id: Option<ClientId>,
    /// As [`stackpro_domain::names::email`] returns it.
    pub address: String,
    pub fate: Fate,
    /// In the carrier's words.
    pub detail: String,
    pub at: Time,
    pub received_at: Time,
}

/// An address that gets no more mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub address: String,
    pub fate: Fate,
    pub detail: String,
    /// The event that told it.
    pub event_id: String,
    pub since: Time,
}

/// An event of the till, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TillEvent {
    /// The till's own id.
    pub id: String,
    pub kind: String,
    pub payload: String,
    pub state: TillEventState,
    pub attempts: u32,
    pub error: Option<String>,
    pub received_at: Time,
    pub handled_at: Option<Time>,
}

/// What a visitor wrote in the contact form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    pub id: String,
    pub name: String,
    pub email: String,
    pub message: String,
    pub created_at: Time,
}

/// Who did what, when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    pub at: Time,
    /// A member's id, or `system`.
    pub actor: String,
    pub action: String,
    pub client_id: Option<ClientId>,
    pub detail: String,
}

/// A flow with its steps in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    pub flow: Flow,
    pub steps: Vec<Step>,
}

/// What a list of clients shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSummary {
    pub id: ClientId,
    pub company: String,
    pub host: String,
    pub plan: String,
    pub state: State,
    pub stack: StackPhase,
    pub hosting: Option<HostKind>,
    pub owner_email: Option<String>,
    /// When its life moves next by itself.
    pub next_at: Option<Time>,
    pub created_at: Time,
}

/// All that a client's dashboard shows.
#[derive(Clone, Debug, PartialEq)]
pub struct DashboardRow {
    pub member: Member,
    pub client: Client,
    /// Of its newest flow.
    pub timeline: Option<Timeline>,
    pub usage: Usage,
    pub members: u32,
    /// Mails that they sent since this month began; ours to them do not count.
    pub emails: u32,
}

/// Some rows, and where the next ones begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// To be given as `after`; none when there are no more.
    pub next: Option<String>,
}

/// Which clients a list shows; the default is all.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    pub state: Option<State>,
    /// Part of the company's name, of the id or of a member's address; upper and lower case are the same.
    pub search: Option<String>,
    /// Only those with a parked flow.
    pub attention: bool,
}

/// Which resources a list shows; the default is all.
#[derive(Clone, Debug, Default)]
pub struct ResourceFilter {
    pub client: Option<ClientId>,
    pub state: Option<ResourceState>,
    pub kind: Option<ResourceKind>,
}

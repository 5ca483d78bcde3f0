//! What the control plane and the agents say to each other. JSON over HTTP.
//!
//! An agent has two doors. The **front door** is public: it routes by host name to stacks. The **control
//! door** is for the control plane and for other agents: every request bears a key.
//!
//! | control door | who | what |
//! |---|---|---|
//! | `GET /v1/health` | anyone | [`Health`] |
//! | `PUT /v1/stacks/{client}` [`StackSpec`] | control plane | make the stack so; idempotent → [`StackStatus`] |
//! | `GET /v1/stacks/{client}` | control plane | [`StackStatus`] |
//! | `DELETE /v1/stacks/{client}` | control plane | stop it and remove its data; idempotent → 204 |
//! | `POST /v1/stacks/{client}/tickets` [`TicketRequest`] | control plane | let another agent copy this stack → [`Ticket`] |
//! | `PUT /v1/stacks/{client}/move` [`MoveOrder`] | control plane, at the destination | copy and, if asked, cut over; a job, idempotent by its id → [`MoveStatus`] |
//! | `GET /v1/stacks/{client}/move` | control plane, at the destination | [`MoveStatus`] |
//! | `POST /v1/stacks/{client}/abort` [`AbortMove`] | control plane, at the source | no cut-over of this job any more → [`AbortAnswer`] |
//! | `PUT /v1/certificate` [`Certificates`] | control plane | show these to visitors; idempotent → 204 |
//! | `POST /v1/stop` | control plane | end the agent in an orderly way → 202 |
//!
//! On loopback each door has a listener of its own, without TLS. On a public network ([`PublicDoors`]) there are
//! ports 80 and 443 alone, and which door a connection leads to is said by the server name of its TLS
//! handshake: [`CONTROL_NAME`] is the control door, [`FRONT_NAME`] the front door for other agents; both have a
//! certificate that the agent made itself, whose [`Fingerprint`] it told at its enrolment and by which it is
//! known. Every other name is a visitor's, and never leads to the control door.
//!
//! The agents' own talk during a move (`/v1/transfer/…`, opened by a [`Ticket`]) is the agent's private
//! matter, and both ends are the same program.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use stackpro_domain::limits::Limits;
use stackpro_domain::manifest::Certificate;
use stackpro_domain::recipe::Compose;
use stackpro_domain::{ClientId, Fingerprint, InstanceId, Time};

/// Every answer of a stack bears the id of its client in this header.
pub const STACK_HEADER: &str = "x-stackpro-stack";

/// No client's host is this name or below it.
pub const RESERVED_DOMAIN: &str = "stackpro.internal";
/// The server name of the control door.
pub const CONTROL_NAME: &str = "control.stackpro.internal";
/// The server name by which other agents reach the front door.
pub const FRONT_NAME: &str = "front.stackpro.internal";

/// `POST {server}/api/agents/enrol`: an agent's first word, with the one-time token that it was launched with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrol {
    pub instance_id: InstanceId,
    pub token: String,
    /// Where the front door and the control door are reached.
    pub front: SocketAddr,
    pub control: SocketAddr,
    /// Of the agent's own certificate; none when its doors are without TLS. It never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    pub version: String,
}

/// The answer to [`Enrol`]. The agent keeps the key on its disk, readable by itself alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// Bears every request between this agent and the control plane, both ways (`Authorization: Bearer`).
    pub key: String,
}

/// `POST {server}/api/agents/report` (bearer key): every few seconds, and at once after a change worth it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub instance_id: InstanceId,
    pub front: SocketAddr,
    pub control: SocketAddr,
    pub version: String,
    /// Of the [`Certificates`] that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    pub stacks: Vec<StackStatus>,
}

/// `POST {server}/api/agents/messages` (bearer key): a visitor of a stack wrote to whoever owns it. The answer is 202
/// once it is sure to be mailed; 403 when the client's mails of this month are used up; 404 when the client is not on
/// that instance; 409 when nobody there has a confirmed address, or the site is paused; 422 with the fields that are
/// wrong; 429 when there are too many.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VisitorMessage {
    pub instance_id: InstanceId,
    pub client_id: ClientId,
    /// Lower case letters and digits. The same one is mailed once.
    pub id: String,
    /// All three as the visitor typed them. Hostile text.
    pub name: String,
    pub email: String,
    pub message: String,
}

/// What an agent with public doors shows to visitors, and how it gets the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Another one for every other content; told back in each [`Report`].
    pub edition: String,
    /// The clients' domain. It and the names one label below it are the control plane's business: the agent
    /// orders no certificate for them, whether there is one yet or not.
    pub domain: String,
    /// For that domain and all those names.
    pub wildcard: Option<Chain>,
    /// Of which CA the agent orders certificates for hosts elsewhere; none: of no CA.
    pub acme: Option<AcmeDirectory>,
}

/// A certificate with those that vouch for it, and its private key, in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    pub chain: String,
    pub key: String,
}

/// Never shows the key.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// A CA that speaks ACME (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmeDirectory {
    /// `https://acme-v02.api.letsencrypt.org/directory`
    pub url: String,
    /// `mailto:ops@example.com`
    pub contact: Option<String>,
    /// By which the CA's server is known beside the usual roots, in PEM.
    pub roots: Option<String>,
    /// Seconds of the pause after a failed order, which doubles with each one.
    pub retry_seconds: u64,
}

/// `GET /v1/health` at the control door.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub instance_id: InstanceId,
    pub version: String,
    pub enrolled: bool,
}

/// What shall run for a client here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackSpec {
    pub client_id: ClientId,
    /// As it is shown on the client's pages. Hostile text.
    pub company: String,
    /// `site` is built in; every other one comes with what an engine needs to run it.
    pub recipe: String,
    /// None for a recipe that is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Compose>,
    /// Host names that lead to this stack, lower case, without a port.
    pub hosts: Vec<String>,
    pub limits: Limits,
    pub wanted: Wanted,
    /// SHA-256, in hex, of the password of the file portal. The password itself is of high entropy.
    pub portal_password_sha256: String,
    /// Key, in hex, of the signed links by which the dashboard opens the portal (see [`PortalLink`]).
    pub portal_key: String,
    /// A line shown above the portal, e.g. that the trial is over and what happens next.
    pub notice: Option<String>,
    /// Where the client's dashboard is.
    pub dashboard_url: String,
}

/// What a stack shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wanted {
    /// Answer at the front door.
    Serving,
    /// Exist without answering: the destination of a move.
    Receiving,
    /// Keep the data, and answer every request with 503 and a page that says that the data is safe.
    Suspended,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackStatus {
    pub client_id: ClientId,
    pub state: StackState,
    pub usage: StackUsage,
    /// What keeps it from answering, also while it is being tried again. Text of an engine: hostile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its programs are on their way up, and nothing is wrong so far.
    #[serde(default)]
    pub starting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StackState {
    Serving,
    Receiving,
    Suspended,
    /// Moved away: requests that still arrive here are forwarded.
    Forwarding,
}

/// What a stack uses. Traffic counts since the stack was made here and only grows, except that it
/// starts at 0 again on another instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StackUsage {
    pub storage_bytes: u64,
    pub files: u64,
    pub requests: u64,
    pub traffic_bytes: u64,
}

/// The link `http://{host}/portal/enter?expires=…&signature=…` by which the dashboard opens a portal
/// without a password. `signature` is the lower-case hex HMAC-SHA256, by the stack's `portal_key`
/// (its decoded bytes), of `portal:{client id}:{expires}`; `expires` is in seconds since the Unix epoch
/// and at most [`PortalLink::MAX_AGE_SECONDS`] ahead. A link opens the portal once.
pub struct PortalLink;

impl PortalLink {
    pub const MAX_AGE_SECONDS: i64 = 60;

    pub fn message(client: &ClientId, expires: i64) -> String {
        format!("portal:{client}:{expires}")
    }
}

/// Asks the source of a move for a [`Ticket`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketRequest {
    /// The move that this is for. The same id gives the same ticket.
    pub job_id: String,
}

/// Opens one stack's data at its source to one move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    pub secret: String,
}

/// Tells the destination what to fetch, and how far to go. Said again with the same id it changes
/// nothing, but for `cut_over` becoming true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveOrder {
    pub job_id: String,
    /// The source's control door, and its certificate when it has TLS.
    pub source: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_fingerprint: Option<Fingerprint>,
    pub ticket: Ticket,
    /// False: copy, and follow what changes. True: then also hold, copy the rest, verify, and commit at
    /// the source, which from then on forwards to `front`.
    pub cut_over: bool,
    /// This agent's front door as the source can reach it.
    pub front: SocketAddr,
    /// The longest that the source may hold writes, in milliseconds. When it is over the source serves
    /// again, and refuses the commit.
    pub max_hold_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveStatus {
    pub job_id: String,
    pub phase: MovePhase,
    pub files_copied: u64,
    pub bytes_copied: u64,
    /// At the source, as of the last round.
    pub files_total: u64,
    pub bytes_total: u64,
    pub rounds: u32,
    /// The last thing that went wrong, also while it is being tried again.
    pub error: Option<String>,
    pub certificate: Option<Certificate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MovePhase {
    Copying,
    /// What is here equals the source but for a small rest, and follows it.
    InStep,
    CuttingOver,
    /// The source forwards here. There is a certificate.
    Committed,
    /// Given up; the source serves. A new job may begin.
    Failed,
}

/// Tells the source of a move that it will not happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbortMove {
    pub job_id: String,
}

/// The source is the judge of whether a move happened: its word is final, whichever way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortAnswer {
    /// The source serves, and will refuse a commit of this job for ever.
    Aborted,
    /// Too late: the source forwards.
    Committed,
}

/// The file from which `stackpro agent --dir DIR` learns what it is: `DIR/agent.json`, written by whoever
/// launches it. It may be written anew (the server's address changed); the agent reads it again before
/// each report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentFile {
    pub instance_id: InstanceId,
    /// `http://127.0.0.1:8080`
    pub server_url: String,
    pub enrol_token: String,
    /// Where the doors are reached. Without `public` it is also where they listen.
    pub front: SocketAddr,
    pub control: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicDoors>,
    /// Seconds between two reports.
    pub report_seconds: u64,
}

/// The sockets of an agent on a public network, which may be bound to other addresses than those by which
/// they are reached: `0.0.0.0:80` and `0.0.0.0:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicDoors {
    pub http: SocketAddr,
    pub https: SocketAddr,
}

/// `DIR/agent.pid`, written by the agent once it holds the lock on `DIR/agent.lock`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentPid {
    pub pid: u32,
    pub started_at: Time,
}

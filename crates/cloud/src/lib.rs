//! What a cloud can do, as small traits, and the local cloud: real processes, folders and loopback
//! sockets on this machine.
//!
//! A cloud knows nothing of clients, flows or plans: it makes, finds and removes resources. Every create
//! is idempotent, by a token or by a deterministic name, so that a call whose answer was lost can be made
//! again. Start reading at [`Cloud`]; the local one is [`local`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use stackpro_domain::mail::Fate;
use stackpro_domain::{InstanceId, Time};

pub mod local;
pub mod resolver;

/// One cloud: what it can do, each by a trait of its own.
#[derive(Clone)]
pub struct Cloud {
    /// `local` or `aws`.
    pub name: &'static str,
    /// What names begin with, so that several installations can share an account.
    pub installation: String,
    pub compute: Arc<dyn Compute>,
    pub buckets: Arc<dyn Buckets>,
    pub dns: Arc<dyn Dns>,
    pub mail: Arc<dyn Mail>,
    pub roles: Arc<dyn Roles>,
    pub checks: Arc<dyn Checks>,
}

/// Something that must be so for a cloud to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    /// What was found; or what is wrong, and what to do about it.
    pub found: Result<String, String>,
}

/// What a cloud can say about itself. Changes nothing.
#[async_trait]
pub trait Checks: Send + Sync {
    /// Everything.
    async fn all(&self) -> Vec<Check>;
    /// What must be so before the first instance is launched.
    async fn before_launch(&self) -> Vec<Check>;
}

/// Why a call failed, told apart by what the caller should do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloudError {
    /// Too many calls: slow down. Not counted as a failure.
    #[error("{call} is throttled, to be tried again in {after:?}")]
    Throttled { call: &'static str, after: Duration },
    /// May work when tried again; may also have taken effect.
    #[error("{call} did not succeed: {cause}")]
    Transient { call: &'static str, cause: String },
    /// Has begun, and takes longer: to be made again, with the same arguments, until it is done. Not a failure.
    #[error("{call} is under way: {what}")]
    Pending { call: &'static str, what: String, after: Duration },
    /// Somebody else has a thing of this name; nothing was made. Another name may be free.
    #[error("{call} was refused: {cause}")]
    Taken { call: &'static str, cause: String },
    /// Will not work however often it is tried.
    #[error("{call} was refused: {cause}")]
    Refused { call: &'static str, cause: String },
}

pub type Result<T, E = CloudError> = std::result::Result<T, E>;

/// What every resource is marked with, so that what is ours can be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// The ledger's row.
    pub resource_id: String,
    /// The client that it is for; none for a shared instance.
    pub client_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// EC2's `ClientToken`: the same token gives the same instance; the same token with another spec is
    /// refused (`IdempotentParameterMismatch`).
    pub token: String,
    /// `t3.medium`
    pub instance_type: String,
    /// The name of the role that says what it may do.
    pub role: String,
    /// With which the agent enrols.
    pub enrol_token: String,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    pub state: InstanceState,
    pub instance_type: String,
    pub tags: Tags,
    /// The agent's doors, once they are known.
    pub front: Option<SocketAddr>,
    pub control: Option<SocketAddr>,
    pub launched_at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    Pending,
    Running,
    /// Exists, and its agent does not run.
    Stopped,
    Terminated,
}

#[async_trait]
pub trait Compute: Send + Sync {
    /// Makes an instance, or finds the one that this token made; `Refused` when that one was terminated since.
    async fn launch(&self, spec: &LaunchSpec) -> Result<Instance>;
    async fn describe(&self, id: &InstanceId) -> Result<Option<Instance>>;
    /// Starts what stopped (a crashed agent). Nothing happens when it runs.
    async fn start(&self, id: &InstanceId) -> Result<()>;
    /// Ends it and removes its data. Nothing happens when there is none.
    async fn terminate(&self, id: &InstanceId) -> Result<()>;
    /// All of ours that are not terminated.
    async fn list(&self) -> Result<Vec<Instance>>;
}

/// What an instance may do in the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    pub tags: Tags,
}

#[async_trait]
pub trait Roles: Send + Sync {
    /// A role that may use no bucket. Nothing happens when it is ours already.
    async fn create(&self, name: &str, tags: &Tags) -> Result<()>;
    /// From now on it may use these buckets, and no others.
    async fn allow(&self, name: &str, buckets: &[String]) -> Result<()>;
    /// Nothing happens when there is none.
    async fn delete(&self, name: &str) -> Result<()>;
    async fn list(&self) -> Result<Vec<Role>>;
}

/// Every bucket's name begins with it, so that one rule can say what concerns them all.
pub const BUCKET_PREFIX: &str = "stackpro-";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    pub tags: Tags,
}

/// What a link to one object is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkUse {
    Get,
    /// Of exactly this type and so many bytes.
    Put {
        content_type: String,
        content_length: u64,
    },
}

/// A request that whoever has it may make, until it is too late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `GET`, `PUT`
    pub method: String,
    pub url: String,
    /// To be sent as they are, since the link is good for nothing else.
    pub headers: Vec<(String, String)>,
}

/// For any tool that speaks S3: they reach one bucket, and end by themselves.
#[derive(Clone, Debug)]
pub struct BucketCredentials {
    pub region: String,
    /// Where it is reached; none when every tool knows it.
    pub endpoint: Option<String>,
    pub access_key_id: String,
    pub secret_access_key: SecretString,
    pub session_token: SecretString,
    /// Below it objects may be written and deleted; all others are there to be read.
    pub writable: String,
}

#[async_trait]
pub trait Buckets: Send + Sync {
    /// Closed to the public, versioned, encrypted, reached over TLS by the control plane and by whom it says.
    /// Nothing happens when it is there for the same resource already; a name that anybody else has is `Taken`.
    async fn create(&self, name: &str, tags: &Tags) -> Result<()>;
    /// Empties and removes it, every version; `Pending` as long as there is more. Nothing happens when there is
    /// none, or it is not this resource's.
    async fn delete(&self, name: &str, resource_id: &str) -> Result<()>;
    async fn list(&self) -> Result<Vec<Bucket>>;
    /// For one object, whether or not it is there.
    async fn link(&self, name: &str, key: &str, what: &LinkUse, lifetime: Duration) -> Result<Link>;
    /// None when this cloud has no such thing.
    async fn credentials(&self, name: &str, lifetime: Duration) -> Result<Option<BucketCredentials>>;
}

/// A name of ours and where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Lower case, without the final dot.
    pub name: String,
    /// The front door. On a real network its port is the scheme's own.
    pub target: SocketAddr,
    pub ttl_seconds: u32,
    pub tags: Tags,
}

#[async_trait]
pub trait Dns: Send + Sync {
    /// Makes the record so, and returns once every name server of ours answers it.
    async fn upsert(&self, record: &Record) -> Result<()>;
    async fn get(&self, name: &str) -> Result<Option<Record>>;
    /// Nothing happens when there is none.
    async fn delete(&self, name: &str) -> Result<()>;
    /// All of ours that lead somewhere; no text records.
    async fn list(&self) -> Result<Vec<Record>>;
    /// Makes the text records (TXT) of a name exactly these, and returns once every name server of ours
    /// answers them. No values: the name has none any more. They do not touch where the name leads.
    async fn set_text(&self, name: &str, values: &[String]) -> Result<()>;
}

/// A mail as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same id is delivered once.
    pub id: String,
    pub from: String,
    pub to: String,
    /// Whom an answer goes to; none: `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    pub subject: String,
    pub text: String,
    pub html: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailIdentity {
    /// The domain that mail may be sent from.
    pub domain: String,
    pub tags: Tags,
}

/// What a cloud lets us send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailAccount {
    /// Mails that it takes in a second; none when it takes whatever it is given.
    pub per_second: Option<u32>,
    /// What an operator must know and do before mail reaches everyone.
    pub warning: Option<String>,
}

/// What a cloud tells of a mail and one of its recipients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailEvent {
    /// The same event has the same id, however often it is told.
    pub id: String,
    /// [`Message::id`]; none for a mail that was not sent by [`Mail::send`].
    pub message: Option<String>,
    /// The domain that it was sent from, when that is known.
    pub from_domain: Option<String>,
    /// As [`stackpro_domain::names::email`] returns it.
    pub to: String,
    pub fate: Fate,
    /// Why, in the words of whoever said so.
    pub detail: String,
    pub at: Time,
}

#[async_trait]
pub trait Mail: Send + Sync {
    /// Lets mail be sent from this domain, and has us told what becomes of it.
    async fn create_identity(&self, domain: &str, tags: &Tags) -> Result<()>;
    /// Removes everything that `create_identity` made. Nothing happens when there is none.
    async fn delete_identity(&self, domain: &str) -> Result<()>;
    async fn list_identities(&self) -> Result<Vec<MailIdentity>>;
    /// Hands a mail over. `Transient` when it may have been taken.
    async fn send(&self, message: &Message) -> Result<()>;
    /// How long to wait before a mail is sent again that may have been taken: by then an event has told of it,
    /// mostly. Zero when the same id is never delivered twice.
    fn doubt(&self) -> Duration;
    /// What may be sent now.
    async fn account(&self) -> Result<MailAccount>;
    /// Makes ready what the installation's own mails need: `sender` is the domain that they come from. Changes
    /// nothing when it is so.
    async fn prepare(&self, sender: &str) -> Result<()>;
    /// Takes an address off the cloud's own list of those it sends nothing to.
    async fn forgive(&self, address: &str) -> Result<()>;
    /// Reads a request by which the cloud tells what became of mails. Refused when it is not the cloud's.
    async fn read_events(&self, body: &[u8]) -> Result<Vec<MailEvent>>;
}

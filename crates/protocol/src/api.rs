//! The public API's bodies. camelCase in JSON; times are RFC 3339 in UTC; money is whole cents.

use serde::{Deserialize, Serialize};
use stackpro_domain::manifest::Certificate;
use stackpro_domain::{ClientId, MemberId, Time};
use utoipa::ToSchema;

/// An error, as RFC 9457 has it (`application/problem+json`).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable word for programs: `validation_failed`, `not_found`.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What to do about it, for people.
    pub detail: String,
    /// Which fields are wrong and why; empty unless `type` is `validation_failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// As in the `x-request-id` header.
    pub request_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The JSON name of the field: `email`.
    pub field: String,
    pub message: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignupRequest {
    #[schema(example = "ann@acme.example")]
    pub email: String,
    /// At least 10 characters, and not one that is guessed at once.
    pub password: String,
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    /// The plan that they mean to buy; the trial has limits of its own.
    #[schema(example = "starter")]
    pub plan: String,
    /// Where it is day or night for them, by its name in IANA's database; the installation's own when it is left out.
    #[serde(default)]
    #[schema(example = "America/New_York")]
    pub time_zone: Option<String>,
    /// What shall run for them: the name of a recipe that is sold here. The first one when it is missing.
    #[serde(default)]
    #[schema(example = "site")]
    pub recipe: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignupResponse {
    pub user: User,
    #[schema(value_type = String)]
    pub client_id: ClientId,
    /// A short-lived access token, for `Authorization: Bearer`.
    pub token: String,
    pub dashboard_url: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginRequest {
    pub email: String,
    pub password: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginResponse {
    pub user: User,
    /// None for an operator.
    #[schema(value_type = Option<String>)]
    pub client_id: Option<ClientId>,
    pub token: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    #[schema(value_type = String)]
    pub id: MemberId,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    /// `owner`, `admin`, `member` or `operator`.
    pub role: String,
    pub email_verified: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    pub user: User,
    pub client: Client,
    pub deployment: Deployment,
    pub trial: TrialStatus,
    pub usage: Usage,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    #[schema(value_type = String)]
    pub id: ClientId,
    pub company: String,
    /// `trial`, `grace`, `active`, `past_due`, `suspended` or `deleted`.
    pub state: String,
    pub plan: String,
    /// `month` or `year`, once they pay.
    pub interval: Option<String>,
    /// The plan costs nothing: the operator gave it, for ever or until the date that is next.
    #[serde(default)]
    pub given: bool,
    #[schema(value_type = String)]
    pub created_at: Time,
    /// What happens next, and when.
    pub next: Option<NextDate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextDate {
    #[schema(value_type = String)]
    pub at: Time,
    pub what: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    #[schema(value_type = String)]
    pub client_id: ClientId,
    /// `provisioning`, `ready`, `migrating`, `suspended`, `failed` or `deleted`.
    pub status: String,
    /// `shared` or `dedicated`.
    pub deployment_type: String,
    pub url: String,
    pub steps: Vec<Step>,
    /// The proof of the last move.
    #[schema(value_type = Option<Object>)]
    pub certificate: Option<Certificate>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done, for people: `Create storage`.
    pub name: String,
    /// `pending`, `running`, `done`, `failed`, `undoing` or `undone`.
    pub status: String,
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Time>,
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Time>,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrialStatus {
    #[schema(value_type = String)]
    pub client_id: ClientId,
    /// The client's state, as in [`Client::state`].
    pub account_status: String,
    #[schema(value_type = String)]
    pub trial_start_date: Time,
    #[schema(value_type = String)]
    pub trial_end_date: Time,
    #[schema(value_type = String)]
    pub grace_end_date: Time,
    pub days_remaining: i64,
    pub is_expired: bool,
    pub is_in_grace_period: bool,
    pub requires_payment: bool,
}

/// What is used against what may be used. A limit of null is unlimited.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub storage_bytes: u64,
    pub storage_limit_bytes: Option<u64>,
    pub files: u64,
    pub members: u32,
    pub members_limit: Option<u32>,
    pub emails_this_month: u32,
    pub emails_limit: Option<u32>,
    pub requests: u64,
    pub traffic_bytes: u64,
    /// When the instance last said so.
    #[schema(value_type = Option<String>)]
    pub reported_at: Option<Time>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutRequest {
    #[schema(example = "starter")]
    pub plan_id: String,
    /// `month` or `year`.
    #[schema(example = "month")]
    pub interval: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutResponse {
    pub id: String,
    /// Where the client pays.
    pub url: String,
}

/// What another plan would cost from now on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanPreview {
    pub plan_id: String,
    /// `month` or `year`.
    pub interval: String,
    /// When the change is confirmed within 15 minutes and names this moment, it costs exactly this.
    #[schema(value_type = String)]
    pub at: Time,
    pub lines: Vec<PreviewLine>,
    /// Charged at once.
    pub due_cents: i64,
    /// Taken off the next invoices.
    pub credit_cents: i64,
    /// The price of each period from now on.
    pub price_cents: i64,
    /// A promotion code lowers that price for now.
    pub discounted: bool,
}

/// One line of the invoice; below 0 it is in the client's favour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewLine {
    pub what: String,
    pub amount_cents: i64,
}

/// A change of plan that was previewed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanChangeRequest {
    #[schema(example = "business")]
    pub plan_id: String,
    /// `month` or `year`.
    #[schema(example = "month")]
    pub interval: String,
    /// As the preview said it.
    pub at: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invoice {
    pub id: String,
    pub number: Option<String>,
    #[schema(value_type = String)]
    pub created_at: Time,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    pub status: String,
    /// Below 0 it is a credit.
    pub total_cents: i64,
    pub paid_cents: i64,
    /// Where it is shown.
    pub url: Option<String>,
    pub pdf_url: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadRequest {
    /// Of the object in the client's storage.
    #[schema(example = "files/2026/invoice.pdf")]
    pub key: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadRequest {
    /// Begins with `files/`.
    #[schema(example = "files/2026/invoice.pdf")]
    pub key: String,
    #[schema(example = "application/pdf")]
    pub content_type: String,
    /// In bytes: exactly as many as will be sent.
    pub content_length: u64,
}

/// A request that is good for one object until then, for whoever has it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageLink {
    /// `GET` or `PUT`.
    pub method: String,
    pub url: String,
    /// To be sent as they are.
    pub headers: Vec<LinkHeader>,
    #[schema(value_type = String)]
    pub expires_at: Time,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LinkHeader {
    pub name: String,
    pub value: String,
}

/// For any tool that speaks S3.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageCredentials {
    pub bucket: String,
    pub region: String,
    /// Where it is reached; none when every tool knows it.
    pub endpoint: Option<String>,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: String,
    /// Below it objects may be written and deleted; all others are there to be read.
    pub writable: String,
    #[schema(value_type = String)]
    pub expires_at: Time,
}

/// Money that was paid and is taken back.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reversal {
    pub id: String,
    /// `refund` or `dispute`.
    pub kind: String,
    #[schema(value_type = String)]
    pub created_at: Time,
    /// The till's word: `succeeded`, `failed`, `needs_response`, `won`, `lost` …
    pub status: String,
    /// The till's word, if it has one: `fraudulent`, `requested_by_customer` …
    pub reason: Option<String>,
    pub amount_cents: i64,
    /// What of it is missing from the revenue now.
    pub taken_cents: i64,
    /// Until when a dispute must be answered, or its money is lost.
    #[schema(value_type = Option<String>)]
    pub answer_by: Option<Time>,
}

/// A plan for nothing, given by the operator.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GivePlanRequest {
    pub plan_id: String,
    /// RFC 3339; left out is for ever.
    #[serde(default)]
    pub until: Option<String>,
}

/// The operator's way to make a client. The owner gets a mail with a link to set their password.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployRequest {
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub company: String,
    pub plan: String,
    /// Where it is day or night for them, by its name in IANA's database; the installation's own when it is left out.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// The name of a recipe that is sold here. The first one when it is missing.
    #[serde(default)]
    pub recipe: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployResponse {
    #[schema(value_type = String)]
    pub client_id: ClientId,
    pub url: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContactRequest {
    pub name: String,
    pub email: String,
    pub message: String,
}

/// `GET /ready`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    pub ready: bool,
    pub database: bool,
    pub runner: bool,
}

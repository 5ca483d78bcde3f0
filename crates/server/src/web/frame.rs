//! What is around a page: who looks at it, and what they must know on every page.

use stackpro_domain::{ClientId, Time};

/// Around the public pages.
#[derive(Clone, Debug, Default)]
pub struct SiteFrame {
    /// Where a visitor who is logged in goes on: their dashboard or the console.
    pub dashboard: Option<String>,
}

/// Around a client's pages.
#[derive(Clone, Debug)]
pub struct ClientFrame {
    pub csrf: String,
    pub client: ClientId,
    pub company: String,
    /// The member's name and address.
    pub person: String,
    pub email: String,
    /// Whether the member has proved their address.
    pub verified: bool,
    /// The client's state, as in [`stackpro_protocol::api::Client::state`].
    pub state: String,
    /// What just happened, said once: `The invitation is on its way.`
    pub flash: Option<String>,
}

impl ClientFrame {
    /// A path below the client's dashboard: `at("/members")`.
    pub fn at(&self, path: &str) -> String {
        format!("/dashboard/{}{path}", self.client)
    }
}

/// Around the operator's pages.
#[derive(Clone, Debug)]
pub struct ConsoleFrame {
    pub csrf: String,
    /// The operator's name.
    pub operator: String,
    /// Whether this is the local cloud, which has a mailbox and a time machine.
    pub local: bool,
    /// Flows and events of the till that are parked and wait for a person.
    pub attention: u64,
    pub now: Time,
    /// What just happened, said once.
    pub flash: Option<String>,
    /// What the operator must do before mail reaches everyone.
    pub notice: Option<String>,
}

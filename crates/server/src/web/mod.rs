//! The pages and the mails, as pure views: each is a struct of plain, owned data and an askama template
//! that renders it.
//!
//! Nothing here reads a clock, a database or a request, and nothing decides what a person may see: a
//! handler fills the struct and calls `render()`. All text is escaped by askama, which goes by the
//! template's ending; the only unescaped values are those that this module made itself.
//!
//! Start reading at [`frame`] (what is around every page), then [`site`], [`client`] or [`console`].
//! [`host`] holds what is served under the clients' own host names, [`mail`] what is sent.

pub mod api_reference;
pub mod assets;
pub mod client;
pub mod console;
pub mod frame;
pub mod history;
pub mod host;
pub mod mail;
pub mod mails;
pub mod money;
pub mod show;
pub mod site;

#[cfg(test)]
mod preview;
#[cfg(test)]
mod tests;

/// Every page, so that tests can walk them all. A new page is added here, and `preview` gives it a sample.
pub const PAGES: &[&str] = &[
    "site/home",
    "site/plans",
    "site/plans-year",
    "site/signup",
    "site/signup-wrong",
    "site/login",
    "site/contact",
    "site/contact-sent",
    "site/verify",
    "site/verify-done",
    "site/verify-over",
    "site/verify-again",
    "site/verify-invalid",
    "site/set-password",
    "site/set-password-expired",
    "site/api",
    "site/error-403",
    "site/error-404",
    "site/error-410",
    "site/error-422",
    "site/error-429",
    "site/error-500",
    "site/error-503",
    "client/dashboard-setting-up",
    "client/dashboard-failed",
    "client/dashboard",
    "client/dashboard-moving",
    "client/dashboard-active",
    "client/dashboard-past-due",
    "client/dashboard-suspended",
    "client/upgrade",
    "client/plan",
    "client/plan-cancelled",
    "client/return",
    "client/return-cancelled",
    "client/move",
    "client/move-stopped",
    "client/move-done",
    "client/certificate",
    "client/members",
    "client/members-unverified",
    "client/members-full",
    "client/settings",
    "console/first",
    "console/overview",
    "console/overview-empty",
    "console/clients",
    "console/clients-none",
    "console/client",
    "console/client-unknown",
    "console/instances",
    "console/instance",
    "console/resources",
    "console/flows",
    "console/flow",
    "console/mails",
    "console/mail-history",
    "console/suppressed",
    "console/mailbox",
    "console/mail",
    "console/contacts",
    "console/time",
    "host/starting",
    "host/suspended",
    "host/nobody",
    "mail/welcome",
    "mail/verify",
    "mail/trial-7",
    "mail/trial-3",
    "mail/trial-1",
    "mail/grace",
    "mail/given-7",
    "mail/given-ended",
    "mail/trial-had-already",
    "mail/suspended",
    "mail/deletion-7",
    "mail/deletion-1",
    "mail/deleted",
    "mail/moved",
    "mail/payment-failed",
    "mail/message",
    "mail/used-up",
    "mail/invitation",
    "mail/attention",
];

/// The policy of every page but those of [`host`] and the mailbox: nothing inline, nothing from elsewhere.
///
/// `form_targets` are the origins that a form's answer may redirect to (the till's, the clients' sites), since
/// browsers apply `form-action` to redirects too.
pub fn csp(form_targets: &[&str]) -> String {
    policy("'self'", form_targets)
}

/// The policy of the mailbox's page of one mail, whose styles are inline as mail programs need them. The
/// mail itself is shown in a sandboxed frame without scripts, which inherits this policy.
pub fn mail_page_csp() -> String {
    policy("'self' 'unsafe-inline'", &[])
}

fn policy(styles: &str, form_targets: &[&str]) -> String {
    let targets: String = form_targets.iter().flat_map(|target| [" ", target]).collect();
    format!(
        "default-src 'none'; script-src 'self'; style-src {styles}; img-src 'self' data:; connect-src 'self'; \
         form-action 'self'{targets}; frame-ancestors 'none'; base-uri 'none'"
    )
}

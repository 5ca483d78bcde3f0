//! Idempotency as AWS documents it, which moto does not honour.
//!
//! EC2: <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html>. Route 53:
//! <https://docs.aws.amazon.com/Route53/latest/APIReference/API_CreateHostedZone.html>.

use std::collections::{BTreeMap, HashMap};

use super::call::Call;
use super::faults::Refusal;
use super::xml;

/// Tokens that were used, with what was asked and answered.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<(String, String), Used>);

#[derive(Clone)]
struct Used {
    parameters: BTreeMap<String, String>,
    answer: String,
}

/// What a token says about a call.
pub(crate) enum Verdict {
    /// To be made.
    Fresh,
    /// Made before, and this was the answer.
    Again(String),
    Refused(Refusal),
}

/// The token of a call, if it bears one.
pub(crate) fn token_of(call: &Call) -> Option<String> {
    match call.name.as_str() {
        "route53.CreateHostedZone" => xml::text(&call.body, "CallerReference").map(str::to_owned),
        // A launch's token counts in one zone: in another it makes another instance.
        "ec2.RunInstances" => {
            let subnet = call.form.iter().find(|(name, _)| name.ends_with("SubnetId")).map_or("", |(_, subnet)| subnet);
            call.form.get("ClientToken").map(|token| format!("{token} in {subnet}"))
        }
        _ if call.service == "ec2" => call.form.get("ClientToken").cloned(),
        _ => None,
    }
}

impl Tokens {
    pub(crate) fn look(&self, call: &Call, token: &str) -> Verdict {
        let Some(used) = self.0.get(&key(call, token)) else { return Verdict::Fresh };
        if call.service == "route53" {
            let message = "A hosted zone has already been created with the specified caller reference.";
            return Verdict::Refused(Refusal::new(409, "HostedZoneAlreadyExists", message));
        }
        if used.parameters != call.form {
            let message = "The request has the same client token as an earlier one, and other parameters.";
            return Verdict::Refused(Refusal::new(400, "IdempotentParameterMismatch", message));
        }
        Verdict::Again(used.answer.clone())
    }

    /// The call was made, and this is its answer.
    pub(crate) fn used(&mut self, call: &Call, token: &str, answer: &str) {
        let used = Used { parameters: call.form.clone(), answer: answer.to_owned() };
        self.0.insert(key(call, token), used);
    }
}

fn key(call: &Call, token: &str) -> (String, String) {
    (call.name.clone(), token.to_owned())
}

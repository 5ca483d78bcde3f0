//! What goes wrong, on command, and how each service words it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Fault(Fault),
    /// This process dies, as by kill -9.
    Kill(u32, Moment),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The call has no effect.
    Before,
    /// It has, and nobody hears the answer.
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too many calls, says the service.
    Throttled,
    /// AWS broke, and says so.
    ServerError,
    /// AWS broke, and says nothing: an answer without a body.
    Wordless,
    /// The connection is gone before the call had an effect.
    DroppedBefore,
    /// The connection is gone, and the call had its effect.
    DroppedAfter,
    /// The effect is at once, the answer later than anyone waits.
    Slow(Duration),
    /// The caller's credentials are over.
    Expired,
}

/// Which call has which fate.
#[derive(Default)]
pub(crate) struct Plan {
    counts: BTreeMap<String, u64>,
    events: HashMap<(String, u64), Event>,
}

impl Plan {
    pub(crate) fn add(&mut self, call: &str, nth: u64, event: Event) {
        let made = self.counts.get(call).copied().unwrap_or(0);
        self.events.insert((call.to_owned(), made + nth), event);
    }

    /// What happens at this call, and the how many-th of its name it is.
    pub(crate) fn next(&mut self, call: &str) -> (Option<Event>, u64) {
        let count = self.counts.entry(call.to_owned()).or_default();
        *count += 1;
        let count = *count;
        (self.events.remove(&(call.to_owned(), count)), count)
    }

    pub(crate) fn clear(&mut self) -> usize {
        self.events.drain().count()
    }
}

/// An error in a service's own words.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Each service has its own word and status for "too many":
    /// EC2 <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html>,
    /// S3 <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, SES
    /// <https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html>, Route 53
    /// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html>.
    pub(crate) fn throttled(service: &str) -> Self {
        match service {
            "ec2" => Self::new(503, "RequestLimitExceeded", "Request limit exceeded."),
            "s3" => Self::new(503, "SlowDown", "Please reduce your request rate."),
            "ses" => Self::new(429, "TooManyRequestsException", "Too many requests."),
            "ssm" | "servicequotas" => Self::new(400, "ThrottlingException", "Rate exceeded"),
            _ => Self::new(400, "Throttling", "Rate exceeded"),
        }
    }

    pub(crate) fn server_error(service: &str) -> Self {
        match service {
            "ec2" | "s3" => Self::new(500, "InternalError", "We encountered an internal error. Please try again."),
            "ssm" | "servicequotas" => Self::new(500, "InternalServerError", "An error occurred on the server side."),
            _ => Self::new(500, "InternalFailure", "An internal error occurred."),
        }
    }

    pub(crate) fn expired(service: &str) -> Self {
        let message = "The security token included in the request is expired";
        match service {
            "ec2" => Self::new(400, "RequestExpired", "Request has expired."),
            "s3" => Self::new(400, "ExpiredToken", "The provided token has expired."),
            "ssm" | "servicequotas" | "ses" => Self::new(400, "ExpiredTokenException", message),
            _ => Self::new(403, "ExpiredToken", message),
        }
    }

    /// Content type and body, as this service sends them.
    pub(crate) fn body(&self, service: &str) -> (&'static str, String) {
        let Self { code, message, .. } = self;
        let id = "0e5a2f4c-7d1b-4f38-9a55-000000000000";
        match service {
            "ec2" => (
                "text/xml;charset=UTF-8",
                format!(
                    "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                     <RequestID>{id}</RequestID></Response>"
                ),
            ),
            "s3" => (
                "application/xml",
                format!("<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>"),
            ),
            "ses" => ("application/json", format!("{{\"message\":\"{message}\"}}")),
            "ssm" | "servicequotas" => {
                ("application/x-amz-json-1.1", format!("{{\"__type\":\"{code}\",\"message\":\"{message}\"}}"))
            }
            _ => (
                "text/xml",
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                     <RequestId>{id}</RequestId></ErrorResponse>"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_counts_from_now() {
        let mut plan = Plan::default();
        let throttled = Event::Fault(Fault::Throttled);
        assert_eq!(plan.next("ec2.RunInstances"), (None, 1));
        plan.add("ec2.RunInstances", 2, throttled);
        assert_eq!(plan.next("ec2.RunInstances"), (None, 2));
        assert_eq!(plan.next("ec2.RunInstances"), (Some(throttled), 3));
        assert_eq!((plan.next("ec2.RunInstances"), plan.clear()), ((None, 4), 0));
    }
}

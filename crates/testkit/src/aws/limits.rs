//! How often services let themselves be called, as documented. A call takes a token from a bucket that refills, and
//! one that finds none is refused in its service's own words. Services that document no such limits (S3, IAM, SNS,
//! the Systems Manager) have none here.
//!
//! - EC2: every action has a bucket of its own, and some have one of resources beside it.
//!   <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
//! - Route 53: five calls a second of an account, whichever they are.
//!   <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html>
//! - SES: every action once a second, but for sending, which is as fast as `GetAccount` says.
//!   <https://docs.aws.amazon.com/ses/latest/dg/quotas.html>

use std::collections::HashMap;
use std::time::Instant;

use super::call::Call;

/// What a bucket holds at most, and tokens that it gets each second.
type Size = (f64, f64);

const NON_MUTATING: Size = (100.0, 20.0);
/// Without a filter or a page size.
const UNFILTERED: Size = (50.0, 10.0);
const MUTATING: Size = (50.0, 5.0);

const ROUTE53: Size = (5.0, 5.0);
const SES: Size = (1.0, 1.0);
const SENDING: Size = (SEND_RATE, SEND_RATE);
/// Mails a second.
pub(crate) const SEND_RATE: f64 = 14.0;

/// Those of EC2 with numbers of their own.
const OWN: [(&str, Size); 4] = [
    ("RunInstances", (5.0, 2.0)),
    ("StartInstances", (5.0, 2.0)),
    ("TerminateInstances", (100.0, 5.0)),
    ("CreateTags", (100.0, 10.0)),
];

/// One token for each instance that a call is about.
const RESOURCES: [(&str, Size); 4] = [
    ("RunInstances", (1000.0, 2.0)),
    ("StartInstances", (1000.0, 2.0)),
    ("StopInstances", (1000.0, 20.0)),
    ("TerminateInstances", (1000.0, 20.0)),
];

#[derive(Default)]
pub(crate) struct Limits {
    buckets: HashMap<String, Bucket>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Limits {
    /// Takes this call's tokens; false when there are none.
    pub(crate) fn allow(&mut self, call: &Call, now: Instant) -> bool {
        let operation = call.operation();
        match call.service.as_str() {
            "route53" => return self.take("route53", ROUTE53, 1.0, now),
            "ses" if operation == "SendEmail" => return self.take("ses sending", SENDING, 1.0, now),
            "ses" => return self.take(&call.name, SES, 1.0, now),
            "ec2" => {}
            _ => return true,
        }
        if !self.take(operation, request_size(call), 1.0, now) {
            return false;
        }
        match RESOURCES.iter().find(|(name, _)| *name == operation) {
            Some((_, size)) => self.take(&format!("{operation} resources"), *size, instances(call), now),
            None => true,
        }
    }

    fn take(&mut self, name: &str, (capacity, refill): Size, wanted: f64, now: Instant) -> bool {
        let bucket = self.buckets.entry(name.to_owned()).or_insert(Bucket { tokens: capacity, at: now });
        let gained = now.duration_since(bucket.at).as_secs_f64() * refill;
        *bucket = Bucket { tokens: (bucket.tokens + gained).min(capacity), at: now };
        let enough = bucket.tokens >= wanted;
        if enough {
            bucket.tokens -= wanted;
        }
        enough
    }
}

fn request_size(call: &Call) -> Size {
    let operation = call.operation();
    if let Some((_, size)) = OWN.iter().find(|(name, _)| *name == operation) {
        return *size;
    }
    let narrowed = call.form.keys().any(|key| key.starts_with("Filter.") || key == "MaxResults");
    match (call.is_look(), narrowed) {
        (false, _) => MUTATING,
        (true, true) => NON_MUTATING,
        (true, false) => UNFILTERED,
    }
}

fn instances(call: &Call) -> f64 {
    let named = call.form.keys().filter(|key| key.starts_with("InstanceId.")).count();
    let asked = call.form.get("MaxCount").and_then(|count| count.parse().ok()).unwrap_or(1.0);
    if named > 0 { named as f64 } else { asked }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Method;
    use hyper::header::HeaderMap;

    use super::*;

    fn signed(service: &str) -> HeaderMap {
        let scope = format!("AWS4-HMAC-SHA256 Credential=A/20260101/eu-central-1/{service}/aws4_request, Signature=0");
        HeaderMap::from_iter([(hyper::header::AUTHORIZATION, scope.parse().unwrap())])
    }

    fn call(form: &str) -> Call {
        let mut headers = signed("ec2");
        headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        Call::read(&Method::POST, "/", &headers, form.as_bytes())
    }

    #[test]
    fn each_service_counts_as_it_says() {
        let (mut limits, begin) = (Limits::default(), Instant::now());
        let mut allowed = |service: &str, method: Method, path: &str| {
            let call = Call::read(&method, path, &signed(service), b"");
            (0..30).filter(|_| limits.allow(&call, begin)).count()
        };
        assert_eq!(allowed("route53", Method::GET, "/2013-04-01/change/C1"), 5);
        assert_eq!(allowed("route53", Method::GET, "/2013-04-01/hostedzone"), 0, "all of them share the five");
        assert_eq!(allowed("ses", Method::POST, "/v2/email/identities"), 1);
        assert_eq!(allowed("ses", Method::POST, "/v2/email/configuration-sets"), 1, "each has its own");
        assert_eq!(allowed("ses", Method::POST, "/v2/email/outbound-emails"), 14);
        assert_eq!(allowed("s3", Method::PUT, "/acme/"), 30);
    }

    #[test]
    fn a_bucket_empties_and_refills() {
        let (mut limits, begin) = (Limits::default(), Instant::now());
        let run = call("Action=RunInstances&MaxCount=1");
        let allowed = |limits: &mut Limits, at| (0..20).filter(|_| limits.allow(&run, at)).count();
        assert_eq!(allowed(&mut limits, begin), 5);
        assert_eq!(allowed(&mut limits, begin + Duration::from_secs(1)), 2);
        assert_eq!(allowed(&mut limits, begin + Duration::from_mins(1)), 5);
        // Another API has tokens of its own.
        assert!(limits.allow(&call("Action=DescribeInstances"), begin));
    }

    #[test]
    fn a_look_at_everything_has_fewer_tokens() {
        assert_eq!(request_size(&call("Action=DescribeInstances")), UNFILTERED);
        assert_eq!(request_size(&call("Action=DescribeInstances&Filter.1.Name=x")), NON_MUTATING);
        assert_eq!(request_size(&call("Action=CreateSecurityGroup")), MUTATING);
        assert!((instances(&call("Action=TerminateInstances&InstanceId.1=a&InstanceId.2=b")) - 2.0).abs() < 0.1);
    }
}

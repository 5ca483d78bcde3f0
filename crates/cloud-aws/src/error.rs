//! What an answer of AWS's means for whoever called: slow down, try again, or give up.

use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use stackpro_cloud::CloudError;

/// EC2's buckets refill at a few tokens a second, so that a second is never too long a wait.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
const AFTER: Duration = Duration::from_secs(1);

/// Each service has its own word for "too many".
const THROTTLED: [&str; 11] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Refusals that pass by themselves: credentials that are being renewed, and what is not visible yet
/// everywhere after it was made.
const PASSING: [&str; 11] = [
    "ConcurrentModification",
    "ConcurrentModificationException",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeout",
    "InternalError",
    "InternalFailure",
    "ServiceUnavailable",
    "Unavailable",
    "OperationAborted",
];

/// A call that did not succeed, as the SDK tells it.
pub(crate) type Failed<E> = SdkError<E, HttpResponse>;

/// What AWS answered: `InsufficientInstanceCapacity`. None when it did not answer.
pub(crate) fn code<E: ProvideErrorMetadata>(error: &Failed<E>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

pub(crate) fn message<E: ProvideErrorMetadata>(error: &Failed<E>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::message)
}

/// Whether AWS answered with this code.
pub(crate) fn is<E: ProvideErrorMetadata>(error: &Failed<E>, wanted: &str) -> bool {
    code(error) == Some(wanted)
}

/// `call` is as CloudTrail names it: `ec2.RunInstances`.
pub(crate) fn classify<E>(call: &'static str, error: Failed<E>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let cause = cause(&error);
    match &error {
        SdkError::ServiceError(answer) => {
            let (code, status) = (answer.err().code().unwrap_or_default(), answer.raw().status().as_u16());
            if THROTTLED.contains(&code) || status == 429 {
                CloudError::Throttled { call, after: AFTER }
            } else if PASSING.contains(&code) || status >= 500 {
                CloudError::Transient { call, cause }
            } else {
                CloudError::Refused { call, cause }
            }
        }
        // What was not sent for want of credentials or a region, or could not be written: nothing happened, and
        // it may be mended meanwhile.
        _ => CloudError::Transient { call, cause },
    }
}

/// As [`classify`], for what someone else may have made since we looked: with this code it is there, and another
/// look finds it.
pub(crate) fn made_since<E>(call: &'static str, error: Failed<E>, there: &str) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if is(&error, there) { CloudError::Transient { call, cause: cause(&error) } } else { classify(call, error) }
}

/// Code and message of AWS's answer; otherwise its status, or the innermost reason, which is the one that tells.
fn cause<E>(error: &Failed<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(answer) = error.as_service_error()
        && let Some(code) = answer.code()
    {
        return format!("{code}: {}", answer.message().unwrap_or("no more is said"));
    }
    // Without a code there is nothing in the answer that tells.
    if let SdkError::ServiceError(answer) = error {
        return format!("HTTP {} without a reason", answer.raw().status().as_u16());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("{error}: {innermost}")
}

//! How long AWS takes. It documents no times but a few; the others are assumptions, from what callers in the
//! same region commonly see, rounded up, and stated here so that a figure can be judged by them.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Median milliseconds of a call, by the longest prefix of its name.
const CALLS: [(&str, u64); 25] = [
    // Assumed: an RPC within a region.
    ("", 60),
    // Assumed: a launch is answered when capacity is found.
    ("ec2.RunInstances", 1_800),
    ("ec2.Describe", 150),
    ("ec2.Create", 400),
    ("ec2.Authorize", 300),
    ("ec2.Terminate", 500),
    ("ec2.Modify", 300),
    ("ec2.", 250),
    // Assumed: IAM writes go to one region for all of the world.
    ("iam.Get", 80),
    ("iam.", 250),
    ("ssm.", 50),
    ("sts.", 50),
    ("servicequotas.", 150),
    ("sns.", 80),
    // Assumed: small requests to S3 take 100 to 200 ms at most, as its performance guidelines say.
    // <https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html>
    ("s3.CreateBucket", 500),
    ("s3.DeleteBucket", 250),
    ("s3.", 100),
    // Assumed: Route 53's API answers from one region for all of the world.
    ("route53.ChangeResourceRecordSets", 300),
    ("route53.", 150),
    ("ses.CreateEmailIdentity", 400),
    ("ses.DeleteEmailIdentity", 300),
    ("ses.Create", 200),
    ("ses.Put", 150),
    ("ses.SendEmail", 150),
    ("ses.", 100),
];

/// Latency as it may be on AWS.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// From a launch to `running`. Assumed; a few seconds for current generations.
    pub pending: Duration,
    /// From `running` to the agent's start: the system's boot and the user data's script. Assumed.
    pub boot: Duration,
    /// From a change of a record to `INSYNC`: documented as "generally within 60 seconds".
    /// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_GetChange.html>
    pub in_sync: Duration,
}

impl Latency {
    pub fn realistic() -> Self {
        Self { pending: Duration::from_secs(8), boot: Duration::from_secs(25), in_sync: Duration::from_secs(20) }
    }

    /// Of the `nth` call of this name: the same in every run with the same seed, from 0.7 to 1.7 of the median,
    /// the longer the rarer.
    pub fn of(&self, seed: u64, call: &str, nth: u64) -> Duration {
        let known = CALLS.iter().filter(|(prefix, _)| call.starts_with(prefix));
        let median = known.max_by_key(|(prefix, _)| prefix.len()).map_or(0, |(_, ms)| *ms);
        let drawn = draw(seed, call, nth);
        let factor = 0.7 + 0.6 * drawn + 0.4 * drawn.powi(8);
        Duration::from_millis((median as f64 * factor) as u64)
    }
}

/// A number in [0, 1), a function of the seed, the call's name and its count.
fn draw(seed: u64, call: &str, nth: u64) -> f64 {
    let hash = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(nth.to_be_bytes()).chain_update(call);
    let number = hash.finalize().iter().take(6).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    number as f64 / (1_u64 << 48) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_drawn_around_the_median_and_fixed_by_the_seed() {
        let latency = Latency::realistic();
        let mut drawn: Vec<u128> = (0..501).map(|n| latency.of(7, "ec2.RunInstances", n).as_millis()).collect();
        assert_eq!(drawn[3], latency.of(7, "ec2.RunInstances", 3).as_millis());
        assert_ne!(drawn[3], latency.of(8, "ec2.RunInstances", 3).as_millis());
        drawn.sort_unstable();
        assert!((1_700..1_900).contains(&drawn[250]), "{}", drawn[250]);
        assert!(drawn[0] >= 1_260 && drawn[500] <= 3_060, "{drawn:?}");
        assert_eq!(
            latency.of(1, "unheard.Of", 1).as_millis().clamp(42, 102),
            latency.of(1, "unheard.Of", 1).as_millis()
        );
    }
}

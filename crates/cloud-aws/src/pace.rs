//! How often a service is called that takes few calls. Many sign-ups at once would spend most of them on being refused,
//! so they take turns. Other nodes call the same account, and a refusal still means what it means.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stackpro_cloud::{CloudError, Result};
use tokio::time::Instant;

/// The longest that anyone waits here. A flow that has longer to wait comes again, and keeps nobody's place meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the next turn of each queue is.
pub(crate) struct Pace {
    /// From one turn to the next.
    apart: Duration,
    /// Whether every action has a queue of its own.
    by_action: bool,
    turns: Mutex<HashMap<&'static str, Instant>>,
}

impl Pace {
    /// "All actions (except for SendEmail …) are throttled at one request per second":
    /// <https://docs.aws.amazon.com/ses/latest/dg/quotas.html>. A little more, since calls that leave a second apart may
    /// arrive closer together.
    pub(crate) fn of_ses() -> Self {
        Self { apart: Duration::from_millis(1_100), by_action: true, turns: Mutex::default() }
    }

    /// "Five requests per second per AWS account", whichever they are:
    /// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html>
    pub(crate) fn of_route53() -> Self {
        Self { apart: Duration::from_millis(220), by_action: false, turns: Mutex::default() }
    }

    /// Waits for a turn; `Throttled` when that would take too long.
    pub(crate) async fn turn(&self, call: &'static str) -> Result<()> {
        let wait = self.wait(call, Instant::now());
        if wait > PATIENCE {
            return Err(CloudError::Throttled { call, after: wait });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// How long until the next turn. It is taken, unless nobody would wait so long.
    fn wait(&self, call: &'static str, now: Instant) -> Duration {
        let queue = if self.by_action { call } else { "" };
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let next = turns.get(queue).map_or(now, |next| now.max(*next));
        let wait = next - now;
        if wait <= PATIENCE {
            turns.insert(queue, next + self.apart);
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_apart_and_nobody_waits_for_long() {
        let (pace, begin) = (Pace::of_ses(), Instant::now());
        let waits: Vec<u64> = (0..12).map(|_| pace.wait("ses.CreateEmailIdentity", begin).as_millis() as u64).collect();
        assert_eq!(waits, [0, 1_100, 2_200, 3_300, 4_400, 5_500, 6_600, 7_700, 8_800, 9_900, 11_000, 11_000]);
        assert_eq!(pace.wait("ses.GetEmailIdentity", begin), Duration::ZERO, "each action has its own");
        assert_eq!(pace.wait("ses.CreateEmailIdentity", begin + Duration::from_secs(20)), Duration::ZERO);

        let pace = Pace::of_route53();
        let waits: Vec<u64> = ["route53.GetChange", "route53.ListResourceRecordSets", "route53.GetChange"]
            .map(|call| pace.wait(call, begin).as_millis() as u64)
            .into();
        assert_eq!(waits, [0, 220, 440], "all share one");
    }
}

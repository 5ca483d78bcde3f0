//! Changes of a zone, sent together: Route 53 takes five calls a second of a whole account, and one change of a
//! zone at a time. <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DNSLimitations.html>

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_route53::types::{Change, ChangeBatch, ChangeStatus, ResourceRecordSet};
use stackpro_cloud::{CloudError, Result};
use tokio::sync::oneshot;

use super::records::unbuilt;
use crate::error::{classify, is};
use crate::pace::Pace;

const SUBMIT: &str = "route53.ChangeResourceRecordSets";
const ASK: &str = "route53.GetChange";

/// Half of what one call may hold, since an UPSERT counts twice: values, and characters in them.
const VALUES: usize = 500;
const LETTERS: usize = 16_000;

/// Looks at all changes together: two a second, which leaves three of the account's five calls to whoever changes and
/// lists records. Whoever waits for the same change within this time is told the same.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// However many there are.
const SELDOM: Duration = Duration::from_secs(15);

/// Why changes were not made.
#[derive(Debug)]
pub(crate) enum Unmade {
    /// Route 53 says that they don't fit what is in the zone. Nothing of them happened.
    Unfit(CloudError),
    Failed(CloudError),
}

impl From<Unmade> for CloudError {
    fn from(unmade: Unmade) -> Self {
        match unmade {
            Unmade::Unfit(error) | Unmade::Failed(error) => error,
        }
    }
}

/// A change that Route 53 has taken, and that its name servers learn one by one.
pub(super) struct Submitted {
    id: String,
    since: Instant,
    known: tokio::sync::Mutex<Known>,
}

struct Known {
    in_sync: bool,
    asked: Instant,
}

impl Submitted {
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether every name server answers it; `Pending` until then. So many changes are `awaited`, this one included.
    pub(super) async fn settle(&self, client: &aws_sdk_route53::Client, pace: &Pace, awaited: usize) -> Result<()> {
        let mut known = self.known.lock().await;
        // As often as all of them together may look.
        let after = LOOK_EVERY.saturating_mul(awaited.try_into().unwrap_or(u32::MAX)).clamp(LOOK_EVERY, SELDOM);
        if !known.in_sync && known.asked.elapsed() >= after {
            // Whatever comes of it: the others who wait for the same change are not to ask in turn.
            known.asked = Instant::now();
            pace.turn(ASK).await?;
            let answer = match client.get_change().id(&self.id).send().await {
                Ok(answer) => answer,
                Err(error) if is(&error, "NoSuchChange") => {
                    let cause = "Route 53 knows nothing of the change any more".to_owned();
                    return Err(CloudError::Transient { call: ASK, cause });
                }
                Err(error) => return Err(classify(ASK, error)),
            };
            known.asked = Instant::now();
            known.in_sync = answer.change_info.is_some_and(|info| info.status == ChangeStatus::Insync);
        }
        if known.in_sync {
            return Ok(());
        }
        Err(CloudError::Pending { call: ASK, what: "the name servers are learning the address".into(), after })
    }
}

struct Waiting {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<Arc<Submitted>, Unmade>>,
}

/// Those who want changes of one zone, in the order in which they came.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    turn: tokio::sync::Mutex<()>,
}

impl Queue {
    /// Makes all of `changes`, or none. Whoever has the turn sends what the others want, too.
    pub(super) async fn submit(
        &self,
        client: &aws_sdk_route53::Client,
        pace: &Pace,
        zone: &str,
        changes: Vec<Change>,
    ) -> Result<Arc<Submitted>, Unmade> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push_back(Waiting { changes, answer });
        loop {
            let _turn = self.turn.lock().await;
            match answered.try_recv() {
                Ok(result) => return result,
                Err(oneshot::error::TryRecvError::Empty) => {
                    let batch = take(&mut self.waiting());
                    send(client, pace, zone, batch).await;
                }
                Err(oneshot::error::TryRecvError::Closed) => {
                    let cause = "whoever sent it was stopped before the answer came".to_owned();
                    return Err(Unmade::Failed(CloudError::Transient { call: SUBMIT, cause }));
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many as one call may hold, but no name twice. Who has stopped waiting wants nothing any more.
fn take(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut batch, mut names, mut values, mut letters) = (Vec::new(), std::collections::HashSet::new(), 0, 0);
    while let Some(next) = waiting.pop_front() {
        if next.answer.is_closed() {
            continue;
        }
        let sets = || next.changes.iter().filter_map(|change| change.resource_record_set.as_ref());
        let records = || sets().flat_map(ResourceRecordSet::resource_records);
        values += records().count();
        letters += records().map(|record| record.value.len()).sum::<usize>();
        let keys: Vec<_> = sets().map(|set| (set.name.clone(), set.r#type.clone())).collect();
        let fits = values <= VALUES && letters <= LETTERS && keys.iter().all(|key| !names.contains(key));
        if !fits && !batch.is_empty() {
            waiting.push_front(next);
            break;
        }
        names.extend(keys);
        batch.push(next);
    }
    batch
}

/// Sends them in one call. When one of them doesn't fit, none has happened: then they are sent by halves.
async fn send(client: &aws_sdk_route53::Client, pace: &Pace, zone: &str, batch: Vec<Waiting>) {
    let mut batches = vec![batch];
    while let Some(mut batch) = batches.pop() {
        if batch.is_empty() {
            continue;
        }
        match call(client, pace, zone, batch.iter().flat_map(|waiting| waiting.changes.clone()).collect()).await {
            Err(Unmade::Unfit(_)) if batch.len() > 1 => {
                let later = batch.split_off(batch.len() / 2);
                batches.extend([later, batch]);
            }
            result => answer(batch, result),
        }
    }
}

fn answer(batch: Vec<Waiting>, result: Result<Submitted, Unmade>) {
    let result = result.map(Arc::new);
    for waiting in batch {
        let copy = match &result {
            Ok(submitted) => Ok(Arc::clone(submitted)),
            Err(Unmade::Unfit(error)) => Err(Unmade::Unfit(error.clone())),
            Err(Unmade::Failed(error)) => Err(Unmade::Failed(error.clone())),
        };
        // Whoever is not there any more does not need it.
        drop(waiting.answer.send(copy));
    }
}

async fn call(
    client: &aws_sdk_route53::Client,
    pace: &Pace,
    zone: &str,
    changes: Vec<Change>,
) -> Result<Submitted, Unmade> {
    pace.turn(SUBMIT).await.map_err(Unmade::Failed)?;
    let batch = ChangeBatch::builder().set_changes(Some(changes)).build().map_err(|e| Unmade::Failed(unbuilt(e)))?;
    let sent = client.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch).send().await;
    let info = match sent {
        Ok(answer) => answer.change_info,
        // What does not fit what is there, and no more: not what is malformed.
        Err(error) if is(&error, "InvalidChangeBatch") => return Err(Unmade::Unfit(classify(SUBMIT, error))),
        Err(error) => return Err(Unmade::Failed(classify(SUBMIT, error))),
    };
    let Some(info) = info else {
        let cause = "the answer does not name the change".to_owned();
        return Err(Unmade::Failed(CloudError::Transient { call: SUBMIT, cause }));
    };
    let known = Known { in_sync: info.status == ChangeStatus::Insync, asked: Instant::now() };
    Ok(Submitted { id: info.id, since: Instant::now(), known: tokio::sync::Mutex::new(known) })
}

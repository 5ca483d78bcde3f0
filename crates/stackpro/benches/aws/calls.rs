//! How many calls to AWS a sign-up costs that finds a place on a warm shared instance, by service and action: what its
//! steps need and no more, however many clients there are already.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use stackpro_testkit::aws::{Behaviour, Moto, Recorded};
use stackpro_testkit::eventually;

use crate::figures::{line, quick};
use crate::site::{Site, WITHIN};

/// By action.
type Counts = BTreeMap<String, u64>;

/// What the steps of a provisioning need at most (`crates/server/src/flows/provision.rs`), for any client.
const OF_STEPS: [(&str, u64); 14] = [
    // The bucket: made, closed, versioned, encrypted, tidied, marked, and a policy. S3 takes each by a call of its own.
    ("s3.CreateBucket", 1),
    ("s3.PutPublicAccessBlock", 1),
    ("s3.PutBucketVersioning", 1),
    ("s3.PutBucketEncryption", 1),
    ("s3.PutBucketLifecycleConfiguration", 1),
    ("s3.PutBucketTagging", 1),
    ("s3.PutBucketPolicy", 1),
    // Mail: a set that tells what becomes of it, the domain, and where bounces go.
    ("ses.CreateConfigurationSet", 1),
    ("ses.CreateConfigurationSetEventDestination", 1),
    ("ses.CreateEmailIdentity", 1),
    ("ses.PutEmailIdentityMailFromAttributes", 1),
    // Mail's records and the address: in one call when they are wanted at the same time.
    ("route53.ChangeResourceRecordSets", 2),
    // Until every name server knows the address, which the emulator's do at the first look.
    ("route53.GetChange", 1),
    // The instance may use the bucket.
    ("iam.PutRolePolicy", 1),
];
/// What follows from a sign-up in its own time: the welcome, and the sweeper's one look at whose each new thing is.
const LATER: [(&str, u64); 3] = [("ses.SendEmail", 1), ("s3.GetBucketTagging", 1), ("ses.GetEmailIdentity", 1)];
/// Places on an instance.
const PLACES: usize = 10;

pub(crate) async fn measure(moto: &Arc<Moto>) -> Value {
    let instances = if quick() { 1 } else { 3 };
    // Whoever finds no place waits for a new instance, and is not counted.
    let site = Site::open(moto, Behaviour::default(), |product| product.env("STACKPRO_WARM_PLACES", 0)).await;
    site.is_prepared().await;
    let mut warm = Vec::new();
    for number in 0..instances * PLACES {
        let counts = sign_up(&site, number).await;
        if number % PLACES != 0 {
            warm.push(counts);
        }
    }
    let bound: BTreeMap<&str, u64> = OF_STEPS.into_iter().chain(LATER).collect();
    let mut most = Counts::new();
    for (name, count) in warm.iter().flatten() {
        let known = most.entry(name.clone()).or_default();
        *known = (*known).max(*count);
    }
    let is_over = |(name, count): &(&String, &u64)| bound.get(name.as_str()).is_none_or(|bound| *count > bound);
    let over: Vec<&String> = most.iter().filter(is_over).map(|(name, _)| name).collect();
    // A count that misses calls would be no bound.
    let missed =
        OF_STEPS.map(|(name, _)| name).into_iter().filter(|name| !warm.iter().all(|of| of.contains_key(*name)));
    let missed: Vec<&str> = missed.collect();
    let totals: Vec<u64> = warm.iter().map(|counts| counts.values().sum()).collect();
    let pass = over.is_empty() && missed.is_empty();
    let figures = json!({
        "signUps": warm.len(), "instances": instances, "first": totals.first(), "last": totals.last(),
        "most": totals.iter().max(), "bound": bound.values().sum::<u64>(), "byAction": most, "over": over,
        "missed": missed,
    });
    line("aws-calls", pass, figures)
}

/// Calls for one sign-up, until it is ready and welcomed.
async fn sign_up(site: &Site, number: usize) -> Counts {
    let (began, mails) = (Instant::now(), site.account.mails().len());
    let person = site.app.sign_up(&format!("Company {number}")).await;
    site.is_on(&person.client, "shared").await;
    site.app.at_rest().await;
    eventually("the welcome is sent", WITHIN, async || (site.account.mails().len() > mails).then_some(())).await;
    let mut counts = Counts::new();
    let calls = site.account.calls().into_iter();
    for made in calls.filter(|made| made.began >= began && is_of(made, &person.client)) {
        *counts.entry(made.call.name).or_default() += 1;
    }
    counts
}

/// What names the client, and whatever else is changed meanwhile. Looks that name nobody are the reconcilers', which
/// look by the clock.
fn is_of(made: &Recorded, client: &str) -> bool {
    let call = &made.call;
    call.by_sdk && (call.names(client) || call.name == "route53.GetChange" || !call.is_look())
}

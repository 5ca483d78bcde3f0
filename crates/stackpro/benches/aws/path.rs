//! How long a provisioning takes where AWS takes its time, beside what AWS took of it along the longest path of its
//! steps: what is left is ours. On an account with nothing in it, where an instance is launched for it, and on a warm
//! instance.
//!
//! Which step waits for which, and when each was executed, is read from the journal; how long AWS held up a step is the
//! time for which at least one of its calls was held up, or what it had begun was under way (an instance that boots, a
//! change on its way to the name servers). How many calls a step makes is `aws-calls`'s to judge.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stackpro_flow::Step;
use stackpro_store::Timeline;
use stackpro_testkit::Person;
use stackpro_testkit::aws::{Behaviour, Call, Latency, Moto, Recorded};

use crate::figures::{line, ms, quick, rounded};
use crate::journal::{self, Clocks, earlier};
use crate::site::Site;

/// What is ours may be a tenth of what is AWS's.
const MOST: f64 = 1.1;
/// The journal counts milliseconds.
const BLUR: Duration = Duration::from_millis(2);
const CHANGE: &str = "route53.ChangeResourceRecordSets";

/// From one instant to another.
type Span = (Instant, Instant);

pub(crate) async fn measure(moto: &Arc<Moto>) -> Value {
    let warm = if quick() { 1 } else { 5 };
    let latency = Latency::realistic();
    let behaviour = Behaviour { latency: Some(latency), ..Behaviour::default() };
    let site = Site::open(moto, behaviour, |product| product.env("STACKPRO_WARM_PLACES", 0)).await;
    site.is_prepared().await;
    let mut provisionings = Vec::new();
    for number in 0..=warm {
        provisionings.push(provisioning(&site, latency, number).await);
    }
    let worst = |of: &[Provisioning]| of.iter().map(Provisioning::ratio).fold(0.0, f64::max);
    let (cold, warm) = provisionings.split_at(1);
    let slowest = warm.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio())).expect("at least one");
    let figures = json!({
        "ratio": rounded(worst(&provisionings)), "bound": MOST, "cold": cold[0].figures(),
        "warm": slowest.figures(), "warmRatios": warm.iter().map(|one| rounded(one.ratio())).collect::<Vec<_>>(),
    });
    line("aws-path", worst(&provisionings) <= MOST, figures)
}

struct Provisioning {
    took: Duration,
    /// What AWS took along the longest path.
    held: Duration,
    path: Vec<String>,
}

impl Provisioning {
    fn ratio(&self) -> f64 {
        self.took.as_secs_f64() / self.held.as_secs_f64()
    }

    fn figures(&self) -> Value {
        let path = self.path.join(" ");
        json!({ "tookMs": ms(self.took), "pathMs": ms(self.held), "ratio": rounded(self.ratio()), "path": path })
    }
}

async fn provisioning(site: &Site, latency: Latency, number: usize) -> Provisioning {
    let (clocks, began) = (Clocks::now(), Instant::now());
    let person = site.app.sign_up(&format!("Company {number}")).await;
    site.app.wait_for(&person, "ready", "shared").await;
    let took = began.elapsed();
    let flows = journal::flows(site).await;
    let since = |flow: &&Timeline| clocks.at(flow.flow.created_at) + BLUR >= began;
    let flows: Vec<&Timeline> = flows.iter().filter(since).collect();
    let calls = site.account.calls();
    let calls: Vec<&Recorded> = calls.iter().filter(|made| made.call.by_sdk && made.began >= began).collect();
    let steps = Steps { person: &person, flows: &flows, calls: &calls, clocks: &clocks, latency };
    let (held, path) = steps.longest(&mut BTreeMap::new(), ("provision", "ready"));
    Provisioning { took, held, path }
}

/// A step's kind of flow, and its name.
type Key<'a> = (&'a str, &'a str);

struct Steps<'a> {
    person: &'a Person,
    /// The client's, and that of the instance which was launched for it.
    flows: &'a [&'a Timeline],
    calls: &'a [&'a Recorded],
    clocks: &'a Clocks,
    latency: Latency,
}

impl<'a> Steps<'a> {
    /// What AWS took until this step was done, and the steps that it took it for.
    fn longest(&self, known: &mut BTreeMap<Key<'a>, (Duration, Vec<String>)>, key: Key<'a>) -> (Duration, Vec<String>) {
        if let Some(known) = known.get(&key) {
            return known.clone();
        }
        let (flow, step) = self.find(key).unwrap_or_else(|| panic!("{key:?} is not in the journal"));
        let needs = self.needs(flow, step);
        let before = needs.into_iter().map(|need| self.longest(known, need)).max_by_key(|(held, _)| *held);
        let (mut held, mut path) = before.unwrap_or_default();
        let own = covered(self.spans(key, step, flow));
        held += own;
        path.push(format!("{}/{}:{}", key.0, key.1, ms(own)));
        known.insert(key, (held, path.clone()));
        (held, path)
    }

    fn find(&self, (kind, name): Key<'_>) -> Option<(&'a Timeline, &'a Step)> {
        let flow = self.flows.iter().find(|timeline| timeline.flow.kind == kind)?;
        Some((flow, flow.steps.iter().find(|step| step.name == name)?))
    }

    /// Those of the journal; and a client waits for the instance whose launch it caused.
    fn needs(&self, flow: &'a Timeline, step: &'a Step) -> Vec<Key<'a>> {
        let kind = flow.flow.kind.as_str();
        let mut needs: Vec<Key<'a>> = step.needs.iter().map(|need| (kind, need.as_str())).collect();
        if (kind, step.name.as_str()) == ("provision", "server") && self.find(("launch", "enrol")).is_some() {
            needs.push(("launch", "enrol"));
        }
        if kind == "launch" && step.needs.is_empty() {
            needs.push(("provision", "place"));
        }
        needs
    }

    /// When AWS held the step up.
    fn spans(&self, key: Key<'_>, step: &Step, flow: &Timeline) -> Vec<Span> {
        let (Some(began), Some(ended)) = (step.started_at, step.finished_at) else { panic!("{key:?} is not done") };
        let (began, ended) = (earlier(self.clocks.at(began), BLUR), self.clocks.at(ended) + BLUR);
        let within = self.calls.iter().filter(|made| made.began >= began && made.began <= ended);
        let of_step = within.filter(|made| self.is_of(&step.api, &made.call, &flow.flow.subject));
        let mut spans = Vec::new();
        for made in of_step {
            let answered = made.began + made.took;
            spans.push((made.began, made.began + made.held));
            if made.call.name == CHANGE && step.api == "dns" {
                spans.push((answered, answered + self.latency.in_sync));
            }
        }
        if key == ("launch", "enrol") {
            let runs = self.calls.iter().filter(|made| made.call.name == "ec2.RunInstances");
            let launched = runs.map(|made| made.began + made.took);
            spans.extend(launched.map(|at| (at, at + self.latency.pending + self.latency.boot)));
        }
        spans
    }

    /// Whether a step that calls this API has made the call: told by whom it names.
    fn is_of(&self, api: &str, call: &Call, subject: &str) -> bool {
        let (client, is) = (self.person.client.as_str(), |service: &str| call.service == service);
        match api {
            "buckets" => is("s3") && call.names(client),
            "mail" => is("ses") && call.names(client) || call.name == CHANGE && call.names("_domainkey"),
            "dns" => call.name == "route53.GetChange" || call.name == CHANGE && call.names("_stackpro."),
            "roles" => is("iam") && (call.names(client) || call.names(subject)),
            // Reconcilers look at all instances meanwhile.
            "compute" => {
                let services = ["ec2", "ssm", "sts", "servicequotas"];
                services.contains(&call.service.as_str())
                    && (call.name != "ec2.DescribeInstances" || call.names(subject))
            }
            _ => false,
        }
    }
}

/// How long at least one of them lasted.
fn covered(mut spans: Vec<Span>) -> Duration {
    spans.sort();
    let (mut sum, mut until) = (Duration::ZERO, None);
    for (from, to) in spans {
        let from = until.map_or(from, |until: Instant| until.max(from));
        sum += to.saturating_duration_since(from);
        until = Some(until.map_or(to, |until| until.max(to)));
    }
    sum
}

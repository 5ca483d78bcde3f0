//! A journey in stages, and every call to AWS that each of them makes, from a run in which nothing goes wrong:
//! a call that is new is met by whatever is tried at each call, by being there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use stackpro_testkit::aws::{Behaviour, Event, Moto};
use stackpro_testkit::{Builder, Person};

use crate::site::{Site, WITHIN};
use crate::travel::gone;

/// What happens, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The first process on an empty account makes what our own mails need.
    Start,
    /// The first sign-up, for which an instance is launched and all is made that an account needs once.
    Launch,
    /// A sign-up that finds its place.
    Provision,
    Migrate,
    Delete,
}

pub(crate) const STAGES: [Stage; 5] = [Stage::Start, Stage::Launch, Stage::Provision, Stage::Migrate, Stage::Delete];

/// One call of a stage: its name, and the how many-th of that name it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) nth: u64,
    /// Reconcilers make it, or a process that starts: it may not come in this stage.
    pub(crate) by_the_clock: bool,
}

/// The calls of every stage, in the order of their names.
pub(crate) type Calls = BTreeMap<Stage, Vec<Point>>;

/// How long the product waits for an answer of AWS's in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// How long nothing is done, to see what is called by the clock.
const IDLE: Duration = Duration::from_secs(5);

/// One site, and the client to whom it happens.
pub(crate) struct Journey {
    pub(crate) site: Site,
    person: Option<Person>,
}

impl Journey {
    /// No instance is launched before somebody signs up.
    pub(crate) async fn open(moto: &Arc<Moto>) -> Self {
        let quick = |product: Builder| {
            product.env("STACKPRO_WARM_PLACES", 0).env("STACKPRO_AWS_PATIENCE_SECONDS", PATIENCE.as_secs())
        };
        // What happens at its first call can be planned once it runs.
        let held = Behaviour { held: true, ..Behaviour::default() };
        Self { site: Site::open(moto, held, quick).await, person: None }
    }

    /// Lets a stage begin.
    pub(crate) async fn begin(&mut self, stage: Stage) {
        match stage {
            Stage::Start => self.site.account.release(),
            Stage::Launch | Stage::Provision => {
                let signed_up = self.sign_up().await;
                self.person = Some(signed_up.expect("a sign-up is answered"));
            }
            Stage::Migrate => self.tell(&["clients", "migrate", self.client()]),
            Stage::Delete => self.tell(&["clients", "delete", self.client(), "--yes"]),
        }
    }

    /// Lets a stage begin in which the server dies, and starts it again once it has.
    pub(crate) async fn begin_and_die(&mut self, stage: Stage) {
        match stage {
            Stage::Launch | Stage::Provision => {
                self.person = self.sign_up().await;
                self.site.app.wait_exit(WITHIN).await;
                self.site.app.restart().await;
                // It may have died before the sign-up came.
                if self.person.is_none() {
                    self.begin(stage).await;
                }
            }
            _ => {
                self.begin(stage).await;
                self.site.app.wait_exit(WITHIN).await;
                self.site.app.restart().await;
            }
        }
    }

    fn client(&self) -> &str {
        &self.person.as_ref().expect("somebody signed up").client
    }

    /// Waits until a stage has ended as it should.
    pub(crate) async fn end(&self, stage: Stage) {
        match stage {
            Stage::Start => self.site.is_prepared().await,
            Stage::Launch | Stage::Provision => self.site.is_on(self.client(), "shared").await,
            Stage::Migrate => self.site.is_on(self.client(), "dedicated").await,
            Stage::Delete => drop(gone(&self.site.app, self.client()).await),
        }
        self.site.app.at_rest().await;
    }

    /// Who signed up, as it is stored, whether or not that was answered.
    async fn sign_up(&self) -> Option<Person> {
        let form = Person::form("Acme Law");
        if let Ok(answer) = self.site.app.post("/api/auth/signup", &form).send().await {
            assert_eq!(answer.status(), StatusCode::CREATED);
        }
        let email = form["email"].as_str().unwrap().to_owned();
        let found = self.site.app.command_json(&["clients", "list", "--json", "--search", &email]);
        let client = found[0]["id"].as_str()?.to_owned();
        Some(Person { client, email, token: String::new(), dashboard_url: String::new() })
    }

    fn tell(&self, arguments: &[&str]) {
        let output = self.site.app.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Lets this happen at the point, counted from now.
    pub(crate) fn plan(&self, point: &Point, event: Event) {
        self.site.account.plan(&point.call, point.nth, event);
    }
}

/// Goes through every stage once, and returns its calls.
pub(crate) fn recorded(moto: &Arc<Moto>) -> Calls {
    let calls = tokio::runtime::Runtime::new().unwrap().block_on(record(moto));
    for (stage, calls) in &calls {
        assert!(!calls.is_empty(), "{stage:?} calls nothing");
    }
    calls
}

/// How many calls the stage with the most has.
pub(crate) fn longest(calls: &Calls) -> usize {
    calls.values().map(Vec::len).max().unwrap_or(0)
}

/// Where things go wrong in the journey of this number: `Launch:ec2.RunInstances/1 Provision:…`.
pub(crate) fn at(calls: &Calls, number: usize) -> String {
    let of_a_stage = |(stage, points): (&Stage, &Vec<Point>)| {
        points.get(number).map(|point| format!("{stage:?}:{}/{}", point.call, point.nth))
    };
    calls.iter().filter_map(of_a_stage).collect::<Vec<_>>().join(" ")
}

async fn record(moto: &Arc<Moto>) -> Calls {
    let mut journey = Journey::open(moto).await;
    let (mut counts, mut seen) = (BTreeMap::new(), 0);
    for stage in STAGES {
        journey.begin(stage).await;
        journey.end(stage).await;
        counts.insert(stage, count(&journey.site, &mut seen));
    }
    tokio::time::sleep(IDLE).await;
    let idle = count(&journey.site, &mut seen);
    let at_start = counts[&Stage::Start].clone();
    let points = |stage: Stage, counts: BTreeMap<String, u64>| -> Vec<Point> {
        let of_a_name = |(call, count): (String, u64)| {
            let of_a_process = stage != Stage::Start && at_start.contains_key(&call);
            let by_the_clock = of_a_process || idle.contains_key(&call);
            // Of those only the first: how many come is a matter of time.
            (1..=if by_the_clock { 1 } else { count }).map(move |nth| Point { call: call.clone(), nth, by_the_clock })
        };
        counts.into_iter().flat_map(of_a_name).collect()
    };
    counts.into_iter().map(|(stage, counts)| (stage, points(stage, counts))).collect()
}

/// Calls by name since the last count.
fn count(site: &Site, seen: &mut usize) -> BTreeMap<String, u64> {
    let all = site.account.calls();
    let mut counts = BTreeMap::new();
    for recorded in &all[*seen..] {
        *counts.entry(recorded.call.name.clone()).or_default() += 1;
    }
    *seen = all.len();
    counts
}

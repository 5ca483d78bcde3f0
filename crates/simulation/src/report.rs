//! What an operator would want to see of a run: each month, and a picture of it.

use std::fmt::Write as _;

use serde::Serialize;
use stackpro_domain::lifecycle::State;
use stackpro_domain::{Cents, Time};

use crate::business::Business;
use crate::{Failed, Plan, checks};

/// A run, told by the month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub clients: u32,
    pub days: u32,
    pub seed: u64,
    /// Instants at which something happened.
    pub events: u64,
    /// Steps of flows that were executed, their repetitions included.
    pub steps: u64,
    /// Nodes that died.
    pub crashes: u64,
    /// Clients that were checked, each as often as something about them changed.
    pub checks: u64,
    pub mails: u64,
    /// Other plans and intervals that clients chose, each with the charge or credit of its moment.
    pub changes: u64,
    /// Subscriptions that began with a promotion code.
    pub codes: u64,
    /// Plans that were given for nothing, or ended.
    pub gifts: u64,
    /// What Stripe was paid, which is what the model says.
    pub revenue: Cents,
    pub months: Vec<Month>,
    #[serde(skip)]
    series: Vec<Point>,
    #[serde(skip)]
    start: Time,
}

/// The end of one month, and what came in during it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Month {
    /// `2026-01`
    pub month: String,
    pub states: Vec<(String, u64)>,
    pub revenue: Cents,
    pub shared_instances: u64,
    pub dedicated_instances: u64,
}

/// One day of the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    states: [u64; 6],
    instances: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, start: Time) -> Self {
        Self {
            clients: plan.clients,
            days: plan.days,
            seed: plan.seed,
            events: 0,
            steps: 0,
            crashes: 0,
            checks: 0,
            mails: 0,
            changes: 0,
            codes: 0,
            gifts: 0,
            revenue: Cents(0),
            months: Vec::new(),
            series: Vec::new(),
            start,
        }
    }

    /// The end of a day, which is `until`.
    pub(crate) async fn day(&mut self, business: &Business, until: Time) -> Result<(), Failed> {
        let counts = business.world.store.counts_by_state().await.map_err(Failed::new)?;
        let count = |state| counts.iter().find(|(found, _)| *found == state).map_or(0, |(_, count)| *count);
        let states = State::ALL.map(count);
        let (shared, dedicated) = business.fleet.counts();
        self.series.push(Point { states, instances: (shared + dedicated) as u64 });
        // A month ends with the day after which another one begins, and with the run.
        let ends = until.month_start() == until || self.series.len() == self.days as usize;
        if ends {
            let revenue = checks::money(business).await?;
            self.months.push(Month {
                month: until.plus(-1).month_start().to_string().chars().take(7).collect(),
                states: State::ALL
                    .iter()
                    .zip(states)
                    .map(|(state, count)| (state.as_str().to_owned(), count))
                    .collect(),
                revenue: Cents(revenue.0 - self.revenue.0),
                shared_instances: shared as u64,
                dedicated_instances: dedicated as u64,
            });
            self.revenue = revenue;
        }
        Ok(())
    }

    pub(crate) async fn end(&mut self, business: &Business) -> Result<(), Failed> {
        self.revenue = checks::money(business).await?;
        let accounts = || business.people.iter().flat_map(|person| &person.accounts);
        self.codes = accounts().filter(|account| account.code.is_some()).count() as u64;
        self.gifts = business.people.iter().map(|person| person.gifts).sum();
        self.changes = accounts().map(|account| account.terms.len() as u64 - 1).sum();
        self.mails = business.world.store.mails_sent().await.map_err(Failed::new)?;
        Ok(())
    }

    /// Clients by state, one on top of the other, day by day; and instances as a line.
    pub fn svg(&self) -> String {
        const COLOURS: [&str; 6] = ["#7aa2f7", "#e0af68", "#2f9e63", "#d9822b", "#9aa5b1", "#d5dae0"];
        let (width, height, left, top) = (840.0, 300.0, 56.0, 44.0);
        let most = self.series.iter().map(|p| p.states.iter().sum::<u64>().max(p.instances)).max().unwrap_or(0).max(1);
        let days = (self.series.len().max(2) - 1) as f64;
        let x = |day: usize| left + width * day as f64 / days;
        let y = |count: u64| top + height * (1.0 - count as f64 / most as f64);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"system-ui, sans-serif\" \
             font-size=\"12\" role=\"img\" aria-label=\"Clients by state over {} days\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
            left + width + 24.0,
            top + height + 40.0,
            self.series.len()
        );
        for (state, colour) in COLOURS.iter().enumerate() {
            let below = |point: &Point| point.states[..state].iter().sum::<u64>();
            let upper = self.series.iter().enumerate().map(|(day, p)| (x(day), y(below(p) + p.states[state])));
            let lower = self.series.iter().enumerate().rev().map(|(day, p)| (x(day), y(below(p))));
            let _ = writeln!(svg, "<polygon fill=\"{colour}\" points=\"{}\"/>", points(upper.chain(lower)));
            let at = left + 124.0 * state as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{at}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"24\">{}</text>",
                at + 18.0,
                State::ALL[state].as_str().replace('_', " ")
            );
        }
        let line = points(self.series.iter().enumerate().map(|(day, p)| (x(day), y(p.instances))));
        let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"#1a1b26\" stroke-width=\"1.5\" points=\"{line}\"/>");
        for part in 0..=4_u64 {
            let count = most * part / 4;
            let _ =
                writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{count}</text>", left - 8.0, y(count) + 4.0);
        }
        for day in (0..self.series.len()).step_by((self.series.len() / 6).max(1)) {
            let date = self.start.plus_days(day as i64).date();
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{date}</text>", x(day), top + height + 18.0);
        }
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"{}\">Black line: instances</text>\n</svg>", top + height + 34.0);
        svg
    }
}

fn points(all: impl Iterator<Item = (f64, f64)>) -> String {
    all.fold(String::new(), |mut text, (x, y)| {
        let _ = write!(text, "{x:.1},{y:.1} ");
        text
    })
}

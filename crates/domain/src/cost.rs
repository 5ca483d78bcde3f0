//! What a month costs and brings, for each client, each instance and the operator. Pure: from [`Facts`] that the
//! store keeps and the [`Prices`], to [`Costs`] until now, or until the month's end if everything goes on so.
//!
//! An instance of a client's own is theirs from its launch to its release. A shared one costs who is on it: at each
//! moment equal parts, and while nobody is there it is the operator's. The parts of an instance add up to the whole
//! to the micro-dollar. Everything else is counted by client.

use std::collections::{BTreeMap, HashMap};
use std::iter::Sum;
use std::ops::Add;

use crate::ids::{ClientId, InstanceId, ResourceId};
use crate::money::{Cents, Micros};
use crate::plan::{Interval, Plans};
use crate::prices::Prices;
use crate::time::{DAY, Span, Time};

/// What is known of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub month: Span,
    /// In the month. All that is counted is counted until then.
    pub now: Time,
    pub instances: Vec<Instance>,
    /// Every stay on each of these instances.
    pub stays: Vec<Stay>,
    pub used: Vec<Used>,
    pub terms: Vec<Term>,
    /// What was taken back in the month.
    pub returned: Vec<Returned>,
    /// Bytes that all clients sent in the month, also those of whom nothing else is here.
    pub traffic_bytes: u64,
}

/// An instance that the cloud charges for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: ResourceId,
    pub cloud_id: Option<InstanceId>,
    pub instance_type: String,
    /// Whose own it is; none when it is shared.
    pub owner: Option<ClientId>,
    /// From its launch to its release; until [`Time::NEVER`] while it is there.
    pub span: Span,
}

/// That a client had a stack on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    pub client: ClientId,
    pub instance: ResourceId,
    pub span: Span,
}

/// What a client used in the month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub client: ClientId,
    /// When they came, if that was in the month: before that they could use nothing.
    pub since: Time,
    /// What they stored, for as long as it was stored and is counted: see [`kib_seconds`].
    pub kib_seconds: u64,
    /// What they store now, with when its counting goes on.
    pub stores: Vec<Stored>,
    pub traffic_bytes: u64,
    pub requests: u64,
    pub mails: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub bytes: u64,
    pub counted_until: Time,
}

/// That a client paid for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub client: ClientId,
    pub plan: String,
    pub interval: Interval,
    /// What a period comes to, where that is not the plan's price.
    pub price: Option<Cents>,
    pub span: Span,
}

/// That a client's money went back to them, by a refund or a dispute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub client: ClientId,
    pub at: Time,
    pub amount: Cents,
}

/// An amount of which a part may not be known, because something has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    pub known: Micros,
    pub complete: bool,
}

/// What everything of a month costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    pub clients: BTreeMap<ClientId, ClientCost>,
    pub instances: BTreeMap<ResourceId, InstanceCost>,
    /// The operator's own, each with its name.
    pub fixed: Vec<(String, Micros)>,
}

/// What a client brings and costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCost {
    /// By time: a day has its part of the month's price, or of a twelfth of the year's. Less what was returned.
    pub revenue: Amount,
    /// What refunds and disputes took back: all of it in the month in which they began.
    pub returned: Micros,
    /// Their part of each instance that they were on.
    pub places: Vec<(ResourceId, Amount)>,
    pub storage: Micros,
    pub traffic: Micros,
    pub dns: Micros,
    pub mail: Micros,
}

/// What an instance costs, and whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceCost {
    /// Its hours; none when its type has no price.
    pub compute: Option<Micros>,
    pub address: Micros,
    pub disk: Micros,
    /// By client. Parts of an amount that is not all known are of what is known.
    pub shares: Vec<(ClientId, Micros)>,
    /// While nobody was on it: the operator's.
    pub idle: Micros,
}

/// A month in three figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub revenue: Amount,
    /// What the clients cause.
    pub clients: Amount,
    /// What is the operator's own: empty instances, and what is the same each month.
    pub overhead: Amount,
}

/// What something brings and what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub revenue: Amount,
    pub cost: Amount,
}

/// `bytes` stored for `ms`, in KiB times seconds, rounded half up.
pub fn kib_seconds(bytes: u64, ms: u64) -> u64 {
    let exact = Micros::rounded(u128::from(bytes) * u128::from(ms), 1024 * 1000);
    exact.0.unsigned_abs()
}

impl Facts {
    /// Until now.
    pub fn so_far(&self, prices: &Prices, plans: &Plans) -> Costs {
        self.costs(prices, plans, self.now)
    }

    /// Until the month's end: who is there stays, what is stored stays, and what is counted goes on at the pace
    /// since the month began or since the client came, taken over a day at least.
    pub fn projected(&self, prices: &Prices, plans: &Plans) -> Costs {
        self.costs(prices, plans, self.month.until)
    }

    fn costs(&self, prices: &Prices, plans: &Plans, until: Time) -> Costs {
        let window = Span { from: self.month.from, until };
        let mut costs = Costs { fixed: prices.fixed(window.ms(), self.month.ms()), ..Costs::default() };
        self.place(prices, window, &mut costs);
        let all_traffic = self.grown(self.traffic_bytes, self.month.from, until);
        for used in &self.used {
            let grown = |count| self.grown(count, used.since, until);
            let running = used.stores.iter().map(|stored| {
                let since = Span { from: stored.counted_until, until }.within(window);
                kib_seconds(stored.bytes, since.ms())
            });
            let cost = costs.clients.entry(used.client.clone()).or_default();
            cost.storage = prices.storage(used.kib_seconds + running.sum::<u64>(), self.month.ms());
            cost.traffic = prices.traffic(grown(used.traffic_bytes), all_traffic);
            // Nobody counts queries. A visitor's resolver asks at most once for each request of theirs.
            cost.dns = prices.dns(grown(used.requests));
            cost.mail = prices.mail(grown(used.mails));
        }
        for term in &self.terms {
            let cost = costs.clients.entry(term.client.clone()).or_default();
            cost.revenue = cost.revenue + self.revenue(plans, term, window);
        }
        for returned in &self.returned {
            let (cost, amount) = (costs.clients.entry(returned.client.clone()).or_default(), returned.amount);
            cost.returned = cost.returned + amount.into();
            cost.revenue = cost.revenue + Amount::known(Cents(-amount.0).into());
        }
        costs
    }

    /// What was counted from `since` until now, as it will be at `until`.
    fn grown(&self, count: u64, since: Time, until: Time) -> u64 {
        let since = since.max(self.month.from);
        let (so_far, whole) = (self.now.since(since).max(DAY), until.since(since).max(0));
        if until <= self.now || whole <= so_far {
            return count;
        }
        let grown = u128::from(count) * u128::from(whole.unsigned_abs()) / u128::from(so_far.unsigned_abs());
        u64::try_from(grown).unwrap_or(u64::MAX)
    }

    fn revenue(&self, plans: &Plans, term: &Term, window: Span) -> Amount {
        let Some(plan) = plans.get(&term.plan) else { return Amount::UNKNOWN };
        let months = match term.interval {
            Interval::Month => 1,
            Interval::Year => 12,
        };
        let price = term.price.unwrap_or_else(|| plan.price(term.interval));
        let price = u128::from(Micros::from(price).0.unsigned_abs());
        let ms = u128::from(term.span.within(window).ms());
        Amount::known(Micros::rounded(price * ms, u128::from(self.month.ms()) * months))
    }

    /// The instances, and each client's part of them.
    fn place(&self, prices: &Prices, window: Span, costs: &mut Costs) {
        let mut stays: HashMap<&ResourceId, Vec<&Stay>> = HashMap::new();
        for stay in &self.stays {
            stays.entry(&stay.instance).or_default().push(stay);
        }
        for instance in &self.instances {
            let span = instance.span.within(window);
            if span.ms() == 0 {
                continue;
            }
            let mut cost = InstanceCost {
                compute: prices.compute(&instance.instance_type, span.ms()),
                address: prices.address(span.ms()),
                disk: prices.disk(span.ms(), self.month.ms()),
                ..InstanceCost::default()
            };
            let whole = cost.whole();
            if let Some(owner) = &instance.owner {
                cost.shares.push((owner.clone(), whole.known));
            } else {
                let here = stays.get(&instance.id).map_or(&[][..], Vec::as_slice);
                (cost.shares, cost.idle) = shares(whole.known, span, here);
            }
            for (client, share) in &cost.shares {
                let share = Amount { known: *share, ..whole };
                costs.clients.entry(client.clone()).or_default().places.push((instance.id.clone(), share));
            }
            costs.instances.insert(instance.id.clone(), cost);
        }
    }
}

/// The largest unit in which a moment is divided: the least common multiple of 1 to 28 is below it.
const FINEST: u128 = 1 << 44;

/// Divides what an instance costs in `span` among who is on it, at each moment in equal parts; the rest is of the
/// time in which nobody is. Exact: parts and rest add up to the whole, none is negative, and none shrinks when
/// its client stays longer.
fn shares(whole: Micros, span: Span, stays: &[&Stay]) -> (Vec<(ClientId, Micros)>, Micros) {
    let present = presence(span, stays);
    let most = present.values().flat_map(BTreeMap::keys).max().copied().unwrap_or(1);
    // Divides by every number of clients that occurs.
    let unit = (1..=most).try_fold(1, |lcm, n| Some(lcm / gcd(lcm, n) * n).filter(|lcm| *lcm <= FINEST));
    let unit = unit.unwrap_or(FINEST);
    let all = unit * u128::from(span.ms());
    let cut = |weight: u128| (u128::from(whole.0.unsigned_abs()) * weight / all.max(1)) as i64;
    let (mut shares, mut reached) = (Vec::new(), 0);
    for (client, times) in present {
        let from = cut(reached);
        reached += times.iter().map(|(n, ms)| u128::from(*ms) * unit / n).sum::<u128>();
        shares.push((client.clone(), Micros(cut(reached) - from)));
    }
    (shares, Micros(whole.0 - cut(reached)))
}

/// For each client, how many milliseconds they were there as one of how many.
fn presence<'a>(span: Span, stays: &[&'a Stay]) -> BTreeMap<&'a ClientId, BTreeMap<u128, u64>> {
    let mut moves: Vec<(Time, i32, &ClientId)> = Vec::with_capacity(stays.len() * 2);
    for stay in stays {
        let here = stay.span.within(span);
        if here.ms() > 0 {
            moves.extend([(here.from, 1, &stay.client), (here.until, -1, &stay.client)]);
        }
    }
    moves.sort_unstable();
    let mut times: BTreeMap<&ClientId, BTreeMap<u128, u64>> = BTreeMap::new();
    let mut there: BTreeMap<&ClientId, i32> = BTreeMap::new();
    let mut since = span.from;
    for (at, step, client) in moves {
        let ms = Span { from: since, until: at }.ms();
        if ms > 0 {
            for client in there.keys() {
                *times.entry(client).or_default().entry(there.len() as u128).or_default() += ms;
            }
        }
        since = at;
        let stays = there.entry(client).or_default();
        *stays += step;
        if *stays == 0 {
            there.remove(client);
        }
    }
    times
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl ClientCost {
    pub fn instances(&self) -> Amount {
        self.places.iter().map(|(_, share)| *share).sum()
    }

    pub fn total(&self) -> Amount {
        self.instances() + Amount::known(self.storage + self.traffic + self.dns + self.mail)
    }

    pub fn balance(&self) -> Balance {
        Balance { revenue: self.revenue, cost: self.total() }
    }
}

impl Balance {
    /// As the two are shown: of what is rounded to cents. None when a part is not known.
    pub fn margin(self) -> Option<Cents> {
        Some(self.revenue.whole()?.cents() - self.cost.whole()?.cents())
    }
}

impl Totals {
    pub fn balance(&self) -> Balance {
        Balance { revenue: self.revenue, cost: self.clients + self.overhead }
    }
}

impl InstanceCost {
    pub fn whole(&self) -> Amount {
        let besides = Amount::known(self.address + self.disk);
        besides + self.compute.map_or(Amount::UNKNOWN, Amount::known)
    }
}

impl Costs {
    /// What shared instances cost while nobody was on them.
    pub fn idle(&self) -> Amount {
        let idle = self.instances.values().map(|instance| match instance.compute {
            // Of an instance whose price is not known the operator's part is not known either, if there is one.
            None if instance.idle > Micros(0) => Amount { known: instance.idle, complete: false },
            _ => Amount::known(instance.idle),
        });
        idle.sum()
    }

    pub fn totals(&self) -> Totals {
        let fixed: Micros = self.fixed.iter().map(|(_, cost)| *cost).sum();
        Totals {
            revenue: self.clients.values().map(|client| client.revenue).sum(),
            clients: self.clients.values().map(ClientCost::total).sum(),
            overhead: self.idle() + Amount::known(fixed),
        }
    }
}

impl Amount {
    pub const UNKNOWN: Self = Self { known: Micros(0), complete: false };

    pub const fn known(known: Micros) -> Self {
        Self { known, complete: true }
    }

    /// None when a part of it is not known.
    pub fn whole(self) -> Option<Micros> {
        self.complete.then_some(self.known)
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self::known(Micros(0))
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { known: self.known + other.known, complete: self.complete && other.complete }
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;

//! The business itself: the product's own world on a virtual clock, and what people do in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use stackpro_cloud::MailAccount;
use stackpro_cloud::local::stripe::{Settings as StripeSettings, Stripe, WebhookEndpoint, WebhookFaults};
use stackpro_cloud::local::{FaultSettings, LocalCloud, LocalSettings};
use stackpro_domain::lifecycle::{Event, State};
use stackpro_domain::plan::{DEFAULT_PLANS, Interval, Plans};
use stackpro_domain::prices::{DEFAULT_PRICES, Prices};
use stackpro_domain::time::{DAY, HOUR};
use stackpro_domain::zone::Zone;
use stackpro_domain::{ClientId, Clock, Time};
use stackpro_protocol::api::{CheckoutRequest, PlanChangeRequest};
use stackpro_server::agents::Agents;
use stackpro_server::auth::password::Passwords;
use stackpro_server::http::{begin_checkout, change_plan, preview_plan};
use stackpro_server::ids::Ids;
use stackpro_server::lives::{self, NewClient};
use stackpro_server::prober::Prober;
use stackpro_server::problem::Error;
use stackpro_server::reconcilers::till_events;
use stackpro_server::secrets::Secrets;
use stackpro_server::till::{Till, TillConfig};
use stackpro_server::world::{LastAccount, Rates, Settings, Wakes, World};
use stackpro_store::{Client, Options, Store};
use tokio::net::TcpListener;

use crate::clock::VirtualClock;
use crate::fleet::{Fleet, Odds};
use crate::model::{Account, CODES, Off, Term};
use crate::people::{Act, Card, Persona};
use crate::{Failed, Plan, agent};

const WEBHOOKS: &str = "/api/stripe-webhook";
/// Where clients are, in turn: nights at different hours, with and without summer time.
const ZONES: [&str; 5] = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Auckland"];

pub(crate) struct Business {
    pub(crate) world: Arc<World>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) fleet: Fleet,
    pub(crate) cloud: LocalCloud,
    pub(crate) stripe: Stripe,
    /// The product's own site and API, called without a socket.
    pub(crate) server: Router,
    /// Stripe's API and pages, the same way; the till uses a socket.
    pub(crate) stripe_pages: Router,
    pub(crate) people: Vec<Person>,
    by_client: BTreeMap<ClientId, usize>,
}

/// One client of the run.
pub(crate) struct Person {
    pub(crate) persona: Persona,
    pub(crate) client: Option<ClientId>,
    pub(crate) email: String,
    /// What they have subscribed to, the present one last.
    pub(crate) accounts: Vec<Account>,
    /// They, or the operator, asked for the deletion.
    pub(crate) asked_to_delete: bool,
    pub(crate) suspended_by_operator: bool,
    /// How often a plan was given to them, or ended.
    pub(crate) gifts: u64,
}

impl Business {
    pub(crate) async fn open(plan: &Plan, folder: &Path, start: Time) -> Result<Self, Failed> {
        let clock = Arc::new(VirtualClock::at(start));
        let shared: Arc<dyn Clock> = clock.clone();
        let fleet = Fleet::new(Arc::clone(&shared), Odds { lost: plan.faults }, plan.seed ^ 0xf1ee7);
        let cloud = LocalCloud::open(LocalSettings {
            faults: FaultSettings {
                seed: plan.seed,
                throttle: plan.faults,
                error_before: plan.faults,
                error_after: plan.faults,
                ..FaultSettings::default()
            },
            // Who would hear it is not simulated.
            tells_mail_events: false,
            ..LocalSettings::new(folder.join("cloud"), std::env::current_exe().map_err(Failed::new)?)
        })
        .map_err(Failed::new)?;
        let secrets = Secrets::new([7; 32]);
        let door = listen(agent::edge(fleet.clone(), cloud.clone())).await?;
        let (stripe, stripe_pages, stripe_base) = open_stripe(folder, &secrets, Arc::clone(&shared)).await?;
        let url = format!("sqlite:{}", folder.join("stackpro.db").display());
        let options = Options { throwaway: true, connections: 2, ..Options::new(Arc::clone(&shared)) };
        let store = Store::open(&url, options).await.map_err(Failed::new)?;
        let mut parts = cloud.cloud();
        parts.compute = Arc::new(fleet.clone());
        let till = TillConfig {
            base_url: stripe_base,
            secret_key: secrets.till_api_key().into(),
            webhook_secrets: vec![secrets.till_webhook_secret().into()],
        };
        let world = Arc::new(World {
            store,
            cloud: parts,
            agents: Agents::new(secrets.clone()).map_err(Failed::new)?,
            till: Till::new(till).map_err(Failed::new)?,
            prober: Prober::new(door).map_err(Failed::new)?,
            ids: Ids::seeded(plan.seed),
            clock: shared,
            recipes: stackpro_server::recipes::Recipes::default(),
            plans: Plans::parse(DEFAULT_PLANS).map_err(Failed::new)?,
            prices: Prices::parse(DEFAULT_PRICES).map_err(Failed::new)?,
            passwords: Passwords::start(1).map_err(Failed::new)?,
            settings: settings(),
            secrets,
            events: tokio::sync::watch::Sender::new(0),
            runner: OnceLock::new(),
            launch_checked: OnceLock::new(),
            mail_account: LastAccount::of(MailAccount::default()),
            wakes: Wakes::default(),
            drift: stackpro_server::drift::LastDrift::default(),
            time_machine: None,
            mailbox: None,
        });
        let server = stackpro_server::router(Arc::clone(&world));
        fleet.serve_to(server.clone());
        let business = Self {
            world,
            clock,
            fleet,
            cloud,
            stripe,
            server,
            stripe_pages,
            people: Vec::new(),
            by_client: BTreeMap::new(),
        };
        business.make_codes().await?;
        Ok(business)
    }

    /// The operator makes coupons and their codes at Stripe, as in its dashboard.
    async fn make_codes(&self) -> Result<(), Failed> {
        for code in &CODES {
            let terms = match (code.off, code.lasts) {
                (Off::Percent(percent), lasts) => format!("percent_off={percent}&{}", lasts.form()),
                (Off::Amount(cents), lasts) => format!("amount_off={}&currency=usd&{}", cents.0, lasts.form()),
            };
            self.make("coupons", format!("id={}&{terms}", code.name)).await?;
            let promotion = format!("promotion[type]=coupon&promotion[coupon]={0}&code={0}", code.name);
            self.make("promotion_codes", promotion).await?;
        }
        Ok(())
    }

    async fn make(&self, what: &str, form: String) -> Result<(), Failed> {
        let key = format!("Bearer {}", self.world.secrets.till_api_key());
        let request = Request::post(format!("/v1/{what}")).header("authorization", key);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let (status, body) = agent::send(&self.stripe_pages, request, form.into_bytes()).await;
        let said = || Failed(format!("{what} could not be made: {}", String::from_utf8_lossy(&body)));
        if status == StatusCode::OK { Ok(()) } else { Err(said()) }
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn person_of(&self, client: &ClientId) -> Option<&Person> {
        self.by_client.get(client).map(|number| &self.people[*number])
    }

    /// Somebody does what they do now. What a state does not allow is what a page would refuse: it is not done.
    pub(crate) async fn act(&mut self, number: usize, act: Act) -> Result<(), Failed> {
        if act == Act::SignUp {
            return self.sign_up(number).await;
        }
        let Some(client) = self.people[number].client.clone() else { return Ok(()) };
        let Some(row) = self.world.store.client(&client).await.map_err(Failed::new)? else { return Ok(()) };
        match act {
            Act::SignUp => Ok(()),
            Act::Pay => self.pay(number, &row).await,
            Act::CancelAtPeriodEnd(cancels) => self.cancel(number, &row, cancels).await,
            Act::RepairCard => self.repair(number, &row).await,
            Act::Change(plan, interval) => self.change(number, &client, plan, interval).await,
            Act::CancelTrial => self.event(&client, Event::TrialCancelled).await,
            Act::Suspend => {
                self.people[number].suspended_by_operator = true;
                self.event(&client, Event::Suspended).await
            }
            Act::Give(plan, days) => {
                self.give(number, &client, plan, days.map(|days| self.now().plus_days(days))).await
            }
            Act::TakeBack => match row.life.given {
                Some(_) => {
                    let plan = self.world.plans.plans.iter().position(|plan| plan.id == row.plan).unwrap_or_default();
                    self.give(number, &client, plan, Some(self.now().plus(HOUR))).await
                }
                None => Ok(()),
            },
            Act::Resume => self.event(&client, Event::Resumed { extra_days: 7 }).await,
            Act::Delete => {
                self.people[number].asked_to_delete = true;
                self.event(&client, Event::Deleted).await
            }
        }
    }

    async fn sign_up(&mut self, number: usize) -> Result<(), Failed> {
        let world = &self.world;
        let person = &mut self.people[number];
        let new = NewClient {
            recipe: "site".into(),
            email: person.email.clone(),
            password_hash: None,
            first_name: "Ann".into(),
            last_name: format!("Number {number}"),
            company: format!("Company {number}"),
            plan: person.persona.plan.clone(),
            zone: Zone::parse(ZONES[number % ZONES.len()]).unwrap_or_default(),
        };
        let mut tx = world.store.begin().await.map_err(Failed::new)?;
        let (client, _) = lives::sign_up(world, &mut tx, new).await.map_err(Failed::new)?;
        tx.commit().await.map_err(Failed::new)?;
        self.by_client.insert(client.id.clone(), number);
        person.client = Some(client.id);
        Ok(())
    }

    async fn event(&self, client: &ClientId, event: Event) -> Result<(), Failed> {
        let world = &self.world;
        let mut tx = world.store.begin().await.map_err(Failed::new)?;
        let Some(mut row) = tx.client(client).await.map_err(Failed::new)? else { return Ok(()) };
        match lives::apply(world, &mut tx, &mut row, event).await {
            Ok(()) => tx.commit().await.map_err(Failed::new),
            Err(lives::LifeError::Refused(_)) => Ok(()),
            Err(error) => Err(Failed::new(error)),
        }
    }

    async fn give(&mut self, number: usize, client: &ClientId, plan: usize, until: Option<Time>) -> Result<(), Failed> {
        let world = &self.world;
        let plan = world.plans.plans[plan].id.clone();
        let mut tx = world.store.begin().await.map_err(Failed::new)?;
        let Some(mut row) = tx.client(client).await.map_err(Failed::new)? else { return Ok(()) };
        match lives::give_plan(world, &mut tx, &mut row, &plan, until).await {
            Ok(()) => tx.commit().await.map_err(Failed::new)?,
            // They pay for a plan, or are deleted.
            Err(lives::LifeError::Refused(_)) => return Ok(()),
            Err(error) => return Err(Failed::new(error)),
        }
        self.people[number].gifts += 1;
        Ok(())
    }

    async fn pay(&mut self, number: usize, row: &Client) -> Result<(), Failed> {
        if row.life.pays() || row.life.state == State::Deleted {
            return Ok(());
        }
        let person = &self.people[number];
        let interval = person.persona.interval;
        let order = CheckoutRequest { plan_id: person.persona.plan.clone(), interval: interval.as_str().into() };
        let checkout = begin_checkout(&self.world, &row.id, &person.email, &order).await;
        let checkout = match checkout {
            Ok(checkout) => checkout,
            // They have paid already, which was not known yet, or the operator paused what is paid.
            Err(Error::NotNow(_)) => return Ok(()),
            Err(error) => return Err(Failed(format!("a checkout could not begin: {error:?}"))),
        };
        let path = path_of(&checkout.url);
        let card = person.persona.card;
        let code = person.persona.code.map(|code| &CODES[code]);
        if let Some(code) = code {
            let page = format!("{path}/code");
            self.post(&page, "code=NO-SUCH-CODE", StatusCode::UNPROCESSABLE_ENTITY).await?;
            self.post(&page, &format!("code={}", code.name), StatusCode::SEE_OTHER).await?;
        }
        if card == Card::DeclinedFirst {
            self.submit(&path, "4000000000000002", StatusCode::PAYMENT_REQUIRED).await?;
        }
        let good = if card == Card::FailsLater { "4000000000000341" } else { "4242424242424242" };
        self.submit(&path, good, StatusCode::SEE_OTHER).await?;
        let price = self.world.plans.get(&order.plan_id).map_or_else(Default::default, |plan| plan.price(interval));
        let since = self.now();
        self.people[number].accounts.push(Account {
            terms: vec![Term { from: since, plan: order.plan_id, price, interval }],
            code,
            card_fails: card == Card::FailsLater,
            repaired_at: None,
            cancelled: Vec::new(),
            ended_at: None,
        });
        Ok(())
    }

    /// Fills a card form of Stripe's pages in.
    async fn submit(&self, path: &str, number: &str, expected: StatusCode) -> Result<(), Failed> {
        let form = format!(
            "number={number}&expiry=12%2F49&cvc=123&name=Ann&country=DE&line1=Hauptstr.+1&city=Berlin&postal_code=10115"
        );
        self.post(path, &form, expected).await
    }

    async fn post(&self, path: &str, form: &str, expected: StatusCode) -> Result<(), Failed> {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        let (status, _) = agent::send(&self.stripe_pages, request, form.as_bytes().to_vec()).await;
        if status == expected { Ok(()) } else { Err(Failed(format!("{path} answered {status}, not {expected}"))) }
    }

    async fn cancel(&mut self, number: usize, row: &Client, cancels: bool) -> Result<(), Failed> {
        let Some(subscription) = row.subscription_id.as_ref().filter(|_| row.life.pays()) else {
            return Ok(());
        };
        self.world.till.cancel_at_period_end(subscription, cancels).await.map_err(Failed::new)?;
        let now = self.now();
        if let Some(account) = self.people[number].accounts.last_mut() {
            account.cancelled.push((now, cancels));
        }
        Ok(())
    }

    /// Looks at what it would cost, and confirms it. What a page would refuse is not done.
    async fn change(
        &mut self,
        number: usize,
        client: &ClientId,
        plan: usize,
        interval: Interval,
    ) -> Result<(), Failed> {
        let plan = self.world.plans.plans[plan].clone();
        let order = CheckoutRequest { plan_id: plan.id.clone(), interval: interval.as_str().into() };
        let refused = |error: Error| match error {
            Error::NotNow(_) => Ok(()),
            error => Err(Failed(format!("a plan could not be changed: {error:?}"))),
        };
        let shown = match preview_plan(&self.world, client, &order).await {
            Ok(shown) => shown,
            Err(error) => return refused(error),
        };
        let request = PlanChangeRequest { plan_id: shown.plan_id, interval: shown.interval, at: shown.at.to_string() };
        if let Err(error) = change_plan(&self.world, client, &request).await {
            return refused(error);
        }
        let term = Term { from: self.now(), price: plan.price(interval), plan: plan.id, interval };
        if let Some(account) = self.people[number].accounts.last_mut() {
            account.terms.push(term);
        }
        Ok(())
    }

    async fn repair(&mut self, number: usize, row: &Client) -> Result<(), Failed> {
        let Some(customer) = &row.customer_id else { return Ok(()) };
        let back = self.world.settings.dashboard_url(&row.id);
        let portal = self.world.till.create_portal(customer, back).await.map_err(Failed::new)?;
        self.submit(&format!("{}/card", path_of(&portal)), "4242424242424242", StatusCode::SEE_OTHER).await?;
        let now = self.now();
        if let Some(account) = self.people[number].accounts.last_mut() {
            account.repaired_at.get_or_insert(now);
        }
        Ok(())
    }

    /// The hourly look of the till's reconciler; it also ends what deleted clients still pay.
    pub(crate) async fn sweep_till(&mut self) -> Result<(), Failed> {
        till_events::sweep_all(&self.world).await.map_err(Failed::new)?;
        let (now, known) = (self.now(), self.known_to_the_till().await?);
        for person in &mut self.people {
            let (Some(client), Some(account)) = (&person.client, person.accounts.last_mut()) else { continue };
            let row = known.get(client).filter(|_| account.ended_at.is_none());
            if row.is_some_and(|row| row.life.state == State::Deleted && row.subscription_id.is_none()) {
                account.ended_at = Some(now);
            }
        }
        Ok(())
    }

    /// Everyone who ever went to pay.
    pub(crate) async fn known_to_the_till(&self) -> Result<BTreeMap<ClientId, Client>, Failed> {
        let mut known = BTreeMap::new();
        let mut after = String::new();
        loop {
            let clients = self.world.store.clients_of_the_till(&after, 1_000).await.map_err(Failed::new)?;
            let Some(last) = clients.last().and_then(|client| client.customer_id.clone()) else { return Ok(known) };
            after = last;
            known.extend(clients.into_iter().map(|client| (client.id.clone(), client)));
        }
    }
}

/// Where Stripe's own pages are, without scheme and host.
fn path_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or_else(|| "/".into(), |at| rest[at..].to_owned())
}

async fn listen(router: Router) -> Result<std::net::SocketAddr, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failed::new)?;
    let address = listener.local_addr().map_err(Failed::new)?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn open_stripe(
    folder: &Path,
    secrets: &Secrets,
    clock: Arc<dyn Clock>,
) -> Result<(Stripe, Router, String), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failed::new)?;
    let base_url = format!("http://{}", listener.local_addr().map_err(Failed::new)?);
    let settings = StripeSettings {
        api_key: secrets.till_api_key(),
        publishable_name: "StackPro".into(),
        base_url: base_url.clone(),
        webhook_endpoints: vec![WebhookEndpoint { url: WEBHOOKS.into(), secret: secrets.till_webhook_secret() }],
        faults: WebhookFaults::default(),
    };
    let stripe = Stripe::open(&folder.join("stripe"), settings, clock).map_err(Failed::new)?;
    let pages = stripe.router();
    let served = pages.clone();
    tokio::spawn(async move { axum::serve(listener, served).await });
    Ok((stripe, pages, base_url))
}

fn settings() -> Settings {
    Settings {
        name: "StackPro".into(),
        public_url: "http://127.0.0.1:8080".into(),
        client_domain: "stackpro.localhost".into(),
        mail_from: "StackPro <hello@stackpro.localhost>".into(),
        support_email: "help@stackpro.localhost".into(),
        time_zone: stackpro_domain::zone::Zone::default(),
        warm_places: 1,
        dns_ttl_seconds: 0,
        acme: None,
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        hash_queue: 1,
        rates: Rates::default(),
        admission: stackpro_domain::admission::Rules::default(),
        signup_networks: (24, 56),
        // Nothing comes by itself while the clock stands still: a step that must wait is tried again.
        patience: Duration::ZERO,
    }
}

/// When each person does what, in the order of time.
pub(crate) fn agenda(business: &mut Business, plan: &Plan, start: Time) -> BTreeMap<(Time, u64), (usize, Act)> {
    let mut agenda = BTreeMap::new();
    let end = start.plus(i64::from(plan.days) * DAY);
    for number in 0..plan.clients {
        let persona = Persona::draw(plan.seed, number, start, plan.days, &business.world.plans);
        for (at, act) in persona.acts.iter().filter(|(at, _)| *at < end) {
            agenda.insert((*at, agenda.len() as u64), (number as usize, *act));
        }
        business.people.push(Person {
            persona,
            client: None,
            email: format!("ann@company{number}.example"),
            accounts: Vec::new(),
            asked_to_delete: false,
            suspended_by_operator: false,
            gifts: 0,
        });
    }
    agenda
}

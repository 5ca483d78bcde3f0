//! The operator's pages with sample data.

use stackpro_domain::cost::{Amount, Balance};
use stackpro_domain::time::{DAY, HOUR, MINUTE, SECOND};
use stackpro_domain::zone::Zone;
use stackpro_domain::{Cents, Micros};
use stackpro_protocol::api::Reversal;
use stackpro_store::SetupFailure;

use super::{NOW, Pages, Words, id, invoices, plans, show, usage, used_months};
use crate::web::console;
use crate::web::frame::{ConsoleFrame, SiteFrame};
use crate::web::mail::{Mail, Recipient};
use crate::web::mails;
use crate::web::money::{Both, CostLine, InstancePage, Share, ThisMonth};

impl Words {
    fn console_frame(&self) -> ConsoleFrame {
        let notice = Some(format!("Amazon SES is in its sandbox {}", self.extra()));
        let (csrf, operator) = (self.text(), self.text());
        ConsoleFrame { csrf, operator, local: true, attention: 2, now: NOW, flash: None, notice }
    }

    fn flow(&self, kind: &str, state: &str) -> console::FlowRow {
        console::FlowRow {
            id: "019ab7c2-77e0-7c31-9d0e-5a1f0c3b2d11".parse().unwrap(),
            kind: kind.into(),
            subject: if self.extra().is_empty() { id().to_string() } else { self.text() },
            state: state.into(),
            undoing: state == "parked",
            waits_for: (kind == "suspend").then(|| format!("suspend v2 {}", self.extra())),
            step: Some(format!("Start your site {}", self.extra())),
            cause: (state == "parked")
                .then(|| format!("The agent on i-0f3a9c27d1 did not answer: connection refused {}", self.extra())),
            created_at: NOW.plus(-3 * MINUTE),
            finished_at: (state == "done").then(|| NOW.plus(-3 * MINUTE + 740)),
        }
    }

    fn resource(&self, kind: &str, leaked: bool) -> console::ResourceRow {
        console::ResourceRow {
            id: "019ab7c2-77e0".parse().unwrap(),
            kind: kind.into(),
            name: format!("stackpro-{kind}-7f3k {}", self.extra()),
            state: if leaked { "leaked" } else { "live" }.into(),
            client: (!leaked).then(id),
            created_at: NOW.plus(-3 * DAY),
            leaked,
        }
    }

    fn reversal(&self, kind: &str, status: &str) -> Reversal {
        Reversal {
            id: "du_1PqrsTuvWxyz".into(),
            kind: kind.into(),
            created_at: NOW.plus(-2 * DAY),
            status: status.into(),
            reason: Some(format!("product_not_received {}", self.extra())),
            amount_cents: 29_900,
            taken_cents: 29_900,
            answer_by: (kind == "dispute").then(|| NOW.plus(12 * DAY)),
        }
    }

    fn mail(&self, subject: &str, state: &str) -> console::MailRow {
        console::MailRow {
            href: "/console/mails/welcome-019ab7c2".into(),
            to: if self.extra().is_empty() { "ann@bakerlane.example".into() } else { self.text() },
            subject: format!("{subject} {}", self.extra()),
            state: state.into(),
            cause: (state == "bounced").then(|| format!("smtp; 550 5.1.1 user unknown {}", self.extra())),
            client: Some(id()),
            at: NOW.plus(-HOUR),
        }
    }

    fn instance(&self, name: &str, clients: usize, dedicated: bool, healthy: bool) -> console::InstanceRow {
        console::InstanceRow {
            id: name.parse().unwrap(),
            resource: "019ab7c2-77e0-7c31-9d0e-5a1f0c3b2d11".parse().unwrap(),
            dedicated,
            state: "running".into(),
            healthy,
            address: format!("127.0.0.1:40121{}", self.extra()),
            instance_type: "t3.medium".into(),
            clients: vec![id(); clients],
            capacity: if dedicated { 1 } else { 10 },
            reported_at: healthy.then(|| NOW.plus(-2 * SECOND)),
            cost: if healthy { cost(2_204) } else { unknown(cost(340)) },
        }
    }

    fn client_row(&self, state: &str, status: &str) -> console::ClientRow {
        console::ClientRow {
            id: id(),
            company: self.text(),
            state: state.into(),
            status: status.into(),
            plan: "Business".into(),
            instance: (status == "ready").then(|| "i-0f3a9c27d1".parse().unwrap()),
            balance: balance(if state == "active" { 47_523 } else { 0 }, cost(981)),
            next: self.dates(state).into_iter().find(|date| date.at > NOW),
            created_at: NOW.plus(-3 * DAY),
        }
    }
}

/// So many cents so far, and a fourth more at the month's end.
fn cost(cents: i64) -> Both<Amount> {
    let amount = |cents| Amount::known(Micros(cents * 10_000));
    Both { so_far: amount(cents), in_all: amount(cents * 5 / 4) }
}

fn unknown(cost: Both<Amount>) -> Both<Amount> {
    let unknown = |amount| Amount { complete: false, ..amount };
    Both { so_far: unknown(cost.so_far), in_all: unknown(cost.in_all) }
}

fn balance(revenue: i64, costs: Both<Amount>) -> Both<Balance> {
    let revenue = cost(revenue);
    Both {
        so_far: Balance { revenue: revenue.so_far, cost: costs.so_far },
        in_all: Balance { revenue: revenue.in_all, cost: costs.in_all },
    }
}

fn line(words: &Words, what: &str, detail: &str, cost: Both<Amount>) -> CostLine {
    let instance = detail.contains(',').then(|| "019ab7c2-77e0".parse().unwrap());
    CostLine {
        what: format!("{what} {}", words.extra()),
        detail: format!("{detail} {}", words.extra()),
        instance,
        cost,
    }
}

fn this_month(words: &Words, busy: bool) -> ThisMonth {
    ThisMonth {
        now: NOW,
        day: 24,
        days: 30,
        balance: if busy { balance(41_236_950, cost(1_546_512)) } else { balance(0, cost(0)) },
        overhead: vec![
            line(words, "Shared servers while they are empty", "", cost(if busy { 1_180 } else { 0 })),
            line(words, "Hosted zone", "", cost(if busy { 40 } else { 0 })),
        ],
        unpriced: if busy { vec![format!("m9.huge (plan starter) has no price {}", words.extra())] } else { vec![] },
    }
}

fn overview(words: &Words, busy: bool) -> console::Overview {
    let count = |(state, count): &(&str, u64)| console::StateCount { state: (*state).into(), count: *count };
    console::Overview {
        frame: words.console_frame(),
        counts: [("trial", 14), ("grace", 2), ("active", 1_031), ("past_due", 1), ("suspended", 3)]
            .iter()
            .map(count)
            .collect(),
        month: this_month(words, busy),
        attention: if busy { vec![words.flow("migrate", "parked"), words.flow("delete", "parked")] } else { vec![] },
        events: u64::from(busy),
        disputes: busy
            .then(|| console::DisputeRow { client: id(), amount: Cents(29_900), answer_by: NOW.plus(12 * DAY) })
            .into_iter()
            .collect(),
        leaks: u64::from(busy),
        certificate: busy.then(|| console::CertificateState {
            is_well: words.extra().is_empty(),
            text: format!("*.clients.example is valid until 2027-02-23 {}", words.extra()),
        }),
        instances: if busy {
            vec![
                words.instance("i-0f3a9c27d1", 7, false, true),
                words.instance("i-77b1e02c4a", 10, false, true),
                words.instance("i-2c90aa17e8", 1, true, false),
            ]
        } else {
            vec![]
        },
        instance_count: if busy { 103 } else { 0 },
        newest: if busy {
            vec![
                words.client_row("trial", "ready"),
                words.client_row("trial", "provisioning"),
                words.client_row("suspended", "suspended"),
            ]
        } else {
            vec![]
        },
    }
}

fn client_page(words: &Words, priced: bool) -> console::ClientPage {
    let own = if priced { cost(612) } else { unknown(cost(50)) };
    console::ClientPage {
        frame: words.console_frame(),
        client: words.client("trial"),
        owner_name: words.text(),
        owner_email: words.text(),
        owner_verified: true,
        dates: words.dates("trial"),
        deployment: words.deployment("failed", 4, "failed"),
        instance: Some("i-0f3a9c27d1".parse().unwrap()),
        usage: usage(true),
        month: NOW.month(),
        balance: balance(47_523, if priced { cost(981) } else { unknown(cost(419)) }),
        costs: vec![
            line(words, "Their part of a shared server", "i-0f3a9c27d1, t3.medium", cost(233)),
            line(words, "A server of their own", "i-2c90aa17e8, t3.micro", own),
            line(words, "Storage", "", cost(103)),
            line(words, "Traffic", "", cost(33)),
            line(
                words,
                "DNS",
                "at most a query for each request",
                Both { so_far: Amount::known(Micros(7)), in_all: Amount::known(Micros(9)) },
            ),
            line(words, "Mail", "", cost(0)),
        ],
        returned: Cents(if priced { 29_900 } else { 0 }),
        invoices: priced.then(invoices),
        reversals: if priced {
            vec![words.reversal("dispute", "needs_response"), words.reversal("refund", "succeeded")]
        } else {
            vec![]
        },
        months: used_months(),
        flows: vec![words.flow("provision", "done"), words.flow("migrate", "parked")],
        resources: vec![words.resource("bucket", false), words.resource("dns_record", false)],
        mails: vec![words.mail("Welcome to StackPro: please confirm your address", "bounced")],
        actions: console::Actions {
            migrate: true,
            suspend: true,
            resume: true,
            give_days: true,
            give_plan: true,
            delete: true,
        },
        renews_at: Some(NOW),
        plans: plans(),
        problem: Some(words.text()),
    }
}

fn flow_page(words: &Words) -> console::FlowPage {
    let step = |(title, state): &(&str, &str)| console::FlowStep {
        title: format!("{title} {}", words.extra()),
        state: (*state).into(),
        attempts: if *state == "failed" { 5 } else { 0 },
        started_at: Some(NOW),
        finished_at: (*state != "running").then(|| NOW.plus(1_240)),
        note: (*state == "running").then(|| format!("611 MB of 912 MB {}", words.extra())),
        error: (*state == "failed").then(|| format!("The agent did not answer: connection refused {}", words.extra())),
        commit: title.starts_with("Switch"),
    };
    let steps = [
        ("Launch the instance", "done"),
        ("Copy the data", "running"),
        ("Hold and compare", "failed"),
        ("Switch over", "pending"),
        ("Release the old place", "undone"),
    ];
    console::FlowPage {
        frame: words.console_frame(),
        flow: words.flow("migrate", "parked"),
        steps: steps.iter().map(step).collect(),
        may_retry: true,
        may_turn_back: true,
        problem: Some(words.text()),
    }
}

fn first(words: &Words) -> console::FirstOperator {
    console::FirstOperator {
        frame: SiteFrame::default(),
        csrf: words.text(),
        token: words.text(),
        email: words.text(),
        first_name: words.text(),
        last_name: words.text(),
        errors: words.errors(&["email"]),
    }
}

fn clients(words: &Words, rows: Vec<console::ClientRow>) -> console::Clients {
    console::Clients {
        frame: words.console_frame(),
        total: rows.len() as u64,
        rows,
        query: words.text(),
        state: "trial".into(),
        page: 2,
        pages: 3,
    }
}

fn instances(words: &Words) -> console::Instances {
    let rows = vec![words.instance("i-0f3a9c27d1", 7, false, true), words.instance("i-2c90aa17e8", 1, true, false)];
    console::Instances { frame: words.console_frame(), rows }
}

fn instance(words: &Words) -> InstancePage {
    let share = |client, cents| Share { client, cost: cost(cents) };
    InstancePage {
        frame: words.console_frame(),
        row: words.instance("i-0f3a9c27d1", 7, false, true),
        version: Some(words.text()),
        setup_failure: Some(SetupFailure { log: words.text(), at: NOW.plus(-HOUR) }),
        launched_at: Some(NOW.plus(-40 * DAY)),
        released_at: Some(NOW.plus(-HOUR)),
        lines: vec![
            line(words, "Its hours", "", cost(1_986)),
            line(words, "Its public address", "", cost(160)),
            line(words, "Its disk", "", cost(58)),
        ],
        shares: vec![share(Some(id()), 1_204), share(Some(id()), 700), share(None, 300)],
    }
}

fn resources(words: &Words) -> console::Resources {
    let rows =
        vec![words.resource("instance", true), words.resource("bucket", false), words.resource("dns_record", false)];
    console::Resources { frame: words.console_frame(), rows, leaks: 1, page: 1, pages: 2 }
}

fn flows(words: &Words) -> console::Flows {
    let rows = vec![words.flow("migrate", "parked"), words.flow("provision", "done"), words.flow("suspend", "running")];
    let event = console::EventRow {
        id: words.text(),
        kind: words.text(),
        cause: Some(words.text()),
        received_at: NOW.plus(-3 * DAY),
    };
    console::Flows { frame: words.console_frame(), rows, events: vec![event], state: words.text(), page: 1, pages: 1 }
}

fn mailbox(words: &Words) -> console::Mailbox {
    let rows = vec![words.mail("3 days left of your free trial", "sent"), words.mail("Welcome to StackPro", "sent")];
    console::Mailbox { frame: words.console_frame(), rows, page: 1, pages: 1 }
}

fn mail_page(words: &Words) -> console::MailPage {
    let set_password_url = "http://127.0.0.1:8080/set-password?token=x".into();
    let letter = Mail::Invitation { inviter: words.text(), set_password_url };
    let letter =
        letter.compose(&Recipient { first_name: words.text(), company: words.text(), zone: Zone::default() }).unwrap();
    console::MailPage {
        frame: words.console_frame(),
        mail: words.mail("Welcome to StackPro", "sent"),
        reply_to: Some("visitor@example.com".into()),
        html: letter.html,
        text: letter.text,
    }
}

fn mail_log(words: &Words) -> mails::MailLog {
    let states = ["queued", "sent", "delivered", "bounced", "complained", "suppressed", "failed"];
    mails::MailLog {
        frame: words.console_frame(),
        rows: states.map(|state| words.mail("3 days left of your free trial", state)).into(),
        client: words.text(),
        state: "bounced".into(),
        problem: Some(words.text()),
        next: Some(words.text()),
    }
}

fn mail_history(words: &Words) -> mails::MailHistory {
    let told = |fate: &str| mails::ToldRow { fate: fate.into(), detail: words.text(), at: NOW };
    mails::MailHistory {
        frame: words.console_frame(),
        mail: words.mail("Welcome to StackPro", "bounced"),
        kind: words.text(),
        attempts: 1,
        created_at: NOW,
        told: ["sent", "soft_bounce", "hard_bounce"].map(told).into(),
        suppressed: true,
    }
}

fn suppressed(words: &Words) -> mails::Suppressed {
    let row = |fate: &str| mails::SuppressedRow {
        address: words.text(),
        fate: fate.into(),
        detail: words.text(),
        since: NOW.plus(-DAY),
    };
    let rows = ["hard_bounce", "complaint"].map(row).into();
    mails::Suppressed { frame: words.console_frame(), rows, problem: Some(words.text()), next: Some(words.text()) }
}

fn time(words: &Words) -> console::TimeMachine {
    let upcoming = console::Upcoming { client: id(), company: words.text(), date: words.dates("trial").remove(1) };
    console::TimeMachine {
        frame: words.console_frame(),
        offset_ms: 3 * DAY,
        upcoming: vec![upcoming],
        till_at: Some(NOW),
        problem: None,
    }
}

pub(super) fn pages(words: &Words) -> Pages {
    let row = console::ContactRow { name: words.text(), email: words.text(), message: words.text(), at: NOW };
    let contacts = console::Contacts { frame: words.console_frame(), rows: vec![row], page: 1, pages: 1 };
    let rows = vec![words.client_row("trial", "ready"), words.client_row("active", "migrating")];
    vec![
        show("console/first", &first(words)),
        show("console/overview", &overview(words, true)),
        show("console/overview-empty", &overview(words, false)),
        show("console/clients", &clients(words, rows)),
        show("console/clients-none", &clients(words, vec![])),
        show("console/client", &client_page(words, true)),
        show("console/client-unknown", &client_page(words, false)),
        show("console/instances", &instances(words)),
        show("console/instance", &instance(words)),
        show("console/resources", &resources(words)),
        show("console/flows", &flows(words)),
        show("console/flow", &flow_page(words)),
        show("console/mails", &mail_log(words)),
        show("console/mail-history", &mail_history(words)),
        show("console/suppressed", &suppressed(words)),
        show("console/mailbox", &mailbox(words)),
        show("console/mail", &mail_page(words)),
        show("console/contacts", &contacts),
        show("console/time", &time(words)),
    ]
}

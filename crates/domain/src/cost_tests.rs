use proptest::prelude::*;

use super::*;
use crate::plan::DEFAULT_PLANS;
use crate::prices::DEFAULT_PRICES;
use crate::time::HOUR;

fn prices() -> Prices {
    Prices::parse(DEFAULT_PRICES).unwrap()
}

fn plans() -> Plans {
    Plans::parse(DEFAULT_PLANS).unwrap()
}

/// November 2026 has 30 days.
fn month() -> Span {
    Span::month_of("2026-11-24T23:16:44Z".parse().unwrap())
}

fn day(n: i64) -> Time {
    month().from.plus_days(n)
}

fn client(n: usize) -> ClientId {
    format!("client-{n}").parse().unwrap()
}

fn instance(id: &str, instance_type: &str, owner: Option<usize>, span: Span) -> Instance {
    let cloud_id = format!("i-{id}").parse().ok();
    Instance { id: id.parse().unwrap(), cloud_id, instance_type: instance_type.into(), owner: owner.map(client), span }
}

fn stay(n: usize, instance: &str, from: Time, until: Time) -> Stay {
    Stay { client: client(n), instance: instance.parse().unwrap(), span: Span { from, until } }
}

fn used(n: usize, since: Time) -> Used {
    let (stores, client) = (Vec::new(), client(n));
    Used { client, since, kib_seconds: 0, stores, traffic_bytes: 0, requests: 0, mails: 0 }
}

fn facts(now: Time, instances: Vec<Instance>, stays: Vec<Stay>) -> Facts {
    Facts {
        month: month(),
        now,
        instances,
        stays,
        used: Vec::new(),
        terms: Vec::new(),
        returned: Vec::new(),
        traffic_bytes: 0,
    }
}

/// One shared t3.medium from the month's first day.
fn shared(stays: Vec<Stay>) -> Facts {
    let span = Span { from: day(-3), until: Time::NEVER };
    facts(day(20), vec![instance("m1", "t3.medium", None, span)], stays)
}

#[test]
fn who_is_on_a_shared_instance_pays_equal_parts_and_nobody_pays_for_an_empty_one() {
    let stays = vec![stay(1, "m1", day(0), day(10)), stay(2, "m1", day(5), day(10))];
    let costs = shared(stays).so_far(&prices(), &plans());
    let instance = &costs.instances[&"m1".parse().unwrap()];
    // 20 days: $0.0416 and $0.005 an hour, and 30 GB at $0.08 for two thirds of the month.
    let whole = 480 * (41_600 + 5_000) + 2_400_000 * 2 / 3;
    assert_eq!(instance.whole(), Amount::known(Micros(whole)));
    // Five days alone and five days as one of two; five days as one of two; ten days nobody.
    let expected = [(client(1), Micros(whole * 75 / 200)), (client(2), Micros(whole * 25 / 200))];
    assert_eq!(instance.shares, expected);
    assert_eq!(instance.idle.0, whole - expected[0].1.0 - expected[1].1.0);
    let totals = costs.totals();
    assert_eq!(totals.clients.known + totals.overhead.known, Micros(whole + 500_000 * 2 / 3));
    assert_eq!(totals.balance().margin().unwrap(), Cents(0) - Micros(whole + 500_000 * 2 / 3).cents());
}

#[test]
fn who_moved_in_the_middle_of_the_month_costs_both_parts() {
    let span = |from| Span { from, until: Time::NEVER };
    let instances =
        vec![instance("m1", "t3.medium", None, span(day(-40))), instance("m2", "t3.micro", Some(1), span(day(12)))];
    let stays = vec![
        stay(1, "m1", day(-9), day(12).plus(HOUR)),
        stay(2, "m1", day(-9), Time::NEVER),
        stay(1, "m2", day(12), Time::NEVER),
    ];
    let facts = facts(day(20), instances, stays);
    let (prices, plans) = (prices(), plans());
    let costs = facts.so_far(&prices, &plans);
    let places: Vec<_> =
        costs.clients[&client(1)].places.iter().map(|(id, cost)| (id.as_str(), cost.known.0)).collect();
    let shared_day = 24 * 46_600 + 2_400_000 / 30;
    let own_day = 24 * 15_400 + 2_400_000 / 30;
    assert_eq!(places.len(), 2);
    assert!((places[0].1 - shared_day * (12 * 24 + 1) / 48).abs() < 20, "{places:?}");
    assert!((places[1].1 - own_day * 8).abs() < 20, "{places:?}");
    // As things stand, they have their own to the month's end and nothing more of the shared one.
    let projected = facts.projected(&prices, &plans);
    let later: Vec<_> = projected.clients[&client(1)].places.iter().map(|(_, cost)| cost.known.0).collect();
    assert!((later[0] - places[0].1).abs() <= 1, "{later:?} {places:?}");
    assert!((later[1] - own_day * 18).abs() < 20, "{later:?}");
}

#[test]
fn what_has_no_price_is_unknown_and_not_nothing() {
    let span = Span { from: day(0), until: Time::NEVER };
    let instances = vec![instance("m1", "m9.huge", None, span), instance("m2", "t3.micro", Some(2), span)];
    let stays = vec![stay(1, "m1", day(0), Time::NEVER), stay(2, "m2", day(0), Time::NEVER)];
    let mut facts = facts(day(20), instances, stays);
    let term = Term { client: client(1), plan: "gone".into(), interval: Interval::Month, price: None, span };
    facts.terms.push(term);
    let costs = facts.so_far(&prices(), &plans());
    let (one, two) = (&costs.clients[&client(1)], &costs.clients[&client(2)]);
    assert_eq!((one.total().whole(), one.revenue.whole()), (None, None));
    assert_eq!((one.balance().margin(), two.balance().margin().map(|margin| margin < Cents(0))), (None, Some(true)));
    assert!(one.total().known > Micros(0), "the disk and the address are known");
    assert!(two.total().complete && two.total().known > Micros(0));
    let totals = costs.totals();
    assert!(!totals.clients.complete && !totals.revenue.complete);
    assert!(totals.overhead.complete, "nobody is missing there");
    facts.stays.clear();
    assert!(!facts.so_far(&prices(), &plans()).totals().overhead.complete);
}

#[test]
fn plans_bring_their_part_of_the_month() {
    let term = |n, plan: &str, interval, from, until| Term {
        client: client(n),
        plan: plan.into(),
        interval,
        price: None,
        span: Span { from, until },
    };
    let mut facts = facts(day(20), vec![], vec![]);
    facts.terms = vec![
        term(1, "starter", Interval::Month, day(-90), day(10)),
        term(1, "business", Interval::Month, day(10), Time::NEVER),
        term(2, "starter", Interval::Year, day(15), Time::NEVER),
        term(3, "starter", Interval::Month, day(-90), day(0)),
        Term { price: Some(Cents(15_000)), ..term(4, "starter", Interval::Month, day(-90), Time::NEVER) },
    ];
    let so_far = facts.so_far(&prices(), &plans());
    let cents = |costs: &Costs, n| costs.clients[&client(n)].revenue.known.cents().0;
    assert_eq!(cents(&so_far, 1), 29_900 / 3 + 59_900 / 3 + 1);
    assert_eq!(cents(&so_far, 2), 4_153);
    assert_eq!(cents(&so_far, 3), 0);
    assert_eq!(cents(&so_far, 4), 10_000, "a code lowers it");
    let projected = facts.projected(&prices(), &plans());
    assert_eq!(cents(&projected, 1), (29_900 + 2 * 59_900 + 2) / 3);
    assert_eq!(cents(&projected, 2), 12_458);
}

#[test]
fn what_is_counted_goes_on_at_its_pace_and_what_is_stored_stays() {
    let mut facts = facts(day(20), vec![], vec![]);
    let gb = 1 << 30;
    let stores = vec![Stored { bytes: gb, counted_until: day(10) }];
    let counted = kib_seconds(gb, 5 * DAY.unsigned_abs());
    facts.used = vec![
        Used { mails: 2_000, kib_seconds: counted, stores, ..used(1, day(-50)) },
        Used { mails: 2_000, ..used(2, day(19)) },
        Used { mails: 2_000, ..used(3, day(20).plus(-HOUR)) },
    ];
    let (prices, plans) = (prices(), plans());
    let mails = |costs: &Costs| [1, 2, 3].map(|n| costs.clients[&client(n)].mail.0);
    let (so_far, projected) = (facts.so_far(&prices, &plans), facts.projected(&prices, &plans));
    assert_eq!(mails(&so_far), [200_000; 3]);
    // 20 days make 30; one day makes 11; an hour counts as a day, so that it does not make 241 of itself.
    assert_eq!(mails(&projected), [300_000, 2_200_000, 2_008_300]);
    // 15 GB-days so far, 25 at the end, of 30.
    assert_eq!(so_far.clients[&client(1)].storage, Micros(23_000 / 2));
    assert_eq!(projected.clients[&client(1)].storage, Micros((23_000 * 25 + 29) / 30));
}

#[test]
fn what_is_free_is_free_for_all_together() {
    let mut facts = facts(day(30), vec![], vec![]);
    let gb = 1_u64 << 30;
    facts.used = (1..=4).map(|n| Used { traffic_bytes: 50 * gb, ..used(n, day(0)) }).collect();
    facts.traffic_bytes = 200 * gb;
    let costs = facts.so_far(&prices(), &plans());
    assert!((1..=4).all(|n| costs.clients[&client(n)].traffic == Micros(25 * 90_000)));
}

/// Stays of up to six clients on one instance: when each came and how long they stayed, in odd milliseconds.
fn stays() -> impl Strategy<Value = Vec<Stay>> {
    let one = (0_usize..6, -3_000_000_i64..2_592_000_000, 1_i64..2_592_000_000);
    proptest::collection::vec(one, 0..12).prop_map(|all| {
        let stay = |(n, from, long)| stay(n, "m1", month().from.plus(from), month().from.plus(from + long));
        all.into_iter().map(stay).collect()
    })
}

proptest! {
    #[test]
    fn the_parts_of_an_instance_are_the_whole(stays in stays(), whole in 0_i64..1 << 40) {
        let stays: Vec<&Stay> = stays.iter().collect();
        let (shares, idle) = shares(Micros(whole), month(), &stays);
        prop_assert!(idle.0 >= 0 && shares.iter().all(|(_, share)| share.0 >= 0));
        let sum: Micros = shares.iter().map(|(_, share)| *share).sum();
        prop_assert_eq!(sum + idle, Micros(whole));
        if stays.is_empty() {
            prop_assert_eq!(idle, Micros(whole));
        }
    }

    #[test]
    fn staying_longer_never_costs_less(stays in stays(), more in 1_i64..2_592_000_000, whole in 0_i64..1 << 40) {
        prop_assume!(!stays.is_empty());
        let longer: Vec<Stay> = stays.iter().enumerate().map(|(i, stay)| {
            let until = stay.span.until.plus(if i == 0 { more } else { 0 });
            Stay { span: Span { until, ..stay.span }, ..stay.clone() }
        }).collect();
        let share = |stays: &[Stay]| {
            let (shares, _) = shares(Micros(whole), month(), &stays.iter().collect::<Vec<_>>());
            shares.into_iter().find(|(client, _)| *client == stays[0].client).map_or(Micros(0), |(_, share)| share)
        };
        prop_assert!(share(&longer) >= share(&stays), "{:?} {:?}", share(&longer), share(&stays));
    }

    #[test]
    fn a_month_only_grows(stays in stays(), at in 1_i64..29, mails in 0_u64..1 << 40) {
        let mut facts = shared(stays);
        facts.now = day(at);
        facts.used = (0..6).map(|n| Used { mails, traffic_bytes: mails, ..used(n, day(0)) }).collect();
        facts.traffic_bytes = mails * 6;
        let (prices, plans) = (prices(), plans());
        let (so_far, projected) = (facts.so_far(&prices, &plans), facts.projected(&prices, &plans));
        for (client, cost) in &so_far.clients {
            let later = projected.clients[client].total().known;
            // The whole of an instance is cut anew: by a micro-dollar for each of its clients.
            prop_assert!(later.0 + 6 >= cost.total().known.0, "{client}: {later:?} {cost:?}");
        }
        for costs in [so_far, projected] {
            let instances: Micros = costs.instances.values().map(|instance| instance.whole().known).sum();
            let others: Micros = costs.clients.values().map(|c| c.storage + c.traffic + c.dns + c.mail).sum();
            let fixed: Micros = costs.fixed.iter().map(|(_, cost)| *cost).sum();
            let totals = costs.totals();
            prop_assert_eq!(totals.clients.known + totals.overhead.known, instances + others + fixed);
        }
    }

    #[test]
    fn many_on_one_instance_are_divided_too(count in 1_usize..200, whole in 0_i64..1 << 40) {
        let stays: Vec<Stay> = (0..count).map(|n| stay(n, "m1", day(n as i64 % 30), Time::NEVER)).collect();
        let (shares, idle) = shares(Micros(whole), month(), &stays.iter().collect::<Vec<_>>());
        let sum: Micros = shares.iter().map(|(_, share)| *share).sum();
        prop_assert_eq!(sum + idle, Micros(whole));
        prop_assert!(idle.0 >= 0 && shares.iter().all(|(_, share)| share.0 >= 0));
    }
}

#[test]
fn what_is_returned_is_no_revenue_and_may_exceed_it() {
    let mut facts = facts(day(20), vec![], vec![]);
    facts.returned = vec![
        Returned { client: client(1), at: day(3), amount: Cents(700) },
        Returned { client: client(1), at: day(19), amount: Cents(50) },
    ];
    let costs = facts.so_far(&prices(), &plans());
    let cost = &costs.clients[&client(1)];
    assert_eq!((cost.returned, cost.revenue), (Micros(7_500_000), Amount::known(Micros(-7_500_000))));
    assert_eq!(costs.totals().revenue, Amount::known(Micros(-7_500_000)));
    assert_eq!(cost.balance().margin(), Some(Cents(-750)));
}

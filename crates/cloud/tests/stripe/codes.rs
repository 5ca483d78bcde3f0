//! Promotion codes: made by the API, typed at Checkout, and what invoices charge because of them.

use serde_json::Value;
use stackpro_domain::Clock;
use tempfile::tempdir;

use super::support::{DAY, Hand, Till, id, text};

/// A coupon and a code for it.
async fn code(till: &Till, code: &str, coupon: &[(&str, &str)], more: &[(&str, &str)]) -> String {
    let coupon = id(&till.post("coupons", coupon).await);
    let mut form = vec![("promotion[type]", "coupon"), ("promotion[coupon]", coupon.as_str()), ("code", code)];
    form.extend(more);
    id(&till.post("promotion_codes", &form).await)
}

async fn session(till: &Till, price: &str) -> Value {
    let form = [
        ("mode", "subscription"),
        ("line_items[0][price]", price),
        ("customer_email", "ada@example.com"),
        ("success_url", "http://till.example/done"),
        ("allow_promotion_codes", "true"),
    ];
    till.post("checkout/sessions", &form).await
}

/// Types a code and presses "Apply": the status and the page that is then shown.
async fn apply(till: &Till, session: &Value, typed: &str) -> (u16, String) {
    let (status, to, page) = till.submit_form(&format!("{}/code", text(session, "url")), &[("code", typed)]).await;
    if status != 303 {
        return (status, page);
    }
    let (_, _, page) = till.file(&format!("{}{to}", till.base)).await;
    (status, page)
}

/// A subscription that was paid with a code.
async fn subscribe(till: &Till, price: &str, typed: &str) -> Value {
    let session = session(till, price).await;
    assert_eq!(apply(till, &session, typed).await.0, 303);
    assert_eq!(till.submit(text(&session, "url"), "4242424242424242").await.0, 303);
    let path = format!("checkout/sessions/{}?expand[]=subscription.latest_invoice", id(&session));
    till.get(&path).await
}

/// What was paid, the newest first.
async fn paid(till: &Till) -> Vec<i64> {
    till.list("invoices").await.iter().map(|invoice| invoice["amount_paid"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_code_is_taken_off_what_is_shown_charged_and_invoiced() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-01-31T10:00:00Z")).await;
    let promo = code(&till, "LAUNCH20", &[("id", "launch"), ("percent_off", "20"), ("duration", "once")], &[]).await;
    let session = session(&till, &till.price().await).await;
    let (status, page) = apply(&till, &session, "nonsense").await;
    assert!(status == 422 && page.contains("This code is invalid.") && page.contains("value=\"nonsense\""), "{page}");
    let (_, page) = apply(&till, &session, " launch20 ").await;
    assert!(page.contains("LAUNCH20, 20% off once") && page.contains("Pay $239.20"), "{page}");
    let (_, page) = apply(&till, &session, "").await;
    assert!(page.contains("Pay $299.00"), "taken away again: {page}");
    apply(&till, &session, "launch20").await;
    let (status, _, page) = till.submit(text(&session, "url"), "4000000000000002").await;
    assert!(status == 402 && page.contains("Pay $239.20"), "{page}");
    assert_eq!(
        till.get(&format!("promotion_codes/{promo}")).await["times_redeemed"],
        0,
        "a declined card redeems nothing"
    );
    assert_eq!(till.submit(text(&session, "url"), "4242424242424242").await.0, 303);

    let expand = "expand[]=invoice.discounts.promotion_code&expand[]=line_items";
    let session = till.get(&format!("checkout/sessions/{}?{expand}", id(&session))).await;
    assert_eq!((&session["amount_subtotal"], &session["amount_total"]), (&29_900.into(), &23_920.into()));
    assert_eq!(session["total_details"]["amount_discount"], 5_980);
    assert_eq!(session["discounts"][0]["promotion_code"], promo.as_str());
    assert_eq!(session["line_items"]["data"][0]["amount_total"], 23_920);
    let invoice = &session["invoice"];
    assert_eq!((&invoice["subtotal"], &invoice["total"]), (&29_900.into(), &23_920.into()));
    assert_eq!((&invoice["amount_paid"], text(invoice, "status")), (&23_920.into(), "paid"));
    assert_eq!(invoice["total_discount_amounts"][0]["amount"], 5_980);
    assert_eq!(invoice["lines"]["data"][0]["discount_amounts"][0]["amount"], 5_980);
    let discount = &invoice["discounts"][0];
    assert_eq!(
        (text(&discount["promotion_code"], "code"), text(&discount["source"], "coupon")),
        ("LAUNCH20", "launch")
    );
    let (_, _, page) = till.file(text(invoice, "hosted_invoice_url")).await;
    assert!(page.contains("Discount (LAUNCH20, 20% off once)") && page.contains("-$59.80"), "{page}");
    assert!(page.contains("$239.20"), "{page}");
    let coupon = till.get("coupons/launch").await;
    assert_eq!((&coupon["times_redeemed"], &coupon["percent_off"]), (&1.into(), &20.0.into()));
}

#[tokio::test]
async fn a_discount_lasts_as_long_as_its_coupon_says() {
    for (coupon, due) in [
        (vec![("percent_off", "50"), ("duration", "once")], [14_950, 29_900, 29_900, 29_900]),
        (
            vec![("amount_off", "10000"), ("currency", "usd"), ("duration", "repeating"), ("duration_in_months", "3")],
            [19_900, 19_900, 19_900, 29_900],
        ),
        (vec![("percent_off", "12.5"), ("duration", "forever")], [26_162, 26_162, 26_162, 26_162]),
        (
            vec![("percent_off", "100"), ("duration", "repeating"), ("duration_in_months", "1")],
            [0, 29_900, 29_900, 29_900],
        ),
        (vec![("amount_off", "99900"), ("currency", "usd"), ("duration", "once")], [0, 29_900, 29_900, 29_900]),
    ] {
        let dir = tempdir().unwrap();
        let clock = Hand::at("2026-01-31T10:00:00Z");
        let till = Till::open(dir.path(), clock.clone()).await;
        code(&till, "CODE", &coupon, &[]).await;
        let price = till.price().await;
        let session = subscribe(&till, &price, "CODE").await;
        let next = [("subscription", text(&session["subscription"], "id"))];
        assert_eq!(till.post("invoices/create_preview", &next).await["amount_due"], due[1], "{coupon:?}");
        clock.set("2026-04-30T10:00:00Z");
        let mut found = paid(&till).await;
        found.reverse();
        assert_eq!(found, due, "{coupon:?}");
        let subscription = till.get(&format!("subscriptions/{}", text(&session["subscription"], "id"))).await;
        let lasts = coupon.iter().any(|(_, value)| *value == "forever");
        assert_eq!(subscription["discounts"].as_array().unwrap().len(), usize::from(lasts));
        let ended = till.list("events?type=customer.discount.deleted").await.len();
        assert_eq!(ended, usize::from(!lasts), "{coupon:?}");
    }
}

#[tokio::test]
async fn prorations_are_of_what_was_charged_and_of_what_is_charged_now() {
    for (duration, remaining, renewed) in [("once", 20_000, 60_000), ("forever", 10_000, 30_000)] {
        let dir = tempdir().unwrap();
        let clock = Hand::at("2026-11-01T00:00:00Z");
        let till = Till::open(dir.path(), clock.clone()).await;
        code(&till, "HALF", &[("percent_off", "50"), ("duration", duration)], &[]).await;
        let price = |amount: &'static str| {
            let product = [("product_data[name]", "A plan"), ("recurring[interval]", "month"), ("currency", "usd")];
            let form: Vec<_> = product.into_iter().chain([("unit_amount", amount)]).collect();
            let till = &till;
            async move { id(&till.post("prices", &form).await) }
        };
        let (small, big) = (price("30000").await, price("60000").await);
        let session = subscribe(&till, &small, "half").await;
        let subscription = &session["subscription"];
        assert_eq!(subscription["latest_invoice"]["amount_paid"], 15_000);
        // A third of November is left: of 150 dollars that were paid, and of what the bigger one costs from now on.
        clock.set("2026-11-21T00:00:00Z");
        let path = format!("subscriptions/{}", id(subscription));
        let item = id(&subscription["items"]["data"][0]);
        let change = |price: &str| {
            let price = price.to_owned();
            let (till, path, item) = (&till, path.clone(), item.clone());
            async move {
                let form = [
                    ("items[0][id]", item.as_str()),
                    ("items[0][price]", &price),
                    ("proration_behavior", "always_invoice"),
                ];
                let changed = till.post(&path, &form).await;
                till.get(&format!("invoices/{}", text(&changed, "latest_invoice"))).await
            }
        };
        let up = change(&big).await;
        let lines: Vec<i64> =
            up["lines"]["data"].as_array().unwrap().iter().map(|one| one["amount"].as_i64().unwrap()).collect();
        assert_eq!(lines, [-5_000, remaining], "{duration}");
        assert_eq!(
            (&up["total"], &up["total_discount_amounts"]),
            (&(remaining - 5_000).into(), &serde_json::json!([]))
        );
        assert!(up["lines"]["data"].as_array().unwrap().iter().all(|line| line["discountable"] == false));
        // Back at once: all that was charged for the bigger one is given back.
        let down = change(&small).await;
        assert_eq!(down["lines"]["data"][0]["amount"], -remaining, "{duration}");
        change(&big).await;
        clock.set("2026-12-01T00:00:00Z");
        assert_eq!(till.list("invoices").await[0]["total"], renewed, "{duration}");
    }
}

#[tokio::test]
async fn a_code_that_cannot_be_used_says_why() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let at = |days: i64| (clock.now().ms() / 1_000 + days * 86_400).to_string();
    let half = [("percent_off", "50")];
    let stranger = id(&till.post("customers", &[]).await);
    code(&till, "TODAY", &half, &[("expires_at", &at(1))]).await;
    code(&till, "COUPON-TODAY", &[("percent_off", "50"), ("redeem_by", &at(1))], &[]).await;
    code(&till, "ONCE", &half, &[("max_redemptions", "1")]).await;
    code(
        &till,
        "BIG",
        &half,
        &[("restrictions[minimum_amount]", "100000"), ("restrictions[minimum_amount_currency]", "usd")],
    )
    .await;
    code(&till, "EURO", &[("amount_off", "500"), ("currency", "eur")], &[]).await;
    code(&till, "THEIRS", &half, &[("customer", &stranger)]).await;
    let off = code(&till, "OFF", &half, &[]).await;
    till.post(&format!("promotion_codes/{off}"), &[("active", "false")]).await;
    let price = till.price().await;
    let open = session(&till, &price).await;
    assert_eq!(apply(&till, &open, "TODAY").await.0, 303);
    subscribe(&till, &price, "ONCE").await;
    clock.advance(DAY - 3_600_000);
    let late = session(&till, &price).await;
    assert_eq!(apply(&till, &late, "today").await.0, 303);
    clock.advance(3_600_000);
    for (typed, reason) in [
        ("TODAY", "This code has expired."),
        ("COUPON-TODAY", "This code has expired."),
        ("ONCE", "This code has been redeemed as often as it can be."),
        ("BIG", "This code is for purchases of $1,000.00 and more."),
        ("EURO", "This code is for another currency."),
        ("THEIRS", "This code is invalid."),
        ("OFF", "This code is invalid."),
    ] {
        let (status, page) = apply(&till, &session(&till, &price).await, typed).await;
        assert!(status == 422 && page.contains(reason), "{typed}: {page}");
    }
    // Applied in time, paid too late: nothing is charged, and without the code it can be paid.
    let (status, _, page) = till.submit(text(&late, "url"), "4242424242424242").await;
    assert!(status == 402 && page.contains("This code has expired."), "{page}");
    assert_eq!(till.list("subscriptions").await.len(), 1);
    assert_eq!(apply(&till, &late, "").await.0, 303);
    assert_eq!(till.submit(text(&late, "url"), "4242424242424242").await.0, 303);
    assert_eq!(till.list("promotion_codes?active=true").await.len(), 3, "BIG, EURO and THEIRS");
}

#[tokio::test]
async fn coupons_and_codes_are_refused_as_stripe_refuses_them() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    for (form, param) in [
        (vec![], None),
        (vec![("percent_off", "101")], Some("percent_off")),
        (vec![("percent_off", "0")], Some("percent_off")),
        (vec![("percent_off", "NaN")], Some("percent_off")),
        (vec![("amount_off", "100")], Some("currency")),
        (vec![("amount_off", "100"), ("percent_off", "10"), ("currency", "usd")], None),
        (vec![("amount_off", "100"), ("currency", "usd"), ("duration", "forever")], None),
        (vec![("percent_off", "10"), ("duration", "repeating")], Some("duration_in_months")),
        (vec![("percent_off", "10"), ("redeem_by", "1")], Some("redeem_by")),
        (vec![("percent_off", "10"), ("max_redemptions", "0")], Some("max_redemptions")),
    ] {
        assert_eq!(till.refused("coupons", &form).await["error"]["param"].as_str(), param, "{form:?}");
    }
    let code = code(&till, "SAVE", &[("id", "save"), ("percent_off", "10")], &[]).await;
    let again = [("promotion[type]", "coupon"), ("promotion[coupon]", "save"), ("code", "save")];
    assert_eq!(till.refused("promotion_codes", &again).await["error"]["param"], "code");
    assert_eq!(till.refused("coupons", &[("id", "save"), ("percent_off", "5")]).await["error"]["param"], "id");
    assert_eq!(till.list("promotion_codes?code=SAVE").await[0]["promotion"]["coupon"], "save");
    let (status, _) = super::support::answer(till.request("DELETE", "coupons/save")).await;
    assert_eq!(status, 200);
    assert_eq!(till.get(&format!("promotion_codes/{code}")).await["active"], false, "it went with its coupon");
}

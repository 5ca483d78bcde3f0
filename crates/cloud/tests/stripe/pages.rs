//! Checkout and portal as a customer uses them.

use tempfile::tempdir;

use super::support::{DAY, Hand, Till, id, text};

#[tokio::test]
async fn a_declined_card_says_why_and_leaves_nothing_behind() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let session = till.checkout(&till.price().await).await;
    let events = till.list("events").await.len();
    let reasons = [
        ("4000 0000 0000 0002", "Your card was declined."),
        ("4000000000009995", "Your card has insufficient funds."),
        ("4000000000000069", "Your card has expired."),
        ("4000000000000127", "Your card&#39;s security code is incorrect."),
        ("4111 1111 1111 1111", "used a non test card"),
        ("4242 4242 4242 4241", "Your card number is invalid."),
    ];
    for (number, reason) in reasons {
        let (status, _, page) = till.submit(text(&session, "url"), number).await;
        assert_eq!(status, 402, "{number}");
        assert!(page.contains(reason), "{number}: {page}");
        assert!(page.contains("value=\"Ada\"") && page.contains("value=\"GB\" selected"), "values are kept");
        assert!(!page.contains(&format!("value=\"{number}")), "card data is not");
    }
    assert_eq!(till.list("events").await.len(), events);
    assert!(till.list("customers").await.is_empty());
    assert_eq!(till.get(&format!("checkout/sessions/{}", text(&session, "id"))).await["status"], "open");
    assert_eq!(till.submit(text(&session, "url"), "4242 4242 4242 4242").await.0, 303, "and it can be paid afterwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_submitted_twice_pays_once() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let session = till.checkout(&till.price().await).await;
    let url = text(&session, "url");
    let done = format!("http://till.example:8080/done?session={}", text(&session, "id"));
    for (status, to, _) in futures::future::join_all((0..8).map(|_| till.submit(url, "4242424242424242"))).await {
        assert_eq!((status, &to), (303, &done));
    }
    for path in ["customers", "subscriptions", "invoices", "events?type=checkout.session.completed"] {
        assert_eq!(till.list(path).await.len(), 1, "{path}");
    }
    let page = till.client.get(url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("You have paid already"));
    let paid = till.get(&format!("checkout/sessions/{}?expand[]=invoice", text(&session, "id"))).await;
    assert_eq!((text(&paid, "payment_status"), text(&paid["invoice"], "status")), ("paid", "paid"));
}

#[tokio::test]
async fn pages_escape_what_they_show_and_are_closed_to_others() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let session = till.checkout(&till.price().await).await;
    let answer = till.client.get(text(&session, "url")).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("form-action 'self' http://till.example:8080;"), "{policy}");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let page = answer.text().await.unwrap();
    assert!(page.contains("Simulated Stripe, test mode") && page.contains("$299.00"));
    assert!(!page.contains("<Sons>") && !page.contains("Starter <b>") && !page.contains("value=\"\"ada\""));
    let (status, refused) = till
        .try_post(
            "checkout/sessions",
            &[
                ("mode", "subscription"),
                ("line_items[0][price]", &till.price().await),
                ("success_url", "javascript:alert(1)"),
            ],
        )
        .await;
    assert_eq!((status, text(&refused["error"], "code")), (400, "url_invalid"));
    assert_eq!(till.client.get(format!("{}/c/pay/cs_test_x", till.base)).send().await.unwrap().status(), 404);
    assert_eq!(till.client.get(format!("{}/p/session/bps_x", till.base)).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_portal_cancels_keeps_and_changes_the_card() {
    let dir = tempdir().unwrap();
    let clock = Hand::at("2026-11-24T10:00:00Z");
    let till = Till::open(dir.path(), clock.clone()).await;
    let subscription = till.subscribe().await;
    let path = format!("subscriptions/{}", text(&subscription, "id"));
    let form = [("customer", text(&subscription, "customer")), ("return_url", "http://till.example/back")];
    let portal = till.post("billing_portal/sessions", &form).await;
    let url = text(&portal, "url");
    let page = till.client.get(url).send().await.unwrap().text().await.unwrap();
    for shown in ["VISA •••• 4242", "$299.00 per month", "24 Dec 2026", "http://till.example/back", "paid"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let which = [("subscription", text(&subscription, "id"))];
    assert_eq!(till.submit_form(&format!("{url}/cancel"), &which).await.0, 303);
    assert_eq!(till.get(&path).await["cancel_at_period_end"], true);
    let page = till.client.get(url).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Ends on 24 Dec 2026"));
    till.submit_form(&format!("{url}/resume"), &which).await;
    assert_eq!(till.get(&path).await["cancel_at_period_end"], false);

    let (status, _, page) = till.submit(&format!("{url}/card"), "4000000000000002").await;
    assert!(status == 402 && page.contains("Your card was declined."), "{page}");
    assert_eq!(till.submit(&format!("{url}/card"), "5555555555554444").await.1, format!("{}?done=card", path_of(url)));
    let method = till.get(&format!("{path}?expand[]=default_payment_method")).await;
    assert_eq!(text(&method["default_payment_method"]["card"], "last4"), "4444");

    // Another customer's subscription is out of reach, and an old link is no good.
    let other = till.subscribe().await;
    assert_eq!(till.submit_form(&format!("{url}/cancel"), &[("subscription", &id(&other))]).await.0, 404);
    clock.advance(DAY);
    assert_eq!(till.client.get(url).send().await.unwrap().status(), 404);
}

fn path_of(url: &str) -> &str {
    &url[url.find("/p/").unwrap()..]
}

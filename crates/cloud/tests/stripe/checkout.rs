//! What Checkout collects: an address, a business's tax id, and where both go.

use tempfile::tempdir;

use super::support::{Hand, Till, id, text};

const BERLIN: [(&str, &str); 4] =
    [("line1", "Hauptstr. 1"), ("city", "Berlin"), ("postal_code", "10115"), ("country", "DE")];
const CARD: [(&str, &str); 4] =
    [("number", "4242424242424242"), ("expiry", "12 / 60"), ("cvc", "123"), ("name", "Ada")];

/// The form of a page that asks for everything.
fn form<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    CARD.iter().chain(&BERLIN).chain(more).copied().collect()
}

async fn session(till: &Till, customer: &str, more: &[(&str, &str)]) -> serde_json::Value {
    let price = till.price().await;
    let mut form = vec![
        ("mode", "subscription"),
        ("line_items[0][price]", price.as_str()),
        ("customer", customer),
        ("success_url", "http://till.example/done"),
        ("billing_address_collection", "required"),
        ("tax_id_collection[enabled]", "true"),
        ("customer_update[name]", "auto"),
    ];
    form.extend(more);
    till.post("checkout/sessions", &form).await
}

#[tokio::test]
async fn an_address_and_a_tax_id_go_to_the_customer_and_onto_the_invoice() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let customer = id(&till.post("customers", &[("email", "ada@example.com"), ("name", "Ada")]).await);
    let session = session(&till, &customer, &[("customer_update[address]", "auto")]).await;
    let url = text(&session, "url");

    // What is missing or wrong is said beside its field, and nothing is charged.
    let (status, _, page) = till.submit_form(url, &CARD).await;
    assert_eq!(status, 402);
    for field in ["line1-error", "city-error", "postal_code-error"] {
        assert!(page.contains(field), "{field}: {page}");
    }
    let wrong = form(&[("business_name", "Ada GmbH"), ("tax_id_type", "eu_vat"), ("tax_id", "FR12345678901")]);
    let (status, _, page) = till.submit_form(url, &wrong).await;
    assert!(status == 402 && page.contains("tax_id-error") && page.contains("value=\"Hauptstr. 1\""), "{page}");
    assert!(till.list("subscriptions").await.is_empty());

    let right = form(&[("business_name", "Ada GmbH"), ("tax_id_type", "eu_vat"), ("tax_id", "DE123456789")]);
    assert_eq!(till.submit_form(url, &right).await.0, 303);
    let tax_ids = serde_json::json!([{"type": "eu_vat", "value": "DE123456789"}]);
    let session = till.get(&format!("checkout/sessions/{}?expand[]=invoice", id(&session))).await;
    assert_eq!(session["customer_details"]["tax_ids"], tax_ids);
    assert_eq!(session["customer_details"]["name"], "Ada GmbH");
    assert_eq!(session["customer_details"]["address"]["city"], "Berlin");
    let kept = till.get(&format!("customers/{customer}?expand[]=tax_ids")).await;
    assert_eq!((text(&kept, "name"), text(&kept["address"], "country")), ("Ada GmbH", "DE"));
    let listed = till.list(&format!("customers/{customer}/tax_ids")).await;
    assert_eq!(kept["tax_ids"]["data"][0], listed[0]);
    assert_eq!((text(&listed[0], "country"), listed.len()), ("DE", 1));
    let invoice = &session["invoice"];
    assert_eq!(invoice["customer_tax_ids"], tax_ids);
    assert_eq!(invoice["customer_address"]["line1"], "Hauptstr. 1");
    for url in ["hosted_invoice_url", "invoice_pdf"] {
        let (_, _, page) = till.file(text(invoice, url)).await;
        for shown in ["Ada GmbH", "Hauptstr. 1", "10115 Berlin", "EU VAT DE123456789"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }
}

#[tokio::test]
async fn a_customers_own_words_are_kept_where_the_session_may_not_replace_them() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let customer =
        [("email", "ada@example.com"), ("name", "Ada"), ("address[line1]", "Old Road 1"), ("address[country]", "GB")];
    let customer = id(&till.post("customers", &customer).await);
    let session = session(&till, &customer, &[]).await;
    let (_, _, page) = till.file(text(&session, "url")).await;
    assert!(
        page.contains("value=\"Old Road 1\"") && page.contains("value=\"GB\" selected"),
        "what is known is filled in"
    );
    assert_eq!(till.submit_form(text(&session, "url"), &form(&[])).await.0, 303);
    let kept = till.get(&format!("customers/{customer}")).await;
    assert_eq!((text(&kept, "name"), text(&kept["address"], "line1")), ("Ada", "Old Road 1"));
    let session = till.get(&format!("checkout/sessions/{}", id(&session))).await;
    assert_eq!(session["customer_details"]["address"]["line1"], "Hauptstr. 1");
    assert_eq!(session["customer_details"]["tax_ids"], serde_json::json!([]));
}

#[tokio::test]
async fn a_tax_id_by_the_api_is_checked_for_its_form() {
    let dir = tempdir().unwrap();
    let till = Till::open(dir.path(), Hand::at("2026-11-24T10:00:00Z")).await;
    let path = format!("customers/{}/tax_ids", id(&till.post("customers", &[]).await));
    let refused = till.refused(&path, &[("type", "eu_vat"), ("value", "DE1")]).await;
    assert_eq!((text(&refused["error"], "code"), text(&refused["error"], "param")), ("tax_id_invalid", "value"));
    assert_eq!(till.refused(&path, &[("type", "mars"), ("value", "1")]).await["error"]["param"], "type");
    let form = [("type", "us_ein"), ("value", "12-3456789")];
    let made = till.post(&path, &form).await;
    assert_eq!(till.post(&path, &form).await["id"], made["id"], "once");
    assert_eq!(till.events_after(0).await, ["customer.created", "customer.tax_id.created"]);
}

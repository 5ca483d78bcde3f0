//! Tax ids of customers, and what each kind of them looks like:
//! <https://docs.stripe.com/billing/customer/tax-ids#supported-tax-id>.
//!
//! Only the form is checked, as at Stripe when an id is given; whether it exists is looked at later there, and never
//! here.

use serde_json::{Value, json};

use super::api::{Call, page_of};
use super::customers::living;
use super::error::{ApiError, Result};
use super::state::{Tx, list_of, text};

/// Country, type, and how it is written: `#` is a digit, `@` a letter, `?` either. Spaces, dots and dashes count
/// for nothing. The countries are those of the card form.
const FORMS: [(&str, &str, &[&str]); 16] = [
    ("US", "us_ein", &["##-#######"]),
    ("AU", "au_abn", &["###########"]),
    ("AT", "eu_vat", &["ATU########"]),
    ("CA", "ca_bn", &["#########"]),
    ("CA", "ca_gst_hst", &["#########RT####"]),
    ("FR", "eu_vat", &["FR??#########"]),
    ("DE", "eu_vat", &["DE#########"]),
    ("IE", "eu_vat", &["IE#######@", "IE#######@@", "IE#?#####@"]),
    ("IT", "eu_vat", &["IT###########"]),
    ("NL", "eu_vat", &["NL#########B##"]),
    ("NZ", "nz_gst", &["########", "#########"]),
    ("ES", "eu_vat", &["ES?#######?"]),
    ("ES", "es_cif", &["@#######?"]),
    ("SE", "eu_vat", &["SE############"]),
    ("CH", "ch_vat", &["CHE-###.###.### MWST", "CHE-###.###.### TVA", "CHE-###.###.### IVA"]),
    ("GB", "gb_vat", &["GB#########"]),
];

/// The types as the checkout page lists them, each with an example.
pub(super) const TYPES: [(&str, &str); 9] = [
    ("us_ein", "US EIN, 12-3456789"),
    ("eu_vat", "EU VAT, DE123456789"),
    ("gb_vat", "UK VAT, GB123456789"),
    ("ch_vat", "Swiss VAT, CHE-123.456.789 MWST"),
    ("au_abn", "Australian ABN, 12345678912"),
    ("ca_bn", "Canadian BN, 123456789"),
    ("ca_gst_hst", "Canadian GST/HST, 123456789RT0002"),
    ("es_cif", "Spanish CIF, A12345678"),
    ("nz_gst", "New Zealand GST, 123456789"),
];

/// The country of an id of this type, if it is written as one; `country` is the only one that counts, if given.
pub(super) fn country_of(kind: &str, value: &str, country: Option<&str>) -> Option<&'static str> {
    let given = bare(value);
    let fits = |form: &&str| {
        let form = bare(form);
        form.len() == given.len()
            && form.bytes().zip(given.bytes()).all(|(wanted, found)| match wanted {
                b'#' => found.is_ascii_digit(),
                b'@' => found.is_ascii_uppercase(),
                b'?' => found.is_ascii_digit() || found.is_ascii_uppercase(),
                literal => literal == found,
            })
    };
    let found = FORMS.iter().find(|(of, known, forms)| {
        *known == kind && country.is_none_or(|country| country == *of) && forms.iter().any(&fits)
    });
    found.map(|(country, ..)| *country)
}

fn bare(value: &str) -> String {
    value.chars().filter(|c| !matches!(c, ' ' | '.' | '-')).flat_map(char::to_uppercase).collect()
}

pub(super) fn create(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = living(tx, call.id(), "id")?;
    let kind = call.params.required("type")?;
    let value = call.params.required("value")?;
    if TYPES.iter().all(|(known, _)| *known != kind) {
        return Err(ApiError::invalid("parameter_invalid", format!("Invalid type: {kind}"), "type"));
    }
    if country_of(&kind, &value, None).is_none() {
        return Err(ApiError::invalid("tax_id_invalid", format!("Invalid value for {kind}."), "value"));
    }
    Ok(add(tx, customer, &kind, &value))
}

/// Gives the customer a tax id; one that they have already is not doubled.
pub(super) fn add(tx: &mut Tx<'_>, mut customer: Value, kind: &str, value: &str) -> Value {
    let mut own = of_customer(&customer).to_vec();
    if let Some(same) = own.iter().find(|one| text(one, "type") == kind && text(one, "value") == value) {
        return same.clone();
    }
    let id = text(&customer, "id").to_owned();
    let made = json!({
        "id": Tx::id("txi_"), "object": "tax_id", "country": country_of(kind, value, None), "created": tx.now,
        "customer": id, "customer_account": null, "livemode": false, "owner": {"type": "customer", "customer": id},
        "type": kind, "value": value,
        "verification": {"status": "pending", "verified_address": null, "verified_name": null},
    });
    own.push(made.clone());
    customer["_tax_ids"] = list_of(own, &format!("/v1/customers/{id}/tax_ids"));
    tx.put(customer);
    tx.created(made, "customer.tax_id.created")
}

/// The customer's tax ids, the oldest first.
pub(super) fn of_customer(customer: &Value) -> &[Value] {
    customer["_tax_ids"]["data"].as_array().map_or(&[], Vec::as_slice)
}

/// As sessions and invoices show them.
pub(super) fn shown(customer: &Value) -> Value {
    of_customer(customer).iter().map(|one| json!({"type": one["type"], "value": one["value"]})).collect()
}

pub(super) fn list(tx: &mut Tx<'_>, call: &mut Call) -> Result<Value> {
    let customer = living(tx, call.id(), "id")?;
    page_of(tx, call, "tax_id", Some(text(&customer, "id")), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_written_as_its_type() {
        for (kind, label) in TYPES {
            let (_, example) = label.split_once(", ").unwrap();
            assert!(country_of(kind, example, None).is_some(), "{label}");
        }
        for (_, kind, _) in FORMS {
            assert!(TYPES.iter().any(|(known, _)| *known == kind), "{kind} cannot be chosen");
        }
    }

    #[test]
    fn an_id_is_of_its_country_and_of_no_other() {
        assert_eq!(country_of("eu_vat", "de 123.456.789", None), Some("DE"));
        assert_eq!(country_of("eu_vat", "DE123456789", Some("DE")), Some("DE"));
        for (kind, value, country) in [
            ("eu_vat", "DE123456789", Some("FR")),
            ("eu_vat", "DE12345678", None),
            ("eu_vat", "DE12345678Ä", None),
            ("us_ein", "12-34567890", None),
            ("ch_vat", "CHE-123.456.789", None),
            ("gb_vat", "", None),
            ("none", "DE123456789", None),
        ] {
            assert_eq!(country_of(kind, value, country), None, "{kind} {value} {country:?}");
        }
    }
}

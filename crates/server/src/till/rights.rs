//! The rights that a restricted key of Stripe's needs: one row for each kind of call that is made, and no other call
//! is made. `docs/operations.md` has the same table for operators; a test holds the two together.
//! <https://docs.stripe.com/keys/restricted-api-keys>

/// What of an account, how much of it, and the calls that need it: method and path, where `*` is an id.
pub(super) type Right = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

pub(super) const RIGHTS: &[Right] = &[
    ("Customers", "Write", &[("POST", "/v1/customers")]),
    ("Products", "Write", &[("POST", "/v1/products")]),
    ("Prices", "Write", &[("GET", "/v1/prices"), ("POST", "/v1/prices")]),
    (
        "Checkout Sessions",
        "Write",
        &[
            ("GET", "/v1/checkout/sessions"),
            ("POST", "/v1/checkout/sessions"),
            ("GET", "/v1/checkout/sessions/*"),
            ("POST", "/v1/checkout/sessions/*/expire"),
        ],
    ),
    ("Customer portal", "Write", &[("POST", "/v1/billing_portal/sessions")]),
    (
        "Subscriptions",
        "Write",
        &[
            ("GET", "/v1/subscriptions"),
            ("GET", "/v1/subscriptions/*"),
            ("POST", "/v1/subscriptions/*"),
            ("DELETE", "/v1/subscriptions/*"),
        ],
    ),
    (
        "Invoices",
        "Write",
        &[("GET", "/v1/invoices"), ("GET", "/v1/invoices/*"), ("POST", "/v1/invoices/create_preview")],
    ),
    ("Charges and Refunds", "Read", &[("GET", "/v1/refunds")]),
    ("Disputes", "Read", &[("GET", "/v1/disputes")]),
    ("Account", "Read", &[("GET", "/v1/account")]),
];

/// Whether a call is covered by what operators are told to grant.
pub(super) fn is_covered(method: &str, path: &str) -> bool {
    let calls = RIGHTS.iter().flat_map(|(_, _, calls)| *calls);
    calls.into_iter().any(|(known, pattern)| *known == method && is_of(pattern, path))
}

fn is_of(pattern: &str, path: &str) -> bool {
    let (mut parts, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (parts.next(), found.next()) {
            (None, None) => return true,
            (Some("*"), Some(id)) if !id.is_empty() => {}
            (Some(word), Some(part)) if word == part => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_what_a_key_needs() {
        let page = include_str!("../../../../docs/operations.md");
        let (_, section) = page.split_once("## Stripe's key").expect("the section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        let due: Vec<String> = RIGHTS.iter().map(|(what, how, _)| format!("| {what} | {how} |")).collect();
        assert_eq!(rows.len(), due.len(), "{rows:#?}");
        for (row, due) in rows.iter().zip(&due) {
            assert!(row.starts_with(due), "{row} is not {due}");
        }
    }

    #[test]
    fn only_what_is_listed_is_covered() {
        assert!(is_covered("DELETE", "/v1/subscriptions/sub_1") && is_covered("POST", "/v1/invoices/create_preview"));
        for (method, path) in [
            ("POST", "/v1/refunds"),
            ("DELETE", "/v1/customers/cus_1"),
            ("GET", "/v1/subscriptions/"),
            ("GET", "/v1/subscriptions/sub_1/items"),
            ("POST", "/v1/invoices"),
        ] {
            assert!(!is_covered(method, path), "{method} {path}");
        }
    }
}

//! What the checkout page asks for beside the card: the billing address and a business's tax id, each when the session
//! says so.

use serde_json::{Value, json};

use super::form::{Params, nullable};
use super::state::text;
use super::tax_ids::{TYPES, country_of};

/// Countries whose addresses have a state or province.
const WITH_STATES: [&str; 3] = ["US", "CA", "AU"];
/// The longest line that is taken (characters).
const LONGEST: usize = 200;

/// What was typed, and what is wrong with each field.
#[derive(Clone, Debug, Default)]
pub(super) struct BuyerForm {
    pub(super) asks_address: bool,
    pub(super) asks_tax_id: bool,
    pub(super) line1: Field,
    pub(super) line2: Field,
    pub(super) city: Field,
    pub(super) state: Field,
    pub(super) postal_code: Field,
    pub(super) business_name: Field,
    pub(super) tax_id: Field,
    pub(super) tax_id_type: String,
    pub(super) types: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Field {
    pub(super) value: String,
    pub(super) error: &'static str,
}

/// A business that buys: its legal name, and its tax id by type and value.
#[derive(Clone, Debug)]
pub(super) struct Business {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) tax_id: String,
}

impl BuyerForm {
    /// What the session asks for, with what is known of the customer.
    pub(super) fn of(session: &Value, customer: &Value) -> Self {
        let known = |name: &str| Field { value: text(&customer["address"], name).to_owned(), error: "" };
        Self {
            asks_address: session["billing_address_collection"] == "required",
            asks_tax_id: session["tax_id_collection"]["enabled"] == true,
            line1: known("line1"),
            line2: known("line2"),
            city: known("city"),
            state: known("state"),
            postal_code: known("postal_code"),
            types: TYPES.to_vec(),
            ..Self::default()
        }
    }

    /// Reads what was typed; what is wrong is then said by the form.
    pub(super) fn read(&mut self, body: &str, country: &str) {
        let mut params = Params::parse(body).unwrap_or_default();
        let mut field = |name| {
            let typed = params.text(name).ok().flatten().unwrap_or_default();
            let value: String = typed.trim().chars().take(LONGEST).collect();
            Field { value, error: "" }
        };
        if self.asks_address {
            self.line1 = field("line1");
            self.line2 = field("line2");
            self.city = field("city");
            self.state = field("state");
            self.postal_code = field("postal_code");
            self.check_address(country);
        }
        if self.asks_tax_id {
            self.business_name = field("business_name");
            self.tax_id = field("tax_id");
            self.tax_id_type = field("tax_id_type").value;
            self.check_tax_id(country);
        }
    }

    fn check_address(&mut self, country: &str) {
        for field in [&mut self.line1, &mut self.city, &mut self.postal_code] {
            if field.value.is_empty() {
                field.error = "Required";
            }
        }
        if WITH_STATES.contains(&country) && self.state.value.is_empty() {
            self.state.error = "Required";
        }
        if country == "US" && self.postal_code.error.is_empty() && !is_zip(&self.postal_code.value) {
            self.postal_code.error = "Your ZIP is invalid.";
        }
    }

    /// A business has both a name and an id; who leaves both out is none.
    fn check_tax_id(&mut self, country: &str) {
        if self.business_name.value.is_empty() && self.tax_id.value.is_empty() {
            return;
        }
        if self.business_name.value.is_empty() {
            self.business_name.error = "Required";
        }
        if self.tax_id.value.is_empty() {
            self.tax_id.error = "Required";
        } else if country_of(&self.tax_id_type, &self.tax_id.value, Some(country)).is_none() {
            self.tax_id.error = "Your tax ID is not written as one of this type and country.";
        }
    }

    pub(super) fn has_error(&self) -> bool {
        let address = [&self.line1, &self.line2, &self.city, &self.state, &self.postal_code];
        address.into_iter().chain([&self.business_name, &self.tax_id]).any(|field| !field.error.is_empty())
    }

    /// The address as Stripe keeps it; the country alone where no more is asked for.
    pub(super) fn address(&self, country: &str) -> Value {
        let or_null = |field: &Field| nullable(field.value.clone());
        if !self.asks_address {
            return json!({"city": null, "country": country, "line1": null, "line2": null, "postal_code": null,
                "state": null});
        }
        json!({"city": or_null(&self.city), "country": country, "line1": or_null(&self.line1),
            "line2": or_null(&self.line2), "postal_code": or_null(&self.postal_code), "state": or_null(&self.state)})
    }

    pub(super) fn business(&self) -> Option<Business> {
        let (name, kind, tax_id) = (&self.business_name.value, &self.tax_id_type, &self.tax_id.value);
        (!tax_id.is_empty()).then(|| Business { name: name.clone(), kind: kind.clone(), tax_id: tax_id.to_uppercase() })
    }
}

/// `12345` or `12345-6789`
fn is_zip(text: &str) -> bool {
    let (first, rest) = text.split_once('-').unwrap_or((text, "0000"));
    [(first, 5), (rest, 4)]
        .iter()
        .all(|(part, length)| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(asks: (bool, bool), body: &str, country: &str) -> BuyerForm {
        let mut form = BuyerForm { asks_address: asks.0, asks_tax_id: asks.1, ..BuyerForm::default() };
        form.read(body, country);
        form
    }

    #[test]
    fn an_address_is_asked_for_as_its_country_has_it() {
        let form = read((true, false), "", "US");
        let errors = [&form.line1, &form.line2, &form.city, &form.state, &form.postal_code].map(|field| field.error);
        assert_eq!(errors, ["Required", "", "Required", "Required", "Required"]);
        let german = "line1=Hauptstr.+1&city=Berlin&postal_code=10115";
        assert!(!read((true, false), german, "DE").has_error());
        assert_eq!(read((true, false), german, "US").state.error, "Required");
        for (zip, good) in
            [("94110", true), ("94110-1234", true), ("9411", false), ("94110-", false), ("941１0", false)]
        {
            let form = read((true, false), &format!("line1=1+Main&city=A&state=CA&postal_code={zip}"), "US");
            assert_eq!(form.postal_code.error.is_empty(), good, "{zip}");
        }
        assert!(!read((false, false), "", "US").has_error(), "a session that asks for nothing needs nothing");
    }

    #[test]
    fn a_business_has_a_name_and_an_id_of_its_country() {
        let business = "business_name=Acme&tax_id_type=eu_vat&tax_id=de123456789";
        let form = read((false, true), business, "DE");
        assert!(!form.has_error());
        assert_eq!(form.business().map(|one| (one.name, one.tax_id)), Some(("Acme".into(), "DE123456789".into())));
        assert!(!read((false, true), business, "FR").tax_id.error.is_empty());
        assert_eq!(read((false, true), "tax_id_type=eu_vat&tax_id=DE123456789", "DE").business_name.error, "Required");
        assert_eq!(read((false, true), "business_name=Acme", "DE").tax_id.error, "Required");
        assert!(read((false, true), "tax_id_type=us_ein", "US").business().is_none(), "a type alone says nothing");
        assert!(read((false, false), business, "DE").business().is_none(), "what is not asked for is not taken");
    }
}

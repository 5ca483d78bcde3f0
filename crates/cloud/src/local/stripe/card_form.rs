//! The card form that the checkout page and the portal share: what was typed, and what is wrong with it.
//!
//! It works without JavaScript, so that everything is checked here. Card data is never shown again.

use super::calendar;
use super::cards::{self, Entered, TEST_CARDS};
use super::error::ApiError;
use super::form::Params;

const COUNTRIES: [(&str, &str); 14] = [
    ("US", "United States"),
    ("AU", "Australia"),
    ("AT", "Austria"),
    ("CA", "Canada"),
    ("FR", "France"),
    ("DE", "Germany"),
    ("IE", "Ireland"),
    ("IT", "Italy"),
    ("NL", "Netherlands"),
    ("NZ", "New Zealand"),
    ("ES", "Spain"),
    ("SE", "Sweden"),
    ("CH", "Switzerland"),
    ("GB", "United Kingdom"),
];

/// The card form's values that may be shown again, and what is wrong with each field.
#[derive(Clone, Debug, Default)]
pub(super) struct CardForm {
    pub(super) email: String,
    pub(super) email_is_fixed: bool,
    pub(super) name: String,
    pub(super) country: String,
    pub(super) email_error: &'static str,
    pub(super) number_error: String,
    pub(super) expiry_error: String,
    pub(super) cvc_error: String,
    pub(super) name_error: &'static str,
    pub(super) countries: Vec<(&'static str, &'static str)>,
    pub(super) test_cards: Vec<(&'static str, &'static str)>,
}

impl CardForm {
    pub(super) fn empty(email: &str, name: &str) -> Self {
        Self {
            email: email.to_owned(),
            email_is_fixed: !email.is_empty(),
            name: name.to_owned(),
            country: "US".to_owned(),
            countries: COUNTRIES.to_vec(),
            test_cards: TEST_CARDS.to_vec(),
            ..Self::default()
        }
    }

    /// Reads what was typed. The card is none when something is wrong with it, which the form then says.
    pub(super) fn read(&mut self, body: &str, now: i64) -> Option<Entered> {
        let mut params = Params::parse(body).unwrap_or_default();
        let mut field = |name| params.text(name).ok().flatten().unwrap_or_default().trim().to_owned();
        if !self.email_is_fixed {
            self.email = field("email");
        }
        self.name = field("name");
        self.set_country(&field("country"));
        let mut card = Entered { number: field("number"), cvc: field("cvc"), ..Entered::default() };
        let expiry = field("expiry");
        self.check(&mut card, &expiry, now);
        if self.has_error() {
            return None;
        }
        match card.check(now) {
            Ok(()) => Some(card),
            Err(error) => {
                self.refuse(&error);
                None
            }
        }
    }

    /// Chooses a country; one that is not offered changes nothing.
    pub(super) fn set_country(&mut self, country: &str) {
        if COUNTRIES.iter().any(|(code, _)| *code == country) {
            country.clone_into(&mut self.country);
        }
    }

    pub(super) fn has_error(&self) -> bool {
        !(self.email_error.is_empty()
            && self.number_error.is_empty()
            && self.expiry_error.is_empty()
            && self.cvc_error.is_empty()
            && self.name_error.is_empty())
    }

    /// Says what a form can see by itself, in the words of Stripe's own card field.
    fn check(&mut self, card: &mut Entered, expiry: &str, now: i64) {
        let (local, domain) = self.email.split_once('@').unwrap_or_default();
        if self.email.is_empty() {
            self.email_error = "Required";
        } else if local.is_empty() || domain.is_empty() || self.email.len() > 254 {
            self.email_error = "Your email is invalid.";
        }
        if self.name.is_empty() {
            self.name_error = "Required";
        }
        let digits = card.digits();
        if digits.len() < 13 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            "Your card number is incomplete.".clone_into(&mut self.number_error);
        } else if !cards::is_luhn(&digits) {
            "Your card number is invalid.".clone_into(&mut self.number_error);
        }
        let (year, month) = calendar::year_month(now);
        match read_expiry(expiry) {
            None => "Your card's expiration date is incomplete.".clone_into(&mut self.expiry_error),
            Some((given, _)) if !(1..=12).contains(&given) => {
                "Your card's expiration date is invalid.".clone_into(&mut self.expiry_error);
            }
            Some((_, given)) if given < year => {
                "Your card's expiration year is in the past.".clone_into(&mut self.expiry_error);
            }
            Some((given, in_year)) if in_year == year && given < month => {
                "Your card's expiration date is in the past.".clone_into(&mut self.expiry_error);
            }
            Some((given, in_year)) => (card.month, card.year) = (given, in_year),
        }
        if card.cvc.len() < 3 {
            "Your card's security code is incomplete.".clone_into(&mut self.cvc_error);
        }
    }

    /// Puts what the bank said beside the field that it is about.
    pub(super) fn refuse(&mut self, error: &ApiError) {
        let field = match error.code {
            Some("expired_card" | "invalid_expiry_month" | "invalid_expiry_year") => &mut self.expiry_error,
            Some("incorrect_cvc" | "invalid_cvc") => &mut self.cvc_error,
            _ => &mut self.number_error,
        };
        field.clone_from(&error.message);
    }
}

/// `12 / 34`, `12/2034`, `1234`: month and year.
fn read_expiry(text: &str) -> Option<(i64, i64)> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let (month, year) = match text.split_once(['/', '-']) {
        Some(parts) => parts,
        None => text.split_at_checked(2)?,
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(month) || !all_digits(year) || month.len() > 2 {
        return None;
    }
    let year: i64 = match year.len() {
        2 => 2_000 + year.parse::<i64>().ok()?,
        4 => year.parse().ok()?,
        _ => return None,
    };
    Some((month.parse().ok()?, year))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_read_however_it_is_typed() {
        for text in ["12 / 34", "12/34", "1234", "12/2034", "122034", " 12-34 "] {
            assert_eq!(read_expiry(text), Some((12, 2034)), "{text}");
        }
        for text in ["", "1", "12", "12/", "/34", "12/345", "ab/cd", "+1/34", "é2/34", "12/3é", "１２/34"] {
            assert_eq!(read_expiry(text), None, "{text}");
        }
    }

    #[test]
    fn every_field_says_what_is_wrong_with_it() {
        let now = 1_795_562_204; // 24 November 2026
        let read = |body: &str| {
            let mut form = CardForm::empty("", "");
            assert!(form.read(body, now).is_none(), "{body}");
            form
        };
        let form = read("");
        assert_eq!((form.email_error, form.name_error), ("Required", "Required"));
        assert_eq!(form.number_error, "Your card number is incomplete.");
        assert_eq!(form.expiry_error, "Your card's expiration date is incomplete.");
        assert_eq!(form.cvc_error, "Your card's security code is incomplete.");
        let form = read("email=nobody&number=4242424242424241&expiry=12/25&cvc=123&name=A");
        assert_eq!((form.email_error, form.name_error), ("Your email is invalid.", ""));
        assert_eq!(form.number_error, "Your card number is invalid.");
        assert_eq!(form.expiry_error, "Your card's expiration year is in the past.");
        assert_eq!(read("expiry=10/26").expiry_error, "Your card's expiration date is in the past.");
        let form = read("email=a@b.c&number=4242424242424242&expiry=12/40&cvc=abc&name=A");
        assert_eq!(form.cvc_error, "Your card's security code is invalid.");
    }
}

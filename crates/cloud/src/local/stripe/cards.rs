//! Cards: what is checked about one, and what Stripe's test cards do.
//!
//! <https://docs.stripe.com/testing> lists the numbers, <https://docs.stripe.com/error-codes> the codes.

use serde_json::{Value, json};

use super::calendar;
use super::error::{ApiError, Result};

/// What a page and Stripe's documentation list: number, what it does.
pub(super) const TEST_CARDS: [(&str, &str); 7] = [
    ("4242 4242 4242 4242", "succeeds"),
    ("4000 0000 0000 0002", "is declined"),
    ("4000 0000 0000 9995", "has insufficient funds"),
    ("4000 0000 0000 0069", "has expired"),
    ("4000 0000 0000 0127", "has an incorrect security code"),
    ("4000 0000 0000 0341", "is accepted, and later charges fail"),
    ("4000 0000 0000 0259", "succeeds, and each payment is disputed"),
];

/// What becomes of charges to a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Succeeds,
    /// Refused wherever it is used: code, decline code, message.
    Refused(&'static str, Option<&'static str>, &'static str),
    /// Accepted when it is entered, declined when it is charged later.
    FailsLater,
    /// Each charge succeeds and is then disputed for this reason: as an inquiry only, or in earnest.
    Disputed(&'static str, Stage),
}

/// How far a dispute has gone: <https://docs.stripe.com/disputes/how-disputes-work>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The bank asks; no money has moved.
    Inquiry,
    Chargeback,
}

const DECLINED: &str = "Your card was declined.";
const NOT_A_TEST_CARD: Fate = Fate::Refused(
    "card_declined",
    Some("test_mode_live_card"),
    "Your card was declined. Your request was in test mode, but used a non test card. For a list of valid test \
     cards, visit: https://stripe.com/docs/testing.",
);

/// What `digits` does; every number that is not a test card is refused.
pub(super) fn fate(digits: &str) -> Fate {
    match digits {
        "4242424242424242" | "4000056655665556" | "5555555555554444" | "378282246310005" | "6011111111111117" => {
            Fate::Succeeds
        }
        "4000000000000002" => Fate::Refused("card_declined", Some("generic_decline"), DECLINED),
        "4000000000009995" => {
            Fate::Refused("card_declined", Some("insufficient_funds"), "Your card has insufficient funds.")
        }
        "4000000000000069" => Fate::Refused("expired_card", None, "Your card has expired."),
        "4000000000000127" => Fate::Refused("incorrect_cvc", None, "Your card's security code is incorrect."),
        "4000000000000341" => Fate::FailsLater,
        "4000000000000259" => Fate::Disputed("fraudulent", Stage::Chargeback),
        "4000000000002685" => Fate::Disputed("product_not_received", Stage::Chargeback),
        "4000000000001976" => Fate::Disputed("fraudulent", Stage::Inquiry),
        _ => NOT_A_TEST_CARD,
    }
}

impl Fate {
    /// As the card is entered.
    pub(super) fn check_entry(self) -> Result<()> {
        match self {
            Self::Succeeds | Self::FailsLater | Self::Disputed(..) => Ok(()),
            Self::Refused(code, decline_code, message) => Err(ApiError::card(code, decline_code, message, param(code))),
        }
    }

    /// As it is charged when nobody is there to enter it.
    pub(super) fn check_charge(self) -> Result<()> {
        match self {
            Self::FailsLater => Err(ApiError::card("card_declined", Some("generic_decline"), DECLINED, "")),
            other => other.check_entry(),
        }
    }
}

fn param(code: &str) -> &'static str {
    match code {
        "expired_card" => "exp_month",
        "incorrect_cvc" => "cvc",
        _ => "",
    }
}

/// A card as it is typed.
#[derive(Clone, Debug, Default)]
pub(super) struct Entered {
    pub(super) number: String,
    pub(super) month: i64,
    pub(super) year: i64,
    pub(super) cvc: String,
}

impl Entered {
    /// Digits alone.
    pub(super) fn digits(&self) -> String {
        self.number.chars().filter(|c| !matches!(c, ' ' | '-')).collect()
    }

    /// Checks what can be checked without asking a bank, and then asks the test bank.
    pub(super) fn check(&self, now: i64) -> Result<()> {
        let digits = self.digits();
        if !is_luhn(&digits) {
            return Err(ApiError::card("incorrect_number", None, "Your card number is incorrect.", "number"));
        }
        if !(1..=12).contains(&self.month) {
            let message = "Your card's expiration month is invalid.";
            return Err(ApiError::card("invalid_expiry_month", None, message, "exp_month"));
        }
        let (year, month) = calendar::year_month(now);
        if !(year..=year + 50).contains(&self.year) {
            let message = "Your card's expiration year is invalid.";
            return Err(ApiError::card("invalid_expiry_year", None, message, "exp_year"));
        }
        if self.year == year && self.month < month {
            let message = "Your card's expiration month is invalid.";
            return Err(ApiError::card("invalid_expiry_month", None, message, "exp_month"));
        }
        let wanted = if brand(&digits) == "amex" { 4 } else { 3 };
        if self.cvc.len() != wanted || !self.cvc.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::card("invalid_cvc", None, "Your card's security code is invalid.", "cvc"));
        }
        fate(&digits).check_entry()
    }

    /// The `card` of a payment method.
    pub(super) fn object(&self) -> Value {
        let digits = self.digits();
        json!({
            "brand": brand(&digits), "checks": {"address_line1_check": null, "address_postal_code_check": null,
                "cvc_check": "pass"},
            "country": "US", "display_brand": brand(&digits), "exp_month": self.month, "exp_year": self.year,
            "funding": "credit", "generated_from": null, "last4": &digits[digits.len().saturating_sub(4)..],
            "networks": {"available": [brand(&digits)], "preferred": null},
            "three_d_secure_usage": {"supported": true}, "wallet": null,
        })
    }
}

fn brand(digits: &str) -> &'static str {
    match digits.as_bytes() {
        [b'4', ..] => "visa",
        [b'5', ..] => "mastercard",
        [b'3', b'4' | b'7', ..] => "amex",
        [b'6', ..] => "discover",
        _ => "unknown",
    }
}

/// 12 to 19 digits whose weighted sum is a multiple of ten (ISO/IEC 7812-1).
pub(super) fn is_luhn(digits: &str) -> bool {
    if !(12..=19).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let weighted = digits.bytes().rev().enumerate().map(|(index, byte)| {
        let digit = u32::from(byte - b'0') << (index % 2);
        if digit > 9 { digit - 9 } else { digit }
    });
    weighted.sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_card_is_a_card_and_none_is_taken_for_another() {
        for (number, _) in TEST_CARDS {
            let digits = number.replace(' ', "");
            assert!(is_luhn(&digits), "{number}");
            assert_ne!(fate(&digits), NOT_A_TEST_CARD, "{number}");
        }
        assert_eq!(fate("4111111111111111"), NOT_A_TEST_CARD);
    }

    #[test]
    fn a_card_is_good_until_the_end_of_its_month() {
        let now = 1_795_562_204; // 24 November 2026
        let card = |month, year| Entered { number: "4242-4242 42424242".into(), month, year, cvc: "123".into() };
        assert_eq!(card(11, 2026).check(now), Ok(()));
        assert_eq!(card(10, 2026).check(now).unwrap_err().code, Some("invalid_expiry_month"));
        assert_eq!(card(12, 2025).check(now).unwrap_err().code, Some("invalid_expiry_year"));
        assert_eq!(card(13, 2027).check(now).unwrap_err().code, Some("invalid_expiry_month"));
    }
}

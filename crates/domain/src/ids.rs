//! Ids. Each kind is a type of its own, so that one is never taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a {kind}: {rule}")]
pub struct BadId {
    pub kind: &'static str,
    pub value: String,
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let value = text.chars().take(80).collect();
                    Err(BadId { kind: $kind, value, rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Letters, digits and dashes, 1 to 64 of them: what a uuid or a cloud's own id looks like.
fn plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

id!(
    /// The company that buys, and its subdomain: `acme-law-7f3k`.
    ClientId, "client id", "lower-case letters, digits and single dashes, 3 to 40 characters", names::is_label
);
id!(
    /// A person of a client.
    MemberId, "member id", "letters, digits and dashes", plain
);
id!(
    /// A machine that runs stacks, as its cloud names it: `i-0f3a…`.
    InstanceId, "instance id", "letters, digits and dashes", plain
);
id!(
    /// A durable list of steps.
    FlowId, "flow id", "letters, digits and dashes", plain
);
id!(
    /// The SHA-256 of a certificate (its DER), by which one end of a connection knows the other.
    Fingerprint, "fingerprint", "64 lower-case hex digits",
    |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);
id!(
    /// A row of the ledger.
    ResourceId, "resource id", "letters, digits and dashes", plain
);

impl Fingerprint {
    pub fn of(sha256: [u8; 32]) -> Self {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        Self(sha256.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect())
    }
}

impl ResourceId {
    /// Of the role of this instance: each has one of its own.
    pub fn role(&self) -> Self {
        const SUFFIX: &str = "-role";
        // Ours are uuids; whatever else it may be, it stays an id.
        let stem = &self.0[..self.0.len().min(64 - SUFFIX.len())];
        Self(format!("{stem}{SUFFIX}"))
    }
}

impl ClientId {
    /// The id of a new client: what is speakable of the company's name, and four random characters,
    /// so that two firms of one name do not meet and nobody can guess who else is a client.
    pub fn generate(company: &str, random: u64) -> Self {
        Self(format!("{}-{}", names::slug(company, 30), names::suffix(random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_comes_from_the_company_and_is_a_valid_label() {
        for company in ["Acme Law", "Müller & Söhne GmbH", "株式会社", "  ", "a--b..c", &"x".repeat(200)] {
            let id = ClientId::generate(company, 0x1234_5678_9abc);
            assert_eq!(id.as_str().parse::<ClientId>().unwrap(), id, "{company}");
        }
        assert!(ClientId::generate("Acme Law", 7).as_str().starts_with("acme-law-"));
    }

    #[test]
    fn an_instances_role_has_an_id_of_its_own() {
        for instance in ["0199c1d4-8a7e-7c3f-9a55-6f1d2e3c4b5a", &"x".repeat(64)] {
            let role = instance.parse::<ResourceId>().unwrap().role();
            assert_eq!(role.as_str().parse::<ResourceId>().unwrap(), role);
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let mut digest = [0; 32];
        (digest[0], digest[31]) = (0x5c, 0xf0);
        let fingerprint = Fingerprint::of(digest);
        assert!(fingerprint.as_str().starts_with("5c00") && fingerprint.as_str().ends_with("00f0"));
        assert_eq!(fingerprint.as_str().parse::<Fingerprint>().unwrap(), fingerprint);
        assert!("5C".repeat(32).parse::<Fingerprint>().is_err() && "5c".parse::<Fingerprint>().is_err());
    }

    #[test]
    fn hostile_ids_are_refused_with_the_rule() {
        for bad in ["", "a", "-ab", "ab-", "a--b", "Acme", "a.b", "../etc", "a/b", "a\0b", &"x".repeat(41)] {
            let error = bad.parse::<ClientId>().unwrap_err();
            assert!(error.to_string().contains("single dashes"), "{bad}");
        }
    }
}

//! Whose sign-up is a new trial: one for each company, and one for each address at a provider that anybody can use.
//!
//! A company is known by the domain of its mail addresses. Which domains are a public provider's, and which are of
//! addresses that are thrown away, is in two lists (`mail_domains/README.md` says whose); an operator's file changes
//! what they say, and names whom no rule stops.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

/// What a domain or an address is, for a sign-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No rule stops it.
    Allowed,
    /// Of a provider at which anybody gets an address.
    Public,
    /// Of addresses that are thrown away.
    Disposable,
    /// A company's own.
    Company,
}

/// What may be signed up with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The operator said so: whatever was before.
    Allowed,
    /// Nothing: the domain is of addresses that are thrown away.
    Disposable { domain: String },
    /// One trial in all, for whoever this is.
    OneTrial(Claimant),
}

/// Who has one trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// Everybody at this domain.
    Company(String),
    /// Whose address this is, however they write it.
    Person(String),
}

/// The operator's own rules, before those that everybody has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By domain or whole address.
    own: BTreeMap<String, Kind>,
}

/// Domains that two labels do not tell apart: below these, names are given to different people.
const SHARED: [&str; 9] = ["ac", "co", "com", "edu", "gob", "gov", "net", "or", "org"];

fn list(text: &'static str) -> HashSet<&'static str> {
    text.lines().collect()
}

static DISPOSABLE: LazyLock<HashSet<&str>> = LazyLock::new(|| list(include_str!("mail_domains/disposable.txt")));
static PUBLIC: LazyLock<HashSet<&str>> = LazyLock::new(|| list(include_str!("mail_domains/public.txt")));

impl Rules {
    /// Each line a word and what it is about: `allow acme.example`, `allow ann@gmail.com`, `public mail.example`,
    /// `disposable throwaway.example`, `company law.com`. Empty lines and those that begin with `#` say nothing. The
    /// error is for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut own = BTreeMap::new();
        for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words = line.split_once(char::is_whitespace);
            let (word, about) = words.map_or((line, ""), |(word, about)| (word, about.trim()));
            let (domain, address) = (crate::names::email(&format!("x@{about}")), crate::names::email(about));
            let (kind, known) = match word {
                "allow" => (Kind::Allowed, domain.is_some() || address.is_some()),
                "public" => (Kind::Public, domain.is_some()),
                "disposable" => (Kind::Disposable, domain.is_some()),
                "company" => (Kind::Company, domain.is_some()),
                _ => {
                    return Err(format!("line {number}: {word} is none of allow, public, disposable and company"));
                }
            };
            if !known {
                let wanted = if kind == Kind::Allowed { "a domain or an address" } else { "a domain" };
                return Err(format!("line {number}: after {word} comes {wanted}, such as acme.example"));
            }
            own.insert(about.to_ascii_lowercase(), kind);
        }
        Ok(Self { own })
    }

    /// `email` is as [`crate::names::email`] returns it.
    pub fn judge(&self, email: &str) -> Admission {
        let (local, domain) = email.rsplit_once('@').unwrap_or(("", email));
        if self.own.get(email) == Some(&Kind::Allowed) {
            return Admission::Allowed;
        }
        match self.kind(domain) {
            Kind::Allowed => Admission::Allowed,
            Kind::Disposable => Admission::Disposable { domain: domain.to_owned() },
            Kind::Public => Admission::OneTrial(Claimant::Person(person(local, domain))),
            Kind::Company => Admission::OneTrial(Claimant::Company(registered(domain))),
        }
    }

    /// What the nearest list says of a domain or of one that it is below: the operator's word comes first.
    fn kind(&self, domain: &str) -> Kind {
        let own = above(domain).find_map(|name| self.own.get(name)).copied();
        own.unwrap_or_else(|| {
            let known = above(domain).find_map(|name| {
                let disposable = DISPOSABLE.contains(name).then_some(Kind::Disposable);
                disposable.or_else(|| PUBLIC.contains(name).then_some(Kind::Public))
            });
            known.unwrap_or(Kind::Company)
        })
    }
}

/// A domain and those that it is below, itself first.
fn above(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(domain), |name| name.split_once('.').map(|(_, rest)| rest))
}

/// The domain that someone has registered: who has one makes as many below it as they like. It is its last two
/// labels, or three where a country divides its names (`acme.co.uk`).
fn registered(domain: &str) -> String {
    let labels: Vec<&str> = domain.split('.').collect();
    let divided = matches!(labels.as_slice(), [.., second, top] if top.len() == 2 && SHARED.contains(second));
    let kept = if divided { 3 } else { 2 };
    labels[labels.len().saturating_sub(kept)..].join(".")
}

/// One mailbox, however its address is written: what follows a plus says nothing of where it goes
/// (<https://www.rfc-editor.org/rfc/rfc5233>), nor do dots at Google
/// (<https://support.google.com/mail/answer/7436150>).
fn person(local: &str, domain: &str) -> String {
    let plain = local.split_once('+').map_or(local, |(before, _)| before);
    let plain = if plain.is_empty() { local } else { plain };
    match domain {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", plain.replace('.', "")),
        _ => format!("{plain}@{domain}"),
    }
}

impl Claimant {
    /// What no two claimants have in common.
    pub fn key(&self) -> String {
        match self {
            Self::Company(domain) => format!("company {domain}"),
            Self::Person(address) => format!("person {address}"),
        }
    }

    /// For people.
    pub fn name(&self) -> &str {
        match self {
            Self::Company(name) | Self::Person(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company(domain: &str) -> Admission {
        Admission::OneTrial(Claimant::Company(domain.into()))
    }

    fn person(address: &str) -> Admission {
        Admission::OneTrial(Claimant::Person(address.into()))
    }

    #[test]
    fn a_company_is_its_domain_and_a_person_at_a_provider_is_their_mailbox() {
        let rules = Rules::default();
        for (email, expected) in [
            ("ann@acme.example", company("acme.example")),
            ("bob+trial2@mail.acme.example", company("acme.example")),
            ("ann@acme.co.uk", company("acme.co.uk")),
            ("ann@x.acme.com.br", company("acme.com.br")),
            ("ann@co.uk.example", company("uk.example")),
            ("a.n.n+2@gmail.com", person("ann@gmail.com")),
            ("ann@googlemail.com", person("ann@gmail.com")),
            ("a.nn+x@gmx.de", person("a.nn@gmx.de")),
            ("+x@gmx.de", person("+x@gmx.de")),
            ("x@mailinator.com", Admission::Disposable { domain: "mailinator.com".into() }),
            ("x@any.mailinator.com", Admission::Disposable { domain: "any.mailinator.com".into() }),
        ] {
            assert_eq!(rules.judge(email), expected, "{email}");
        }
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let text = "# ours\n\nallow Acme.example\nallow ann@mailinator.com\npublic isp.example\ndisposable bad.example\n\
            company gmx.de\n  allow good.bad.example ";
        let rules = Rules::parse(text).unwrap();
        for allowed in ["x@acme.example", "x@sub.acme.example", "ann@mailinator.com", "x@good.bad.example"] {
            assert_eq!(rules.judge(allowed), Admission::Allowed, "{allowed}");
        }
        assert_eq!(rules.judge("x@mailinator.com"), Admission::Disposable { domain: "mailinator.com".into() });
        assert_eq!(rules.judge("x@isp.example"), person("x@isp.example"));
        assert_eq!(rules.judge("x@bad.example"), Admission::Disposable { domain: "bad.example".into() });
        assert_eq!(rules.judge("x@gmx.de"), company("gmx.de"));
    }

    #[test]
    fn a_line_that_says_nothing_is_told_by_its_number() {
        for bad in ["forbid acme.example", "allow", "allow acme", "public ann@acme.example", "company a b.example"] {
            let text = format!("# rules\n{bad}");
            assert!(Rules::parse(&text).unwrap_err().starts_with("line 2: "), "{bad}");
        }
    }

    #[test]
    fn the_lists_are_what_they_say() {
        for (name, list) in [("disposable", &DISPOSABLE), ("public", &PUBLIC)] {
            assert!(list.len() > 5_000, "{name}");
            let bad = list.iter().find(|domain| crate::names::email(&format!("x@{domain}")).is_none());
            assert_eq!(bad, None, "{name} has domains alone");
        }
        assert_eq!(DISPOSABLE.intersection(&PUBLIC).next(), None);
        assert!(["gmail.com", "outlook.com", "t-online.de", "proton.me"].iter().all(|one| PUBLIC.contains(one)));
    }

    #[test]
    fn no_two_claimants_share_a_key() {
        let keys = [Claimant::Company("a.example".into()), Claimant::Person("a.example".into())].map(|one| one.key());
        assert_ne!(keys[0], keys[1]);
    }
}

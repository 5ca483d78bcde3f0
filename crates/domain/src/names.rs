//! Names that people type and the world reads: companies, mail addresses, host names.

/// A DNS label of StackPro's: 3 to 40 of `a-z0-9` and single dashes inside (a stricter RFC 1123 label).
pub fn is_label(text: &str) -> bool {
    (3..=40).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// What of a name can be said in a host name: at most `max` characters, `client` when nothing is left.
pub fn slug(name: &str, max: usize) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        let ascii = match c {
            'a'..='z' | '0'..='9' => c.to_string(),
            'ä' | 'æ' => "ae".into(),
            'ö' | 'ø' | 'œ' => "oe".into(),
            'ü' => "ue".into(),
            'ß' => "ss".into(),
            'à' | 'á' | 'â' | 'ã' | 'å' => "a".into(),
            'è' | 'é' | 'ê' | 'ë' => "e".into(),
            'ì' | 'í' | 'î' | 'ï' => "i".into(),
            'ò' | 'ó' | 'ô' | 'õ' => "o".into(),
            'ù' | 'ú' | 'û' => "u".into(),
            'ç' => "c".into(),
            'ñ' => "n".into(),
            '\'' | '’' | '.' => continue,
            _ => "-".into(),
        };
        if ascii != "-" || !(slug.is_empty() || slug.ends_with('-')) {
            slug.push_str(&ascii);
        }
        if slug.len() >= max {
            break;
        }
    }
    slug.truncate(max);
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "client".into() } else { slug.to_owned() }
}

/// Four characters from a random number, without those that are read wrongly (0 o 1 l i).
pub fn suffix(random: u64) -> String {
    const ALPHABET: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
    let mut left = random;
    (0..4)
        .map(|_| {
            let c = ALPHABET[(left % ALPHABET.len() as u64) as usize];
            left /= ALPHABET.len() as u64;
            char::from(c)
        })
        .collect()
}

/// A mail address as accounts are looked up by: trimmed and lower-cased. `None` when it is not one.
///
/// Stricter than RFC 5321 where that lets through what no mailbox of a person has: quoted local parts,
/// address literals, and domains without a dot.
pub fn email(text: &str) -> Option<String> {
    let text = text.trim();
    let (local, domain) = text.rsplit_once('@')?;
    let local_ok = (1..=64).contains(&local.len())
        && local.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b))
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    let domain_ok = domain.len() <= 253 && domain.contains('.') && domain.split('.').all(is_host_label);
    (local_ok && domain_ok).then(|| text.to_ascii_lowercase())
}

/// The address in `Name <who@domain>` or `who@domain`, as [`email`] returns it.
pub fn mailbox(text: &str) -> Option<String> {
    email(text.rsplit_once('<').map_or(text, |(_, rest)| rest.trim_end().trim_end_matches('>')))
}

/// The domain of an address that [`mailbox`] understands.
pub fn mail_domain(text: &str) -> Option<String> {
    mailbox(text).and_then(|address| Some(address.rsplit_once('@')?.1.to_owned()))
}

/// One label of a host name (RFC 1123): 1 to 63 letters, digits and inner dashes.
fn is_host_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// A `Host` header's name without its port, lower-cased; `None` when it is no host name.
pub fn host(header: &str) -> Option<String> {
    let name = match header.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => header,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (name.len() <= 253 && !name.is_empty() && name.split('.').all(is_host_label)).then(|| name.to_ascii_lowercase())
}

/// A person's or company's name: trimmed, 1 to `max` characters, none of them a control character.
pub fn display_name(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    let length = text.chars().count();
    ((1..=max).contains(&length) && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_and_bad_ones_refused() {
        assert_eq!(email(" Ann@Example.COM ").as_deref(), Some("ann@example.com"));
        for bad in [
            "",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.d",
            "a@b..c",
            "a@-b.c",
            "\"a\"@b.c",
            "a@b.c\r\nBcc: x@y.z",
            "a..b@c.d",
        ] {
            assert_eq!(email(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_lose_their_port_and_their_case() {
        assert_eq!(host("Acme.StackPro.localhost:8080").as_deref(), Some("acme.stackpro.localhost"));
        assert_eq!(host("127.0.0.1:8080").as_deref(), Some("127.0.0.1"));
        for bad in ["", "a b", "a/../b", "a\0", "..", "[::1]:80"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }
}

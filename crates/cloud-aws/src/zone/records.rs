//! Records as they are written here, and as Route 53 writes them.

use aws_sdk_route53::types::{ResourceRecord, ResourceRecordSet, RrType};
use stackpro_cloud::{CloudError, Result};

/// Longest string that a TXT record is made of, in bytes (RFC 1035, 3.3.14).
const TXT_STRING: usize = 255;

/// Everything that is said of one name under one type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordSet {
    /// Lower case, without the final dot.
    pub(crate) name: String,
    pub(crate) kind: RrType,
    pub(crate) ttl_seconds: u32,
    /// As a master file has them, and those of TXT as plain text.
    pub(crate) values: Vec<String>,
}

impl RecordSet {
    pub(crate) fn new(name: impl Into<String>, kind: RrType, ttl_seconds: u32, values: Vec<String>) -> Self {
        Self { name: name.into(), kind, ttl_seconds, values }
    }

    pub(super) fn to_aws(&self) -> Result<ResourceRecordSet> {
        let mut records = Vec::new();
        for value in &self.values {
            let value = if self.kind == RrType::Txt { quote(value) } else { value.clone() };
            records.push(ResourceRecord::builder().value(value).build().map_err(unbuilt)?);
        }
        ResourceRecordSet::builder()
            .name(&self.name)
            .r#type(self.kind.clone())
            .ttl(self.ttl_seconds.into())
            .set_resource_records(Some(records))
            .build()
            .map_err(unbuilt)
    }

    /// An alias has no values.
    pub(super) fn from_aws(raw: &ResourceRecordSet) -> Self {
        let plain = |value: &str| if raw.r#type == RrType::Txt { unquote(value) } else { value.to_owned() };
        Self {
            name: plain_name(&raw.name),
            kind: raw.r#type.clone(),
            ttl_seconds: raw.ttl.and_then(|ttl| u32::try_from(ttl).ok()).unwrap_or_default(),
            values: raw.resource_records().iter().map(|record| plain(&record.value)).collect(),
        }
    }
}

/// What the SDK refuses to send is wrong however often it is tried.
pub(super) fn unbuilt(error: impl std::fmt::Display) -> CloudError {
    CloudError::Refused { call: "route53.ChangeResourceRecordSets", cause: error.to_string() }
}

/// Route 53 ends names with a dot and writes `*` as `\052`.
/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/DomainNameFormat.html>
pub(super) fn plain_name(name: &str) -> String {
    let text = unescape(name.strip_suffix('.').unwrap_or(name));
    text.to_ascii_lowercase()
}

/// <https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat>
fn quote(text: &str) -> String {
    let mut strings = Vec::new();
    for part in text.as_bytes().chunks(TXT_STRING) {
        let mut string = String::from("\"");
        for byte in part {
            match byte {
                b'"' | b'\\' => string.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => string.push(char::from(*byte)),
                other => {
                    let digit = |shift: u8| char::from(b'0' + (other >> shift & 7));
                    string.extend(['\\', digit(6), digit(3), digit(0)]);
                }
            }
        }
        string.push('"');
        strings.push(string);
    }
    if strings.is_empty() { "\"\"".to_owned() } else { strings.join(" ") }
}

fn unquote(value: &str) -> String {
    let (mut inside, mut escaped, mut text) = (false, false, String::new());
    for letter in value.chars() {
        match letter {
            '"' if !escaped => inside = !inside,
            _ if inside => text.push(letter),
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    unescape(&text)
}

/// `\052` is a byte in octal, `\"` is a quote.
fn unescape(text: &str) -> String {
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match (byte, octal) {
            (b'\\', Some(digits)) => {
                plain.push(digits.iter().fold(0_u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit - b'0')));
                at += 4;
            }
            (b'\\', None) => {
                plain.extend(bytes.get(at + 1));
                at += 2;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_come_back_as_they_were() {
        for text in ["", "v=spf1 -all", r#"a "b" \c"#, "größe", &"x".repeat(600), &"\\".repeat(255), "a\"b\\052"] {
            let quoted = quote(text);
            assert!(quoted.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{quoted}");
            assert_eq!(unquote(&quoted), text, "{quoted}");
        }
        assert_eq!(quote(&"x".repeat(300)).matches('"').count(), 4);
        assert_eq!(plain_name("\\052.Example.COM."), "*.example.com");
    }
}

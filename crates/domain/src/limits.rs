//! Limits: what a plan may use, and what to tell whoever reaches one.

use serde::{Deserialize, Serialize};

/// What a client may use. `None` is unlimited (and metered).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(default)]
    pub storage_bytes: Option<u64>,
    #[serde(default)]
    pub members: Option<u32>,
    #[serde(default)]
    pub emails_per_month: Option<u32>,
    #[serde(default)]
    pub subdomains: Option<u32>,
    #[serde(default)]
    pub own_domains: Option<u32>,
}

/// A limit that was reached: which one, what it is and what is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {used} of {limit} used, and this needs {more} more. {way_on}")]
pub struct LimitReached {
    pub what: &'static str,
    pub used: String,
    pub limit: String,
    pub more: String,
    pub way_on: &'static str,
}

impl Limits {
    /// Whether `more` bytes can be stored beside the `used` ones.
    pub fn check_storage(&self, used: u64, more: u64) -> Result<(), LimitReached> {
        match self.storage_bytes {
            Some(limit) if used.saturating_add(more) > limit => Err(LimitReached {
                what: "Storage is full",
                used: bytes(used),
                limit: bytes(limit),
                more: bytes(more),
                way_on: "Remove files, or upgrade: paid plans have no storage limit.",
            }),
            _ => Ok(()),
        }
    }

    /// Whether one more member can be invited beside the `used` ones.
    pub fn check_members(&self, used: u32) -> Result<(), LimitReached> {
        match self.members {
            Some(limit) if used >= limit => Err(LimitReached {
                what: "The team is full",
                used: used.to_string(),
                limit: limit.to_string(),
                more: "1".into(),
                way_on: "Remove a member, or upgrade: paid plans have no member limit.",
            }),
            _ => Ok(()),
        }
    }

    /// Whether `more` mails can be sent this month beside the `used` ones.
    pub fn check_emails(&self, used: u32, more: u32) -> Result<(), LimitReached> {
        match self.emails_per_month {
            Some(limit) if used.saturating_add(more) > limit => Err(LimitReached {
                what: "This month's emails are used up",
                used: used.to_string(),
                limit: limit.to_string(),
                more: more.to_string(),
                way_on: "Wait for next month, or upgrade: paid plans have no email limit.",
            }),
            _ => Ok(()),
        }
    }
}

/// A size for people, in powers of 1024: `0 B`, `812 KB`, `1.5 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 || value.fract() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_checked_to_the_byte() {
        let limits = Limits { storage_bytes: Some(1 << 30), ..Limits::default() };
        assert!(limits.check_storage((1 << 30) - 5, 5).is_ok());
        let reached = limits.check_storage((1 << 30) - 5, 6).unwrap_err().to_string();
        assert!(reached.contains("of 1 GB used") && reached.contains("upgrade"), "{reached}");
        assert!(limits.check_storage(u64::MAX, 1).is_err());
        assert!(Limits::default().check_storage(u64::MAX, 1).is_ok());
    }

    #[test]
    fn the_last_email_of_a_month_is_sent_and_no_more() {
        let limits = Limits { emails_per_month: Some(100), ..Limits::default() };
        assert!(limits.check_emails(99, 1).is_ok());
        let reached = limits.check_emails(99, 2).unwrap_err().to_string();
        assert!(reached.contains("99 of 100 used, and this needs 2 more") && reached.contains("upgrade"), "{reached}");
        assert!(limits.check_emails(u32::MAX, 1).is_err());
        assert!(Limits::default().check_emails(u32::MAX, 1).is_ok());
    }

    #[test]
    fn sizes_read_well() {
        let shown: Vec<String> = [0, 812 * 1024, 1 << 30, 1_610_612_736].map(bytes).into();
        assert_eq!(shown, ["0 B", "812 KB", "1 GB", "1.5 GB"]);
    }
}

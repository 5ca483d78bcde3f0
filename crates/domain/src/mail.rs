//! What becomes of a mail: where it stands, and what those who carry it tell about it, which comes late, twice
//! and in any order.

use serde::{Deserialize, Serialize};

/// Where a mail stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailState {
    Queued,
    /// A carrier has taken it.
    Sent,
    /// The recipient's mail server has taken it.
    Delivered,
    /// Came back, for good or after the carrier has tried for long enough.
    Bounced,
    /// Delivered, and the recipient called it unwanted.
    Complained,
    /// Not sent: its address is on the suppression list.
    Suppressed,
    /// Given up before a carrier took it.
    Failed,
}

impl MailState {
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Sent, Self::Delivered, Self::Bounced, Self::Complained, Self::Suppressed, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Complained => "complained",
            Self::Suppressed => "suppressed",
            Self::Failed => "failed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// What a carrier tells of a mail and one of its recipients. The later ones outweigh the earlier ones: an
/// out-of-office note (a soft bounce) does not take back a delivery, and a delivery not a complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Sent,
    /// Came back, for a reason that may pass: a full mailbox.
    SoftBounce,
    Delivered,
    /// The carrier took it and would not deliver it: it found a virus.
    Rejected,
    /// Came back for good: there is no such mailbox.
    HardBounce,
    Complaint,
}

impl Fate {
    pub const ALL: [Self; 6] =
        [Self::Sent, Self::SoftBounce, Self::Delivered, Self::Rejected, Self::HardBounce, Self::Complaint];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::SoftBounce => "soft_bounce",
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::HardBounce => "hard_bounce",
            Self::Complaint => "complaint",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.as_str() == text)
    }

    /// Where a mail stands of which this is the weightiest that was told.
    pub const fn state(self) -> MailState {
        match self {
            Self::Sent => MailState::Sent,
            Self::Delivered => MailState::Delivered,
            Self::SoftBounce | Self::HardBounce => MailState::Bounced,
            Self::Rejected => MailState::Failed,
            Self::Complaint => MailState::Complained,
        }
    }

    /// Whether the address gets no more mail until an operator says so.
    pub const fn suppresses(self) -> bool {
        matches!(self, Self::HardBounce | Self::Complaint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        assert!(MailState::ALL.into_iter().all(|state| MailState::parse(state.as_str()) == Some(state)));
        assert!(Fate::ALL.into_iter().all(|fate| Fate::parse(fate.as_str()) == Some(fate)));
    }

    #[test]
    fn the_weightiest_fate_tells_where_a_mail_stands() {
        let state = |told: &[Fate]| told.iter().max().unwrap().state();
        assert_eq!(state(&[Fate::Delivered, Fate::Sent]), MailState::Delivered);
        assert_eq!(state(&[Fate::Delivered, Fate::SoftBounce, Fate::Sent]), MailState::Delivered);
        assert_eq!(state(&[Fate::HardBounce, Fate::Delivered]), MailState::Bounced);
        assert_eq!(state(&[Fate::Complaint, Fate::Delivered, Fate::Sent]), MailState::Complained);
        assert_eq!(state(&[Fate::SoftBounce, Fate::Sent]), MailState::Bounced);
    }

    #[test]
    fn soft_bounces_suppress_nobody() {
        let suppressing: Vec<_> = Fate::ALL.into_iter().filter(|fate| fate.suppresses()).collect();
        assert_eq!(suppressing, [Fate::HardBounce, Fate::Complaint]);
    }
}

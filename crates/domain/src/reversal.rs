//! Money that was paid and is taken back: refunds, which the operator makes at the till, and disputes, which the
//! client makes at their bank. What a state means: <https://docs.stripe.com/api/refunds/object#refund_object-status>,
//! <https://docs.stripe.com/disputes/how-disputes-work>.

use crate::money::Cents;
use crate::time::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReversalKind {
    Refund,
    Dispute,
}

/// A refund or a dispute, as the till has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reversal {
    pub id: String,
    pub kind: ReversalKind,
    /// The payment that it takes back, by the till's id.
    pub charge: String,
    pub amount: Cents,
    /// The till's word.
    pub state: String,
    /// The till's word, too.
    pub reason: Option<String>,
    pub created_at: Time,
    /// Of a dispute: until when evidence is taken.
    pub due_at: Option<Time>,
}

impl ReversalKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Dispute => "dispute",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Refund, Self::Dispute].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl Reversal {
    /// What is missing from what was paid. A dispute takes its amount while it lasts, and gives it back when it is
    /// won; an inquiry before a dispute, and a refund that did not get through, take nothing.
    pub fn taken(&self) -> Cents {
        let takes = match (self.kind, self.state.as_str()) {
            (ReversalKind::Refund, state) => !matches!(state, "failed" | "canceled"),
            (ReversalKind::Dispute, "won" | "prevented") => false,
            (ReversalKind::Dispute, state) => !state.starts_with("warning_"),
        };
        if takes { self.amount } else { Cents(0) }
    }

    /// Until when somebody must answer it, or the money is lost: none once it is answered or over.
    pub fn answer_by(&self) -> Option<Time> {
        let waits = matches!(self.state.as_str(), "needs_response" | "warning_needs_response");
        self.due_at.filter(|_| waits && self.kind == ReversalKind::Dispute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reversal(kind: ReversalKind, state: &str) -> Reversal {
        Reversal {
            id: "x_1".into(),
            kind,
            charge: "ch_1".into(),
            amount: Cents(500),
            state: state.into(),
            reason: None,
            created_at: Time(0),
            due_at: Some(Time(9)),
        }
    }

    #[test]
    fn what_is_given_back_is_not_missing() {
        for (kind, state, taken, waits) in [
            (ReversalKind::Refund, "succeeded", 500, false),
            (ReversalKind::Refund, "pending", 500, false),
            (ReversalKind::Refund, "failed", 0, false),
            (ReversalKind::Refund, "canceled", 0, false),
            (ReversalKind::Dispute, "needs_response", 500, true),
            (ReversalKind::Dispute, "under_review", 500, false),
            (ReversalKind::Dispute, "lost", 500, false),
            (ReversalKind::Dispute, "a word of next year", 500, false),
            (ReversalKind::Dispute, "won", 0, false),
            (ReversalKind::Dispute, "warning_needs_response", 0, true),
            (ReversalKind::Dispute, "warning_closed", 0, false),
        ] {
            let one = reversal(kind, state);
            assert_eq!((one.taken(), one.answer_by().is_some()), (Cents(taken), waits), "{kind:?} {state}");
        }
    }
}

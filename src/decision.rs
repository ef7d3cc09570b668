//! The outcome of one request against all limits of its caller.

use crate::counter::Wait;

/// How one limit stands after the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Index into the caller's limits.
    pub limit: usize,
    /// Units left; 0 where more is used than a lowered maximum allows.
    pub remaining: u64,
    /// Nanoseconds until nothing is used any more, without further requests.
    pub reset: u64,
}

/// Allowed or denied. A denial is a result, not an error, and has charged nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Every limit that is enforced admitted the cost and was charged.
    Allowed {
        /// The enforced limit with the smallest share left, the first of equals; `None` for a caller without any.
        tightest: Option<Standing>,
        /// The first shadow limit that would have denied; it was not charged.
        shadow_denied: Option<usize>,
    },
    /// At least one enforced limit was exhausted.
    Denied {
        /// Of the exhausted limits the one with the longest wait, the first of equals.
        standing: Standing,
        /// How long until this request would pass.
        wait: Wait,
    },
}

//! Who has used up a limit, and is denied until a time that is known: as long as nobody changes the record, the next denial is the last one,
//! only later. A flood of requests that are denied is decided by comparing bytes, a hundred times a second: in between nothing is looked at.

use crate::cost::Cost;
use crate::counter::Wait;
use crate::decision::{Decision, Standing};
use crate::limiter::Outcome;
use crate::plan::Limit;
use crate::window::Timestamp;

/// How long a record is taken for what it was, in nanoseconds. Nobody is charged while everybody is denied, and where the configuration gives
/// nothing back only another one that shares the counters does.
const UNSEEN: u64 = 10_000_000;

/// A denial that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// The stored record that it follows from.
    record: Box<[u8]>,
    /// Index of the limit that is reported. What is used only ever falls without charges, so it is exhausted until then, and those with shorter
    /// waits matter no more.
    limit: usize,
    /// When the record was last seen to be that, by a clock that was not set back since.
    seen_at: Timestamp,
    /// When a request passes.
    until: Timestamp,
    /// When the limit is full again.
    full_at: Timestamp,
}

impl Exhausted {
    /// What follows from a decision about a stored record, if it was a denial that lasts: of one unit, with none left. With more units some can
    /// come back before they are enough.
    #[must_use]
    pub fn by(outcome: &Outcome, stored: &[u8], limits: &[Limit], cost: &Cost, now: Timestamp) -> Option<Self> {
        let Decision::Denied { standing: Standing { limit, remaining: 0, reset }, wait: Wait::For(wait) } =
            outcome.decision
        else {
            return None;
        };
        let lasts = cost.requests == 1 && !outcome.set_back && limits.iter().all(|limit| limit.unit.tokens().is_none());
        lasts.then(|| Self {
            record: stored.into(),
            limit,
            seen_at: now,
            until: now.after(wait),
            full_at: now.after(reset),
        })
    }

    /// How the limit stands that denies a request, and how long that has to wait in nanoseconds, if the record is what it was.
    #[must_use]
    pub fn denies(&self, cost: &Cost, now: Timestamp) -> Option<(Standing, u64)> {
        let denied = cost.requests == 1 && self.seen_at <= now && now < self.until;
        let standing = Standing { limit: self.limit, remaining: 0, reset: self.full_at.since(now) };
        denied.then(|| (standing, self.until.since(now)))
    }

    /// Whether the record was seen so lately that there is no need to look at it, where nothing is given back.
    #[must_use]
    pub fn seen_lately(&self, now: Timestamp) -> bool {
        now.since(self.seen_at) < UNSEEN
    }

    /// Whether the record is what it was.
    pub fn is_still(&mut self, stored: &[u8], now: Timestamp) -> bool {
        let same = same(&self.record, stored);
        if same {
            self.seen_at = now;
        }
        same
    }
}

/// Eight bytes at a time, which what the compiler has for any lengths does not.
fn same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (of_words, of_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let differ = |(one, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*one) != u64::from_ne_bytes(*other);
    one.len() == other.len() && !words.iter().zip(of_words).any(differ) && rest == of_rest
}

//! Decides all limits of a caller in one step: old record → (new record, decision).

use crate::counter::{Counter, Wait};
use crate::decision::{Decision, Standing};
use crate::plan::Limit;
use crate::record::{Record, Rules, Update};
use crate::window::Timestamp;

/// A decision, and what has to be stored for it to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Allowed or denied.
    pub decision: Decision,
    /// The record to store; `None` when nothing was charged and the stored one stays.
    pub record: Option<Vec<u8>>,
    /// Counters were dropped because the record was full; see [`Record::encode`].
    pub overfull: bool,
    /// The clock seems to have made a big step back. It may be `now` that is old: whoever sees this looks at the clock again.
    pub set_back: bool,
    /// Limits that an allowed request was not charged to, by index.
    pub uncharged: Vec<usize>,
}

/// One limit while it is decided.
struct Candidate<'a> {
    limit: &'a Limit,
    /// As of now.
    counter: Counter,
    empty_at: Timestamp,
    admits: bool,
    /// The clock made a big step back since it was written.
    set_back: bool,
}

/// Charges `cost` to every limit, or to none if one of them does not admit it; a shadow limit that does not admit it is left out.
/// A denial is stored only when the clock made a big step back (see [`crate::counter`]), and charges nothing then either.
#[must_use]
pub fn decide(record: &Record<'_>, limits: &[Limit], cost: u64, now: Timestamp) -> Outcome {
    let mut denied = false;
    let mut candidates: Vec<Candidate<'_>> = limits
        .iter()
        .map(|limit| {
            let stored = record.counter(limit.id);
            let counter = limit.rule.advance(stored, now);
            let set_back = stored.is_some_and(|stored| limit.rule.set_back(&stored, now));
            let admits = limit.rule.admits(&counter, cost);
            denied |= !admits && !limit.shadow;
            Candidate { limit, counter, empty_at: now, admits, set_back }
        })
        .collect();
    for Candidate { limit, counter, empty_at, admits, .. } in &mut candidates {
        if *admits && !denied {
            *counter = limit.rule.charge(*counter, cost);
        }
        *empty_at = limit.rule.empty_at(counter);
    }
    let denial = if denied { denial(&candidates, cost, now) } else { None };
    let decision = denial.unwrap_or_else(|| Decision::Allowed {
        tightest: tightest(&candidates, now),
        shadow_denied: candidates.iter().position(|candidate| !candidate.admits),
    });
    let charged = denial.is_none() && candidates.iter().any(|candidate| candidate.admits);
    let set_back = candidates.iter().any(|candidate| candidate.set_back);
    let uncharged =
        candidates.iter().enumerate().filter(|(_, candidate)| !candidate.admits).map(|(index, _)| index).collect();
    if !charged && !set_back {
        return Outcome { decision, record: None, overfull: false, set_back, uncharged };
    }
    let update = |Candidate { limit, counter, empty_at, .. }: &Candidate<'_>| Update {
        id: limit.id,
        counter: *counter,
        empty_at: *empty_at,
    };
    let updates: Vec<Update> = candidates.iter().map(update).collect();
    let (bytes, overfull) = record.encode(&updates, now);
    Outcome { decision, record: Some(bytes), overfull, set_back, uncharged }
}

/// Gives back what an allowed decision at `charged_at` charged to all limits but the `uncharged`; `None` when there is nothing to give back.
#[must_use]
pub fn refund(
    record: &Record<'_>,
    limits: &[Limit],
    uncharged: &[usize],
    cost: u64,
    charged_at: Timestamp,
    now: Timestamp,
) -> Option<Vec<u8>> {
    let charged = limits.iter().enumerate().filter(|(index, _)| !uncharged.contains(index));
    let updates: Vec<Update> = charged
        .filter_map(|(_, limit)| {
            let counter = limit.rule.advance(Some(record.counter(limit.id)?), now);
            let counter = limit.rule.refund(counter, cost, charged_at);
            Some(Update { id: limit.id, counter, empty_at: limit.rule.empty_at(&counter) })
        })
        .collect();
    (!updates.is_empty()).then(|| record.encode(&updates, now).0)
}

/// The largest used share of a record's counters, as (used, capacity). Counters without a rule are no part of it.
pub fn used_share(record: &Record<'_>, rules: Rules<'_>, now: Timestamp) -> (u64, u64) {
    let mut largest = (0, 1);
    for (id, counter) in record.counters() {
        let Some(rule) = rules(id) else {
            continue;
        };
        let share = (rule.used(&rule.advance(Some(counter), now)), rule.capacity().get());
        if smaller(largest, share) {
            largest = share;
        }
    }
    largest
}

/// Whether one share (part, whole) is smaller than another, without the division.
#[must_use]
pub fn smaller(one: (u64, u64), other: (u64, u64)) -> bool {
    let product = |part: u64, whole: u64| u128::from(part).saturating_mul(u128::from(whole));
    product(one.0, other.1) < product(other.0, one.1)
}

/// The exhausted limit with the longest wait, if any is exhausted.
fn denial(candidates: &[Candidate<'_>], cost: u64, now: Timestamp) -> Option<Decision> {
    let mut longest: Option<(Standing, Wait)> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.admits || candidate.limit.shadow {
            continue;
        }
        let wait = candidate.limit.rule.wait(&candidate.counter, cost, now);
        if longest.is_none_or(|(_, known)| longer(wait, known)) {
            longest = Some((standing(index, candidate, now), wait));
        }
    }
    longest.map(|(standing, wait)| Decision::Denied { standing, wait })
}

/// Whether one wait is longer than another.
#[must_use]
pub fn longer(wait: Wait, than: Wait) -> bool {
    match (wait, than) {
        (Wait::For(wait), Wait::For(than)) => wait > than,
        (Wait::Never, Wait::For(_)) => true,
        (_, Wait::Never) => false,
    }
}

fn tightest(candidates: &[Candidate<'_>], now: Timestamp) -> Option<Standing> {
    let mut tightest: Option<(Standing, u64)> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.limit.shadow {
            continue;
        }
        let (next, capacity) = (standing(index, candidate, now), candidate.limit.capacity());
        if tightest.is_none_or(|(known, of)| smaller((next.remaining, capacity), (known.remaining, of))) {
            tightest = Some((next, capacity));
        }
    }
    tightest.map(|(standing, _)| standing)
}

fn standing(index: usize, candidate: &Candidate<'_>, now: Timestamp) -> Standing {
    let Candidate { limit, counter, empty_at, .. } = candidate;
    Standing {
        limit: index,
        remaining: limit.capacity().saturating_sub(limit.rule.used(counter)),
        reset: empty_at.since(now),
    }
}

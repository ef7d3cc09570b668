//! Decides all limits of a caller in one step: old record → (new record, decision).

use crate::counter::{Counter, Wait};
use crate::decision::{Decision, Standing};
use crate::plan::Limit;
use crate::record::{Record, Update};
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
}

/// Charges `cost` to every limit, or to none if one of them does not admit it. A denial is stored only when the clock made a big step
/// back (see [`crate::counter`]), and charges nothing then either.
#[must_use]
pub fn decide(record: &Record<'_>, limits: &[Limit], cost: u64, now: Timestamp) -> Outcome {
    let stored: Vec<Option<Counter>> = limits.iter().map(|limit| record.counter(limit.id)).collect();
    let counters: Vec<Counter> =
        limits.iter().zip(&stored).map(|(limit, stored)| limit.rule.advance(*stored, now)).collect();
    let (decision, charge) = match denial(limits, &counters, cost, now) {
        Some(decision) => (Some(decision), 0),
        None => (None, cost),
    };
    let updates: Vec<Update> = limits
        .iter()
        .zip(counters)
        .map(|(limit, counter)| {
            let counter = limit.rule.charge(counter, charge);
            Update { id: limit.id, counter, empty_at: limit.rule.empty_at(&counter) }
        })
        .collect();
    let decision = decision.unwrap_or_else(|| Decision::Allowed { tightest: tightest(limits, &updates, now) });
    let set_back = limits
        .iter()
        .zip(&stored)
        .any(|(limit, stored)| stored.as_ref().is_some_and(|stored| limit.rule.set_back(stored, now)));
    if updates.is_empty() || (charge == 0 && !set_back) {
        return Outcome { decision, record: None, overfull: false };
    }
    let (bytes, overfull) = record.encode(&updates, now);
    Outcome { decision, record: Some(bytes), overfull }
}

/// The exhausted limit with the longest wait, if any is exhausted.
fn denial(limits: &[Limit], counters: &[Counter], cost: u64, now: Timestamp) -> Option<Decision> {
    let mut longest: Option<(Standing, Wait)> = None;
    for (index, (limit, counter)) in limits.iter().zip(counters).enumerate() {
        if limit.rule.admits(counter, cost) {
            continue;
        }
        let wait = limit.rule.wait(counter, cost, now);
        if longest.is_none_or(|(_, known)| longer(wait, known)) {
            longest = Some((standing(index, limit, counter, now), wait));
        }
    }
    longest.map(|(standing, wait)| Decision::Denied { standing, wait })
}

fn longer(wait: Wait, than: Wait) -> bool {
    match (wait, than) {
        (Wait::For(wait), Wait::For(than)) => wait > than,
        (Wait::Never, Wait::For(_)) => true,
        (_, Wait::Never) => false,
    }
}

fn tightest(limits: &[Limit], updates: &[Update], now: Timestamp) -> Option<Standing> {
    let mut tightest: Option<(Standing, u64)> = None;
    for (index, (limit, update)) in limits.iter().zip(updates).enumerate() {
        let candidate = standing(index, limit, &update.counter, now);
        // remaining/capacity < known remaining/known capacity, without the division.
        let share = |remaining: u64, capacity: u64| u128::from(remaining).saturating_mul(u128::from(capacity));
        if tightest.is_none_or(|(known, capacity)| {
            share(candidate.remaining, capacity) < share(known.remaining, limit.capacity())
        }) {
            tightest = Some((candidate, limit.capacity()));
        }
    }
    tightest.map(|(standing, _)| standing)
}

fn standing(index: usize, limit: &Limit, counter: &Counter, now: Timestamp) -> Standing {
    Standing {
        limit: index,
        remaining: limit.capacity().saturating_sub(limit.rule.used(counter)),
        reset: limit.rule.empty_at(counter).since(now),
    }
}

//! Decides all limits of a caller in one step: old record → (new record, decision).

use crate::cost::Cost;
use crate::counter::{Counter, Wait, product, product_in_64};
use crate::decision::{Decision, Standing};
use crate::limits::{Bounds, Limits};
use crate::plan::{Demand, Limit, Unit};
use crate::record::{self, After, CounterId, Record, Rules, Update};
use crate::reservation::{self, Held, Reservation, Slots};
use crate::usage::Usage;
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
    /// What an allowed request was charged and what is reserved for it.
    pub reservation: Reservation,
    /// Where tokens are counted: how the tightest limit of each other unit stands than that of the one that the decision tells of.
    pub others: Vec<Standing>,
}

impl Outcome {
    /// Of a request that was admitted without a look at its record.
    #[must_use]
    pub fn allowed(tightest: Option<Standing>, cost: &Cost, now: Timestamp) -> Self {
        Self {
            decision: Decision::Allowed { tightest, shadow_denied: None },
            record: None,
            overfull: false,
            set_back: false,
            reservation: Reservation::new(now, cost.requests, cost.token_cost),
            others: Vec::new(),
        }
    }

    /// Of a request that a limit denies as it denied the one before.
    #[must_use]
    pub fn denied(standing: Standing, wait: Wait, cost: &Cost, now: Timestamp) -> Self {
        Self { decision: Decision::Denied { standing, wait }, ..Self::allowed(None, cost, now) }
    }

    /// Whether every limit was charged.
    #[must_use]
    pub fn charged_all(&self) -> bool {
        matches!(self.decision, Decision::Allowed { shadow_denied: None, .. })
    }

    /// Makes the outcome of one request of what was charged for `size` of them; returns how the tightest limit stands after all.
    pub fn share_of_lease(&mut self, cost: &Cost, size: u64) -> Option<Standing> {
        self.reservation.requests = cost.requests;
        let Decision::Allowed { tightest, .. } = &mut self.decision else {
            return None;
        };
        let after_all = *tightest;
        if let Some(standing) = tightest {
            let others = size.saturating_sub(1).saturating_mul(cost.requests);
            standing.remaining = standing.remaining.saturating_add(others);
        }
        after_all
    }
}

/// One limit while it is decided.
struct Candidate<'a> {
    limit: &'a Limit,
    /// Its counter and what is reserved of it, as of now.
    counter: Counter,
    slots: Slots,
    /// Units used, what is reserved not among them.
    used: u64,
    admits: bool,
    /// The clock made a big step back since it was written.
    set_back: bool,
}

/// Charges `cost` to every limit, or to none if one of them does not admit it; a shadow limit that does not admit it is left out.
/// Of limits that count tokens the bound is reserved; they admit it if that fits beside what is used and what is reserved already.
/// A denial is stored only when the clock made a big step back (see [`crate::counter`]), and charges nothing then either.
#[must_use]
pub fn decide(record: &Record<'_>, limits: &[Limit], cost: &Cost, now: Timestamp) -> Outcome {
    let mut candidates: Vec<Candidate<'_>> = Vec::with_capacity(limits.len());
    let (mut denied, mut set_back) = (false, false);
    for limit in limits {
        let candidate = Candidate::new(record, record.counter(limit.id), limit, cost, now);
        denied |= !candidate.admits && !limit.shadow;
        set_back |= candidate.set_back;
        candidates.push(candidate);
    }
    let denial = if denied { denial(&candidates, cost, now) } else { None };
    let mut reservation = Reservation::new(now, cost.requests, cost.token_cost);
    let mut charged = false;
    if denial.is_none() {
        for (index, candidate) in candidates.iter_mut().enumerate() {
            if candidate.admits {
                // Another worker may have begun the next window: then that one is charged.
                let charged_at = candidate.limit.rule.charged_at(&candidate.counter, now);
                reservation.charged_at = reservation.charged_at.max(charged_at);
                let demand = candidate.limit.demand(cost);
                reservation.held.extend(candidate.charge(index, &demand, now));
                charged |= demand.changes();
            } else {
                reservation.uncharged.push(index);
            }
        }
    }
    let decision = denial.unwrap_or_else(|| Decision::Allowed {
        tightest: tightest(&candidates, |_| true, now),
        shadow_denied: candidates.iter().position(|candidate| !candidate.admits),
    });
    let others = others(&candidates, &decision, now);
    if !charged && !set_back {
        return Outcome { decision, record: None, overfull: false, set_back, reservation, others };
    }
    let updates = candidates.iter().map(|Candidate { limit, counter, slots, .. }| update(limit, *counter, *slots));
    let updates: Vec<Update> = updates.collect();
    let (bytes, overfull) = record.encode(&updates, now);
    Outcome { decision, record: Some(bytes), overfull, set_back, reservation, others }
}

/// What [`decide`] comes to for nearly every request, in a part of its code, most of which would have to be fetched for it: all limits count
/// requests, have done so before, and admit it. Writes the record to store over a `copy` of the one that is, and tells how the tightest
/// limit stands then if that is `told`. `None` says nothing, and the copy is good for nothing then.
#[inline(always)]
pub fn pass(copy: &mut [u8], limits: &Limits, cost: &Cost, now: Timestamp, told: bool) -> Option<Option<Standing>> {
    // Where nothing is told there is nothing to keep in mind.
    if told { pass_all::<true>(copy, limits, cost, now) } else { pass_all::<false>(copy, limits, cost, now) }
}

#[inline(never)]
fn pass_all<const TOLD: bool>(
    copy: &mut [u8],
    limits: &Limits,
    cost: &Cost,
    now: Timestamp,
) -> Option<Option<Standing>> {
    if cost.requests == 0 {
        return None;
    }
    let windows = limits.windows(now);
    let (limits, cost) = (limits.iter().zip(&*windows).enumerate(), cost.requests);
    let mut passing = Passing::<_, TOLD> { limits, cost, now, tightest: None };
    record::rewrite(copy, &mut passing)?;
    let Passing { mut limits, tightest, .. } = passing;
    limits.next().is_none().then(|| tightest.map(|(standing, _)| standing))
}

/// A record while it is passed.
struct Passing<L, const TOLD: bool> {
    /// The limits that are still to come, each with its index and its window.
    limits: L,
    cost: u64,
    now: Timestamp,
    /// How the tightest so far stands, and its capacity, if it is told.
    tightest: Option<(Standing, u64)>,
}

impl<'l, L: Iterator<Item = (usize, (&'l Limit, &'l Bounds))>, const TOLD: bool> After for Passing<L, TOLD> {
    #[inline(always)]
    fn after(&mut self, id: CounterId, stored: Counter) -> Option<(Counter, Timestamp)> {
        let Self { limits, cost, now, tightest } = self;
        let (index, (limit, window)) = limits.next()?;
        if limit.id != id || limit.unit.tokens().is_some() {
            return None;
        }
        let (counter, used, empty_at) = limit.rule.pass(stored, *cost, *now, *window)?;
        if TOLD && !limit.shadow {
            let (capacity, remaining) = (limit.capacity(), limit.capacity().saturating_sub(used));
            if tightest.is_none_or(|(known, of)| smaller((remaining, capacity), (known.remaining, of))) {
                *tightest = Some((Standing { limit: index, remaining, reset: empty_at.since(*now) }, capacity));
            }
        }
        Some((counter, empty_at))
    }
}

/// Whether the clock made a big step back since any of the limits' counters was written.
#[must_use]
pub fn set_back(record: &Record<'_>, limits: &[Limit], now: Timestamp) -> bool {
    limits.iter().any(|limit| {
        let counter = record.counter(limit.id);
        counter.is_some_and(|counter| limit.rule.set_back(&counter, now)) || record.slots(limit.id).set_back(now)
    })
}

/// Gives up what was reserved, and charges what the response took in its place, in the window that holds the admission. Without `usage` all that
/// was reserved is charged.
#[must_use]
pub fn settle(
    record: &Record<'_>,
    limits: &[Limit],
    reservation: &Reservation,
    usage: Option<&Usage>,
    now: Timestamp,
) -> Vec<u8> {
    let Reservation { token_cost, ref held, .. } = *reservation;
    let updates = held.iter().filter_map(|held| {
        let limit = limits.get(held.limit)?;
        let charge = match (usage, limit.unit.tokens()) {
            (Some(usage), Some(count)) => limit.weights.usage(count, usage, token_cost),
            _ => held.amount,
        };
        let mut slots = record.slots(limit.id).at(now);
        slots.give_up(held.until, held.amount);
        let counter = limit.rule.advance(record.counter(limit.id), now);
        let counter = limit.rule.charge_at(counter, charge, held.charged_at);
        Some(update(limit, counter, slots))
    });
    let updates: Vec<Update> = updates.collect();
    record.encode(&updates, now).0
}

/// Moves what is reserved to where it ends a lifetime from now; `reservation` becomes what [`renewed`] makes of it.
#[must_use]
pub fn renew(record: &Record<'_>, limits: &[Limit], reservation: &Reservation, now: Timestamp) -> Vec<u8> {
    let later = renewed(limits, reservation, now);
    let updates = reservation.held.iter().zip(&later.held).filter_map(|(held, later)| {
        let limit = limits.get(held.limit).filter(|_| held.amount > 0)?;
        let mut slots = record.slots(limit.id).at(now);
        slots.give_up(held.until, held.amount);
        slots.add(later.until, held.amount);
        Some(update(limit, limit.rule.advance(record.counter(limit.id), now), slots))
    });
    let updates: Vec<Update> = updates.collect();
    record.encode(&updates, now).0
}

/// The reservation as it is after it was renewed at `now`: nothing of it ends earlier than before.
#[must_use]
pub fn renewed(limits: &[Limit], reservation: &Reservation, now: Timestamp) -> Reservation {
    let mut later = reservation.clone();
    for held in &mut later.held {
        if let Some(lifetime) = limits.get(held.limit).and_then(|limit| limit.reserve) {
            held.until = held.until.max(reservation::until(now, lifetime));
        }
    }
    later
}

/// Gives back what an allowed decision charged, and what it reserved; `None` when there is nothing to give back.
#[must_use]
pub fn refund(record: &Record<'_>, limits: &[Limit], reservation: &Reservation, now: Timestamp) -> Option<Vec<u8>> {
    let Reservation { charged_at, requests, ref uncharged, ref held, .. } = *reservation;
    let charged = limits.iter().enumerate().filter(|(index, _)| !uncharged.contains(index));
    let updates: Vec<Update> = charged
        .filter_map(|(index, limit)| {
            let counter = limit.rule.advance(Some(record.counter(limit.id)?), now);
            let mut slots = record.slots(limit.id).at(now);
            if limit.unit.tokens().is_none() {
                let counter = limit.rule.refund(counter, requests, charged_at);
                return Some(update(limit, counter, slots));
            }
            let held = held.iter().find(|held| held.limit == index && held.amount > 0)?;
            slots.give_up(held.until, held.amount);
            Some(update(limit, counter, slots))
        })
        .collect();
    (!updates.is_empty()).then(|| record.encode(&updates, now).0)
}

/// The largest used share of a record's counters, reservations among it, as (used, capacity). Counters without a rule are no part of it.
pub fn used_share(record: &Record<'_>, rules: Rules<'_>, now: Timestamp) -> (u64, u64) {
    let mut largest = (0, 1);
    for (id, counter, slots) in record.counters() {
        let Some(rule) = rules(id) else {
            continue;
        };
        let used = rule.used(&rule.advance(Some(counter), now)).saturating_add(slots.at(now).total());
        let share = (used, rule.capacity().get());
        if smaller(largest, share) {
            largest = share;
        }
    }
    largest
}

/// The fewest units that any of the limits has left.
#[must_use]
pub fn least_left(record: &Record<'_>, limits: &[Limit], now: Timestamp) -> u64 {
    let left = limits.iter().map(|limit| {
        let used = limit.rule.used(&limit.rule.advance(record.counter(limit.id), now));
        limit.capacity().saturating_sub(used)
    });
    left.min().unwrap_or(0)
}

/// Whether one share (part, whole) is smaller than another, without the division.
#[must_use]
#[inline]
pub fn smaller(one: (u64, u64), other: (u64, u64)) -> bool {
    match (product_in_64(one.0, other.1), product_in_64(other.0, one.1)) {
        (Some(one), Some(other)) => one < other,
        _ => product(one.0, other.1) < product(other.0, one.1),
    }
}

fn update(limit: &Limit, counter: Counter, slots: Slots) -> Update {
    Update { id: limit.id, counter, slots, empty_at: empty_at(limit, &counter, &slots) }
}

/// Tokens are charged later than they are admitted, also in windows that are over.
fn empty_at(limit: &Limit, counter: &Counter, slots: &Slots) -> Timestamp {
    match limit.unit.tokens() {
        None => limit.rule.empty_at(counter),
        Some(_) => limit.rule.forgotten_at(counter).max(slots.end()),
    }
}

// === impl Candidate ===

impl<'a> Candidate<'a> {
    /// `stored`: the record's counter of this limit.
    fn new(record: &Record<'_>, stored: Option<Counter>, limit: &'a Limit, cost: &Cost, now: Timestamp) -> Self {
        let (rule, demand) = (&limit.rule, limit.demand(cost));
        let counter = rule.advance(stored, now);
        let mut set_back = stored.is_some_and(|stored| rule.set_back(&stored, now));
        let mut slots = Slots::default();
        // Nothing else is reserved, and most limits do not count tokens.
        if limit.unit.tokens().is_some() {
            let stored = record.slots(limit.id);
            set_back |= stored.set_back(now);
            slots = stored.at(now);
        }
        let needed = demand.needed.saturating_add(slots.total());
        let used = rule.used(&counter);
        let admits = rule.admits_beside(&counter, used, needed);
        Self { limit, counter, slots, used, admits, set_back }
    }

    /// Charges and reserves what is demanded, of the limit at `index`.
    fn charge(&mut self, index: usize, demand: &Demand, now: Timestamp) -> Option<Held> {
        let Self { limit, counter, .. } = *self;
        self.counter = limit.rule.charge(counter, demand.charged);
        // A unit more is a unit more used, in buckets too: there is no rounding in it.
        self.used = self.used.saturating_add(demand.charged);
        limit.unit.tokens()?;
        let charged_at = limit.rule.charged_at(&counter, now);
        let mut held = Held { limit: index, amount: 0, until: now, lifetime: 0, charged_at };
        if let Some((amount, lifetime)) = demand.reserved {
            (held.amount, held.until, held.lifetime) = (amount, reservation::until(now, lifetime), lifetime.get());
            self.slots.add(held.until, amount);
        }
        Some(held)
    }

    /// As if what is reserved were charged now.
    fn with_reserved(&self) -> Counter {
        self.limit.rule.charge(self.counter, self.slots.total())
    }

    /// What is left beside what is used and reserved.
    fn remaining(&self) -> u64 {
        self.limit.capacity().saturating_sub(self.used).saturating_sub(self.slots.total())
    }
}

/// The exhausted limit with the longest wait, if any is exhausted. The wait is told as if all that is reserved were used up now: when and how much
/// of it is, nobody knows. If it is, the wait is exact.
fn denial(candidates: &[Candidate<'_>], cost: &Cost, now: Timestamp) -> Option<Decision> {
    let mut longest: Option<(Standing, Wait)> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.admits || candidate.limit.shadow {
            continue;
        }
        let needed = candidate.limit.demand(cost).needed;
        let wait = candidate.limit.rule.wait(&candidate.with_reserved(), needed, now);
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

/// The enforced limit with the smallest share left, of those that `told` is for.
fn tightest(candidates: &[Candidate<'_>], told: impl Fn(Unit) -> bool, now: Timestamp) -> Option<Standing> {
    let mut tightest: Option<(usize, &Candidate<'_>)> = None;
    let share = |candidate: &Candidate<'_>| (candidate.remaining(), candidate.limit.capacity());
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.limit.shadow || !told(candidate.limit.unit) {
            continue;
        }
        if tightest.is_none_or(|(_, known)| smaller(share(candidate), share(known))) {
            tightest = Some((index, candidate));
        }
    }
    tightest.map(|(index, candidate)| standing(index, candidate, now))
}

/// See [`Outcome::others`].
fn others(candidates: &[Candidate<'_>], decision: &Decision, now: Timestamp) -> Vec<Standing> {
    let told = match decision {
        Decision::Allowed { tightest, .. } => tightest.as_ref(),
        Decision::Denied { standing, .. } => Some(standing),
    };
    if candidates.iter().all(|candidate| candidate.limit.unit.tokens().is_none()) {
        return Vec::new();
    }
    let told = told.and_then(|standing| candidates.get(standing.limit)).map(|candidate| candidate.limit.unit);
    let units = Unit::ALL.into_iter().filter(|unit| Some(*unit) != told);
    units.filter_map(|unit| tightest(candidates, |of| of == unit, now)).collect()
}

fn standing(index: usize, candidate: &Candidate<'_>, now: Timestamp) -> Standing {
    let reset = candidate.limit.rule.empty_at(&candidate.with_reserved()).since(now);
    Standing { limit: index, remaining: candidate.remaining(), reset }
}

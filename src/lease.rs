//! Leases: units that a worker charges ahead for a caller who is busy there, in the same swap as the request's own. The requests that use them
//! need no look at the shared data.
//!
//! Every unit of a lease is charged before it is used, so nothing is admitted too much. A lease is over after its time, and before that where
//! a window of any of the limits ends, since what is charged in one window must not be used in another; what is left is given back. It is no
//! larger than a sixteenth of what any of the limits has left: off where little is left, and with it for small limits. It doubles while it is
//! used up in time, and shrinks to what was used when it was not; that is known for some seconds, so that who comes in bursts has one at once.
//! What is left of it when the module itself leaves a worker stays charged.
//!
//! Not for token buckets: what is charged ahead has partly drained when it is used. Nor for limits that count tokens.

use crate::decision::Standing;
use crate::limiter;
use crate::namespace::Name;
use crate::plan::{Algorithm, Limit};
use crate::record::Record;
use crate::terms::Terms;
use crate::window::{SECOND, Timestamp};
use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;

/// The part of what is left that a lease may take: one of so many.
const PART: u64 = 16;
/// The most requests of one lease.
const MOST: u64 = 1024;
/// How many callers can have one on a worker at a time.
const SLOTS: usize = 64;
/// For how long it is known how many requests a caller's last one was for, in nanoseconds: who comes later than that is not busy yet.
const KNOWN: u64 = 10 * SECOND;

/// The leases of one worker, under one configuration.
#[derive(Debug)]
pub struct Leases {
    /// Nanoseconds; `None`: there are none.
    lifetime: Option<NonZeroU64>,
    slots: RefCell<Vec<Option<Lease>>>,
}

/// What was charged ahead for one caller.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The caller's index among the listed consumers.
    consumer: usize,
    /// Where its record is.
    pub key: Name,
    /// What it was charged under.
    pub terms: Rc<Terms>,
    /// Units of each request.
    pub cost: u64,
    /// Requests it was taken for, with the one that took it; of one that was given back, those that used it.
    pub size: u64,
    /// Requests that it still has.
    pub left: u64,
    /// When it was charged.
    pub taken_at: Timestamp,
    /// A time in the window that it was charged in.
    pub charged_at: Timestamp,
    /// From then on it is over.
    pub ends_at: Timestamp,
    /// How the tightest limit stood when all of it was charged.
    pub tightest: Option<Standing>,
}

/// What there is for a request.
#[derive(Debug)]
pub enum Found {
    /// A unit of a lease; how the tightest limit stands after it, and a time in the window that was charged.
    Unit(Option<Standing>, Timestamp),
    /// Nothing. For how many requests to charge, this one among them, and a lease to give back first.
    Nothing(u64, Option<Lease>),
}

// === impl Leases ===

impl Leases {
    /// Each for so many nanoseconds; `None`: none at all.
    #[must_use]
    pub fn new(lifetime: Option<NonZeroU64>) -> Self {
        let slots = if lifetime.is_some() { vec![None; SLOTS] } else { Vec::new() };
        Self { lifetime, slots: RefCell::new(slots) }
    }

    /// How long each lasts, in nanoseconds, if there are any.
    #[must_use]
    pub fn lifetime(&self) -> Option<NonZeroU64> {
        self.lifetime
    }

    /// Looks for a unit for a request of this consumer.
    pub fn find(&self, consumer: usize, terms: &Rc<Terms>, cost: u64, now: Timestamp) -> Found {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(place(consumer)) else {
            return Found::Nothing(1, None);
        };
        let Some(lease) = slot else {
            return Found::Nothing(1, None);
        };
        let over = lease.is_over(now);
        if !lease.is_for(consumer, terms, cost) {
            return Found::Nothing(1, if over { slot.take().filter(|lease| lease.left > 0) } else { None });
        }
        if lease.use_unit(now) {
            return Found::Unit(lease.standing(now), lease.charged_at);
        }
        let size = match (lease.left, over) {
            (0, false) => lease.size.saturating_mul(2).min(MOST),
            _ if now.since(lease.taken_at) > KNOWN => 1,
            _ => lease.used(),
        };
        Found::Nothing(size, slot.take().filter(|lease| lease.left > 0))
    }

    /// Whether this consumer may have a unit, as far as can be said without the time.
    #[must_use]
    pub fn may_have_unit(&self, consumer: usize) -> bool {
        let slots = self.slots.borrow();
        let slot = slots.get(place(consumer)).and_then(Option::as_ref);
        slot.is_some_and(|lease| lease.consumer == consumer && lease.left > 0)
    }

    /// Uses a unit for a request of this consumer, if there is one: what [`find`](Self::find) does then. Changes nothing else.
    #[must_use]
    pub fn use_unit(&self, consumer: usize, terms: &Rc<Terms>, cost: u64, now: Timestamp) -> bool {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(place(consumer)).and_then(Option::as_mut);
        slot.is_some_and(|lease| lease.is_for(consumer, terms, cost) && lease.use_unit(now))
    }

    /// For how many requests a lease may be taken, of those that were asked for; at least one. `record` is as the first of them finds it.
    #[must_use]
    pub fn size(&self, asked: u64, record: &Record<'_>, limits: &[Limit], cost: u64, now: Timestamp) -> u64 {
        if asked <= 1 {
            return 1;
        }
        let left = limiter::least_left(record, limits, now) / PART;
        asked.min(left.checked_div(cost).unwrap_or(0)).max(1)
    }

    /// Keeps what was charged at `now` for `size` requests, of which one is used, in the window of `charged_at`. Also when that is all of it: a caller who comes again soon is busy.
    pub fn keep(
        &self,
        (consumer, key): (usize, &Name),
        terms: &Rc<Terms>,
        (cost, size): (u64, u64),
        tightest: Option<Standing>,
        (now, charged_at): (Timestamp, Timestamp),
    ) {
        // Before anything else: every charge comes here, and most have none.
        let Some(lifetime) = self.lifetime else {
            return;
        };
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(place(consumer)).filter(|_| fits(&terms.limits)) else {
            return;
        };
        // Another caller's, which is in use.
        if slot.as_ref().is_some_and(|lease| lease.left > 0 && !lease.is_over(now)) {
            return;
        }
        let lifetime_ends = now.after(lifetime.get());
        let ends_at = terms.limits.windows(now).iter().fold(lifetime_ends, |ends, window| ends.min(window.1));
        let (key, terms, left) = (*key, terms.clone(), size.saturating_sub(1));
        *slot = Some(Lease { consumer, key, terms, cost, size, left, taken_at: now, charged_at, ends_at, tightest });
    }

    /// Whether a lease could be kept for this caller.
    #[must_use]
    pub fn has_room(&self, consumer: usize, now: Timestamp) -> bool {
        let slots = self.slots.borrow();
        slots
            .get(place(consumer))
            .is_some_and(|slot| slot.as_ref().is_none_or(|lease| lease.left == 0 || lease.is_over(now)))
    }

    /// Those that are over at `now`, and have something to give back; all where there is no `now`. They have nothing left then.
    pub fn take_over(&self, now: Option<Timestamp>) -> Vec<Lease> {
        let mut slots = self.slots.borrow_mut();
        let over = |lease: &&mut Lease| lease.left > 0 && now.is_none_or(|now| lease.is_over(now));
        slots.iter_mut().flatten().filter(over).map(Lease::empty).collect()
    }
}

// === impl Lease ===

impl Lease {
    fn is_for(&self, consumer: usize, terms: &Rc<Terms>, cost: u64) -> bool {
        self.consumer == consumer && Rc::ptr_eq(&self.terms, terms) && self.cost == cost
    }

    /// Whether there was one, and it is not over.
    fn use_unit(&mut self, now: Timestamp) -> bool {
        let left = self.left.checked_sub(1).filter(|_| !self.is_over(now));
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Takes what is left of it, to give it back. It is over then, and how many requests used it is what the caller's next one is for.
    fn empty(&mut self) -> Self {
        let lease = self.clone();
        (self.size, self.left, self.ends_at) = (self.used(), 0, self.taken_at);
        lease
    }

    /// Requests that used it, the one that took it among them.
    fn used(&self) -> u64 {
        self.size.saturating_sub(self.left).max(1)
    }

    /// Also where the clock was set back.
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.ends_at || now < self.taken_at
    }

    /// As far as this worker knows: what others used meanwhile is told with the next lease.
    fn standing(&self, now: Timestamp) -> Option<Standing> {
        self.tightest.map(|Standing { limit, remaining, reset }| Standing {
            limit,
            remaining: remaining.saturating_add(self.left.saturating_mul(self.cost)),
            reset: reset.saturating_sub(now.since(self.taken_at)),
        })
    }
}

/// Whether units of these limits can be charged ahead.
fn fits(limits: &[Limit]) -> bool {
    limits.iter().all(|limit| limit.rule.algorithm != Algorithm::TokenBucket && limit.unit.tokens().is_none())
}

/// The slot of a consumer: those who are listed one after the other do not meet.
fn place(consumer: usize) -> usize {
    consumer % SLOTS
}

//! Reservations: tokens that are held for responses under way, and given up for what the responses really took.
//!
//! A counter has a few *slots* for them in the record: an amount, and until when it is held. Reservations that end at the same time share a
//! slot, so their ends are multiples of half a lifetime. A slot whose time has passed holds nothing: what a crashed worker had reserved comes
//! back by itself, once. While a response takes longer its reservation is moved to a later slot.
//!
//! ```text
//! in a counter's body, behind the counter:   tag u8 = 1 │ slots u8 │ (until u64, amount u64) …
//! ```

use crate::cost::Thousandths;
use crate::window::{SECOND, Timestamp};
use std::num::NonZeroU64;

/// The longest lifetime a configuration may ask for, in nanoseconds: one hour.
pub const LONGEST_LIFETIME: u64 = 3600 * SECOND;

/// How many different ends a counter's reservations can have. One lifetime makes three at most; what is beyond these is held longer. None in
/// a build without tokens, where they take no space.
pub const SLOTS: usize = if cfg!(feature = "llm") { 5 } else { 0 };

/// Tells slots from what a later build may put behind a counter.
const TAG: u8 = 1;

/// Nothing is reserved for longer: a slot that says so was written before the clock was set back.
const HORIZON: u64 = 2 * LONGEST_LIFETIME;

/// What is held until one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    until: Timestamp,
    /// 0: the slot is free.
    amount: u64,
}

/// What is held of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots([Slot; SLOTS]);

/// What an allowed request was charged and what was reserved for it: to be settled, renewed or given back. Kept with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// When it was admitted.
    pub(crate) charged_at: Timestamp,
    /// Units charged to every limit that counts requests.
    pub(crate) requests: u64,
    /// What a token costs.
    pub(crate) token_cost: Thousandths,
    /// Limits that were not charged and will not be, by index: those that only count and did not admit it.
    pub(crate) uncharged: Vec<usize>,
    /// One for each limit that counts this response's tokens.
    pub(crate) held: Vec<Held>,
}

/// What is held of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Index of the limit among the caller's.
    pub(crate) limit: usize,
    /// Units; 0 where nothing was reserved.
    pub(crate) amount: u64,
    /// Until when, at the latest.
    pub(crate) until: Timestamp,
    /// How long it is held before it has to be renewed.
    pub(crate) lifetime: u64,
    /// A time in the window that usage is charged in: that of the admission, or a later one that another worker had begun.
    pub(crate) charged_at: Timestamp,
}

/// When a reservation ends that is made at `now`: one to one and a half lifetimes later.
#[must_use]
pub fn until(now: Timestamp, lifetime: NonZeroU64) -> Timestamp {
    let step = NonZeroU64::new(lifetime.get() / 2).unwrap_or(NonZeroU64::MIN);
    let earliest = now.after(lifetime.get()).0;
    Timestamp(earliest.div_ceil(step.get()).saturating_mul(step.get()))
}

// === impl Slots ===

impl Slots {
    /// Takes them from the front of what follows a counter; none where something else follows.
    #[must_use]
    pub fn take_from(bytes: &mut &[u8]) -> Self {
        let mut slots = Self::default();
        if SLOTS == 0 {
            return slots;
        }
        let Some((&[TAG, count], mut rest)) = bytes.split_first_chunk::<2>() else {
            return slots;
        };
        for _ in 0..count {
            let Some((until, after)) = rest.split_first_chunk::<8>() else {
                return Self::default();
            };
            let Some((amount, after)) = after.split_first_chunk::<8>() else {
                return Self::default();
            };
            slots.add(Timestamp(u64::from_le_bytes(*until)), u64::from_le_bytes(*amount));
            rest = after;
        }
        *bytes = rest;
        slots
    }

    /// How many bytes [`Slots::write`] writes.
    #[must_use]
    pub fn length(&self) -> usize {
        match self.used().count() {
            0 => 0,
            slots => slots.saturating_mul(16).saturating_add(2),
        }
    }

    /// Writes them, if anything is held.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let count = self.used().count();
        if count > 0 {
            bytes.extend_from_slice(&[TAG, u8::try_from(count).unwrap_or(u8::MAX)]);
        }
        for slot in self.used() {
            bytes.extend_from_slice([slot.until.0, slot.amount].map(u64::to_le_bytes).as_flattened());
        }
    }

    /// What is still held at `now`. What was reserved before the clock made a big step back is held for a lifetime from now.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let mut live = Self::default();
        for slot in self.used().filter(|slot| slot.until > now) {
            let until = if slot.until.since(now) > HORIZON { now.after(LONGEST_LIFETIME) } else { slot.until };
            live.add(until, slot.amount);
        }
        live
    }

    /// Whether the clock made a big step back since one of them was written.
    #[must_use]
    pub fn set_back(&self, now: Timestamp) -> bool {
        self.used().any(|slot| slot.until.since(now) > HORIZON)
    }

    /// Units held altogether.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.used().fold(0, |sum, slot| sum.saturating_add(slot.amount))
    }

    /// From when on nothing is held; the epoch if nothing is.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.used().map(|slot| slot.until).max().unwrap_or_default()
    }

    /// Holds `amount` more until `until`. Where there are too many ends already, something is held longer for it: whoever gives that up will
    /// not find it, and it ends by itself.
    pub fn add(&mut self, until: Timestamp, amount: u64) {
        self.merge(until, amount, u64::saturating_add);
    }

    /// Gives up `amount` that was held until `until`; never more than is held until then.
    pub fn give_up(&mut self, until: Timestamp, amount: u64) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.amount > 0 && slot.until == until) {
            slot.amount = slot.amount.saturating_sub(amount);
        }
    }

    /// At any time at least as much as either.
    #[must_use]
    pub fn larger(mut self, other: &Self) -> Self {
        other.used().for_each(|slot| self.merge(slot.until, slot.amount, u64::max));
        self
    }

    /// `join` makes one amount of two that end at the same time.
    fn merge(&mut self, until: Timestamp, amount: u64, join: fn(u64, u64) -> u64) {
        if amount == 0 {
            return;
        }
        let same = self.0.iter_mut().find(|slot| slot.amount > 0 && slot.until == until);
        if let Some(slot) = same {
            slot.amount = join(slot.amount, amount);
            return;
        }
        let mut first = Slot { until, amount };
        if let Some(free) = self.0.iter_mut().find(|slot| slot.amount == 0) {
            *free = first;
            return;
        }
        // The one that ends first of those and the new one makes room: it is held as long as the next.
        for slot in &mut self.0 {
            if slot.until < first.until {
                std::mem::swap(slot, &mut first);
            }
        }
        if let Some(next) = self.0.iter_mut().min_by_key(|slot| slot.until) {
            next.amount = next.amount.saturating_add(first.amount);
        }
    }

    fn used(&self) -> impl Iterator<Item = &Slot> {
        self.0.iter().filter(|slot| slot.amount > 0)
    }
}

// === impl Reservation ===

impl Reservation {
    /// Of a request that was charged at `charged_at`, and of which nothing else is known yet.
    pub(crate) fn new(charged_at: Timestamp, requests: u64, token_cost: Thousandths) -> Self {
        Self { charged_at, requests, token_cost, uncharged: Vec::new(), held: Vec::new() }
    }

    /// When the request was admitted.
    #[must_use]
    pub fn charged_at(&self) -> Timestamp {
        self.charged_at
    }

    /// Whether the response's usage is charged to any limit: then it has to be settled or given back.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        !self.held.is_empty()
    }

    /// From when on it should be renewed if the response is not through by then: half a lifetime before it ends. `None` if nothing is held.
    #[must_use]
    pub fn renew_at(&self) -> Option<Timestamp> {
        let held = self.held.iter().filter(|held| held.amount > 0);
        held.map(|held| Timestamp(held.until.0.saturating_sub(held.lifetime / 2))).min()
    }
}

#[cfg(all(test, feature = "llm"))]
mod tests {
    use super::*;

    fn slots(amounts: &[(u64, u64)]) -> Slots {
        let mut slots = Slots::default();
        amounts.iter().for_each(|(until, amount)| slots.add(Timestamp(*until), *amount));
        slots
    }

    fn sorted(slots: &Slots) -> Vec<(u64, u64)> {
        let mut list: Vec<_> = slots.used().map(|slot| (slot.until.0, slot.amount)).collect();
        list.sort_unstable();
        list
    }

    #[test]
    fn ends_are_multiples_of_half_a_lifetime_and_there_are_three_at_most() {
        let lifetime = NonZeroU64::new(60 * SECOND).unwrap();
        let mut ends = Vec::new();
        let now = Timestamp(1_800_000_015 * SECOND);
        for second in 0..90 {
            let made = Timestamp(now.0 - second * SECOND);
            let end = until(made, lifetime);
            assert!(end >= made.after(lifetime.get()) && end < made.after(90 * SECOND), "{second}");
            assert_eq!(end.0 % (30 * SECOND), 0);
            ends.push(end);
        }
        ends.retain(|end| *end > now);
        ends.dedup();
        assert_eq!(ends.len(), 3);
        assert_eq!(until(Timestamp(7), NonZeroU64::MIN), Timestamp(8), "the shortest");
        assert_eq!(until(Timestamp(u64::MAX), lifetime), Timestamp(u64::MAX));
    }

    #[test]
    fn the_same_end_shares_a_slot_and_gives_up_no_more_than_it_holds() {
        let mut held = slots(&[(10, 3), (20, 4), (10, 5)]);
        assert_eq!(sorted(&held), [(10, 8), (20, 4)]);
        held.give_up(Timestamp(10), 5);
        held.give_up(Timestamp(15), 9);
        held.give_up(Timestamp(20), 9);
        assert_eq!(sorted(&held), [(10, 3)]);
        assert_eq!((held.total(), held.end()), (3, Timestamp(10)));
        assert_eq!(held.at(Timestamp(9)).total(), 3);
        assert_eq!(held.at(Timestamp(10)).total(), 0);
    }

    #[test]
    fn what_finds_no_slot_is_held_longer_never_shorter() {
        let five = [(10, 1), (20, 2), (30, 3), (40, 4), (50, 5)];
        for (until, held) in [
            (5, [(10, 101), (20, 2), (30, 3), (40, 4), (50, 5)]),
            (15, [(15, 101), (20, 2), (30, 3), (40, 4), (50, 5)]),
            (60, [(20, 3), (30, 3), (40, 4), (50, 5), (60, 100)]),
        ] {
            assert_eq!(sorted(&slots(&[&five[..], &[(until, 100)]].concat())), held, "{until}");
            // In whichever order the others came.
            let reversed: Vec<_> = five.iter().rev().copied().chain([(until, 100)]).collect();
            assert_eq!(sorted(&slots(&reversed)), held, "{until}");
        }
    }

    #[test]
    fn the_larger_of_two_holds_at_any_time_as_much_as_either() {
        let (one, other) = (slots(&[(10, 5), (20, 1)]), slots(&[(10, 2), (15, 3)]));
        assert_eq!(sorted(&one.larger(&other)), [(10, 5), (15, 3), (20, 1)]);
    }

    #[test]
    fn a_clock_set_back_by_more_than_any_lifetime_holds_for_one_lifetime() {
        let held = slots(&[(HORIZON * 3, 5)]);
        assert!(held.set_back(Timestamp(0)) && !held.set_back(Timestamp(HORIZON * 2)));
        assert_eq!(sorted(&held.at(Timestamp(7))), [(7 + LONGEST_LIFETIME, 5)]);
    }

    #[test]
    fn what_is_written_is_read_and_what_follows_is_left() {
        let held = slots(&[(10, 5), (20, 1)]);
        let mut bytes = Vec::new();
        held.write(&mut bytes);
        assert_eq!(bytes.len(), held.length());
        bytes.extend_from_slice(b"more");
        let mut rest = bytes.as_slice();
        assert_eq!(Slots::take_from(&mut rest), held);
        assert_eq!(rest, b"more");
        for foreign in [b"more".as_slice(), b"\x01", b"\x01\x01too short", b""] {
            let mut rest = foreign;
            assert_eq!(Slots::take_from(&mut rest), Slots::default());
            assert_eq!(rest, foreign);
        }
    }
}

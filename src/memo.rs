//! A memo: which listed key the keys seen lately were, so that SHA-256 is not computed again for each of their requests.
//!
//! A key is remembered by a hash of a hundred bits and more that is keyed with the namespace's secret: nobody can make another key that is taken
//! for it.

use std::cell::Cell;
use std::fmt;

/// How many keys are remembered at most; a power of two. They take 16 bytes each.
const MOST: usize = 1 << 20;

/// Remembers the last keys of each few slots. As large as what is listed needs, whatever is sent.
pub struct Memo {
    /// A power of two of them, at least 16.
    slots: Box<[Slot]>,
}

/// 96 bits of a key's hash, beside those that are the slot's place among the others. Then which listed key it is, or `NONE`.
type Slot = Cell<(u64, u32, u32)>;

/// No listed key: memory ends before there are so many.
const NONE: u32 = u32::MAX;

/// Where nothing was remembered yet.
const FREE: (u64, u32, u32) = (0, 0, NONE);

/// How many places a key may be in: those that are in one line of the processor's cache.
const BESIDE: usize = 4;

/// Hides what is remembered.
impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl Memo {
    /// With room for about twice as many keys as are listed.
    #[must_use]
    pub fn for_keys(listed: usize) -> Self {
        let slots = listed.saturating_mul(2).clamp(16, MOST).next_power_of_two();
        Self { slots: vec![Cell::new(FREE); slots].into() }
    }

    /// Which listed key the one of this hash is, if any; `find` tells, when that is not remembered.
    #[inline]
    pub fn recall(&self, hash: u128, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let (low, middle, high) = (hash as u32, (hash >> 32) as u32, (hash >> 64) as u64);
        // A power of two: the last bits of the hash choose.
        let place = low as usize & self.slots.len().wrapping_sub(1);
        let (known_high, known_middle, item) = self.slots.get(place)?.get();
        // Where nothing was remembered yet this is a key that is not listed; there will never be one with that hash.
        if (known_high, known_middle) == (high, middle) {
            return (item != NONE).then_some(item);
        }
        self.recall_beside(place, (high, middle), find)
    }

    /// The same where the key is not in its own place: looks into those beside it, or takes one of them.
    #[inline(never)]
    fn recall_beside(&self, place: usize, key: (u64, u32), find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let beside = || (0..BESIDE).filter_map(|other| self.slots.get(place ^ other));
        let known = beside().map(Cell::get).find(|(high, middle, _)| (*high, *middle) == key);
        let item = known.map_or_else(|| find().unwrap_or(NONE), |(.., item)| item);
        if known.is_none() {
            let free = beside().find(|slot| slot.get() == FREE).or_else(|| self.slots.get(place));
            if let Some(slot) = free {
                slot.set((key.0, key.1, item));
            }
        }
        (item != NONE).then_some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_another_key_takes_the_place() {
        let memo = Memo::for_keys(1);
        let key = |number: u128, place: u128| number << 32 | place;
        assert_eq!(memo.recall(key(1, 5), || Some(7)), Some(7));
        assert_eq!(memo.recall(key(1, 5), || panic!("asked again")), Some(7));
        assert_eq!(memo.recall(key(2, 8), || None), None, "another place");
        assert_eq!(memo.recall(key(2, 8), || panic!("asked again")), None);
        let beside = [(key(1 << 31, 5), Some(1)), (key(1 << 32, 5), None), (key(1 << 95, 6), Some(3))];
        for (other, item) in beside {
            assert_eq!(memo.recall(other, || item), item, "beside it");
        }
        for (other, item) in beside.into_iter().chain([(key(2, 8), None), (key(1, 5), Some(7))]) {
            assert_eq!(memo.recall(other, || panic!("asked again")), item, "there is room for four");
        }
        assert_eq!(memo.recall(key(3, 5), || Some(8)), Some(8), "and not for five");
        assert_eq!(memo.recall(key(3, 5), || panic!("asked again")), Some(8));
        assert_eq!(memo.recall(key(1, 5), || Some(9)), Some(9));
    }

    #[test]
    fn takes_no_more_memory_than_what_is_listed_needs() {
        assert_eq!([0, 100, 5_000_000].map(|listed| Memo::for_keys(listed).slots.len()), [16, 256, MOST]);
        assert_eq!(size_of::<Slot>(), 16);
    }
}

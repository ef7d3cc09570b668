//! A memo: which listed key the keys seen lately were, so that SHA-256 is not computed again for each of their requests.
//!
//! A key is remembered by a hash of a hundred bits and more that is keyed with the namespace's secret: nobody can make another key that is taken
//! for it.

use std::cell::Cell;
use std::fmt;

/// How many keys are remembered at most; a power of two. They take 16 bytes each.
const MOST: usize = 1 << 20;

/// Remembers the last key of each slot. As large as what is listed needs, whatever is sent.
pub struct Memo {
    /// A power of two of them, at least 16.
    slots: Box<[Slot]>,
}

/// 96 bits of a key's hash, beside those that are the slot's place among the others. Then which listed key it is, or `NONE`.
type Slot = Cell<(u64, u32, u32)>;

/// No listed key: memory ends before there are so many.
const NONE: u32 = u32::MAX;

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
        Self { slots: vec![Cell::new((0, 0, NONE)); slots].into() }
    }

    /// Which listed key the one of this hash is, if any; `find` tells, when that is not remembered.
    #[inline]
    pub fn recall(&self, hash: u128, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let (low, middle, high) = (hash as u32, (hash >> 32) as u32, (hash >> 64) as u64);
        // A power of two: the last bits of the hash choose.
        let slot = self.slots.get(low as usize & self.slots.len().wrapping_sub(1))?;
        let (known_high, known_middle, item) = slot.get();
        // Where nothing was remembered yet this is a key that is not listed; there will never be one with that hash.
        if (known_high, known_middle) == (high, middle) {
            return (item != NONE).then_some(item);
        }
        let found = find();
        slot.set((high, middle, found.unwrap_or(NONE)));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_another_key_takes_the_place() {
        let memo = Memo::for_keys(1);
        let key = 1 << 100;
        assert_eq!(memo.recall(key + 5, || Some(7)), Some(7));
        assert_eq!(memo.recall(key + 5, || panic!("asked again")), Some(7));
        assert_eq!(memo.recall(key + 6, || None), None, "another place");
        assert_eq!(memo.recall(key + 6, || panic!("asked again")), None);
        for (found, bit) in [32, 63, 64, 127].into_iter().enumerate() {
            let (other, found) = (key + 5 + (1 << bit), u32::try_from(found).ok());
            assert_eq!(memo.recall(other, || found), found, "the same place, another key");
        }
        assert_eq!(memo.recall(key + 5, || Some(9)), Some(9));
    }

    #[test]
    fn takes_no_more_memory_than_what_is_listed_needs() {
        assert_eq!([0, 100, 5_000_000].map(|listed| Memo::for_keys(listed).slots.len()), [16, 256, MOST]);
        assert_eq!(size_of::<Slot>(), 16);
    }
}

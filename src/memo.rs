//! A memo: which listed key the keys seen lately were, so that SHA-256 is not computed again for each of their requests.
//!
//! A key is remembered by a 128-bit hash that is keyed with the namespace's secret: nobody can make another key that is taken for it.

use std::cell::RefCell;
use std::fmt;

/// How many keys are remembered at most; a power of two.
const SLOTS: usize = 4096;

/// What a key turned out to be: a listed key's index, or none of them.
type Answer = Option<u32>;

type Slot = Option<(u128, Answer)>;

/// Remembers the last key of each slot. As large as what is listed needs, whatever is sent.
pub struct Memo {
    slots: RefCell<Box<[Slot]>>,
}

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
        let slots = listed.saturating_mul(2).clamp(16, SLOTS).next_power_of_two();
        Self { slots: RefCell::new(vec![None; slots].into()) }
    }

    /// What the key of this hash is; `find` tells, when that is not remembered.
    pub fn recall(&self, hash: u128, find: impl FnOnce() -> Answer) -> Answer {
        let mut slots = self.slots.borrow_mut();
        // A power of two: the last bits of the hash choose.
        let place = (hash as usize) & slots.len().saturating_sub(1);
        let Some(slot) = slots.get_mut(place) else {
            return find();
        };
        match slot {
            Some((known, answer)) if *known == hash => *answer,
            _ => slot.insert((hash, find())).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_another_key_takes_the_place() {
        let memo = Memo::for_keys(1);
        assert_eq!(memo.recall(5, || Some(7)), Some(7));
        assert_eq!(memo.recall(5, || panic!("asked again")), Some(7));
        assert_eq!(memo.recall(6, || None), None, "another place");
        assert_eq!(memo.recall(6, || panic!("asked again")), None);
        assert_eq!(memo.recall(5 + (1 << 64), || Some(8)), Some(8), "the same place, another key");
        assert_eq!(memo.recall(5, || Some(9)), Some(9));
    }

    #[test]
    fn takes_no_more_memory_than_what_is_listed_needs() {
        assert_eq!([0, 100, 1_000_000].map(|listed| Memo::for_keys(listed).slots.borrow().len()), [16, 256, 4096]);
    }
}

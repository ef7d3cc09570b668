//! A memo: whose the keys seen lately are, so that SHA-256 is not computed again for each of their requests.
//!
//! A key is remembered by a hash of a hundred bits and more that is keyed with the namespace's secret: nobody can make another key that is taken
//! for it.

use std::cell::{Ref, RefCell};
use std::fmt;

/// How many keys are remembered at most; a power of two. They take 16 bytes each, as long as what is remembered takes four.
const MOST: usize = 1 << 20;

/// Remembers the last keys of each few slots. As large as what is listed needs, whatever is sent.
pub struct Memo<T> {
    /// A power of two of them, at least 16.
    slots: RefCell<Box<[Slot<T>]>>,
}

/// A remembered key.
#[derive(Clone)]
struct Slot<T> {
    /// 96 bits of its hash, beside those that are the slot's place among the others: here in two fields, which leave no gap.
    high: u64,
    middle: u32,
    /// `None`: it is not listed.
    item: Option<T>,
}

type Hash = (u64, u32);

// Where a pointer has four bytes.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<Slot<std::rc::Rc<()>>>() == 16);

/// Where nothing was remembered yet this is a key that is not listed; there will never be one with that hash.
const FREE: Hash = (0, 0);

/// How many places a key may be in: those that are in two neighbouring lines of the processor's cache. Where all that are
/// listed ask in turn, less than one request in a hundred finds its key's place taken; it would be one in thirty with half as many.
const BESIDE: usize = 8;

/// Hides what is remembered.
impl<T> fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl<T> Slot<T> {
    fn new((high, middle): Hash, item: Option<T>) -> Self {
        Self { high, middle, item }
    }

    fn is_of(&self, hash: Hash) -> bool {
        (self.high, self.middle) == hash
    }
}

impl<T: Clone> Memo<T> {
    /// With room for about twice as many keys as are listed.
    #[must_use]
    pub fn for_keys(listed: usize) -> Self {
        let slots = listed.saturating_mul(2).clamp(16, MOST).next_power_of_two();
        Self { slots: RefCell::new(vec![Slot::new(FREE, None); slots].into()) }
    }

    /// What is known of the listed key of this hash, if it is one; `find` tells, when that is not remembered. Not to be asked again while that
    /// is looked at.
    #[inline]
    pub fn recall(&self, hash: u128, find: impl FnOnce() -> Option<T>) -> Option<Ref<'_, T>> {
        let (low, middle, high) = (hash as u32, (hash >> 32) as u32, (hash >> 64) as u64);
        let slots = self.slots.borrow();
        // A power of two: the last bits of the hash choose.
        let place = low as usize & slots.len().wrapping_sub(1);
        let hash = (high, middle);
        if slots.get(place)?.is_of(hash) {
            return Ref::filter_map(slots, |slots| slots.get(place)?.item.as_ref()).ok();
        }
        drop(slots);
        self.recall_beside(place, hash, find)
    }

    /// The same where the key is not in its own place: looks into those beside it, or takes one of them.
    #[inline(never)]
    fn recall_beside(&self, place: usize, hash: Hash, find: impl FnOnce() -> Option<T>) -> Option<Ref<'_, T>> {
        let with = |hash: Hash| {
            let slots = self.slots.borrow();
            let mut beside = (0..BESIDE).map(|other| place ^ other);
            beside.find(|place| slots.get(*place).is_some_and(|slot| slot.is_of(hash)))
        };
        let place = with(hash).unwrap_or_else(|| {
            let item = find();
            let place = with(FREE).unwrap_or(place);
            if let Some(slot) = self.slots.borrow_mut().get_mut(place) {
                *slot = Slot::new(hash, item);
            }
            place
        });
        Ref::filter_map(self.slots.borrow(), |slots| slots.get(place)?.item.as_ref()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_another_key_takes_the_place() {
        let memo = Memo::for_keys(1);
        let recall = |key, item: Option<u32>| memo.recall(key, || item).map(|item| *item);
        let again = |key| memo.recall(key, || panic!("asked again")).map(|item| *item);
        let key = |number: u128, place: u128| number << 32 | place;
        assert_eq!(recall(key(1, 5), Some(7)), Some(7));
        assert_eq!(again(key(1, 5)), Some(7));
        assert_eq!(recall(key(2, 8), None), None, "another place");
        assert_eq!(again(key(2, 8)), None);
        // Seven of other hashes, and one of them of another place: they differ from the first wherever they can.
        let mut beside = [(key(1 << 31, 5), Some(1)), (key(1 << 32, 5), None), (key(1 << 95, 6), Some(3))].to_vec();
        beside.extend((4..8).map(|number| (key(number, 5), u32::try_from(number).ok())));
        for (other, item) in beside.clone() {
            assert_eq!(recall(other, item), item, "beside it");
        }
        for (other, item) in beside.into_iter().chain([(key(2, 8), None), (key(1, 5), Some(7))]) {
            assert_eq!(again(other), item, "there is room for eight");
        }
        assert_eq!(recall(key(3, 5), Some(8)), Some(8), "and not for nine");
        assert_eq!(again(key(3, 5)), Some(8));
        assert_eq!(recall(key(1, 5), Some(9)), Some(9));
    }

    #[test]
    fn takes_no_more_memory_than_what_is_listed_needs() {
        assert_eq!(
            [0, 100, 5_000_000].map(|listed| Memo::<u32>::for_keys(listed).slots.borrow().len()),
            [16, 256, MOST]
        );
    }
}

//! A memo: whose the keys seen lately are, so that SHA-256 is not computed again for each of their requests.
//!
//! A key is remembered by a hash of a hundred bits and more that is keyed with the namespace's secret: nobody can make another key that is taken
//! for it.

use std::cell::{Ref, RefCell};
use std::fmt;

/// How many keys are remembered at most.
const MOST: usize = 1 << 20;

/// Remembers the last keys of each few slots. As large as what is listed needs, whatever is sent.
pub struct Memo<T> {
    /// A multiple of [`BESIDE`] of them.
    slots: RefCell<Box<[Slot<T>]>>,
}

/// A remembered key, and what is known of it: where there are many, nobody has looked at it lately, and this is one line of the processor's cache
/// to wait for, as long as that takes no more than 52 bytes.
#[repr(align(64))]
struct Slot<T> {
    hash: Hash,
    /// `None`: it is not listed.
    item: Option<T>,
}

/// 96 bits, beside those that are the slot's place among the others.
type Hash = [u32; 3];

/// Where nothing was remembered yet this is a key that is not listed; there will never be one with that hash.
const FREE: Hash = [0; 3];

/// How many places a key may be in, one beside the other. Where all that are listed ask in turn, three requests in a thousand find its key's place
/// taken; it would be one in fifty with half as many.
const BESIDE: usize = 16;

/// Hides what is remembered.
impl<T> fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl<T> Memo<T> {
    /// With room for three quarters more keys than are listed: less than the text of a configuration with them, whose memory it can take.
    #[must_use]
    pub fn for_keys(listed: usize) -> Self {
        let slots = (listed.saturating_mul(7) / 4).clamp(1, MOST).next_multiple_of(BESIDE);
        Self { slots: RefCell::new((0..slots).map(|_| Slot { hash: FREE, item: None }).collect()) }
    }

    /// What is known of the listed key of this hash, if it is one; `find` tells, when that is not remembered. Not to be asked again while that
    /// is looked at.
    #[inline]
    pub fn recall(&self, hash: u128, find: impl FnOnce() -> Option<T>) -> Option<Ref<'_, T>> {
        match self.known(hash) {
            None => self.learn(hash, find),
            known => known,
        }
    }

    /// The same if that is remembered; `None` says nothing.
    #[inline(always)]
    pub fn known(&self, hash: u128) -> Option<Ref<'_, T>> {
        let slots = self.slots.borrow();
        let (place, hash) = place(hash, slots.len());
        if slots.get(place)?.hash == hash {
            return Ref::filter_map(slots, |slots| slots.get(place)?.item.as_ref()).ok();
        }
        drop(slots);
        self.at(self.beside(place, hash)?)
    }

    /// Where there is this beside a key's own place, or in it.
    #[inline(never)]
    fn beside(&self, place: usize, hash: Hash) -> Option<usize> {
        let slots = self.slots.borrow();
        (0..BESIDE).map(|other| place ^ other).find(|place| slots.get(*place).is_some_and(|slot| slot.hash == hash))
    }

    fn at(&self, place: usize) -> Option<Ref<'_, T>> {
        Ref::filter_map(self.slots.borrow(), |slots| slots.get(place)?.item.as_ref()).ok()
    }

    /// Finds what is known of a key, if it is not remembered that it is not listed, and takes one of its places.
    #[inline(never)]
    fn learn(&self, hash: u128, find: impl FnOnce() -> Option<T>) -> Option<Ref<'_, T>> {
        let (place, hash) = place(hash, self.slots.borrow().len());
        if self.beside(place, hash).is_some() {
            return None;
        }
        let item = find();
        let place = self.beside(place, FREE).unwrap_or(place);
        if let Some(slot) = self.slots.borrow_mut().get_mut(place) {
            *slot = Slot { hash, item };
        }
        self.at(place)
    }
}

/// Which of so many slots is a key's own, and what it has there. As its hash is among all of 32 bits (D. Lemire, "Fast Random Integer Generation in an
/// Interval", 2019).
#[inline(always)]
fn place(hash: u128, slots: usize) -> (usize, Hash) {
    let place = u64::from(hash as u32).wrapping_mul(slots as u64) >> 32;
    (place as usize, [(hash >> 32) as u32, (hash >> 64) as u32, (hash >> 96) as u32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_another_key_takes_the_place() {
        let memo = Memo::for_keys(1);
        let recall = |key, item: Option<u32>| memo.recall(key, || item).map(|item| *item);
        let again = |key| memo.recall(key, || panic!("asked again")).map(|item| *item);
        // There are sixteen places: the first four of the low 32 bits say which.
        let key = |number: u128, place: u128| number << 32 | place << 28;
        assert_eq!(recall(key(1, 5), Some(7)), Some(7));
        assert_eq!(again(key(1, 5)), Some(7));
        assert_eq!(recall(key(2, 8), None), None, "another place");
        assert_eq!(again(key(2, 8)), None);
        // Fourteen more, of which the first differ from the first of all wherever they can.
        let mut beside = [(key(1 << 31, 5), Some(1)), (key(1 << 32, 5), None), (key(1 << 95, 6), Some(3))].to_vec();
        beside.extend((4..15).map(|number| (key(number, 5), u32::try_from(number).ok())));
        for (other, item) in beside.clone() {
            assert_eq!(recall(other, item), item, "beside it");
        }
        for (other, item) in beside.into_iter().chain([(key(2, 8), None), (key(1, 5), Some(7))]) {
            assert_eq!(again(other), item, "there is room for sixteen");
        }
        assert_eq!(recall(key(3, 5), Some(8)), Some(8), "and not for seventeen");
        assert_eq!(again(key(3, 5)), Some(8));
        assert_eq!(recall(key(1, 5), Some(9)), Some(9));
    }

    #[test]
    fn takes_no_more_memory_than_what_is_listed_needs() {
        assert_eq!(
            [0, 100, 5_000_000].map(|listed| Memo::<u32>::for_keys(listed).slots.borrow().len()),
            [16, 176, MOST]
        );
    }
}

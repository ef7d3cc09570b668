//! An index: finds the items of a list by what they are known by, with one look into the index and one at the item.
//!
//! It holds the items' numbers alone, where a map would hold a copy of each key: a list can be long, and every worker has its own.

use crate::sip::Hashing;
use std::fmt;
use std::hash::{BuildHasher, Hash};

/// The numbers of items, by the hash of a key of each.
#[derive(Clone, Default)]
pub(crate) struct Index {
    /// A power of two of them, at most three quarters in use, so that every search ends at a free one.
    slots: Vec<Slot>,
    used: usize,
    hashing: Hashing,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Of the key: most others are passed over without a look at their items.
    hash: u32,
    item: u32,
}

/// Marks a slot that is free; memory ends before a list has so many items.
const FREE: u32 = u32::MAX;

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index of {}", self.used)
    }
}

impl Index {
    /// With room for so many items, since an index that grows is there twice for a while.
    pub(crate) fn with_capacity(items: usize) -> Self {
        let mut index = Self::default();
        if items > 0 {
            index.resize(items.saturating_add(items.div_ceil(3)));
        }
        index
    }

    /// The item with this key; `is` says whether it is that of an item.
    pub(crate) fn find(&self, key: &(impl Hash + ?Sized), is: impl Fn(usize) -> bool) -> Option<usize> {
        let hash = self.hash(key);
        let found = self.from(hash).find(|slot| slot.item == FREE || (slot.hash == hash && is(slot.item as usize)))?;
        (found.item != FREE).then_some(found.item as usize)
    }

    /// Adds an item with a key that no other has.
    pub(crate) fn add(&mut self, key: &(impl Hash + ?Sized), item: usize) {
        let Some(item) = u32::try_from(item).ok().filter(|item| *item != FREE) else {
            return;
        };
        let after = self.used.saturating_add(1);
        if after.saturating_mul(4) > self.slots.len().saturating_mul(3) {
            self.resize(self.slots.len().saturating_mul(2));
        }
        let slot = Slot { hash: self.hash(key), item };
        self.put(slot);
        self.used = after;
    }

    fn hash(&self, key: &(impl Hash + ?Sized)) -> u32 {
        let [a, b, c, d, ..] = self.hashing.hash_one(key).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// All slots, from the one where a search for this hash starts.
    fn from(&self, hash: u32) -> impl Iterator<Item = &Slot> {
        let (before, after) = self.slots.split_at_checked(self.start(hash)).unwrap_or_default();
        after.iter().chain(before)
    }

    fn start(&self, hash: u32) -> usize {
        hash as usize & self.slots.len().saturating_sub(1)
    }

    fn put(&mut self, slot: Slot) {
        let start = self.start(slot.hash);
        let (before, after) = self.slots.split_at_mut(start);
        if let Some(free) = after.iter_mut().chain(before).find(|known| known.item == FREE) {
            *free = slot;
        }
    }

    fn resize(&mut self, at_least: usize) {
        let slots = vec![Slot { hash: 0, item: FREE }; at_least.max(8).next_power_of_two()];
        for slot in std::mem::replace(&mut self.slots, slots) {
            if slot.item != FREE {
                self.put(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_item_of_every_key_is_found_and_nothing_else(
            keys in prop::collection::hash_set(any::<u16>(), 0..300), room in 0..300_usize, others: [u16; 32],
        ) {
            let mut index = Index::with_capacity(room);
            let keys: Vec<u16> = keys.into_iter().collect();
            for (item, key) in keys.iter().enumerate() {
                index.add(key, item);
            }
            for key in keys.iter().chain(&others) {
                let found = index.find(key, |item| keys.get(item) == Some(key));
                prop_assert_eq!(found, keys.iter().position(|known| known == key));
            }
        }

        #[test]
        fn items_fit_into_the_room_that_was_asked_for(items in 1..2000_usize) {
            let mut index = Index::with_capacity(items);
            let slots = index.slots.len();
            for item in 0..items {
                index.add(&item, item);
            }
            prop_assert_eq!(index.slots.len(), slots);
            let needed = items.saturating_add(items.div_ceil(3));
            prop_assert!(slots <= 8 || slots / 2 < needed, "{} slots for {}", slots, items);
        }
    }
}

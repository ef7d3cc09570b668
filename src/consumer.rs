//! Consumers: whose a key is.

use crate::index::Index;
use crate::key::{ApiKey, KeyHash};
use crate::plan::Limit;
use std::rc::Rc;

/// A listed owner of API keys. All its keys share its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consumer {
    /// The name in the configuration, which its record is found by.
    pub name: Box<str>,
    /// Index of its plan in the configuration's plans.
    pub plan: usize,
    /// The plan's limits with the consumer's own put in; `None` where it has no own.
    pub limits: Option<Box<[Limit]>>,
    /// Whether all its requests are refused.
    pub disabled: bool,
    /// Another number is another record: its counters start anew.
    pub generation: u64,
}

/// What the configuration says about one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedKey {
    /// Its name, for logs.
    pub name: Option<Rc<str>>,
    /// Whether it is refused.
    pub disabled: bool,
}

/// All listed consumers, found by the hash of a key or by name. There may be a hundred thousand, on every worker: nothing is held twice.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    consumers: Vec<Consumer>,
    names: Index,
    keys: Vec<Key>,
    hashes: Index,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    hash: KeyHash,
    /// Index of its consumer.
    consumer: u32,
    listed: ListedKey,
}

impl Directory {
    /// With room for so many consumers, each with a key if they have any.
    #[must_use]
    pub fn with_capacity(consumers: usize, with_keys: bool) -> Self {
        let keys = if with_keys { consumers } else { 0 };
        Self {
            consumers: Vec::with_capacity(consumers),
            names: Index::with_capacity(consumers),
            keys: Vec::with_capacity(keys),
            hashes: Index::with_capacity(keys),
        }
    }

    /// Adds a consumer. Of several with the same name the first is found; the configuration refuses that.
    pub fn add(&mut self, consumer: Consumer) {
        if self.by_name(consumer.name.as_bytes()).is_none() {
            self.names.add(&*consumer.name, self.consumers.len());
        }
        self.consumers.push(consumer);
    }

    /// Adds a key of the consumer that was added last.
    ///
    /// # Errors
    /// The index of its owner, when it is listed already; that one keeps it.
    pub fn add_key(&mut self, hash: KeyHash, listed: ListedKey) -> Result<(), usize> {
        if let Some(known) = self.position(&hash).and_then(|index| self.keys.get(index)) {
            return Err(known.consumer as usize);
        }
        // As many do not fit into memory.
        let consumer = u32::try_from(self.consumers.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.hashes.add(&hash, self.keys.len());
        self.keys.push(Key { hash, consumer, listed });
        Ok(())
    }

    /// The index of this key among those that are listed. Hashes are compared, never keys.
    #[must_use]
    pub fn find(&self, key: &ApiKey<'_>) -> Option<u32> {
        u32::try_from(self.position(&key.hash())?).ok()
    }

    /// The listed key of that index, and the consumer whose it is, with its index.
    #[must_use]
    pub fn key(&self, index: u32) -> Option<(usize, &Consumer, &ListedKey)> {
        let Key { consumer, listed, .. } = self.keys.get(index as usize)?;
        let index = *consumer as usize;
        Some((index, self.consumers.get(index)?, listed))
    }

    /// The same where its consumer is known: neither it nor the key is looked at.
    #[must_use]
    #[inline]
    pub fn key_of(&self, consumer: usize, key: u32) -> Option<(&Consumer, &ListedKey)> {
        Some((self.consumers.get(consumer)?, &self.keys.get(key as usize)?.listed))
    }

    /// How many keys are listed.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The consumer of that name, with its index.
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<(usize, &Consumer)> {
        let name = std::str::from_utf8(name).ok()?;
        let is = |index: usize| self.consumers.get(index).is_some_and(|consumer| *consumer.name == *name);
        let index = self.names.find(name, is)?;
        Some((index, self.consumers.get(index)?))
    }

    /// The consumers in the order of the configuration.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    fn position(&self, hash: &KeyHash) -> Option<usize> {
        self.hashes.find(hash, |index| self.keys.get(index).is_some_and(|key| key.hash == *hash))
    }
}

/// The indexes follow from the rest.
impl PartialEq for Directory {
    fn eq(&self, other: &Self) -> bool {
        (&self.consumers, &self.keys) == (&other.consumers, &other.keys)
    }
}

impl Eq for Directory {}

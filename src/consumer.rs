//! Consumers: whose a key is.

use crate::key::{ApiKey, KeyHash};
use crate::plan::Limit;
use std::collections::HashMap;
use std::rc::Rc;

/// A listed owner of API keys. All its keys share its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The name in the configuration; also the name of its record.
    pub name: Rc<str>,
    /// Index of its plan in the configuration's plans.
    pub plan: usize,
    /// The plan's limits with the consumer's own put in; `None` where it has no own.
    pub limits: Option<Vec<Limit>>,
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

/// All listed consumers, found by the hash of a key or by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    consumers: Vec<Consumer>,
    keys: HashMap<KeyHash, (usize, ListedKey)>,
    names: HashMap<Rc<str>, usize>,
}

impl Directory {
    /// Adds a consumer with its keys. A key that is there already keeps its first owner; the configuration refuses that.
    pub fn add(&mut self, consumer: Consumer, keys: impl IntoIterator<Item = (KeyHash, ListedKey)>) {
        let index = self.consumers.len();
        for (hash, key) in keys {
            self.keys.entry(hash).or_insert((index, key));
        }
        self.names.entry(consumer.name.clone()).or_insert(index);
        self.consumers.push(consumer);
    }

    /// The consumer whose key this is, with its index. Hashes are compared, never keys.
    #[must_use]
    pub fn by_key(&self, key: &ApiKey) -> Option<(usize, &Consumer, &ListedKey)> {
        if self.keys.is_empty() {
            return None;
        }
        let (index, key) = self.keys.get(&key.hash())?;
        Some((*index, self.consumers.get(*index)?, key))
    }

    /// The consumer of that name, with its index.
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<(usize, &Consumer)> {
        let index = *self.names.get(std::str::from_utf8(name).ok()?)?;
        Some((index, self.consumers.get(index)?))
    }

    /// The consumers in the order of the configuration.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }
}

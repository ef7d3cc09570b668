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
}

/// All listed consumers, found by the hash of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    consumers: Vec<Consumer>,
    keys: HashMap<KeyHash, usize>,
}

impl Directory {
    /// Adds a consumer with its keys. A key that is there already keeps its first owner; the configuration refuses that.
    pub fn add(&mut self, consumer: Consumer, keys: impl IntoIterator<Item = KeyHash>) {
        for key in keys {
            self.keys.entry(key).or_insert(self.consumers.len());
        }
        self.consumers.push(consumer);
    }

    /// Index of the consumer whose key this is. Hashes are compared, never keys.
    #[must_use]
    pub fn find(&self, key: &ApiKey) -> Option<usize> {
        if self.keys.is_empty() {
            return None;
        }
        self.keys.get(&key.hash()).copied()
    }

    /// The consumers in the order of the configuration.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }
}

//! Shared data: the one store that all of a proxy's workers see.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Status;

/// Which rules [`SharedData`] keeps. The broken ones prove that a test for lost updates can fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Envoy's rules.
    #[default]
    Exact,
    /// A writer that saw the key absent (version `u32::MAX`) overwrites one that was created meanwhile: what a limiter
    /// does that writes its first record without an exclusive create.
    BlindCreate,
    /// Every write overwrites: no compare-and-swap at all.
    BlindWrite,
}

/// A process's shared data for one `vm_id`: key → value and optimistic lock version ("CAS").
///
/// As in Envoy the versions are one counter over all keys that skips 0, a write with version 0 always overwrites, a
/// write to an absent key creates it whatever the version, and nothing is ever freed.
#[derive(Debug)]
pub struct SharedData {
    mode: Mode,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    values: Values,
    next_version: u32,
    written: Vec<(Vec<u8>, Vec<u8>)>,
}

type Values = HashMap<Vec<u8>, (Vec<u8>, u32)>;

/// A state of [`SharedData`] to return to.
#[derive(Clone, Debug)]
pub struct Snapshot {
    values: Values,
    next_version: u32,
}

impl Default for SharedData {
    fn default() -> Self {
        Self::new(Mode::Exact)
    }
}

impl SharedData {
    /// Empty shared data.
    pub fn new(mode: Mode) -> Self {
        Self::with_next_version(mode, 1)
    }

    /// Empty shared data whose next write gets this version, to see what happens where the counter wraps.
    pub fn with_next_version(mode: Mode, next_version: u32) -> Self {
        let inner = Inner { values: HashMap::new(), next_version: next_version.max(1), written: Vec::new() };
        Self { mode, inner: Mutex::new(inner) }
    }

    /// Value and version of a key.
    pub fn get(&self, key: &[u8]) -> Option<(Vec<u8>, u32)> {
        self.lock().values.get(key).cloned()
    }

    /// Writes a key as `proxy_set_shared_data` does.
    pub fn set(&self, key: &[u8], value: &[u8], version: u32) -> Status {
        let mut inner = self.lock();
        let current = inner.values.get(key).map(|(_, current)| *current);
        let refused = match (self.mode, current) {
            (_, None) | (Mode::BlindWrite, _) => false,
            (Mode::BlindCreate, _) if version == u32::MAX => false,
            (_, Some(current)) => version != 0 && version != current,
        };
        if refused {
            return Status::CasMismatch;
        }
        let version = inner.next_version;
        inner.next_version = version.checked_add(1).unwrap_or(1);
        inner.values.insert(key.to_vec(), (value.to_vec(), version));
        inner.written.push((key.to_vec(), value.to_vec()));
        Status::Ok
    }

    /// Every key that exists, sorted.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = self.lock().values.keys().cloned().collect();
        keys.sort();
        keys
    }

    /// The bytes that all keys and values hold together: what bounded memory is measured by.
    pub fn bytes(&self) -> usize {
        self.lock().values.iter().map(|(key, (value, _))| key.len() + value.len()).sum()
    }

    /// Every (key, value) ever written, in order, also those overwritten since: the place to search for what must not
    /// be there.
    pub fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.lock().written.clone()
    }

    /// The state to come back to with [`restore`](Self::restore).
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot { values: inner.values.clone(), next_version: inner.next_version }
    }

    /// Goes back to a snapshot, versions included. What was written stays in [`dump`](Self::dump).
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut inner = self.lock();
        inner.values.clone_from(&snapshot.values);
        inner.next_version = snapshot.next_version;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No update leaves it half done, so a test that failed elsewhere does not spoil it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

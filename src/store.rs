//! The store: values in the proxy's shared data, changed by compare-and-swap only.

use std::fmt;

/// How often a change is tried before the store gives up.
pub const ATTEMPTS: u32 = 10_000;

/// The version of a stored value, compared for equality only (a process-wide 32-bit counter that wraps).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The key did not exist when it was read: the write creates it, and only if it still does not exist.
    Absent,
    /// The value that was read had this version.
    Stored(u32),
}

/// A value as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes; empty where the key does not exist.
    pub value: Vec<u8>,
    /// What a write has to present.
    pub version: Version,
}

/// Whether a write took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The value is stored.
    Stored,
    /// Somebody else wrote since the read; nothing was changed.
    Conflict,
}

/// A host function that failed, and the proxy-wasm status it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError {
    /// The host function, without its `proxy_` prefix.
    pub call: &'static str,
    /// The status, as in the proxy-wasm ABI.
    pub status: u32,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy_{} returned status {}", self.call, self.status)
    }
}

/// Shared data of all workers: what the store needs of the host.
pub trait SharedData {
    /// Reads a value and its version.
    ///
    /// # Errors
    /// When the host refuses; an absent key is no error.
    fn get(&self, key: &[u8]) -> Result<Versioned, HostError>;

    /// Writes `value` if the key is still at `version`.
    ///
    /// # Errors
    /// When the host refuses; a lost race is no error.
    fn set(&self, key: &[u8], value: &[u8], version: Version) -> Result<Written, HostError>;
}

/// Why a change did not take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The host refused a read or a write.
    Host(HostError),
    /// [`ATTEMPTS`] races lost in a row.
    Contended,
}

/// A change that took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// What the transition answered when it succeeded.
    pub answer: T,
    /// Races lost before that.
    pub conflicts: u32,
}

/// A value that was read and that nothing was made of, and the races lost before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchanged {
    read: Versioned,
    conflicts: u32,
}

impl Unchanged {
    /// The value; empty where the key does not exist.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.read.value
    }
}

/// Reads the value of `key`, lets `transition` make the new one of it, and writes that; after a lost race all of it again.
/// A transition that returns no value changes nothing.
///
/// # Errors
/// See [`StoreError`]. Nothing has been written then.
pub fn change<T>(
    data: &impl SharedData,
    key: &[u8],
    transition: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<Changed<T>, StoreError> {
    change_from(data, key, read(data, key)?, transition)
}

/// Reads the value of `key`.
///
/// # Errors
/// When the host refuses.
pub fn read(data: &impl SharedData, key: &[u8]) -> Result<Unchanged, StoreError> {
    Ok(Unchanged { read: data.get(key).map_err(StoreError::Host)?, conflicts: 0 })
}

/// The same with what was read already.
///
/// # Errors
/// See [`StoreError`]. Nothing has been written then.
pub fn change_from<T>(
    data: &impl SharedData,
    key: &[u8],
    first: Unchanged,
    mut transition: impl FnMut(&[u8]) -> (Option<Vec<u8>>, T),
) -> Result<Changed<T>, StoreError> {
    until_stored(data, key, Some(first), |Unchanged { read, conflicts }| {
        let (value, answer) = transition(&read.value);
        let done = match value {
            None => true,
            Some(value) => stored(data, key, &value, read.version)?,
        };
        Ok(done.then_some(Changed { answer, conflicts }))
    })
}

/// The same as [`change`] for a `transition` that writes the new value into `buffer`, so that nothing has to be allocated for it. If it answers
/// nothing, nothing is changed, and what was read is there for [`change_from`].
///
/// # Errors
/// See [`StoreError`]. Nothing has been written then.
#[inline(always)]
pub fn rewrite<T>(
    data: &impl SharedData,
    key: &[u8],
    buffer: &mut Vec<u8>,
    mut transition: impl FnMut(&[u8], &mut Vec<u8>) -> Option<T>,
) -> Result<Result<Changed<T>, Unchanged>, StoreError> {
    until_stored(data, key, None, |Unchanged { read, conflicts }| {
        let Some(answer) = transition(&read.value, buffer) else {
            return Ok(Some(Err(Unchanged { read, conflicts })));
        };
        Ok(stored(data, key, buffer, read.version)?.then_some(Ok(Changed { answer, conflicts })))
    })
}

/// Lets `attempt` make something of what is stored, until it says that it is done; `first` is what was read already.
#[inline(always)]
fn until_stored<T>(
    data: &impl SharedData,
    key: &[u8],
    mut first: Option<Unchanged>,
    mut attempt: impl FnMut(Unchanged) -> Result<Option<T>, StoreError>,
) -> Result<T, StoreError> {
    let mut conflicts = 0;
    loop {
        // The version is always that of the last read before. A create must not be tried on an older one's word: on a key that exists it would
        // be taken for a write with that version.
        let read = match first.take() {
            Some(first) => {
                conflicts = first.conflicts;
                first
            }
            None => Unchanged { conflicts, ..read(data, key)? },
        };
        if let Some(done) = attempt(read)? {
            return Ok(done);
        }
        conflicts = conflicts.saturating_add(1);
        if conflicts >= ATTEMPTS {
            return Err(StoreError::Contended);
        }
    }
}

/// Writes `value`; whether it is stored, and not a lost race.
#[inline(always)]
fn stored(data: &impl SharedData, key: &[u8], value: &[u8], version: Version) -> Result<bool, StoreError> {
    Ok(data.set(key, value, version).map_err(StoreError::Host)? == Written::Stored)
}

/// Shared data of one thread, for tests and tools outside a proxy.
pub mod memory {
    use super::{HostError, SharedData, Version, Versioned, Written};
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;

    type Value = (Vec<u8>, u32);

    /// Behaves as the host does: versions come from one counter over all keys.
    #[derive(Debug, Default)]
    pub struct Memory {
        values: RefCell<HashMap<Vec<u8>, Value>>,
        version: Cell<u32>,
    }

    impl SharedData for Memory {
        fn get(&self, key: &[u8]) -> Result<Versioned, HostError> {
            Ok(match self.values.borrow().get(key) {
                Some((value, version)) => Versioned { value: value.clone(), version: Version::Stored(*version) },
                None => Versioned { value: Vec::new(), version: Version::Absent },
            })
        }

        fn set(&self, key: &[u8], value: &[u8], version: Version) -> Result<Written, HostError> {
            let mut values = self.values.borrow_mut();
            let stored = values.get(key).map_or(Version::Absent, |(_, version)| Version::Stored(*version));
            if stored != version {
                return Ok(Written::Conflict);
            }
            self.version.set(self.version.get().wrapping_add(1));
            values.insert(key.to_vec(), (value.to_vec(), self.version.get()));
            Ok(Written::Stored)
        }
    }
}

//! The table of everybody who is not listed: a fixed number of records, however many keys there are.
//!
//! A hash table of sets in the shared data, each one value of at most [`MAX_WAYS`] records, found by a keyed 64-bit hash. When a set is full,
//! records that are empty go first; else the record with the smallest used share goes, and what it had used becomes part of the set's
//! *floor*: per limit the most that was ever evicted, falling by the same rules as any counter. Whoever is not in the set starts from its
//! floor. So whoever was evicted and returns is counted at least as used as before, nobody shares a counter, and an exhausted key stays
//! exhausted. This is the space-saving algorithm (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data
//! streams", 2005) with counters that age: n keys that are never seen again cost a newcomer about n divided by the records of the table.
//!
//! ```text
//! version u8 = 1 │ records u8 │ floor length u16 │ floor │ record …          record: hash u64 │ length u16 │ bytes
//! ```

use crate::decision::Decision;
use crate::limiter::{self, Outcome};
use crate::plan::Limit;
use crate::record::{CounterId, Record, Rules};
use crate::window::Timestamp;

const VERSION: u8 = 1;

/// The most records in one set: with three limits, what is copied for one request stays below 6 KiB.
pub const MAX_WAYS: u8 = 32;

/// The shape of a table; all workers must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Number of sets, at least 1.
    pub sets: u32,
    /// Records in a set, 1 … [`MAX_WAYS`].
    pub ways: u8,
}

/// What a request of somebody in the table may be charged.
pub struct Charge<'a> {
    /// The hash of who it is.
    pub hash: u64,
    /// Its limits.
    pub limits: &'a [Limit],
    /// Units.
    pub cost: u64,
    /// Every counter this caller can ever have, so that a newcomer takes no more than these from the floor.
    pub counters: &'a [CounterId],
}

/// A decision about somebody in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOutcome {
    /// The decision. Its record is that of the caller alone.
    pub outcome: Outcome,
    /// Records that were there before and are not any more, because they were empty.
    pub expired: u32,
    /// Records that had to go to the floor.
    pub evicted: u32,
    /// Whether the caller was not in the set.
    pub newcomer: bool,
    /// Whether it is now, and was not.
    pub added: bool,
    /// What was stored was none of this layout and counted as empty.
    pub malformed: bool,
}

/// A set as read: the stored bytes, looked at where they are.
#[derive(Clone, Copy, Default)]
struct Set<'a> {
    floor: &'a [u8],
    /// Whole records, each with its hash and its length, one after the other.
    records: &'a [u8],
}

/// One record in a set.
#[derive(Clone, Copy)]
struct Entry<'a> {
    hash: u64,
    record: &'a [u8],
    /// The entry itself.
    bytes: &'a [u8],
}

// === impl Geometry ===

impl Geometry {
    /// A table for at most `keys` records, rounded down to whole sets; at least one record.
    #[must_use]
    pub fn for_keys(keys: u32) -> Self {
        let ways = u8::try_from(keys.clamp(1, u32::from(MAX_WAYS))).unwrap_or(MAX_WAYS);
        const FULL: u32 = MAX_WAYS as u32;
        Self { sets: (keys / FULL).max(1), ways }
    }

    /// Records in the whole table.
    #[must_use]
    pub fn keys(self) -> u64 {
        u64::from(self.sets).saturating_mul(u64::from(self.ways))
    }

    /// The set of a hash.
    #[must_use]
    pub fn set(self, hash: u64) -> u32 {
        // The hash's upper half times the number of sets, as a fraction (Lemire's reduction).
        let product = (hash >> 32).saturating_mul(u64::from(self.sets));
        u32::try_from(product >> 32).unwrap_or_default()
    }
}

/// Decides a request of the caller `charge.hash` in its set: old value → (new value, outcome). `rules` tell how counters age.
#[must_use]
pub fn decide(
    set: &[u8],
    ways: u8,
    charge: &Charge<'_>,
    rules: Rules<'_>,
    now: Timestamp,
) -> (Option<Vec<u8>>, TableOutcome) {
    let (set, malformed) = match Set::decode(set) {
        Some(set) => (set, false),
        None => (Set::default(), true),
    };
    let known = set.entries().find(|entry| entry.hash == charge.hash);
    let decoded = Record::decode(known.map_or(set.floor, |entry| entry.record));
    let malformed = malformed || decoded.is_err();
    let record = decoded.unwrap_or_default().refreshed(rules);
    let record = if known.is_some() { record } else { record.only(charge.counters) };
    let mut outcome = limiter::decide(&record, charge.limits, charge.cost, now);
    let stored = outcome.record.take();
    let denied = matches!(outcome.decision, Decision::Denied { .. });
    let mut result =
        TableOutcome { outcome, expired: 0, evicted: 0, newcomer: known.is_none(), added: false, malformed };
    let Some(bytes) = stored else {
        return (None, result);
    };
    if known.is_some() {
        return (Some(set.with(charge.hash, &bytes)), result);
    }
    // A denied newcomer whose counters were only moved by a clock step is not worth a place.
    if denied {
        return (None, result);
    }
    result.added = true;
    if set.entries().count() < usize::from(ways) {
        return (Some(set.with(charge.hash, &bytes)), result);
    }
    let mut entries: Vec<Entry<'_>> = set.entries().collect();
    let before = entries.len();
    entries.retain(|entry| Record::decode(entry.record).is_ok_and(|record| record.refreshed(rules).empty_at() > now));
    result.expired = u32::try_from(before.saturating_sub(entries.len())).unwrap_or(u32::MAX);
    let mut floor = set.floor.to_vec();
    while entries.len() >= usize::from(ways) {
        let gone = entries.remove(smallest(&entries, rules, now));
        let gone = Record::decode(gone.record).unwrap_or_default().refreshed(rules);
        floor = Record::decode(&floor).unwrap_or_default().refreshed(rules).larger(&gone, rules, now);
        result.evicted = result.evicted.saturating_add(1);
    }
    let kept = entries.iter().map(|entry| entry.bytes);
    (Some(encode(&floor, kept, (charge.hash, &bytes))), result)
}

/// Gives back what an allowed decision charged to a caller that is still in the set; see [`limiter::refund`].
#[must_use]
pub fn refund(
    set: &[u8],
    charge: &Charge<'_>,
    uncharged: &[usize],
    charged_at: Timestamp,
    now: Timestamp,
) -> Option<Vec<u8>> {
    let set = Set::decode(set)?;
    let entry = set.entries().find(|entry| entry.hash == charge.hash)?;
    let record = Record::decode(entry.record).ok()?;
    let bytes = limiter::refund(&record, charge.limits, uncharged, charge.cost, charged_at, now)?;
    Some(set.with(charge.hash, &bytes))
}

// === impl Set ===

impl<'a> Set<'a> {
    /// `None` for anything this layout cannot have written.
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let Some((&version, rest)) = bytes.split_first() else {
            return Some(Self::default());
        };
        let (&count, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (floor, records) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let mut rest = records;
        for _ in 0..count {
            Entry::take(&mut rest)?;
        }
        (version == VERSION && rest.is_empty()).then_some(Self { floor, records })
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'a>> + Clone + use<'a> {
        let mut records = self.records;
        std::iter::from_fn(move || Entry::take(&mut records))
    }

    /// The set with this record, at its end, in the place of what it had under that hash.
    fn with(&self, hash: u64, record: &[u8]) -> Vec<u8> {
        encode(self.floor, self.entries().filter(|entry| entry.hash != hash).map(|entry| entry.bytes), (hash, record))
    }
}

// === impl Entry ===

impl<'a> Entry<'a> {
    /// Takes the next record.
    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let (hash, after) = rest.split_first_chunk::<8>()?;
        let (length, after) = after.split_first_chunk::<2>()?;
        let (record, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (bytes, _) = rest.split_at_checked(rest.len().saturating_sub(after.len()))?;
        *rest = after;
        Some(Self { hash: u64::from_le_bytes(*hash), record, bytes })
    }
}

fn encode<'a>(floor: &[u8], kept: impl Iterator<Item = &'a [u8]> + Clone, (hash, record): (u64, &[u8])) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes();
    let (count, size) = kept
        .clone()
        .fold((1u8, floor.len()), |(count, size), entry| (count.saturating_add(1), size.saturating_add(entry.len())));
    let mut bytes = Vec::with_capacity(size.saturating_add(record.len()).saturating_add(14));
    bytes.extend_from_slice(&[VERSION, count]);
    bytes.extend_from_slice(&length(floor));
    bytes.extend_from_slice(floor);
    kept.for_each(|entry| bytes.extend_from_slice(entry));
    bytes.extend_from_slice(&hash.to_le_bytes());
    bytes.extend_from_slice(&length(record));
    bytes.extend_from_slice(record);
    bytes
}

/// Index of the record with the smallest used share, the first of equals: the one that has not been used for longest.
fn smallest(entries: &[Entry<'_>], rules: Rules<'_>, now: Timestamp) -> usize {
    let mut smallest: Option<(usize, (u64, u64))> = None;
    for (index, entry) in entries.iter().enumerate() {
        let share = limiter::used_share(&Record::decode(entry.record).unwrap_or_default(), rules, now);
        if smallest.is_none_or(|(_, known)| limiter::smaller(share, known)) {
            smallest = Some((index, share));
        }
    }
    smallest.map_or(0, |(index, _)| index)
}

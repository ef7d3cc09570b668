//! The table of everybody who is not listed: a fixed number of records, however many keys there are.
//!
//! A hash table of sets in the shared data, each one value of at most [`MAX_WAYS`] records, found by a keyed 64-bit hash. When a set is full,
//! records that are empty go first; else the record with the smallest used share goes, and what it had used becomes part of the set's
//! *floor*: per limit the most that was ever evicted, falling by the same rules as any counter. Whoever is not in the set starts from its
//! floor. So whoever was evicted and returns is counted at least as used as before, nobody shares a counter, and an exhausted key stays
//! exhausted. This is the space-saving algorithm (Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data
//! streams", 2005) with counters that age: n keys that are never seen again cost a newcomer about n divided by the records of the table.
//! Reservations go to the floor too, and end there when they would have ended: whoever was evicted finds its own when its response is through.
//!
//! ```text
//! version u8 = 1 │ records u8 │ floor length u16 │ floor │ record …          record: hash u64 │ length u16 │ bytes
//! ```

use crate::cost::Cost;
use crate::decision::{Decision, Standing};
use crate::limiter::{self, Outcome};
use crate::limits::Limits;
use crate::plan::Limit;
use crate::record::{CounterId, Record, Rules};
use crate::reservation::Reservation;
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
    pub limits: &'a Limits,
    /// What the request costs.
    pub cost: Cost,
    /// Every counter this caller can ever have, so that a newcomer takes no more than these from the floor.
    pub counters: &'a [CounterId],
}

/// A decision about somebody in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOutcome {
    /// The decision. Its record is that of the caller alone.
    pub outcome: Outcome,
    /// Whether the caller was not in the set.
    pub newcomer: bool,
    /// Who came and went.
    pub churn: Churn,
    /// What was stored was none of this layout and counted as empty.
    pub malformed: bool,
}

/// Who came into a set and who had to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Whether the caller is in the set and was not.
    pub added: bool,
    /// Records that were there before and are not any more, because they were empty.
    pub expired: u32,
    /// Records that had to go to the floor.
    pub evicted: u32,
}

/// A set as read for one caller: the stored bytes, looked at where they are.
#[derive(Clone, Copy)]
struct Set<'a> {
    floor: &'a [u8],
    /// Whole records, each with its hash and its length, one after the other.
    records: &'a [u8],
    hash: u64,
    /// What is there under that hash.
    known: Option<Entry<'a>>,
}

/// One record in a set.
#[derive(Clone, Copy)]
struct Entry<'a> {
    hash: u64,
    record: &'a [u8],
    /// The entry itself.
    bytes: &'a [u8],
    /// How many bytes there are with it and all that is behind it.
    from_here: usize,
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
    let (set, malformed) = match Set::decode(set, charge.hash) {
        Some(set) => (set, false),
        None => (Set::empty(charge.hash), true),
    };
    let (record, newcomer, unreadable) = set.record(charge.counters, rules);
    let mut outcome = limiter::decide(&record, charge.limits, &charge.cost, now);
    let stored = outcome.record.take();
    let denied = matches!(outcome.decision, Decision::Denied { .. });
    let malformed = malformed || unreadable;
    let mut result = TableOutcome { outcome, newcomer, churn: Churn::default(), malformed };
    // A denied newcomer whose counters were only moved by a clock step is not worth a place.
    let Some(bytes) = stored.filter(|_| !(denied && newcomer)) else {
        return (None, result);
    };
    let (set, churn) = set.put(ways, &bytes, rules, now);
    result.churn = churn;
    (Some(set), result)
}

/// What [`decide`] comes to for nearly every request of a caller that is in its set: see [`limiter::pass`]. Writes the set to store into `buffer`.
#[must_use]
#[inline(never)]
pub fn pass(
    set: &[u8],
    buffer: &mut Vec<u8>,
    charge: &Charge<'_>,
    now: Timestamp,
    told: bool,
) -> Option<Option<Standing>> {
    let known = Set::decode(set, charge.hash)?.known?;
    // Its place among the others, behind which it moves to the end.
    let (start, length) = (set.len().checked_sub(known.from_here)?, known.bytes.len());
    let (before, from_here) = set.split_at_checked(start)?;
    let (entry, behind) = from_here.split_at_checked(length)?;
    buffer.clear();
    for part in [before, behind, entry] {
        buffer.extend_from_slice(part);
    }
    let copy = buffer.len().checked_sub(known.record.len())?;
    limiter::pass(buffer.get_mut(copy..)?, charge.limits, &charge.cost, now, told)
}

/// Changes the record of the caller `hash`, or what it would start from if it is not in the set any more: then it is again.
#[must_use]
pub fn change(
    set: &[u8],
    ways: u8,
    (hash, counters): (u64, &[CounterId]),
    rules: Rules<'_>,
    now: Timestamp,
    transition: impl FnOnce(&Record<'_>) -> Vec<u8>,
) -> (Vec<u8>, Churn) {
    let set = Set::decode(set, hash).unwrap_or(Set::empty(hash));
    let (record, ..) = set.record(counters, rules);
    set.put(ways, &transition(&record), rules, now)
}

/// Gives back what an allowed decision charged to a caller that is still in the set; see [`limiter::refund`]. What it had reserved when it
/// was evicted ends by itself.
#[must_use]
pub fn refund(set: &[u8], hash: u64, limits: &[Limit], reservation: &Reservation, now: Timestamp) -> Option<Vec<u8>> {
    let set = Set::decode(set, hash)?;
    let record = Record::decode(set.known?.record).ok()?;
    let bytes = limiter::refund(&record, limits, reservation, now)?;
    Some(set.with(&bytes))
}

// === impl Set ===

impl<'a> Set<'a> {
    fn empty(hash: u64) -> Self {
        Self { floor: &[], records: &[], hash, known: None }
    }

    /// `None` for anything this layout cannot have written.
    fn decode(bytes: &'a [u8], hash: u64) -> Option<Self> {
        let Some((&version, rest)) = bytes.split_first() else {
            return Some(Self::empty(hash));
        };
        let (&count, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (floor, records) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let (mut rest, mut known) = (records, None);
        for _ in 0..count {
            let entry = Entry::take(&mut rest)?;
            if entry.hash == hash && known.is_none() {
                known = Some(entry);
            }
        }
        (version == VERSION && rest.is_empty()).then_some(Self { floor, records, hash, known })
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'a>> + Clone + use<'a> {
        let mut records = self.records;
        std::iter::from_fn(move || Entry::take(&mut records))
    }

    /// The record of a caller, or what it has of the floor; whether that is so; whether it was none of ours and counted as empty.
    fn record<'r>(&self, counters: &'r [CounterId], rules: Rules<'r>) -> (Record<'r>, bool, bool)
    where
        'a: 'r,
    {
        let decoded = Record::decode(self.known.map_or(self.floor, |entry| entry.record));
        let unreadable = decoded.is_err();
        let record = decoded.unwrap_or_default().refreshed(rules);
        let record = if self.known.is_some() { record } else { record.only(counters) };
        (record, self.known.is_none(), unreadable)
    }

    /// The set with this record; where it is full, records that are empty make room for a new one, or else others do.
    fn put(&self, ways: u8, record: &[u8], rules: Rules<'_>, now: Timestamp) -> (Vec<u8>, Churn) {
        let known = self.known.is_some();
        let mut churn = Churn { added: !known, ..Churn::default() };
        if known || self.entries().count() < usize::from(ways) {
            return (self.with(record), churn);
        }
        let mut entries: Vec<Entry<'_>> = self.entries().collect();
        let before = entries.len();
        entries
            .retain(|entry| Record::decode(entry.record).is_ok_and(|record| record.refreshed(rules).empty_at() > now));
        churn.expired = u32::try_from(before.saturating_sub(entries.len())).unwrap_or(u32::MAX);
        let mut floor = self.floor.to_vec();
        while entries.len() >= usize::from(ways) {
            let gone = entries.remove(smallest(&entries, rules, now));
            let gone = Record::decode(gone.record).unwrap_or_default().refreshed(rules);
            floor = Record::decode(&floor).unwrap_or_default().refreshed(rules).larger(&gone, rules, now);
            churn.evicted = churn.evicted.saturating_add(1);
        }
        let kept = entries.iter().map(|entry| entry.bytes);
        (encode(&floor, kept, (self.hash, record)), churn)
    }

    /// The set with this record, at its end, in the place of what it had under that hash.
    fn with(&self, record: &[u8]) -> Vec<u8> {
        let others = self.entries().filter(|entry| entry.hash != self.hash).map(|entry| entry.bytes);
        encode(self.floor, others, (self.hash, record))
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
        let from_here = rest.len();
        *rest = after;
        Some(Self { hash: u64::from_le_bytes(*hash), record, bytes, from_here })
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

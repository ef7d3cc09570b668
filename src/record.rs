//! A caller's record: all its counters in one value of the shared data, so that one compare-and-swap charges them all.
//!
//! ```text
//! version u8 = 1 │ counters u8 │ counter …          counter: id u64 │ kind u8 │ length u8 │ empty_at u64 │ body
//! ```
//!
//! Little-endian. A body of kind 1 (fixed window) is start u64, used u64; of kind 2 (sliding window) at u64, previous u64,
//! current u64; of kind 3 (token bucket) at u64, level u128. Counters describe themselves: one that this configuration or
//! build does not know is carried through unchanged until `empty_at`, and what follows a known body stays with it
//! (reservations will live there).

use crate::counter::{Counter, Rule};
use crate::plan::{Algorithm, MAX_LIMITS, Unit};
use crate::window::{Timestamp, Window};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

const VERSION: u8 = 1;
const FIXED: u8 = 1;
const SLIDING: u8 = 2;
const BUCKET: u8 = 3;

/// Names a counter within a record: a hash of scope, name, unit, window and algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterId(u64);

impl CounterId {
    /// `scope` is empty for limits of plans and consumers. Not keyed: everything in it comes from the configuration, and the
    /// id must be the same in every process and build.
    #[must_use]
    pub fn of(scope: &str, name: &str, unit: Unit, window: Window, algorithm: Algorithm) -> Self {
        let (span, length) = window.identity();
        let unit = match unit {
            Unit::Requests => 0,
        };
        let algorithm = match algorithm {
            Algorithm::FixedWindow => FIXED,
            Algorithm::SlidingWindow => SLIDING,
            Algorithm::TokenBucket => BUCKET,
        };
        let mut hasher = SipHasher24::new();
        for text in [scope, name] {
            hasher.write(text.as_bytes());
            hasher.write_u8(0);
        }
        hasher.write(&[unit, span, algorithm]);
        hasher.write(&length.to_le_bytes());
        Self(hasher.finish())
    }
}

/// A counter to be written, with the instant from which it is surely empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which counter.
    pub id: CounterId,
    /// Its new state.
    pub counter: Counter,
    /// See [`crate::counter::Rule::empty_at`].
    pub empty_at: Timestamp,
}

/// A record as read, borrowing the stored bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    entries: Vec<Entry<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry<'a> {
    id: CounterId,
    kind: u8,
    empty_at: Timestamp,
    body: &'a [u8],
}

/// The bytes are no record of this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

// === impl Record ===

impl<'a> Record<'a> {
    /// Reads a stored value; no bytes at all are an empty record.
    ///
    /// # Errors
    /// [`Malformed`] for anything this layout cannot have written; any bytes are safe to pass.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some((&version, rest)) = bytes.split_first() else {
            return Ok(Self::default());
        };
        let (&count, mut rest) = rest.split_first().ok_or(Malformed)?;
        if version != VERSION {
            return Err(Malformed);
        }
        let mut entries = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let id = CounterId(u64::from_le_bytes(take(&mut rest)?));
            let [kind, length] = take(&mut rest)?;
            let empty_at = Timestamp(u64::from_le_bytes(take(&mut rest)?));
            let (body, after) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
            rest = after;
            entries.push(Entry { id, kind, empty_at, body });
        }
        if rest.is_empty() { Ok(Self { entries }) } else { Err(Malformed) }
    }

    /// The counter of that id, if it is there in a form this build knows.
    #[must_use]
    pub fn counter(&self, id: CounterId) -> Option<Counter> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some(decode_counter(entry.kind, entry.body)?.0)
    }

    /// All counters in a form this build knows.
    pub fn counters(&self) -> impl Iterator<Item = (CounterId, Counter)> {
        self.entries.iter().filter_map(|entry| Some((entry.id, decode_counter(entry.kind, entry.body)?.0)))
    }

    /// From when on every counter is surely empty, by what was written; the epoch for a record without any.
    #[must_use]
    pub fn empty_at(&self) -> Timestamp {
        self.entries.iter().map(|entry| entry.empty_at).max().unwrap_or_default()
    }

    /// The record with the time at which each bucket is empty as the present rules have it: at a lower rate it is later than when it was
    /// written. Windows do not depend on the rate.
    #[must_use]
    pub fn refreshed(mut self, rule: impl Fn(CounterId) -> Option<Rule>) -> Self {
        for entry in self.entries.iter_mut().filter(|entry| entry.kind == BUCKET) {
            if let (Some((counter, _)), Some(rule)) = (decode_counter(entry.kind, entry.body), rule(entry.id)) {
                entry.empty_at = rule.empty_at(&counter);
            }
        }
        self
    }

    /// Only the counters that `keep` names.
    #[must_use]
    pub fn only(mut self, keep: &[CounterId]) -> Self {
        self.entries.retain(|entry| keep.contains(&entry.id));
        self
    }

    /// The larger of both, counter by counter, at `now`: at least as much used as either. `rule` tells how a counter ages; one without a rule
    /// does not, until it is empty by what was written.
    #[must_use]
    pub fn larger(&self, other: &Record<'_>, rule: impl Fn(CounterId) -> Option<Rule>, now: Timestamp) -> Vec<u8> {
        let aged = |record: &Record<'_>| -> Vec<Update> {
            let live = record.entries.iter().filter(|entry| entry.empty_at > now);
            live.filter_map(|entry| {
                let (counter, _) = decode_counter(entry.kind, entry.body)?;
                Some(match rule(entry.id) {
                    Some(rule) => {
                        let counter = rule.advance(Some(counter), now);
                        Update { id: entry.id, counter, empty_at: rule.empty_at(&counter) }
                    }
                    None => Update { id: entry.id, counter, empty_at: entry.empty_at },
                })
            })
            .collect()
        };
        let mut merged = aged(self);
        for update in aged(other) {
            match merged.iter_mut().find(|known| known.id == update.id) {
                Some(known) => {
                    known.counter = Rule::larger(known.counter, update.counter);
                    known.empty_at = match rule(update.id) {
                        Some(rule) => rule.empty_at(&known.counter),
                        None => known.empty_at.max(update.empty_at),
                    };
                }
                None => merged.push(update),
            }
        }
        merged.retain(|update| update.empty_at > now);
        // The format's end: what is empty soonest goes.
        merged.sort_by_key(|update| std::cmp::Reverse(update.empty_at));
        merged.truncate(usize::from(u8::MAX));
        Record::default().encode(&merged, now).0
    }

    /// The record's bytes with `updates` made at `now`. Other counters stay as they are until they are empty. `true` beside
    /// it when more than [`MAX_LIMITS`] would have stayed: then those of them that are empty soonest are gone.
    #[must_use]
    pub fn encode(&self, updates: &[Update], now: Timestamp) -> (Vec<u8>, bool) {
        let mut carried: Vec<&Entry<'_>> = self
            .entries
            .iter()
            .filter(|entry| entry.empty_at > now && updates.iter().all(|update| update.id != entry.id))
            .collect();
        let room = MAX_LIMITS.saturating_sub(updates.len());
        let overfull = carried.len() > room;
        if overfull {
            carried.sort_by_key(|entry| std::cmp::Reverse(entry.empty_at));
            carried.truncate(room);
        }
        let mut bytes = Vec::with_capacity(2 + MAX_LIMITS * 42);
        let count = carried.len().saturating_add(updates.len());
        bytes.extend([VERSION, u8::try_from(count).unwrap_or(u8::MAX)]);
        for update in updates {
            let (kind, body) = encode_counter(&update.counter);
            let extra = self
                .entries
                .iter()
                .find(|entry| entry.id == update.id && entry.kind == kind)
                .and_then(|entry| Some(decode_counter(entry.kind, entry.body)?.1))
                .unwrap_or_default();
            push_entry(&mut bytes, update.id, kind, update.empty_at, &[&body, extra]);
        }
        for entry in carried {
            push_entry(&mut bytes, entry.id, entry.kind, entry.empty_at, &[entry.body]);
        }
        (bytes, overfull)
    }
}

fn push_entry(bytes: &mut Vec<u8>, id: CounterId, kind: u8, empty_at: Timestamp, body: &[&[u8]]) {
    let length = body.iter().map(|part| part.len()).sum::<usize>();
    bytes.extend(id.0.to_le_bytes());
    // A body of more than 255 bytes cannot have been read, so none is written.
    bytes.extend([kind, u8::try_from(length).unwrap_or(u8::MAX)]);
    bytes.extend(empty_at.0.to_le_bytes());
    for part in body {
        bytes.extend_from_slice(part);
    }
}

fn encode_counter(counter: &Counter) -> (u8, Vec<u8>) {
    match *counter {
        Counter::Fixed { start, used } => (FIXED, [start.0, used].map(u64::to_le_bytes).concat()),
        Counter::Sliding { at, previous, current } => {
            (SLIDING, [at.0, previous, current].map(u64::to_le_bytes).concat())
        }
        Counter::Bucket { at, level } => {
            (BUCKET, [at.0.to_le_bytes().as_slice(), level.to_le_bytes().as_slice()].concat())
        }
    }
}

/// The counter of a body, and the bytes after it that belong to a later build.
fn decode_counter(kind: u8, mut body: &[u8]) -> Option<(Counter, &[u8])> {
    let mut word = || take(&mut body).map(u64::from_le_bytes).ok();
    let counter = match kind {
        FIXED => Counter::Fixed { start: Timestamp(word()?), used: word()? },
        SLIDING => Counter::Sliding { at: Timestamp(word()?), previous: word()?, current: word()? },
        BUCKET => {
            let at = Timestamp(word()?);
            Counter::Bucket { at, level: u128::from_le_bytes(take(&mut body).ok()?) }
        }
        _ => return None,
    };
    Some((counter, body))
}

/// Takes the next `N` bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*head)
}

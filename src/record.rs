//! A caller's record: all its counters in one value of the shared data, so that one compare-and-swap charges them all.
//!
//! ```text
//! version u8 = 1 │ counters u8 │ counter …          counter: id u64 │ kind u8 │ length u8 │ empty_at u64 │ body
//! ```
//!
//! Little-endian. A body of kind 1 (fixed window) is start u64, used u64; of kind 2 (sliding window) at u64, previous u64,
//! current u64; of kind 3 (token bucket) at u64, level u128. Counters describe themselves: one that this configuration or
//! build does not know is carried through unchanged until `empty_at`, and what follows a known body stays with it. First of that are the
//! [slots](crate::reservation) of what is reserved, if anything is: then `empty_at` is not before the end of the last.

use crate::counter::{Counter, Rule};
use crate::plan::{Algorithm, Count, MAX_LIMITS, Unit};
use crate::reservation::Slots;
use crate::sip;
use crate::window::{Timestamp, Window};

const VERSION: u8 = 1;
const FIXED: u8 = 1;
const SLIDING: u8 = 2;
const BUCKET: u8 = 3;
/// Bytes of a counter before its body.
const HEAD: usize = 18;
/// Bytes of a counter with the longest body that this build writes, but for reservations.
const LONGEST: usize = 42;

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
            Unit::Tokens(Count::Total) => 1,
            Unit::Tokens(Count::Input) => 2,
            Unit::Tokens(Count::Output) => 3,
        };
        let algorithm = match algorithm {
            Algorithm::FixedWindow => FIXED,
            Algorithm::SlidingWindow => SLIDING,
            Algorithm::TokenBucket => BUCKET,
        };
        let words = [unit, span, algorithm];
        let text = [scope.as_bytes(), &[0], name.as_bytes(), &[0], &words, &length.to_le_bytes()].concat();
        Self(sip::hash(&[0; sip::SECRET], &text))
    }
}

/// A counter to be written, with the instant from which it is surely empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Which counter.
    pub id: CounterId,
    /// Its new state.
    pub counter: Counter,
    /// What is reserved.
    pub slots: Slots,
    /// See [`crate::counter::Rule::empty_at`]; not before the end of what is reserved, and where charges may still come, not before
    /// [`crate::counter::Rule::forgotten_at`].
    pub empty_at: Timestamp,
}

/// How a counter counts, by its id; `None` for one that the configuration does not know.
pub type Rules<'a> = &'a dyn Fn(CounterId) -> Option<Rule>;

/// A record as read: the stored bytes, looked at where they are.
#[derive(Clone, Copy, Default)]
pub struct Record<'a> {
    /// All of it, or nothing.
    stored: &'a [u8],
    rules: Option<Rules<'a>>,
    only: Option<&'a [CounterId]>,
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
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let Some((&[version, count], mut rest)) = bytes.split_first_chunk::<2>() else {
            return if bytes.is_empty() { Ok(Self::default()) } else { Err(Malformed) };
        };
        if version != VERSION {
            return Err(Malformed);
        }
        for _ in 0..count {
            Entry::take(&mut rest)?;
        }
        if rest.is_empty() { Ok(Self { stored: bytes, rules: None, only: None }) } else { Err(Malformed) }
    }

    /// Whole counters, one after the other.
    fn bytes_of_counters(&self) -> &'a [u8] {
        self.stored.get(2..).unwrap_or_default()
    }

    /// The counters, as they were written.
    fn written(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let (mut counters, only) = (self.bytes_of_counters(), self.only);
        let next = move || Entry::take(&mut counters).ok();
        std::iter::from_fn(next).filter(move |entry| only.is_none_or(|only| only.contains(&entry.id)))
    }

    /// The same, each empty when the present rules have it so.
    fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let rules = self.rules;
        self.written().map(move |mut entry| {
            if let Some(rules) = rules.filter(|_| entry.kind == BUCKET)
                && let (Some((counter, slots, _)), Some(rule)) = (entry.counter(), rules(entry.id))
            {
                entry.empty_at = rule.empty_at(&counter).max(slots.end());
            }
            entry
        })
    }

    /// The counter of that id, if it is there in a form this build knows.
    #[must_use]
    pub fn counter(&self, id: CounterId) -> Option<Counter> {
        Some(self.written().find(|entry| entry.id == id)?.counter()?.0)
    }

    /// What is reserved of the counter of that id.
    #[must_use]
    pub fn slots(&self, id: CounterId) -> Slots {
        let entry = self.written().find(|entry| entry.id == id);
        entry.and_then(|entry| Some(entry.counter()?.1)).unwrap_or_default()
    }

    /// All counters in a form this build knows, and what is reserved of them.
    pub fn counters(&self) -> impl Iterator<Item = (CounterId, Counter, Slots)> + use<'a> {
        self.written().filter_map(|entry| {
            let (counter, slots, _) = entry.counter()?;
            Some((entry.id, counter, slots))
        })
    }

    /// From when on every counter is surely empty, by what was written; the epoch for a record without any.
    #[must_use]
    pub fn empty_at(&self) -> Timestamp {
        self.entries().map(|entry| entry.empty_at).max().unwrap_or_default()
    }

    /// The record with the time at which each bucket is empty as the present rules have it: at a lower rate it is later than when it was
    /// written. Windows do not depend on the rate.
    #[must_use]
    pub fn refreshed(self, rules: Rules<'a>) -> Self {
        Self { rules: Some(rules), ..self }
    }

    /// Only the counters that `only` names.
    #[must_use]
    pub fn only(self, only: &'a [CounterId]) -> Self {
        Self { only: Some(only), ..self }
    }

    /// The larger of both, counter by counter, at `now`: at least as much used as either. One whose rule is not known does
    /// not age, until it is empty by what was written.
    #[must_use]
    pub fn larger(&self, other: &Record<'_>, rules: Rules<'_>, now: Timestamp) -> Vec<u8> {
        let aged = |record: &Record<'_>| -> Vec<Update> {
            let live = record.entries().filter(|entry| entry.empty_at > now);
            live.filter_map(|entry| {
                let (counter, slots, _) = entry.counter()?;
                let slots = slots.at(now);
                Some(match rules(entry.id) {
                    Some(rule) => {
                        // What was written may be later than when it is empty, but for the future that the clock was set back from.
                        let written = if rule.set_back(&counter, now) { now } else { entry.empty_at };
                        let counter = rule.advance(Some(counter), now);
                        let empty_at = rule.empty_at(&counter).max(slots.end()).max(written);
                        Update { id: entry.id, counter, slots, empty_at }
                    }
                    None => Update { id: entry.id, counter, slots, empty_at: entry.empty_at },
                })
            })
            .collect()
        };
        let mut merged = aged(self);
        for update in aged(other) {
            match merged.iter_mut().find(|known| known.id == update.id) {
                Some(known) => {
                    let (counter, slots) =
                        (Rule::larger(known.counter, update.counter), known.slots.larger(&update.slots));
                    let empty_at = rules(update.id).map(|rule| rule.empty_at(&counter)).unwrap_or_default();
                    let empty_at = empty_at.max(known.empty_at).max(update.empty_at).max(slots.end());
                    *known = Update { id: update.id, counter, slots, empty_at };
                }
                None => merged.push(update),
            }
        }
        merged.retain(|update| update.empty_at > now);
        // The format's end: what is empty soonest goes.
        keep(&mut merged, u8::MAX.into(), |update| update.empty_at);
        Record::default().encode(&merged, now).0
    }

    /// The record's bytes with `updates` made at `now`. Other counters stay as they are until they are empty. `true` beside
    /// it when more than [`MAX_LIMITS`] would have stayed: then those of them that are empty soonest are gone.
    #[must_use]
    pub fn encode(&self, updates: &[Update], now: Timestamp) -> (Vec<u8>, bool) {
        let mut carried: Vec<Entry<'_>> = Vec::new();
        let mut extras: Vec<(CounterId, &[u8])> = Vec::new();
        for entry in self.entries() {
            match updates.iter().find(|update| update.id == entry.id) {
                None if entry.empty_at > now => carried.push(entry),
                Some(update) if entry.kind == kind(&update.counter) => {
                    extras.extend(entry.extra().filter(|extra| !extra.is_empty()).map(|extra| (entry.id, extra)));
                }
                _ => {}
            }
        }
        let room = MAX_LIMITS.saturating_sub(updates.len());
        let overfull = carried.len() > room;
        keep(&mut carried, room, |entry| entry.empty_at);
        let counters = updates.len().saturating_add(carried.len());
        let mut bytes = Vec::with_capacity(counters.saturating_mul(LONGEST).saturating_add(2));
        bytes.extend_from_slice(&[VERSION, u8::try_from(counters).unwrap_or(u8::MAX)]);
        for update in updates {
            let extra = extras.iter().find(|(id, _)| *id == update.id).map(|(_, extra)| *extra);
            push_update(&mut bytes, update, extra.unwrap_or_default());
        }
        carried.iter().for_each(|entry| push_entry(&mut bytes, entry));
        (bytes, overfull)
    }
}

/// What becomes of the counters of a record.
pub trait After {
    /// What becomes of this one, and from when on it is surely empty. `None` says nothing.
    fn after(&mut self, id: CounterId, stored: Counter) -> Option<(Counter, Timestamp)>;
}

impl<F: FnMut(CounterId, Counter) -> Option<(Counter, Timestamp)>> After for F {
    fn after(&mut self, id: CounterId, stored: Counter) -> Option<(Counter, Timestamp)> {
        self(id, stored)
    }
}

/// Writes a record anew, over a copy of what is stored: `becomes` tells what becomes of each counter in turn.
/// `None`, and a copy that is good for nothing, where it tells nothing of one, or where more is stored of one than what it is: what is reserved,
/// or what another build has written; of nothing, and of bytes that are no record. With all that is told, the same as [`Record::encode`] makes of
/// it.
#[inline(always)]
pub fn rewrite(copy: &mut [u8], becomes: &mut impl After) -> Option<()> {
    let (&mut [version, mut counters], mut rest) = copy.split_first_chunk_mut::<2>()?;
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk_mut::<HEAD>()?;
        let [a, b, c, d, e, f, g, h, kind, length, empty_at @ ..] = head;
        let id = CounterId(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]));
        // Each kind from its bytes to its bytes: put together, all of them would pass through what any of them needs.
        let surely_empty = match (*kind, *length) {
            (SLIDING, 24) => {
                let (body, after) = tail.split_first_chunk_mut::<24>()?;
                rest = after;
                let [first, second, third] = body.as_chunks_mut::<8>().0 else {
                    return None;
                };
                let (at, previous, current) = (Timestamp(word(first)), word(second), word(third));
                let (Counter::Sliding { at, previous, current }, surely_empty) =
                    becomes.after(id, Counter::Sliding { at, previous, current })?
                else {
                    return None;
                };
                (*first, *second, *third) = (at.0.to_le_bytes(), previous.to_le_bytes(), current.to_le_bytes());
                surely_empty
            }
            (FIXED, 16) => {
                let (body, after) = tail.split_first_chunk_mut::<16>()?;
                rest = after;
                let [first, second] = body.as_chunks_mut::<8>().0 else {
                    return None;
                };
                let (start, used) = (Timestamp(word(first)), word(second));
                let (Counter::Fixed { start, used }, surely_empty) =
                    becomes.after(id, Counter::Fixed { start, used })?
                else {
                    return None;
                };
                (*first, *second) = (start.0.to_le_bytes(), used.to_le_bytes());
                surely_empty
            }
            (BUCKET, 24) => {
                let (body, after) = tail.split_first_chunk_mut::<24>()?;
                rest = after;
                let [first, low, high] = body.as_chunks_mut::<8>().0 else {
                    return None;
                };
                let (at, level) = (Timestamp(word(first)), u128::from(word(high)) << 64 | u128::from(word(low)));
                let (Counter::Bucket { at, level }, surely_empty) = becomes.after(id, Counter::Bucket { at, level })?
                else {
                    return None;
                };
                *first = at.0.to_le_bytes();
                (*low, *high) = ((level as u64).to_le_bytes(), ((level >> 64) as u64).to_le_bytes());
                surely_empty
            }
            _ => return None,
        };
        *empty_at = surely_empty.0.to_le_bytes();
        counters = counters.checked_sub(1)?;
    }
    (version == VERSION && counters == 0).then_some(())
}

// === impl Entry ===

impl<'a> Entry<'a> {
    /// Takes the next counter.
    fn take(rest: &mut &'a [u8]) -> Result<Self, Malformed> {
        let id = CounterId(u64::from_le_bytes(take(rest)?));
        let [kind, length] = take(rest)?;
        let empty_at = Timestamp(u64::from_le_bytes(take(rest)?));
        let (body, after) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        *rest = after;
        Ok(Self { id, kind, empty_at, body })
    }

    /// The bytes that belong to a later build.
    fn extra(&self) -> Option<&'a [u8]> {
        // The usual length says that there is nothing more.
        let usual = matches!((self.kind, self.body.len()), (FIXED, 16) | (SLIDING | BUCKET, 24));
        if usual { None } else { Some(self.counter()?.2) }
    }

    /// The counter, what is reserved of it, and the bytes after that, which belong to a later build.
    fn counter(&self) -> Option<(Counter, Slots, &'a [u8])> {
        let mut body = self.body;
        let mut word = || take(&mut body).map(u64::from_le_bytes).ok();
        let counter = match self.kind {
            FIXED => Counter::Fixed { start: Timestamp(word()?), used: word()? },
            SLIDING => Counter::Sliding { at: Timestamp(word()?), previous: word()?, current: word()? },
            BUCKET => {
                let at = Timestamp(word()?);
                Counter::Bucket { at, level: u128::from_le_bytes(take(&mut body).ok()?) }
            }
            _ => return None,
        };
        let slots = Slots::take_from(&mut body);
        Some((counter, slots, body))
    }
}

/// Leaves so many, those that are empty last.
fn keep<T>(counters: &mut Vec<T>, room: usize, empty_at: impl Fn(&T) -> Timestamp) {
    while counters.len() > room {
        let soonest = counters.iter().enumerate().min_by_key(|(_, counter)| empty_at(counter));
        let Some((at, _)) = soonest else {
            return;
        };
        counters.swap_remove(at);
    }
}

fn kind(counter: &Counter) -> u8 {
    match counter {
        Counter::Fixed { .. } => FIXED,
        Counter::Sliding { .. } => SLIDING,
        Counter::Bucket { .. } => BUCKET,
    }
}

/// `extra`: what follows in the counter's body that a later build put there; it goes where there is no room for it any more.
fn push_update(bytes: &mut Vec<u8>, update: &Update, extra: &[u8]) {
    let own: usize = if let Counter::Fixed { .. } = update.counter { 16 } else { 24 };
    let own = own.saturating_add(update.slots.length());
    let extra = if own.saturating_add(extra.len()) > usize::from(u8::MAX) { &[] } else { extra };
    push_head(bytes, update.id, kind(&update.counter), own.saturating_add(extra.len()), update.empty_at);
    match update.counter {
        Counter::Fixed { start, used } => bytes.extend_from_slice([start.0, used].map(u64::to_le_bytes).as_flattened()),
        Counter::Sliding { at, previous, current } => {
            bytes.extend_from_slice([at.0, previous, current].map(u64::to_le_bytes).as_flattened());
        }
        Counter::Bucket { at, level } => {
            bytes.extend_from_slice(&at.0.to_le_bytes());
            bytes.extend_from_slice(&level.to_le_bytes());
        }
    }
    update.slots.write(bytes);
    bytes.extend_from_slice(extra);
}

fn push_entry(bytes: &mut Vec<u8>, entry: &Entry<'_>) {
    push_head(bytes, entry.id, entry.kind, entry.body.len(), entry.empty_at);
    bytes.extend_from_slice(entry.body);
}

fn push_head(bytes: &mut Vec<u8>, id: CounterId, kind: u8, length: usize, empty_at: Timestamp) {
    bytes.extend_from_slice(&id.0.to_le_bytes());
    // A body of more than 255 bytes cannot have been read, so none is written.
    bytes.extend_from_slice(&[kind, u8::try_from(length).unwrap_or(u8::MAX)]);
    bytes.extend_from_slice(&empty_at.0.to_le_bytes());
}

/// Takes the next `N` bytes.
fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*head)
}

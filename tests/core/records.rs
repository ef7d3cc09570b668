//! Records: bytes that survive other configurations, other builds and strangers.

use crate::strategies::{SECOND, any_limits, limit};
use allowance::consumer::Consumer;
use allowance::cost::Cost;
use allowance::counter::Counter;
use allowance::decision::Decision;
use allowance::limiter;
use allowance::namespace::{Kind, Namespace};
use allowance::plan::{Algorithm, Limit, MAX_LIMITS};
use allowance::record::{self, Record, Update};
use allowance::reservation::Slots;
use allowance::sip;
use allowance::store::memory::Memory;
use allowance::store::{self, SharedData, Version, Versioned, Written};
use allowance::table::Geometry;
use allowance::window::Timestamp;
use proptest::prelude::*;
use std::collections::HashSet;

const NOW: Timestamp = Timestamp(1_800_000_000 * SECOND);

fn charge(record: &[u8], limits: &[Limit], cost: u64, now: Timestamp) -> Vec<u8> {
    let outcome = limiter::decide(&Record::decode(record).unwrap(), limits, &Cost::requests(cost), now);
    assert!(matches!(outcome.decision, Decision::Allowed { .. }));
    outcome.record.unwrap()
}

fn used(record: &[u8], limit: &Limit, now: Timestamp) -> u64 {
    limit.rule.used(&limit.rule.advance(Record::decode(record).unwrap().counter(limit.id), now))
}

proptest! {
    #[test]
    fn any_bytes_are_safe_to_decode(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Record::decode(&bytes);
    }

    /// A record with every counter's bytes replaced by others: decided without a panic.
    #[test]
    fn any_counter_is_safe_to_use(limits in any_limits(), noise in prop::collection::vec(any::<u8>(), 200), now: u64, cost: u64) {
        let mut record = charge(&[], &limits, 1, NOW);
        for (index, byte) in noise.iter().enumerate() {
            // Past the header of each counter is its body; ids and lengths stay.
            if let Some(stored) = record.get_mut(2 + index).filter(|_| (index % 42) > 10) {
                *stored = *byte;
            }
        }
        if let Ok(decoded) = Record::decode(&record) {
            let _ = limiter::decide(&decoded, &limits, &Cost::requests(cost), Timestamp(now));
        }
    }

    #[test]
    fn cut_short_or_prolonged_a_record_is_refused(limits in any_limits(), cut in 1..300usize) {
        let record = charge(&[], &limits, 1, NOW);
        if let Some(short) = record.get(..record.len().saturating_sub(cut)).filter(|short| !short.is_empty()) {
            prop_assert!(Record::decode(short).is_err());
        }
        prop_assert!(Record::decode(&[record, vec![0; cut]].concat()).is_err());
    }
}

#[test]
fn a_counter_that_this_configuration_does_not_know_is_carried_until_it_is_empty() {
    let [hour, minute] =
        [limit("hour", Algorithm::FixedWindow, 9, "1h", 1), limit("minute", Algorithm::TokenBucket, 9, "1m", 9)];
    let mut record = charge(&[], std::slice::from_ref(&hour), 3, NOW);
    record = charge(&record, std::slice::from_ref(&minute), 2, NOW.after(SECOND));
    assert_eq!((used(&record, &hour, NOW), used(&record, &minute, NOW.after(SECOND))), (3, 2));
    let two = record.len();
    record = charge(&record, &[minute], 1, NOW.after(3600 * SECOND));
    assert_eq!(used(&record, &hour, NOW.after(3600 * SECOND)), 0);
    assert!(record.len() < two, "the empty counter is gone");
}

/// Byte 10 of a record is the first counter's kind, byte 11 the length of its body.
#[test]
fn a_counter_of_a_kind_that_this_build_does_not_know_is_carried_unchanged() {
    let [ours, theirs] = ["ours", "theirs"].map(|name| limit(name, Algorithm::FixedWindow, 9, "1h", 1));
    let mut record = charge(&[], &[theirs], 3, NOW);
    record[10] = 200;
    let foreign = record[2..].to_vec();
    let record = charge(&record, std::slice::from_ref(&ours), 1, NOW);
    assert!(record.windows(foreign.len()).any(|bytes| bytes == foreign));
    assert_eq!(used(&record, &ours, NOW), 1);
}

#[test]
fn what_a_later_build_adds_to_a_counter_stays_with_it() {
    let limits = [limit("a", Algorithm::SlidingWindow, 9, "1h", 1)];
    let mut record = charge(&[], &limits, 3, NOW);
    record[11] += 4;
    record.extend(b"more");
    let record = charge(&record, &limits, 1, NOW);
    assert_eq!(used(&record, &limits[0], NOW), 4);
    assert!(record.ends_with(b"more"));
}

#[test]
fn a_full_record_drops_the_unknown_counters_that_are_empty_soonest_and_says_so() {
    let names: Vec<String> = (0..=MAX_LIMITS).map(|i| format!("l{i}")).collect();
    let limits: Vec<Limit> = names
        .iter()
        .enumerate()
        .map(|(i, name)| limit(name, Algorithm::TokenBucket, 9, &format!("{}h", i + 1), 9))
        .collect();
    let record = charge(&[], &limits[..MAX_LIMITS], 1, NOW);
    let outcome = limiter::decide(&Record::decode(&record).unwrap(), &limits[MAX_LIMITS..], &Cost::requests(1), NOW);
    assert!(outcome.overfull);
    let record = outcome.record.unwrap();
    assert_eq!(record[1], 16);
    assert_eq!(used(&record, &limits[0], NOW), 0, "the one that is empty soonest had to go");
    assert!(limits[1..].iter().all(|limit| used(&record, limit, NOW) == 1));
}

#[test]
fn ids_tell_name_window_and_algorithm_apart_and_nothing_else() {
    let base = limit("a", Algorithm::FixedWindow, 5, "1d", 1);
    assert_eq!(base.id, limit("a", Algorithm::FixedWindow, 7, "24h", 3).id);
    assert_eq!(base.id, limit("a", Algorithm::FixedWindow, 5, "day", 1).id, "the same windows by another name");
    for other in [
        limit("b", Algorithm::FixedWindow, 5, "1d", 1),
        limit("a", Algorithm::FixedWindow, 5, "2d", 1),
        limit("a", Algorithm::SlidingWindow, 5, "1d", 1),
        limit("a", Algorithm::FixedWindow, 5, "week", 1),
        limit("a", Algorithm::FixedWindow, 5, "month", 1),
    ] {
        assert_ne!(base.id, other.id, "{other:?}");
    }
    // A duration of a week is aligned to the epoch's Thursday, the word to Monday.
    assert_ne!(limit("a", Algorithm::FixedWindow, 5, "1w", 1).id, limit("a", Algorithm::FixedWindow, 5, "week", 1).id);
}

/// A store in which every write is preceded by another worker's.
struct Contended(Memory);

impl SharedData for Contended {
    fn get(&self, key: &[u8]) -> Result<Versioned, store::HostError> {
        self.0.get(key)
    }

    fn set(&self, key: &[u8], value: &[u8], version: Version) -> Result<Written, store::HostError> {
        let current = self.0.get(key)?.version;
        self.0.set(key, b"theirs", current)?;
        self.0.set(key, value, version)
    }
}

#[test]
fn a_change_gives_up_after_ten_thousand_lost_races_and_has_written_nothing() {
    let data = Contended(Memory::default());
    let mut tries = 0;
    let result = store::change(&data, b"key", |_| {
        tries += 1;
        (Some(b"ours".to_vec()), ())
    });
    assert_eq!(result, Err(store::StoreError::Contended));
    assert_eq!(tries, 10_000);
    assert_eq!(data.get(b"key").unwrap().value, b"theirs");
}

fn open(data: &Memory, name: &str, secret: u8, keys: u32) -> Result<Namespace, allowance::namespace::OpenError> {
    Namespace::open(data, name, Geometry::for_keys(keys), || Some([secret; 16]))
}

#[test]
fn a_namespace_keeps_the_secret_and_the_geometry_of_whoever_came_first() {
    let data = Memory::default();
    let first = open(&data, "n", 1, 1000).unwrap();
    let second = open(&data, "n", 2, 2000).unwrap();
    let other = open(&data, "m", 3, 2000).unwrap();
    let hash = |namespace: &Namespace, id: &[u8]| namespace.hash(Kind::Key, id);
    assert_eq!(hash(&first, b"secret"), hash(&second, b"secret"));
    assert_ne!(hash(&first, b"secret"), hash(&other, b"secret"));
    assert_ne!(hash(&first, b"secret"), hash(&first, b"secreu"));
    assert_ne!(first.hash(Kind::Address, b"x"), first.hash(Kind::Guard, b"x"));
    assert_eq!((first.geometry().keys(), second.geometry().keys(), other.geometry().keys()), (992, 992, 1984));
    assert!(!format!("{first:?}").contains("[1, 1"));
}

/// Records that meet would share counters: of all consumers and generations, sets, and namespaces, none do.
#[test]
fn names_of_records_and_sets_differ_and_stay() {
    let data = Memory::default();
    let namespaces = [open(&data, "n", 1, 1_000_000).unwrap(), open(&data, "m", 2, 1_000_000).unwrap()];
    let hashes = || (0..10_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut names = HashSet::new();
    for namespace in &namespaces {
        for name in ["a", "b", "ab", "a/1"] {
            for generation in [0, 1, 1 << 56, u64::MAX] {
                let consumer = Consumer { name: name.into(), generation, ..Consumer::default() };
                assert!(names.insert(namespace.consumer_record(&consumer)), "{name} {generation}");
            }
        }
        names.extend(hashes().map(|hash| namespace.set(hash)));
    }
    let sets: HashSet<u32> = hashes().map(|hash| namespaces[0].geometry().set(hash)).collect();
    assert_eq!(names.len(), 2 * (4 * 4 + sets.len()), "each set of each namespace has one");
    let again = open(&data, "n", 3, 1000).unwrap();
    let consumer = Consumer { name: "a".into(), ..Consumer::default() };
    assert_eq!(namespaces[0].consumer_record(&consumer), again.consumer_record(&consumer), "on another worker");
}

#[test]
fn a_namespace_refuses_a_meta_value_that_is_not_its_own() {
    for foreign in
        [b"garbage".as_slice(), b"\x01short", b"\x02aaaaaaaaaaaaaaaabbbbc", b"\x01aaaaaaaaaaaaaaaa\0\0\0\0\x20"]
    {
        let data = Memory::default();
        data.set(b"allowance/1/n/meta", foreign, Version::Absent).unwrap();
        assert!(open(&data, "n", 1, 1000).is_err());
        assert_eq!(data.get(b"allowance/1/n/meta").unwrap().value, foreign, "and leaves it alone");
    }
}

#[test]
fn a_configuration_is_announced_once_however_many_workers_have_it() {
    let data = Memory::default();
    let workers = [(); 3].map(|()| open(&data, "n", 1, 1000).unwrap());
    let announced =
        |text: &[u8]| workers.iter().filter(|worker| worker.announce(&data, sip::fingerprint(text))).count();
    assert_eq!([announced(b"one"), announced(b"one"), announced(b"two"), announced(b"one")], [1, 0, 1, 0]);
    // Remembered as long as there are not too many others.
    assert_eq!((0..16u8).map(|other| announced(&[other])).sum::<usize>(), 16);
    assert_eq!([announced(b"one"), announced(&[15]), announced(&[1])], [1, 0, 0]);
}

proptest! {
    /// There are two ways of writing a record: over a copy of the old one, where nothing but its numbers changes, and counter by counter.
    #[test]
    fn both_ways_of_writing_a_record_write_the_same(limits in any_limits(), used in prop::collection::vec(0..5_u64, 16), later in 0..200 * SECOND) {
        let later = NOW.after(later);
        let update = |limit: &Limit, used: u64, now: Timestamp| {
            let counter = limit.rule.charge(limit.rule.advance(None, now), used);
            Update { id: limit.id, counter, slots: Slots::default(), empty_at: limit.rule.empty_at(&counter) }
        };
        let updates = |now| -> Vec<Update> { limits.iter().zip(&used).map(|(limit, used)| update(limit, *used, now)).collect() };
        let (stored, _) = Record::default().encode(&updates(NOW), NOW);
        let record = Record::decode(&stored).unwrap();
        let after = updates(later);
        let mut asked = Vec::new();
        let mut rewritten = |of: &[Update]| {
            asked.clear();
            let mut copy = stored.clone();
            let told = record::rewrite(&mut copy, &mut |id, counter: Counter| {
                asked.push((id, counter));
                of.iter().find(|update| update.id == id).map(|update| (update.counter, update.empty_at))
            });
            told.map(|()| copy)
        };
        prop_assert_eq!(rewritten(&after), Some(record.encode(&after, later).0));
        if let [_, others @ ..] = after.as_slice() {
            // One of which nothing is told ends it.
            prop_assert_eq!(rewritten(others), None);
        }
        prop_assert_eq!(rewritten(&updates(NOW)), Some(stored.clone()));
        // Every counter is asked for as it stands.
        prop_assert_eq!(asked, record.counters().map(|(id, counter, _)| (id, counter)).collect::<Vec<_>>());
    }

    /// A record is passed without being read first: then nothing that is none may come through.
    #[test]
    fn what_is_no_record_is_not_rewritten(
        limits in any_limits(), used: u64, place: prop::sample::Index, byte: u8, cut: Option<prop::sample::Index>,
    ) {
        let update = |limit: &Limit| {
            let counter = limit.rule.charge(limit.rule.advance(None, NOW), used);
            Update { id: limit.id, counter, slots: Slots::default(), empty_at: NOW }
        };
        let updates: Vec<Update> = limits.iter().map(update).collect();
        let (mut stored, _) = Record::default().encode(&updates, NOW);
        let place = place.index(stored.len());
        stored[place] = byte;
        stored.truncate(cut.map_or(stored.len(), |cut| cut.index(stored.len())));
        let same = record::rewrite(&mut stored.clone(), &mut |_, counter: Counter| Some((counter, NOW)));
        prop_assert!(same.is_none() || Record::decode(&stored).is_ok(), "{stored:?}");
    }
}

//! The table of unlisted callers: bounded, and never fresher for whoever was evicted and returns.

use crate::counting::Log;
use crate::strategies::{SECOND, any_limit, any_step, any_time, limit};
use allowance::cost::Cost;
use allowance::counter::Rule;
use allowance::decision::Decision;
use allowance::limiter::{self, Outcome};
use allowance::limits::Limits;
use allowance::plan::{Algorithm, Limit};
use allowance::record::{CounterId, Record};
use allowance::table::{self, Charge, Churn, Geometry, MAX_WAYS, TableOutcome};
use allowance::window::Timestamp;
use proptest::prelude::*;
use std::collections::HashMap;

const NOW: Timestamp = Timestamp(1_800_000_000 * SECOND);

/// One set, and everything its callers may be charged.
struct Table {
    set: Vec<u8>,
    ways: u8,
    limits: Limits,
    counters: Vec<CounterId>,
    tracked: i64,
    evicted: u32,
    /// How many requests could go the short way.
    passed: u32,
}

impl Table {
    fn new(ways: u8, limits: Vec<Limit>) -> Self {
        let counters = limits.iter().map(|limit| limit.id).collect();
        Self { set: Vec::new(), ways, limits: Limits::new(limits), counters, tracked: 0, evicted: 0, passed: 0 }
    }

    fn charge(&self, hash: u64, cost: u64) -> Charge<'_> {
        Charge { hash, limits: &self.limits, cost: Cost::requests(cost), counters: &self.counters }
    }

    fn request(&mut self, hash: u64, cost: u64, now: Timestamp) -> TableOutcome {
        let rules: HashMap<CounterId, Rule> = self.limits.iter().map(|limit| (limit.id, limit.rule)).collect();
        let rule = |id| rules.get(&id).copied();
        let charge = self.charge(hash, cost);
        let (set, outcome) = table::decide(&self.set, self.ways, &charge, &rule, now);
        assert!(!outcome.malformed);
        // The short way comes to the same, whatever was in its buffer, or to nothing.
        let mut buffer = vec![1; 3];
        if let Some(tightest) = table::pass(&self.set, &mut buffer, &charge, now, true) {
            assert_eq!(Some(&buffer), set.as_ref());
            assert_eq!(outcome.outcome, Outcome::allowed(tightest, &charge.cost, now));
            assert_eq!((outcome.newcomer, outcome.churn), (false, Churn::default()));
            self.passed += 1;
        }
        if let Some(set) = set {
            self.set = set;
            self.tracked +=
                i64::from(outcome.churn.added) - i64::from(outcome.churn.expired) - i64::from(outcome.churn.evicted);
            self.evicted += outcome.churn.evicted;
        }
        assert_eq!(i64::from(self.set.get(1).copied().unwrap_or_default()), self.tracked);
        assert!(self.tracked <= i64::from(self.ways));
        outcome
    }

    fn allows(&mut self, hash: u64, now: Timestamp) -> bool {
        matches!(self.request(hash, 1, now).outcome.decision, Decision::Allowed { .. })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whoever is evicted and returns is counted at least as used as before: whatever happens to its record in between, no key is ever
    /// admitted more than its limits' rules allow by the log of what it was admitted.
    #[test]
    fn whoever_is_evicted_and_returns_is_counted_at_least_as_used_as_before(
        limits in (any_limit("a"), any_limit("b"), 1..=2usize).prop_map(|(a, b, n)| vec![a, b].into_iter().take(n).collect::<Vec<_>>()),
        ways in 1..5u8,
        start in any_time(),
        requests in prop::collection::vec((0..9u64, any_step(), 1..3u64), 1..150),
    ) {
        let mut table = Table::new(ways, limits.clone());
        let mut logs: HashMap<u64, Log> = HashMap::new();
        let mut now = start;
        for (key, step, cost) in requests {
            now = now.after(step);
            let log = logs.entry(key).or_default();
            let allowed = limits.iter().all(|limit| log.rule_allows(limit, cost, now));
            let outcome = table.request(key, cost, now);
            if matches!(outcome.outcome.decision, Decision::Allowed { .. }) {
                prop_assert!(allowed, "key {key} was admitted too much at {now:?}");
                log.0.push((now, cost));
            }
        }
    }

    /// As long as all fit, the table decides as a record of their own would.
    #[test]
    fn who_fits_is_counted_exactly(
        limits in (any_limit("a"), any_limit("b")).prop_map(|(a, b)| vec![a, b]),
        start in any_time(),
        requests in prop::collection::vec((0..4u64, any_step(), 1..3u64), 1..100),
    ) {
        let mut table = Table::new(4, limits.clone());
        let mut records: HashMap<u64, Vec<u8>> = HashMap::new();
        let mut now = start;
        for (key, step, cost) in requests {
            now = now.after(step);
            let record = records.entry(key).or_default();
            let alone = limiter::decide(&Record::decode(record).unwrap(), &limits, &Cost::requests(cost), now);
            let outcome = table.request(key, cost, now);
            prop_assert_eq!(outcome.outcome.decision, alone.decision);
            if let Some(stored) = alone.record {
                *record = stored;
            }
        }
        prop_assert_eq!(table.evicted, 0);
    }

    #[test]
    fn any_bytes_are_safe(set in prop::collection::vec(any::<u8>(), 0..300), hash: u64, ways in 1..=32u8, now: u64) {
        let limits = Limits::new(vec![limit("a", Algorithm::SlidingWindow, 5, "1m", 1)]);
        let rule = |_| Some(limits[0].rule);
        let charge = Charge { hash, limits: &limits, cost: Cost::requests(1), counters: &[limits[0].id] };
        let (_, outcome) = table::decide(&set, ways, &charge, &rule, Timestamp(now));
        let _ = table::refund(&set, hash, &limits, &outcome.outcome.reservation, Timestamp(now));
        for version in [0, 1] {
            let mut set = set.clone();
            set.splice(..set.len().min(2), [version, 2]);
            let _ = table::decide(&set, ways, &charge, &rule, Timestamp(now));
        }
    }

    /// What is charged and given back reads as before, for the caller and for everybody else in the set.
    #[test]
    fn a_refund_undoes_a_charge(
        limit in any_limit("a"),
        start in any_time(),
        before in prop::collection::vec((0..3u64, 0..SECOND), 0..10),
        cost in 1..4u64,
    ) {
        let mut table = Table::new(8, vec![limit]);
        let mut now = start;
        for (key, step) in before {
            now = now.after(step);
            table.request(key, 1, now);
        }
        let reading = |table: &Table, key| {
            let mut copy = Table::new(8, table.limits.to_vec());
            copy.set.clone_from(&table.set);
            copy.tracked = table.tracked;
            copy.request(key, u64::MAX, now).outcome.decision
        };
        let read = [0, 1, 2].map(|key| reading(&table, key));
        let outcome = table.request(1, cost, now).outcome;
        if let Decision::Allowed { .. } = outcome.decision {
            table.set = table::refund(&table.set, 1, &table.limits, &outcome.reservation, now).unwrap();
        }
        prop_assert_eq!([0, 1, 2].map(|key| reading(&table, key)), read);
    }
}

#[test]
fn an_exhausted_key_is_denied_throughout_a_flood_and_newcomers_pay_little() {
    let mut table = Table::new(MAX_WAYS, vec![limit("day", Algorithm::FixedWindow, 100, "day", 1)]);
    for _ in 0..100 {
        assert!(table.allows(0, NOW));
    }
    assert!(!table.allows(0, NOW)); // 100 of 100 used
    let flood = 32 * 20;
    for key in 1..=flood {
        assert!(table.allows(key, NOW), "key {key}");
        assert!(!table.allows(0, NOW), "after key {key}");
    }
    assert_eq!(table.tracked, 32);
    assert_eq!(u64::from(table.evicted), flood - 31);
    // A newcomer starts from what the flood's keys had: one request, and one more for each time it went through the set.
    let Decision::Allowed { tightest: Some(standing), .. } = table.request(9999, 1, NOW).outcome.decision else {
        panic!("an honest newcomer is denied");
    };
    let paid = 100 - 1 - standing.remaining;
    assert!((1..=flood / 31 + 1).contains(&paid), "{paid}");
}

#[test]
fn the_floor_falls_as_any_counter_does() {
    let mut table = Table::new(1, vec![limit("bucket", Algorithm::TokenBucket, 10, "10s", 10)]);
    for _ in 0..10 {
        assert!(table.allows(1, NOW));
    }
    assert!(table.allows(2, NOW)); // from an empty floor; 1 has to go, and the floor is its 10 of 10
    assert!(!table.allows(3, NOW));
    assert!(!table.allows(3, NOW.after(SECOND - 1)));
    assert!(table.allows(3, NOW.after(SECOND)));
}

#[test]
fn an_evicted_key_returns_to_what_it_had_used_and_recovers_with_time() {
    let mut table = Table::new(1, vec![limit("bucket", Algorithm::TokenBucket, 10, "10s", 10)]);
    for _ in 0..9 {
        assert!(table.allows(1, NOW)); // 9 of 10 used
    }
    assert!(table.allows(2, NOW)); // evicts 1: the floor is 9
    let back = table.request(1, 1, NOW);
    assert!(back.newcomer);
    assert!(
        matches!(back.outcome.decision, Decision::Allowed { tightest: Some(standing), .. } if standing.remaining == 0)
    );
    assert!(!table.allows(1, NOW));
    assert!(table.allows(3, NOW)); // from the floor's 9; evicts 1, whose 10 of 10 are the floor now
    assert!(!table.allows(4, NOW));
    assert!(table.allows(4, NOW.after(SECOND)));
}

#[test]
fn empty_records_go_first() {
    let mut table = Table::new(2, vec![limit("bucket", Algorithm::TokenBucket, 10, "10s", 10)]);
    assert!(table.allows(1, NOW));
    assert!((0..5).all(|_| table.allows(2, NOW)));
    let outcome = table.request(3, 1, NOW.after(2 * SECOND));
    assert_eq!((outcome.churn.expired, outcome.churn.evicted), (1, 0), "1 has had its request back for a second");
}

#[test]
fn a_geometry_never_tracks_more_than_asked() {
    for (keys, sets, ways) in
        [(1, 1, 1), (31, 1, 31), (32, 1, 32), (33, 1, 32), (65_536, 2048, 32), (16_777_216, 524_288, 32)]
    {
        let geometry = Geometry::for_keys(keys);
        assert_eq!((geometry.sets, geometry.ways), (sets, ways));
        assert!(geometry.keys() <= u64::from(keys));
        assert!([0, 1, u64::MAX / 2, u64::MAX].iter().all(|hash| geometry.set(*hash) < sets));
    }
}

#[test]
fn whoever_is_in_the_set_goes_the_short_way_until_a_limit_is_used_up() {
    let mut table = Table::new(2, vec![limit("a", Algorithm::SlidingWindow, 3, "1m", 1)]);
    let start = Timestamp(1_800_000_000 * SECOND);
    let passed: Vec<u32> = [7, 7, 8, 7, 7, 8, 9, 9]
        .into_iter()
        .map(|hash| {
            table.request(hash, 1, start);
            table.passed
        })
        .collect();
    // The first of each key does not, nor the fourth of one; 9 has the place of 8 then.
    assert_eq!((passed, table.evicted), (vec![0, 1, 1, 2, 2, 3, 3, 4], 1));
}

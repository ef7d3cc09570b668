//! Leases: whatever workers charge ahead, nothing is admitted too much, and what is not used comes back.

use crate::gate::Proxy;
use crate::strategies::SECOND;
use allowance::caller::Caller;
use allowance::config::Config;
use allowance::cost::Cost;
use allowance::decision::Decision;
use allowance::ledger::{Ledger, Mode};
use allowance::rule::Charging;
use allowance::window::Timestamp;
use proptest::prelude::*;

/// A worker of a proxy that all share.
struct Worker {
    config: Config,
    ledger: Ledger,
}

/// What happens next, and how many microseconds after what was before.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(usize, u64),
    Tick(usize, u64),
}

impl Worker {
    fn new(host: &Proxy, limits: &str, lease: &str) -> Self {
        let text = format!(
            r#"{{"plans": {{"p": {{"limits": [{limits}]}}}}, {lease} "consumers": [{{"name": "acme", "plan": "p", "keys": ["sha256:{}"]}}]}}"#,
            "0".repeat(64)
        );
        let (config, ledger) = crate::ledger::open(host, &text);
        Self { config, ledger }
    }

    fn decide(&self, host: &Proxy, cost: u64, now: Timestamp, mode: Mode) -> Decision {
        let (index, consumer) = self.config.consumers.by_name(b"acme").unwrap();
        let caller = Caller::Listed { index, consumer, key: None };
        let (account, _) = self.ledger.accounts(&caller, &Charging::default()).unwrap();
        let cost = Cost::requests(cost);
        let outcome = match mode {
            Mode::Charge => {
                self.ledger.charge(host, &account, &cost, now).map(|charged| charged.into_outcome(&cost, now))
            }
            Mode::Look => self.ledger.decide(host, &account, &cost, now, mode),
        };
        outcome.unwrap().decision
    }

    fn asks(&self, host: &Proxy, cost: u64, now: Timestamp) -> bool {
        matches!(self.decide(host, cost, now, Mode::Charge), Decision::Allowed { .. })
    }

    /// What one more request of one unit would leave.
    fn would_leave(&self, host: &Proxy, now: Timestamp) -> Option<u64> {
        match self.decide(host, 1, now, Mode::Look) {
            Decision::Allowed { tightest, .. } => Some(tightest.unwrap().remaining),
            Decision::Denied { .. } => None,
        }
    }
}

fn at(host: &Proxy, microseconds: u64) -> Timestamp {
    host.show(crate::gate::START + microseconds * 1000);
    Timestamp(crate::gate::START + microseconds * 1000)
}

fn steps(workers: usize) -> impl Strategy<Value = Vec<Step>> {
    let gap = prop_oneof![8 => 0..300_u64, 2 => 300..30_000_u64, 1 => 30_000..700_000_u64];
    let step = prop_oneof![
        15 => (0..workers, gap.clone()).prop_map(|(worker, gap)| Step::Ask(worker, gap)),
        1 => (0..workers, gap).prop_map(|(worker, gap)| Step::Tick(worker, gap)),
    ];
    prop::collection::vec(step, 1..1500)
}

fn windowed() -> impl Strategy<Value = (u64, &'static str)> {
    (prop_oneof![1..40_u64, 40..1200_u64], prop::sample::select(&["second", "1s", "3s", "minute"][..]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Of a fixed window there is nothing that depends on when within it a unit is charged: the log is the whole truth.
    #[test]
    fn workers_with_leases_admit_no_more_than_the_limit_and_give_back_the_rest(
        max in 1..1500_u64, cost in 1..4_u64, steps in steps(3),
    ) {
        let host = Proxy::new();
        let limits = format!(r#"{{"requests": {max}, "per": "second"}}"#);
        let workers: Vec<Worker> = (0..3).map(|_| Worker::new(&host, &limits, r#""lease": "20ms","#)).collect();
        let cost = cost.min(max);
        let (mut now, mut log) = (0, Vec::new());
        for step in steps {
            let (Step::Ask(worker, gap) | Step::Tick(worker, gap)) = step;
            now += gap;
            let time = at(&host, now);
            match step {
                Step::Tick(..) => workers[worker].ledger.give_back_leases(&host, false),
                Step::Ask(..) => {
                    if workers[worker].asks(&host, cost, time) {
                        log.push(now / 1_000_000);
                        let used = log.iter().filter(|second| **second == now / 1_000_000).count() as u64 * cost;
                        prop_assert!(used <= max, "{} of {}", used, max);
                    }
                }
            }
        }
        // Everything back: what is left is the maximum minus what was admitted.
        let time = at(&host, now);
        workers.iter().for_each(|worker| worker.ledger.give_back_leases(&host, true));
        let used = log.iter().filter(|second| **second == now / 1_000_000).count() as u64 * cost;
        let plain = Worker::new(&host, &limits, "");
        prop_assert_eq!(plain.would_leave(&host, time), (max - used).checked_sub(1));
    }

    /// One worker never denies what it would have admitted without leases.
    #[test]
    fn on_one_worker_leases_change_no_decision(
        limits in prop::collection::vec(windowed(), 1..4), cost in 1..4_u64, steps in steps(1),
    ) {
        let limits: Vec<String> = limits.iter().enumerate()
            .map(|(index, (max, per))| format!(r#"{{"name": "l{index}", "requests": {max}, "per": "{per}"}}"#)).collect();
        let (host, other) = (Proxy::new(), Proxy::new());
        let leasing = Worker::new(&host, &limits.join(","), r#""lease": "20ms","#);
        let plain = Worker::new(&other, &limits.join(","), "");
        let mut now = 0;
        for step in steps {
            let (Step::Ask(_, gap) | Step::Tick(_, gap)) = step;
            now += gap;
            at(&other, now);
            let time = at(&host, now);
            match step {
                Step::Tick(..) => leasing.ledger.give_back_leases(&host, false),
                Step::Ask(..) => prop_assert_eq!(leasing.asks(&host, cost, time), plain.asks(&other, cost, time)),
            }
        }
    }
}

/// Looks at the shared data, of so many requests a millisecond apart.
fn reads(limits: &str, lease: &str, requests: u64) -> (u64, u32) {
    let host = Proxy::new();
    let worker = Worker::new(&host, limits, lease);
    let before = host.reads();
    let admitted = (0..requests).filter(|request| worker.asks(&host, 1, at(&host, request * 10))).count();
    (admitted as u64, host.reads() - before)
}

#[test]
fn a_busy_caller_needs_few_looks_and_where_little_is_left_every_request_is_one() {
    let lease = r#""lease": "20ms","#;
    let (admitted, looks) = reads(r#"{"requests": 100000, "per": "1m"}"#, lease, 10_000);
    assert_eq!(admitted, 10_000);
    // 1 + 2 + 4 + … doubles to 1024: ten looks for the first thousand, then one for each thousand.
    assert_eq!(looks, 19);
    let (admitted, looks) = reads(r#"{"requests": 100, "per": "day"}"#, lease, 200);
    assert_eq!(admitted, 100, "exactly");
    assert!(looks > 150, "{looks} looks: sixteen left and less are looked up one by one, and so is every denial");
    for limits in [
        r#"{"requests": 16, "per": "day"}"#,
        r#"{"requests": 100000, "per": "1m", "algorithm": "token_bucket"}"#,
        r#"{"requests": 100000, "per": "1m"}, {"requests": 3, "per": "day", "shadow": true}"#,
    ] {
        let (_, looks) = reads(limits, lease, 1000);
        assert_eq!(looks, 1000, "{limits}");
    }
    assert_eq!(reads(r#"{"requests": 100000, "per": "1m"}"#, "", 1000), (1000, 1000), "off unless it is asked for");
}

#[test]
fn who_comes_in_bursts_has_a_lease_at_once() {
    let host = Proxy::new();
    let worker = Worker::new(&host, r#"{"requests": 100000, "per": "1m"}"#, r#""lease": "20ms","#);
    let looks = [0, 500, 1000].map(|burst| {
        let before = host.reads();
        assert!((0..500).all(|request| worker.asks(&host, 1, at(&host, burst * 1000 + request * 10))));
        let looks = host.reads() - before;
        at(&host, burst * 1000 + 100_000);
        worker.ledger.give_back_leases(&host, false);
        looks
    });
    // 1 + 2 + … + 128 are used up, and 245 of 256; then that is enough for one half, and what follows it for the other.
    assert_eq!(looks, [9, 2, 2]);
    let plain = Worker::new(&host, r#"{"requests": 100000, "per": "1m"}"#, "");
    assert_eq!(plain.would_leave(&host, at(&host, 1_100_000)), Some(100_000 - 1500 - 1), "all else is given back");
}

/// Of a lease of 256 requests 245 are used. What the next one is for, charged ahead, is seen by others.
#[test]
fn what_a_lease_is_for_follows_from_what_was_used_of_the_last_one_a_short_while_ago() {
    for (pause, all, ahead) in [(0, true, 245), (100, false, 245), (9_900, false, 245), (10_100, false, 1)] {
        let host = Proxy::new();
        let limits = r#"{"requests": 100000, "per": "1m"}"#;
        let (worker, other) = (Worker::new(&host, limits, r#""lease": "20ms","#), Worker::new(&host, limits, ""));
        assert!((0..500).all(|request| worker.asks(&host, 1, at(&host, request * 10))));
        let now = at(&host, 5000 + pause * 1000);
        worker.ledger.give_back_leases(&host, all);
        assert_eq!(other.would_leave(&host, now), Some(100_000 - 500 - 1), "{pause}");
        assert!(worker.asks(&host, 1, now));
        assert_eq!(other.would_leave(&host, now), Some(100_000 - 500 - ahead - 1), "{pause}");
    }
}

#[test]
fn a_lease_ends_where_a_window_does() {
    let host = Proxy::new();
    let worker = Worker::new(&host, r#"{"requests": 1000, "per": "second"}"#, r#""lease": "1s","#);
    // The last three milliseconds of a second, in which a lease is not used up, then the next.
    let before = (0..300).filter(|request| worker.asks(&host, 1, at(&host, 997_000 + request * 10))).count();
    let after = (0..2000).filter(|request| worker.asks(&host, 1, at(&host, SECOND / 1000 + request * 10))).count();
    assert_eq!((before, after), (300, 1000));
}

/// A worker whose clock is behind charges in the window that another has begun, and gives back there: not what the window before had.
#[test]
fn what_is_given_back_comes_from_the_window_that_was_charged() {
    let host = Proxy::new();
    let limits = r#"{"requests": 1000, "per": "1s"}"#;
    let (behind, ahead) = (Worker::new(&host, limits, r#""lease": "1s","#), Worker::new(&host, limits, ""));
    (0..400).for_each(|_| assert!(ahead.asks(&host, 1, at(&host, 999_000))));
    assert!(ahead.asks(&host, 1, at(&host, 1_000_000)));
    // 1 + 2 + 4 + 8 + 16 are used up, of the next 32 one is.
    (0..32).for_each(|_| assert!(behind.asks(&host, 1, at(&host, 999_999))));
    at(&host, 1_000_000);
    behind.ledger.give_back_leases(&host, true);
    // In the middle of the second half of the one before counts, 200, and 1 + 32 in this one.
    assert_eq!(ahead.would_leave(&host, at(&host, 1_500_000)), Some(1000 - 200 - 33 - 1));
}

#[test]
fn what_is_told_as_left_counts_down_by_one() {
    let host = Proxy::new();
    let worker = Worker::new(&host, r#"{"requests": 1000, "per": "day"}"#, r#""lease": "20ms","#);
    for request in 0..1000 {
        match worker.decide(&host, 1, at(&host, request * 10), Mode::Charge) {
            Decision::Allowed { tightest, .. } => assert_eq!(tightest.unwrap().remaining, 999 - request),
            denied @ Decision::Denied { .. } => panic!("{denied:?}"),
        }
    }
}

//! The usual way is a way to the same: what a configuration that has it decides is what one decides that differs in metrics only.

use crate::gate::{Proxy, SECRET};
use proptest::prelude::*;

/// With and without metrics for each consumer, which the usual way does not count.
fn configuration(limits: &str, lease: &str, consumer_metrics: bool) -> String {
    format!(
        "{{api_key: {{from: [{{header: x-api-key}}]}}, headers: [], {lease} metrics: {{consumers: {consumer_metrics}}}, \
          plans: {{pro: {{limits: {limits}}}}}, consumers: [{{name: acme, plan: pro, keys: ['{SECRET}']}}, \
          {{name: gone, plan: pro, disabled: true, keys: ['{OTHER}']}}]}}"
    )
}

/// SHA-256 of the key `other`.
const OTHER: &str = "sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

const LEASES: [&str; 2] = ["", "lease: 1s,"];

const LIMITS: [&str; 5] = [
    "[{requests: 3, per: 1s}, {requests: 5, per: 1m}]",
    "[{requests: 2, per: second}, {requests: 4, per: day, shadow: true}]",
    "[{requests: 3, per: 1s, algorithm: token_bucket, burst: 4}, {requests: 9, per: 1h}]",
    "[{requests: 100, per: 10s}, {requests: 300, per: 1h}]",
    "[]",
];

/// A listed key and what is none of one.
const KEYS: [&str; 6] = ["secret", " secret", "secret,secret", "other", "unknown", ""];

proptest! {
    #[test]
    fn the_usual_way_is_a_way_to_the_same(
        limits in 0..LIMITS.len(),
        lease in 0..LEASES.len(),
        steps in prop::collection::vec((prop_oneof![5 => Just(0), 1 => 1..KEYS.len()], 0_u64..700), 1..60),
    ) {
        let worlds = [false, true].map(|metrics| {
            let proxy = Proxy::new();
            let gate = proxy.gate(&configuration(LIMITS[limits], LEASES[lease], metrics));
            (proxy, gate)
        });
        let mut now = crate::gate::START;
        for (key, milliseconds) in steps {
            now += milliseconds * 1_000_000;
            let [usual, other] = worlds.each_ref().map(|(proxy, gate)| {
                proxy.show(now);
                proxy.ask(gate, KEYS[key], "/")
            });
            prop_assert_eq!(usual, other);
        }
        let [usual, other] = worlds.each_ref().map(|(proxy, _)| (proxy.stored(), proxy.metric("allowance_requests_total")));
        prop_assert_eq!(usual, other);
    }
}

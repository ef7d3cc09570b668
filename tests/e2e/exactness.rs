//! Exact counts on four workers, from the first request.

use crate::support::envoy::Envoy;
use crate::support::http::{Request, Response, storm};
use crate::unlisted;
use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

fn keyed(key: &str) -> Request {
    Request::get("/").header("x-api-key", key)
}

fn count(responses: &[Response], status: u16) -> usize {
    responses.iter().filter(|response| response.status == status).count()
}

#[test]
fn of_20_000_requests_from_64_connections_exactly_1000_are_admitted() {
    let envoy = Envoy::with(&unlisted("[{requests: 1000, per: 300d}]")).concurrency(4).start();
    let responses = storm(envoy.addr(), 64, 20_000, |_| keyed("one-fresh-key"));
    assert_eq!((count(&responses, 200), count(&responses, 429)), (1000, 19_000));
    let decided = |decision| envoy.metric("allowance_requests_total", &[("decision", decision)]);
    assert_eq!((decided("allowed"), decided("denied")), (1000, 19_000));
}

/// Workers that charge ahead: still not one too much, and nothing is lost.
#[test]
fn with_leases_exactly_10_000_of_30_000_are_admitted_on_four_workers() {
    let hash = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"; // foo
    let configuration = format!(
        "{{lease: 50ms, plans: {{busy: {{limits: [{{requests: 10000, per: 300d}}, {{requests: 1000000, per: day}}]}}}},
          consumers: [{{name: acme, plan: busy, keys: ['{hash}']}}]}}"
    );
    let envoy = Envoy::with(&configuration).concurrency(4).start();
    let responses = storm(envoy.addr(), 64, 30_000, |_| keyed("foo"));
    assert_eq!((count(&responses, 200), count(&responses, 429)), (10_000, 20_000));
    let decided = |decision| envoy.metric("allowance_requests_total", &[("decision", decision)]);
    assert_eq!((decided("allowed"), decided("denied")), (10_000, 20_000));
}

#[test]
fn each_of_500_keys_is_admitted_exactly_7_times() {
    let envoy = Envoy::with(&unlisted("[{requests: 7, per: 300d}]")).concurrency(4).start();
    let responses = storm(envoy.addr(), 64, 500 * 12, |i| keyed(&format!("key-{}", i % 500)));
    let mut admitted: HashMap<usize, usize> = HashMap::new();
    for (i, response) in responses.iter().enumerate() {
        *admitted.entry(i % 500).or_default() += usize::from(response.status == 200);
    }
    assert!(admitted.values().all(|admitted| *admitted == 7), "{admitted:?}");
    assert_eq!(admitted.len(), 500);
}

#[test]
fn each_of_3000_fresh_keys_is_admitted_exactly_once() {
    let envoy = Envoy::with(&unlisted("[{requests: 1, per: 300d}]")).concurrency(4).start();
    // The four requests of a key follow each other, so that different connections send them at the same time.
    let responses = storm(envoy.addr(), 64, 3000 * 4, |i| keyed(&format!("key-{}", i / 4)));
    for (key, of_key) in responses.chunks(4).enumerate() {
        assert_eq!((count(of_key, 200), count(of_key, 429)), (1, 3), "key {key}");
    }
}

/// The first write of a record is where others lose updates: four workers at once, again and again.
#[test]
fn first_requests_on_different_workers_admit_one_in_20_rounds_of_300_fresh_keys() {
    const ROUNDS: usize = 20;
    const KEYS: usize = 300;
    let envoy = Envoy::with(&unlisted("[{requests: 1, per: 300d}]")).concurrency(4).start();
    let mut connections = envoy.connections_on_distinct_workers(4);
    let workers: Vec<usize> = connections.iter().map(|(worker, _)| *worker).collect();
    assert_eq!(workers, [0, 1, 2, 3]);
    let barrier = Barrier::new(connections.len());
    let statuses: Vec<Vec<u16>> = thread::scope(|scope| {
        let senders: Vec<_> = connections
            .iter_mut()
            .map(|(_, connection)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut statuses = Vec::with_capacity(ROUNDS * KEYS);
                    for (round, key) in (0..ROUNDS).flat_map(|round| (0..KEYS).map(move |key| (round, key))) {
                        let request = keyed(&format!("{round}-{key}"));
                        barrier.wait();
                        statuses.push(connection.exchange(&request).status);
                    }
                    statuses
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    for key in 0..ROUNDS * KEYS {
        let of_key: Vec<u16> = statuses.iter().map(|worker| worker[key]).collect();
        assert_eq!(of_key.iter().filter(|status| **status == 200).count(), 1, "key {key}: {of_key:?}");
        assert_eq!(of_key.iter().filter(|status| **status == 429).count(), 3, "key {key}: {of_key:?}");
    }
    // Each worker was first for some keys: they did race.
    assert!(statuses.iter().all(|worker| worker.contains(&200)));
}

/// Three limits at once: the tightest denies, and a denial has charged none of the others.
#[test]
fn a_denial_charges_none_of_a_callers_limits() {
    let limits = "[{name: wide, requests: 50, per: 300d}, {name: narrow, requests: 5, per: 200d}]";
    let envoy = Envoy::with(&unlisted(limits)).concurrency(4).ecds().start();
    let responses = storm(envoy.addr(), 16, 400, |_| keyed("k"));
    assert_eq!((count(&responses, 200), count(&responses, 429)), (5, 395));
    // Without the narrow limit the wide one shows what it was charged: the five that were admitted.
    envoy.reconfigure(&unlisted("[{name: wide, requests: 50, per: 300d}]")).unwrap();
    let responses = storm(envoy.addr(), 16, 400, |_| keyed("k"));
    assert_eq!((count(&responses, 200), count(&responses, 429)), (45, 355));
}

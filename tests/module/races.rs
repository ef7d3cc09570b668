//! Two workers, forced through every order of their host calls: nothing is lost, nothing too much is admitted. The same tests
//! against shared data that creates or writes blindly must fail.

use crate::support::interleave::{Granularity, Job, explore};
use crate::support::proxy::{Clock, Metrics, Mode, Options, SharedData};
use crate::{ABC, LOOKED_AT_AGAIN, status, with};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// More schedules than any of these explorations has.
const ALL: usize = 200_000;

fn unlisted(limits: &str) -> String {
    format!(r#"{{"headers": [], "unlisted": {{"plan": "free"}}, "plans": {{"free": {{"limits": {limits}}}}}}}"#)
}

/// Two workers of one process with these configurations.
fn workers(configurations: [&str; 2], mode: Mode) -> ([crate::support::proxy::Instance; 2], Arc<SharedData>) {
    let shared = Arc::new(SharedData::new(mode));
    let (clock, metrics) = (Clock::default(), Metrics::default());
    let instances = configurations.map(|configuration| {
        with(Options { clock: clock.clone(), metrics: metrics.clone(), ..Options::new(configuration) }, &shared)
    });
    (instances, shared)
}

/// Each of two workers makes `requests` requests with one fresh key; every order of their host calls. Returns how many schedules
/// there were and how often each number of requests was admitted in total.
fn admitted(limits: &str, mode: Mode, requests: usize, granularity: Granularity) -> (usize, Vec<usize>) {
    let configuration = unlisted(limits);
    let ([mut one, mut other], shared) = workers([&configuration, &configuration], mode);
    let start = shared.snapshot();
    let mut totals = vec![0; 2 * requests + 1];
    let explored = explore(
        [&mut one, &mut other],
        granularity,
        ALL,
        |_| {
            shared.restore(&start);
            let job = || -> Job<usize> {
                Box::new(move |instance| (0..requests).filter(|_| status(instance, "fresh") == 200).count())
            };
            [job(), job()]
        },
        |_, [one, other]| totals[one + other] += 1,
    );
    assert!(explored.complete, "{explored:?}");
    (explored.schedules, totals)
}

#[test]
fn of_two_first_requests_one_is_admitted_whatever_the_order_of_their_host_calls() {
    let (schedules, totals) =
        admitted(r#"[{"requests": 1, "per": "300d"}]"#, Mode::Exact, 1, Granularity::EveryHostCall);
    assert_eq!(totals, [0, schedules, 0]);
    assert!(schedules > 100, "{schedules} schedules");
}

#[test]
fn nothing_is_lost_and_nothing_too_much_admitted_in_any_order_of_four_requests() {
    let limits = r#"[{"requests": 3, "per": "300d"}, {"requests": 3, "per": "1d", "algorithm": "token_bucket"}]"#;
    let (schedules, totals) = admitted(limits, Mode::Exact, 2, Granularity::SharedData);
    assert_eq!(totals, [0, 0, 0, schedules, 0]);
    assert!(schedules > 50, "{schedules} schedules");
}

/// The same of a listed consumer whose requests go the usual way, where a lost race is decided anew: each is in the record once.
#[test]
fn a_listed_consumer_is_charged_exactly_in_any_order_of_four_requests() {
    let configuration = format!(
        r#"{{"headers": [], "api_key": {{"from": [{{"header": "x-api-key"}}]}},
            "plans": {{"pro": {{"limits": [{{"requests": 40, "per": "300d"}}, {{"requests": 90, "per": "200d"}}]}}}},
            "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]}}"#
    );
    let ([mut one, mut other], shared) = workers([&configuration, &configuration], Mode::Exact);
    // Both have seen the key, and the record is there.
    assert_eq!([status(&mut one, "abc"), status(&mut other, "abc")], [200, 200]);
    let start = shared.snapshot();
    let names = shared.keys().into_iter().filter(|name| name.starts_with(b"allowance1"));
    let record = names.max_by_key(|name| shared.get(name).unwrap().0.len()).unwrap();
    // Behind version and number, two counters of 18 and 24 bytes, each with its count at the end.
    let counts = || [44, 86].map(|end| shared.get(&record).unwrap().0[end - 8]);
    assert_eq!(counts(), [2, 2]);
    let explored = explore(
        [&mut one, &mut other],
        Granularity::SharedData,
        ALL,
        |_| {
            shared.restore(&start);
            [(); 2].map(|()| -> Job<usize> {
                Box::new(|instance| (0..2).filter(|_| status(instance, "abc") == 200).count())
            })
        },
        |_, admitted| assert_eq!((admitted, counts()), ([2, 2], [6, 6])),
    );
    assert!(explored.complete && explored.schedules > 50, "{explored:?}");
}

/// The proof that the tests above can fail.
#[test]
fn a_store_that_creates_blindly_or_writes_blindly_is_caught() {
    let one = r#"[{"requests": 1, "per": "300d"}]"#;
    let three = r#"[{"requests": 3, "per": "300d"}]"#;
    let (_, created) = admitted(one, Mode::BlindCreate, 1, Granularity::EveryHostCall);
    assert!(created[2] > 0, "a blind create admits the second first request too: {created:?}");
    let (_, written) = admitted(three, Mode::BlindWrite, 2, Granularity::SharedData);
    assert!(written[4] > 0, "a blind write loses a charge: {written:?}");
}

/// One consumer's record under two configurations with different limits, as while a change is rolled out.
#[test]
fn two_configurations_with_disjoint_limits_on_one_record_lose_nothing() {
    let configuration = |limit: &str| {
        format!(
            r#"{{"headers": [], "plans": {{"pro": {{"limits": [{limit}]}}}},
                "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]}}"#
        )
    };
    let (days, hours) =
        (configuration(r#"{"requests": 3, "per": "300d"}"#), configuration(r#"{"requests": 2, "per": "200d"}"#));
    let ([mut one, mut other], shared) = workers([&days, &hours], Mode::Exact);
    // Alternating: each admits what its own limit allows, whatever the other does to the record between.
    let statuses: Vec<[u16; 2]> = (0..4).map(|_| [status(&mut one, "abc"), status(&mut other, "abc")]).collect();
    assert_eq!(statuses, [[200, 200], [200, 200], [200, 429], [429, 429]]);

    let ([mut one, mut other], shared_again) = workers([&days, &hours], Mode::Exact);
    drop(shared);
    let (start, clock) = (shared_again.snapshot(), one.clock());
    let job = |requests: usize| -> Job<usize> {
        Box::new(move |instance| (0..requests).filter(|_| status(instance, "abc") == 200).count())
    };
    let explored = explore(
        [&mut one, &mut other],
        Granularity::SharedData,
        ALL,
        |_| {
            shared_again.restore(&start);
            // Where a denial is remembered, its record is looked at again then.
            clock.advance(LOOKED_AT_AGAIN);
            [job(4), job(3)]
        },
        |_, counts| assert_eq!(counts, [3, 2]),
    );
    assert!(explored.complete && explored.schedules > 50, "{explored:?}");
}

/// The host's versions wrap. The one value that means "create" to the host is met once in 2³² writes.
#[test]
fn versions_that_wrap_change_nothing() {
    let shared = Arc::new(SharedData::with_next_version(Mode::Exact, u32::MAX - 3));
    let mut instance = with(Options::new(unlisted(r#"[{"requests": 6, "per": "300d"}]"#)), &shared);
    let admitted = (0..20).filter(|_| status(&mut instance, "k") == 200).count();
    assert_eq!(admitted, 6);
}

/// A worker that loses every race gives up with 503, says so in a metric, and has charged nothing.
#[test]
fn a_record_that_is_always_lost_to_others_is_503() {
    let configuration = unlisted(r#"[{"requests": 5, "per": "300d"}]"#);
    let shared = Arc::new(SharedData::default());
    let metrics = Metrics::default();
    let mut instance = with(Options { metrics: metrics.clone(), ..Options::new(configuration) }, &shared);
    assert_eq!(status(&mut instance, "k"), 200);
    let key = shared.keys().into_iter().find(|key| key.starts_with(b"allowance1")).unwrap();
    let (value, _) = shared.get(&key).unwrap();
    let rival = (shared.clone(), key.clone(), value.clone());
    // Before each write another worker writes the same again.
    instance.on_call(Some(Box::new(move |call| {
        if call == "proxy_set_shared_data" {
            let (shared, key, value) = &rival;
            shared.set(key, value, 0);
        }
    })));
    assert_eq!(status(&mut instance, "k"), 503);
    instance.on_call(None);
    assert_eq!(shared.get(&key).unwrap().0, value);
    assert_eq!(metrics.value("reason=.=contention;.;allowance_errors_total"), Some(1));
    assert_eq!(metrics.value("decision=.=error;.;plan=.=none;.;limit=.=none;.;allowance_requests_total"), Some(1));
}

/// An exploration that finds a lost update reports the schedule: what a failing test prints is of use.
#[test]
fn a_failing_schedule_is_told() {
    let configuration = unlisted(r#"[{"requests": 1, "per": "300d"}]"#);
    let ([mut one, mut other], shared) = workers([&configuration, &configuration], Mode::BlindWrite);
    let start = shared.snapshot();
    let found = catch_unwind(AssertUnwindSafe(|| {
        explore(
            [&mut one, &mut other],
            Granularity::SharedData,
            ALL,
            |_| {
                shared.restore(&start);
                [(); 2].map(|()| -> Job<u16> { Box::new(|instance| status(instance, "k")) })
            },
            |_, statuses| assert!(statuses.contains(&429)),
        )
    }));
    assert!(found.is_err());
}

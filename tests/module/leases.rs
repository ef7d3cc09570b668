//! What is charged ahead and not used comes back when the timer fires, and when another configuration takes over.

use crate::support::proxy::{Clock, Instance, Options, SharedData};
use crate::{ABC, LOOKED_AT_AGAIN, status, with};
use std::sync::Arc;
use std::time::Duration;

fn configuration(max: u64, more: &str) -> String {
    format!(
        r#"{{{more} "plans": {{"p": {{"limits": [{{"requests": {max}, "per": "day"}}]}}}},
            "consumers": [{{"name": "acme", "plan": "p", "keys": ["{ABC}"]}}]}}"#
    )
}

/// A worker of this clock.
fn worker(max: u64, clock: &Clock, shared: &Arc<SharedData>) -> Instance {
    with(Options { clock: clock.clone(), ..Options::new(configuration(max, r#""lease": "50ms","#)) }, shared)
}

fn admitted(instance: &mut Instance, of: usize) -> usize {
    (0..of).filter(|_| status(instance, "abc") == 200).count()
}

#[test]
fn an_idle_callers_lease_is_given_back_by_the_timer() {
    let (clock, shared) = (Clock::default(), Arc::new(SharedData::default()));
    let (mut busy, mut other) = (worker(1000, &clock, &shared), worker(1000, &clock, &shared));
    assert_eq!(busy.tick_period_ms(), 50);
    // 1 + 2 + 4 + 8 + 16 are used up, of the next 32 one is.
    assert_eq!(admitted(&mut busy, 32), 32);
    // The limit of another configuration, which leaves what is not charged: 63 are.
    other.configure(configuration(63, "").as_bytes()).unwrap();
    assert_eq!(admitted(&mut other, 1), 0);
    assert!(busy.tick().iter().all(|call| call.name != "proxy_set_shared_data"), "it is not over yet");
    clock.advance(Duration::from_millis(50));
    let calls = busy.tick();
    assert_eq!(calls.iter().filter(|call| call.name == "proxy_set_shared_data").count(), 1);
    assert_eq!(admitted(&mut other, 100), 31);
}

#[test]
fn what_a_configuration_leaves_is_given_back_once_it_is_over() {
    let (clock, shared) = (Clock::default(), Arc::new(SharedData::default()));
    let (mut busy, mut other) = (worker(1000, &clock, &shared), worker(1000, &clock, &shared));
    assert_eq!(admitted(&mut busy, 32), 32);
    other.configure(configuration(63, "").as_bytes()).unwrap();
    busy.configure(configuration(63, "").as_bytes()).unwrap();
    assert_eq!(admitted(&mut other, 1), 0);
    // While it has requests it is not over.
    busy.tick();
    assert_eq!(admitted(&mut other, 1), 0);
    busy.end_other_roots();
    busy.tick();
    clock.advance(LOOKED_AT_AGAIN);
    assert_eq!(admitted(&mut other, 100), 31);
}

#[test]
fn a_configuration_that_is_over_is_found_out_by_requests_too() {
    let (clock, shared) = (Clock::default(), Arc::new(SharedData::default()));
    let mut busy = worker(1000, &clock, &shared);
    assert_eq!(admitted(&mut busy, 32), 32);
    busy.configure(configuration(63, "").as_bytes()).unwrap();
    busy.end_other_roots();
    // 31 more are there once the lease is back, and denied ones look for it.
    assert_eq!(admitted(&mut busy, 1000), 0);
    clock.advance(LOOKED_AT_AGAIN);
    assert_eq!(admitted(&mut busy, 1000), 31);
}

//! The scheduler: it finds what it must find, and only once.

use std::collections::HashSet;
use std::sync::Arc;

use super::proxy::module;
use crate::support::interleave::{Explored, Granularity, Job, explore};
use crate::support::proxy::{Instance, Mode, Options, SharedData};

/// Two workers send a request each with one key that was never seen; returns how far it went, all schedules, and the
/// worst over-admission.
fn race(mode: Mode, limit: &str, granularity: Granularity, most: usize) -> (Explored, HashSet<String>, usize) {
    let shared = Arc::new(SharedData::new(mode));
    let start = |_| Instance::new(&module(), Arc::clone(&shared), Options::new(limit)).unwrap();
    let mut workers = [0, 1].map(start);
    let [one, two] = &mut workers;
    let (fresh, allowed): (_, usize) = (shared.snapshot(), limit.parse().unwrap());
    let (mut schedules, mut worst) = (HashSet::new(), 0);
    let explored = explore(
        [one, two],
        granularity,
        most,
        |_| {
            shared.restore(&fresh);
            [(); 2].map(|()| -> Job<u16> { Box::new(|worker| worker.request(&[("x-api-key", "k")]).status().unwrap()) })
        },
        |schedule, statuses| {
            assert!(schedules.insert(schedule.to_string()), "twice: {schedule}");
            let admitted = statuses.iter().filter(|&&status| status == 200).count();
            let counted = shared.get(b"k").map_or(0, |(value, _)| usize::from(value[0]));
            worst = worst.max(admitted - counted.min(admitted)).max(admitted.saturating_sub(allowed));
        },
    );
    (explored, schedules, worst)
}

#[test]
fn goes_through_every_order_of_shared_data_calls_once() {
    let (explored, schedules, worst) = race(Mode::Exact, "2", Granularity::SharedData, usize::MAX);
    // Two calls each: one worker after the other (2 orders, 4 turns), or both read first (4 orders), where the loser of
    // the race reads and writes again (6 turns).
    assert_eq!(explored, Explored { schedules: 6, complete: true, longest: 6 });
    assert!(schedules.contains(
        "0:get_shared_data 1:get_shared_data 1:set_shared_data 0:set_shared_data 0:get_shared_data 0:set_shared_data "
    ));
    assert_eq!(worst, 0);
}

#[test]
fn copes_with_runs_that_get_shorter() {
    // With one request allowed the loser's second read denies it, so it never writes again.
    let (explored, _, worst) = race(Mode::Exact, "1", Granularity::SharedData, usize::MAX);
    assert_eq!((explored.schedules, explored.complete, explored.longest, worst), (6, true, 5, 0));
}

#[test]
fn finds_the_lost_first_write() {
    assert_eq!(race(Mode::BlindCreate, "2", Granularity::SharedData, usize::MAX).2, 1);
    assert_eq!(race(Mode::BlindWrite, "2", Granularity::SharedData, usize::MAX).2, 1);
}

#[test]
fn every_host_call_can_be_a_turn() {
    let (explored, _, worst) = race(Mode::Exact, "2", Granularity::EveryHostCall, usize::MAX);
    assert!(explored.complete && explored.schedules > 3432, "at least all orders of 7 and 7 calls: {explored:?}");
    assert_eq!(worst, 0);
}

#[test]
fn stops_at_the_limit_and_says_so() {
    let (explored, _, _) = race(Mode::Exact, "2", Granularity::EveryHostCall, 100);
    assert_eq!((explored.schedules, explored.complete), (100, false));
}

#[test]
fn a_failing_check_ends_the_exploration() {
    let mut worker = Instance::new(&module(), Arc::default(), Options::new("9")).unwrap();
    let explored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        explore(
            [&mut worker],
            Granularity::SharedData,
            1,
            |_| [Box::new(|_: &mut Instance| ()) as Job<()>],
            |_, _| panic!("as asked"),
        )
    }));
    assert_eq!(explored.unwrap_err().downcast_ref::<&str>(), Some(&"as asked"));
}

#[test]
fn a_failing_job_does_not_leave_the_others_hanging() {
    let mut workers = [0, 1].map(|_| Instance::new(&module(), Arc::default(), Options::new("9")).unwrap());
    let [one, two] = &mut workers;
    let explored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let jobs = |_| {
            [b'!', b'k'].map(|key| -> Job<()> { Box::new(move |worker| drop(worker.request(&[("x-api-key", [key])]))) })
        };
        explore([one, two], Granularity::EveryHostCall, 1, jobs, |_, _| ())
    }));
    let message = explored.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(message.starts_with("the module died in proxy_on_request_headers"), "{message}");
}

#[test]
fn notices_when_schedules_do_not_start_the_same() {
    let shared = Arc::new(SharedData::default());
    let mut workers = [0, 1].map(|_| Instance::new(&module(), Arc::clone(&shared), Options::new("1")).unwrap());
    let [one, two] = &mut workers;
    let explored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // Nothing is restored, so from the second schedule on the key is used up and nobody writes.
        let job = |()| -> Job<()> { Box::new(|worker| drop(worker.request(&[("x-api-key", "k")]))) };
        explore([one, two], Granularity::SharedData, usize::MAX, |_| [(), ()].map(job), |_, _| ())
    }));
    let message = explored.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(message.starts_with("the same choices gave another run"), "{message}");
}

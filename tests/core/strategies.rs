//! Random limits, times and histories.

use allowance::counter::Rule;
use allowance::plan::{Algorithm, Limit, Unit};
use allowance::window::{Timestamp, Window};
use proptest::prelude::*;
use std::num::NonZeroU64;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Windows short and long, dividing and not dividing a second.
const DURATIONS: [&str; 8] = ["1ms", "7ms", "1s", "13s", "1m", "1h", "1d", "300d"];
const WORDS: [&str; 6] = ["second", "minute", "hour", "day", "week", "month"];

pub(crate) fn window(per: &str) -> Window {
    Window::parse(per).unwrap()
}

pub(crate) fn limit(name: &str, algorithm: Algorithm, max: u64, per: &str, burst: u64) -> Limit {
    let (max, burst) = (NonZeroU64::new(max).unwrap(), NonZeroU64::new(burst).unwrap());
    Limit::new("", name, Unit::Requests, Rule { algorithm, max, window: window(per), burst })
}

/// A limit of any algorithm, with small numbers so that it is reached.
pub(crate) fn any_limit(name: &'static str) -> impl Strategy<Value = Limit> {
    let duration = prop::sample::select(&DURATIONS[..]);
    let fixed = prop_oneof![duration.clone(), prop::sample::select(&WORDS[..])];
    prop_oneof![
        (1..20u64, fixed).prop_map(move |(max, per)| limit(name, Algorithm::FixedWindow, max, per, 1)),
        (1..20u64, duration.clone()).prop_map(move |(max, per)| limit(name, Algorithm::SlidingWindow, max, per, 1)),
        (1..20u64, duration, 1..30u64).prop_map(move |(max, per, burst)| limit(
            name,
            Algorithm::TokenBucket,
            max,
            per,
            burst
        )),
    ]
}

/// One to four limits at once.
pub(crate) fn any_limits() -> impl Strategy<Value = Vec<Limit>> {
    (any_limit("a"), any_limit("b"), any_limit("c"), any_limit("d"), 1..=4usize).prop_map(|(a, b, c, d, count)| {
        let mut limits = vec![a, b, c, d];
        limits.truncate(count);
        limits
    })
}

/// Between 2001 and 2033, also exactly on a second.
pub(crate) fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (1_000_000_000 * SECOND..2_000_000_000 * SECOND).prop_map(Timestamp),
        (1_000_000_000..2_000_000_000u64).prop_map(|seconds| Timestamp(seconds * SECOND)),
    ]
}

/// Steps between requests, from nothing to more than the longest window, so that every window sees several.
pub(crate) fn any_step() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => Just(0),
        3 => 0..1_000_000u64,
        3 => 0..SECOND,
        3 => 0..60 * SECOND,
        2 => 0..86_400 * SECOND,
        1 => 0..700 * 86_400 * SECOND,
    ]
}

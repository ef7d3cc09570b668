//! The rules, checked against a plain log of what was admitted.

use crate::strategies::{SECOND, any_limit, any_limits, any_step, any_time, limit};
use allowance::cost::Cost;
use allowance::counter::Wait;
use allowance::decision::Decision;
use allowance::exhausted::Exhausted;
use allowance::limiter::{self, Outcome};
use allowance::limits::Limits;
use allowance::plan::{Algorithm, Limit};
use allowance::record::Record;
use allowance::window::Timestamp;
use proptest::prelude::*;

/// A caller with its record, and the log of what it was charged.
#[derive(Default)]
struct Caller {
    record: Vec<u8>,
    log: Log,
}

/// What a caller was charged, and when.
#[derive(Default)]
pub(crate) struct Log(pub(crate) Vec<(Timestamp, u64)>);

impl Caller {
    fn request(&mut self, limits: &[Limit], cost: u64, now: Timestamp) -> Decision {
        let Outcome { decision, record, overfull, .. } =
            limiter::decide(&Record::decode(&self.record).unwrap(), limits, &Cost::requests(cost), now);
        assert!(!overfull);
        match decision {
            Decision::Allowed { .. } => {
                self.record = record.expect("a charge is stored");
                self.log.0.push((now, cost));
            }
            Decision::Denied { .. } => assert_eq!(record, None, "a denial stores nothing"),
        }
        decision
    }

    /// Units used of one limit, as its counter reads.
    fn used(&self, limit: &Limit, now: Timestamp) -> u64 {
        let counter = Record::decode(&self.record).unwrap().counter(limit.id);
        limit.rule.used(&limit.rule.advance(counter, now))
    }
}

impl Log {
    fn sum(&self, from: Timestamp, to: Timestamp) -> u64 {
        self.0.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, cost)| cost).sum()
    }

    /// Whether the limit's rule allows `cost` at `now`, from the log alone.
    pub(crate) fn rule_allows(&self, limit: &Limit, cost: u64, now: Timestamp) -> bool {
        let (max, window) = (u128::from(limit.rule.max.get()), limit.rule.window);
        let (start, end) = window.bounds(now);
        match limit.rule.algorithm {
            Algorithm::FixedWindow => self.sum(start, end) + cost <= limit.rule.max.get(),
            Algorithm::SlidingWindow => {
                let length = u128::from(end.0 - start.0);
                let left = u128::from(end.0 - now.0);
                let previous = u128::from(self.sum(Timestamp(start.0 - (end.0 - start.0)), start));
                let used = previous * left / length + u128::from(self.sum(start, end));
                used + u128::from(cost) <= max
            }
            Algorithm::TokenBucket => {
                let w = u128::from(window.span().get());
                let mut level = 0u128;
                let mut at = self.0.first().map_or(now, |(at, _)| *at);
                for (time, cost) in &self.0 {
                    level = level.saturating_sub(u128::from(time.0 - at.0) * max) + u128::from(*cost) * w;
                    at = *time;
                }
                let level = level.saturating_sub(u128::from(now.0 - at.0) * max);
                level + u128::from(cost) * w <= u128::from(limit.rule.burst.get()) * w
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Admitted exactly when every limit's stated rule allows it; a denial leaves every counter as it was.
    #[test]
    fn stacked_limits_admit_exactly_what_their_rules_allow(
        limits in any_limits(),
        start in any_time(),
        requests in prop::collection::vec((any_step(), 1..4u64), 1..60),
    ) {
        let mut caller = Caller::default();
        let mut now = start;
        for (step, cost) in requests {
            now = now.after(step);
            let allowed = limits.iter().all(|limit| caller.log.rule_allows(limit, cost, now));
            let before: Vec<u64> = limits.iter().map(|limit| caller.used(limit, now)).collect();
            let decision = caller.request(&limits, cost, now);
            let after: Vec<u64> = limits.iter().map(|limit| caller.used(limit, now)).collect();
            match decision {
                Decision::Allowed { .. } => {
                    prop_assert!(allowed);
                    for (limit, (before, after)) in limits.iter().zip(before.iter().zip(&after)) {
                        prop_assert!(*after <= limit.capacity());
                        // ⌈level/W⌉ can hide up to one unit of what drains; the windows count exactly.
                        prop_assert_eq!(*after, before + cost);
                    }
                }
                Decision::Denied { .. } => {
                    prop_assert!(!allowed);
                    prop_assert_eq!(before, after);
                }
            }
        }
    }

    /// The short way to a record comes to the same as the long one, or to nothing: for any limits, steps back of the clock, and records that
    /// fewer or more limits have written.
    #[test]
    fn what_passes_is_stored_as_it_is_decided(
        limits in any_limits(),
        shadow in prop::collection::vec(any::<bool>(), 4),
        start in any_time(),
        requests in prop::collection::vec((any_step(), 0..8u8, 0..4u64, 1..=4usize), 1..60),
    ) {
        let mut limits = limits;
        limits.iter_mut().zip(shadow).for_each(|(limit, shadow)| limit.shadow = shadow);
        // All of them, and fewer: each remembers in which windows it was asked last.
        let first: Vec<Limits> = (1..=limits.len()).map(|count| Limits::new(limits[..count].to_vec())).collect();
        let (mut stored, mut now) = (Vec::new(), start);
        for (step, back, cost, asked) in requests {
            now = if back == 0 { Timestamp(now.0.saturating_sub(step)) } else { now.after(step) };
            let (cost, limits) = (Cost::requests(cost), first.get(asked - 1).unwrap_or(&first[first.len() - 1]));
            let decided = limiter::decide(&Record::decode(&stored).unwrap(), limits, &cost, now);
            let (mut record, mut other) = (stored.clone(), stored.clone());
            let passed = limiter::pass(&mut record, limits, &cost, now, true);
            prop_assert_eq!(limiter::pass(&mut other, limits, &cost, now, false), passed.map(|_| None));
            prop_assert_eq!(&record, &other, "whether it is told makes no difference");
            if let Some(tightest) = passed {
                let passed = Outcome { record: Some(record), ..Outcome::allowed(tightest, &cost, now) };
                prop_assert_eq!(passed, decided.clone());
            }
            stored = decided.record.unwrap_or(stored);
        }
    }

    /// A denial that lasts is what would be decided at any time, as long as nobody changes the record, and is over when a request passes or the
    /// next limit denies it.
    #[test]
    fn a_denial_that_lasts_is_what_would_be_decided(
        limits in any_limits(),
        shadow in prop::collection::vec(prop::bool::weighted(0.2), 4),
        start in any_time(),
        requests in prop::collection::vec((any_step(), 1..4u64), 1..60),
        later in prop::collection::vec(any_step(), 1..8),
    ) {
        let mut limits = limits;
        limits.iter_mut().zip(shadow).for_each(|(limit, shadow)| limit.shadow = shadow);
        let (mut stored, mut now) = (Vec::new(), start);
        for (step, cost) in requests {
            now = now.after(step);
            let cost = Cost::requests(cost);
            let decided = limiter::decide(&Record::decode(&stored).unwrap(), &limits, &cost, now);
            let Some(mut exhausted) = Exhausted::by(&decided, &stored, &limits, &cost, now) else {
                let denied = matches!(decided.decision, Decision::Denied { .. });
                prop_assert!(!denied || cost.requests > 1 || decided.set_back, "{decided:?}");
                stored = decided.record.unwrap_or(stored);
                continue;
            };
            let Decision::Denied { wait: Wait::For(wait), .. } = decided.decision else { panic!("{decided:?}") };
            let ends = [0, wait - 1, wait, wait + 1];
            for step in later.iter().copied().chain(ends) {
                let then = now.after(step);
                let decided = limiter::decide(&Record::decode(&stored).unwrap(), &limits, &cost, then);
                let again = exhausted.denies(&cost, then);
                let said = again.map(|(standing, wait)| Decision::Denied { standing, wait: Wait::For(wait) });
                prop_assert_eq!(said, (step < wait).then_some(decided.decision), "{} later", step);
            }
            prop_assert_eq!(exhausted.denies(&cost, Timestamp(now.0.saturating_sub(1))), None, "the clock was set back");
            prop_assert_eq!(exhausted.denies(&Cost::requests(2), now), None, "more may have to wait longer");
            for at in 0..stored.len() {
                let mut other = stored.clone();
                other[at] ^= 1;
                prop_assert!(!exhausted.is_still(&other, now), "somebody has changed it");
            }
            let looked = now.after(u64::from(u32::MAX));
            prop_assert!(exhausted.is_still(&stored, looked));
            prop_assert_eq!([0, 9_999_999, 10_000_000].map(|later| exhausted.seen_lately(looked.after(later))), [true, true, false]);
        }
    }

    /// In a window that does not end, what the counter reads is the sum of what was admitted.
    #[test]
    fn the_sum_of_charges_is_what_was_admitted(
        max in 1..200u64,
        costs in prop::collection::vec(1..9u64, 1..80),
    ) {
        let limits = [limit("total", Algorithm::FixedWindow, max, "month", 1), limit("tight", Algorithm::TokenBucket, 3, "1s", 4)];
        let mut caller = Caller::default();
        let start = Timestamp(1_800_000_000 * SECOND);
        for (i, cost) in costs.into_iter().enumerate() {
            caller.request(&limits, cost, start.after(i as u64 * SECOND / 2));
        }
        let sum: u64 = caller.log.0.iter().map(|(_, cost)| cost).sum();
        prop_assert_eq!(caller.used(&limits[0], start.after(40 * SECOND)), sum);
        prop_assert!(sum <= max);
    }

    /// Never more than burst + ⌈t·max/W⌉ in any t.
    #[test]
    fn a_token_bucket_never_exceeds_burst_plus_rate(
        (max, burst) in (1..20u64, 1..30u64),
        requests in prop::collection::vec((0..3 * SECOND, 1..4u64), 1..60),
    ) {
        let limits = [limit("bucket", Algorithm::TokenBucket, max, "13s", burst)];
        let mut caller = Caller::default();
        let mut now = Timestamp(1_800_000_000 * SECOND);
        for (step, cost) in requests {
            now = now.after(step);
            caller.request(&limits, cost, now);
        }
        for (i, (from, _)) in caller.log.0.iter().enumerate() {
            let mut sum = 0;
            for (to, cost) in &caller.log.0[i..] {
                sum += cost;
                prop_assert!(sum <= burst + ((to.0 - from.0) * max).div_ceil(13 * SECOND));
            }
        }
    }

    /// `retry_after` later it passes, a nanosecond earlier it does not, nor a second earlier than the whole seconds told.
    #[test]
    fn the_wait_is_exact(
        limits in any_limits(),
        start in any_time(),
        requests in prop::collection::vec((any_step(), 1..4u64), 1..60),
        cost in 1..4u64,
    ) {
        let mut caller = Caller::default();
        let mut now = start;
        for (step, cost) in requests {
            now = now.after(step);
            caller.request(&limits, cost, now);
        }
        let passes_at = |time| {
            let record = Record::decode(&caller.record).unwrap();
            matches!(limiter::decide(&record, &limits, &Cost::requests(cost), time).decision, Decision::Allowed { .. })
        };
        let outcome = limiter::decide(&Record::decode(&caller.record).unwrap(), &limits, &Cost::requests(cost), now);
        let never = limits.iter().any(|limit| limit.capacity() < cost);
        match outcome.decision {
            Decision::Denied { wait: Wait::Never, .. } => prop_assert!(never),
            Decision::Denied { wait: Wait::For(wait), standing } => {
                prop_assert!(!never);
                prop_assert!(wait > 0);
                prop_assert!(passes_at(now.after(wait)));
                prop_assert!(!passes_at(now.after(wait - 1)));
                let seconds = wait.div_ceil(SECOND);
                prop_assert!(passes_at(now.after(seconds * SECOND)));
                prop_assert!(!passes_at(now.after((seconds - 1) * SECOND)));
                prop_assert!(standing.remaining < cost);
            }
            Decision::Allowed { .. } => prop_assert!(!never),
        }
    }

    /// `reset` later everything is back, a nanosecond earlier not.
    #[test]
    fn the_reset_is_exact(limit in any_limit("a"), start in any_time(), steps in prop::collection::vec(any_step(), 1..40)) {
        let mut caller = Caller::default();
        let mut now = start;
        let limits = [limit];
        for step in steps {
            now = now.after(step);
            if let Decision::Allowed { tightest: Some(standing), .. } = caller.request(&limits, 1, now) {
                prop_assert_eq!(standing.remaining, limits[0].capacity() - caller.used(&limits[0], now));
                prop_assert_eq!(caller.used(&limits[0], now.after(standing.reset)), 0);
                prop_assert!(caller.used(&limits[0], now.after(standing.reset - 1)) > 0);
            }
        }
    }

    /// A caller that leaves at least W/max between requests, by a nanosecond more, is never denied, whatever its phase.
    #[test]
    fn a_caller_that_paces_itself_at_the_rate_is_not_denied(limit in any_limit("a"), start in any_time()) {
        let limits = [limit];
        let rule = limits[0].rule;
        // Of months, whose windows differ, the longest sets the pace.
        let pace = rule.window.span().get() / rule.max.get() + 1;
        let mut caller = Caller::default();
        for i in 0..100 {
            let decision = caller.request(&limits, 1, start.after(i * pace));
            let allowed = matches!(decision, Decision::Allowed { .. });
            prop_assert!(allowed, "request {} at the pace of {} ns: {:?}", i, pace, decision);
        }
    }
}

#[test]
fn the_longest_wait_is_reported_of_several_exhausted_limits() {
    let limits = [
        limit("second", Algorithm::FixedWindow, 1, "1s", 1),
        limit("hour", Algorithm::FixedWindow, 1, "1h", 1),
        limit("minute", Algorithm::FixedWindow, 1, "1m", 1),
    ];
    let (mut caller, now) = (Caller::default(), Timestamp(1_800_000_000 * SECOND));
    caller.request(&limits, 1, now); // 1 of 1 used, three times
    let Decision::Denied { standing, wait } = caller.request(&limits, 1, now) else { panic!("allowed") };
    assert_eq!((standing.limit, standing.remaining, wait), (1, 0, Wait::For(3600 * SECOND)));
}

#[test]
fn the_smallest_share_is_reported_of_several_open_limits() {
    let limits = [
        limit("a", Algorithm::FixedWindow, 10, "1s", 1),
        limit("b", Algorithm::FixedWindow, 5, "1h", 1),
        limit("c", Algorithm::TokenBucket, 1000, "1m", 5),
    ];
    let (mut caller, now) = (Caller::default(), Timestamp(1_800_000_000 * SECOND));
    // 9 of 10, 4 of 5, 4 of 5: b before c.
    let Decision::Allowed { tightest: Some(standing), .. } = caller.request(&limits, 1, now) else { panic!("denied") };
    assert_eq!((standing.limit, standing.remaining, standing.reset), (1, 4, 3600 * SECOND));
}

#[test]
fn another_maximum_re_bases_what_is_used() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        let now = Timestamp(1_799_971_200 * SECOND); // midnight: the day has just begun
        let mut caller = Caller::default();
        for _ in 0..60 {
            caller.request(&[limit("day", algorithm, 100, "1d", 100)], 1, now);
        }
        let half = [limit("day", algorithm, 50, "1d", 50)];
        let Decision::Denied { standing, .. } = caller.request(&half, 1, now) else { panic!("{algorithm:?}: allowed") };
        assert_eq!(standing.remaining, 0, "{algorithm:?}");
        let twice = [limit("day", algorithm, 200, "1d", 200)];
        let Decision::Allowed { tightest: Some(standing), .. } = caller.request(&twice, 1, now) else {
            panic!("{algorithm:?}")
        };
        assert_eq!(standing.remaining, 200 - 60 - 1, "{algorithm:?}");
    }
}

#[test]
fn numbers_at_the_end_of_their_range_do_not_overflow() {
    let most = 1_000_000_000_000_000;
    for (algorithm, per) in
        [(Algorithm::FixedWindow, "month"), (Algorithm::SlidingWindow, "3650d"), (Algorithm::TokenBucket, "3650d")]
    {
        let limits = [limit("most", algorithm, most, per, most)];
        let (mut caller, now) = (Caller::default(), Timestamp(u64::MAX - 1));
        assert!(matches!(caller.request(&limits, most, now), Decision::Allowed { .. }), "{algorithm:?}");
        assert!(
            matches!(caller.request(&limits, 1, now), Decision::Denied { wait: Wait::For(_), .. }),
            "{algorithm:?}"
        );
        assert!(
            matches!(caller.request(&limits, u64::MAX, now), Decision::Denied { wait: Wait::Never, .. }),
            "{algorithm:?}"
        );
    }
}

/// Else every request would go the long way, and nobody would notice.
#[test]
fn what_comes_again_passes_until_a_limit_is_near() {
    let limits = [
        limit("fixed", Algorithm::FixedWindow, 10, "day", 1),
        limit("sliding", Algorithm::SlidingWindow, 8, "1h", 1),
        limit("other", Algorithm::SlidingWindow, 9, "1m", 1),
    ];
    let bucket = [limit("bucket", Algorithm::TokenBucket, 6, "1m", 9)];
    let passes = |limits: &[Limit], step: u64| -> Vec<bool> {
        let limits = Limits::new(limits.to_vec());
        let (mut stored, mut passes) = (Vec::new(), Vec::new());
        for number in 0..10 {
            let now = Timestamp((1_800_000_000 + number * step) * SECOND);
            let record = Record::decode(&stored).unwrap();
            passes.push(limiter::pass(&mut stored.clone(), &limits, &Cost::requests(1), now, true).is_some());
            stored = limiter::decide(&record, &limits, &Cost::requests(1), now).record.unwrap_or(stored);
        }
        passes
    };
    let all_but_the_first = [false, true, true, true, true, true, true, true, true, true];
    // Not the first, nor what is denied.
    assert_eq!(passes(&limits, 1), [false, true, true, true, true, true, true, true, false, false]);
    assert_eq!(passes(&limits[..1], 1), all_but_the_first);
    assert_eq!(passes(&bucket, 1), [false, true, true, true, true, true, true, true, true, false]);
    // Callers that come seldom: in the next window of each limit, and after it.
    for step in [60, 3600, 86_400, 7 * 86_400] {
        assert_eq!(passes(&limits[2..], step), all_but_the_first, "{step}");
        assert_eq!(passes(&bucket, step), all_but_the_first, "{step}");
    }
    assert_eq!(passes(&limits, 86_400), all_but_the_first);
}

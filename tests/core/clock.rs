//! Clocks that differ between workers or are set back: never fresher, never frozen longer than one window.

use crate::strategies::{SECOND, any_limit, any_time, limit};
use allowance::cost::Cost;
use allowance::counter::Wait;
use allowance::decision::Decision;
use allowance::limiter;
use allowance::plan::Algorithm;
use allowance::record::Record;
use allowance::window::Timestamp;
use proptest::prelude::*;

/// A step of the clock in windows, both ways, small and large.
fn any_jump() -> impl Strategy<Value = f64> {
    prop_oneof![-0.1..0.1, -1.5..1.5, -400.0..400.0]
}

fn jumped(now: Timestamp, span: u64, jump: f64) -> Timestamp {
    let by = (span as f64 * jump) as i64;
    Timestamp(now.0.saturating_add_signed(by).clamp(100_000_000 * SECOND, 3_000_000_000 * SECOND))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Wherever the clock goes back to, at least as much is used as when the counter was last written; and the wait is never
    /// more than one window longer than the rule's own, and true when the clock runs on from there.
    #[test]
    fn no_sequence_of_clock_steps_makes_a_counter_fresher_or_freezes_it(
        limit in any_limit("a"),
        start in any_time(),
        moves in prop::collection::vec((any_jump(), 1..4u64), 1..40),
    ) {
        let limits = [limit];
        let (rule, capacity) = (limits[0].rule, limits[0].capacity());
        let span = rule.window.span().get();
        let used = |record: &[u8], now| rule.used(&rule.advance(Record::decode(record).unwrap().counter(limits[0].id), now));
        let (mut now, mut record, mut last_written) = (start, Vec::new(), Timestamp(0));
        for (jump, cost) in moves {
            now = jumped(now, span, jump);
            let before = used(&record, now);
            // Set back within a window, its previous one has its older, larger share again.
            prop_assert!(before <= 2 * capacity);
            if now <= last_written {
                let then = used(&record, last_written);
                prop_assert!(before >= then, "{before} used at {now:?}, {then} when it was {last_written:?}");
            }
            let outcome = limiter::decide(&Record::decode(&record).unwrap(), &limits, &Cost::requests(cost), now);
            if let Some(stored) = outcome.record {
                (record, last_written) = (stored, now);
            }
            match outcome.decision {
                Decision::Allowed { .. } => prop_assert_eq!(used(&record, now), before + cost),
                Decision::Denied { wait: Wait::Never, .. } => prop_assert!(cost > capacity),
                Decision::Denied { wait: Wait::For(wait), .. } => {
                    prop_assert_eq!(used(&record, now), before);
                    // The rule's own longest wait: until the next window has forgotten enough; until the level has fallen.
                    let longest = match rule.algorithm {
                        Algorithm::FixedWindow => span,
                        Algorithm::SlidingWindow => span.saturating_mul(2),
                        Algorithm::TokenBucket => rule.refill(),
                    };
                    prop_assert!(wait <= longest + span, "frozen for {wait} ns");
                    let admits = |now| rule.admits(&rule.advance(Record::decode(&record).unwrap().counter(limits[0].id), now), cost);
                    prop_assert!(admits(now.after(wait)) && !admits(now.after(wait - 1)));
                }
            }
        }
    }
}

/// Two workers, one of them a little behind, around the edge of a window: the edge gives nobody a second burst.
#[test]
fn a_worker_that_is_behind_counts_in_the_window_that_has_begun() {
    let edge = Timestamp(1_800_000_000 * SECOND);
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let rule = limit("a", algorithm, 3, "1m", 1).rule;
        let ahead = rule.charge(rule.advance(None, edge), 3); // 3 of 3 used, in the new window
        let behind = Timestamp(edge.0 - 1);
        let counter = rule.advance(Some(ahead), behind);
        assert_eq!(rule.used(&counter), 3, "{algorithm:?}");
        assert!(!rule.admits(&counter, 1), "{algorithm:?}");
    }
}

#[test]
fn a_big_step_back_moves_the_counts_into_the_current_window() {
    let (then, now) = (Timestamp(1_800_000_000 * SECOND), Timestamp(1_700_000_007 * SECOND));
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        let rule = limit("a", algorithm, 6, "1m", 6).rule;
        let counter = rule.advance(Some(rule.charge(rule.advance(None, then), 6)), now);
        assert_eq!(rule.used(&counter), 6, "{algorithm:?}");
        let Wait::For(wait) = rule.wait(&counter, 1, now) else { panic!("never") };
        assert!(wait <= 60 * SECOND, "{algorithm:?}: {wait}");
    }
}

/// What had already aged stays aged: ten minutes' units do not come back because the clock was set back.
#[test]
fn a_big_step_back_does_not_bring_back_what_had_aged() {
    let rule = limit("a", Algorithm::SlidingWindow, 100, "1m", 1).rule;
    let start = Timestamp(1_800_000_000 * SECOND);
    let counter = rule.charge(rule.advance(None, start), 100); // 100 used in the window before
    let counter = rule.charge(rule.advance(Some(counter), start.after(114 * SECOND)), 1); // 10 + 1 used
    let counter = rule.advance(Some(counter), Timestamp(1_000_000_000 * SECOND));
    assert_eq!(rule.used(&counter), 11);
}

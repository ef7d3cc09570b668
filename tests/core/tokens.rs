//! Limits in tokens, checked against a plain log of what was reserved, settled, given back and forgotten.

use crate::strategies::{SECOND, any_limit, any_limits, any_time, limit, window};
use allowance::cost::{Cost, Estimate, Thousandths, Weights};
use allowance::counter::{Counter, Rule, Wait};
use allowance::decision::Decision;
use allowance::limiter;
use allowance::limits::Limits;
use allowance::plan::{Algorithm, Count, Limit, Unit};
use allowance::record::{CounterId, Record};
use allowance::reservation::{self, LONGEST_LIFETIME, Reservation};
use allowance::table::{self, Charge};
use allowance::usage::Usage;
use allowance::window::Timestamp;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::NonZeroU64;

const NOW: Timestamp = Timestamp(1_800_000_000 * SECOND);
const MINUTE: u64 = 60 * SECOND;

/// The same limit, in tokens, reserved for `lifetime` if that is any.
pub(crate) fn in_tokens(limit: &Limit, count: Count, lifetime: u64) -> Limit {
    let of_tokens = Limit::new("", &limit.label, Unit::Tokens(count), limit.rule);
    Limit { reserve: NonZeroU64::new(lifetime), shadow: limit.shadow, ..of_tokens }
}

pub(crate) fn tokens(name: &str, algorithm: Algorithm, max: u64, per: &str) -> Limit {
    in_tokens(&limit(name, algorithm, max, per, max), Count::Total, MINUTE)
}

pub(crate) fn bounded(input: u64, output: u64) -> Cost {
    Cost { estimate: Some(Estimate { input, output }), ..Cost::requests(1) }
}

fn used_of(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

/// Limits of every algorithm, of requests and of tokens, with small numbers so that they are reached.
fn any_token_limits() -> impl Strategy<Value = Vec<Limit>> {
    let kind = prop_oneof![
        Just(None),
        (
            prop::sample::select(&[Count::Total, Count::Input, Count::Output][..]),
            prop_oneof![1 => Just(0), 4 => SECOND..LONGEST_LIFETIME],
            prop::array::uniform4(prop_oneof![3 => Just(1000u32), 1 => 0..3000u32]),
        )
            .prop_map(Some),
    ];
    (any_limits(), prop::collection::vec(kind, 4)).prop_map(|(limits, kinds)| {
        let made = limits.iter().zip(kinds).map(|(limit, kind)| match kind {
            None => limit.clone(),
            Some((count, lifetime, [input, cached, output, reasoning])) => {
                let [input, cached, output, reasoning] = [input, cached, output, reasoning].map(Thousandths);
                let weights = Weights { input, cached, output, reasoning };
                Limit { weights, ..in_tokens(limit, count, lifetime) }
            }
        });
        made.collect()
    })
}

fn any_tokens() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..4u64, 1..12u64]
}

fn any_usage() -> impl Strategy<Value = Usage> {
    (any_tokens(), any_tokens(), any_tokens(), any_tokens()).prop_map(|(input, cached, output, reasoning)| Usage {
        input,
        cached,
        output,
        reasoning,
    })
}

/// Mostly short, so that much is under way at once.
fn any_wait() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 4 => 0..SECOND, 4 => 0..30 * SECOND, 2 => 0..3 * LONGEST_LIFETIME, 1 => 0..80 * 86_400 * SECOND]
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Request(Option<Estimate>, u32),
    /// Of the responses under way, one that is through, with what it took if that is said.
    Settle(prop::sample::Index, Option<Usage>),
    Renew(prop::sample::Index),
    Refund(prop::sample::Index),
    /// One of which nobody hears again.
    Forget(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    let estimate = (any_tokens(), any_tokens()).prop_map(|(input, output)| Estimate { input, output });
    let factor = prop_oneof![3 => Just(1000u32), 1 => 1..3000u32];
    prop_oneof![
        5 => (prop::option::weighted(0.9, estimate), factor).prop_map(|(estimate, factor)| Step::Request(estimate, factor)),
        3 => (any::<prop::sample::Index>(), prop::option::weighted(0.9, any_usage())).prop_map(|(which, usage)| Step::Settle(which, usage)),
        1 => any::<prop::sample::Index>().prop_map(Step::Renew),
        1 => any::<prop::sample::Index>().prop_map(Step::Refund),
        1 => any::<prop::sample::Index>().prop_map(Step::Forget),
    ]
}

/// What was charged to one limit, as a list.
#[derive(Clone, Default)]
struct Log {
    /// In whose window, when, and how much; less than nothing where it was given back.
    events: Vec<(Timestamp, Timestamp, i128)>,
    /// By request: how much is held, and until when.
    held: HashMap<usize, (u64, Timestamp)>,
}

impl Log {
    fn reserved(&self, now: Timestamp) -> u64 {
        self.held.values().filter(|(_, until)| *until > now).map(|(amount, _)| amount).sum()
    }

    fn sum(&self, from: Timestamp, to: Timestamp) -> u64 {
        let sum: i128 = self.events.iter().filter(|(of, ..)| (from..to).contains(of)).map(|(.., units)| units).sum();
        sum.try_into().unwrap()
    }

    /// Of a bucket: charged when it is known, never below empty.
    fn level(&self, rule: &Rule, now: Timestamp) -> i128 {
        let (max, span) = (i128::from(rule.max.get()), i128::from(rule.window.span().get()));
        let (mut level, mut at) = (0, Timestamp(0));
        for (_, when, units) in &self.events {
            level = (level - i128::from(when.since(at)) * max).max(0);
            level = (level + units * span).max(0);
            at = *when;
        }
        (level - i128::from(now.since(at)) * max).max(0)
    }

    fn used(&self, rule: &Rule, now: Timestamp) -> u64 {
        let (start, end) = rule.window.bounds(now);
        match rule.algorithm {
            Algorithm::FixedWindow => self.sum(start, end),
            Algorithm::SlidingWindow => {
                let length = u128::from(end.since(start));
                let before = u128::from(self.sum(Timestamp(start.0 - end.since(start)), start));
                let previous = before * u128::from(end.since(now)) / length;
                u64::try_from(previous).unwrap() + self.sum(start, end)
            }
            Algorithm::TokenBucket => {
                let span = u128::from(rule.window.span().get());
                u64::try_from(u128::try_from(self.level(rule, now)).unwrap().div_ceil(span)).unwrap()
            }
        }
    }

    fn admits(&self, rule: &Rule, units: u64, now: Timestamp) -> bool {
        let asked = self.reserved(now) + units;
        match rule.algorithm {
            Algorithm::FixedWindow | Algorithm::SlidingWindow => self.used(rule, now) + asked <= rule.max.get(),
            Algorithm::TokenBucket => {
                let span = i128::from(rule.window.span().get());
                self.level(rule, now) + i128::from(asked) * span <= i128::from(rule.burst.get()) * span
            }
        }
    }
}

/// A request under way.
#[derive(Clone)]
struct Stream {
    id: usize,
    admitted: Timestamp,
    cost: Cost,
    reservation: Reservation,
}

/// All that is known without the record.
#[derive(Clone, Default)]
struct Model {
    logs: Vec<Log>,
    streams: Vec<Stream>,
    admitted: usize,
}

/// What a limit needs of a request, by the rules.
fn needed(limit: &Limit, cost: &Cost) -> u64 {
    match (limit.unit, limit.reserve, cost.estimate) {
        (Unit::Requests, ..) => cost.requests,
        (Unit::Tokens(count), Some(_), Some(estimate)) => limit.weights.bound(count, &estimate, cost.token_cost),
        (Unit::Tokens(_), ..) => 1,
    }
}

fn reserved(limit: &Limit, cost: &Cost) -> u64 {
    match (limit.unit, limit.reserve, cost.estimate) {
        (Unit::Tokens(_), Some(_), Some(_)) => needed(limit, cost),
        _ => 0,
    }
}

impl Model {
    fn of(limits: &[Limit]) -> Self {
        Self { logs: vec![Log::default(); limits.len()], ..Self::default() }
    }

    fn admits(&self, limits: &[Limit], cost: &Cost, now: Timestamp) -> bool {
        self.logs.iter().zip(limits).all(|(log, limit)| log.admits(&limit.rule, needed(limit, cost), now))
    }

    fn admit(&mut self, limits: &[Limit], cost: Cost, reservation: Reservation, now: Timestamp) {
        let id = self.admitted;
        self.admitted += 1;
        for (log, limit) in self.logs.iter_mut().zip(limits) {
            match (limit.unit, limit.reserve) {
                (Unit::Requests, _) => log.events.push((now, now, cost.requests.into())),
                (_, Some(lifetime)) => {
                    let amount = reserved(limit, &cost);
                    if amount > 0 {
                        log.held.insert(id, (amount, reservation::until(now, lifetime)));
                    }
                }
                (_, None) => {}
            }
        }
        self.streams.push(Stream { id, admitted: now, cost, reservation });
    }

    fn take(&mut self, which: &prop::sample::Index) -> Option<Stream> {
        (!self.streams.is_empty()).then(|| self.streams.remove(which.index(self.streams.len())))
    }

    fn settle(&mut self, limits: &[Limit], stream: &Stream, usage: Option<&Usage>, now: Timestamp) {
        for (log, limit) in self.logs.iter_mut().zip(limits) {
            let Unit::Tokens(count) = limit.unit else { continue };
            let units = match usage {
                Some(usage) => limit.weights.usage(count, usage, stream.cost.token_cost),
                None => reserved(limit, &stream.cost),
            };
            log.held.remove(&stream.id);
            log.events.push((stream.admitted, now, units.into()));
        }
    }

    fn renew(&mut self, limits: &[Limit], stream: &Stream, now: Timestamp) {
        for (log, limit) in self.logs.iter_mut().zip(limits) {
            let (Some((_, until)), Some(lifetime)) = (log.held.get_mut(&stream.id), limit.reserve) else { continue };
            *until = reservation::until(now, lifetime).max(*until);
        }
    }

    fn refund(&mut self, limits: &[Limit], stream: &Stream, now: Timestamp) {
        for (log, limit) in self.logs.iter_mut().zip(limits) {
            log.held.remove(&stream.id);
            if limit.unit == Unit::Requests {
                log.events.push((stream.admitted, now, -i128::from(stream.cost.requests)));
            }
        }
    }
}

/// What a record says of a limit: used, and reserved.
fn reading(record: &[u8], limit: &Limit, now: Timestamp) -> (u64, u64) {
    let record = Record::decode(record).unwrap();
    let counter = limit.rule.advance(record.counter(limit.id), now);
    (limit.rule.used(&counter), record.slots(limit.id).at(now).total())
}

fn decide(record: &[u8], limits: &[Limit], cost: &Cost, now: Timestamp) -> limiter::Outcome {
    limiter::decide(&Record::decode(record).unwrap(), limits, cost, now)
}

fn settle(record: &[u8], limits: &[Limit], of: &Reservation, usage: Option<&Usage>, now: Timestamp) -> Vec<u8> {
    limiter::settle(&Record::decode(record).unwrap(), limits, of, usage, now)
}

/// Lets one step happen to a record and to the model of it; whether the two agree about a request.
fn step(
    record: &mut Vec<u8>,
    model: &mut Model,
    limits: &[Limit],
    step: &Step,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    match step {
        Step::Request(estimate, factor) => {
            let cost = Cost { requests: 1, estimate: *estimate, token_cost: Thousandths(*factor) };
            let outcome = decide(record, limits, &cost, now);
            prop_assert!(!outcome.overfull && !outcome.set_back);
            match outcome.decision {
                Decision::Allowed { .. } => {
                    prop_assert!(model.admits(limits, &cost, now), "admitted too much");
                    *record = outcome.record.unwrap_or_else(|| record.clone());
                    model.admit(limits, cost, outcome.reservation, now);
                }
                Decision::Denied { wait, .. } => {
                    prop_assert!(!model.admits(limits, &cost, now), "denied too much");
                    prop_assert_eq!(outcome.record, None, "a denial charges and reserves nothing");
                    let never = limits.iter().any(|limit| limit.capacity() < needed(limit, &cost));
                    prop_assert_eq!(wait == Wait::Never, never);
                }
            }
        }
        Step::Settle(which, usage) => {
            if let Some(stream) = model.take(which) {
                *record = settle(record, limits, &stream.reservation, usage.as_ref(), now);
                model.settle(limits, &stream, usage.as_ref(), now);
            }
        }
        Step::Renew(which) => {
            if let Some(mut stream) = model.take(which) {
                // Not before its time, as the ledger has it; and not after its end: then it is gone.
                if stream.reservation.renew_at().is_some_and(|at| at <= now) {
                    *record = limiter::renew(&Record::decode(record).unwrap(), limits, &stream.reservation, now);
                    stream.reservation = limiter::renewed(limits, &stream.reservation, now);
                    model.renew(limits, &stream, now);
                }
                model.streams.push(stream);
            }
        }
        Step::Refund(which) => {
            if let Some(stream) = model.take(which) {
                let back = limiter::refund(&Record::decode(record).unwrap(), limits, &stream.reservation, now);
                *record = back.unwrap_or_else(|| record.clone());
                model.refund(limits, &stream, now);
            }
        }
        Step::Forget(which) => {
            model.take(which);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever happens in whatever order, the record admits what the rules allow by a plain log, and reads as that does: used, and reserved.
    #[test]
    fn whatever_is_reserved_settled_renewed_given_back_and_forgotten_is_counted_exactly(
        limits in any_token_limits(),
        start in any_time(),
        steps in prop::collection::vec((any_wait(), any_step()), 1..60),
    ) {
        let (mut record, mut model, mut now) = (Vec::new(), Model::of(&limits), start);
        for (wait, next) in steps {
            now = now.after(wait);
            step(&mut record, &mut model, &limits, &next, now)?;
            for (log, limit) in model.logs.iter().zip(&limits) {
                prop_assert_eq!(reading(&record, limit, now), (log.used(&limit.rule, now), log.reserved(now)), "{:?} at {:?}", next, now);
            }
            // Nobody drops a record that still holds something.
            let held = model.logs.iter().any(|log| log.reserved(now) > 0);
            prop_assert!(!held || Record::decode(&record).unwrap().empty_at() > now);
        }
    }

    /// Used and reserved together are never above what the limit holds by more than responses took beyond what was reserved for them; and once
    /// all is through, what is used is what was really taken, and nothing is reserved.
    #[test]
    fn no_limit_is_exceeded_by_more_than_what_was_taken_beyond_reservations(
        shape in any_limit("a"),
        (max, lifetime) in (20..200u64, 10 * SECOND..LONGEST_LIFETIME),
        start in any_time(),
        calls in prop::collection::vec((0..5 * SECOND, 1..40u64, 0..60u64, any::<prop::sample::Index>(), any::<bool>()), 1..80),
        keep_within in any::<bool>(),
    ) {
        let rule = Rule { max: NonZeroU64::new(max).unwrap(), burst: NonZeroU64::new(max).unwrap(), ..shape.rule };
        let limits = [in_tokens(&Limit { rule, ..shape }, Count::Total, lifetime)];
        let (limit, mut record, mut now) = (&limits[0], Vec::new(), start);
        let mut open: Vec<(Reservation, u64)> = Vec::new();
        let (mut beyond, mut charged) = (0, Vec::new());
        for (wait, bound, took, which, ends) in calls {
            now = now.after(wait);
            for (reservation, _) in &mut open {
                if reservation.renew_at().unwrap() <= now {
                    record = limiter::renew(&Record::decode(&record).unwrap(), &limits, reservation, now);
                    *reservation = limiter::renewed(&limits, reservation, now);
                }
            }
            let outcome = decide(&record, &limits, &bounded(bound, 0), now);
            if let Decision::Allowed { .. } = outcome.decision {
                record = outcome.record.unwrap();
                open.push((outcome.reservation, bound));
            }
            if ends && !open.is_empty() {
                let (reservation, bound) = open.remove(which.index(open.len()));
                let took = if keep_within { took.min(bound) } else { took };
                record = settle(&record, &limits, &reservation, Some(&used_of(0, took)), now);
                beyond += took.saturating_sub(bound);
                charged.push((reservation.charged_at(), took));
            }
            let (used, reserved) = reading(&record, limit, now);
            prop_assert!(used + reserved <= max + beyond, "{used} used and {reserved} reserved of {max}, {beyond} beyond");
            prop_assert!(beyond == 0 || !keep_within);
            prop_assert_eq!(reserved, open.iter().map(|(_, bound)| bound).sum::<u64>());
        }
        for (reservation, bound) in open {
            record = settle(&record, &limits, &reservation, None, now);
            charged.push((reservation.charged_at(), bound));
        }
        let (used, reserved) = reading(&record, limit, now);
        prop_assert_eq!(reserved, 0);
        if limit.rule.algorithm == Algorithm::FixedWindow {
            let (from, to) = limit.rule.window.bounds(now);
            let sum: u64 = charged.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, took)| took).sum();
            prop_assert_eq!(used, sum);
        }
    }

    /// Two filters with other limits share a record: neither loses what it charged or reserved, nor touches the other's.
    #[test]
    fn two_configurations_with_disjoint_limits_lose_nothing(
        (ours, theirs) in (any_token_limits(), any_token_limits()),
        start in any_time(),
        steps in prop::collection::vec((any_wait(), any_step(), any::<bool>()), 1..60),
    ) {
        let renamed = |limit: &Limit| {
            let other = Limit::new("theirs", &limit.label, limit.unit, limit.rule);
            Limit { weights: limit.weights, reserve: limit.reserve, ..other }
        };
        let theirs: Vec<Limit> = theirs.iter().map(renamed).collect();
        let (mut record, mut now) = (Vec::new(), start);
        let mut models = [Model::of(&ours), Model::of(&theirs)];
        for (wait, next, first) in steps {
            now = now.after(wait);
            let (limits, model) = if first { (&ours, &mut models[0]) } else { (&theirs, &mut models[1]) };
            step(&mut record, model, limits, &next, now)?;
            for (model, limits) in models.iter().zip([&ours, &theirs]) {
                for (log, limit) in model.logs.iter().zip(limits) {
                    prop_assert_eq!(reading(&record, limit, now), (log.used(&limit.rule, now), log.reserved(now)));
                }
            }
        }
    }

    /// Wherever the clock goes back to, at least as much is used and reserved as when the record was last written; and reservations end.
    #[test]
    fn no_sequence_of_clock_steps_frees_what_is_reserved_or_keeps_it_for_ever(
        shape in any_limit("a"),
        lifetime in SECOND..LONGEST_LIFETIME,
        start in any_time(),
        moves in prop::collection::vec((prop_oneof![-2.0..2.0, -400.0..400.0, -1e5..1e5], 1..4u64, any::<prop::sample::Index>(), any::<bool>()), 1..40),
    ) {
        let limits = [in_tokens(&shape, Count::Total, lifetime)];
        let total = |record: &[u8], now| {
            let (used, reserved) = reading(record, &limits[0], now);
            used + reserved
        };
        let (mut now, mut record, mut written) = (start, Vec::new(), Timestamp(0));
        let mut open: Vec<Reservation> = Vec::new();
        for (jump, units, which, ends) in moves {
            let by = (lifetime as f64 * jump) as i64;
            now = Timestamp(now.0.saturating_add_signed(by).clamp(100_000_000 * SECOND, 3_000_000_000 * SECOND));
            let before = total(&record, now);
            if now <= written {
                prop_assert!(before >= total(&record, written));
            }
            if ends && !open.is_empty() {
                let reservation = open.remove(which.index(open.len()));
                record = settle(&record, &limits, &reservation, None, now);
                written = now;
                continue;
            }
            let outcome = decide(&record, &limits, &bounded(units, 0), now);
            match outcome.decision {
                Decision::Allowed { .. } => {
                    prop_assert_eq!(total(outcome.record.as_ref().unwrap(), now), before + units);
                    open.push(outcome.reservation);
                }
                Decision::Denied { .. } => {
                    prop_assert_eq!(total(outcome.record.as_ref().unwrap_or(&record), now), before);
                }
            }
            if let Some(stored) = outcome.record {
                (record, written) = (stored, now);
            }
        }
        // Looked at once more here, everything that nobody settles ends.
        if let Some(stored) = decide(&record, &limits, &bounded(1, 0), now).record {
            record = stored;
        }
        prop_assert_eq!(reading(&record, &limits[0], now.after(2 * LONGEST_LIFETIME)).1, 0);
    }

    /// A wait is exact if all that is reserved is used up at once.
    #[test]
    fn the_wait_is_exact_if_all_that_is_reserved_is_used_up_now(
        limits in (any_limit("a"), any_limit("b")).prop_map(|(a, b)| [in_tokens(&a, Count::Total, MINUTE), in_tokens(&b, Count::Input, MINUTE)]),
        start in any_time(),
        calls in prop::collection::vec((0..1000u64, 1..6u64), 1..40),
        units in 1..6u64,
    ) {
        let (mut record, mut now, mut open) = (Vec::new(), start, Vec::new());
        for (wait, bound) in calls {
            now = now.after(wait);
            let outcome = decide(&record, &limits, &bounded(bound, 0), now);
            if let Decision::Allowed { .. } = outcome.decision {
                record = outcome.record.unwrap();
                open.push((outcome.reservation, now));
            }
        }
        let cost = bounded(units, 0);
        let Decision::Denied { standing, wait: Wait::For(wait) } = decide(&record, &limits, &cost, now).decision else { return Ok(()) };
        // Those of an earlier window would be charged there, and those whose time is over are not held.
        for (reservation, at) in open {
            let live = limits.iter().all(|limit| limit.rule.window.bounds(at) == limit.rule.window.bounds(now)) && at.after(MINUTE) > now;
            prop_assume!(live);
            record = settle(&record, &limits, &reservation, None, now);
        }
        let passes = |at| matches!(decide(&record, &limits, &cost, at).decision, Decision::Allowed { .. });
        prop_assert!(wait > 0 && passes(now.after(wait)) && !passes(now.after(wait - 1)));
        let (used, _) = reading(&record, &limits[standing.limit], now);
        prop_assert_eq!(standing.remaining, limits[standing.limit].capacity().saturating_sub(used), "reservations are told as used");
        prop_assert_eq!(reading(&record, &limits[standing.limit], now.after(standing.reset)).0, 0);
    }

    /// In the table: whoever is evicted and returns, or whose response is through meanwhile, is counted at least as used and as reserved as before;
    /// who is not evicted is counted exactly.
    #[test]
    fn eviction_frees_nothing_that_is_used_or_reserved(
        limits in any_token_limits(),
        ways in 1..6u8,
        start in any_time(),
        steps in prop::collection::vec((0..6u64, any_wait(), any_step()), 1..120),
    ) {
        let counters: Vec<CounterId> = limits.iter().map(|limit| limit.id).collect();
        let rules: HashMap<CounterId, Rule> = limits.iter().map(|limit| (limit.id, limit.rule)).collect();
        let (limits, rule) = (Limits::new(limits), |id| rules.get(&id).copied());
        let (mut set, mut models, mut now, mut evicted) = (Vec::new(), HashMap::<u64, Model>::new(), start, 0);
        for (hash, wait, next) in steps {
            now = now.after(wait);
            let model = models.entry(hash).or_insert_with(|| Model::of(&limits));
            let known = (hash, counters.as_slice());
            match next {
                Step::Request(estimate, factor) => {
                    let cost = Cost { requests: 1, estimate, token_cost: Thousandths(factor) };
                    let charge = Charge { hash, limits: &limits, cost, counters: &counters };
                    let (stored, outcome) = table::decide(&set, ways, &charge, &rule, now);
                    set = stored.unwrap_or(set);
                    evicted += outcome.churn.evicted;
                    let allowed = matches!(outcome.outcome.decision, Decision::Allowed { .. });
                    let fair = model.admits(&limits, &cost, now);
                    prop_assert!(!allowed || fair, "key {hash} was admitted too much at {now:?}");
                    prop_assert!(allowed || !fair || evicted > 0, "key {hash} was denied too much at {now:?}");
                    if allowed {
                        model.admit(&limits, cost, outcome.outcome.reservation, now);
                    }
                }
                Step::Settle(which, usage) => if let Some(stream) = model.take(&which) {
                    let change = |record: &Record<'_>| limiter::settle(record, &limits, &stream.reservation, usage.as_ref(), now);
                    let (stored, churn) = table::change(&set, ways, known, &rule, now, change);
                    (set, evicted) = (stored, evicted + churn.evicted);
                    model.settle(&limits, &stream, usage.as_ref(), now);
                },
                Step::Renew(which) => if let Some(mut stream) = model.take(&which) {
                    if stream.reservation.renew_at().is_some_and(|at| at <= now) {
                        let change = |record: &Record<'_>| limiter::renew(record, &limits, &stream.reservation, now);
                        let (stored, churn) = table::change(&set, ways, known, &rule, now, change);
                        (set, evicted) = (stored, evicted + churn.evicted);
                        stream.reservation = limiter::renewed(&limits, &stream.reservation, now);
                        model.renew(&limits, &stream, now);
                    }
                    model.streams.push(stream);
                },
                Step::Refund(which) => if let Some(stream) = model.take(&which) {
                    if let Some(stored) = table::refund(&set, hash, &limits, &stream.reservation, now) {
                        set = stored;
                    }
                    model.refund(&limits, &stream, now);
                },
                Step::Forget(which) => {
                    model.take(&which);
                }
            }
        }
    }
}

#[test]
fn a_hundred_calls_against_a_limit_that_ten_use_up_take_what_it_holds_and_no_more_than_they_were_short_of() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        for (took, total) in [(100, 1000), (40, 400), (250, 2500)] {
            let limits = [tokens("t", algorithm, 1000, "1h")];
            let (mut record, mut open) = (Vec::new(), Vec::new());
            for _ in 0..100 {
                let outcome = decide(&record, &limits, &bounded(60, 40), NOW);
                if let Decision::Allowed { .. } = outcome.decision {
                    record = outcome.record.unwrap();
                    open.push(outcome.reservation);
                }
            }
            assert_eq!(open.len(), 10, "{algorithm:?}");
            assert_eq!(reading(&record, &limits[0], NOW), (0, 1000));
            for reservation in &open {
                record = settle(&record, &limits, reservation, Some(&used_of(took / 2, took / 2)), NOW);
            }
            // max + Σ max(0, taken − reserved), to the token.
            assert_eq!(reading(&record, &limits[0], NOW), (total, 0), "{algorithm:?}");
            assert!(took < 100 || total == 1000 + 10 * (took - 100));
        }
    }
}

#[test]
fn usage_is_charged_in_the_window_of_the_admission() {
    let limits = [
        tokens("day", Algorithm::FixedWindow, 1000, "1d"),
        tokens("fixed", Algorithm::FixedWindow, 1000, "1m"),
        tokens("sliding", Algorithm::SlidingWindow, 1000, "1m"),
        tokens("bucket", Algorithm::TokenBucket, 600, "1m"),
    ];
    let outcome = decide(&[], &limits, &bounded(10, 90), NOW.after(50 * SECOND));
    let read = |record: &[u8], at| limits.iter().map(|limit| reading(record, limit, at)).collect::<Vec<_>>();
    let record = outcome.record.unwrap();
    assert_eq!(read(&record, NOW.after(50 * SECOND)), [(0, 100); 4]);
    // Thirty seconds later, in the next minute: what is used there already, and half of it aged.
    let later = NOW.after(90 * SECOND);
    assert_eq!(read(&record, later), [(0, 100); 4]);
    let settled = settle(&record, &limits, &outcome.reservation, Some(&used_of(10, 50)), later);
    assert_eq!(read(&settled, later), [(60, 0), (0, 0), (30, 0), (60, 0)]);
    // Two minutes later there is nothing left of it but in the day, and in the bucket, which drains from when it is charged.
    let later = NOW.after(170 * SECOND);
    let settled = settle(&record, &limits, &outcome.reservation, Some(&used_of(10, 50)), later);
    assert_eq!(read(&settled, later), [(60, 0), (0, 0), (0, 0), (60, 0)]);
    assert_eq!(reading(&settled, &limits[3], later.after(5 * SECOND)), (10, 0));
}

/// Half of one unit is none, and half of two is one: what reads nothing may still be needed by what is settled late.
#[test]
fn part_of_a_unit_is_kept_by_another_configuration_for_what_is_settled_late() {
    let ours = [tokens("ours", Algorithm::SlidingWindow, 100, "1m")];
    let theirs = [limit("theirs", Algorithm::FixedWindow, 100, "1m", 1)];
    let one = decide(&[], &ours, &bounded(1, 0), NOW);
    let other = decide(&one.record.unwrap(), &ours, &bounded(1, 0), NOW);
    let record = settle(&other.record.unwrap(), &ours, &one.reservation, None, NOW);
    let record = limiter::renew(&Record::decode(&record).unwrap(), &ours, &other.reservation, NOW.after(30 * SECOND));
    // The other's reservation has ended, and in the second minute the one reads nothing any more.
    let later = NOW.after(90 * SECOND);
    assert_eq!(reading(&record, &ours[0], later), (0, 0));
    let record = decide(&record, &theirs, &Cost::requests(1), later).record.unwrap();
    let record = settle(&record, &ours, &other.reservation, None, later);
    assert_eq!(reading(&record, &ours[0], later), (1, 0), "half of both");
}

/// The same in the table: the floor keeps it for whoever was evicted.
#[test]
fn part_of_a_unit_is_kept_by_the_floor_for_what_is_settled_late() {
    let limits = Limits::new(vec![tokens("t", Algorithm::SlidingWindow, 100, "1m")]);
    let (rule, counters) = (|_| Some(limits[0].rule), [limits[0].id]);
    let request = |set: &[u8], hash, now| {
        let charge = Charge { hash, limits: &limits, cost: bounded(1, 0), counters: &counters };
        let (set, outcome) = table::decide(set, 1, &charge, &rule, now);
        (set.unwrap(), outcome.outcome.reservation)
    };
    let settled = |set: &[u8], reservation: &Reservation, now| {
        let change = |record: &Record<'_>| limiter::settle(record, &limits, reservation, None, now);
        table::change(set, 1, (1, &counters), &rule, now, change).0
    };
    let (set, one) = request(&[], 1, NOW);
    let (set, other) = request(&set, 1, NOW);
    let set = settled(&set, &one, NOW); // 1 used, and 1 reserved until a minute is over
    let later = NOW.after(90 * SECOND);
    let (set, _) = request(&set, 2, later); // evicts the first, of which nothing reads used or reserved any more
    let set = settled(&set, &other, later);
    let charge = Charge { hash: 1, limits: &limits, cost: bounded(99, 0), counters: &counters };
    let decision = table::decide(&set, 1, &charge, &rule, later).1.outcome.decision;
    let Decision::Allowed { tightest: Some(standing), .. } = decision else { panic!("{decision:?}") };
    assert_eq!(standing.remaining, 0, "half of both is one unit");
}

/// Two workers around the edge of a minute: one has begun the next, the other admits there too, and settles there.
#[test]
fn what_a_worker_that_is_behind_admits_is_settled_in_the_window_that_has_begun() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let limits = [tokens("t", algorithm, 1000, "1m")];
        let ahead = decide(&[], &limits, &bounded(10, 0), NOW);
        let record = settle(&ahead.record.unwrap(), &limits, &ahead.reservation, None, NOW); // 10 used in the new minute
        let behind = Timestamp(NOW.0 - 1);
        let outcome = decide(&record, &limits, &bounded(20, 0), behind);
        let record = settle(&outcome.record.unwrap(), &limits, &outcome.reservation, None, NOW.after(SECOND));
        assert_eq!(reading(&record, &limits[0], NOW.after(SECOND)), (30, 0), "{algorithm:?}");
    }
}

#[test]
fn what_a_crashed_worker_had_reserved_comes_back_once_and_nothing_else_does() {
    let limits = [tokens("t", Algorithm::FixedWindow, 100, "1d")];
    let lost = decide(&[], &limits, &bounded(60, 0), NOW).record.unwrap(); // 60 of 100 reserved, and nobody will settle it
    let kept = decide(&lost, &limits, &bounded(40, 0), NOW.after(10 * SECOND)); // 100 of 100
    let record = kept.record.unwrap();
    let allowed = |record: &[u8], units, at| {
        matches!(decide(record, &limits, &bounded(units, 0), at).decision, Decision::Allowed { .. })
    };
    assert!(!allowed(&record, 1, NOW.after(59 * SECOND)));
    // The first ends after a minute exactly, the other at the next half.
    assert!(allowed(&record, 60, NOW.after(60 * SECOND)) && !allowed(&record, 61, NOW.after(60 * SECOND)));
    let record = settle(&record, &limits, &kept.reservation, Some(&used_of(5, 0)), NOW.after(70 * SECOND)); // 5 of 100 used
    assert_eq!(reading(&record, &limits[0], NOW.after(70 * SECOND)), (5, 0));
    assert!(allowed(&record, 95, NOW.after(70 * SECOND)) && !allowed(&record, 96, NOW.after(70 * SECOND)));
}

#[test]
fn a_long_response_keeps_what_it_has_reserved_while_it_is_renewed() {
    let limits = [tokens("t", Algorithm::SlidingWindow, 100, "300d")];
    let outcome = decide(&[], &limits, &bounded(100, 0), NOW);
    let (mut record, mut reservation) = (outcome.record.unwrap(), outcome.reservation);
    assert_eq!(reservation.renew_at(), Some(NOW.after(30 * SECOND)));
    for second in 1..1000 {
        let now = NOW.after(second * SECOND);
        if reservation.renew_at().unwrap() <= now {
            record = limiter::renew(&Record::decode(&record).unwrap(), &limits, &reservation, now);
            reservation = limiter::renewed(&limits, &reservation, now);
        }
        assert_eq!(reading(&record, &limits[0], now), (0, 100), "after {second} seconds");
    }
    let end = NOW.after(1000 * SECOND);
    record = settle(&record, &limits, &reservation, Some(&used_of(7, 0)), end);
    assert_eq!(reading(&record, &limits[0], end), (7, 0));
}

#[test]
fn without_reservations_a_limit_admits_while_anything_is_left_and_is_charged_afterwards() {
    let limits = [Limit { reserve: None, ..tokens("t", Algorithm::FixedWindow, 10, "1d") }];
    let mut record = Vec::new();
    let mut open = Vec::new();
    for _ in 0..3 {
        let outcome = decide(&record, &limits, &bounded(8, 8), NOW);
        assert!(matches!(outcome.decision, Decision::Allowed { .. }));
        assert_eq!(outcome.record, None, "nothing changes yet");
        open.push(outcome.reservation);
    }
    for (reservation, (used, allowed)) in open.iter().zip([(9, true), (18, false), (27, false)]) {
        record = settle(&record, &limits, reservation, Some(&used_of(4, 5)), NOW);
        assert_eq!(reading(&record, &limits[0], NOW), (used, 0));
        let decision = decide(&record, &limits, &bounded(8, 8), NOW).decision;
        assert_eq!(matches!(decision, Decision::Allowed { .. }), allowed, "{used} of 10 used");
    }
}

#[test]
fn a_request_of_unknown_size_passes_while_anything_is_left() {
    let limits = [tokens("t", Algorithm::FixedWindow, 10, "1d")];
    let unknown = Cost::requests(1);
    let all = decide(&[], &limits, &bounded(10, 0), NOW);
    assert!(matches!(decide(&[], &limits, &unknown, NOW).decision, Decision::Allowed { .. }));
    let record = all.record.unwrap();
    assert!(matches!(decide(&record, &limits, &unknown, NOW).decision, Decision::Denied { .. }), "all is reserved");
    assert!(
        matches!(decide(&record, &limits, &bounded(0, 0), NOW).decision, Decision::Allowed { .. }),
        "it takes none"
    );
}

#[test]
fn a_bound_above_what_a_limit_holds_never_passes() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        let limits = [limit("r", Algorithm::FixedWindow, 5, "1d", 5), tokens("t", algorithm, 100, "1h")];
        let outcome = decide(&[], &limits, &bounded(60, 41), NOW);
        let Decision::Denied { standing, wait } = outcome.decision else { panic!("allowed") };
        assert_eq!((standing.limit, standing.remaining, wait), (1, 100, Wait::Never));
        assert_eq!(outcome.record, None);
        assert!(matches!(decide(&[], &limits, &bounded(60, 40), NOW).decision, Decision::Allowed { .. }));
        // However much there is.
        let most = Cost { token_cost: Thousandths(u32::MAX), ..bounded(u64::MAX, u64::MAX) };
        assert!(matches!(decide(&[], &limits, &most, NOW).decision, Decision::Denied { wait: Wait::Never, .. }));
    }
}

#[test]
fn a_shadow_limit_that_would_deny_reserves_nothing_and_is_charged_nothing() {
    let limits = [
        tokens("told", Algorithm::FixedWindow, 1000, "1d"),
        Limit { shadow: true, ..tokens("shadow", Algorithm::FixedWindow, 50, "1d") },
    ];
    let outcome = decide(&[], &limits, &bounded(60, 0), NOW);
    assert!(matches!(outcome.decision, Decision::Allowed { shadow_denied: Some(1), .. }));
    let record = outcome.record.unwrap();
    assert_eq!([0, 1].map(|index: usize| reading(&record, &limits[index], NOW)), [(0, 60), (0, 0)]);
    let record = settle(&record, &limits, &outcome.reservation, Some(&used_of(55, 0)), NOW);
    assert_eq!([0, 1].map(|index: usize| reading(&record, &limits[index], NOW)), [(55, 0), (0, 0)]);
}

#[test]
fn of_every_unit_the_tightest_limit_is_known() {
    let input = in_tokens(&limit("in", Algorithm::FixedWindow, 100, "1d", 1), Count::Input, MINUTE);
    let limits = [
        limit("r", Algorithm::FixedWindow, 10, "1d", 1),
        tokens("wide", Algorithm::FixedWindow, 1000, "1d"),
        tokens("narrow", Algorithm::FixedWindow, 200, "1d"),
        Limit { shadow: true, ..tokens("shadow", Algorithm::FixedWindow, 150, "1d") },
        input,
    ];
    let outcome = decide(&[], &limits, &bounded(60, 60), NOW);
    let Decision::Allowed { tightest: Some(tightest), .. } = outcome.decision else { panic!("denied") };
    let seen = |standing: &allowance::decision::Standing| (standing.limit, standing.remaining);
    assert_eq!(seen(&tightest), (2, 80), "80 of 200 is less than 40 of 100? equal shares, and the first of them");
    assert_eq!(outcome.others.iter().map(seen).collect::<Vec<_>>(), [(0, 9), (4, 40)]);
    let requests = decide(&[], &limits[..1], &bounded(60, 60), NOW);
    assert_eq!(requests.others, [], "without tokens there is nothing more to tell");
}

/// The record's bytes: a counter, the slots behind it, and what a later build put behind those.
#[test]
fn slots_stand_behind_the_counter_and_records_without_them_are_read() {
    let limits = [tokens("t", Algorithm::FixedWindow, 100, "1d")];
    let unreserved = [Limit { reserve: None, ..limits[0].clone() }];
    let outcome = decide(&[], &unreserved, &bounded(1, 1), NOW);
    let old = settle(&[], &unreserved, &outcome.reservation, Some(&used_of(30, 0)), NOW);
    assert_eq!((old.len(), old[1], old[10], old[11]), (2 + 18 + 16, 1, 1, 16), "no slots are no bytes");
    let first = decide(&old, &limits, &bounded(20, 0), NOW);
    let both = decide(first.record.as_ref().unwrap(), &limits, &bounded(5, 0), NOW.after(20 * SECOND));
    let mut record = both.record.unwrap();
    let until = |seconds: u64| NOW.after(seconds * SECOND).0.to_le_bytes();
    let expected = [&[1, 2][..], &until(60), &20u64.to_le_bytes(), &until(90), &5u64.to_le_bytes()].concat();
    assert_eq!((record.len(), record[11]), (2 + 18 + 16 + 34, 16 + 34));
    assert!(record.ends_with(&expected));
    // It is empty when the day is over, or when the last reservation ends.
    assert_eq!(record[12..20], Timestamp(NOW.0 - NOW.0 % (86_400 * SECOND) + 86_400 * SECOND).0.to_le_bytes());
    record[11] += 4;
    record.extend(b"more");
    let record = settle(&record, &limits, &first.reservation, Some(&used_of(1, 0)), NOW.after(SECOND));
    assert_eq!(reading(&record, &limits[0], NOW.after(SECOND)), (31, 5));
    assert!(record.ends_with(b"more"));
}

proptest! {
    /// Counters with any bytes behind them are safe, and unlimited bytes do not make a body that cannot be read again.
    #[test]
    fn any_bytes_behind_a_counter_are_safe(extra in prop::collection::vec(any::<u8>(), 0..239), slots in any::<bool>(), now: u64) {
        let limits = [tokens("t", Algorithm::FixedWindow, 100, "1d")];
        let mut record = decide(&[], &[Limit { reserve: None, ..limits[0].clone() }], &Cost::requests(1), NOW).record.unwrap_or_default();
        if record.is_empty() {
            record = settle(&[], &limits, &decide(&[], &limits, &bounded(1, 0), NOW).reservation, None, NOW);
        }
        let mut extra = extra;
        if let (true, Some(first)) = (slots, extra.first_mut()) {
            *first = 1;
        }
        record[11] += u8::try_from(extra.len()).unwrap();
        record.extend(&extra);
        let outcome = decide(&record, &limits, &bounded(3, 0), Timestamp(now));
        let stored = outcome.record.unwrap_or(record);
        prop_assert!(Record::decode(&stored).is_ok());
        let stored = settle(&stored, &limits, &outcome.reservation, None, Timestamp(now));
        prop_assert!(Record::decode(&stored).is_ok());
    }
}

/// A bucket's slots count for when a record is empty, whatever the rate.
#[test]
fn a_drained_bucket_with_reservations_is_not_empty() {
    let limits = [tokens("t", Algorithm::TokenBucket, 100, "1ms")];
    let record = decide(&[], &limits, &bounded(100, 0), NOW).record.unwrap();
    let rule = |_| Some(limits[0].rule);
    let decoded = Record::decode(&record).unwrap();
    assert_eq!(decoded.empty_at(), NOW.after(MINUTE));
    assert_eq!(decoded.refreshed(&rule).empty_at(), NOW.after(MINUTE));
    assert!(matches!(decoded.counter(limits[0].id), Some(Counter::Bucket { level: 0, .. })));
    assert_eq!(limiter::used_share(&decoded, &rule, NOW.after(SECOND)), (100, 100), "eviction takes others first");
    assert_eq!(window("1m").span().get(), MINUTE);
}

//! Plans and their limits.

use super::language::{AlgorithmSpec, CountSpec, LimitSpec, PlanSpec, WeightsSpec};
use super::reader::{Field, child};
use super::values::{self, NAME, Name, Weight};
use super::{MAX_WINDOW, Mistakes};
use crate::cost::{Thousandths, Weights};
use crate::counter::Rule;
use crate::plan::{Algorithm, Count, Limit, MAX_LIMITS, Plan, Unit};
use std::fmt;
use std::num::NonZeroU64;

/// What applies to limits wherever they are.
#[derive(Clone, Copy)]
pub(super) struct Everywhere {
    /// Whether nothing is ever denied.
    pub(super) shadow: bool,
    /// How many Envoys share each limit.
    pub(super) share: NonZeroU64,
    /// For how long tokens are reserved, in nanoseconds.
    pub(super) lifetime: NonZeroU64,
}

pub(super) fn plan(name: String, spec: Field<PlanSpec>, everywhere: Everywhere, mistakes: &mut Mistakes) -> Plan {
    let path = child("plans", &name);
    if values::name(&name).is_none() {
        mistakes.add(&path, format_args!("expected {NAME}, got {name:?}"));
    }
    let spec = spec.given();
    let shadow = spec.as_ref().is_some_and(|spec| spec.shadow == Field::Given(true));
    let list = match spec.map(|spec| spec.limits) {
        Some(Field::Given(list)) => list,
        Some(Field::Absent) => {
            mistakes.add(child(&path, "limits"), "expected a list of limits ([] for an unlimited plan), got nothing");
            Vec::new()
        }
        Some(Field::Wrong) | None => Vec::new(),
    };
    let everywhere = Everywhere { shadow: everywhere.shadow || shadow, ..everywhere };
    Plan { name: name.into(), shadow, limits: limits(list, "", &child(&path, "limits"), everywhere, mistakes) }
}

/// `scope` is the name of the rule they belong to, or empty.
pub(super) fn limits(
    list: Vec<Field<LimitSpec>>,
    scope: &str,
    path: &str,
    everywhere: Everywhere,
    mistakes: &mut Mistakes,
) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::with_capacity(list.len());
    // Where in the list each of them is.
    let mut places: Vec<usize> = Vec::with_capacity(list.len());
    for (index, spec) in list.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(limit) = spec.given().and_then(|spec| limit(spec, scope, &path, everywhere, mistakes)) else {
            continue;
        };
        if let Some((_, first)) = limits.iter().zip(&places).find(|(known, _)| known.label == limit.label) {
            mistakes.add(
                child(&path, "name"),
                format_args!("expected a name that no other limit here has, got {:?} as in [{first}]", limit.label),
            );
            continue;
        }
        places.push(index);
        limits.push(limit);
    }
    if limits.len() > MAX_LIMITS {
        mistakes.add(path, format_args!("expected at most {MAX_LIMITS} limits, got {}", limits.len()));
    }
    limits
}

fn limit(spec: LimitSpec, scope: &str, path: &str, everywhere: Everywhere, mistakes: &mut Mistakes) -> Option<Limit> {
    let of_tokens = !spec.tokens.is_absent();
    for (name, absent, expected) in [
        ("requests", spec.requests.is_absent() && !of_tokens, "a whole number of requests"),
        ("per", spec.per.is_absent(), r#"a duration like "1m" or a word like day"#),
    ] {
        if absent {
            mistakes.add(child(path, name), format_args!("expected {expected}, got nothing"));
        }
    }
    for (name, absent) in [
        ("count", spec.count.is_absent()),
        ("weights", spec.weights.is_absent()),
        ("reserve", spec.reserve.is_absent()),
    ] {
        if !absent && !of_tokens {
            mistakes.add(child(path, name), "expected only beside tokens");
        }
    }
    if of_tokens && !spec.requests.is_absent() {
        mistakes.add(child(path, "tokens"), "expected either requests or tokens, got both");
        return None;
    }
    let unit = if of_tokens { Unit::Tokens(count(spec.count.known())?) } else { Unit::Requests };
    let weights = weights(spec.weights.known(), unit, &child(path, "weights"), mistakes);
    let reserve = (of_tokens && spec.reserve.known() != Field::Given(false)).then_some(everywhere.lifetime);
    let burst_given = !spec.burst.is_absent();
    let max = if of_tokens { spec.tokens.known() } else { spec.requests };
    let (max, window) = (max.given()?.0, spec.per.given()?.0);
    let algorithm = match spec.algorithm {
        Field::Absent if window.is_word() => Algorithm::FixedWindow,
        Field::Absent => Algorithm::SlidingWindow,
        Field::Wrong => return None,
        Field::Given(AlgorithmSpec::FixedWindow) => Algorithm::FixedWindow,
        Field::Given(AlgorithmSpec::SlidingWindow) => Algorithm::SlidingWindow,
        Field::Given(AlgorithmSpec::TokenBucket) => Algorithm::TokenBucket,
    };
    if window.is_word() && algorithm != Algorithm::FixedWindow {
        mistakes.add(
            child(path, "algorithm"),
            format_args!("expected fixed_window with the calendar word {window}; the other algorithms take a duration"),
        );
        return None;
    }
    if burst_given && algorithm != Algorithm::TokenBucket {
        mistakes.add(child(path, "burst"), "expected only with algorithm: token_bucket");
        return None;
    }
    let burst = spec.burst.given().map_or(max, |burst| burst.0);
    // Rounded down, so that all shares together are never above the whole.
    let part = |whole: NonZeroU64| NonZeroU64::new(whole.get() / everywhere.share).unwrap_or(NonZeroU64::MIN);
    let rule = Rule { algorithm, max: part(max), window, burst: part(burst) };
    if algorithm == Algorithm::TokenBucket && rule.refill() > MAX_WINDOW {
        mistakes.add(child(path, "burst"), "expected a burst that is full again within ten years (3650d)");
        return None;
    }
    let default = || match unit.tokens() {
        None => window.to_string(),
        Some(_) => format!("{}-{window}", unit.counted().replace(' ', "-")),
    };
    let name = spec.name.given().map_or_else(default, |Name(name)| name);
    let shadow = everywhere.shadow || spec.shadow == Field::Given(true);
    Some(Limit { shadow, weights, reserve, ..Limit::new(scope, &name, unit, rule) })
}

fn count(spec: Field<CountSpec>) -> Option<Count> {
    Some(match spec {
        Field::Absent | Field::Given(CountSpec::Total) => Count::Total,
        Field::Given(CountSpec::Input) => Count::Input,
        Field::Given(CountSpec::Output) => Count::Output,
        Field::Wrong => return None,
    })
}

/// Cached tokens weigh what input does and reasoning what output does where nothing else is said.
fn weights(spec: Field<WeightsSpec>, unit: Unit, path: &str, mistakes: &mut Mistakes) -> Weights {
    let (Field::Given(spec), Some(count)) = (spec, unit.tokens()) else {
        return Weights::EVEN;
    };
    for (name, absent, other, counts) in [
        ("input", spec.input.is_absent(), Count::Output, "input"),
        ("cached", spec.cached.is_absent(), Count::Output, "input"),
        ("output", spec.output.is_absent(), Count::Input, "output"),
        ("reasoning", spec.reasoning.is_absent(), Count::Input, "output"),
    ] {
        if !absent && count == other {
            mistakes.add(child(path, name), format_args!("expected only with count: total or {counts}"));
        }
    }
    let weight = |field: Field<Weight>, default| field.given().map_or(default, |weight| weight.0);
    let (input, output) = (weight(spec.input, Thousandths::ONE), weight(spec.output, Thousandths::ONE));
    let (cached, reasoning) = (weight(spec.cached, input), weight(spec.reasoning, output));
    let weights = Weights { input, cached, output, reasoning };
    if weights.are_nothing(count) {
        mistakes.add(path, "expected a weight above 0 for some of the tokens that are counted");
    }
    weights
}

/// The plan's limits in their order, replaced by the consumer's of the same name; then the consumer's others.
pub(super) fn merged(plan: Option<&Plan>, own: Vec<Limit>) -> Vec<Limit> {
    let mut limits = plan.map(|plan| plan.limits.clone()).unwrap_or_default();
    for limit in own {
        match limits.iter_mut().find(|known| known.label == limit.label) {
            Some(replaced) => *replaced = limit,
            None => limits.push(limit),
        }
    }
    limits
}

pub(super) fn index(
    path: impl fmt::Display,
    name: Field<Name>,
    plans: &[Plan],
    mistakes: &mut Mistakes,
) -> Option<usize> {
    if name.is_absent() {
        mistakes.add(&path, "expected the name of a plan, got nothing");
    }
    let Name(name) = name.given()?;
    let index = plans.iter().position(|plan| *plan.name == *name);
    if index.is_none() {
        let known: Vec<&str> = plans.iter().map(|plan| &*plan.name).collect();
        mistakes.add(&path, format_args!("expected the name of a plan ({}), got {name:?}", known.join(", ")));
    }
    index
}

//! Plans and their limits.

use super::language::{AlgorithmSpec, LimitSpec, PlanSpec};
use super::reader::{Field, child};
use super::values::{self, NAME, Name};
use super::{MAX_WINDOW, Mistakes};
use crate::counter::Rule;
use crate::plan::{Algorithm, Limit, MAX_LIMITS, Plan, Unit};
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU64;

/// What applies to limits wherever they are.
#[derive(Clone, Copy)]
pub(super) struct Everywhere {
    /// Whether nothing is ever denied.
    pub(super) shadow: bool,
    /// How many Envoys share each limit.
    pub(super) share: NonZeroU64,
}

pub(super) fn plan(name: String, spec: Field<PlanSpec>, everywhere: Everywhere, mistakes: &mut Mistakes) -> Plan {
    let path = child("plans", &name);
    if values::name(&name).is_none() {
        mistakes.add(path.clone(), format!("expected {NAME}, got {name:?}"));
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
    let mut names: HashMap<std::rc::Rc<str>, usize> = HashMap::new();
    for (index, spec) in list.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(limit) = spec.given().and_then(|spec| limit(spec, scope, &path, everywhere, mistakes)) else {
            continue;
        };
        if let Some(first) = names.get(&limit.label) {
            mistakes.add(
                child(&path, "name"),
                format!("expected a name that no other limit here has, got {:?} as in [{first}]", limit.label),
            );
            continue;
        }
        names.insert(limit.label.clone(), index);
        limits.push(limit);
    }
    if limits.len() > MAX_LIMITS {
        mistakes.add(path, format!("expected at most {MAX_LIMITS} limits, got {}", limits.len()));
    }
    limits
}

fn limit(spec: LimitSpec, scope: &str, path: &str, everywhere: Everywhere, mistakes: &mut Mistakes) -> Option<Limit> {
    for (name, absent, expected) in [
        ("requests", spec.requests.is_absent(), "a whole number of requests"),
        ("per", spec.per.is_absent(), r#"a duration like "1m" or a word like day"#),
    ] {
        if absent {
            mistakes.add(child(path, name), format!("expected {expected}, got nothing"));
        }
    }
    let burst_given = !spec.burst.is_absent();
    let (max, window) = (spec.requests.given()?.0, spec.per.given()?.0);
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
            format!("expected fixed_window with the calendar word {window}; the other algorithms take a duration"),
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
    let name = spec.name.given().map_or_else(|| window.to_string(), |Name(name)| name);
    let shadow = everywhere.shadow || spec.shadow == Field::Given(true);
    Some(Limit { shadow, ..Limit::new(scope, &name, Unit::Requests, rule) })
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
        mistakes.add(path.to_string(), "expected the name of a plan, got nothing");
    }
    let Name(name) = name.given()?;
    let index = plans.iter().position(|plan| *plan.name == *name);
    if index.is_none() {
        let known: Vec<&str> = plans.iter().map(|plan| &*plan.name).collect();
        mistakes.add(path.to_string(), format!("expected the name of a plan ({}), got {name:?}", known.join(", ")));
    }
    index
}

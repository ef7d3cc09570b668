//! Rules, and what they mean together with plans.

use super::language::{HeaderMatchSpec, MatchSpec, ModelSpec, PathSpec, RuleSpec};
use super::plans::{self, Everywhere};
use super::reader::{Field, child};
use super::{Config, Mistakes};
use crate::cost::Thousandths;
use crate::plan::{Limit, MAX_LIMITS, Plan};
use crate::record::CounterId;
use crate::rule::{Effect, HeaderMatch, Matcher, ModelMatch, PathMatch, RequestRule, ValueMatch};
use crate::sip::Hashing;
use std::collections::HashSet;

pub(super) fn rules(
    specs: Field<Vec<Field<RuleSpec>>>,
    plans: &[Plan],
    everywhere: Everywhere,
    mistakes: &mut Mistakes,
) -> Vec<RequestRule> {
    let mut rules = Vec::new();
    // Not a map: every request walks over all rules, so there are few.
    let mut names: Vec<(String, usize)> = Vec::new();
    for (index, spec) in specs.given().unwrap_or_default().into_iter().enumerate() {
        let Some(spec) = spec.given() else {
            continue;
        };
        let path = format!("rules[{index}]");
        let known = |name: &str| {
            let first = names.iter().find(|(known, _)| known == name).map(|(_, first)| *first);
            if first.is_none() {
                names.push((name.to_owned(), index));
            }
            first
        };
        let name = super::unique_name(spec.name, ("rule", "rules"), index, known, mistakes);
        if spec.r#match.is_absent() {
            mistakes.add(child(&path, "match"), "expected which requests the rule is for ({} for all), got nothing");
        }
        let matcher =
            spec.r#match.given().map(|spec| matcher(spec, &child(&path, "match"), mistakes)).unwrap_or_default();
        let exempt = spec.exempt == Field::Given(true);
        let charges = [
            ("cost", spec.cost.is_absent()),
            ("token_cost", spec.token_cost.is_absent()),
            ("plan", spec.plan.is_absent()),
            ("limits", spec.limits.is_absent()),
            ("format", spec.format.is_absent()),
        ];
        for (field, _) in charges.into_iter().filter(|(_, absent)| exempt && !absent) {
            mistakes.add(child(&path, field), "expected nothing beside exempt: true");
        }
        let plan = match spec.plan {
            Field::Absent => None,
            plan => plans::index(child(&path, "plan"), plan, plans, mistakes),
        };
        let limits = plans::limits(
            spec.limits.given().unwrap_or_default(),
            &name,
            &child(&path, "limits"),
            everywhere,
            mistakes,
        );
        let effect = if exempt {
            Effect::Exempt
        } else {
            let cost = spec.cost.given().map_or(1, |cost| cost.0.get());
            let token_cost = spec.token_cost.known().given().map_or(Thousandths::ONE, |factor| factor.0);
            Effect::Charge { cost, token_cost, plan, limits }
        };
        let format = spec.format.given().map(|format| format.0);
        rules.push(RequestRule { name: name.into(), matcher, effect, format });
    }
    rules
}

fn matcher(spec: MatchSpec, path: &str, mistakes: &mut Mistakes) -> Matcher {
    for (field, empty) in [
        ("methods", matches!(&spec.methods, Field::Given(list) if list.is_empty())),
        ("hosts", matches!(&spec.hosts, Field::Given(list) if list.is_empty())),
        ("headers", matches!(&spec.headers, Field::Given(list) if list.is_empty())),
    ] {
        if empty {
            mistakes.add(child(path, field), "expected at least one, got an empty list");
        }
    }
    let model = spec.model.known().given().and_then(|spec| model_match(spec, &child(path, "model"), mistakes));
    let headers = spec.headers.given().unwrap_or_default().into_iter().enumerate();
    Matcher {
        path: spec.path.given().and_then(|spec| path_match(spec, &child(path, "path"), mistakes)),
        methods: given(spec.methods).map(|method| method.0).collect(),
        hosts: given(spec.hosts).map(|host| host.0).collect(),
        headers: headers
            .filter_map(|(index, spec)| header_match(spec.given()?, &format!("{path}.headers[{index}]"), mistakes))
            .collect(),
        model,
    }
}

fn model_match(spec: ModelSpec, path: &str, mistakes: &mut Mistakes) -> Option<ModelMatch> {
    let fields = [("exact", spec.exact.is_absent()), ("prefix", spec.prefix.is_absent())];
    super::exactly_one(path, &fields, mistakes)?;
    let exact = spec.exact.given().map(|name| ModelMatch::Exact(name.0));
    let prefix = spec.prefix.given().map(|name| ModelMatch::Prefix(name.0));
    exact.or(prefix)
}

fn given<T>(list: Field<Vec<Field<T>>>) -> impl Iterator<Item = T> {
    list.given().unwrap_or_default().into_iter().filter_map(Field::given)
}

fn path_match(spec: PathSpec, path: &str, mistakes: &mut Mistakes) -> Option<PathMatch> {
    let fields =
        [("exact", spec.exact.is_absent()), ("prefix", spec.prefix.is_absent()), ("suffix", spec.suffix.is_absent())];
    super::exactly_one(path, &fields, mistakes)?;
    let exact = spec.exact.given().map(|path| PathMatch::Exact(path.0));
    let prefix = spec.prefix.given().map(|path| PathMatch::Prefix(path.0.trim_end_matches('/').to_owned()));
    let suffix = spec.suffix.given().map(|path| PathMatch::Suffix(path.0));
    exact.or(prefix).or(suffix)
}

fn header_match(spec: HeaderMatchSpec, path: &str, mistakes: &mut Mistakes) -> Option<HeaderMatch> {
    if spec.name.is_absent() {
        mistakes.add(child(path, "name"), "expected a header name, got nothing");
    }
    let fields =
        [("exact", spec.exact.is_absent()), ("prefix", spec.prefix.is_absent()), ("present", spec.present.is_absent())];
    super::exactly_one(path, &fields, mistakes)?;
    let exact = spec.exact.given().map(|value| ValueMatch::Exact(value.0));
    let prefix = spec.prefix.given().map(|value| ValueMatch::Prefix(value.0));
    let present = spec.present.given().map(ValueMatch::Present);
    Some(HeaderMatch { name: spec.name.given()?.0, value: exact.or(prefix).or(present)? })
}

/// What can only be said of all together: no caller can have more counters than its record holds, and no cost is above what one of the
/// limits it meets can ever hold.
pub(super) fn check(config: &Config, mistakes: &mut Mistakes) {
    let callers = || {
        let plans = config.plans.iter().map(|plan| (child("plans", &plan.name), plan.limits.as_slice()));
        let consumers = config.consumers.consumers().iter().enumerate();
        let own = consumers
            .filter_map(|(index, consumer)| Some((format!("consumers[{index}]"), consumer.limits.as_deref()?)));
        plans.chain(own)
    };
    for (caller, limits) in callers() {
        let counters = config.counters(limits).len();
        // Too many of its own has been said already.
        if counters > MAX_LIMITS && limits.len() <= MAX_LIMITS {
            mistakes.add(
                "rules",
                format_args!(
                    "expected at most {MAX_LIMITS} limits for one caller over all rules, got {counters} for {caller}"
                ),
            );
        }
    }
    for (index, rule) in config.rules.iter().enumerate() {
        let Effect::Charge { cost, plan, limits, .. } = &rule.effect else {
            continue;
        };
        let met = callers().filter(|(caller, _)| {
            let of_plan = plan.and_then(|plan| config.plans.get(plan)).map(|plan| child("plans", &plan.name));
            of_plan.is_none_or(|of_plan| of_plan == *caller)
        });
        let own = std::iter::once((format!("rules[{index}]"), limits.as_slice()));
        // Unlisted callers' addresses are charged the same cost, whatever the rule's plan is.
        let guard = config.unlisted.and_then(|unlisted| config.plans.get(unlisted.address_plan?));
        let guard = guard.map(|plan| (child("plans", &plan.name), plan.limits.as_slice()));
        let smallest = met.chain(own).chain(guard).find_map(|(caller, limits)| {
            let mut of_requests = limits.iter().filter(|limit| limit.unit.tokens().is_none());
            let limit = of_requests.find(|limit| limit.capacity() < *cost)?;
            Some((caller, limit.clone()))
        });
        if let Some((caller, limit)) = smallest {
            mistakes.add(
                format_args!("rules[{index}].cost"),
                format_args!(
                    "expected at most {}, all that {caller} has per {}, got {cost}",
                    limit.capacity(),
                    limit.window()
                ),
            );
        }
    }
}

impl Config {
    /// Every limit of every plan, consumer and rule.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        let of_plans = self.plans.iter().flat_map(|plan| &plan.limits);
        let of_consumers = self.consumers.consumers().iter().flat_map(|consumer| consumer.limits.iter().flatten());
        of_plans.chain(of_consumers).chain(self.rules.iter().flat_map(|rule| rule.effect.limits()))
    }

    /// Whether any limit counts tokens.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        cfg!(feature = "llm") && self.limits().any(|limit| limit.unit.tokens().is_some())
    }

    /// Every counter that a caller with these limits of its own can have: with each rule's limits, and those of plans that rules put in place.
    #[must_use]
    pub fn counters(&self, own: &[Limit]) -> Vec<CounterId> {
        let of_rules = self.rules.iter().flat_map(|rule| rule.effect.limits());
        let of_plans = self.rules.iter().filter_map(|rule| self.plans.get(rule.effect.plan()?));
        let mut seen = HashSet::<_, Hashing>::default();
        let all = own.iter().chain(of_rules).chain(of_plans.flat_map(|plan| &plan.limits));
        all.map(|limit| limit.id).filter(|id| seen.insert(*id)).collect()
    }
}

//! The configuration: what operators write, checked as a whole. A [`Config`] that exists is valid.
//!
//! Both forms are read alike: native YAML, which Envoy delivers as a serialized `google.protobuf.Struct`, and JSON text. All
//! mistakes are reported at once, each with path, what was expected and what was there.

mod document;
mod language;
mod reader;

use crate::consumer::{Consumer, Directory};
use crate::counter::Rule;
use crate::key::{KeyHash, Several, Source, Sources};
use crate::plan::{Algorithm, Limit, MAX_LIMITS, Plan, Unit};
use crate::window::Window;
use document::Value;
use language::{
    AlgorithmSpec, ApiKeySpec, Configuration, ConsumerSpec, DenialSpec, FailureModeSpec, LATER, LimitSpec, NAME, Name,
    PlanSpec, SeveralSpec, SourceSpec, Status,
};
use reader::{Entries, Field, child};
use std::collections::HashMap;
use std::fmt;

/// The message of a denial where the configuration has no other.
pub const DEFAULT_MESSAGE: &str = "Exceeded the allowed number of requests";

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who shares counters.
    pub namespace: String,
    /// Where API keys are looked for.
    pub sources: Sources,
    /// Index of the plan for keys that no consumer lists; without one they are refused.
    pub unlisted: Option<usize>,
    /// All plans.
    pub plans: Vec<Plan>,
    /// All listed consumers.
    pub consumers: Directory,
    /// What a denial says.
    pub denial: Denial,
    /// Whether allowed responses carry the `RateLimit` fields.
    pub ratelimit_headers: bool,
    /// What happens to a request when the filter itself cannot decide.
    pub failure_mode: FailureMode,
}

/// What a denial says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status, 400 … 599.
    pub status: u16,
    /// The sentence before the facts.
    pub message: String,
}

/// What happens to a request when the filter itself cannot decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailureMode {
    /// It passes.
    #[default]
    Allow,
    /// It is refused with 503.
    Deny,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where, as in `plans.free.limits[0].per`; empty for the configuration as a whole.
    pub path: String,
    /// What was expected, and what was there.
    pub message: String,
}

/// All mistakes of a configuration, sorted by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

// === impl Config ===

impl Config {
    /// Reads a configuration in either form.
    ///
    /// # Errors
    /// Every mistake in it. API keys and their hashes are never repeated there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let config = match Value::parse(bytes) {
            Ok(document) => reader::read::<Configuration>(&document, LATER, &mut mistakes)
                .given()
                .map(|configuration| build(configuration, &mut mistakes)),
            Err(message) => {
                mistakes.add("", message);
                None
            }
        };
        match config {
            Some(config) if mistakes.0.is_empty() => Ok(config),
            _ => {
                mistakes.0.sort();
                Err(mistakes)
            }
        }
    }
}

impl Mistakes {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Mistake { path: path.into(), message: message.into() });
    }
}

/// Puts together what was read. Where something is wrong, a placeholder stands in: the caller throws the result away.
fn build(from: Configuration, mistakes: &mut Mistakes) -> Config {
    if from.plans.is_absent() || matches!(&from.plans, Field::Given(Entries(entries)) if entries.is_empty()) {
        mistakes.add("plans", "expected at least one plan, got nothing");
    }
    let plans: Vec<Plan> = match from.plans.given() {
        Some(Entries(entries)) => entries.into_iter().map(|(name, spec)| plan(name, spec, mistakes)).collect(),
        None => Vec::new(),
    };
    let unlisted =
        from.unlisted.given().and_then(|unlisted| plan_index("unlisted.plan", unlisted.plan, &plans, mistakes));
    let consumers = consumers(from.consumers, &plans, mistakes);
    let denial = from.denial.given().unwrap_or_default();
    Config {
        namespace: from.namespace.given().map_or_else(|| "default".to_owned(), |Name(name)| name),
        sources: sources(from.api_key.given().unwrap_or_default(), mistakes),
        unlisted,
        plans,
        consumers,
        denial: Denial::from(denial),
        ratelimit_headers: from.headers.given().is_none_or(|families| !families.is_empty()),
        failure_mode: match from.failure_mode.given() {
            Some(FailureModeSpec::Deny) => FailureMode::Deny,
            Some(FailureModeSpec::Allow) | None => FailureMode::Allow,
        },
    }
}

impl From<DenialSpec> for Denial {
    fn from(spec: DenialSpec) -> Self {
        Self {
            status: spec.status.given().map_or(429, |Status(status)| status),
            message: spec.message.given().map_or_else(|| DEFAULT_MESSAGE.to_owned(), |message| message.0),
        }
    }
}

fn sources(spec: ApiKeySpec, mistakes: &mut Mistakes) -> Sources {
    let several = match spec.several.given() {
        Some(SeveralSpec::First) => Several::First,
        Some(SeveralSpec::Refuse) | None => Several::Refuse,
    };
    let Some(list) = spec.from.given() else {
        return Sources {
            from: vec![Source::Bearer("authorization".to_owned()), Source::Header("x-api-key".to_owned())],
            several,
        };
    };
    if list.is_empty() {
        mistakes.add("api_key.from", "expected at least one source, got an empty list");
    }
    let mut from = Vec::with_capacity(list.len());
    for (index, spec) in list.into_iter().enumerate() {
        let path = format!("api_key.from[{index}]");
        let Some(source) = spec.given().and_then(|spec| source(spec, &path, mistakes)) else {
            continue;
        };
        if from.iter().any(|known| same_place(known, &source)) {
            mistakes.add(path, "expected a place that no earlier source reads");
        } else {
            from.push(source);
        }
    }
    Sources { from, several }
}

fn source(spec: SourceSpec, path: &str, mistakes: &mut Mistakes) -> Option<Source> {
    let given = [spec.bearer.is_absent(), spec.header.is_absent(), spec.query.is_absent(), spec.cookie.is_absent()];
    let count = given.into_iter().filter(|absent| !absent).count();
    if count != 1 {
        mistakes.add(path, format!("expected exactly one of bearer, header, query, cookie, got {count}"));
        return None;
    }
    let bearer = spec.bearer.given().map(|name| Source::Bearer(name.0));
    let header = spec.header.given().map(|name| Source::Header(name.0));
    let query = spec.query.given().map(|name| Source::Query(name.0));
    let cookie = spec.cookie.given().map(|name| Source::Cookie(name.0));
    bearer.or(header).or(query).or(cookie)
}

/// A header read twice, once as bearer and once whole, would make every request ambiguous.
fn same_place(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::Bearer(one) | Source::Header(one), Source::Bearer(other) | Source::Header(other))
        | (Source::Query(one), Source::Query(other))
        | (Source::Cookie(one), Source::Cookie(other)) => one == other,
        _ => false,
    }
}

fn plan(name: String, spec: Field<PlanSpec>, mistakes: &mut Mistakes) -> Plan {
    let path = child("plans", &name);
    if language::name(&name).is_none() {
        mistakes.add(path.clone(), format!("expected {NAME}, got {name:?}"));
    }
    let list = match spec.given().map(|spec| spec.limits) {
        Some(Field::Given(list)) => list,
        Some(Field::Absent) => {
            mistakes.add(child(&path, "limits"), "expected a list of limits ([] for an unlimited plan), got nothing");
            Vec::new()
        }
        Some(Field::Wrong) | None => Vec::new(),
    };
    Plan { name: name.into(), limits: limits(list, &child(&path, "limits"), mistakes) }
}

fn limits(list: Vec<Field<LimitSpec>>, path: &str, mistakes: &mut Mistakes) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::with_capacity(list.len());
    let mut names: HashMap<std::rc::Rc<str>, usize> = HashMap::new();
    for (index, spec) in list.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(limit) = spec.given().and_then(|spec| limit(spec, &path, mistakes)) else {
            continue;
        };
        if let Some(first) = names.get(&limit.name) {
            mistakes.add(
                child(&path, "name"),
                format!("expected a name that no other limit here has, got {:?} as in [{first}]", limit.name),
            );
            continue;
        }
        names.insert(limit.name.clone(), index);
        limits.push(limit);
    }
    if limits.len() > MAX_LIMITS {
        mistakes.add(path, format!("expected at most {MAX_LIMITS} limits, got {}", limits.len()));
    }
    limits
}

fn limit(spec: LimitSpec, path: &str, mistakes: &mut Mistakes) -> Option<Limit> {
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
    let rule = Rule { algorithm, max, window, burst };
    if algorithm == Algorithm::TokenBucket && Window::every(rule.refill()).is_none() {
        mistakes.add(child(path, "burst"), "expected a burst that is full again within ten years (3650d)");
        return None;
    }
    let name = spec.name.given().map_or_else(|| window.to_string(), |Name(name)| name);
    Some(Limit::new(&name, Unit::Requests, rule))
}

fn consumers(specs: Field<Vec<Field<ConsumerSpec>>>, plans: &[Plan], mistakes: &mut Mistakes) -> Directory {
    let mut directory = Directory::default();
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut owners: HashMap<KeyHash, usize> = HashMap::new();
    for (index, spec) in specs.given().unwrap_or_default().into_iter().enumerate() {
        let Some(spec) = spec.given() else {
            continue;
        };
        let path = format!("consumers[{index}]");
        if spec.name.is_absent() {
            mistakes.add(child(&path, "name"), format!("expected {NAME}, got nothing"));
        }
        let name = spec.name.given().map_or_else(String::new, |Name(name)| name);
        match names.get(&name) {
            Some(first) if !name.is_empty() => mistakes.add(
                child(&path, "name"),
                format!("expected a name that no other consumer has, got {name:?} as in consumers[{first}]"),
            ),
            _ => {
                names.insert(name.clone(), index);
            }
        }
        if spec.keys.is_absent() || matches!(&spec.keys, Field::Given(keys) if keys.is_empty()) {
            mistakes.add(child(&path, "keys"), "expected at least one key, got nothing");
        }
        let mut keys = Vec::new();
        for (number, key) in spec.keys.given().unwrap_or_default().into_iter().enumerate() {
            let Some(key) = key.given() else {
                continue;
            };
            match owners.insert(key, index) {
                Some(owner) => mistakes.add(
                    format!("{path}.keys[{number}]"),
                    format!("expected a key that is listed once, got one of consumers[{owner}]"),
                ),
                None => keys.push(key),
            }
        }
        let plan = plan_index(&child(&path, "plan"), spec.plan, plans, mistakes);
        let own = spec.limits.given().map(|list| limits(list, &child(&path, "limits"), mistakes));
        let limits = own.map(|own| merged(plan.and_then(|plan| plans.get(plan)), own));
        if let Some(limits) = limits.as_ref().filter(|limits| limits.len() > MAX_LIMITS) {
            mistakes.add(
                child(&path, "limits"),
                format!("expected at most {MAX_LIMITS} limits together with the plan's, got {}", limits.len()),
            );
        }
        directory.add(Consumer { name: name.into(), plan: plan.unwrap_or_default(), limits }, keys);
    }
    directory
}

/// The plan's limits in their order, replaced by the consumer's of the same name; then the consumer's others.
fn merged(plan: Option<&Plan>, own: Vec<Limit>) -> Vec<Limit> {
    let mut limits = plan.map(|plan| plan.limits.clone()).unwrap_or_default();
    for limit in own {
        match limits.iter_mut().find(|known| known.name == limit.name) {
            Some(replaced) => *replaced = limit,
            None => limits.push(limit),
        }
    }
    limits
}

fn plan_index(path: &str, name: Field<Name>, plans: &[Plan], mistakes: &mut Mistakes) -> Option<usize> {
    if name.is_absent() {
        mistakes.add(path, "expected the name of a plan, got nothing");
    }
    let Name(name) = name.given()?;
    let index = plans.iter().position(|plan| *plan.name == *name);
    if index.is_none() {
        let known: Vec<&str> = plans.iter().map(|plan| &*plan.name).collect();
        mistakes.add(path, format!("expected the name of a plan ({}), got {name:?}", known.join(", ")));
    }
    index
}

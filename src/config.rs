//! The configuration: what operators write, checked as a whole. A [`Config`] that exists is valid.
//!
//! Both forms are read alike: native YAML, which Envoy delivers as a serialized `google.protobuf.Struct`, and JSON text. All
//! mistakes are reported at once, each with path, what was expected and what was there.

mod callers;
mod decimal;
mod denial;
mod document;
mod language;
mod llm;
mod plans;
mod reader;
mod rules;
#[cfg(test)]
mod schema;
mod values;

use crate::caller::Identity;
use crate::consumer::Directory;
use crate::dialect::Format;
use crate::headers::Families;
use crate::key::Sources;
use crate::order::sorted;
use crate::plan::{Plan, Unit};
use crate::rule::RequestRule;
use crate::table::Geometry;
use crate::template::Template;
use document::Value;
use language::{Configuration, FailureModeSpec, GRAMMAR, HeaderFamily, LogSpec, PreflightSpec, UnlistedSpec};
pub use llm::Llm;
use plans::Everywhere;
use reader::{Entries, Field};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;
use values::{NAME, Name};

/// The message of a denial where the configuration has no other, for limits that count requests.
pub const DEFAULT_MESSAGE: &str = "Exceeded the allowed number of requests";

/// How many unlisted keys and addresses are tracked where the configuration does not say.
pub const DEFAULT_TRACKED_KEYS: u32 = 65_536;

/// Ten years in nanoseconds: the longest a bucket may take to be full again.
const MAX_WINDOW: u64 = 3650 * 86_400 * crate::window::SECOND;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who shares counters.
    pub namespace: String,
    /// Where API keys are looked for.
    pub sources: Sources,
    /// Where an earlier filter says who the caller is; then no key is looked for.
    pub identity: Option<Identity>,
    /// What keys and identities may do that no consumer lists; without it they are refused.
    pub unlisted: Option<Unlisted>,
    /// Index of the plan for requests without a key, by address; without one they are refused.
    pub anonymous: Option<usize>,
    /// All plans.
    pub plans: Vec<Plan>,
    /// All listed consumers.
    pub consumers: Directory,
    /// What applies to some requests only; the first that matches wins.
    pub rules: Vec<RequestRule>,
    /// What a denial says.
    pub denial: Denial,
    /// Which fields allowed responses carry.
    pub headers: Families,
    /// Whether `ratelimit` fields name the caller's partition of the quota, by a keyed hash.
    pub partition_key: bool,
    /// Whether CORS preflight requests without a key pass.
    pub exempt_preflights: bool,
    /// What happens to a request when the filter itself cannot decide.
    pub failure_mode: FailureMode,
    /// The table of unlisted callers.
    pub geometry: Geometry,
    /// Whether listed consumers have metrics of their own.
    pub consumer_metrics: bool,
    /// Whether every request leaves its decision for the access log, not denials alone.
    pub log_all: bool,
    /// How long a [lease](crate::lease) lasts, in nanoseconds; `None`: there are none.
    pub lease: Option<NonZeroU64>,
    /// How requests and responses are read for models and tokens.
    pub llm: Llm,
}

/// What keys and identities may do that no consumer lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlisted {
    /// Index of their plan.
    pub plan: usize,
    /// Index of the plan that their client's address is charged to as well.
    pub address_plan: Option<usize>,
}

/// What a denial says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status, 400 … 599.
    pub status: u16,
    /// The dialect of every refusal.
    pub format: Format,
    /// The sentence before the facts, as [`Denial::sentence`] has it.
    pub message: String,
    /// The whole message, in place of sentence and facts, where there is a time to wait.
    pub template: Option<Template>,
    /// Names and texts of the operator's own beside the message.
    pub members: Vec<(String, Template)>,
    /// By how much waits are told longer than they are, at most, in millionths.
    pub retry_jitter: u32,
    /// Whether clients are told the names of plans and limits, and the limit's numbers.
    pub expose: bool,
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

// === impl Denial ===

impl Denial {
    /// The sentence before the facts about a limit of this unit: the default names what is counted.
    #[must_use]
    pub fn sentence(&self, unit: Unit) -> Cow<'_, str> {
        match unit.tokens() {
            Some(_) if self.message == DEFAULT_MESSAGE => {
                Cow::Owned(format!("Exceeded the allowed number of {}", unit.counted()))
            }
            _ => Cow::Borrowed(&self.message),
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
            Ok(document) => reader::read::<Configuration<'_>>(document, GRAMMAR, &mut mistakes)
                .given()
                .map(|configuration| build(configuration, &mut mistakes)),
            Err(message) => {
                mistakes.add("", message);
                None
            }
        };
        match config {
            Some(config) if mistakes.0.is_empty() => Ok(config),
            _ => Err(Mistakes(sorted(mistakes.0))),
        }
    }
}

impl Mistakes {
    fn add(&mut self, path: impl fmt::Display, message: impl fmt::Display) {
        self.note(&path, &message);
    }

    /// One for all: there are many places where something can be wrong.
    #[cold]
    #[inline(never)]
    fn note(&mut self, path: &dyn fmt::Display, message: &dyn fmt::Display) {
        self.0.push(Mistake { path: path.to_string(), message: message.to_string() });
    }
}

/// Puts together what was read. Where something is wrong, a placeholder stands in: the caller throws the result away.
fn build(from: Configuration<'_>, mistakes: &mut Mistakes) -> Config {
    if from.plans.is_absent() || matches!(&from.plans, Field::Given(Entries(entries)) if entries.is_empty()) {
        mistakes.add("plans", "expected at least one plan, got nothing");
    }
    if !from.identity.is_absent() && !from.api_key.is_absent() {
        mistakes.add("identity", "expected either identity or api_key, got both");
    }
    let share = from.share.given().map(|spec| {
        if spec.of.is_absent() {
            mistakes.add("share.of", "expected how many Envoys share each limit, got nothing");
        }
        spec.of.given().map_or(NonZeroU64::MIN, |of| of.0)
    });
    let llm = llm::llm(from.llm.known());
    let everywhere = Everywhere {
        shadow: from.shadow == Field::Given(true),
        share: share.unwrap_or(NonZeroU64::MIN),
        lifetime: llm.reservation,
    };
    let plans: Vec<Plan> = match from.plans.given() {
        Some(Entries(entries)) => {
            entries.into_iter().map(|(name, spec)| plans::plan(name, spec, everywhere, mistakes)).collect()
        }
        None => Vec::new(),
    };
    let anonymous = from.anonymous.given().and_then(|spec| plans::index("anonymous.plan", spec.plan, &plans, mistakes));
    let tracked = from.max_tracked_keys.given().map_or(DEFAULT_TRACKED_KEYS, |keys| keys.0);
    let config = Config {
        namespace: from.namespace.given().map_or_else(|| "default".to_owned(), |Name(name)| name),
        sources: callers::sources(from.api_key.given().unwrap_or_default(), mistakes),
        consumers: callers::consumers(from.consumers, &plans, from.identity.is_absent(), everywhere, mistakes),
        identity: from.identity.given().and_then(|spec| callers::identity(spec, mistakes)),
        unlisted: from.unlisted.given().and_then(|spec| unlisted(spec, &plans, mistakes)),
        anonymous,
        rules: rules::rules(from.rules, &plans, everywhere, mistakes),
        plans,
        denial: denial::denial(from.denial.given().unwrap_or_default(), mistakes),
        headers: families(from.headers),
        partition_key: from.partition_key == Field::Given(true),
        exempt_preflights: !matches!(from.preflight, Field::Given(PreflightSpec::Count)),
        failure_mode: match from.failure_mode.given() {
            Some(FailureModeSpec::Deny) => FailureMode::Deny,
            Some(FailureModeSpec::Allow) | None => FailureMode::Allow,
        },
        geometry: Geometry::for_keys(tracked),
        consumer_metrics: from.metrics.given().is_some_and(|spec| spec.consumers == Field::Given(true)),
        lease: from.lease.given().map(|lease| lease.0),
        log_all: matches!(from.log, Field::Given(LogSpec::All)),
        llm,
    };
    if mistakes.0.is_empty() {
        rules::check(&config, mistakes);
    }
    config
}

fn unlisted(spec: UnlistedSpec, plans: &[Plan], mistakes: &mut Mistakes) -> Option<Unlisted> {
    let address_plan = match spec.address_plan {
        Field::Absent => None,
        plan => plans::index("unlisted.address_plan", plan, plans, mistakes),
    };
    Some(Unlisted { plan: plans::index("unlisted.plan", spec.plan, plans, mistakes)?, address_plan })
}

fn families(spec: Field<Vec<Field<HeaderFamily>>>) -> Families {
    let Some(list) = spec.given() else {
        return Families { ratelimit: true, ..Families::default() };
    };
    let has = |family: fn(&HeaderFamily) -> bool| {
        list.iter().any(|field| matches!(field, Field::Given(given) if family(given)))
    };
    Families {
        ratelimit: has(|family| matches!(family, HeaderFamily::Ratelimit)),
        x_ratelimit: has(|family| matches!(family, HeaderFamily::XRatelimit)),
        provider: has(|family| matches!(family, HeaderFamily::Provider)),
    }
}

/// Notes a mistake unless exactly one of these fields is there.
fn exactly_one(path: &str, fields: &[(&str, bool)], mistakes: &mut Mistakes) -> Option<()> {
    let given = fields.iter().filter(|(_, absent)| !absent).count();
    if given == 1 {
        return Some(());
    }
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    mistakes.add(path, format_args!("expected exactly one of {}, got {given}", names.join(", ")));
    None
}

/// The name of the item at `index` of a list: required, and different from all before it; `known` finds the first of a name. `kind` is what
/// one item is called, and the list. Empty where it is wrong.
fn unique_name(
    name: Field<Name>,
    kind: (&str, &str),
    index: usize,
    known: impl FnOnce(&str) -> Option<usize>,
    mistakes: &mut Mistakes,
) -> String {
    let (one, list) = kind;
    let path = || format!("{list}[{index}].name");
    if name.is_absent() {
        mistakes.add(path(), format_args!("expected {NAME}, got nothing"));
    }
    let Some(Name(name)) = name.given() else {
        return String::new();
    };
    if let Some(first) = known(&name) {
        mistakes
            .add(path(), format_args!("expected a name that no other {one} has, got {name:?} as in {list}[{first}]"));
    }
    name
}

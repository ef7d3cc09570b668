//! Rules: what applies to some requests only, by path, method, host, headers and model. The first rule that matches wins.
//!
//! What upstreams can read differently in a [path](crate::path) never makes a request exempt. Where there are several readings, every one is
//! charged: at the highest cost, by the limits of all rules that a reading meets, and under the plans of all that name one, the caller's own
//! among them unless all readings agree on another. So it is with a [model](Model) that could not be read: it may be any.

mod matcher;

use crate::cost::Thousandths;
use crate::dialect::Format;
use crate::path::NormalPath;
use crate::plan::Limit;
use crate::request::Headers;
use std::rc::Rc;

pub use matcher::{HeaderMatch, HostMatch, Matcher, Model, ModelMatch, PathMatch, ValueMatch};

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRule {
    /// Its name; the scope of its limits.
    pub name: Rc<str>,
    /// Which requests it is for.
    pub matcher: Matcher,
    /// What it does.
    pub effect: Effect,
    /// The dialect in which its requests are refused, instead of the configuration's.
    pub format: Option<Format>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request passes, uncounted, before a key is looked for.
    Exempt,
    /// The request is charged in another way than without the rule.
    Charge {
        /// Units of every limit that counts requests.
        cost: u64,
        /// What a token costs, for limits that count tokens.
        token_cost: Thousandths,
        /// Index of a plan that takes the place of the caller's own.
        plan: Option<usize>,
        /// Limits in addition to the plan's.
        limits: Vec<Limit>,
    },
}

impl Effect {
    /// The limits that come on top; none of an exemption.
    #[must_use]
    pub fn limits(&self) -> &[Limit] {
        match self {
            Self::Charge { limits, .. } => limits,
            Self::Exempt => &[],
        }
    }

    /// Index of the plan that takes the place of the caller's own, if one does.
    #[must_use]
    pub fn plan(&self) -> Option<usize> {
        match self {
            Self::Charge { plan, .. } => *plan,
            Self::Exempt => None,
        }
    }
}

/// What rules make of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It passes, uncounted.
    Exempt,
    /// It is charged.
    Charge(Charging),
}

/// How a request is charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charging {
    /// Units of every limit that counts requests.
    pub cost: u64,
    /// What a token costs.
    pub token_cost: Thousandths,
    /// Index of the plan that takes the place of the caller's own.
    pub plan: Option<usize>,
    /// Indices of plans whose limits are charged in addition.
    pub plans: Vec<usize>,
    /// Indices of rules whose limits are charged in addition; of no rule without limits.
    pub rules: Vec<usize>,
    /// Index of the rule whose model it is.
    pub model: Option<usize>,
}

impl Default for Charging {
    /// Without a rule: one unit of the caller's own plan.
    fn default() -> Self {
        Self { cost: 1, token_cost: Thousandths::ONE, plan: None, plans: Vec::new(), rules: Vec::new(), model: None }
    }
}

impl Charging {
    /// Whether it is as without a rule, but for its costs: then a caller's terms are always the same.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        let Self { plan, plans, rules, model, .. } = self;
        plan.is_none() && plans.is_empty() && rules.is_empty() && model.is_none()
    }
}

/// Applies the first rule that matches, of each reading of the path.
#[must_use]
pub fn apply(rules: &[RequestRule], headers: &Headers, model: Model<'_>) -> Applied {
    let path = NormalPath::of(headers.first(":path").unwrap_or_default());
    let of_reading = |reading| {
        let mut others: Option<Charging> = None;
        let mut first = None;
        for (index, rule) in rules.iter().enumerate() {
            let safe = !path.is_ambiguous() || rule.effect != Effect::Exempt;
            if !safe || !rule.matcher.matches(reading, headers) {
                continue;
            }
            match rule.matcher.model.as_ref().map(|pattern| pattern.matches(model)) {
                None | Some(Some(true)) => {
                    first = Some((index, rule));
                    break;
                }
                Some(Some(false)) => {}
                // It may be this one, or none of those that may.
                Some(None) => {
                    let charging = charging(Some((index, rule)));
                    others = others.map_or(charging.clone(), |others| Some(others.and(charging.unwrap_or_default())));
                }
            }
        }
        let first = charging(first);
        match others {
            Some(others) => Some(others.and(first.unwrap_or_default())),
            None => first,
        }
    };
    let mut readings = path.readings().map(of_reading);
    let mut together = readings.next().flatten();
    for charging in readings {
        together = match (together, charging) {
            (None, None) => None,
            // Exempt under one reading is a plain request under the others.
            (one, other) => Some(one.unwrap_or_default().and(other.unwrap_or_default())),
        };
    }
    together.map_or(Applied::Exempt, Applied::Charge)
}

/// Whether it depends on the model which rule is the first that matches.
#[must_use]
pub fn needs_model(rules: &[RequestRule], headers: &Headers) -> bool {
    if rules.iter().all(|rule| rule.matcher.model.is_none()) {
        return false;
    }
    let path = NormalPath::of(headers.first(":path").unwrap_or_default());
    path.readings().any(|reading| {
        let first = rules.iter().find(|rule| rule.matcher.matches(reading, headers));
        first.is_some_and(|rule| rule.matcher.model.is_some())
    })
}

/// In which dialect a request is refused, by the first rule that matches and says so. It decides nothing, so any reading of the path will do.
#[must_use]
pub fn format(rules: &[RequestRule], headers: &Headers, model: Model<'_>) -> Option<Format> {
    rules.iter().find_map(|rule| rule.format)?;
    let path = NormalPath::of(headers.first(":path").unwrap_or_default());
    path.readings().find_map(|reading| {
        let first = rules.iter().find(|rule| {
            let of_model = rule.matcher.model.as_ref().is_none_or(|pattern| pattern.matches(model) == Some(true));
            of_model && rule.matcher.matches(reading, headers)
        });
        first.and_then(|rule| rule.format)
    })
}

/// How the first rule that matched charges; `None` if it exempts.
fn charging(rule: Option<(usize, &RequestRule)>) -> Option<Charging> {
    let Some((index, rule)) = rule else {
        return Some(Charging::default());
    };
    match &rule.effect {
        Effect::Exempt => None,
        Effect::Charge { cost, token_cost, plan, limits } => {
            let rules = if limits.is_empty() { Vec::new() } else { vec![index] };
            let model = rule.matcher.model.as_ref().map(|_| index);
            Some(Charging { cost: *cost, token_cost: *token_cost, plan: *plan, plans: Vec::new(), rules, model })
        }
    }
}

impl Charging {
    /// What satisfies both.
    fn and(self, other: Self) -> Self {
        let (plan, mut plans) = match (self.plan, other.plan) {
            (one, other) if one == other => (one, Vec::new()),
            (one, other) => (None, one.into_iter().chain(other).collect()),
        };
        plans.extend(self.plans.into_iter().chain(other.plans));
        let rules = self.rules.into_iter().chain(other.rules).collect();
        let model = self.model.filter(|_| self.model == other.model);
        let (cost, token_cost) = (self.cost.max(other.cost), self.token_cost.max(other.token_cost));
        Self { cost, token_cost, plan, plans: each_once(plans), rules: each_once(rules), model }
    }
}

/// In order. They are few: as many as a path has readings.
fn each_once(indices: Vec<usize>) -> Vec<usize> {
    let mut once: Vec<usize> = Vec::with_capacity(indices.len());
    for index in indices {
        let at = once.partition_point(|known| *known < index);
        if once.get(at) != Some(&index) {
            once.insert(at, index);
        }
    }
    once
}

/// A CORS preflight request (Fetch §3.2.2, `CORS-preflight request`): browsers send it without credentials.
#[must_use]
pub fn is_preflight(headers: &Headers) -> bool {
    headers.first(":method") == Some(b"OPTIONS")
        && headers.first("origin").is_some()
        && headers.first("access-control-request-method").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, prefix: &str, effect: Effect) -> RequestRule {
        let matcher = Matcher { path: Some(PathMatch::Prefix(prefix.to_owned())), ..Matcher::default() };
        RequestRule { name: name.into(), matcher, effect, format: None }
    }

    fn applied(path: &str) -> Applied {
        let charge = |cost, plan, scope: &str| {
            let minute = crate::window::Window::parse("1m").unwrap();
            let max = std::num::NonZeroU64::new(10).unwrap();
            let rule = crate::counter::Rule {
                algorithm: crate::plan::Algorithm::FixedWindow,
                max,
                window: minute,
                burst: max,
            };
            let limit = Limit::new(scope, "1m", crate::plan::Unit::Requests, rule);
            let limits = if scope.is_empty() { Vec::new() } else { vec![limit] };
            Effect::Charge { cost, token_cost: Thousandths::ONE, plan, limits }
        };
        let rules = [
            rule("public", "/public", Effect::Exempt),
            rule("models", "/v1/models", charge(1, Some(7), "")),
            rule("images", "/v1/images", charge(2, None, "images")),
            rule("chat", "/v1/chat", charge(3, None, "chat")),
        ];
        apply(&rules, &Headers::decode(Headers::encode(&[(":path", path)])).unwrap(), Model::None)
    }

    fn charged(cost: u64, plan: Option<usize>, plans: &[usize], rules: &[usize]) -> Applied {
        let (plans, rules) = (plans.to_vec(), rules.to_vec());
        Applied::Charge(Charging { cost, plan, plans, rules, ..Charging::default() })
    }

    #[test]
    fn every_reading_of_a_path_is_charged() {
        let images = charged(2, None, &[], &[2]);
        for path in [
            "/v1/images",
            "/v1%2fimages",
            "/v1\\images",
            "/v1/images;x=y",
            "/v1;a/images/b",
            "/x/..;/v1/images",
            "/v1/images/..%2fx",
            "/v1/images//../x",
            "/v1//../images",
            "/v1/images;%2f",
            "/v1/x\\..\\images/%2f..%2f..%2f..%2f..",
            "/public/;/../v1/images",
        ] {
            assert_eq!(applied(path), images, "{path}");
        }
        assert_eq!(applied("/v1/images/%2f..%2fchat"), charged(3, None, &[], &[2, 3]));
        for path in ["/v1/other", "/v1/images/../x", "/v1/imagesx", "/v1%2fimagesx", "/", "*"] {
            assert_eq!(applied(path), Applied::Charge(Charging::default()), "{path}");
        }
    }

    #[test]
    fn another_plan_takes_all_readings_and_an_exemption_takes_one_that_is_plain() {
        assert_eq!(applied("/v1/models/a"), charged(1, Some(7), &[], &[]));
        assert_eq!(applied("/v1/models/org%2fmodel"), charged(1, Some(7), &[], &[]), "under either reading");
        // The caller's own plan, and the other: whichever is the stricter.
        assert_eq!(applied("/v1/models/%2f..%2f..%2fx"), charged(1, None, &[7], &[]));
        assert_eq!(applied("/v1;x/models"), charged(1, None, &[7], &[]));
        assert_eq!(applied("/v1/models/%2f..%2fchat"), charged(3, None, &[7], &[3]));
        for path in ["/public", "/public/a;b", "/x/../public/", "//public//a"] {
            assert_eq!(applied(path), Applied::Exempt, "{path}");
        }
        for path in [
            "/public%2fa",
            "/public/..;/x",
            "/public/%zz",
            "/public/%00",
            "/public\\a",
            "/public/%2f..%2f..%2fx",
            "/v1//../public",
            "/public//../x",
            "/public/;/../x",
        ] {
            assert_eq!(applied(path), Applied::Charge(Charging::default()), "{path}");
        }
    }

    /// Rules for models, and what they make of a request on a path.
    fn of_model(path: &str, model: Model<'_>) -> (Applied, bool) {
        let charge =
            |cost, factor| Effect::Charge { cost, token_cost: Thousandths(factor), plan: None, limits: Vec::new() };
        let model_rule = |name: &str, model, effect| {
            let mut rule = rule(name, "/v1", effect);
            rule.matcher.model = Some(model);
            rule
        };
        let rules = [
            rule("batches", "/v1/batches", charge(9, 1000)),
            model_rule("free", ModelMatch::Exact("tiny".to_owned()), Effect::Exempt),
            model_rule("large", ModelMatch::Prefix("gpt-5".to_owned()), charge(2, 2500)),
            model_rule("mini", ModelMatch::Exact("gpt-5-mini".to_owned()), charge(3, 500)),
            rule("others", "/v1", charge(1, 1500)),
        ];
        let headers = Headers::decode(Headers::encode(&[(":path", path)])).unwrap();
        (apply(&rules, &headers, model), needs_model(&rules, &headers))
    }

    #[test]
    fn rules_for_models_match_by_name_with_case_in_their_order() {
        let charged = |cost, factor, model| {
            Applied::Charge(Charging { cost, token_cost: Thousandths(factor), model, ..Charging::default() })
        };
        for (path, model, applied, needed) in [
            ("/v1/chat", Model::Named(b"gpt-5-mini"), charged(2, 2500, Some(2)), true),
            ("/v1/chat", Model::Named(b"GPT-5"), charged(1, 1500, None), true),
            ("/v1/chat", Model::Named(b"tiny"), Applied::Exempt, true),
            ("/v1/chat", Model::Named(b""), charged(1, 1500, None), true),
            ("/v1/chat", Model::None, charged(1, 1500, None), true),
            // Every one that it may be, and none: an exemption takes a name.
            ("/v1/chat", Model::Unreadable, charged(3, 2500, None), true),
            ("/v1/batches", Model::Unreadable, charged(9, 1000, None), false),
            ("/other", Model::Unreadable, Applied::Charge(Charging::default()), false),
            // Either reading.
            ("/v1/batches/%2f..%2fchat", Model::Named(b"gpt-5"), charged(9, 2500, None), true),
        ] {
            assert_eq!(of_model(path, model), (applied, needed), "{path} {model:?}");
        }
    }
}

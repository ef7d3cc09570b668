//! Terms: what one caller's requests are charged under, by its plan and the rule that applies, with everything that can be prepared.

use crate::config::Config;
use crate::decision::Standing;
use crate::headers::{self, Groups, Left, Style};
use crate::limits::Limits;
use crate::metrics::{Metric, Metrics, NONE, OTHER, Outcome, Registry, TokenMeters};
use crate::plan::{Limit, Plan};
use crate::record::CounterId;
use crate::rule::{Charging, RequestRule};
use crate::sip::Hashing;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What a request is charged under.
#[derive(Debug)]
pub struct Terms {
    /// Name of the plan.
    pub plan: Rc<str>,
    /// The plan's or the consumer's limits, then the rule's.
    pub limits: Limits,
    /// `RateLimit-Policy`.
    pub policy: String,
    /// What callers are told of the limits, in their order.
    wordings: Vec<Wording>,
    /// `allowance_requests_total` of allowed requests.
    pub allowed: Metric,
    /// That of requests that a limit denied, or would have if it were no shadow.
    pub refused: Vec<Metric>,
}

/// What callers are told of a limit.
#[derive(Debug)]
struct Wording {
    name: Rc<str>,
    /// Written when it first denies: most limits never do.
    denial: OnceCell<OfDenials>,
}

/// What is the same in all denials of a limit.
#[derive(Debug)]
pub struct OfDenials {
    /// Its window in its canonical form.
    pub per: Box<str>,
    /// Response code details for access logs, without white space.
    pub details: Rc<str>,
}

/// Whose limits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// Those of a plan, by index.
    Plan(usize),
    /// A consumer's own, by index.
    Consumer(usize),
}

/// All terms of one configuration.
#[derive(Debug)]
pub struct Book {
    expose: bool,
    registry: Registry,
    /// By plan.
    plans: Vec<Rc<Terms>>,
    /// By consumer, of those with limits of their own.
    consumers: HashMap<usize, Rc<Terms>, Hashing>,
    /// By rule, its limits.
    rules: Vec<Vec<Limit>>,
    /// By plan, every counter that its callers can have in the table, whichever rule applies.
    counters: Vec<Rc<[CounterId]>>,
    /// What is counted of responses, by plan and by the rule that names the model; empty where no limit counts tokens.
    tokens: HashMap<(Rc<str>, Option<usize>), Rc<TokenMeters>, Hashing>,
    /// Those with one rule's limits, made when they are first needed: most consumers never meet most rules.
    ruled: RefCell<HashMap<(Base, usize), Rc<Terms>, Hashing>>,
}

// === impl Book ===

impl Book {
    /// Prepares the terms of every plan and of every consumer with limits of its own, and defines every metric that any can need.
    pub fn new(config: &Config, mut registry: Registry, host: &impl Metrics) -> Self {
        let expose = config.denial.expose;
        let mut plans = Vec::with_capacity(config.plans.len());
        let mut consumers = HashMap::default();
        for Plan { name, limits, .. } in &config.plans {
            registry.requests(host, Outcome::Allowed, name, NONE);
            let of_rules = config.rules.iter().flat_map(|rule| rule.effect.limits());
            // Where readings of a path disagree, the limits of a rule's plan come on top of another's.
            let of_rule_plans = config.rules.iter().filter_map(|rule| config.plans.get(rule.effect.plan()?));
            for limit in limits.iter().chain(of_rules).chain(of_rule_plans.flat_map(|plan| &plan.limits)) {
                registry.requests(host, refused(limit), name, &limit.label);
            }
            plans.push(Rc::new(Terms::new(name, limits.clone(), &registry, expose)));
        }
        for (index, consumer) in config.consumers.consumers().iter().enumerate() {
            if let (Some(own), Some(plan)) = (&consumer.limits, config.plans.get(consumer.plan)) {
                for limit in own {
                    registry.requests(host, refused(limit), &plan.name, &limit.label);
                }
                let terms = Terms::new(&plan.name, own.to_vec(), &registry, expose);
                consumers.insert(index, Rc::new(terms));
            }
        }
        let rules = config.rules.iter().map(|rule| rule.effect.limits().to_vec()).collect();
        // An earlier filter can name another plan for the same caller from one request to the next.
        let names_plans = config.identity.as_ref().is_some_and(|identity| identity.plan.is_some());
        let any: Vec<Limit> = config.plans.iter().flat_map(|plan| plan.limits.clone()).collect();
        let of_plan = |plan: &Plan| config.counters(if names_plans { &any } else { &plan.limits }).into();
        let counters = config.plans.iter().map(of_plan).collect();
        let tokens =
            if config.counts_tokens() { token_meters(config, &mut registry, host) } else { HashMap::default() };
        Self { expose, registry, plans, consumers, rules, counters, tokens, ruled: RefCell::default() }
    }

    /// The terms of `base` as a request is charged; `None` for a base that does not exist.
    pub fn terms(&self, base: Base, charging: &Charging) -> Option<Rc<Terms>> {
        let base = charging.plan.map_or(base, Base::Plan);
        let own = self.base(base)?;
        match (charging.rules.as_slice(), charging.plans.as_slice()) {
            ([], []) => Some(own.clone()),
            ([rule], []) => {
                let mut ruled = self.ruled.borrow_mut();
                Some(ruled.entry((base, *rule)).or_insert_with(|| self.together(own, charging)).clone())
            }
            // Clients choose how many such there are: they are not kept.
            _ => Some(self.together(own, charging)),
        }
    }

    fn base(&self, base: Base) -> Option<&Rc<Terms>> {
        match base {
            Base::Plan(index) => self.plans.get(index),
            Base::Consumer(index) => self.consumers.get(&index),
        }
    }

    /// Every counter that callers of a plan can have in the table.
    pub fn counters(&self, plan: usize) -> Rc<[CounterId]> {
        self.counters.get(plan).cloned().unwrap_or_default()
    }

    /// What is counted of responses under these terms; `None` where none of them counts tokens.
    pub fn tokens(&self, terms: &Terms, charging: &Charging) -> Option<Rc<TokenMeters>> {
        if !terms.counts_tokens() {
            return None;
        }
        self.tokens.get(&(terms.plan.clone(), charging.model)).cloned()
    }

    fn together(&self, own: &Terms, charging: &Charging) -> Rc<Terms> {
        let of_rules = charging.rules.iter().filter_map(|rule| self.rules.get(*rule)).flatten();
        let of_plans = charging.plans.iter().filter_map(|plan| self.base(Base::Plan(*plan)));
        let mut limits = own.limits.to_vec();
        for limit in of_rules.chain(of_plans.flat_map(|terms| terms.limits.iter())) {
            // A counter that two plans share is charged once, by the smaller numbers.
            match limits.iter_mut().find(|known| known.id == limit.id) {
                Some(known) => known.tighten(limit),
                None => limits.push(limit.clone()),
            }
        }
        Rc::new(Terms::new(&own.plan, limits, &self.registry, self.expose))
    }
}

/// Those of every plan with every model that a rule names, and with others.
fn token_meters(
    config: &Config,
    registry: &mut Registry,
    host: &impl Metrics,
) -> HashMap<(Rc<str>, Option<usize>), Rc<TokenMeters>, Hashing> {
    let of_rule = |(index, rule): (usize, &RequestRule)| Some((Some(index), rule.matcher.model.as_ref()?.to_string()));
    let models: Vec<_> =
        config.rules.iter().enumerate().filter_map(of_rule).chain([(None, OTHER.to_owned())]).collect();
    let mut meters = HashMap::default();
    for plan in &config.plans {
        for (rule, model) in &models {
            meters.insert((plan.name.clone(), *rule), Rc::new(registry.tokens(host, &plan.name, model)));
        }
    }
    meters
}

/// What becomes of a request that this limit does not admit.
fn refused(limit: &Limit) -> Outcome {
    if limit.shadow { Outcome::ShadowDenied } else { Outcome::Denied }
}

// === impl Terms ===

impl Terms {
    fn new(plan: &Rc<str>, limits: Vec<Limit>, registry: &Registry, expose: bool) -> Self {
        let name = |(index, limit): (usize, &Limit)| match expose {
            true => limit.label.clone(),
            false => format!("limit-{}", index.saturating_add(1)).into(),
        };
        let wording = |limit| Wording { name: name(limit), denial: OnceCell::new() };
        let wordings: Vec<Wording> = limits.iter().enumerate().map(wording).collect();
        let mut terms = Self {
            plan: plan.clone(),
            policy: String::new(),
            wordings,
            allowed: registry.known(Outcome::Allowed, plan, NONE),
            refused: limits.iter().map(|limit| registry.known(refused(limit), plan, &limit.label)).collect(),
            limits: Limits::new(limits),
        };
        terms.policy = terms.policy(None);
        terms
    }

    /// Whether any limit counts tokens: then the response's usage is wanted.
    #[must_use]
    pub fn counts_tokens(&self) -> bool {
        self.limits.iter().any(|limit| limit.unit.tokens().is_some())
    }

    /// Whether any limit reserves tokens: then a bound of them is wanted before the request goes on.
    #[must_use]
    pub fn reserves_tokens(&self) -> bool {
        self.limits.iter().any(|limit| limit.unit.tokens().is_some() && limit.reserve.is_some())
    }

    /// What callers are told as a limit's name.
    #[must_use]
    pub fn name(&self, limit: usize) -> Option<&str> {
        self.wordings.get(limit).map(|wording| &*wording.name)
    }

    /// What all denials of a limit say.
    #[must_use]
    pub fn of_denials(&self, limit: usize) -> Option<&OfDenials> {
        let (wording, limit) = self.wordings.get(limit).zip(self.limits.get(limit))?;
        Some(wording.denial.get_or_init(|| OfDenials {
            per: limit.window().to_string().into(),
            details: ["allowance_over_limit{", &limit.label, "}"].concat().into(),
        }))
    }

    /// Tells what of a style is in lists, `RateLimit-Policy` and `RateLimit`, about the limit that stands so: names and values.
    pub fn tell_lists(&self, style: &Style, standing: &Standing, tell: &mut dyn FnMut(&'static str, &str)) {
        let Some(left) = self.left(style, standing).filter(|_| style.ratelimit) else {
            return;
        };
        match style.partition {
            None => tell("ratelimit-policy", &self.policy),
            key => tell("ratelimit-policy", &self.policy(key)),
        }
        let mut field = String::with_capacity(96);
        headers::ratelimit(&left, style.partition, &mut field);
        tell("ratelimit", &field);
    }

    /// Adds the other header fields of a style, which have a number each, about the limit that stands so, and the provider's about `others`, where
    /// it has fields of their own for them.
    pub fn tell_numbers(&self, style: &Style, standing: &Standing, others: &[Standing], told: &mut Groups) {
        let Some(left) = self.left(style, standing) else {
            return;
        };
        style.tell(&left, told);
        for other in others {
            if let Some(left) = self.left(style, other) {
                style.tell_as_provider(&left, told);
            }
        }
    }

    fn left(&self, style: &Style, standing: &Standing) -> Option<Left<'_>> {
        let (name, limit) = self.name(standing.limit).zip(self.limits.get(standing.limit))?;
        let Standing { remaining, reset, .. } = *standing;
        Some(Left { limit, name, remaining, reset, now: style.now })
    }

    /// `RateLimit-Policy` for the caller with this partition key, if it is told.
    #[inline(never)]
    fn policy(&self, key: Option<u64>) -> String {
        let mut policy = String::new();
        headers::policy(self.wordings.iter().map(|wording| &*wording.name).zip(self.limits.iter()), key, &mut policy);
        policy
    }
}

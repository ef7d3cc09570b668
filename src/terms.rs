//! Terms: what one caller's requests are charged under, by its plan and the rule that applies, with everything that can be prepared.

use crate::config::Config;
use crate::decision::Standing;
use crate::headers::{self, Families, Field};
use crate::metrics::{Metric, Metrics, NONE, Outcome, Registry};
use crate::plan::{Limit, Plan};
use crate::record::CounterId;
use crate::rule::Effect;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// What a request is charged under.
#[derive(Debug)]
pub struct Terms {
    /// Name of the plan.
    pub plan: Rc<str>,
    /// The plan's or the consumer's limits, then the rule's.
    pub limits: Vec<Limit>,
    /// Every counter the caller can have, whichever rule applies.
    pub counters: Rc<[CounterId]>,
    /// `RateLimit-Policy`.
    pub policy: String,
    /// What callers are told as the limits' names.
    names: Vec<Rc<str>>,
    /// `allowance_requests_total` of allowed requests.
    pub allowed: Metric,
    /// That of requests that a limit denied, or would have if it were no shadow.
    pub refused: Vec<Metric>,
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
    base: HashMap<Base, Rc<Terms>>,
    /// By rule, its limits.
    rules: Vec<Vec<Limit>>,
    /// Those with one rule's limits, made when they are first needed: most consumers never meet most rules.
    ruled: RefCell<HashMap<(Base, usize), Rc<Terms>>>,
}

// === impl Book ===

impl Book {
    /// Prepares the terms of every plan and of every consumer with limits of its own, and defines every metric that any can need.
    pub fn new(config: &Config, mut registry: Registry, host: &impl Metrics) -> Self {
        let expose = config.denial.expose;
        let mut base = HashMap::new();
        for (index, Plan { name, limits, .. }) in config.plans.iter().enumerate() {
            registry.requests(host, Outcome::Allowed, name, NONE);
            let of_rules = config.rules.iter().flat_map(|rule| match &rule.effect {
                Effect::Charge { limits, .. } => limits.as_slice(),
                Effect::Exempt => &[],
            });
            for limit in limits.iter().chain(of_rules) {
                registry.requests(host, refused(limit), name, &limit.label);
            }
            let counters = config.counters(limits).into();
            base.insert(Base::Plan(index), Rc::new(Terms::new(name, limits.clone(), counters, &registry, expose)));
        }
        for (index, consumer) in config.consumers.consumers().iter().enumerate() {
            if let (Some(own), Some(plan)) = (&consumer.limits, config.plans.get(consumer.plan)) {
                for limit in own {
                    registry.requests(host, refused(limit), &plan.name, &limit.label);
                }
                // Listed consumers are not in the table, where alone all counters need to be known.
                let terms = Terms::new(&plan.name, own.clone(), [].into(), &registry, expose);
                base.insert(Base::Consumer(index), Rc::new(terms));
            }
        }
        let limits = config.rules.iter().map(|rule| match &rule.effect {
            Effect::Charge { limits, .. } => limits.clone(),
            Effect::Exempt => Vec::new(),
        });
        Self { expose, registry, base, rules: limits.collect(), ruled: RefCell::default() }
    }

    /// The terms of `base` with the limits of these rules, by index; `None` for a base that does not exist.
    pub fn terms(&self, base: Base, rules: &[usize]) -> Option<Rc<Terms>> {
        let own = self.base.get(&base)?;
        match rules {
            [] => Some(own.clone()),
            [rule] => {
                let mut ruled = self.ruled.borrow_mut();
                Some(ruled.entry((base, *rule)).or_insert_with(|| self.together(own, rules)).clone())
            }
            // Clients choose how many such there are: they are not kept.
            rules => Some(self.together(own, rules)),
        }
    }

    fn together(&self, own: &Terms, rules: &[usize]) -> Rc<Terms> {
        let of_rules = rules.iter().filter_map(|rule| self.rules.get(*rule)).flatten();
        let limits = own.limits.iter().chain(of_rules).cloned().collect();
        Rc::new(Terms::new(&own.plan, limits, own.counters.clone(), &self.registry, self.expose))
    }
}

/// What becomes of a request that this limit does not admit.
fn refused(limit: &Limit) -> Outcome {
    if limit.shadow { Outcome::ShadowDenied } else { Outcome::Denied }
}

// === impl Terms ===

impl Terms {
    fn new(plan: &Rc<str>, limits: Vec<Limit>, counters: Rc<[CounterId]>, registry: &Registry, expose: bool) -> Self {
        let name = |(index, limit): (usize, &Limit)| match expose {
            true => limit.label.clone(),
            false => format!("limit-{}", index.saturating_add(1)).into(),
        };
        let names: Vec<Rc<str>> = limits.iter().enumerate().map(name).collect();
        Self {
            plan: plan.clone(),
            counters,
            policy: headers::policy(names.iter().map(|name| &**name).zip(&limits)),
            names,
            allowed: registry.known(Outcome::Allowed, plan, NONE),
            refused: limits.iter().map(|limit| registry.known(refused(limit), plan, &limit.label)).collect(),
            limits,
        }
    }

    /// The header fields of `families` about the limit that stands so.
    #[must_use]
    pub fn fields(&self, families: Families, standing: &Standing) -> Vec<Field> {
        let (name, limit) = (self.names.get(standing.limit), self.limits.get(standing.limit));
        let fields =
            name.zip(limit).map(|(name, limit)| headers::fields(families, &self.policy, name, limit, standing));
        fields.unwrap_or_default()
    }
}

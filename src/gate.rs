//! The gate: the way of one request through the core, from its head to the verdict.

use crate::config::{Config, FailureMode};
use crate::consumer::Consumer;
use crate::decision::{Decision, Standing};
use crate::headers;
use crate::key::{ApiKey, Found};
use crate::limiter;
use crate::metrics::{Meters, MetricId, Metrics, NONE, Outcome, Reason, Registry};
use crate::namespace::{Namespace, OpenError};
use crate::plan::{Limit, Plan};
use crate::record::Record;
use crate::reply::{Exceeded, Reply};
use crate::request::Head;
use crate::store::{self, HostError, SharedData, StoreError};
use crate::window::Timestamp;
use std::rc::Rc;

/// What the gate needs of the proxy while it looks at one request.
pub trait Host: Head + SharedData + Metrics {
    /// The current time.
    ///
    /// # Errors
    /// When the host refuses.
    fn now(&self) -> Result<Timestamp, HostError>;
}

/// An opened configuration: decides requests.
#[derive(Debug)]
pub struct Gate {
    config: Config,
    namespace: Namespace,
    /// What unlisted keys may do; `None` where they are refused.
    unlisted: Option<Rc<Profile>>,
    /// What listed consumers may do, by their index.
    listed: Vec<Rc<Profile>>,
    meters: Meters,
}

/// What the callers of one plan may do, or one consumer with limits of its own.
#[derive(Debug)]
struct Profile {
    plan: Rc<str>,
    limits: Vec<Limit>,
    /// `RateLimit-Policy`.
    policy: String,
    allowed: Option<MetricId>,
    /// By limit.
    denied: Vec<Option<MetricId>>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It goes on to the upstream.
    Pass(Passed),
    /// It is answered at once.
    Refuse(Reply),
}

/// What there is to say about a request that passed, on its response.
#[derive(Clone, Debug, Default)]
pub struct Passed(Option<(Rc<Profile>, Standing)>);

// === impl Gate ===

impl Gate {
    /// Opens the configuration's namespace and defines its metrics.
    ///
    /// # Errors
    /// When the namespace cannot be opened.
    pub fn open(
        config: Config,
        host: &(impl SharedData + Metrics),
        random: impl FnOnce() -> Option<[u8; 16]>,
    ) -> Result<Self, OpenError> {
        let namespace = Namespace::open(host, &config.namespace, random)?;
        let mut registry = Registry::new(host);
        let plans: Vec<Rc<Profile>> = config
            .plans
            .iter()
            .map(|Plan { name, limits }| Rc::new(Profile::new(name, limits.clone(), &mut registry)))
            .collect();
        let unlisted = config.unlisted.and_then(|plan| plans.get(plan).cloned());
        let mut profile = |consumer: &Consumer| {
            let plan = plans.get(consumer.plan)?;
            Some(match &consumer.limits {
                Some(own) => Rc::new(Profile::new(&plan.plan, own.clone(), &mut registry)),
                None => plan.clone(),
            })
        };
        // A valid configuration names a plan for each consumer, so that indices stay the same.
        let listed = config.consumers.consumers().iter().filter_map(&mut profile).collect();
        let meters = registry.meters();
        Ok(Self { config, namespace, unlisted, listed, meters })
    }

    /// Decides a request. Exactly one decision is counted.
    #[must_use]
    pub fn admit(&self, host: &impl Host) -> Verdict {
        match self.try_admit(host) {
            Ok(verdict) => verdict,
            Err(error) => self.undecided(host, error),
        }
    }

    fn try_admit(&self, host: &impl Host) -> Result<Verdict, StoreError> {
        let key = match self.config.sources.find(host).map_err(StoreError::Host)? {
            Found::Key(key) => key,
            Found::Missing => {
                count(host, self.meters.unauthorized);
                return Ok(Verdict::Refuse(Reply::missing_api_key(&self.config.sources)));
            }
            Found::Ambiguous => {
                count(host, self.meters.invalid);
                return Ok(Verdict::Refuse(Reply::ambiguous_api_key()));
            }
        };
        let Some((profile, record)) = self.caller(&key) else {
            count(host, self.meters.unauthorized);
            return Ok(Verdict::Refuse(Reply::invalid_api_key(&self.config.sources)));
        };
        self.charge(host, profile, &record)
    }

    /// What the key's owner may do, and where its record is.
    fn caller(&self, key: &ApiKey) -> Option<(&Rc<Profile>, Vec<u8>)> {
        if let Some(index) = self.config.consumers.find(key) {
            let consumer = self.config.consumers.consumers().get(index)?;
            return Some((self.listed.get(index)?, self.namespace.consumer_record(&consumer.name)));
        }
        Some((self.unlisted.as_ref()?, self.namespace.key_record(key)))
    }

    fn charge(&self, host: &impl Host, profile: &Rc<Profile>, record: &[u8]) -> Result<Verdict, StoreError> {
        const COST: u64 = 1;
        if profile.limits.is_empty() {
            count(host, profile.allowed);
            return Ok(Verdict::Pass(Passed::default()));
        }
        let now = host.now().map_err(StoreError::Host)?;
        let changed = store::change(host, record, |bytes| {
            let (record, malformed) = match Record::decode(bytes) {
                Ok(record) => (record, false),
                Err(_) => (Record::default(), true),
            };
            let mut outcome = limiter::decide(&record, &profile.limits, COST, now);
            (outcome.record.take(), (outcome, malformed))
        })?;
        let (outcome, malformed) = changed.answer;
        if changed.conflicts > 0 {
            add(host, self.meters.conflicts, changed.conflicts);
        }
        if malformed {
            count(host, self.meters.errors(Reason::Record));
        }
        if outcome.overfull {
            count(host, self.meters.errors(Reason::RecordFull));
        }
        match outcome.decision {
            Decision::Allowed { tightest } => {
                count(host, profile.allowed);
                let told = tightest.filter(|_| self.config.ratelimit_headers);
                Ok(Verdict::Pass(Passed(told.map(|standing| (profile.clone(), standing)))))
            }
            Decision::Denied { standing, wait } => {
                count(host, profile.denied.get(standing.limit).copied().flatten());
                let Some(limit) = profile.limits.get(standing.limit) else {
                    return Ok(Verdict::Refuse(Reply::limiter_unavailable()));
                };
                Ok(Verdict::Refuse(Reply::denial(&Exceeded {
                    denial: &self.config.denial,
                    plan: &profile.plan,
                    policy: &profile.policy,
                    limit,
                    standing,
                    cost: COST,
                    wait,
                    cross_origin: matches!(host.header("origin"), Ok(Some(_))),
                })))
            }
        }
    }

    /// The failure mode. Lost races are not left to it: whoever makes a record contended must not pass for that.
    fn undecided(&self, host: &impl Host, error: StoreError) -> Verdict {
        let reason = match error {
            StoreError::Host(error) => {
                log::debug!("cannot decide: {error}");
                Reason::Host
            }
            StoreError::Contended => Reason::Contention,
        };
        count(host, self.meters.error);
        count(host, self.meters.errors(reason));
        match (reason, self.config.failure_mode) {
            (Reason::Host, FailureMode::Allow) => Verdict::Pass(Passed::default()),
            _ => Verdict::Refuse(Reply::limiter_unavailable()),
        }
    }
}

fn count(host: &impl Metrics, metric: Option<MetricId>) {
    add(host, metric, 1);
}

fn add(host: &impl Metrics, metric: Option<MetricId>, by: u32) {
    if let Some(metric) = metric {
        host.add(metric, by);
    }
}

// === impl Profile ===

impl Profile {
    fn new(plan: &Rc<str>, limits: Vec<Limit>, registry: &mut Registry<'_, impl Metrics>) -> Self {
        Self {
            plan: plan.clone(),
            policy: headers::policy(&limits),
            allowed: registry.requests(Outcome::Allowed, plan, NONE),
            denied: limits.iter().map(|limit| registry.requests(Outcome::Denied, plan, &limit.name)).collect(),
            limits,
        }
    }
}

// === impl Passed ===

impl Passed {
    /// The header fields to add to the response.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let Some((profile, standing)) = &self.0 else {
            return Vec::new();
        };
        let Some(limit) = profile.limits.get(standing.limit) else {
            return Vec::new();
        };
        vec![("ratelimit-policy", profile.policy.clone()), ("ratelimit", headers::ratelimit(limit, standing))]
    }
}

//! Metrics: what is counted about decisions, and under which names.
//!
//! A metric's labels are part of its name, `label=.=value;.;` each, the metric last: the form that Istio's bootstrap and the
//! `stats_tags` of the samples take apart. Values come from the configuration only. Hosts never free a metric, so all are
//! defined when the configuration is, none on a request's way.

use crate::sip::Hashing;
use crate::usage::Usage;
use std::collections::HashMap;

/// A metric the host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricId(pub u32);

/// A metric that may be none: hosts can refuse to define one, which must not decide about a request.
pub type Metric = Option<MetricId>;

/// The host's metrics.
pub trait Metrics {
    /// Defines a counter, or finds the one of that name; `None` when the host refuses.
    fn counter(&self, name: &str) -> Metric;

    /// Defines a gauge, or finds the one of that name; `None` when the host refuses.
    fn gauge(&self, name: &str) -> Metric;

    /// Adds to a counter or a gauge; to a gauge also less than nothing.
    fn add(&self, metric: MetricId, by: i64);

    /// Counts one more, if there is such a counter.
    fn count(&self, metric: Metric) {
        self.add_to(metric, 1);
    }

    /// Adds to a counter, if there is one and anything to add.
    fn add_to(&self, metric: Metric, by: u32) {
        if let Some(metric) = metric.filter(|_| by > 0) {
            self.add(metric, by.into());
        }
    }

    /// Sets a gauge.
    fn set_gauge(&self, metric: MetricId, value: u64);
}

/// The label value where there is nothing to name.
pub const NONE: &str = "none";

/// What became of a request: exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Passed, and was charged.
    Allowed,
    /// Over a limit.
    Denied,
    /// Passed, and was over a limit that only counts.
    ShadowDenied,
    /// Passed by a rule or as a preflight request.
    Exempt,
    /// No key, or an unknown one.
    Unauthorized,
    /// Several keys.
    Invalid,
    /// A disabled consumer or key.
    Disabled,
    /// The filter could not decide; the failure mode did.
    Error,
}

/// Why the filter could not decide, or not as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too many lost races on one record.
    Contention,
    /// The host refused a call.
    Host,
    /// A stored record was none of ours and counted as empty.
    Record,
    /// A record had no room for counters that the configuration no longer knows.
    RecordFull,
    /// An earlier filter named a plan that does not exist.
    UnknownPlan,
}

impl Outcome {
    /// As metrics and access logs name it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::ShadowDenied => "shadow_denied",
            Self::Exempt => "exempt",
            Self::Unauthorized => "unauthorized",
            Self::Invalid => "invalid",
            Self::Disabled => "disabled",
            Self::Error => "error",
        }
    }
}

impl Reason {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Contention, "contention"),
        (Self::Host, "host"),
        (Self::Record, "record"),
        (Self::RecordFull, "record_full"),
        (Self::UnknownPlan, "unknown_plan"),
    ];
}

/// The metrics of one configuration, each defined once.
#[derive(Debug, Default)]
pub struct Registry {
    known: HashMap<String, Metric, Hashing>,
}

impl Registry {
    fn counter(&mut self, host: &impl Metrics, name: String) -> Metric {
        *self.known.entry(name).or_insert_with_key(|name| host.counter(name))
    }

    /// `allowance_requests_total{decision,plan,limit}`.
    pub fn requests(&mut self, host: &impl Metrics, outcome: Outcome, plan: &str, limit: &str) -> Metric {
        self.counter(host, requests(outcome, plan, limit))
    }

    /// One of those that were defined before.
    #[must_use]
    pub fn known(&self, outcome: Outcome, plan: &str, limit: &str) -> Metric {
        self.known.get(&requests(outcome, plan, limit)).copied().flatten()
    }

    /// `allowance_consumer_requests_total{consumer,decision}`.
    pub fn consumer(&mut self, host: &impl Metrics, consumer: &str, outcome: Outcome) -> Metric {
        let decision = outcome.label();
        self.counter(host, format!("consumer=.={consumer};.;decision=.={decision};.;allowance_consumer_requests_total"))
    }

    /// `allowance_tokens_total{plan,model,kind}` and `allowance_estimated_responses_total{plan,model}`.
    pub fn tokens(&mut self, host: &impl Metrics, plan: &str, model: &str) -> TokenMeters {
        let mut counter = |kind: &str, name: &str| {
            let kind = if kind.is_empty() { String::new() } else { format!("kind=.={kind};.;") };
            self.counter(host, format!("plan=.={plan};.;model=.={model};.;{kind}{name}"))
        };
        let [input, cached, output, reasoning] =
            ["input", "cached", "output", "reasoning"].map(|kind| counter(kind, "allowance_tokens_total"));
        let estimated = counter("", "allowance_estimated_responses_total");
        TokenMeters { input, cached, output, reasoning, estimated }
    }

    /// Those that belong to no plan.
    pub fn meters(&mut self, host: &impl Metrics, namespace: &str) -> Meters {
        let outcomes = [Outcome::Exempt, Outcome::Unauthorized, Outcome::Invalid, Outcome::Disabled, Outcome::Error];
        Meters {
            requests: outcomes.map(|outcome| (outcome, self.requests(host, outcome, NONE, NONE))),
            conflicts: self.counter(host, "allowance_store_conflicts_total".to_owned()),
            evictions: self.counter(host, "allowance_evictions_total".to_owned()),
            late: if cfg!(feature = "llm") {
                self.counter(host, "allowance_late_decisions_total".to_owned())
            } else {
                None
            },
            floor_denied: self.counter(host, "allowance_floor_denied_total".to_owned()),
            tracked_keys: host.gauge("allowance_tracked_keys"),
            geometry_kept: host.gauge(&format!("namespace=.={namespace};.;allowance_geometry_kept")),
            errors: Reason::ALL.map(|(reason, label)| {
                (reason, self.counter(host, format!("reason=.={label};.;allowance_errors_total")))
            }),
        }
    }
}

/// The label value of a model that no rule names.
pub const OTHER: &str = "other";

/// What is counted of responses, by the caller's plan and by the model as the configuration names it.
#[derive(Clone, Copy, Debug)]
pub struct TokenMeters {
    input: Metric,
    cached: Metric,
    output: Metric,
    reasoning: Metric,
    estimated: Metric,
}

impl TokenMeters {
    /// Counts one response; whether its usage was estimated, because it did not say. As in [`Usage`], cached tokens are part of the input and
    /// reasoning is part of the output.
    pub fn count(&self, host: &impl Metrics, usage: &Usage, estimated: bool) {
        let kinds = [
            (self.input, usage.input),
            (self.cached, usage.cached),
            (self.output, usage.output),
            (self.reasoning, usage.reasoning),
            (self.estimated, estimated.into()),
        ];
        for (metric, tokens) in kinds {
            if let Some(metric) = metric.filter(|_| tokens > 0) {
                host.add(metric, i64::try_from(tokens).unwrap_or(i64::MAX));
            }
        }
    }
}

fn requests(outcome: Outcome, plan: &str, limit: &str) -> String {
    let decision = outcome.label();
    format!("decision=.={decision};.;plan=.={plan};.;limit=.={limit};.;allowance_requests_total")
}

/// Metrics that belong to no plan.
#[derive(Clone, Debug)]
pub struct Meters {
    requests: [(Outcome, Metric); 5],
    /// Lost races.
    pub conflicts: Metric,
    /// Records that had to make room for others.
    pub evictions: Metric,
    /// Requests whose head had gone upstream before their body could decide.
    pub late: Metric,
    /// Newcomers that their set's floor denied.
    pub floor_denied: Metric,
    /// Records in the table.
    pub tracked_keys: Metric,
    /// 1 while another `max_tracked_keys` than the configured one is in force.
    pub geometry_kept: Metric,
    errors: [(Reason, Metric); 5],
}

impl Meters {
    /// `allowance_requests_total` of an outcome that has no plan.
    #[must_use]
    pub fn requests(&self, outcome: Outcome) -> Metric {
        find(&self.requests, outcome)
    }

    /// `allowance_errors_total{reason}`.
    #[must_use]
    pub fn errors(&self, reason: Reason) -> Metric {
        find(&self.errors, reason)
    }
}

fn find<K: PartialEq + Copy>(metrics: &[(K, Metric)], key: K) -> Metric {
    metrics.iter().find(|(known, _)| *known == key)?.1
}

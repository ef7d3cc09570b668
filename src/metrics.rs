//! Metrics: what is counted about decisions, and under which names.
//!
//! A metric's labels are part of its name, `label=.=value;.;` each, the metric last: the form that Istio's bootstrap and the
//! `stats_tags` of the samples take apart. Values come from the configuration only. Hosts never free a metric, so all are
//! defined when the configuration is, none on a request's way.

use std::collections::HashMap;

/// A metric the host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricId(pub u32);

/// The host's metrics.
pub trait Metrics {
    /// Defines a counter, or finds the one of that name; `None` when the host refuses.
    fn counter(&self, name: &str) -> Option<MetricId>;

    /// Adds to a counter.
    fn add(&self, metric: MetricId, by: u32);
}

/// The label value where there is nothing to name.
pub const NONE: &str = "none";

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Passed, and was charged.
    Allowed,
    /// Over a limit.
    Denied,
    /// No key, or an unknown one.
    Unauthorized,
    /// Several keys.
    Invalid,
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
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::Invalid => "invalid",
            Self::Error => "error",
        }
    }
}

impl Reason {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Contention, "contention"),
        (Self::Host, "host"),
        (Self::Record, "record"),
        (Self::RecordFull, "record_full"),
    ];
}

/// Defines the metrics of one configuration, each once.
pub struct Registry<'a, M> {
    host: &'a M,
    known: HashMap<String, Option<MetricId>>,
}

impl<'a, M: Metrics> Registry<'a, M> {
    /// Nothing defined yet.
    pub fn new(host: &'a M) -> Self {
        Self { host, known: HashMap::new() }
    }

    fn counter(&mut self, name: String) -> Option<MetricId> {
        let host = self.host;
        *self.known.entry(name).or_insert_with_key(|name| host.counter(name))
    }

    /// `allowance_requests_total{decision,plan,limit}`.
    pub fn requests(&mut self, outcome: Outcome, plan: &str, limit: &str) -> Option<MetricId> {
        let decision = outcome.label();
        self.counter(format!("decision=.={decision};.;plan=.={plan};.;limit=.={limit};.;allowance_requests_total"))
    }

    /// Those that belong to no plan.
    pub fn meters(&mut self) -> Meters {
        Meters {
            unauthorized: self.requests(Outcome::Unauthorized, NONE, NONE),
            invalid: self.requests(Outcome::Invalid, NONE, NONE),
            error: self.requests(Outcome::Error, NONE, NONE),
            conflicts: self.counter("allowance_store_conflicts_total".to_owned()),
            errors: Reason::ALL
                .into_iter()
                .map(|(reason, label)| (reason, self.counter(format!("reason=.={label};.;allowance_errors_total"))))
                .collect(),
        }
    }
}

/// Metrics that belong to no plan.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Requests without a known key.
    pub unauthorized: Option<MetricId>,
    /// Requests with several keys.
    pub invalid: Option<MetricId>,
    /// Requests that were left to the failure mode.
    pub error: Option<MetricId>,
    /// Lost races.
    pub conflicts: Option<MetricId>,
    errors: HashMap<Reason, Option<MetricId>>,
}

impl Meters {
    /// `allowance_errors_total{reason}`.
    #[must_use]
    pub fn errors(&self, reason: Reason) -> Option<MetricId> {
        self.errors.get(&reason).copied().flatten()
    }
}

//! Metrics: process-wide objects, found again by name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Status;

/// What kind of metric a name was defined as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down; below zero it wraps, as in Envoy.
    Gauge,
    /// Records values; it cannot be read back by the module.
    Histogram,
}

impl Kind {
    pub(super) fn from_abi(kind: u32) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram].get(kind as usize).copied()
    }
}

/// The metrics of one process. A clone is the same set: give it to every instance that stands for a worker.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<String, Metric>>>);

#[derive(Debug)]
struct Metric {
    kind: Kind,
    value: u64,
    recorded: Vec<u64>,
}

impl Metrics {
    /// The value of a counter or gauge; `None` when no module defined it.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.lock().get(name).map(|metric| metric.value)
    }

    /// The values that a histogram recorded, in order.
    pub fn recorded(&self, name: &str) -> Vec<u64> {
        self.lock().get(name).map(|metric| metric.recorded.clone()).unwrap_or_default()
    }

    /// Every counter and gauge that is not zero, by name.
    pub fn nonzero(&self) -> BTreeMap<String, u64> {
        self.lock()
            .iter()
            .filter(|(_, metric)| metric.value != 0)
            .map(|(name, metric)| (name.clone(), metric.value))
            .collect()
    }

    /// Every name that was ever defined, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn define(&self, kind: Kind, name: &str) {
        self.lock().entry(name.to_owned()).or_insert(Metric { kind, value: 0, recorded: Vec::new() });
    }

    pub(super) fn increment(&self, name: &str, offset: i64) -> Status {
        let mut metrics = self.lock();
        let Some(metric) = metrics.get_mut(name) else { return Status::NotFound };
        match metric.kind {
            Kind::Counter if offset <= 0 => return Status::BadArgument,
            Kind::Counter | Kind::Gauge => metric.value = metric.value.wrapping_add_signed(offset),
            Kind::Histogram => return Status::BadArgument,
        }
        Status::Ok
    }

    pub(super) fn record(&self, name: &str, value: u64) -> Status {
        let mut metrics = self.lock();
        let Some(metric) = metrics.get_mut(name) else { return Status::NotFound };
        match metric.kind {
            Kind::Counter => metric.value = metric.value.wrapping_add(value),
            Kind::Gauge => metric.value = value,
            Kind::Histogram => metric.recorded.push(value),
        }
        Status::Ok
    }

    pub(super) fn read(&self, name: &str) -> Result<u64, Status> {
        match self.lock().get(name) {
            Some(metric) if metric.kind == Kind::Histogram => Err(Status::BadArgument),
            Some(metric) => Ok(metric.value),
            None => Err(Status::NotFound),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Metric>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

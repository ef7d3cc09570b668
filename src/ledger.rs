//! The ledger: the records of all callers, each charged in one step, wherever it is.

use crate::caller::Caller;
use crate::config::Config;
use crate::counter::Rule;
use crate::decision::Decision;
use crate::limiter::{self, Outcome};
use crate::metrics::{Meters, Metrics, Reason};
use crate::namespace::Namespace;
use crate::record::{CounterId, Record};
use crate::rule::Charging;
use crate::store::{self, HostError, SharedData, StoreError};
use crate::table::{self, Charge};
use crate::terms::{Base, Book, Terms};
use crate::window::Timestamp;
use std::collections::HashMap;
use std::rc::Rc;

/// The host's clock.
pub trait Clock {
    /// The current time.
    ///
    /// # Errors
    /// When the host refuses.
    fn now(&self) -> Result<Timestamp, HostError>;
}

/// The records of one namespace, under one configuration.
#[derive(Debug)]
pub struct Ledger {
    namespace: Namespace,
    book: Book,
    /// How every counter of this configuration counts.
    rules: HashMap<CounterId, Rule>,
    meters: Meters,
}

/// One record and what it is charged under.
pub struct Account {
    /// What.
    pub terms: Rc<Terms>,
    place: Place,
}

/// Where a record is.
enum Place {
    /// In a value of its own.
    Own(Vec<u8>),
    /// In the table.
    Table {
        /// The hash of who it is.
        hash: u64,
        /// Every counter it can ever have.
        counters: Rc<[CounterId]>,
    },
}

/// Whether a decision takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is stored.
    Charge,
    /// It only tells what it would be.
    Look,
}

// === impl Ledger ===

impl Ledger {
    /// Of an open namespace.
    #[must_use]
    pub fn new(config: &Config, namespace: Namespace, book: Book, meters: Meters) -> Self {
        let of_plans = config.plans.iter().flat_map(|plan| &plan.limits);
        let of_consumers = config.consumers.consumers().iter().flat_map(|consumer| consumer.limits.iter().flatten());
        let of_rules = config.rules.iter().flat_map(|rule| rule.effect.limits());
        let mut rules: HashMap<CounterId, Rule> = HashMap::new();
        for limit in of_plans.chain(of_consumers).chain(of_rules) {
            // Where several share a counter, the smaller numbers age it more slowly and show the larger share of it used.
            let rule = rules.entry(limit.id).or_insert(limit.rule);
            rule.max = rule.max.min(limit.rule.max);
            rule.burst = rule.burst.min(limit.rule.burst);
        }
        Self { namespace, book, rules, meters }
    }

    /// The namespace it counts in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The metrics that belong to no plan.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Where the caller's record is and what it is charged under, and the same for its address.
    pub fn accounts(&self, caller: &Caller<'_>, charging: &Charging) -> Option<(Account, Option<Account>)> {
        match caller {
            Caller::Listed { index, consumer, .. } => {
                let base = if consumer.limits.is_some() { Base::Consumer(*index) } else { Base::Plan(consumer.plan) };
                let place = Place::Own(self.namespace.consumer_record(consumer));
                Some((Account { terms: self.book.terms(base, charging)?, place }, None))
            }
            Caller::Unlisted { hash, plan, guard, .. } => {
                let place = |hash, plan| Place::Table { hash, counters: self.book.counters(plan) };
                let guard = match *guard {
                    Some((hash, plan)) => {
                        let terms = self.book.terms(Base::Plan(plan), &Charging::default())?;
                        (!terms.limits.is_empty()).then_some(Account { terms, place: place(hash, plan) })
                    }
                    None => None,
                };
                let terms = self.book.terms(Base::Plan(*plan), charging)?;
                Some((Account { terms, place: place(*hash, *plan) }, guard))
            }
        }
    }

    /// Decides one record, and charges it if the mode is such.
    ///
    /// # Errors
    /// When the shared data fails; nothing has been charged then.
    pub fn decide(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        cost: u64,
        now: Timestamp,
        mode: Mode,
    ) -> Result<Outcome, StoreError> {
        let Account { terms, place } = account;
        if terms.limits.is_empty() {
            let decision = Decision::Allowed { tightest: None, shadow_denied: None };
            return Ok(Outcome { decision, record: None, overfull: false, set_back: false, uncharged: Vec::new() });
        }
        // A worker that was held up has an old clock in hand; the clock of the host knows whether it was set back.
        let later = || host.now().ok().filter(|later| *later > now);
        let rule = |id| self.rules.get(&id).copied();
        let (charged, malformed, conflicts) = match place {
            Place::Own(key) => {
                let changed = store::change(host, key, |bytes| {
                    let (record, malformed) = match Record::decode(bytes) {
                        Ok(record) => (record.refreshed(&rule), false),
                        Err(_) => (Record::default(), true),
                    };
                    let mut charged = limiter::decide(&record, &terms.limits, cost, now);
                    if let Some(later) = charged.set_back.then(later).flatten() {
                        charged = limiter::decide(&record, &terms.limits, cost, later);
                    }
                    let stored = charged.record.take().filter(|_| mode == Mode::Charge);
                    (stored, (charged, malformed))
                })?;
                (changed.answer.0, changed.answer.1, changed.conflicts)
            }
            Place::Table { hash, counters } => {
                let charge = Charge { hash: *hash, limits: &terms.limits, cost, counters };
                let ways = self.namespace.geometry().ways;
                let changed = store::change(host, &self.namespace.set(*hash), |set| {
                    let mut decided = table::decide(set, ways, &charge, &rule, now);
                    if let Some(later) = decided.1.outcome.set_back.then(later).flatten() {
                        decided = table::decide(set, ways, &charge, &rule, later);
                    }
                    let (stored, outcome) = decided;
                    (stored.filter(|_| mode == Mode::Charge), outcome)
                })?;
                let (outcome, conflicts) = (changed.answer, changed.conflicts);
                if mode == Mode::Charge {
                    self.count_table(host, &outcome);
                }
                (outcome.outcome, outcome.malformed, conflicts)
            }
        };
        host.add_to(self.meters.conflicts, conflicts);
        host.add_to(self.meters.errors(Reason::Record), u32::from(malformed));
        host.add_to(self.meters.errors(Reason::RecordFull), u32::from(charged.overfull));
        Ok(charged)
    }

    /// Gives back what an allowed decision at `charged_at` charged.
    ///
    /// # Errors
    /// When the host fails; the record stays charged then.
    pub fn refund(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        charged: &Outcome,
        cost: u64,
        charged_at: Timestamp,
    ) -> Result<(), StoreError> {
        let Account { terms, place } = account;
        let (limits, uncharged) = (&terms.limits, &charged.uncharged);
        let now = host.now().map_err(StoreError::Host)?;
        let changed = match place {
            Place::Own(key) => store::change(host, key, |bytes| {
                let record = Record::decode(bytes).ok();
                (record.and_then(|record| limiter::refund(&record, limits, uncharged, cost, charged_at, now)), ())
            })?,
            Place::Table { hash, counters } => {
                let charge = Charge { hash: *hash, limits, cost, counters };
                store::change(host, &self.namespace.set(*hash), |set| {
                    (table::refund(set, &charge, uncharged, charged_at, now), ())
                })?
            }
        };
        host.add_to(self.meters.conflicts, changed.conflicts);
        Ok(())
    }

    fn count_table(&self, host: &impl Metrics, outcome: &table::TableOutcome) {
        let denied = matches!(outcome.outcome.decision, Decision::Denied { .. });
        let change = i64::from(outcome.added)
            .saturating_sub(i64::from(outcome.expired))
            .saturating_sub(i64::from(outcome.evicted));
        if let Some(gauge) = self.meters.tracked_keys.filter(|_| change != 0) {
            host.add(gauge, change);
        }
        host.add_to(self.meters.evictions, outcome.evicted);
        host.add_to(self.meters.floor_denied, u32::from(outcome.newcomer && denied));
    }
}

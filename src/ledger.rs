//! The ledger: the records of all callers, each charged in one step, wherever it is.

use crate::caller::Caller;
use crate::config::Config;
use crate::consumer::Consumer;
use crate::cost::{Cost, Thousandths};
use crate::counter::Rule;
use crate::decision::Decision;
use crate::lease::{Found, Lease, Leases};
use crate::limiter::{self, Outcome};
use crate::metrics::{Meters, Metrics, Reason, TokenMeters};
use crate::namespace::Namespace;
use crate::plan::Limit;
use crate::record::{CounterId, Record, Rules};
use crate::reservation::Reservation;
use crate::rule::Charging;
use crate::store::{self, HostError, SharedData, StoreError};
use crate::table::{self, Charge, Churn};
use crate::terms::{Base, Book, Terms};
use crate::usage::Usage;
use crate::window::Timestamp;
use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::num::NonZeroU64;
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
    /// Some limit reserves tokens.
    reserves: bool,
    meters: Meters,
    leases: Leases,
    /// Of each listed consumer, by index, under no rule: made when it first calls.
    consumers: Box<[OnceCell<Rc<Account>>]>,
}

/// One record and what it is charged under.
#[derive(Debug)]
pub struct Account {
    /// What.
    pub terms: Rc<Terms>,
    place: Place,
    /// What is counted of its responses.
    tokens: Option<Rc<TokenMeters>>,
    /// Whether it was denied last: then it is likely to be again.
    denied: Cell<bool>,
}

/// Where a record is.
#[derive(Clone, Debug)]
enum Place {
    /// In a value of its own: that of the listed consumer with this index.
    Own(usize, Rc<[u8]>),
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
        let mut rules: HashMap<CounterId, Rule> = HashMap::new();
        let mut reserves = false;
        for limit in config.limits() {
            // Where several share a counter, the smaller numbers age it more slowly and show the larger share of it used.
            let rule = rules.entry(limit.id).or_insert(limit.rule);
            rule.max = rule.max.min(limit.rule.max);
            rule.burst = rule.burst.min(limit.rule.burst);
            reserves |= limit.unit.tokens().is_some() && limit.reserve.is_some();
        }
        let consumers = config.consumers.consumers().iter().map(|_| OnceCell::new()).collect();
        Self { namespace, book, rules, reserves, meters, leases: Leases::new(config.lease), consumers }
    }

    /// Whether any limit reserves tokens: then what is reserved has to be [renewed](Self::renew).
    #[must_use]
    pub fn reserves(&self) -> bool {
        self.reserves
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
    pub fn accounts(&self, caller: &Caller<'_>, charging: &Charging) -> Option<(Rc<Account>, Option<Rc<Account>>)> {
        match caller {
            Caller::Listed { index, consumer, .. } => {
                let usual = self.consumers.get(*index)?;
                let usual = match usual.get() {
                    Some(account) => account,
                    None => self.first_account(*index, consumer, usual)?,
                };
                if charging.is_usual() {
                    return Some((usual.clone(), None));
                }
                Some((self.account(base(*index, consumer), usual.place.clone(), charging)?, None))
            }
            Caller::Unlisted { hash, plan, guard, .. } => {
                let place = |hash, plan| Place::Table { hash, counters: self.book.counters(plan) };
                let guard = match *guard {
                    Some((hash, plan)) => {
                        let terms = self.book.terms(Base::Plan(plan), &Charging::default())?;
                        let account =
                            Account { terms, place: place(hash, plan), tokens: None, denied: Cell::default() };
                        (!account.terms.limits.is_empty()).then(|| Rc::new(account))
                    }
                    None => None,
                };
                Some((self.account(Base::Plan(*plan), place(*hash, *plan), charging)?, guard))
            }
        }
    }

    #[cold]
    fn first_account<'a>(
        &self,
        index: usize,
        consumer: &Consumer,
        cell: &'a OnceCell<Rc<Account>>,
    ) -> Option<&'a Rc<Account>> {
        let place = Place::Own(index, self.namespace.consumer_record(consumer).into());
        let account = self.account(base(index, consumer), place, &Charging::default())?;
        Some(cell.get_or_init(|| account))
    }

    fn account(&self, base: Base, place: Place, charging: &Charging) -> Option<Rc<Account>> {
        let terms = self.book.terms(base, charging)?;
        let tokens = self.book.tokens(&terms, charging);
        Some(Rc::new(Account { terms, place, tokens, denied: Cell::default() }))
    }

    /// Counts a response's usage in the metrics of the caller's plan and model; whether that was estimated, because nothing said it. Once a
    /// response, with the caller's own account: those of addresses have no such metrics.
    pub fn count_usage(&self, host: &impl Metrics, account: &Account, usage: &Usage, estimated: bool) {
        if let Some(tokens) = &account.tokens {
            tokens.count(host, usage, estimated);
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
        cost: &Cost,
        now: Timestamp,
        mode: Mode,
    ) -> Result<Outcome, StoreError> {
        let Account { terms, place, .. } = account;
        if terms.limits.is_empty() {
            return Ok(Outcome::allowed(None, cost, now));
        }
        let mut asked = 1;
        if let Place::Own(consumer, _) = place
            && mode == Mode::Charge
            && self.leases.lifetime().is_some()
        {
            match self.leases.find(*consumer, terms, cost.requests, now) {
                Found::Unit(tightest, charged_at) => return Ok(Outcome::allowed(tightest, cost, charged_at)),
                Found::Nothing(size, over) => {
                    asked = if self.leases.has_room(*consumer, now) { size } else { 1 };
                    if let Some(over) = over {
                        // What cannot be given back stays charged: never fresher.
                        let _ = self.give_back(host, &over, now);
                    }
                }
            }
        }
        // A worker that was held up has an old clock in hand; the clock of the host knows whether it was set back.
        let later = || host.now().ok().filter(|later| *later > now);
        let rule = |id| self.rules.get(&id).copied();
        let (charged, malformed, conflicts) = match place {
            Place::Own(consumer, key) => {
                let shortly = asked == 1 && mode == Mode::Charge && !account.denied.get();
                let changed = store::change(host, key, |bytes| {
                    if shortly && let Some((record, tightest)) = limiter::pass(bytes, &terms.limits, cost, now) {
                        return (Some(record), Ok(tightest));
                    }
                    let (record, malformed) = match Record::decode(bytes) {
                        Ok(record) => (record.refreshed(&rule), false),
                        Err(_) => (Record::default(), true),
                    };
                    let mut charged = limiter::decide(&record, &terms.limits, cost, now);
                    if let Some(later) = charged.set_back.then(later).flatten() {
                        charged = limiter::decide(&record, &terms.limits, cost, later);
                    }
                    let mut size = 1;
                    if asked > 1 && !charged.set_back && charged.charged_all() {
                        size = self.leases.size(asked, &record, &terms.limits, cost.requests, now);
                        if size > 1 {
                            let all = Cost { requests: cost.requests.saturating_mul(size), ..*cost };
                            charged = limiter::decide(&record, &terms.limits, &all, now);
                        }
                    }
                    account.denied.set(matches!(charged.decision, Decision::Denied { .. }));
                    let stored = charged.record.take().filter(|_| mode == Mode::Charge);
                    // Put aside: whatever is passed on is copied, and this is large.
                    (stored, Err(Box::new((charged, malformed, size))))
                })?;
                match changed.answer {
                    Ok(tightest) => {
                        self.leases.keep((*consumer, key), terms, (cost.requests, 1), tightest, (now, now));
                        host.add_to(self.meters.conflicts, changed.conflicts);
                        return Ok(Outcome::allowed(tightest, cost, now));
                    }
                    Err(decided) => {
                        let (mut charged, malformed, size) = *decided;
                        if mode == Mode::Charge && charged.charged_all() {
                            let tightest = charged.share_of_lease(cost, size);
                            let charged_at = charged.reservation.charged_at;
                            self.leases.keep(
                                (*consumer, key),
                                terms,
                                (cost.requests, size),
                                tightest,
                                (now, charged_at),
                            );
                        }
                        (charged, malformed, changed.conflicts)
                    }
                }
            }
            Place::Table { hash, counters } => {
                let charge = Charge { hash: *hash, limits: &terms.limits, cost: *cost, counters };
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

    /// Gives back what is left of leases that are over, or of all of them. Their callers get it back a little later if the host fails.
    pub fn give_back_leases(&self, host: &(impl SharedData + Metrics + Clock), all: bool) {
        let Ok(now) = host.now() else {
            return;
        };
        for lease in self.leases.take_over(Some(now).filter(|_| !all)) {
            // What cannot be given back stays charged: never fresher.
            let _ = self.give_back(host, &lease, now);
        }
    }

    /// How long leases last, in nanoseconds, if there are any.
    #[must_use]
    pub fn lease(&self) -> Option<NonZeroU64> {
        self.leases.lifetime()
    }

    fn give_back(&self, host: &(impl SharedData + Metrics), lease: &Lease, now: Timestamp) -> Result<(), StoreError> {
        let units = lease.left.saturating_mul(lease.cost);
        let unused = Reservation::new(lease.charged_at, units, Thousandths::ONE);
        let conflicts = refund_own(host, &lease.key, &lease.terms.limits, &unused, now)?;
        host.add_to(self.meters.conflicts, conflicts);
        Ok(())
    }

    /// Charges what the response to an admitted request took, in place of what was reserved for it. Without `usage`, because nothing said it and
    /// nothing can be estimated, all that was reserved is charged. Whoever was evicted from the table is in it again then.
    ///
    /// # Errors
    /// When the host fails; what was reserved ends by itself then, and nothing is charged.
    pub fn settle(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        reservation: Reservation,
        usage: Option<&Usage>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if !reservation.counts_tokens() {
            return Ok(());
        }
        let limits = &account.terms.limits;
        self.change(host, account, now, |record, now| limiter::settle(record, limits, &reservation, usage, now))
    }

    /// Holds what is reserved for another lifetime, if it is [time](Reservation::renew_at) to.
    ///
    /// # Errors
    /// When the host fails; the reservation ends as before then.
    pub fn renew(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        reservation: &mut Reservation,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if reservation.renew_at().is_none_or(|at| now < at) {
            return Ok(());
        }
        let (limits, held) = (&account.terms.limits, &*reservation);
        self.change(host, account, now, |record, _| limiter::renew(record, limits, held, now))?;
        *reservation = limiter::renewed(limits, reservation, now);
        Ok(())
    }

    /// Gives back what an allowed decision charged, and what it reserved. To be called before it is settled, or not at all.
    ///
    /// # Errors
    /// When the host fails; the record stays charged then.
    pub fn refund(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        reservation: &Reservation,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Account { terms, place, .. } = account;
        let limits = &terms.limits;
        let conflicts = match place {
            Place::Own(_, key) => refund_own(host, key, limits, reservation, now)?,
            Place::Table { hash, .. } => {
                let refund = |set: &[u8]| (table::refund(set, *hash, limits, reservation, now), ());
                store::change(host, &self.namespace.set(*hash), refund)?.conflicts
            }
        };
        host.add_to(self.meters.conflicts, conflicts);
        Ok(())
    }

    /// Changes a record, wherever it is.
    fn change(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        now: Timestamp,
        transition: impl Fn(&Record<'_>, Timestamp) -> Vec<u8>,
    ) -> Result<(), StoreError> {
        let Account { terms, place, .. } = account;
        let rule: Rules<'_> = &|id| self.rules.get(&id).copied();
        // As for a decision: the clock in hand may be old.
        let transition = |record: &Record<'_>| {
            let later = limiter::set_back(record, &terms.limits, now).then(|| host.now().ok());
            transition(record, later.flatten().map_or(now, |later| later.max(now)))
        };
        let conflicts = match place {
            Place::Own(_, key) => {
                let changed = store::change(host, key, |bytes| {
                    let record = Record::decode(bytes).unwrap_or_default().refreshed(rule);
                    (Some(transition(&record)), ())
                })?;
                changed.conflicts
            }
            Place::Table { hash, counters } => {
                let ways = self.namespace.geometry().ways;
                let changed = store::change(host, &self.namespace.set(*hash), |set| {
                    let (set, churn) = table::change(set, ways, (*hash, counters), rule, now, transition);
                    (Some(set), churn)
                })?;
                self.count_churn(host, changed.answer);
                changed.conflicts
            }
        };
        host.add_to(self.meters.conflicts, conflicts);
        Ok(())
    }

    fn count_table(&self, host: &impl Metrics, outcome: &table::TableOutcome) {
        let denied = matches!(outcome.outcome.decision, Decision::Denied { .. });
        self.count_churn(host, outcome.churn);
        host.add_to(self.meters.floor_denied, u32::from(outcome.newcomer && denied));
    }

    fn count_churn(&self, host: &impl Metrics, churn: Churn) {
        let change =
            i64::from(churn.added).saturating_sub(i64::from(churn.expired)).saturating_sub(i64::from(churn.evicted));
        if let Some(gauge) = self.meters.tracked_keys.filter(|_| change != 0) {
            host.add(gauge, change);
        }
        host.add_to(self.meters.evictions, churn.evicted);
    }
}

/// Whose limits a consumer has.
fn base(index: usize, consumer: &Consumer) -> Base {
    if consumer.limits.is_some() { Base::Consumer(index) } else { Base::Plan(consumer.plan) }
}

/// Gives back to a record in a value of its own; returns the races lost meanwhile.
fn refund_own(
    host: &impl SharedData,
    key: &[u8],
    limits: &[Limit],
    reservation: &Reservation,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let changed = store::change(host, key, |bytes| {
        let record = Record::decode(bytes).ok();
        (record.and_then(|record| limiter::refund(&record, limits, reservation, now)), ())
    })?;
    Ok(changed.conflicts)
}

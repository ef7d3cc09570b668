//! The ledger: the records of all callers, each charged in one step, wherever it is.

use crate::account::{Account, Accounts, Place};
use crate::caller::Caller;
use crate::config::Config;
use crate::consumer::Directory;
use crate::cost::{Cost, Thousandths};
use crate::counter::{Rule, Wait};
use crate::decision::{Decision, Standing};
use crate::exhausted::Exhausted;
use crate::lease::{Found, Lease, Leases};
use crate::limiter::{self, Outcome};
use crate::metrics::{Meters, Metrics, Reason};
use crate::namespace::Namespace;
use crate::plan::Limit;
use crate::record::{CounterId, Record, Rules};
use crate::reservation::Reservation;
use crate::rule::Charging;
use crate::sip::Hashing;
use crate::store::{self, Changed, HostError, SharedData, StoreError, Unchanged};
use crate::table::{self, Charge, Churn};
use crate::terms::{Book, Terms};
use crate::usage::Usage;
use crate::window::Timestamp;
use std::cell::RefCell;
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
    accounts: Accounts,
    /// How every counter of this configuration counts.
    rules: HashMap<CounterId, Rule, Hashing>,
    /// Some limit reserves tokens.
    reserves: bool,
    /// Whether anything that was charged is given back: leases, and where tokens are counted the requests that an upstream did not answer.
    gives_back: bool,
    /// Whether anybody is told how the limits stand of a request that passed.
    tells: bool,
    meters: Meters,
    leases: Leases,
    /// Where the record of a request that passes is written.
    record: RefCell<Vec<u8>>,
}

/// What charging a record came to.
#[derive(Debug)]
pub enum Charged {
    /// Every limit was charged, in the window that holds this time, and none counts tokens; how the tightest stands, where that is
    /// [told](Config::headers). What nearly every request comes to, and little to pass on.
    Passed(Option<Standing>, Timestamp),
    /// The same limit denies it as the last one; nanoseconds to wait.
    DeniedAgain(Standing, u64),
    /// Whatever else.
    Decided(Box<Outcome>),
}

/// A record that was decided the long way.
struct Decided {
    outcome: Outcome,
    /// What was stored was no record, and counted as none.
    malformed: bool,
    /// How many requests were charged, this one among them.
    size: u64,
}

/// Whether a decision takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is stored.
    Charge,
    /// It only tells what it would be.
    Look,
}

// === impl Charged ===

impl Charged {
    /// All there is to say of it.
    #[must_use]
    pub fn into_outcome(self, cost: &Cost, now: Timestamp) -> Outcome {
        match self {
            Self::Passed(tightest, charged_at) => Outcome::allowed(tightest, cost, charged_at),
            Self::DeniedAgain(standing, wait) => Outcome::denied(standing, Wait::For(wait), cost, now),
            Self::Decided(outcome) => *outcome,
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// Of an open namespace.
    #[must_use]
    pub fn new(config: &Config, namespace: Namespace, book: Book, meters: Meters) -> Self {
        let mut rules: HashMap<CounterId, Rule, Hashing> = HashMap::default();
        let (mut reserves, mut gives_back) = (false, config.lease.is_some());
        for limit in config.limits() {
            // Where several share a counter, the smaller numbers age it more slowly and show the larger share of it used.
            let rule = rules.entry(limit.id).or_insert(limit.rule);
            rule.max = rule.max.min(limit.rule.max);
            rule.burst = rule.burst.min(limit.rule.burst);
            reserves |= limit.unit.tokens().is_some() && limit.reserve.is_some();
            gives_back |= limit.unit.tokens().is_some();
        }
        let accounts = Accounts::new(config, book);
        let (tells, leases) = (!config.headers.is_empty(), Leases::new(config.lease));
        Self { namespace, accounts, rules, reserves, gives_back, tells, meters, leases, record: RefCell::default() }
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

    /// What was charged ahead.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// An account that is found by the listed key of that index, for requests that no rule concerns, but for what they cost.
    #[must_use]
    pub fn account_of_key(&self, consumers: &Directory, key: u32) -> Option<Account> {
        self.accounts.of_key(&self.namespace, consumers, key)
    }

    /// Where the caller's record is and what it is charged under, and the same for its address.
    pub fn accounts(&self, caller: &Caller<'_>, charging: &Charging) -> Option<(Rc<Account>, Option<Rc<Account>>)> {
        self.accounts.of(&self.namespace, caller, charging)
    }

    /// Counts a response's usage in the metrics of the caller's plan and model; whether that was estimated, because nothing said it. Once a
    /// response, with the caller's own account: those of addresses have no such metrics.
    pub fn count_usage(&self, host: &impl Metrics, account: &Account, usage: &Usage, estimated: bool) {
        if let Some(tokens) = &account.tokens {
            tokens.count(host, usage, estimated);
        }
    }

    /// Decides one record, whatever it was decided last or charged ahead, and charges it if the mode is such.
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
        let decided = self.change_record(host, account, cost, (now, mode), 1, None)?;
        Ok(decided.into_outcome(cost, now))
    }

    /// Decides one record, and charges it.
    ///
    /// # Errors
    /// When the shared data fails; nothing has been charged then.
    #[inline(always)]
    pub fn charge(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        cost: &Cost,
        now: Timestamp,
    ) -> Result<Charged, StoreError> {
        let Account { terms, place, .. } = account;
        let (mut asked, mut first) = (1, None);
        if let Place::Own(consumer, key) = place
            && !terms.limits.is_empty()
        {
            if self.leases.lifetime().is_some() {
                match self.leases.find(*consumer, terms, cost.requests, now) {
                    Found::Unit(tightest, charged_at) => return Ok(Charged::Passed(tightest, charged_at)),
                    Found::Nothing(size, over) => asked = self.lease_for(host, *consumer, size, over, now),
                }
            }
            if account.exhausted.borrow().is_some() {
                match self.deny_again(host, account, key, cost, now)? {
                    Ok((standing, wait)) => return Ok(Charged::DeniedAgain(standing, wait)),
                    Err(read) => first = Some(read),
                }
            } else if asked == 1 {
                let mut record = self.record.borrow_mut();
                let passed = store::rewrite(host, key, &mut record, |stored, record| {
                    record.clear();
                    record.extend_from_slice(stored);
                    limiter::pass(record, &terms.limits, cost, now, self.tells)
                });
                match passed? {
                    Ok(Changed { answer: tightest, conflicts }) => {
                        host.add_to(self.meters.conflicts, conflicts);
                        self.leases.keep((*consumer, key), terms, (cost.requests, 1), tightest, (now, now));
                        return Ok(Charged::Passed(tightest, now));
                    }
                    Err(read) => first = Some(read),
                }
            }
        }
        self.change_record(host, account, cost, (now, Mode::Charge), asked, first)
    }

    /// Denies a request as the last one was, or tells what was read of the record.
    #[inline(never)]
    fn deny_again(
        &self,
        data: &impl SharedData,
        account: &Account,
        key: &[u8],
        cost: &Cost,
        now: Timestamp,
    ) -> Result<Result<(Standing, u64), Unchanged>, StoreError> {
        let mut exhausted = account.exhausted.borrow_mut();
        let denial = exhausted.as_ref().and_then(|exhausted| exhausted.denies(cost, now));
        let (Some(exhausted), Some(denial)) = (exhausted.as_mut(), denial) else {
            return Ok(Err(store::read(data, key)?));
        };
        if !self.gives_back && exhausted.seen_lately(now) {
            return Ok(Ok(denial));
        }
        let read = store::read(data, key)?;
        Ok(if exhausted.is_still(read.value(), now) { Ok(denial) } else { Err(read) })
    }

    /// For how many requests to charge, where a lease is worth `size` of them; gives back one that is over.
    #[inline(never)]
    fn lease_for(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        consumer: usize,
        size: u64,
        over: Option<Lease>,
        now: Timestamp,
    ) -> u64 {
        let asked = if self.leases.has_room(consumer, now) { size } else { 1 };
        if let Some(over) = over {
            // What cannot be given back stays charged: never fresher.
            let _ = self.give_back(host, &over, now);
        }
        asked
    }

    /// Decides one record where it is stored, and stores what becomes of it if the mode is such; `asked`: for how many requests to charge, `first`:
    /// what was read of it already.
    #[inline(never)]
    fn change_record(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        account: &Account,
        cost: &Cost,
        (now, mode): (Timestamp, Mode),
        asked: u64,
        first: Option<Unchanged>,
    ) -> Result<Charged, StoreError> {
        let Account { terms, place, .. } = account;
        let (consumer, key) = match place {
            _ if terms.limits.is_empty() => return Ok(Charged::Passed(None, now)),
            Place::Own(consumer, key) => (*consumer, key),
            Place::Table { hash, counters } => {
                return self.change_table(host, terms, (u64::from_le_bytes(*hash), counters), cost, (now, mode));
            }
        };
        let transition = |bytes: &[u8]| {
            let mut decided = self.decide_own(host, account, bytes, cost, now, asked);
            let stored = decided.outcome.record.take().filter(|_| mode == Mode::Charge);
            (stored, decided)
        };
        let changed = match first {
            Some(first) => store::change_from(host, key, first, transition),
            None => store::change(host, key, transition),
        }?;
        let Decided { mut outcome, malformed, size } = *changed.answer;
        if mode == Mode::Charge && outcome.charged_all() {
            let tightest = outcome.share_of_lease(cost, size).filter(|_| self.tells);
            let charged_at = outcome.reservation.charged_at;
            self.leases.keep((consumer, key), terms, (cost.requests, size), tightest, (now, charged_at));
        }
        host.add_to(self.meters.conflicts, changed.conflicts);
        self.count_record(host, &outcome, malformed);
        Ok(Charged::Decided(Box::new(outcome)))
    }

    /// Decides a stored record of its own.
    #[inline(never)]
    fn decide_own(
        &self,
        host: &impl Clock,
        account: &Account,
        stored: &[u8],
        cost: &Cost,
        now: Timestamp,
        asked: u64,
    ) -> Box<Decided> {
        let limits = &account.terms.limits;
        let rule = |id| self.rules.get(&id).copied();
        let (record, malformed) = match Record::decode(stored) {
            Ok(record) => (record.refreshed(&rule), false),
            Err(_) => (Record::default(), true),
        };
        let mut outcome = limiter::decide(&record, limits, cost, now);
        let mut decided_at = now;
        if let Some(later) = outcome.set_back.then(|| later(host, now)).flatten() {
            outcome = limiter::decide(&record, limits, cost, later);
            decided_at = later;
        }
        let mut size = 1;
        if asked > 1 && !outcome.set_back && outcome.charged_all() {
            size = self.leases.size(asked, &record, limits, cost.requests, now);
            if size > 1 {
                let all = Cost { requests: cost.requests.saturating_mul(size), ..*cost };
                outcome = limiter::decide(&record, limits, &all, now);
            }
        }
        let exhausted = Exhausted::by(&outcome, stored, limits, cost, decided_at);
        account.exhausted.replace(exhausted.map(Box::new));
        Box::new(Decided { outcome, malformed, size })
    }

    /// The same of a record in the table.
    fn change_table(
        &self,
        host: &(impl SharedData + Metrics + Clock),
        terms: &Terms,
        (hash, counters): (u64, &[CounterId]),
        cost: &Cost,
        (now, mode): (Timestamp, Mode),
    ) -> Result<Charged, StoreError> {
        let rule = |id| self.rules.get(&id).copied();
        let charge = Charge { hash, limits: &terms.limits, cost: *cost, counters };
        let ways = self.namespace.geometry().ways;
        let key = self.namespace.set(hash);
        let first = if mode == Mode::Charge {
            let mut buffer = self.record.borrow_mut();
            let passed = store::rewrite(host, &key, &mut buffer, |set, buffer| {
                table::pass(set, buffer, &charge, now, self.tells)
            });
            match passed? {
                Ok(Changed { answer: tightest, conflicts }) => {
                    host.add_to(self.meters.conflicts, conflicts);
                    return Ok(Charged::Passed(tightest, now));
                }
                Err(read) => read,
            }
        } else {
            store::read(host, &key)?
        };
        let changed = store::change_from(host, &key, first, |set| {
            let mut decided = table::decide(set, ways, &charge, &rule, now);
            if let Some(later) = decided.1.outcome.set_back.then(|| later(host, now)).flatten() {
                decided = table::decide(set, ways, &charge, &rule, later);
            }
            let (stored, outcome) = decided;
            (stored.filter(|_| mode == Mode::Charge), outcome)
        })?;
        host.add_to(self.meters.conflicts, changed.conflicts);
        let outcome = changed.answer;
        if mode == Mode::Charge {
            self.count_table(host, &outcome);
        }
        self.count_record(host, &outcome.outcome, outcome.malformed);
        Ok(Charged::Decided(Box::new(outcome.outcome)))
    }

    fn count_record(&self, host: &impl Metrics, outcome: &Outcome, malformed: bool) {
        host.add_to(self.meters.errors(Reason::Record), u32::from(malformed));
        host.add_to(self.meters.errors(Reason::RecordFull), u32::from(outcome.overfull));
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
                let hash = u64::from_le_bytes(*hash);
                let refund = |set: &[u8]| (table::refund(set, hash, limits, reservation, now), ());
                store::change(host, &self.namespace.set(hash), refund)?.conflicts
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
                let (hash, ways) = (u64::from_le_bytes(*hash), self.namespace.geometry().ways);
                let changed = store::change(host, &self.namespace.set(hash), |set| {
                    let (set, churn) = table::change(set, ways, (hash, counters), rule, now, transition);
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
        // What can never pass is not denied by what others had used.
        let denied = matches!(outcome.outcome.decision, Decision::Denied { wait: Wait::For(_), .. });
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

/// The host's time, if that is later: a worker that was held up has an old clock in hand, and the host's knows whether it was set back.
fn later(host: &impl Clock, now: Timestamp) -> Option<Timestamp> {
    host.now().ok().filter(|later| *later > now)
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

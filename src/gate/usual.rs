//! The usual way: nearly every request brings the key of a listed consumer, and passes. Where a configuration leaves nothing else to see to, that is
//! decided here by the same steps as elsewhere, in much less code, all of which would have to be fetched for each request.

use super::{Gate, Host, LLM};
use crate::account::{Account, Place};
use crate::config::Config;
use crate::cost::Cost;
use crate::key::Source;
use crate::limiter;
use crate::request::{Lines, Request};
use crate::store::Written;
use std::cell::Ref;

/// Where keys are, in configurations that have a usual way.
#[derive(Debug)]
pub(super) struct Usual(Box<str>);

/// After one that could not pass, so many requests of an account are decided at length at once.
const AT_LENGTH: u8 = 15;

/// How far a request came on it.
pub(super) enum Came<'g> {
    /// It passed, and is charged and counted.
    Through,
    /// It is of this account, which is not disabled; nothing is decided, charged or counted.
    To(Ref<'g, Account>),
    /// Nothing is known.
    Nowhere,
}

impl Usual {
    /// Of a configuration in which keys are in one header and every caller is listed, which has no rules, and under which nothing is said of a
    /// request that passes but that one did.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let [Source::Header(name)] = &*config.sources.from else {
            return None;
        };
        let nothing_else = config.rules.is_empty()
            && config.identity.is_none()
            && config.unlisted.is_none()
            && config.headers.is_empty()
            && !config.log_all
            && !config.consumer_metrics;
        nothing_else.then(|| Self(name.as_str().into()))
    }
}

impl Gate {
    /// Goes as far as it can.
    #[inline(always)]
    pub(super) fn go_usual_way(&self, request: &Request<'_, impl Host>) -> Came<'_> {
        let account = self.usual_way.as_ref().and_then(|usual| self.account_by(usual, request));
        let Some(account) = account else {
            return Came::Nowhere;
        };
        let passed = match self.ledger.leases().lifetime() {
            None => self.passes(request.host(), &account),
            Some(_) => self.passes_by_lease(request.host(), &account),
        };
        match passed {
            Some(()) => {
                request.host().count(account.terms.allowed);
                Came::Through
            }
            None => Came::To(account),
        }
    }

    #[inline(always)]
    fn account_by(&self, usual: &Usual, request: &Request<'_, impl Host>) -> Option<Ref<'_, Account>> {
        let Lines::One(value) = request.first_headers().ok()?.lines(&usual.0) else {
            return None;
        };
        // Spaces around it and commas are not looked for: no key that has any was ever learned, as this is where all of them were found.
        let account = self.memo.known(self.namespace().fingerprint(value))?;
        account.is_in_use().then_some(account)
    }

    /// `None`: nothing is charged. What was read is read again then, but not with each request: a record that does not let one pass, as it has
    /// counters of another configuration, say, is not tried with the next ones; and denials are
    /// [remembered](crate::exhausted).
    #[inline(always)]
    fn passes(&self, host: &impl Host, account: &Account) -> Option<()> {
        let Account { terms, place: Place::Own(_, name), exhausted, key: Some(key), .. } = account else {
            return None;
        };
        if terms.limits.is_empty() || (LLM && terms.counts_tokens()) || exhausted.borrow().is_some() {
            return None;
        }
        if let Some(fewer) = key.at_length.get().checked_sub(1) {
            key.at_length.set(fewer);
            return None;
        }
        let now = host.now().ok()?;
        let mut record = host.get(name).ok()?;
        let cost = Cost::requests(self.usual.cost);
        if limiter::pass(&mut record.value, &terms.limits, &cost, now, false).is_none() {
            key.at_length.set(AT_LENGTH);
            return None;
        }
        match host.set(name, &record.value, record.version).ok()? {
            Written::Stored => Some(()),
            Written::Conflict => {
                host.count(self.ledger.meters().conflicts);
                None
            }
        }
    }

    /// By a unit that was charged ahead. `None`: there is none; it is taken, or one that is over given back, at length.
    #[inline(never)]
    fn passes_by_lease(&self, host: &impl Host, account: &Account) -> Option<()> {
        let Account { terms, place: Place::Own(consumer, _), .. } = account else {
            return None;
        };
        let leases = self.ledger.leases();
        // The clock is not asked in vain.
        let now = if leases.may_have_unit(*consumer) { host.now().ok()? } else { return None };
        leases.use_unit(*consumer, terms, self.usual.cost, now).then_some(())
    }
}

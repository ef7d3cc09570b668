//! The gate: the way of one request through the core, from its head to the verdict.

mod bodies;
mod telling;
mod usual;

use crate::account::Account;
#[cfg(feature = "llm")]
use crate::bill::Bill;
use crate::caller::{self, Caller, Who};
use crate::config::Config;
use crate::cost::Cost;
use crate::decision::Decision;
use crate::key::{ApiKey, Found};
use crate::ledger::{Charged, Clock, Ledger, Mode};
use crate::limiter::{self, Outcome};
use crate::memo::Memo;
use crate::metrics::{Metric, Metrics, Outcome as Counted, Reason, Registry};
use crate::namespace::{Namespace, OpenError};
use crate::refusal::Refusal;
use crate::reply::{Reply, Said};
use crate::request::{Head, Request};
use crate::rule::{self, Applied, Charging, Model};
use crate::store::{HostError, SharedData, StoreError};
use crate::terms::Book;
use crate::waiting::{Waiting, Whole};
use crate::window::Timestamp;
use std::cell::Ref;
use std::num::NonZeroU64;
use std::rc::Rc;
use usual::{Came, Usual};

/// What the gate needs of the proxy while it looks at one request.
pub trait Host: Head + SharedData + Metrics + Clock {}

impl<H: Head + SharedData + Metrics + Clock> Host for H {}

/// An opened configuration: decides requests.
#[derive(Debug)]
pub struct Gate {
    config: Config,
    ledger: Ledger,
    /// The accounts of listed keys.
    memo: Memo<Account>,
    /// How requests are charged that no rule is for.
    usual: Charging,
    /// The way that nearly every request goes, where there is one.
    usual_way: Option<Usual>,
    /// What those were told who are denied.
    said: Said,
    /// By consumer's index; empty unless the configuration asks for them.
    consumers: Vec<[(Counted, Metric); 4]>,
}

/// What happens to a request, and what the access log can say of it.
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// `consumer=… plan=… limit=… decision=…`, of a denial or of every request, as the configuration has it.
    pub note: Option<Rc<str>>,
}

/// What happens to a request.
pub enum Action {
    /// It goes on to the upstream.
    Pass(Passed),
    /// It is answered at once.
    Refuse(Rc<Reply>),
    /// Its body decides: see [`Gate::decide`].
    Wait(Box<Waiting>),
}

/// A request that passed.
#[derive(Default)]
pub struct Passed {
    /// What there is to say about it on its response.
    told: Option<Box<telling::Told>>,
    /// What it still owes.
    #[cfg(feature = "llm")]
    pub bill: Option<Box<Bill>>,
}

/// What is known of a request's body.
#[derive(Clone, Copy)]
enum Content<'w> {
    /// There is none.
    None,
    /// It is still to come.
    Coming,
    /// It is there.
    Whole(&'w Whole),
}

/// An upstream's response: what there is to ask of it, and to put on it.
pub trait Response {
    /// All values of one of its headers, joined with `,`; `None` where it is absent. `name` is lower-case. Absence is cheap to learn.
    ///
    /// # Errors
    /// When the host refuses.
    fn header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError>;

    /// Adds a header, beside any of its name.
    ///
    /// # Errors
    /// When the host refuses.
    fn add(&self, name: &str, value: &str) -> Result<(), HostError>;

    /// Puts a header in place of any of its name.
    ///
    /// # Errors
    /// When the host refuses.
    fn replace(&self, name: &str, value: &str) -> Result<(), HostError>;
}

/// The build without it has none of this code.
const LLM: bool = cfg!(feature = "llm");

// === impl Content ===

impl Content<'_> {
    /// The same, and nothing where bodies are never seen.
    fn known(self) -> Self {
        if LLM { self } else { Self::None }
    }
}

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
        let namespace = Namespace::open(host, &config.namespace, config.geometry, random)?;
        let mut registry = Registry::default();
        let meters = registry.meters(host, &config.namespace);
        if let Some(gauge) = meters.geometry_kept {
            host.set_gauge(gauge, u64::from(namespace.geometry() != config.geometry));
        }
        let outcomes = [Counted::Allowed, Counted::Denied, Counted::ShadowDenied, Counted::Disabled];
        let listed = config.consumers.consumers().iter().filter(|_| config.consumer_metrics);
        let consumers = listed
            .map(|consumer| outcomes.map(|outcome| (outcome, registry.consumer(host, &consumer.name, outcome))))
            .collect();
        let book = Book::new(&config, registry, host);
        let memo = Memo::for_keys(config.consumers.keys());
        let ledger = Ledger::new(&config, namespace, book, meters);
        let (usual, usual_way) = (Charging::default(), Usual::of(&config));
        Ok(Self { config, ledger, memo, usual, usual_way, said: Said::default(), consumers })
    }

    /// The namespace it counts in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.ledger.namespace()
    }

    /// How often leases are to be [given back](Self::give_back_leases), in nanoseconds, if there are any.
    #[must_use]
    pub fn lease(&self) -> Option<NonZeroU64> {
        self.ledger.leases().lifetime()
    }

    /// Gives back what is left of leases that are over, or of all of them.
    pub fn give_back_leases(&self, host: &impl Host, all: bool) {
        self.ledger.give_back_leases(host, all);
    }

    /// What to log once when this configuration is in force.
    #[must_use]
    pub fn announcement(&self) -> Vec<(log::Level, String)> {
        let Config { namespace, plans, consumers, geometry, .. } = &self.config;
        let (version, plans, consumers) = (env!("CARGO_PKG_VERSION"), plans.len(), consumers.consumers().len());
        let text = format!("allowance {version}: namespace {namespace}, plans: {plans}, consumers: {consumers}");
        let mut lines = vec![(log::Level::Info, text)];
        let in_force = self.namespace().geometry();
        if in_force != *geometry {
            let (kept, asked) = (in_force.keys(), geometry.keys());
            let text =
                format!("max_tracked_keys stays {kept} until a restart, not {asked}: the table cannot be resized");
            lines.push((log::Level::Warn, text));
        }
        lines
    }

    /// Decides a request without a body, or whose body does not matter. Exactly one decision is counted.
    #[must_use]
    pub fn admit(&self, host: &impl Host) -> Verdict {
        self.admit_with(&Request::new(host), Content::None)
    }

    /// Decides a request by its head, unless its body decides: then nothing is decided, charged or counted yet.
    #[must_use]
    pub fn meet(&self, host: &impl Host) -> Verdict {
        self.admit_with(&Request::new(host), Content::Coming)
    }

    /// Decides a request whose body is there, as far as it is read. Exactly one decision is counted.
    #[must_use]
    pub fn decide(&self, host: &impl Host, waiting: Waiting) -> Verdict {
        let whole = waiting.whole();
        self.admit_with(&Request::of(host, whole.headers.clone()), Content::Whole(&whole))
    }

    #[inline(always)]
    fn admit_with(&self, request: &Request<'_, impl Host>, content: Content<'_>) -> Verdict {
        match self.go_usual_way(request) {
            Came::Through => Verdict { action: Action::Pass(Passed::default()), note: None },
            Came::To(account) => match account.caller(&self.config.consumers) {
                Some(caller) => self.charge_one(request, &caller, &account, &self.usual, content),
                None => self.admit_any(request, content),
            },
            Came::Nowhere => self.admit_any(request, content),
        }
    }

    #[inline(never)]
    fn admit_any(&self, request: &Request<'_, impl Host>, content: Content<'_>) -> Verdict {
        let content = content.known();
        if !self.config.rules.is_empty() {
            return self.admit_by_rules(request, content);
        }
        self.admit_under(request, &self.usual, content)
    }

    #[inline(never)]
    fn admit_by_rules(&self, request: &Request<'_, impl Host>, content: Content<'_>) -> Verdict {
        match self.applied(request, content) {
            Ok(Ok(Applied::Charge(charging))) => self.admit_under(request, &charging, content),
            Ok(Ok(Applied::Exempt)) => self.pass_exempt(request),
            Ok(Err(verdict)) => verdict,
            Err(error) => self.undecided(request, error),
        }
    }

    /// Most requests have the key of a listed consumer, and what they come to is not put together with what others do: it is little.
    fn admit_under(&self, request: &Request<'_, impl Host>, charging: &Charging, content: Content<'_>) -> Verdict {
        let config = &self.config;
        if let Some(identity) = &config.identity {
            let who = caller::by_identity(config, self.namespace(), identity, request);
            return self.admit_caller(request, who, charging, content);
        }
        let found = match config.sources.find(request) {
            Ok(found) => found,
            Err(error) => return self.undecided(request, StoreError::Host(error)),
        };
        let mut known = None;
        if let Found::Key(key) = &found {
            known = self.known(key);
            if let Some(account) = &known
                && charging.is_usual()
                && let Some(caller) = account.caller(&config.consumers)
            {
                return self.charge_one(request, &caller, account, charging, content);
            }
        }
        let listed = known.and_then(|account| Some(account.key.as_ref()?.index));
        let who = caller::by_key(config, self.namespace(), (found, listed), request);
        self.admit_caller(request, who, charging, content)
    }

    /// The account of a listed key.
    #[inline]
    fn known(&self, key: &ApiKey<'_>) -> Option<Ref<'_, Account>> {
        match self.config.consumers.keys() {
            0 => None,
            _ => self.memo.recall(self.namespace().fingerprint(key.as_bytes()), || self.first_seen(key)),
        }
    }

    #[inline(never)]
    fn first_seen(&self, key: &ApiKey<'_>) -> Option<Account> {
        let consumers = &self.config.consumers;
        self.ledger.account_of_key(consumers, consumers.find(key)?)
    }

    /// Whoever it is.
    #[inline(never)]
    fn admit_caller(
        &self,
        request: &Request<'_, impl Host>,
        who: Result<Who<'_>, HostError>,
        charging: &Charging,
        content: Content<'_>,
    ) -> Verdict {
        let refusal = match who {
            Ok(Who::Caller(caller)) => return self.charge_any(request, &caller, charging, content),
            Ok(Who::Preflight) => return self.pass_exempt(request),
            Ok(Who::Missing | Who::Empty) => Refusal::MissingKey,
            Ok(Who::Unknown) => Refusal::InvalidKey,
            Ok(Who::Ambiguous) => Refusal::AmbiguousKey,
            Ok(Who::Disabled { index, key }) => {
                self.count_consumer(request.host(), index, Counted::Disabled);
                if key { Refusal::KeyDisabled } else { Refusal::ConsumerDisabled }
            }
            Err(error) => return self.undecided(request, StoreError::Host(error)),
        };
        self.refuse(request, refusal)
    }

    /// What the rules make of it, or that it has to wait for its body first.
    #[inline(never)]
    fn applied(
        &self,
        request: &Request<'_, impl Host>,
        content: Content<'_>,
    ) -> Result<Result<Applied, Verdict>, StoreError> {
        let (rules, headers) = (&self.config.rules, request.headers().map_err(StoreError::Host)?);
        if !LLM || !rule::needs_model(rules, headers) {
            return Ok(Ok(rule::apply(rules, headers, Model::None)));
        }
        if let Some(name) = self.model(headers) {
            return Ok(Ok(rule::apply(rules, headers, Model::Named(&name))));
        }
        let model = match content {
            Content::Coming => return Ok(Err(self.wait(request))),
            Content::None => Model::None,
            Content::Whole(Whole { ask: None, .. }) => Model::Unreadable,
            Content::Whole(Whole { ask: Some(ask), .. }) => {
                ask.model.as_deref().map_or(Model::None, |name| Model::Named(name.as_bytes()))
            }
        };
        Ok(Ok(rule::apply(rules, headers, model)))
    }

    fn charge_any(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        charging: &Charging,
        content: Content<'_>,
    ) -> Verdict {
        let Some((account, guard)) = self.ledger.accounts(caller, charging) else {
            // A valid configuration has terms for every caller that it lets in.
            return self.refuse(request, Refusal::Unavailable);
        };
        if let Caller::Unlisted { unknown_plan: true, .. } = caller {
            request.host().count(self.ledger.meters().errors(Reason::UnknownPlan));
        }
        match guard {
            Some(guard) => {
                let verdict = self.charge_both(request, caller, (account, guard), charging, content);
                verdict.unwrap_or_else(|error| self.undecided(request, error))
            }
            None => self.charge_one(request, caller, &account, charging, content),
        }
    }

    /// What a request costs of which so much is known.
    fn cost(&self, charging: &Charging, content: Content<'_>) -> Cost {
        Cost { requests: charging.cost, estimate: self.estimate(content), token_cost: charging.token_cost }
    }

    /// Charges one record.
    #[inline(never)]
    fn charge_one(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        account: &Account,
        charging: &Charging,
        content: Content<'_>,
    ) -> Verdict {
        let (host, content) = (request.host(), content.known());
        let metered = LLM && account.terms.counts_tokens();
        if matches!(content, Content::Coming) && metered {
            return self.wait(request);
        }
        let cost = self.cost(charging, content);
        let mut now = Timestamp::default();
        if !account.terms.limits.is_empty() {
            match host.now() {
                Ok(time) => now = time,
                Err(error) => return self.undecided(request, StoreError::Host(error)),
            }
        }
        match self.ledger.charge(host, account, &cost, now) {
            Ok(Charged::Passed(tightest, _)) => self.pass(request, caller, account, tightest, now),
            Ok(Charged::DeniedAgain(standing, wait)) => {
                self.deny_again(request, caller, account, (standing, wait), now)
            }
            Ok(Charged::Decided(outcome)) => {
                let verdict = self.conclude(request, caller, account, &outcome, None, (cost, now));
                if !metered {
                    return verdict;
                }
                self.billed(verdict, content, vec![(account.clone(), outcome.reservation)])
            }
            Err(error) => self.undecided(request, error),
        }
    }

    /// Charges somebody who is not listed, and its address.
    fn charge_both(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        (account, guard): (Rc<Account>, Rc<Account>),
        charging: &Charging,
        content: Content<'_>,
    ) -> Result<Verdict, StoreError> {
        let (host, content) = (request.host(), content.known());
        let metered = LLM && (account.terms.counts_tokens() || guard.terms.counts_tokens());
        if matches!(content, Content::Coming) && metered {
            return Ok(self.wait(request));
        }
        let cost = self.cost(charging, content);
        let now = host.now().map_err(StoreError::Host)?;
        let address = self.ledger.decide(host, &guard, &cost, now, Mode::Charge)?;
        if let Decision::Denied { wait: address_wait, .. } = address.decision {
            // The key's own limits may take longer: then these are what the caller has to wait for.
            let own = self.ledger.decide(host, &account, &cost, now, Mode::Look)?;
            return Ok(match own.decision {
                Decision::Denied { wait, .. } if limiter::longer(wait, address_wait) => {
                    self.conclude(request, caller, &account, &own, None, (cost, now))
                }
                _ => self.conclude(request, caller, &guard, &address, None, (cost, now)),
            });
        }
        let charged = self.ledger.decide(host, &account, &cost, now, Mode::Charge);
        if !matches!(&charged, Ok(Outcome { decision: Decision::Allowed { .. }, .. })) {
            // A refund that is lost to the same trouble leaves the address charged: never fresher.
            let _ = host.now().map(|now| self.ledger.refund(host, &guard, &address.reservation, now));
        }
        let charged = charged?;
        let verdict = self.conclude(request, caller, &account, &charged, Some((&guard, &address)), (cost, now));
        if !metered {
            return Ok(verdict);
        }
        let charged = [((*account).clone(), charged.reservation), ((*guard).clone(), address.reservation)];
        Ok(self.billed(verdict, content, charged.into()))
    }
}

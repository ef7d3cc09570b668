//! The gate: the way of one request through the core, from its head to the verdict.

mod bodies;

use crate::bill::Bill;
use crate::caller::{self, Caller, Who};
use crate::config::{Config, FailureMode};
use crate::cost::Cost;
use crate::counter::Wait;
use crate::decision::{Decision, Standing};
use crate::dialect::Asked;
use crate::digits::Digits;
use crate::fields::Fields;
use crate::headers::{Groups, Style};
use crate::key::Found;
use crate::ledger::{Account, Charged, Clock, Ledger, Mode};
use crate::limiter::{self, Outcome};
use crate::memo::Memo;
use crate::metrics::{Metric, Metrics, NONE, Outcome as Counted, Reason, Registry};
use crate::namespace::{Namespace, OpenError};
use crate::refusal::{Exceeded, Pause, Refusal};
use crate::reply::{Form, Last, Reply, Said, Saying};
use crate::request::{Head, Request};
use crate::rule::{self, Applied, Charging, Model};
use crate::store::{self, HostError, SharedData, StoreError};
use crate::terms::{Book, Terms};
use crate::waiting::{Waiting, Whole};
use crate::window::Timestamp;
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::rc::Rc;

/// What the gate needs of the proxy while it looks at one request.
pub trait Host: Head + SharedData + Metrics + Clock {}

impl<H: Head + SharedData + Metrics + Clock> Host for H {}

/// An opened configuration: decides requests.
#[derive(Debug)]
pub struct Gate {
    config: Config,
    ledger: Ledger,
    memo: Memo,
    /// How requests are charged that no rule is for.
    usual: Charging,
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
    pub note: Option<String>,
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
    told: Option<Box<Told>>,
    /// What it still owes.
    #[cfg(feature = "llm")]
    pub bill: Option<Box<Bill>>,
}

/// How a request's limits stand, and how that is told.
struct Told {
    terms: Rc<Terms>,
    standing: Standing,
    others: Vec<Standing>,
    style: Style,
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

/// What there is to ask of an upstream's response.
pub trait Response {
    /// All values of one of its headers, joined with `,`; `None` where it is absent. `name` is lower-case. Absence is cheap to learn.
    ///
    /// # Errors
    /// When the host refuses.
    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError>;
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
        Ok(Self { config, ledger, memo, usual: Charging::default(), said: Said::default(), consumers })
    }

    /// The namespace it counts in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.ledger.namespace()
    }

    /// How often leases are to be [given back](Self::give_back_leases), in nanoseconds, if there are any.
    #[must_use]
    pub fn lease(&self) -> Option<NonZeroU64> {
        self.ledger.lease()
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

    fn admit_with(&self, request: &Request<'_, impl Host>, content: Content<'_>) -> Verdict {
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
            known = caller::recall(config, self.namespace(), &self.memo, key);
            if let Some((index, consumer, listed)) = known.and_then(|known| config.consumers.enabled(known))
                && charging.is_usual()
                && let Some(account) = self.ledger.usual_account(index, consumer)
            {
                let caller = Caller::Listed { index, consumer, key: Some(listed) };
                return self.charge_one(request, &caller, account, charging, content);
            }
        }
        let who = caller::by_key(config, self.namespace(), (found, known), request);
        self.admit_caller(request, who, charging, content)
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
        account: &Rc<Account>,
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
        Ok(self.billed(verdict, content, vec![(account, charged.reservation), (guard, address.reservation)]))
    }

    /// Counts a request that passed, and says what its response is told.
    #[inline]
    fn pass(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        account: &Account,
        tightest: Option<Standing>,
        now: Timestamp,
    ) -> Verdict {
        let terms = &account.terms;
        request.host().count(terms.allowed);
        self.count_caller(request.host(), caller, Counted::Allowed);
        let note = self.config.log_all.then(|| note(caller, terms, None, Counted::Allowed));
        let told = tightest.and_then(|standing| self.told(request, caller, terms, standing, &[], now));
        Verdict { action: Action::Pass(Passed::telling(told)), note }
    }

    /// What the response to a request that passed is told of its limits.
    fn told(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        terms: &Rc<Terms>,
        standing: Standing,
        others: &[Standing],
        now: Timestamp,
    ) -> Option<Box<Told>> {
        if self.config.headers.is_empty() {
            return None;
        }
        let style = self.style(request, caller, now);
        Some(Box::new(Told { terms: terms.clone(), standing, others: others.to_vec(), style }))
    }

    /// Counts the decision, and says what happens.
    fn conclude(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        account: &Account,
        charged: &Outcome,
        address: Option<(&Account, &Outcome)>,
        (cost, now): (Cost, Timestamp),
    ) -> Verdict {
        let (host, terms) = (request.host(), &account.terms);
        // Of an allowed request, what its address would have been denied is told if the key has nothing to tell.
        let shadow = |charged: &Outcome| match charged.decision {
            Decision::Allowed { shadow_denied, .. } => shadow_denied,
            Decision::Denied { .. } => None,
        };
        let of_address = address.and_then(|(account, charged)| Some((&account.terms, shadow(charged)?)));
        let (outcome, by, limit) = match charged.decision {
            Decision::Denied { standing, .. } => (Counted::Denied, terms, Some(standing.limit)),
            Decision::Allowed { shadow_denied: Some(limit), .. } => (Counted::ShadowDenied, terms, Some(limit)),
            Decision::Allowed { shadow_denied: None, .. } => match of_address {
                Some((by, limit)) => (Counted::ShadowDenied, by, Some(limit)),
                None => (Counted::Allowed, terms, None),
            },
        };
        host.count(limit.map_or(by.allowed, |limit| by.refused.get(limit).copied().flatten()));
        self.count_caller(host, caller, outcome);
        let note = (self.config.log_all || outcome == Counted::Denied).then(|| note(caller, by, limit, outcome));
        let action = match charged.decision {
            Decision::Allowed { tightest, .. } => {
                let told =
                    tightest.and_then(|standing| self.told(request, caller, terms, standing, &charged.others, now));
                Action::Pass(Passed::telling(told))
            }
            Decision::Denied { standing, wait } => {
                let cost = terms.limits.get(standing.limit).map_or(0, |limit| limit.demand(&cost).needed);
                let told = (&**terms, standing, &*charged.others);
                let asked = Self::asked(request);
                Action::Refuse(self.deny(self.form(&asked), caller, told, (cost, wait), now))
            }
        };
        Verdict { action, note }
    }

    /// A caller is denied by the same limit again: it is counted, and told what it was told.
    #[inline(never)]
    fn deny_again(
        &self,
        request: &Request<'_, impl Host>,
        caller: &Caller<'_>,
        account: &Account,
        (standing, wait): (Standing, u64),
        now: Timestamp,
    ) -> Verdict {
        let (host, terms) = (request.host(), &account.terms);
        host.count(terms.refused.get(standing.limit).copied().flatten());
        self.count_caller(host, caller, Counted::Denied);
        let asked = Self::asked(request);
        let form = self.form(&asked);
        let pause = Pause::of(wait);
        let milliseconds = Digits::of(pause.milliseconds());
        let saying = Saying::of(&self.config.denial, form, &standing, pause, &milliseconds);
        let kept = match caller {
            Caller::Listed { index, .. } => saying.map(|saying| (*index, caller.key_name(), saying)),
            Caller::Unlisted { .. } => None,
        };
        if let Some((index, key, saying)) = &kept
            && let Some((reply, note)) = self.said.again((*index, *key), saying, &milliseconds)
        {
            return Verdict { action: Action::Refuse(reply), note: Some(note) };
        }
        let note = note(caller, terms, Some(standing.limit), Counted::Denied);
        let reply = self.deny(form, caller, (terms, standing, &[]), (1, Wait::For(wait)), now);
        if let Some((consumer, key, saying)) = kept {
            let (reply, note) = (reply.clone(), note.clone());
            self.said.keep(Last { consumer, saying, reply, note, key: key.map(Into::into) });
        }
        Verdict { action: Action::Refuse(reply), note: Some(note) }
    }

    /// Not inlined: what passes would pay for its room on the stack.
    #[inline(never)]
    fn deny(
        &self,
        form: Form<'_>,
        caller: &Caller<'_>,
        (terms, standing, others): (&Terms, Standing, &[Standing]),
        (cost, wait): (u64, Wait),
        now: Timestamp,
    ) -> Rc<Reply> {
        let denial = &self.config.denial;
        let told = if Exceeded::concerns_caller(denial) { caller.told(self.namespace()) } else { String::new() };
        let exceeded = Exceeded { denial, terms, standing, others, cost, wait, caller: &told };
        let partition = self.partition(caller);
        let style = Style { ratelimit: true, x_ratelimit: true, provider: form.dialect.left, partition, now };
        let reply = Reply::denial(&exceeded, form, &style);
        reply.unwrap_or_else(|| Reply::refusal(Refusal::Unavailable, &self.config, form))
    }

    #[inline(never)]
    fn pass_exempt(&self, request: &Request<'_, impl Host>) -> Verdict {
        request.host().count(self.ledger.meters().requests(Counted::Exempt));
        Verdict { action: Action::Pass(Passed::default()), note: self.note_without_caller(Counted::Exempt) }
    }

    #[inline(never)]
    fn refuse(&self, request: &Request<'_, impl Host>, refusal: Refusal) -> Verdict {
        let outcome = match refusal {
            Refusal::MissingKey | Refusal::InvalidKey => Counted::Unauthorized,
            Refusal::AmbiguousKey => Counted::Invalid,
            Refusal::ConsumerDisabled | Refusal::KeyDisabled => Counted::Disabled,
            Refusal::Unavailable => Counted::Error,
        };
        request.host().count(self.ledger.meters().requests(outcome));
        let asked = Self::asked(request);
        let reply = Reply::refusal(refusal, &self.config, self.form(&asked));
        Verdict { action: Action::Refuse(reply), note: self.note_without_caller(outcome) }
    }

    /// The failure mode. Lost races are not left to it: whoever makes a record contended must not pass for that.
    #[inline(never)]
    fn undecided(&self, request: &Request<'_, impl Host>, error: StoreError) -> Verdict {
        let reason = match error {
            StoreError::Host(error) => {
                log::debug!("cannot decide: {error}");
                Reason::Host
            }
            StoreError::Contended => {
                request.host().add_to(self.ledger.meters().conflicts, store::ATTEMPTS);
                Reason::Contention
            }
        };
        request.host().count(self.ledger.meters().errors(reason));
        match (reason, self.config.failure_mode) {
            (Reason::Host, FailureMode::Allow) => {
                request.host().count(self.ledger.meters().requests(Counted::Error));
                Verdict { action: Action::Pass(Passed::default()), note: self.note_without_caller(Counted::Error) }
            }
            _ => self.refuse(request, Refusal::Unavailable),
        }
    }

    /// What the request asks for, to answer it. Asks the host for all headers, once: refusals only, and responses with a provider's fields.
    fn asked<'a>(request: &'a Request<'_, impl Host>) -> Asked<'a> {
        Asked::new(request.headers_or_none())
    }

    /// How the request is answered if it is refused.
    fn form<'a>(&self, asked: &'a Asked<'a>) -> Form<'a> {
        let format =
            rule::format(&self.config.rules, asked.headers(), Model::None).unwrap_or(self.config.denial.format);
        Form { dialect: format.dialect(asked), asked }
    }

    /// The header fields of an allowed response.
    fn style(&self, request: &Request<'_, impl Host>, caller: &Caller<'_>, now: Timestamp) -> Style {
        let families = self.config.headers;
        let provider = families.provider.then(|| self.form(&Self::asked(request)).dialect.left).flatten();
        let partition = self.partition(caller);
        Style { ratelimit: families.ratelimit, x_ratelimit: families.x_ratelimit, provider, partition, now }
    }

    /// The caller's partition key, where it is told.
    fn partition(&self, caller: &Caller<'_>) -> Option<u64> {
        self.config.partition_key.then(|| caller.partition(self.namespace()))
    }

    fn note_without_caller(&self, outcome: Counted) -> Option<String> {
        let note = || format!("consumer={NONE} plan={NONE} limit={NONE} decision={}", outcome.label());
        self.config.log_all.then(note)
    }

    /// In the consumer's own metric, if it has one.
    #[inline]
    fn count_caller(&self, host: &impl Metrics, caller: &Caller<'_>, outcome: Counted) {
        if self.config.consumer_metrics
            && let Caller::Listed { index, .. } = caller
        {
            self.count_consumer(host, *index, outcome);
        }
    }

    fn count_consumer(&self, host: &impl Metrics, index: usize, outcome: Counted) {
        let metrics = self.consumers.get(index).and_then(|metrics| metrics.iter().find(|(of, _)| *of == outcome));
        if let Some((_, metric)) = metrics {
            host.count(*metric);
        }
    }
}

/// What the access log can say of a decision. Put together from its pieces: every denial has one, and formatting takes several times as long.
#[inline(never)]
fn note(caller: &Caller<'_>, by: &Terms, limit: Option<usize>, outcome: Counted) -> String {
    let limit = limit.and_then(|limit| by.limits.get(limit)).map_or(NONE, |limit| &limit.label);
    let (name, key) = match caller {
        Caller::Listed { consumer, .. } => (Cow::Borrowed(&*consumer.name), caller.key_name()),
        Caller::Unlisted { .. } => (caller.to_string().into(), None),
    };
    let (before_key, key) = key.map_or(("", ""), |key| (" key=", key));
    let mut note = String::with_capacity(160);
    for piece in
        ["consumer=", &name, " plan=", &by.plan, " limit=", limit, " decision=", outcome.label(), before_key, key]
    {
        note.push_str(piece);
    }
    note
}

// === impl Passed ===

impl Passed {
    /// Owes nothing yet.
    fn telling(told: Option<Box<Told>>) -> Self {
        Self {
            told,
            #[cfg(feature = "llm")]
            bill: None,
        }
    }

    #[cfg(feature = "llm")]
    fn owe(&mut self, bill: Bill) {
        self.bill = Some(Box::new(bill));
    }

    #[cfg(not(feature = "llm"))]
    fn owe(&mut self, _: Bill) {}

    /// Whether there may be any fields to put on the response.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// The header fields to put on the response.
    #[must_use]
    pub fn told(&self, response: &impl Response) -> Groups {
        let Some(Told { terms, standing, others, style }) = self.told.as_deref() else {
            return Groups::default();
        };
        // The policy, and numbers.
        let mut told = Groups::beside_upstream(Fields::with_capacity(8, terms.policy.len().saturating_add(128)));
        terms.tell(style, standing, others, &mut told);
        told.retain_beside(|name| response.response_header(name));
        told
    }
}

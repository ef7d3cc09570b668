//! What of the gate's work is saying what was decided: in metrics, to access logs, and to callers, on the response of what passes or in the reply
//! to what does not.

use super::{Action, Gate, Host, Passed, Response, Verdict};
use crate::account::Account;
use crate::bill::Bill;
use crate::caller::Caller;
use crate::config::FailureMode;
use crate::cost::Cost;
use crate::counter::Wait;
use crate::decision::{Decision, Standing};
use crate::dialect::Asked;
use crate::fields::Fields;
use crate::headers::{Groups, Style};
use crate::limiter::Outcome;
use crate::metrics::{Metrics, NONE, Outcome as Counted, Reason};
use crate::refusal::{Exceeded, Pause, Refusal};
use crate::reply::{Form, Reply, Saying};
use crate::request::Request;
use crate::rule::{self, Model};
use crate::store::{self, HostError, StoreError};
use crate::terms::Terms;
use crate::window::Timestamp;
use std::borrow::Cow;
use std::rc::Rc;

/// How a request's limits stand, and how that is told.
pub(super) struct Told {
    terms: Rc<Terms>,
    standing: Standing,
    others: Vec<Standing>,
    style: Style,
}

// === impl Gate ===

impl Gate {
    /// Counts a request that passed, and says what its response is told.
    #[inline]
    pub(super) fn pass(
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
    pub(super) fn conclude(
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
    pub(super) fn deny_again(
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
        let saying = Saying::of(&self.config.denial, form, &standing, Pause::of(wait));
        let kept = match caller {
            Caller::Listed { index, .. } => saying.map(|saying| ((*index, caller.key_name()), saying)),
            Caller::Unlisted { .. } => None,
        };
        if let Some((who, saying)) = &kept
            && let Some((reply, note)) = self.said.again(*who, saying)
        {
            return Verdict { action: Action::Refuse(reply), note: Some(note) };
        }
        let note = note(caller, terms, Some(standing.limit), Counted::Denied);
        let reply = self.deny(form, caller, (terms, standing, &[]), (1, Wait::For(wait)), now);
        if let Some((who, saying)) = kept {
            self.said.keep(who, saying, &reply, &note);
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
    pub(super) fn pass_exempt(&self, request: &Request<'_, impl Host>) -> Verdict {
        request.host().count(self.ledger.meters().requests(Counted::Exempt));
        Verdict { action: Action::Pass(Passed::default()), note: self.note_without_caller(Counted::Exempt) }
    }

    #[inline(never)]
    pub(super) fn refuse(&self, request: &Request<'_, impl Host>, refusal: Refusal) -> Verdict {
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
    pub(super) fn undecided(&self, request: &Request<'_, impl Host>, error: StoreError) -> Verdict {
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

    fn note_without_caller(&self, outcome: Counted) -> Option<Rc<str>> {
        let note = || format!("consumer={NONE} plan={NONE} limit={NONE} decision={}", outcome.label()).into();
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

    pub(super) fn count_consumer(&self, host: &impl Metrics, index: usize, outcome: Counted) {
        let metrics = self.consumers.get(index).and_then(|metrics| metrics.iter().find(|(of, _)| *of == outcome));
        if let Some((_, metric)) = metrics {
            host.count(*metric);
        }
    }
}

/// What the access log can say of a decision. Put together from its pieces: every denial has one, and formatting takes several times as long.
#[inline(never)]
fn note(caller: &Caller<'_>, by: &Terms, limit: Option<usize>, outcome: Counted) -> Rc<str> {
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
    note.into()
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
    pub(super) fn owe(&mut self, bill: Bill) {
        self.bill = Some(Box::new(bill));
    }

    #[cfg(not(feature = "llm"))]
    pub(super) fn owe(&mut self, _: Bill) {}

    /// Whether there may be any fields to put on the response.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Puts the header fields on the response.
    pub fn tell(&self, response: &impl Response) {
        let Some(Told { terms, standing, others, style }) = self.told.as_deref() else {
            return;
        };
        terms.tell_lists(style, standing, &mut |name, value| done(name, response.add(name, value)));
        if style.has_groups() {
            let mut told = Groups::beside_upstream(Fields::with_capacity(8, 128));
            terms.tell_numbers(style, standing, others, &mut told);
            told.retain_beside(|name| response.header(name));
            told.iter().for_each(|(name, value)| done(name, response.replace(name, value)));
        }
    }
}

/// Says what a response goes without.
fn done(name: &str, put: Result<(), HostError>) {
    if let Err(error) = put {
        log::debug!("response without {name}: {error}");
    }
}

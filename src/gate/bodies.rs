//! What of the gate's work has to do with bodies: which requests wait for theirs, what is estimated of them, and the bills of responses.

use super::{Action, Content, Gate, Host, Verdict};
use crate::account::Account;
use crate::ask::{ATTACHED_BYTES_PER_TOKEN, Answer, Ask, Target};
use crate::bill::{Asked, Bill, Closed};
use crate::cost::Estimate;
use crate::metrics::{Metrics, Reason};
use crate::request::{Headers, Request};
use crate::reservation::Reservation;
use crate::sip;
use crate::store::{SharedData, StoreError};
use crate::waiting::{Waiting, Whole};
use crate::window::{MILLISECOND, Timestamp};

// === impl Gate ===

impl Gate {
    /// The body of this request decides.
    pub(super) fn wait(&self, request: &Request<'_, impl Host>) -> Verdict {
        let headers = match request.headers() {
            Ok(headers) => headers.clone(),
            Err(error) => return self.undecided(request, StoreError::Host(error)),
        };
        let waiting = Waiting::new(headers, self.config.llm.max_body.into());
        Verdict { action: Action::Wait(Box::new(waiting)), note: None }
    }

    /// The model, where the head names it: what an earlier filter says before what the path does.
    pub(super) fn model(&self, headers: &Headers) -> Option<Vec<u8>> {
        let named = |name: &String| headers.first(name).filter(|model| !model.is_empty()).map(<[u8]>::to_vec);
        self.config
            .llm
            .model_header
            .as_ref()
            .and_then(named)
            .or_else(|| Target::of(headers).model.map(String::into_bytes))
    }

    /// The most tokens that a request can take; `None` where it takes none.
    pub(super) fn estimate(&self, content: Content<'_>) -> Option<Estimate> {
        let Content::Whole(Whole { target, ask, .. }) = content else {
            return None;
        };
        let llm = &self.config.llm;
        let Some(ask) = ask else {
            let (input, output) = (llm.default_input, llm.default_output);
            return (target.answer != Answer::Free).then_some(Estimate { input, output });
        };
        let estimate = || Estimate { input: self.input(ask), output: ask.output(target, llm.default_output) };
        ask.takes_tokens(target).then(estimate)
    }

    /// Tokens of input that a request has, estimated: text by the configured bytes for a token, attachments by more.
    fn input(&self, ask: &Ask) -> u64 {
        let text = self.config.llm.input_of(ask.size.saturating_sub(ask.attached));
        text.saturating_add(ask.attached.div_ceil(ATTACHED_BYTES_PER_TOKEN))
    }

    /// Opens the bill of a request that passed.
    pub(super) fn billed(
        &self,
        mut verdict: Verdict,
        content: Content<'_>,
        charged: Vec<(Account, Reservation)>,
    ) -> Verdict {
        if let Action::Pass(passed) = &mut verdict.action {
            let metered = match content {
                Content::Whole(Whole { target, .. }) => {
                    Asked { metered: true, most: self.estimate(content), text: target.answer == Answer::Text }
                }
                Content::None | Content::Coming => Asked::default(),
            };
            let splice = match content {
                Content::Whole(Whole { target, ask: Some(ask), .. }) if self.config.llm.ask_for_usage => {
                    ask.splice(target)
                }
                _ => None,
            };
            passed.owe(Bill::new(charged, metered, splice.cloned()));
        }
        verdict
    }

    /// The head of the response to a request that passed is there.
    pub fn answered(&self, bill: &mut Bill, status: u16, content_type: &[u8], content_encoding: &[u8]) {
        bill.answered(status, self.config.llm.gives_back(status), content_type, content_encoding);
    }

    /// Closes a bill: charges what the response took, or gives everything back. To be called once.
    pub fn settle(&self, host: &impl Host, bill: &mut Bill) {
        let closed = bill.close();
        let Ok(now) = host.now() else {
            host.count(self.ledger.meters().errors(Reason::Host));
            return;
        };
        // The caller's own account comes first.
        if let (Closed::Used { usage, estimated }, Some((account, _))) = (&closed, bill.charged.first()) {
            self.ledger.count_usage(host, account, usage, *estimated);
        }
        for (account, reservation) in bill.charged.drain(..) {
            let settled = match &closed {
                Closed::Refund => self.ledger.refund(host, &account, &reservation, now),
                Closed::Used { usage, .. } => self.ledger.settle(host, &account, reservation, Some(usage), now),
            };
            self.count_lost(host, settled);
        }
    }

    /// How often [`Gate::renew`] is to be asked for, in milliseconds; 0: never.
    #[must_use]
    pub fn renewal_period(&self) -> u32 {
        if !self.ledger.reserves() {
            return 0;
        }
        // A reservation lasts one to one and a half lifetimes, and is renewed when half a lifetime is left.
        let quarter = self.config.llm.reservation.get() / (4 * MILLISECOND);
        u32::try_from(quarter.max(1)).unwrap_or(u32::MAX)
    }

    /// A request's head had gone upstream before its body could decide.
    pub fn count_late(&self, host: &impl Metrics) {
        host.count(self.ledger.meters().late);
    }

    /// This host shows no body while a head waits: says so once, on whichever worker.
    pub fn warn_hidden(&self, host: &impl SharedData) {
        if self.namespace().announce(host, sip::fingerprint(b"bodies are hidden")) {
            log::warn!(
                "this proxy shows request bodies only after the head has gone upstream: limits in tokens are decided when the body is there, and bodies \
                 are not changed; set allow_on_headers_stop_iteration where you can"
            );
        }
    }

    /// Holds on to what is reserved for a response that takes long, if it is time to.
    pub fn renew(&self, host: &impl Host, bill: &mut Bill, now: Timestamp) {
        for (account, reservation) in &mut bill.charged {
            let renewed = self.ledger.renew(host, account, reservation, now);
            self.count_lost(host, renewed);
        }
    }

    fn count_lost(&self, host: &impl Metrics, changed: Result<(), StoreError>) {
        match changed {
            Ok(()) => {}
            Err(StoreError::Host(error)) => {
                log::debug!("a response is not charged: {error}");
                host.count(self.ledger.meters().errors(Reason::Host));
            }
            Err(StoreError::Contended) => host.count(self.ledger.meters().errors(Reason::Contention)),
        }
    }
}

//! The callbacks that see bodies: requests that wait for theirs, and responses that are read as they pass.

use crate::bill::Bill;
use crate::gate::{Action as Decided, Gate, Passed, Verdict};
use crate::holding::{Came, Holding, TICK};
use crate::host::{Body, Proxy};
use crate::ledger::Clock;
use crate::waiting::Waiting;
use crate::window::MILLISECOND;
use proxy_wasm::types::Action;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::rc::Rc;

/// How much of a body is taken over at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// What all streams of one configuration on one worker share.
#[derive(Default)]
pub(super) struct Desk {
    /// The root's context.
    root: u32,
    holding: RefCell<Holding>,
    /// Bills of streams under way.
    open: RefCell<BTreeMap<u32, Rc<RefCell<Bill>>>>,
    /// How often the timer fires, in milliseconds.
    period: Cell<u32>,
    /// How often it does when there is nothing to find out.
    usual: Cell<u32>,
}

/// One stream.
pub(super) struct Stream {
    id: u32,
    desk: Rc<Desk>,
    state: State,
}

/// What is still to happen to it.
enum State {
    /// Nothing.
    Over,
    /// Its body decides.
    Waiting { waiting: Box<Waiting>, head: Head },
    /// Its response is read.
    Open(Rc<RefCell<Bill>>),
}

/// Where a request's head is while its body comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    /// Here, unless the timer lets it go.
    Kept,
    /// Here for sure.
    Held,
    /// Upstream.
    Gone,
}

// === impl Desk ===

impl Desk {
    pub(super) fn new(root: u32) -> Self {
        Self { root, ..Self::default() }
    }

    /// The timer is needed as often as this and that need it: reservations in milliseconds, 0 for never, and leases in nanoseconds.
    pub(super) fn tick_usually(&self, reservations: u32, leases: Option<NonZeroU64>) {
        let leases = leases.map(|lease| u32::try_from(lease.get() / MILLISECOND).unwrap_or(u32::MAX).max(1));
        let reservations = Some(reservations).filter(|period| *period > 0);
        let milliseconds = leases.into_iter().chain(reservations).min().unwrap_or_default();
        self.usual.set(milliseconds);
        self.tick_every(milliseconds);
    }

    fn tick_every(&self, milliseconds: u32) {
        if self.period.replace(milliseconds) != milliseconds
            && let Err(error) = Proxy.tick_every(milliseconds)
        {
            log::error!("no timer: {error}");
        }
    }

    fn hold(&self, id: u32) -> bool {
        let mut holding = self.holding.borrow_mut();
        let held = holding.hold(id);
        if holding.is_in_doubt() {
            self.tick_every(TICK);
        }
        held
    }

    /// The timer fired.
    pub(super) fn tick(&self, gate: &Gate) {
        let Ok(now) = Proxy.now() else {
            return;
        };
        for bill in self.open.borrow().values() {
            let mut bill = bill.borrow_mut();
            if bill.renew_at().is_some_and(|at| at <= now) {
                gate.renew(&Proxy, &mut bill, now);
            }
        }
        let released = self.holding.borrow_mut().tick(now);
        for id in &released {
            // A stream that is gone must not be acted for.
            if Proxy.act_for(*id).and_then(|()| Proxy.resume_request()).is_err() {
                self.holding.borrow_mut().forget(*id);
            }
        }
        if !released.is_empty() {
            let _ = Proxy.act_for(self.root);
        }
        if !self.holding.borrow().is_in_doubt() {
            self.tick_every(self.usual.get());
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(id: u32, desk: Rc<Desk>) -> Self {
        Self { id, desk, state: State::Over }
    }

    /// Whether nothing is to happen any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Its body decides: holds the head if the host can.
    pub(super) fn wait(&mut self, gate: &Gate, waiting: Box<Waiting>) -> (Action, Option<Passed>) {
        if waiting.wants_plain() {
            Self::ask_for_plain();
        }
        if waiting.is_decided() {
            return self.decide(gate, *waiting, false);
        }
        let (head, action) = match self.desk.hold(self.id) {
            true => (Head::Kept, Action::Pause),
            false => (Head::Gone, Action::Continue),
        };
        if head == Head::Gone {
            gate.count_late(&Proxy);
        }
        self.state = State::Waiting { waiting, head };
        (action, None)
    }

    /// A piece of the request's body; `size` bytes of it are there.
    pub(super) fn request_body(&mut self, gate: &Gate, size: usize, end: bool) -> (Action, Option<Passed>) {
        let State::Waiting { waiting, head } = &mut self.state else {
            return (Action::Continue, None);
        };
        if *head == Head::Kept {
            *head = Head::Held;
            let came = self.desk.holding.borrow_mut().came(self.id, true, Proxy.now().unwrap_or_default());
            if came != Came::Held {
                *head = Head::Gone;
                gate.count_late(&Proxy);
            }
            if came == Came::Hidden {
                gate.warn_hidden(&Proxy);
            }
        }
        let read = read_from(Body::Request, usize::try_from(waiting.size()).unwrap_or(usize::MAX), size, |piece| {
            waiting.push(piece);
            !waiting.is_decided()
        });
        if !end && !waiting.is_decided() && read {
            return (Action::Pause, None);
        }
        let whole = end && *head == Head::Held && read;
        self.decide_waiting(gate, whole)
    }

    /// The request's body has ended, with trailers.
    pub(super) fn request_trailers(&mut self, gate: &Gate) -> (Action, Option<Passed>) {
        self.decide_waiting(gate, false)
    }

    fn decide_waiting(&mut self, gate: &Gate, whole: bool) -> (Action, Option<Passed>) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Waiting { waiting, .. } => self.decide(gate, *waiting, whole),
            other => {
                self.state = other;
                (Action::Continue, None)
            }
        }
    }

    /// `whole`: all of the body is at hand, and the head, too.
    fn decide(&mut self, gate: &Gate, waiting: Waiting, whole: bool) -> (Action, Option<Passed>) {
        let Verdict { action, note } = gate.decide(&Proxy, waiting);
        #[cfg(feature = "crash")]
        super::crash_if_asked();
        if let Some(note) = note {
            super::leave(&note);
        }
        match action {
            Decided::Pass(mut passed) => {
                if let Some(bill) = passed.bill.as_mut().filter(|_| whole) {
                    bill.report_unasked(Self::change);
                }
                self.open(&mut passed);
                (Action::Continue, Some(passed))
            }
            Decided::Refuse(reply) => {
                super::answer(&reply);
                (Action::Pause, None)
            }
            // It has its body.
            Decided::Wait(_) => (Action::Continue, None),
        }
    }

    /// Takes the bill of a request that passed.
    pub(super) fn open(&mut self, passed: &mut Passed) {
        if let Some(bill) = passed.bill.take() {
            let bill = Rc::new(RefCell::new(*bill));
            self.desk.open.borrow_mut().insert(self.id, bill.clone());
            self.state = State::Open(bill);
        }
    }

    /// Changes the body at hand in one place, and its length in the head.
    fn change(splice: &crate::ask::Splice) -> bool {
        let Some(changed) = Proxy.body(Body::Request, 0, usize::MAX).ok().and_then(|body| splice.apply(&body)) else {
            return false;
        };
        // Events that are compressed cannot be dropped.
        Self::ask_for_plain();
        let Ok(length) = Proxy.request_length() else {
            return false;
        };
        if length.is_some() && Proxy.set_request_header("content-length", &changed.len().to_string()).is_err() {
            return false;
        }
        let replaced = Proxy.replace_body(Body::Request, &changed);
        if let (Err(_), Some(length)) = (&replaced, length) {
            let _ = Proxy.set_request_header("content-length", &length);
        }
        replaced.is_ok()
    }

    fn ask_for_plain() {
        if let Err(error) = Proxy.ask_for_plain() {
            log::debug!("the response may be unreadable: {error}");
        }
    }

    /// The response's head is there.
    pub(super) fn response_headers(&mut self, gate: &Gate, end: bool) -> Option<Passed> {
        let mut passed = None;
        // An upstream that answers before it has the body.
        let gone = match self.state {
            State::Waiting { head: Head::Gone, .. } => true,
            State::Waiting { head: Head::Kept, .. } => self.desk.holding.borrow().is_released(self.id),
            _ => false,
        };
        if gone {
            (_, passed) = self.decide_waiting(gate, false);
        }
        if let State::Open(bill) = &self.state {
            let value = |name| Proxy.response_value(name).ok().flatten().unwrap_or_default();
            let status = std::str::from_utf8(&value(":status")).ok().and_then(|status| status.parse().ok());
            let (kind, coding) = (value("content-type"), value("content-encoding"));
            gate.answered(&mut bill.borrow_mut(), status.unwrap_or_default(), &kind, &coding);
        }
        if end {
            self.close(gate);
        }
        passed
    }

    /// A piece of the response's body, all of it new. It goes on at once.
    pub(super) fn response_body(&mut self, gate: &Gate, size: usize, end: bool) {
        if let State::Open(bill) = &self.state {
            let mut bill = bill.borrow_mut();
            let mut out = Vec::new();
            let mut read = true;
            if bill.reads() {
                read = read_from(Body::Response, 0, size, |piece| {
                    bill.read(piece, &mut out);
                    true
                });
            }
            if end {
                bill.finish(&mut out);
            }
            if read
                && bill.drops()
                && (size > 0 || !out.is_empty())
                && let Err(error) = Proxy.replace_body(Body::Response, &out)
            {
                log::debug!("an event stays that was not asked for: {error}");
            }
        }
        if end {
            self.close(gate);
        }
    }

    /// The stream is over, however it ended.
    pub(super) fn over(&mut self, gate: &Gate) {
        self.close(gate);
    }

    fn close(&mut self, gate: &Gate) {
        if let State::Open(bill) = &self.state {
            let bill = bill.clone();
            self.state = State::Over;
            self.desk.open.borrow_mut().remove(&self.id);
            gate.settle(&Proxy, &mut bill.borrow_mut());
        }
    }
}

/// Whatever is not settled by then ends by itself.
impl Drop for Stream {
    fn drop(&mut self) {
        self.desk.open.borrow_mut().remove(&self.id);
        self.desk.holding.borrow_mut().forget(self.id);
    }
}

/// Reads a body from `start` to `size` in pieces, as long as more is wanted; whether the host gave all of it.
fn read_from(body: Body, start: usize, size: usize, mut more: impl FnMut(&[u8]) -> bool) -> bool {
    let mut at = start;
    while at < size {
        let length = size.saturating_sub(at).min(PIECE);
        match Proxy.body(body, at, length) {
            Ok(piece) if !piece.is_empty() => {
                at = at.saturating_add(piece.len());
                if !more(&piece) {
                    return true;
                }
            }
            Ok(_) => {
                log::debug!("a body cannot be read: there is less than there should be");
                return false;
            }
            Err(error) => {
                log::debug!("a body cannot be read: {error}");
                return false;
            }
        }
    }
    true
}

//! Bills: what a request that passed still owes, until its response is through.
//!
//! A bill is opened when a request is admitted whose response takes tokens that some limit counts, follows the response as it passes, and is closed
//! once, however the stream ends: with what the response [reported](crate::usage), or an estimate of it, or with everything given back.

use crate::account::Account;
use crate::ask::Splice;
use crate::cost::Estimate;
use crate::reservation::Reservation;
use crate::usage::{Dropper, Reader, Usage};
use crate::window::Timestamp;

/// What is owed.
pub struct Bill {
    /// Whose it is: the caller, and its address where that is charged, too.
    pub(crate) charged: Vec<(Account, Reservation)>,
    /// What was asked for, in tokens: input, and output at most.
    asked: Asked,
    response: Response,
    /// What to change in the request's body so that its stream reports usage, if that can still be changed.
    splice: Option<Splice>,
    /// The client did not ask for the usage that its stream is made to report.
    unasked: bool,
    dropper: Option<Dropper>,
}

/// What a request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether what the response reports is charged: of a request without a body it is not, as that asks for what was charged before.
    pub metered: bool,
    /// What the answer takes at most, as it was estimated; `None` where it takes no tokens unless it reports some.
    pub most: Option<Estimate>,
    /// Whether it is text.
    pub text: bool,
}

/// How far a response has come.
enum Response {
    /// Nothing of it is there.
    Awaited,
    /// The upstream failed: everything is given back.
    Failed,
    /// Refused by the upstream, or without tokens.
    Free,
    /// It is read.
    Read(Box<Reader>),
}

/// How a bill is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Everything is given back.
    Refund,
    /// So much was used.
    Used {
        /// What is charged.
        usage: Usage,
        /// Nobody reported it, or not all of it.
        estimated: bool,
    },
}

// === impl Bill ===

impl Bill {
    /// Of a request that was charged so.
    #[must_use]
    pub fn new(charged: Vec<(Account, Reservation)>, asked: Asked, splice: Option<Splice>) -> Self {
        Self { charged, asked, response: Response::Awaited, splice, unasked: false, dropper: None }
    }

    /// Makes the request's stream report its usage, which the client did not ask for, where it would not: `change` changes the body, if it can.
    pub fn report_unasked(&mut self, change: impl FnOnce(&Splice) -> bool) {
        self.unasked = self.splice.take().is_some_and(|splice| change(&splice));
    }

    /// The response's head is there: its status, its type and what was done to it. `failed`: such a status gives back what was charged.
    pub fn answered(&mut self, status: u16, failed: bool, content_type: &[u8], content_encoding: &[u8]) {
        self.response = match status {
            _ if failed => Response::Failed,
            200..300 if self.asked.metered => Response::Read(Box::new(Reader::new(content_type, content_encoding))),
            _ => Response::Free,
        };
        let plain = content_encoding.is_empty() || content_encoding.eq_ignore_ascii_case(b"identity");
        let events = content_type.to_ascii_lowercase().starts_with(b"text/event-stream");
        self.dropper =
            (self.unasked && plain && events && matches!(self.response, Response::Read(_))).then(Dropper::new);
    }

    /// Whether anything of the response's body matters.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(self.response, Response::Read(_))
    }

    /// Whether the client gets another body than the upstream sent: what [`Bill::read`] makes of it.
    #[must_use]
    pub fn drops(&self) -> bool {
        self.dropper.is_some()
    }

    /// Reads on in the response, and appends what the client gets of it to `out`, where that is something else.
    pub fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Response::Read(reader) = &mut self.response {
            reader.push(bytes);
        }
        if let Some(dropper) = &mut self.dropper {
            dropper.push(bytes, out);
        }
    }

    /// Appends what was held back, at the end of the response.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(dropper) = &mut self.dropper {
            dropper.finish(out);
        }
    }

    /// From when on its reservations want to be renewed; `None` where nothing is reserved.
    #[must_use]
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.charged.iter().filter_map(|(_, reservation)| reservation.renew_at()).min()
    }

    /// What it comes to, as far as the response came.
    ///
    /// What the response did not report is estimated: the input as it was when the request was admitted, the output by the text that came, or,
    /// where nothing of it came, the most it could have been. Whoever leaves before an answer is there does not know what it cost.
    #[must_use]
    pub fn close(&mut self) -> Closed {
        let used = |usage, estimated| Closed::Used { usage, estimated };
        let (report, most) = match &mut self.response {
            Response::Failed => return Closed::Refund,
            Response::Free => (None, None),
            Response::Awaited => (None, self.asked.most),
            Response::Read(reader) => (Some(reader.finish()), self.asked.most),
        };
        if let Some(report) = report.as_ref().filter(|report| report.usage.is_some()) {
            return used(report.tokens(), report.estimated());
        }
        let Some(Estimate { input, output }) = most else {
            return used(Usage::default(), false);
        };
        let came = report.map_or(0, |report| report.estimate);
        let output = if came > 0 && self.asked.text { came } else { output };
        used(Usage { input, output, ..Usage::default() }, true)
    }
}

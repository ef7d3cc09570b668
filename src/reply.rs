//! Replies: what a refused request is told, with everything that is the same in every [dialect](crate::dialect).

use crate::config::{Config, Denial};
use crate::decision::Standing;
use crate::dialect::{Asked, Dialect, Header};
use crate::digits::Digits;
use crate::fields::Fields;
use crate::headers::{Groups, Style};
use crate::refusal::{Details, Exceeded, Facts, LONGEST_RETRY, Pause, Refusal};
use crate::request::Headers;
use crate::window::seconds_up;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// A response sent instead of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// gRPC status for a gRPC caller (`google.rpc.Code`); others do not see it.
    pub grpc_status: i32,
    /// Response code details for access logs, without white space.
    pub details: Details,
    /// Beside what the proxy adds.
    pub headers: Headers,
    /// As the dialect wants it.
    pub body: Vec<u8>,
}

/// How a reply is written.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// In which dialect.
    pub dialect: &'static Dialect,
    /// What is answered.
    pub asked: &'a Asked<'a>,
}

/// The field that says the wait to the millisecond.
const MILLISECONDS: &str = "retry-after-ms";

/// What a denial says: all others of the same caller that say so are the same reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saying {
    dialect: &'static Dialect,
    limit: usize,
    wait: Pause,
    /// Seconds until the limit is full again.
    reset: u64,
}

/// What some callers were told last: those who are denied often are few, and a reply is long.
#[derive(Debug, Default)]
pub struct Said(RefCell<Vec<Option<Last>>>);

/// What a caller was told last.
#[derive(Debug)]
struct Last {
    /// The caller's index among the listed consumers.
    consumer: usize,
    /// The name of the key that was used, which is in the note.
    key: Option<Box<str>>,
    saying: Saying,
    reply: Rc<Reply>,
    /// Where its wait in milliseconds is.
    milliseconds: Range<usize>,
    note: Rc<str>,
}

/// How many callers' replies are kept.
const KEPT: usize = 64;

/// How many header fields a reply has, and how long their values are together, if it is a long one.
const ROOM: (usize, usize) = (20, 384);

// === impl Reply ===

impl Reply {
    /// The denial of a request that exceeds a limit, with every family of header fields that `style` has; `None` when the limit that stands so is
    /// none of the terms'.
    #[must_use]
    pub fn denial(exceeded: &Exceeded<'_>, form: Form<'_>, style: &Style) -> Option<Rc<Self>> {
        let facts = exceeded.facts()?;
        let wait = facts.denied.as_ref().and_then(|denied| denied.wait);
        let mut fields = first_fields(form);
        let first = fields.len();
        if let Some(wait) = wait {
            fields.push_number("retry-after", wait.seconds());
            fields.push_number(MILLISECONDS, wait.milliseconds());
        }
        exceeded.terms.tell_lists(style, &exceeded.standing, &mut |name, value| fields.push(name, value));
        let mut told = Groups::in_reply(fields);
        exceeded.terms.tell_numbers(style, &exceeded.standing, exceeded.others, &mut told);
        let mut fields = told.into_fields();
        (form.dialect.fields)(&facts, form.asked, &mut fields);
        if wait.is_none_or(|wait| wait.seconds() > LONGEST_RETRY) {
            fields.push("x-should-retry", "false");
        }
        if form.asked.has(Header::Origin) {
            // What a browser may read, when it asks from another origin.
            let names: Vec<&str> = fields.names().skip(first).collect();
            fields.push("access-control-expose-headers", &names.join(", "));
        }
        Some(Self::new(&facts, form, &fields))
    }

    /// The refusal of a request that no limit denies.
    #[must_use]
    pub fn refusal(refusal: Refusal, config: &Config, form: Form<'_>) -> Rc<Self> {
        let facts = refusal.facts(config);
        let mut fields = first_fields(form);
        if let Some(challenge) = refusal.challenge(config) {
            fields.push("www-authenticate", challenge);
        }
        (form.dialect.fields)(&facts, form.asked, &mut fields);
        Self::new(&facts, form, &fields)
    }

    fn new(facts: &Facts<'_>, form: Form<'_>, fields: &Fields) -> Rc<Self> {
        Rc::new(Self {
            status: facts.status,
            grpc_status: facts.grpc_status(),
            details: facts.details.clone(),
            headers: Headers::of(fields.iter()),
            body: (form.dialect.body)(facts, form.asked),
        })
    }
}

// === impl Saying ===

impl Saying {
    /// Of the denial of a request that costs 1 unit, by a limit that has none left; `None` where no two denials are the same.
    #[must_use]
    pub fn of(denial: &Denial, form: Form<'_>, standing: &Standing, wait: Pause) -> Option<Self> {
        let alike = form.dialect.alike && denial.retry_jitter == 0 && !form.asked.has(Header::Origin);
        let Standing { limit, reset, .. } = *standing;
        alike.then(|| Self { dialect: form.dialect, limit, wait, reset: seconds_up(reset) })
    }

    /// Whether another says the same but for the milliseconds of its wait.
    fn is_like(&self, other: &Self) -> bool {
        Self { wait: other.wait, ..*self } == *other && self.wait.seconds() == other.wait.seconds()
    }
}

// === impl Said ===

impl Said {
    /// The same reply, with this wait in milliseconds, and the same note, if both are to say the same.
    #[must_use]
    pub fn again(&self, (consumer, key): (usize, Option<&str>), saying: &Saying) -> Option<(Rc<Reply>, Rc<str>)> {
        let mut kept = self.0.borrow_mut();
        let last = kept.get_mut(consumer % KEPT)?.as_mut()?;
        if last.consumer != consumer || last.key.as_deref() != key {
            return None;
        }
        if last.saying != *saying {
            last.say(saying)?;
        }
        Some((last.reply.clone(), last.note.clone()))
    }

    /// Keeps what a caller is told, and what access logs can say of it. The reply has the very wait that is said: to what is never
    /// [said](Saying::of) again, chance may have added some.
    pub fn keep(&self, (consumer, key): (usize, Option<&str>), saying: Saying, reply: &Rc<Reply>, note: &Rc<str>) {
        let Some(milliseconds) = reply.headers.place(MILLISECONDS) else {
            return;
        };
        let mut kept = self.0.borrow_mut();
        if kept.is_empty() {
            kept.resize_with(KEPT, || None);
        }
        if let Some(slot) = kept.get_mut(consumer % KEPT) {
            let (reply, note) = (reply.clone(), note.clone());
            *slot = Some(Last { consumer, key: key.map(Into::into), saying, reply, milliseconds, note });
        }
    }
}

// === impl Last ===

impl Last {
    /// Writes another wait; `None` if there is more to say, or it has not as many digits.
    fn say(&mut self, saying: &Saying) -> Option<()> {
        if !self.saying.is_like(saying) {
            return None;
        }
        let digits = Digits::of(saying.wait.milliseconds());
        // While nobody else has it.
        let place = Rc::get_mut(&mut self.reply)?.headers.value_mut(&self.milliseconds)?;
        if place.len() != digits.as_bytes().len() {
            return None;
        }
        place.copy_from_slice(digits.as_bytes());
        self.saying = *saying;
        Some(())
    }
}

/// Those that every reply starts with.
fn first_fields(form: Form<'_>) -> Fields {
    let (fields, bytes) = ROOM;
    let mut first = Fields::with_capacity(fields, bytes);
    if let Some(content_type) = form.dialect.content_type {
        first.push("content-type", content_type);
    }
    first.push("cache-control", "no-store");
    first
}

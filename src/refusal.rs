//! Refusals: what is refused and why. Facts only; how they are written is a [`dialect`](crate::dialect)'s.

use crate::caller::Place;
use crate::config::{Config, Denial};
use crate::counter::Wait;
use crate::decision::Standing;
use crate::digits::Digits;
use crate::key::Source;
use crate::plan::Limit;
use crate::template::Words;
use crate::terms::{OfDenials, Terms};
use crate::window::{MILLISECOND, SECOND};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Deref;
use std::rc::Rc;

/// Why a request is refused that no limit denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401: no key and no identity.
    MissingKey,
    /// 401: somebody who is not listed.
    InvalidKey,
    /// 400: more than one key.
    AmbiguousKey,
    /// 403: a consumer that is disabled.
    ConsumerDisabled,
    /// 403: a key that is disabled.
    KeyDisabled,
    /// 503: the filter could not decide.
    Unavailable,
}

/// Who exceeded what.
#[derive(Clone, Copy, Debug)]
pub struct Exceeded<'a> {
    /// What the configuration says of denials.
    pub denial: &'a Denial,
    /// What the request would have been charged under.
    pub terms: &'a Terms,
    /// The limit that is reported, and how it stands.
    pub standing: Standing,
    /// How limits of other units stand.
    pub others: &'a [Standing],
    /// Units this request would have cost that limit.
    pub cost: u64,
    /// When it would pass.
    pub wait: Wait,
    /// What the caller is told as its own name, if that [matters](Exceeded::concerns_caller).
    pub caller: &'a str,
}

/// What kind of refusal it is: what status codes and providers' error types tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Over a limit; the same request passes later.
    RateLimited,
    /// More than a limit can ever hold.
    TooLarge,
    /// 400.
    Invalid,
    /// 401.
    Unauthenticated,
    /// 403.
    Forbidden,
    /// 503.
    Unavailable,
}

/// All there is to say to the caller of a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// What kind it is.
    pub class: Class,
    /// HTTP status.
    pub status: u16,
    /// A word for programs, like `rate_limit_exceeded`.
    pub code: &'static str,
    /// Response code details for access logs, without white space.
    pub details: Details,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// The limit, if one denied the request.
    pub denied: Option<Denied<'a>>,
    /// Members of the operator's own beside the message, in JSON.
    pub members: Vec<(&'a str, String)>,
}

/// Response code details: one of a few, or of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Details {
    /// Of what no limit denies.
    Fixed(&'static str),
    /// Of what a limit denies.
    OfLimit(Rc<str>),
}

/// The limit that denied a request, and how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// What callers are told as its name.
    pub name: &'a str,
    /// The plan's name.
    pub plan: &'a str,
    /// The limit's window, in its canonical form.
    pub per: &'a str,
    /// Units this request would have cost.
    pub cost: u64,
    /// Units left.
    pub remaining: u64,
    /// How long to wait; `None`: waiting does not help.
    pub wait: Option<Pause>,
    /// Whether names and numbers of plans and limits may be told.
    pub expose: bool,
}

/// Beyond this wait official SDKs are told not to wait (`x-should-retry: false`), in seconds.
pub const LONGEST_RETRY: u64 = 60;

/// A time to wait in whole milliseconds, at least one, rounded up: never shorter than the exact wait. Beyond [`LONGEST_RETRY`] in whole seconds:
/// nobody waits that long to the millisecond, and of a field that is the same as in the last response HTTP/2 sends the index (RFC 7541 §6.1),
/// which is much less work for the proxy than a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause(u64);

// === impl Refusal ===

impl Refusal {
    /// What there is to say of it.
    #[must_use]
    pub fn facts(self, config: &Config) -> Facts<'static> {
        let identity = config.identity.is_some();
        let (class, status, code, message) = match self {
            Self::MissingKey => {
                let message = if identity { "Missing identity.".into() } else { missing_key(&config.sources.from) };
                (Class::Unauthenticated, 401, "missing_api_key", message)
            }
            Self::InvalidKey => {
                let message = if identity { "Unknown consumer." } else { "Invalid API key." };
                (Class::Unauthenticated, 401, "invalid_api_key", message.into())
            }
            Self::AmbiguousKey => {
                let message =
                    if identity { "More than one identity." } else { "More than one API key. Send exactly one." };
                (Class::Invalid, 400, "ambiguous_api_key", message.into())
            }
            Self::ConsumerDisabled => (Class::Forbidden, 403, "consumer_disabled", "This consumer is disabled.".into()),
            Self::KeyDisabled => (Class::Forbidden, 403, "consumer_disabled", "This API key is disabled.".into()),
            Self::Unavailable => {
                let message = "The rate limiter is unavailable. Try again.".into();
                (Class::Unavailable, 503, "limiter_unavailable", message)
            }
        };
        let details = match self {
            Self::MissingKey => "allowance_missing_api_key",
            Self::InvalidKey => "allowance_invalid_api_key",
            Self::AmbiguousKey => "allowance_ambiguous_api_key",
            Self::ConsumerDisabled | Self::KeyDisabled => "allowance_consumer_disabled",
            Self::Unavailable => "allowance_limiter_unavailable",
        };
        let details = Details::Fixed(details);
        Facts { class, status, code, details, message, denied: None, members: Vec::new() }
    }

    /// `www-authenticate`, for those that want one.
    #[must_use]
    pub fn challenge(self, config: &Config) -> Option<&'static str> {
        if !matches!(self, Self::MissingKey | Self::InvalidKey) {
            return None;
        }
        let in_authorization = |place: &Place| *place == Place::Header("authorization".to_owned());
        let bearer = match &config.identity {
            Some(identity) => in_authorization(&identity.consumer),
            None => config.sources.from.iter().any(|source| matches!(source, Source::Bearer(_))),
        };
        Some(match (bearer, self) {
            // RFC 6750 §3: a request without credentials is told no error.
            (true, Self::MissingKey) => r#"Bearer realm="allowance""#,
            (true, _) => r#"Bearer realm="allowance", error="invalid_token""#,
            // RFC 9110 §15.5.2 wants a challenge, and no registered scheme means a key in a header, a query or a cookie.
            (false, _) => r#"ApiKey realm="allowance""#,
        })
    }
}

fn missing_key(sources: &[Source]) -> Cow<'static, str> {
    let mut message = String::with_capacity(160);
    message.push_str("Missing API key.");
    let mut before = " Send it as ";
    for place in sources.iter().filter_map(Source::place) {
        message.push_str(std::mem::replace(&mut before, " or "));
        message.push_str(&place);
    }
    if before == " or " {
        message.push('.');
    }
    message.into()
}

// === impl Exceeded ===

impl<'a> Exceeded<'a> {
    /// Whether what is said under this configuration can depend on who exceeds a limit.
    #[must_use]
    pub fn concerns_caller(denial: &Denial) -> bool {
        denial.template.is_some() || !denial.members.is_empty() || denial.retry_jitter > 0
    }

    /// What there is to say of it; `None` when the limit that stands so is none of the terms'.
    #[must_use]
    pub fn facts(&self) -> Option<Facts<'a>> {
        let Self { denial, terms, standing, cost, wait, caller, .. } = *self;
        let (limit, name) = (terms.limits.get(standing.limit)?, terms.name(standing.limit)?);
        let OfDenials { per, details } = terms.of_denials(standing.limit)?;
        let wait = match wait {
            Wait::For(span) => Some(Pause::of(self.spread(span))),
            Wait::Never => None,
        };
        let max = limit.max().get();
        let words = |pause: Pause| Words {
            limit: &limit.label,
            max,
            unit: limit.unit,
            per,
            retry_after: pause.seconds(),
            plan: &terms.plan,
            caller,
        };
        let message = match (wait, &denial.template) {
            (Some(pause), Some(template)) => template.filled(&words(pause)),
            _ => {
                let sentence = denial.sentence(limit.unit);
                // What follows it is shorter than that.
                let mut message = String::with_capacity(sentence.len().saturating_add(96));
                message.push_str(&sentence);
                if denial.expose {
                    message.push_str(": ");
                    Digits::of(max).append_to(&mut message);
                    message.push_str(" per ");
                    message.push_str(per);
                }
                let (before, number, after) = match wait {
                    Some(pause) => (". Retry after ", pause.seconds(), " s."),
                    None => (". This request alone costs ", cost, "."),
                };
                message.push_str(before);
                Digits::of(number).append_to(&mut message);
                message.push_str(after);
                message
            }
        };
        let (class, code) = match wait {
            Some(_) => (Class::RateLimited, "rate_limit_exceeded"),
            None => (Class::TooLarge, "request_too_large"),
        };
        // Whoever is told to wait is told so in every member; where waiting does not help there is nothing to fill in.
        let members = wait.map(|pause| {
            let filled = denial.members.iter().map(|(name, text)| (name.as_str(), text.filled(&words(pause))));
            filled.collect()
        });
        let (plan, remaining, expose) = (&*terms.plan, standing.remaining, denial.expose);
        let denied = Denied { limit, name, plan, per, cost, remaining, wait, expose };
        let members = members.unwrap_or_default();
        let (status, message, denied) = (denial.status, message.into(), Some(denied));
        let details = Details::OfLimit(details.clone());
        Some(Facts { class, status, code, details, message, denied, members })
    }

    /// The wait, longer by a part of the configured fraction: clients that are told the same second come back together, as no SDK adds jitter to
    /// what a server says. The part is drawn from the clock's nanoseconds, which the wait has in it, and from who asks.
    fn spread(&self, span: u64) -> u64 {
        const MILLION: u128 = 1_000_000;
        if self.denial.retry_jitter == 0 {
            return span;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(span);
        hasher.write_u64(self.standing.reset);
        hasher.write(self.caller.as_bytes());
        let drawn = u128::from(hasher.finish() >> 32);
        let most = u128::from(span).saturating_mul(u128::from(self.denial.retry_jitter)) / MILLION;
        let more = most.saturating_mul(drawn) >> 32;
        span.saturating_add(u64::try_from(more).unwrap_or_default())
    }
}

// === impl Facts ===

impl Facts<'_> {
    /// The member `type` of OpenAI's error object and of its likes.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match (&self.denied, self.class) {
            (Some(denied), _) => denied.limit.unit.name(),
            (None, Class::Unavailable) => "server_error",
            (None, _) => "invalid_request_error",
        }
    }

    /// `google.rpc.Code`.
    #[must_use]
    pub fn grpc_status(&self) -> i32 {
        match self.class {
            Class::RateLimited | Class::TooLarge => 8,
            Class::Invalid => 3,
            Class::Unauthenticated => 16,
            Class::Forbidden => 7,
            Class::Unavailable => 14,
        }
    }
}

// === impl Details ===

impl Deref for Details {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Fixed(details) => details,
            Self::OfLimit(details) => details,
        }
    }
}

// === impl Pause ===

impl Pause {
    /// A span of nanoseconds, rounded up.
    #[must_use]
    pub fn of(span: u64) -> Self {
        let exact = if span <= LONGEST_RETRY * SECOND { MILLISECOND } else { SECOND };
        Self(span.div_ceil(exact).max(1).saturating_mul(exact / MILLISECOND))
    }

    /// Whole milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.0
    }

    /// Whole seconds, rounded up: at least one.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0.div_ceil(SECOND / MILLISECOND)
    }
}

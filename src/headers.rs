//! The header fields that say what is left: `RateLimit` (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651), `X-RateLimit`,
//! and those of the provider whose API the caller speaks.
//!
//! Names of limits need no escaping: what a limit may be called is a valid structured-field string as it stands.
//!
//! An upstream may say what is left there in the same fields. `RateLimit` and its policy are lists: ours are added as further members, and what
//! the upstream says stays. Of the others, which hold one number, ours take the place of its own where they are stricter, and are left out
//! otherwise: none comes twice. Nothing tells the client that it may have more than the upstream gives (the draft's rule for intermediaries).

use crate::base64::{Padding, encode};
use crate::plan::{Algorithm, Limit};
use crate::window::{Timestamp, seconds_up};
use std::fmt::Write;

/// Which fields allowed responses carry. Denials carry them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// `ratelimit-policy` and `ratelimit`.
    pub ratelimit: bool,
    /// `x-ratelimit-limit`, `x-ratelimit-remaining`, `x-ratelimit-reset`.
    pub x_ratelimit: bool,
    /// Those of the provider whose API the caller speaks.
    pub provider: bool,
}

/// A field's name in lower case, and its value.
pub type Field = (&'static str, String);

/// How a provider says what is left; `None` where it cannot say it of this limit.
pub type Provider = fn(&Left<'_>) -> Option<Group>;

/// How fields are written for one caller.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// `ratelimit-policy` and `ratelimit`.
    pub ratelimit: bool,
    /// `x-ratelimit-limit` and so on.
    pub x_ratelimit: bool,
    /// The caller's provider, if its fields are wanted and it has some.
    pub provider: Option<Provider>,
    /// The caller's partition key, if it is told.
    pub partition: Option<u64>,
    /// When it was decided.
    pub now: Timestamp,
}

/// How the limit that is reported stands.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a> {
    /// The limit.
    pub limit: &'a Limit,
    /// What callers are told as its name.
    pub name: &'a str,
    /// Units left.
    pub remaining: u64,
    /// Nanoseconds until all of it is back.
    pub reset: u64,
    /// The time.
    pub now: Timestamp,
}

/// Fields that say one thing together.
#[derive(Clone, Debug)]
pub struct Group {
    /// They.
    pub fields: Vec<Field>,
    /// Where an upstream says the same.
    pub beside: Beside,
}

/// What becomes of fields that an upstream has sent.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    /// They are lists, and ours are further members (RFC 9110 §5.3).
    Together,
    /// All of them are ours, or all are the upstream's.
    Either {
        /// The field in which the upstream would say what is left there.
        told_in: &'static str,
        /// Units left here.
        remaining: u64,
    },
}

// === impl Families ===

impl Families {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

// === impl Style ===

impl Style {
    /// The groups of fields about one limit; `policy` is made when it is needed.
    #[must_use]
    pub fn groups(&self, left: &Left<'_>, policy: impl FnOnce() -> String) -> Vec<Group> {
        let Left { limit, name, remaining, reset, .. } = *left;
        let seconds = seconds_up(reset);
        let mut groups = Vec::with_capacity(3);
        if self.ratelimit {
            let mut standing = format!("\"{name}\";r={remaining};t={seconds}");
            partition(&mut standing, self.partition);
            let fields = vec![("ratelimit-policy", policy()), ("ratelimit", standing)];
            groups.push(Group { fields, beside: Beside::Together });
        }
        if self.x_ratelimit {
            let fields = vec![
                ("x-ratelimit-limit", limit.capacity().to_string()),
                ("x-ratelimit-remaining", remaining.to_string()),
                ("x-ratelimit-reset", seconds.to_string()),
            ];
            groups.push(Group { fields, beside: Beside::Either { told_in: "x-ratelimit-remaining", remaining } });
        }
        groups.extend(self.provider.and_then(|provider| provider(left)));
        groups
    }
}

// === impl Group ===

impl Group {
    /// Whether both are the same fields.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let (ours, others) = (self.fields.iter().map(|(name, _)| name), other.fields.iter().map(|(name, _)| name));
        ours.eq(others)
    }

    /// Whether it is told; `theirs` tells what the upstream says in one field. Fields of one number are where the upstream has none of them, and
    /// where ours are stricter. What cannot be compared stays as it is, for it may be stricter: a part of the fields without the one that
    /// counts, or a response that cannot be asked.
    #[must_use]
    pub fn is_told<E>(&self, theirs: impl Fn(&str) -> Result<Option<Vec<u8>>, E>) -> bool {
        let Beside::Either { told_in, remaining } = self.beside else {
            return true;
        };
        match theirs(told_in) {
            // What cannot be understood is to be ignored, also by the client.
            Ok(Some(left)) => count(&left).is_none_or(|theirs| remaining < theirs),
            Ok(None) => {
                let mut others = self.fields.iter().filter(|(name, _)| *name != told_in);
                others.all(|(name, _)| matches!(theirs(name), Ok(None)))
            }
            Err(_) => false,
        }
    }
}

/// `RateLimit-Policy`: every limit with its quota and its window in whole seconds, rounded up. A token bucket's quota is its burst,
/// its window the time in which the burst comes back. Months differ in length: they state no window. Shadow limits are not told.
/// No unit is registered for tokens, and a policy without one counts requests (§3, `qu`): a parameter of our own says so.
#[must_use]
pub fn policy<'a>(limits: impl Iterator<Item = (&'a str, &'a Limit)>, key: Option<u64>) -> String {
    let mut field = String::new();
    for (name, limit) in limits.filter(|(_, limit)| !limit.shadow) {
        let separator = if field.is_empty() { "" } else { ", " };
        let window = match limit.rule.algorithm {
            Algorithm::TokenBucket => Some(seconds_up(limit.rule.refill())),
            Algorithm::FixedWindow | Algorithm::SlidingWindow => limit.window().seconds(),
        };
        // Writing to a string cannot fail.
        let _ = write!(field, "{separator}\"{name}\";q={}", limit.capacity());
        if let Some(window) = window {
            let _ = write!(field, ";w={window}");
        }
        if limit.unit.tokens().is_some() {
            let _ = write!(field, ";allowance-unit=\"{}\"", limit.unit.counted().replace(' ', "-"));
        }
        partition(&mut field, key);
    }
    field
}

/// `pk`: a byte sequence.
fn partition(field: &mut String, key: Option<u64>) {
    if let Some(key) = key {
        let _ = write!(field, ";pk=:{}:", encode(&key.to_be_bytes(), Padding::Padded));
    }
}

/// The number that a field starts with: `10`, and `10, 100;w=60` of older drafts.
#[must_use]
pub fn count(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii().split(|byte| b",; ".contains(byte)).next()?;
    let plain = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_says_is_left_is_read() {
        for (value, left) in [("10", Some(10)), (" 10, 100;w=60", Some(10)), ("-1", None), ("x", None), ("", None)] {
            assert_eq!(count(value.as_bytes()), left, "{value}");
        }
        assert_eq!(count(b"99999999999999999999"), None);
    }
}

//! The header fields that say what is left: `RateLimit` (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651), `X-RateLimit`,
//! and those of the provider whose API the caller speaks.
//!
//! Names of limits need no escaping: what a limit may be called is a valid structured-field string as it stands.
//!
//! An upstream may say what is left there in the same fields. `RateLimit` and its policy are lists: ours are added as further members, and what
//! the upstream says stays. Of the others, which hold one number, ours take the place of its own where they are stricter, and are left out
//! otherwise: none comes twice. Nothing tells the client that it may have more than the upstream gives (the draft's rule for intermediaries).

use crate::base64::{Padding, encode};
use crate::digits::Digits;
use crate::fields::Fields;
use crate::plan::{Algorithm, Limit};
use crate::window::{Timestamp, seconds_up};

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

/// How a provider says what is left: adds its fields, and says what becomes of them beside an upstream's. `None`, and none added, where it
/// cannot say it of this limit.
pub type Provider = fn(&Left<'_>, &mut Fields) -> Option<Beside>;

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

/// Fields of one number each, those together that say one thing together.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    fields: Fields,
    /// `None` where nobody asks: a reply has no upstream.
    groups: Option<Vec<Group>>,
}

/// The fields from the end of the group before.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// How many fields there are up to its end.
    end: usize,
    /// Where an upstream says the same.
    beside: Beside,
    told: bool,
}

/// What tells whether fields of one number take the place of an upstream's: all of them, or none.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// The field in which the upstream would say what is left there.
    pub told_in: &'static str,
    /// Units left here.
    pub remaining: u64,
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
    /// Whether there are fields beside `ratelimit-policy` and `ratelimit`.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        self.x_ratelimit || self.provider.is_some()
    }

    /// Adds the groups of fields about one limit.
    pub fn tell(&self, left: &Left<'_>, told: &mut Groups) {
        let Left { limit, remaining, reset, .. } = *left;
        if self.x_ratelimit {
            told.fields.push_number("x-ratelimit-limit", limit.capacity());
            told.fields.push_number("x-ratelimit-remaining", remaining);
            told.fields.push_number("x-ratelimit-reset", seconds_up(reset));
            told.close(Beside { told_in: "x-ratelimit-remaining", remaining });
        }
        self.tell_as_provider(left, told);
    }

    /// Adds the provider's group about one limit, unless it has told another in the same fields.
    pub fn tell_as_provider(&self, left: &Left<'_>, told: &mut Groups) {
        let before = told.fields.len();
        let Some(beside) = self.provider.and_then(|provider| provider(left, &mut told.fields)) else {
            return;
        };
        if told.fields.names().take(before).any(|known| known == beside.told_in) {
            told.fields.truncate(before);
        } else {
            told.close(beside);
        }
    }
}

// === impl Groups ===

impl Groups {
    /// No group yet, and `fields` has the room for them.
    #[must_use]
    pub fn beside_upstream(fields: Fields) -> Self {
        Self { fields, groups: Some(Vec::with_capacity(4)) }
    }

    /// Fields after those of a reply, all of which are told.
    #[must_use]
    pub fn in_reply(fields: Fields) -> Self {
        Self { fields, groups: None }
    }

    fn close(&mut self, beside: Beside) {
        if let Some(groups) = &mut self.groups {
            groups.push(Group { end: self.fields.len(), beside, told: true });
        }
    }

    /// Leaves out what is not [told](Beside) beside what the upstream says; `theirs` tells that of one field.
    pub fn retain_beside<E>(&mut self, theirs: impl Fn(&str) -> Result<Option<Vec<u8>>, E>) {
        let mut start = 0_usize;
        for group in self.groups.iter_mut().flatten() {
            let names = self.fields.names().take(group.end).skip(start);
            group.told = group.beside.is_told(names, &theirs);
            start = group.end;
        }
    }

    /// The fields that are told in place of an upstream's.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields.iter().enumerate().filter_map(|(index, (name, value))| {
            let group = self.groups.iter().flatten().find(|group| index < group.end)?;
            group.told.then_some((name, value))
        })
    }

    /// All fields.
    #[must_use]
    pub fn into_fields(self) -> Fields {
        self.fields
    }
}

// === impl Beside ===

impl Beside {
    /// Whether fields with these names are told; `theirs` tells what the upstream says in one field. They are where the upstream has none of them,
    /// and where ours are stricter. What cannot be compared stays as it is, for it may be stricter: a part of the fields
    /// without the one that counts, or a response that cannot be asked.
    fn is_told<E>(
        self,
        mut names: impl Iterator<Item = &'static str>,
        theirs: impl Fn(&str) -> Result<Option<Vec<u8>>, E>,
    ) -> bool {
        let Self { told_in, remaining } = self;
        match theirs(told_in) {
            // What cannot be understood is to be ignored, also by the client.
            Ok(Some(left)) => count(&left).is_none_or(|theirs| remaining < theirs),
            Ok(None) => names.all(|name| name == told_in || matches!(theirs(name), Ok(None))),
            Err(_) => false,
        }
    }
}

/// Writes `RateLimit`: how the limit stands that is reported, its name, the units left and the seconds until all of it is back, rounded up.
pub fn ratelimit(left: &Left<'_>, key: Option<u64>, field: &mut String) {
    quoted(field, left.name);
    parameter(field, ";r=", left.remaining);
    parameter(field, ";t=", seconds_up(left.reset));
    partition(field, key);
}

/// Writes `RateLimit-Policy`: every limit with its quota and its window in whole seconds, rounded up. A token bucket's quota is its burst,
/// its window the time in which the burst comes back. Months differ in length: they state no window. Shadow limits are not told.
/// No unit is registered for tokens, and a policy without one counts requests (§3, `qu`): a parameter of our own says so.
pub fn policy<'a>(limits: impl Iterator<Item = (&'a str, &'a Limit)>, key: Option<u64>, field: &mut String) {
    let mut separator = "";
    for (name, limit) in limits.filter(|(_, limit)| !limit.shadow) {
        let window = match limit.rule.algorithm {
            Algorithm::TokenBucket => Some(seconds_up(limit.rule.refill())),
            Algorithm::FixedWindow | Algorithm::SlidingWindow => limit.window().seconds(),
        };
        field.push_str(std::mem::replace(&mut separator, ", "));
        quoted(field, name);
        parameter(field, ";q=", limit.capacity());
        if let Some(window) = window {
            parameter(field, ";w=", window);
        }
        if limit.unit.tokens().is_some() {
            field.push_str(";allowance-unit=");
            quoted(field, &limit.unit.counted().replace(' ', "-"));
        }
        partition(field, key);
    }
}

fn quoted(field: &mut String, text: &str) {
    field.push('"');
    field.push_str(text);
    field.push('"');
}

fn parameter(field: &mut String, name: &str, value: u64) {
    field.push_str(name);
    Digits::of(value).append_to(field);
}

/// `pk`: a byte sequence.
fn partition(field: &mut String, key: Option<u64>) {
    if let Some(key) = key {
        field.push_str(";pk=:");
        field.push_str(&encode(&key.to_be_bytes(), Padding::Padded));
        field.push(':');
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

//! The header fields that say what is left: `RateLimit` (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651), `X-RateLimit`,
//! and those of the provider whose API the caller speaks.
//!
//! Names of limits need no escaping: what a limit may be called is a valid structured-field string as it stands.
//!
//! An upstream may say what is left there in the same fields. Ours take the place of its own where they are stricter, and are left out otherwise:
//! no field comes twice, and none tells the client that it may have more than the upstream gives (the draft's rule for intermediaries).

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

/// Fields that say one thing together: all of them are ours, or all are the upstream's.
#[derive(Clone, Debug)]
pub struct Group {
    /// They.
    pub fields: Vec<Field>,
    /// The field in which the upstream would say what is left there.
    pub told_in: &'static str,
    /// Units left here.
    pub remaining: u64,
    /// Reads what is left there; `None` for what cannot be understood.
    pub read: fn(&[u8]) -> Option<u64>,
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
            groups.push(Group { fields, told_in: "ratelimit", remaining, read: least });
        }
        if self.x_ratelimit {
            let fields = vec![
                ("x-ratelimit-limit", limit.capacity().to_string()),
                ("x-ratelimit-remaining", remaining.to_string()),
                ("x-ratelimit-reset", seconds.to_string()),
            ];
            groups.push(Group { fields, told_in: "x-ratelimit-remaining", remaining, read: count });
        }
        groups.extend(self.provider.and_then(|provider| provider(left)));
        groups
    }
}

// === impl Group ===

impl Group {
    /// Whether it takes the place of what the upstream says; `theirs` tells that of one field. Where the upstream has none of the fields, and
    /// where ours are stricter. What cannot be compared stays as it is, for it may be stricter: a part of the fields without the one that counts,
    /// or a response that cannot be asked.
    #[must_use]
    pub fn replaces<E>(&self, theirs: impl Fn(&str) -> Result<Option<Vec<u8>>, E>) -> bool {
        match theirs(self.told_in) {
            // What cannot be understood is to be ignored, also by the client.
            Ok(Some(left)) => (self.read)(&left).is_none_or(|theirs| self.remaining < theirs),
            Ok(None) => {
                let mut others = self.fields.iter().filter(|(name, _)| *name != self.told_in);
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
            let _ = write!(field, ";allowance-unit=\"{}\"", limit.unit.counted());
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

/// The smallest `r` in a `RateLimit` field. A list that is none has none: RFC 9651 would have all of it ignored.
fn least(value: &[u8]) -> Option<u64> {
    let mut least: Option<u64> = None;
    // The names may have commas and semicolons in them.
    let mut quoted = false;
    let mut escaped = false;
    let items = value.split(|byte| {
        let toggles = *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        quoted ^= toggles;
        !quoted && b",;".contains(byte)
    });
    for part in items {
        if let Some(number) = part.trim_ascii().strip_prefix(b"r=") {
            let number = count(number)?;
            least = Some(least.map_or(number, |least| least.min(number)));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_says_is_left_is_read() {
        for (value, left) in [
            (r#""a";r=5;t=10"#, Some(5)),
            (r#""a";r=5;t=10, "b"; t=1; r=3;pk=:AA==:"#, Some(3)),
            (r#""a;r=1";r=5"#, Some(5)),
            (r#""a\";r=1";r=5"#, Some(5)),
            (r#""a\\";r=4"#, Some(4)),
            (r#""a""#, None),
            (r#""a";r=-1"#, None),
            (r#""a";r=x"#, None),
            ("", None),
        ] {
            assert_eq!(least(value.as_bytes()), left, "{value}");
        }
        for (value, left) in [("10", Some(10)), (" 10, 100;w=60", Some(10)), ("-1", None), ("x", None), ("", None)] {
            assert_eq!(count(value.as_bytes()), left, "{value}");
        }
        assert_eq!(count(b"99999999999999999999"), None);
    }
}

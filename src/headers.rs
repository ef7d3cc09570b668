//! The header fields that say what is left: `RateLimit` (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651) and
//! `X-RateLimit`.
//!
//! Names of limits need no escaping: what a limit may be called is a valid structured-field string as it stands.

use crate::decision::Standing;
use crate::plan::{Algorithm, Limit};
use crate::window::seconds_up;
use std::fmt::Write;

/// Which fields allowed responses carry. Denials carry them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// `ratelimit-policy` and `ratelimit`.
    pub ratelimit: bool,
    /// `x-ratelimit-limit`, `x-ratelimit-remaining`, `x-ratelimit-reset`.
    pub x_ratelimit: bool,
}

/// A field's name in lower case, and its value.
pub type Field = (&'static str, String);

/// `RateLimit-Policy`: every limit with its quota and its window in whole seconds, rounded up. A token bucket's quota is its burst,
/// its window the time in which the burst comes back. Months differ in length: they state no window. Shadow limits are not told.
#[must_use]
pub fn policy<'a>(limits: impl Iterator<Item = (&'a str, &'a Limit)>) -> String {
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
    }
    field
}

/// The fields of `families`, about one limit: what is left of it, and in how many seconds all of it is back.
#[must_use]
pub fn fields(families: Families, policy: &str, name: &str, limit: &Limit, standing: &Standing) -> Vec<Field> {
    let mut fields = Vec::with_capacity(5);
    let reset = seconds_up(standing.reset);
    if families.ratelimit {
        fields.push(("ratelimit-policy", policy.to_owned()));
        fields.push(("ratelimit", format!("\"{name}\";r={};t={reset}", standing.remaining)));
    }
    if families.x_ratelimit {
        fields.push(("x-ratelimit-limit", limit.capacity().to_string()));
        fields.push(("x-ratelimit-remaining", standing.remaining.to_string()));
        fields.push(("x-ratelimit-reset", reset.to_string()));
    }
    fields
}

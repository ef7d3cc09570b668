//! The `RateLimit` fields of responses (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651).
//!
//! Names of limits need no escaping: what a limit may be called is a valid structured-field string as it stands.

use crate::decision::Standing;
use crate::plan::{Algorithm, Limit};
use crate::window::seconds_up;
use std::fmt::Write;

/// `RateLimit-Policy`: every limit with its quota and its window in whole seconds, rounded up. A token bucket's quota is its burst,
/// its window the time in which the burst comes back. Months differ in length: they state no window.
#[must_use]
pub fn policy(limits: &[Limit]) -> String {
    let mut field = String::new();
    for limit in limits {
        let separator = if field.is_empty() { "" } else { ", " };
        let window = match limit.rule.algorithm {
            Algorithm::TokenBucket => Some(seconds_up(limit.rule.refill())),
            Algorithm::FixedWindow | Algorithm::SlidingWindow => limit.window().seconds(),
        };
        // Writing to a string cannot fail.
        let _ = write!(field, "{separator}\"{}\";q={}", limit.name, limit.capacity());
        if let Some(window) = window {
            let _ = write!(field, ";w={window}");
        }
    }
    field
}

/// `RateLimit`: what is left of one limit, and in how many seconds all of it is back.
#[must_use]
pub fn ratelimit(limit: &Limit, standing: &Standing) -> String {
    format!("\"{}\";r={};t={}", limit.name, standing.remaining, seconds_up(standing.reset))
}

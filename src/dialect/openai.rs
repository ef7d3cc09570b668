//! OpenAI, and the many that copied it.
//!
//! A quota of days or months stays `rate_limit_exceeded`: no SDK treats `insufficient_quota` in another way (they look at the status and at
//! `x-should-retry`), and people whom it tells to pay OpenAI would do so in vain.

use super::{Asked, Dialect, Members, json_bytes};
use crate::headers::{Beside, Field, Group, Left};
use crate::refusal::{Facts, Pause};
use serde::Serialize;

pub(super) const DIALECT: Dialect = Dialect {
    name: "openai",
    speaks,
    content_type: Some("application/json"),
    body: |facts, _| json_bytes(&Envelope { error: ErrorBody::new(facts) }),
    fields,
    left: Some(|left| Some(group(left, duration(left.reset)))),
};

fn speaks(asked: &Asked<'_>) -> bool {
    asked.path_ends_with(&["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"])
        || asked.path.contains("/v1/responses/")
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorBody<'a>,
}

/// The members that OpenAI's SDKs and many others read.
#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    message: &'a str,
    r#type: String,
    param: (),
    code: &'a str,
    #[serde(flatten)]
    members: Members<'a>,
}

impl<'a> ErrorBody<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        let Facts { message, code, members, .. } = facts;
        Self { message, r#type: facts.kind(), param: (), code, members: Members(members) }
    }
}

/// What the SDKs show as `request_id`.
pub(super) fn fields(_: &Facts<'_>, asked: &Asked<'_>) -> Vec<Field> {
    asked.request_id().map(|id| ("x-request-id", id.to_owned())).into_iter().collect()
}

/// `reset` is when all of it is back.
pub(super) fn group(left: &Left<'_>, reset: String) -> Group {
    let [limit, remaining, resets] = match left.limit.unit.tokens() {
        None => ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        // It does not tell input and output apart.
        Some(_) => ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    };
    let fields =
        vec![(limit, left.limit.capacity().to_string()), (remaining, left.remaining.to_string()), (resets, reset)];
    Group { fields, beside: Beside::Either { told_in: remaining, remaining: left.remaining } }
}

/// A span as Go writes durations: `1s`, `6m0s`, `12ms`. Rounded up to milliseconds.
fn duration(span: u64) -> String {
    if span == 0 {
        return "0s".to_owned();
    }
    let all = Pause::of(span).milliseconds();
    if all < 1000 {
        return format!("{all}ms");
    }
    let (hours, minutes, seconds, rest) = (all / 3_600_000, all / 60_000 % 60, all / 1000 % 60, all % 1000);
    let fraction = format!(".{rest:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `time.Duration.String` of Go.
    #[test]
    fn spans_are_written_as_go_does() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ms"),
            (12_000_000, "12ms"),
            (999_000_001, "1s"),
            (1_500_000_000, "1.5s"),
            (26_604_000_000, "26.604s"),
            (60_000_000_000, "1m0s"),
            (360_000_000_000, "6m0s"),
            (3_600_050_000_000, "1h0m0.05s"),
            (25_920_000_000_000_000, "7200h0m0s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }
}

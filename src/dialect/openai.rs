//! OpenAI, and the many that copied it.
//!
//! A quota of days or months stays `rate_limit_exceeded`: no SDK treats `insufficient_quota` in another way (they look at the status and at
//! `x-should-retry`), and people whom it tells to pay OpenAI would do so in vain.

use super::writer::Writer;
use super::{Asked, Dialect, Signs};
use crate::digits::Digits;
use crate::fields::Fields;
use crate::headers::{Beside, Left};
use crate::refusal::Facts;
use crate::window::MILLISECOND;

pub(super) static DIALECT: Dialect = Dialect {
    name: "openai",
    signs: Signs {
        ends: &["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"],
        through: &["/v1/responses/"],
        header: None,
    },
    content_type: Some("application/json"),
    body: |facts, _| Writer::object(|body| write_error(facts, body)),
    fields,
    alike: false,
    left: Some(|left, fields| Some(left_of(left, fields, |reset| write_duration(left.reset, reset)))),
};

/// The member `error`, with what OpenAI's SDKs and many others read.
pub(super) fn write_error(facts: &Facts<'_>, body: &mut Writer) {
    body.nested("error", |error| {
        error.text("message", &facts.message);
        error.word("type", facts.kind());
        error.null("param");
        error.word("code", facts.code);
        error.members(&facts.members);
    });
}

/// What the SDKs show as `request_id`.
pub(super) fn fields(_: &Facts<'_>, asked: &Asked<'_>, fields: &mut Fields) {
    if let Some(id) = asked.request_id() {
        fields.push("x-request-id", id);
    }
}

/// `reset` writes when all of it is back.
pub(super) fn left_of(left: &Left<'_>, fields: &mut Fields, reset: impl FnOnce(&mut String)) -> Beside {
    let [limit, remaining, resets] = match left.limit.unit.tokens() {
        None => ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        // It does not tell input and output apart.
        Some(_) => ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    };
    fields.push_number(limit, left.limit.capacity());
    fields.push_number(remaining, left.remaining);
    fields.push_with(resets, reset);
    Beside { told_in: remaining, remaining: left.remaining }
}

/// A span as Go writes durations: `1s`, `6m0s`, `12ms`. Rounded up to milliseconds.
fn write_duration(span: u64, text: &mut String) {
    if span == 0 {
        text.push_str("0s");
        return;
    }
    let all = span.div_ceil(MILLISECOND);
    let mut part = |number: u64, unit: &str| {
        Digits::of(number).append_to(text);
        text.push_str(unit);
    };
    if all < 1000 {
        part(all, "ms");
        return;
    }
    let (hours, minutes, seconds, rest) = (all / 3_600_000, all / 60_000 % 60, all / 1000 % 60, all % 1000);
    if hours > 0 {
        part(hours, "h");
    }
    if hours > 0 || minutes > 0 {
        part(minutes, "m");
    }
    part(seconds, "");
    if rest > 0 {
        text.push('.');
        text.push_str(Digits::at_least(3, rest).as_str().trim_end_matches('0'));
    }
    text.push('s');
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
            let mut written = String::new();
            write_duration(nanoseconds, &mut written);
            assert_eq!(written, text);
        }
    }
}

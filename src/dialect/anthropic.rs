//! Anthropic: the type of error tells, and times are instants.

use super::writer::Writer;
use super::{Asked, Dialect, Header, Signs};
use crate::fields::Fields;
use crate::headers::{Beside, Left};
use crate::plan::Count;
use crate::refusal::{Class, Facts};

pub(super) static DIALECT: Dialect = Dialect {
    name: "anthropic",
    signs: Signs { ends: &["/v1/messages"], through: &["/v1/messages/"], header: Some(Header::AnthropicVersion) },
    content_type: Some("application/json"),
    body,
    fields,
    alike: false,
    left: Some(|left, fields| Some(left_of(left, fields))),
};

fn body(facts: &Facts<'_>, asked: &Asked<'_>) -> Vec<u8> {
    let r#type = match facts.class {
        Class::RateLimited => "rate_limit_error",
        Class::TooLarge => "request_too_large",
        Class::Invalid => "invalid_request_error",
        Class::Unauthenticated => "authentication_error",
        Class::Forbidden => "permission_error",
        Class::Unavailable => "api_error",
    };
    Writer::object(|body| {
        body.word("type", "error");
        body.nested("error", |error| {
            error.word("type", r#type);
            error.text("message", &facts.message);
            error.members(&facts.members);
        });
        if let Some(id) = asked.request_id() {
            body.word("request_id", id);
        }
    })
}

fn fields(_: &Facts<'_>, asked: &Asked<'_>, fields: &mut Fields) {
    if let Some(id) = asked.request_id() {
        fields.push("request-id", id);
    }
}

fn left_of(left: &Left<'_>, fields: &mut Fields) -> Beside {
    let [limit, remaining, reset] = match left.limit.unit.tokens() {
        None => [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        Some(Count::Total) => [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        Some(Count::Input) => [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
        Some(Count::Output) => [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
    };
    fields.push_number(limit, left.limit.capacity());
    fields.push_number(remaining, left.remaining);
    fields.push(reset, &left.now.after(left.reset).rfc3339());
    Beside { told_in: remaining, remaining: left.remaining }
}

//! Anthropic: the type of error tells, and times are instants.

use super::{Asked, Dialect, Members, json_bytes};
use crate::headers::{Beside, Field, Group, Left};
use crate::plan::Count;
use crate::refusal::{Class, Facts};
use serde::Serialize;

pub(super) const DIALECT: Dialect = Dialect {
    name: "anthropic",
    speaks,
    content_type: Some("application/json"),
    body,
    fields,
    left: Some(|left| Some(group(left))),
};

fn speaks(asked: &Asked<'_>) -> bool {
    asked.header("anthropic-version").is_some()
        || asked.path.ends_with("/v1/messages")
        || asked.path.contains("/v1/messages/")
}

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: &'a str,
    error: ErrorBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    r#type: &'a str,
    message: &'a str,
    #[serde(flatten)]
    members: Members<'a>,
}

fn body(facts: &Facts<'_>, asked: &Asked<'_>) -> Vec<u8> {
    let r#type = match facts.class {
        Class::RateLimited => "rate_limit_error",
        Class::TooLarge => "request_too_large",
        Class::Invalid => "invalid_request_error",
        Class::Unauthenticated => "authentication_error",
        Class::Forbidden => "permission_error",
        Class::Unavailable => "api_error",
    };
    let error = ErrorBody { r#type, message: &facts.message, members: Members(&facts.members) };
    json_bytes(&Envelope { r#type: "error", error, request_id: asked.request_id() })
}

fn fields(_: &Facts<'_>, asked: &Asked<'_>) -> Vec<Field> {
    asked.request_id().map(|id| ("request-id", id.to_owned())).into_iter().collect()
}

fn group(left: &Left<'_>) -> Group {
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
    let fields = vec![
        (limit, left.limit.capacity().to_string()),
        (remaining, left.remaining.to_string()),
        (reset, left.now.after(left.reset).rfc3339()),
    ];
    Group { fields, beside: Beside::Either { told_in: remaining, remaining: left.remaining } }
}

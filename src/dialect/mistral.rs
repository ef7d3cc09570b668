//! Mistral: flat, and on OpenAI's paths, so that only a configuration can ask for it.

use super::{Asked, Dialect, Members, json_bytes, never, no_fields};
use crate::headers::{Beside, Group, Left};
use crate::refusal::{Class, Facts};
use serde::Serialize;

pub(super) const DIALECT: Dialect = Dialect {
    name: "mistral",
    speaks: never,
    content_type: Some("application/json"),
    body,
    fields: no_fields,
    left: Some(group),
};

#[derive(Serialize)]
struct Body<'a> {
    object: &'a str,
    message: &'a str,
    r#type: &'a str,
    param: (),
    code: &'a str,
    raw_status_code: u16,
    #[serde(flatten)]
    members: Members<'a>,
}

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    let (r#type, code) = match facts.class {
        Class::RateLimited => ("rate_limited", "1300"),
        Class::TooLarge => ("rate_limited", facts.code),
        Class::Unavailable => ("server_error", facts.code),
        Class::Invalid | Class::Unauthenticated | Class::Forbidden => ("invalid_request_error", facts.code),
    };
    let Facts { status, message, members, .. } = facts;
    let raw_status_code = *status;
    let members = Members(members);
    json_bytes(&Body { object: "error", message, r#type, param: (), code, raw_status_code, members })
}

/// Its fields are per minute by name, so only limits of a minute are told.
fn group(left: &Left<'_>) -> Option<Group> {
    let [limit, remaining] = match left.limit.unit.tokens() {
        None => ["x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute"],
        Some(_) => ["x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute"],
    };
    let fields = vec![(limit, left.limit.capacity().to_string()), (remaining, left.remaining.to_string())];
    let group = Group { fields, beside: Beside::Either { told_in: remaining, remaining: left.remaining } };
    (left.limit.window().seconds() == Some(60)).then_some(group)
}

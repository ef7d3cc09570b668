//! Mistral: flat, and on OpenAI's paths, so that only a configuration can ask for it.

use super::writer::Writer;
use super::{Asked, Dialect, Signs, no_fields};
use crate::fields::Fields;
use crate::headers::{Beside, Left};
use crate::refusal::{Class, Facts};

pub(super) static DIALECT: Dialect = Dialect {
    name: "mistral",
    signs: Signs::NONE,
    content_type: Some("application/json"),
    body,
    fields: no_fields,
    alike: false,
    left: Some(left_of),
};

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    let (r#type, code) = match facts.class {
        Class::RateLimited => ("rate_limited", "1300"),
        Class::TooLarge => ("rate_limited", facts.code),
        Class::Unavailable => ("server_error", facts.code),
        Class::Invalid | Class::Unauthenticated | Class::Forbidden => ("invalid_request_error", facts.code),
    };
    Writer::object(|body| {
        body.word("object", "error");
        body.text("message", &facts.message);
        body.word("type", r#type);
        body.null("param");
        body.word("code", code);
        body.number("raw_status_code", facts.status.into());
        body.members(&facts.members);
    })
}

/// Its fields are per minute by name, so only limits of a minute are told.
fn left_of(left: &Left<'_>, fields: &mut Fields) -> Option<Beside> {
    if left.limit.window().seconds() != Some(60) {
        return None;
    }
    let [limit, remaining] = match left.limit.unit.tokens() {
        None => ["x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute"],
        Some(_) => ["x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute"],
    };
    fields.push_number(limit, left.limit.capacity());
    fields.push_number(remaining, left.remaining);
    Some(Beside { told_in: remaining, remaining: left.remaining })
}

//! Problem details (RFC 9457), with the problem type of draft-ietf-httpapi-ratelimit-headers. The member `error` is for SDKs that look for it.

use super::writer::Writer;
use super::{Asked, Dialect, Header, Signs, no_fields, openai};
use crate::refusal::{Class, Facts};
use crate::request::Lines;

pub(super) static DIALECT: Dialect = Dialect {
    name: "problem",
    signs: Signs::NONE,
    content_type: Some(KIND),
    body,
    fields: no_fields,
    alike: true,
    left: None,
};

const KIND: &str = "application/problem+json";
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Whether `accept` names it, and not as what is not wanted.
pub(super) fn speaks(asked: &Asked<'_>) -> bool {
    match asked.lines(Header::Accept) {
        Lines::None => false,
        Lines::One(value) => names_it(value),
        Lines::Several => asked.headers.values(Header::Accept.name()).any(names_it),
    }
}

fn names_it(value: &[u8]) -> bool {
    // Most are too short for that.
    value.len() >= KIND.len()
        && value.split(|byte| *byte == b',').any(|range| {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let problem = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(KIND.as_bytes()));
            let refused = |parameter: &[u8]| {
                let quality = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
                quality.is_some_and(|quality| quality.starts_with(b"0") && quality.iter().all(|b| b"0.".contains(b)))
            };
            problem && !parts.any(refused)
        })
}

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    let (r#type, title) = match facts.class {
        Class::RateLimited | Class::TooLarge => {
            (QUOTA_EXCEEDED, "Request cannot be satisfied as assigned quota has been exceeded")
        }
        // RFC 9457 §4.2.1: then the title is the status's.
        Class::Invalid => ("about:blank", "Bad Request"),
        Class::Unauthenticated => ("about:blank", "Unauthorized"),
        Class::Forbidden => ("about:blank", "Forbidden"),
        Class::Unavailable => ("about:blank", "Service Unavailable"),
    };
    Writer::object(|body| {
        body.word("type", r#type);
        body.word("title", title);
        body.number("status", facts.status.into());
        body.text("detail", &facts.message);
        if let Some(denied) = &facts.denied {
            body.list("violated-policies", |policies| policies.item_word(denied.name));
        }
        openai::write_error(facts, body);
    })
}

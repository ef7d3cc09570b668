//! The default: OpenAI's error object, and the limit beside it.

use super::writer::Writer;
use super::{Asked, Dialect, Signs, no_fields, openai};
use crate::refusal::Facts;

pub(super) static DIALECT: Dialect = Dialect {
    name: "json",
    signs: Signs::NONE,
    content_type: Some("application/json"),
    body,
    fields: no_fields,
    alike: true,
    left: None,
};

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    Writer::object(|body| {
        openai::write_error(facts, body);
        if let Some(denied) = facts.denied.as_ref().filter(|denied| denied.expose) {
            body.nested("limit", |limit| {
                limit.word("name", &denied.limit.label);
                limit.word("plan", denied.plan);
                limit.word("unit", denied.limit.unit.name());
                limit.number("max", denied.limit.max().get());
                limit.word("per", denied.per);
                limit.number("cost", denied.cost);
                limit.number("remaining", denied.remaining);
                if let Some(wait) = denied.wait {
                    limit.number("retry_after", wait.seconds());
                }
            });
        }
    })
}

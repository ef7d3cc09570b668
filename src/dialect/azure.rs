//! Azure OpenAI: the code is the status, and times are bare seconds.

use super::writer::Writer;
use super::{Asked, Dialect, openai};
use crate::digits::Digits;
use crate::refusal::Facts;
use crate::window::seconds_up;

pub(super) const DIALECT: Dialect = Dialect {
    name: "azure",
    speaks: |asked| asked.path_has("/openai/deployments/") || asked.path_has("/openai/v1/"),
    content_type: Some("application/json"),
    body,
    fields: openai::fields,
    alike: false,
    left: Some(|left, fields| {
        Some(openai::left_of(left, fields, |reset| Digits::of(seconds_up(left.reset)).append_to(reset)))
    }),
};

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    Writer::object(|body| {
        body.nested("error", |error| {
            error.word("code", Digits::of(facts.status.into()).as_str());
            error.text("message", &facts.message);
            error.members(&facts.members);
        });
    })
}

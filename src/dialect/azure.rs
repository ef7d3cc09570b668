//! Azure OpenAI: the code is the status, and times are bare seconds.

use super::writer::Writer;
use super::{Asked, Dialect, Signs, openai};
use crate::digits::Digits;
use crate::refusal::Facts;
use crate::window::seconds_up;

pub(super) static DIALECT: Dialect = Dialect {
    name: "azure",
    signs: Signs { through: &["/openai/deployments/", "/openai/v1/"], ..Signs::NONE },
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

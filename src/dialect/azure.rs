//! Azure OpenAI: the code is the status, and times are bare seconds.

use super::{Asked, Dialect, Members, json_bytes, openai};
use crate::refusal::Facts;
use crate::window::seconds_up;
use serde::Serialize;

pub(super) const DIALECT: Dialect = Dialect {
    name: "azure",
    speaks: |asked| asked.path.contains("/openai/deployments/") || asked.path.contains("/openai/v1/"),
    content_type: Some("application/json"),
    body,
    fields: openai::fields,
    left: Some(|left| Some(openai::group(left, seconds_up(left.reset).to_string()))),
};

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorBody<'a>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: String,
    message: &'a str,
    #[serde(flatten)]
    members: Members<'a>,
}

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    let Facts { status, message, members, .. } = facts;
    json_bytes(&Envelope { error: ErrorBody { code: status.to_string(), message, members: Members(members) } })
}

//! The default: OpenAI's error object, and the limit beside it.

use super::openai::ErrorBody;
use super::{Asked, Dialect, json_bytes, never, no_fields};
use crate::refusal::{Denied, Facts, Pause};
use serde::Serialize;

pub(super) const DIALECT: Dialect = Dialect {
    name: "json",
    speaks: never,
    content_type: Some("application/json"),
    body,
    fields: no_fields,
    left: None,
};

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitBody<'a>>,
}

#[derive(Serialize)]
struct LimitBody<'a> {
    name: &'a str,
    plan: &'a str,
    unit: String,
    max: u64,
    per: String,
    cost: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl<'a> LimitBody<'a> {
    fn new(denied: &Denied<'a>) -> Self {
        let Denied { limit, plan, cost, remaining, wait, .. } = *denied;
        let (unit, max, per) = (limit.unit.to_string(), limit.max().get(), limit.window().to_string());
        Self { name: &limit.label, plan, unit, max, per, cost, remaining, retry_after: wait.map(Pause::seconds) }
    }
}

fn body(facts: &Facts<'_>, _: &Asked<'_>) -> Vec<u8> {
    let limit = facts.denied.as_ref().filter(|denied| denied.expose).map(LimitBody::new);
    json_bytes(&Envelope { error: ErrorBody::new(facts), limit })
}

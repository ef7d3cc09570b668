//! Google Gemini: `google.rpc.Status` in JSON. Streams that are JSON arrays, and the OpenAI-compatible endpoint, have their errors in arrays.

use super::{Asked, Dialect, Members, json_bytes, no_fields};
use crate::refusal::{Class, Facts, Pause};
use serde::Serialize;

pub(super) const DIALECT: Dialect =
    Dialect { name: "gemini", speaks, content_type: Some("application/json"), body, fields: no_fields, left: None };

const METHODS: [&str; 5] =
    [":generateContent", ":streamGenerateContent", ":countTokens", ":embedContent", ":batchEmbedContents"];

fn speaks(asked: &Asked<'_>) -> bool {
    asked.path_ends_with(&METHODS) || is_compatible(asked) || asked.header("x-goog-api-key").is_some()
}

/// The endpoint for OpenAI's clients.
fn is_compatible(asked: &Asked<'_>) -> bool {
    asked.path.contains("/v1beta/openai/")
}

fn in_array(asked: &Asked<'_>) -> bool {
    let events = || asked.query.split(|byte| *byte == b'&').any(|parameter| parameter == b"alt=sse");
    is_compatible(asked) || (asked.path.ends_with(":streamGenerateContent") && !events())
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Status<'a>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
    status: &'a str,
    details: Vec<Detail<'a>>,
    #[serde(flatten)]
    members: Members<'a>,
}

#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    #[serde(rename = "type.googleapis.com/google.rpc.QuotaFailure")]
    QuotaFailure { violations: [Violation<'a>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo", rename_all = "camelCase")]
    RetryInfo { retry_delay: String },
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo { reason: String, domain: &'a str },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Violation<'a> {
    quota_metric: String,
    quota_id: &'a str,
}

fn body(facts: &Facts<'_>, asked: &Asked<'_>) -> Vec<u8> {
    let status = match facts.class {
        Class::RateLimited | Class::TooLarge => "RESOURCE_EXHAUSTED",
        Class::Invalid => "INVALID_ARGUMENT",
        Class::Unauthenticated => "UNAUTHENTICATED",
        Class::Forbidden => "PERMISSION_DENIED",
        Class::Unavailable => "UNAVAILABLE",
    };
    let mut details = Vec::new();
    match &facts.denied {
        Some(denied) => {
            let violation = Violation { quota_metric: facts.kind(), quota_id: denied.name };
            details.push(Detail::QuotaFailure { violations: [violation] });
            details.extend(denied.wait.map(|wait| Detail::RetryInfo { retry_delay: duration(wait) }));
        }
        None => details.push(Detail::ErrorInfo { reason: facts.code.to_uppercase(), domain: "allowance" }),
    }
    let Facts { status: code, message, members, .. } = facts;
    let error = Envelope { error: Status { code: *code, message, status, details, members: Members(members) } };
    if in_array(asked) { json_bytes(&[error]) } else { json_bytes(&error) }
}

/// A protobuf duration in JSON: seconds with none or three decimals.
fn duration(wait: Pause) -> String {
    let (seconds, rest) = (wait.milliseconds() / 1000, wait.milliseconds() % 1000);
    if rest == 0 { format!("{seconds}s") } else { format!("{seconds}.{rest:03}s") }
}

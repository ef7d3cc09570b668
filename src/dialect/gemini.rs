//! Google Gemini: `google.rpc.Status` in JSON. Streams that are JSON arrays, and the OpenAI-compatible endpoint, have their errors in arrays.

use super::writer::Writer;
use super::{Asked, Dialect, Header, Signs, no_fields};
use crate::digits::Digits;
use crate::refusal::{Class, Facts, Pause};

pub(super) static DIALECT: Dialect = Dialect {
    name: "gemini",
    signs: Signs { ends: &METHODS, through: &[COMPATIBLE], header: Some(Header::GoogleKey) },
    content_type: Some("application/json"),
    body,
    fields: no_fields,
    alike: false,
    left: None,
};

const METHODS: [&str; 5] =
    [":generateContent", ":streamGenerateContent", ":countTokens", ":embedContent", ":batchEmbedContents"];

/// The endpoint for OpenAI's clients.
const COMPATIBLE: &str = "/v1beta/openai/";

fn is_compatible(asked: &Asked<'_>) -> bool {
    asked.path_has(COMPATIBLE)
}

fn in_array(asked: &Asked<'_>) -> bool {
    let events = || asked.query.split(|byte| *byte == b'&').any(|parameter| parameter == b"alt=sse");
    is_compatible(asked) || (asked.path_ends_with(&[":streamGenerateContent"]) && !events())
}

fn body(facts: &Facts<'_>, asked: &Asked<'_>) -> Vec<u8> {
    let status = match facts.class {
        Class::RateLimited | Class::TooLarge => "RESOURCE_EXHAUSTED",
        Class::Invalid => "INVALID_ARGUMENT",
        Class::Unauthenticated => "UNAUTHENTICATED",
        Class::Forbidden => "PERMISSION_DENIED",
        Class::Unavailable => "UNAVAILABLE",
    };
    let write = |body: &mut Writer| {
        body.nested("error", |error| {
            error.number("code", facts.status.into());
            error.text("message", &facts.message);
            error.word("status", status);
            error.list("details", |details| write_details(facts, details));
            error.members(&facts.members);
        });
    };
    if in_array(asked) { Writer::array(write) } else { Writer::object(write) }
}

fn write_details(facts: &Facts<'_>, details: &mut Writer) {
    let Some(denied) = &facts.denied else {
        details.item(|detail| {
            detail.word("@type", "type.googleapis.com/google.rpc.ErrorInfo");
            detail.word("reason", &facts.code.to_ascii_uppercase());
            detail.word("domain", "allowance");
        });
        return;
    };
    details.item(|detail| {
        detail.word("@type", "type.googleapis.com/google.rpc.QuotaFailure");
        detail.list("violations", |violations| {
            violations.item(|violation| {
                violation.word("quotaMetric", facts.kind());
                violation.word("quotaId", denied.name);
            });
        });
    });
    if let Some(wait) = denied.wait {
        details.item(|detail| {
            detail.word("@type", "type.googleapis.com/google.rpc.RetryInfo");
            detail.word("retryDelay", &duration(wait));
        });
    }
}

/// A protobuf duration in JSON: seconds with none or three decimals.
fn duration(wait: Pause) -> String {
    let (seconds, rest) = (wait.milliseconds() / 1000, wait.milliseconds() % 1000);
    let mut text = String::with_capacity(24);
    Digits::of(seconds).append_to(&mut text);
    if rest > 0 {
        text.push('.');
        Digits::at_least(3, rest).append_to(&mut text);
    }
    text.push('s');
    text
}

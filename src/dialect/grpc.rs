//! gRPC: status and sentence. The proxy makes a trailers-only response of a local reply with a gRPC status, and its body becomes `grpc-message`.
//!
//! How long to wait is said twice: in `google.rpc.RetryInfo` among the status's details, for applications, and as pushback (gRPC proposal A6),
//! for the clients' own retries.

use super::{Asked, Dialect, Header, Signs};
use crate::base64::{Padding, encode};
use crate::digits::Digits;
use crate::fields::Fields;
use crate::refusal::{Denied, Facts, LONGEST_RETRY};

pub(super) static DIALECT: Dialect = Dialect {
    name: "grpc",
    // Known before any other, and never by name.
    signs: Signs::NONE,
    content_type: None,
    body: |facts, _| facts.message.as_bytes().to_vec(),
    fields,
    alike: false,
    left: None,
};

pub(super) fn speaks(asked: &Asked<'_>) -> bool {
    let rest = asked.header(Header::ContentType).and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"))
}

fn fields(facts: &Facts<'_>, _: &Asked<'_>, fields: &mut Fields) {
    let Some(denied) = &facts.denied else {
        return;
    };
    fields.push("grpc-status-details-bin", &encode(&status(facts, denied), Padding::Bare));
    // Negative: do not retry.
    let longest = |seconds| seconds <= LONGEST_RETRY;
    match denied.wait.filter(|wait| longest(wait.seconds())) {
        Some(wait) => fields.push_number("grpc-retry-pushback-ms", wait.milliseconds()),
        None => fields.push("grpc-retry-pushback-ms", "-1"),
    }
}

/// `google.rpc.Status`.
fn status(facts: &Facts<'_>, denied: &Denied<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    number(&mut message, 1, u64::try_from(facts.grpc_status()).unwrap_or_default());
    bytes(&mut message, 2, facts.message.as_bytes());
    if let Some(wait) = denied.wait {
        // google.protobuf.Duration, in RetryInfo.retry_delay.
        let mut delay = Vec::new();
        number(&mut delay, 1, wait.milliseconds() / 1000);
        number(&mut delay, 2, (wait.milliseconds() % 1000).saturating_mul(1_000_000));
        let mut info = Vec::new();
        bytes(&mut info, 1, &delay);
        any(&mut message, "type.googleapis.com/google.rpc.RetryInfo", &info);
    }
    // QuotaFailure.Violation, in QuotaFailure.violations.
    let mut violation = Vec::new();
    bytes(&mut violation, 1, denied.name.as_bytes());
    if denied.expose {
        let max = Digits::of(denied.limit.max().get());
        let description = [max.as_str(), " ", denied.limit.unit.name(), " per ", denied.per].concat();
        bytes(&mut violation, 2, description.as_bytes());
    }
    let mut failure = Vec::new();
    bytes(&mut failure, 1, &violation);
    any(&mut message, "type.googleapis.com/google.rpc.QuotaFailure", &failure);
    message
}

/// `google.protobuf.Any`, one of the status's details.
fn any(message: &mut Vec<u8>, kind: &str, value: &[u8]) {
    let mut any = Vec::new();
    bytes(&mut any, 1, kind.as_bytes());
    bytes(&mut any, 2, value);
    bytes(message, 3, &any);
}

/// A field of variable length.
fn bytes(message: &mut Vec<u8>, field: u8, value: &[u8]) {
    message.push(field << 3 | 2);
    varint(message, u64::try_from(value.len()).unwrap_or_default());
    message.extend_from_slice(value);
}

/// A whole number; 0 is left out, as protobuf has it.
fn number(message: &mut Vec<u8>, field: u8, value: u64) {
    if value > 0 {
        message.push(field << 3);
        varint(message, value);
    }
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        message.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    message.push(u8::try_from(value).unwrap_or_default());
}

//! What tests of callers ask with, and how they read what they are told.

use crate::support::envoy::Envoy;
use crate::support::http::Response;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The hash of a key as 64 hexadecimal digits.
pub(crate) fn hex(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A consumer with these keys, an item of `consumers`; `more` are other fields, each after a comma.
pub(crate) fn consumer(name: &str, plan: &str, keys: &[&str], more: &str) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"sha256:{}\"", hex(key))).collect();
    format!("{{name: {name}, plan: {plan}, keys: [{}]{more}}}", keys.join(", "))
}

/// Status, and the code of a refusal; a refusal must be in our envelope.
pub(crate) fn refusal(response: &Response) -> (u16, String) {
    let code = response.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (response.status, code)
}

/// The limit that an answer reports, and what is left of it: `ratelimit: "1m";r=3;t=60`.
pub(crate) fn left(response: &Response) -> (String, u64) {
    let field = response.header("ratelimit").unwrap_or_else(|| panic!("no ratelimit in {response:?}"));
    let mut parts = field.split(';');
    let name = parts.next().unwrap_or_default().trim_matches('"').to_owned();
    let remaining = parts.next().and_then(|part| part.strip_prefix("r=")?.parse().ok());
    (name, remaining.unwrap_or_else(|| panic!("no r in {field}")))
}

/// One series of a metric: its labels and its value.
pub(crate) type Series = (BTreeMap<String, String>, u64);

/// All series of a metric, zeros too.
pub(crate) fn series(envoy: &Envoy, name: &str) -> Vec<Series> {
    let text = envoy.admin_get("/stats/prometheus");
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    lines
        .map(|(labels, value)| {
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            let labels = labels.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()));
            (labels.collect(), value.parse().expect("a counter or gauge"))
        })
        .collect()
}

/// How many requests met each decision, over all plans and limits; decisions that never came are left out.
pub(crate) fn decisions(envoy: &Envoy) -> BTreeMap<String, u64> {
    let mut decisions = BTreeMap::new();
    for (labels, value) in series(envoy, "allowance_requests_total") {
        *decisions.entry(labels["decision"].clone()).or_default() += value;
    }
    decisions.retain(|_, value| *value > 0);
    decisions
}

/// Decisions as a test states them.
pub(crate) fn counted(decisions: &[(&str, u64)]) -> BTreeMap<String, u64> {
    decisions.iter().map(|(decision, count)| ((*decision).to_owned(), *count)).collect()
}

/// A filter that authenticates for the one under test: what this request header says becomes dynamic metadata, as if it had been
/// found in a token. The header is removed.
pub(crate) fn header_to_metadata(entries: &[(&str, &str, &str)]) -> String {
    let rule = |(header, namespace, key): &(&str, &str, &str)| {
        format!(
            "    - {{header: {header}, remove: true, on_header_present: {{metadata_namespace: {namespace}, key: {key}, type: STRING}}}}\n"
        )
    };
    let rules: String = entries.iter().map(rule).collect();
    format!(
        r#"- name: envoy.filters.http.header_to_metadata
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
    request_rules:
{rules}"#
    )
}

/// A filter that sets this dynamic metadata on every request.
pub(crate) fn set_metadata(namespace: &str, value: &str) -> String {
    format!(
        r#"- name: envoy.filters.http.set_metadata
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config
    metadata: [{{metadata_namespace: {namespace}, value: {value}}}]
"#
    )
}

//! An Envoy with limits in tokens in front of an upstream.

use crate::asking::consumer;
use crate::support::envoy::{Builder, Envoy};
use crate::support::http::{Connection, Request, Response};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The module under test.
pub(crate) fn module() -> PathBuf {
    std::env::var("ALLOWANCE_LLM_WASM")
        .unwrap_or_else(|_| panic!("ALLOWANCE_LLM_WASM is not set: run \"make test\""))
        .into()
}

/// An Envoy that shows bodies while heads wait.
pub(crate) fn envoy(configuration: &str, clusters: &str) -> Builder {
    hiding(configuration, clusters).holds_headers()
}

/// One that does not.
pub(crate) fn hiding(configuration: &str, clusters: &str) -> Builder {
    Envoy::with(configuration).module(module()).clusters(clusters).routes(ROUTE)
}

/// What waits may be larger than what the filter reads, or Envoy answers 413 when a body turns out to be.
pub(crate) const ROUTE: &str =
    "- {match: {prefix: /}, route: {cluster: llm, timeout: 0s}, request_body_buffer_limit: 4194304}";

/// Consumers of one plan, each with its name as its key. What is left is told on every response.
pub(crate) fn configuration(limits: &str, consumers: &[&str], more: &str) -> String {
    let listed: String =
        consumers.iter().map(|name| format!("  - {}\n", consumer(name, "metered", &[name], ""))).collect();
    format!(
        "api_key: {{from: [{{bearer: authorization}}, {{header: x-api-key}}, {{header: x-goog-api-key}}]}}
headers: [x-ratelimit]
plans: {{metered: {{limits: {limits}}}}}
consumers:
{listed}{more}"
    )
}

/// The limit that is reported and what of it is used, by what a request without a body is told, which takes no tokens.
pub(crate) fn used(envoy: &Envoy, key: &str) -> u64 {
    let response = envoy.get("/v1/models", &[("x-api-key", key)]);
    let number = |name: &str| -> u64 {
        response.header(name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {response:?}"))
    };
    number("x-ratelimit-limit") - number("x-ratelimit-remaining")
}

/// A chat of so many tokens at most.
pub(crate) fn chat(max_tokens: u64, more: Value) -> Value {
    let mut body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}], "max_completion_tokens": max_tokens});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A request with this body.
pub(crate) fn post(path: &str, key: &str, body: &Value) -> Request {
    Request::new("POST", path)
        .header("x-api-key", key)
        .header("content-type", "application/json")
        .body(body.to_string())
}

/// What it is answered, on a connection of its own.
pub(crate) fn ask(envoy: &Envoy, request: &Request) -> Response {
    Connection::open(envoy.addr()).exchange(request)
}

/// A non-streaming answer in OpenAI's form.
pub(crate) fn answer(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    let choices = json!([{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]);
    json!({"id": "c", "object": "chat.completion", "model": "gpt-5", "choices": choices, "usage": usage}).to_string()
}

/// An event of a stream in that form, with a text.
pub(crate) fn delta(text: &str) -> String {
    let choices = json!([{"index": 0, "delta": {"content": text}, "finish_reason": null}]);
    format!("data: {}\n\n", json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-5", "choices": choices}))
}

/// The event with the usage, which comes last.
pub(crate) fn usage_chunk(input: u64, output: u64) -> String {
    let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output});
    format!(
        "data: {}\n\n",
        json!({"id": "c", "object": "chat.completion.chunk", "model": "gpt-5", "choices": [], "usage": usage})
    )
}

/// The end of a stream in OpenAI's form.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

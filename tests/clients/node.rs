//! The official Node SDKs.

use crate::sdk::{Row, Script};
use serde_json::json;

#[test]
fn openai_for_node_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "RateLimitError",
        unauthorized: "AuthenticationError",
        ..Row::new(Script::Node, "openai", &["chat", "chat_stream", "responses", "responses_stream"])
    };
    let (came, _) = row.assert();
    let denied = came.last("over-days");
    assert_eq!((&denied.kind, &denied.code), (&json!("requests"), &json!("rate_limit_exceeded")), "{denied:?}");
    assert_eq!(came.last("nobody").code, "invalid_api_key");
}

#[test]
fn anthropic_for_node_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "RateLimitError",
        unauthorized: "AuthenticationError",
        ..Row::new(Script::Node, "anthropic", &["messages", "messages_stream"])
    };
    let (came, _) = row.assert();
    assert_eq!(came.last("over-days").kind, "rate_limit_error");
    assert_eq!(came.last("nobody").kind, "authentication_error");
}

//! The official Node SDKs.

use crate::sdk::{Row, Script};

#[test]
fn openai_for_node_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "RateLimitError",
        unauthorized: "AuthenticationError",
        ..Row::new(Script::Node, "openai", &["chat", "chat_stream", "responses", "responses_stream"])
    };
    row.assert();
}

#[test]
fn anthropic_for_node_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "RateLimitError",
        unauthorized: "AuthenticationError",
        ..Row::new(Script::Node, "anthropic", &["messages", "messages_stream"])
    };
    row.assert();
}

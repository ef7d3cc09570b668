//! The official Python SDKs. Each must behave as it is known to: what it raises, how often it tries, how long it waits.

use crate::sdk::{Retries, Row, Run, Script, assert_waited};
use serde_json::{Value, json};

const OPENAI: &[&str] = &["chat", "chat_stream", "responses", "responses_stream", "embeddings"];

#[test]
fn openai_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "openai.RateLimitError",
        unauthorized: "openai.AuthenticationError",
        more: vec![(Run::new("impatient", "chat", 2).with(json!({"max_retries": 0})), "seconds")],
        ..Row::new(Script::Python, "openai", OPENAI)
    };
    let (came, gateway) = row.assert();
    let impatient = came.last("impatient");
    impatient.assert_denied("openai.RateLimitError", "1 per 2s");
    assert_eq!((&impatient.kind, &impatient.code), (&json!("requests"), &json!("rate_limit_exceeded")));
    assert_eq!(gateway.attempts().statuses("impatient"), [200, 429]);
    assert_eq!(came.last("nobody").code, "invalid_api_key");
}

#[test]
fn azure_openai_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "openai.RateLimitError",
        unauthorized: "openai.AuthenticationError",
        ..Row::new(Script::Python, "azure", &["chat", "chat_stream"])
    };
    let (came, _) = row.assert();
    let denied = came.last("over-days");
    assert_eq!((&denied.kind, &denied.code), (&Value::Null, &json!("429")), "{denied:?}");
}

#[test]
fn anthropic_waits_as_told_and_raises_its_rate_limit_error() {
    let row = Row {
        denied: "anthropic.RateLimitError",
        unauthorized: "anthropic.AuthenticationError",
        ..Row::new(Script::Python, "anthropic", &["messages", "messages_stream"])
    };
    let (came, _) = row.assert();
    assert_eq!(came.last("over-days").kind, "rate_limit_error");
    assert_eq!(came.last("over-streaming").kind, "rate_limit_error");
    assert_eq!(came.last("nobody").kind, "authentication_error");
}

#[test]
fn mistralai_raises_unless_it_is_made_to_wait() {
    let row = Row {
        denied: "mistralai.client.errors.sdkerror.SDKError",
        unauthorized: "mistralai.client.errors.sdkerror.SDKError",
        retries: Retries::Never,
        // Its paths are OpenAI's: only a rule can tell.
        configuration: "rules: [{name: mistral, match: {path: {prefix: /v1}}, format: mistral}]\n",
        more: vec![(Run::new("patient", "chat", 2).with(json!({"retries": true})), "seconds")],
        ..Row::new(Script::Python, "mistral", &["chat", "chat_stream"])
    };
    let (came, gateway) = row.assert();
    let denied = came.last("over-days");
    for member in [r#""object":"error""#, r#""type":"rate_limited""#, r#""code":"1300""#, r#""raw_status_code":429"#] {
        assert!(denied.body.contains(member), "{member} is not in {denied:?}");
    }
    came.last("patient").assert_answered();
    assert_waited(&gateway, "patient");
}

#[test]
fn google_genai_raises_unless_it_is_made_to_retry_by_a_clock_of_its_own() {
    let row = Row {
        denied: "google.genai.errors.ClientError",
        unauthorized: "google.genai.errors.ClientError",
        retries: Retries::Never,
        more: vec![(Run::new("patient", "generate", 2).with(json!({"retries": true})), "seconds")],
        ..Row::new(Script::Python, "google", &["generate", "generate_stream"])
    };
    let (came, gateway) = row.assert();
    for run in ["over-days", "over-streaming"] {
        let denied = came.last(run);
        assert_eq!((&denied.state, &denied.code), (&json!("RESOURCE_EXHAUSTED"), &json!(429)), "{denied:?}");
    }
    assert_eq!(came.last("nobody").state, "UNAUTHENTICATED");
    // It reads no retry-after: it comes back after a second and something, and again after two more; the quota is back after two.
    came.last("patient").assert_answered();
    let statuses = gateway.attempts().statuses("patient");
    assert!(statuses == [200, 429, 429, 200] || statuses == [200, 429, 200], "{statuses:?}");
}

#[test]
fn portkey_raises_and_its_second_key_passes() {
    let row = Row {
        // The provider's key is in Authorization, where the filter must not look.
        sources: "[{header: x-portkey-api-key}]",
        denied: "openai.RateLimitError",
        unauthorized: "openai.AuthenticationError",
        retries: Retries::Never,
        ..Row::new(Script::Python, "portkey", &["chat", "chat_stream"])
    };
    let (came, _) = row.assert();
    let denied = came.last("over-days");
    assert_eq!((&denied.kind, &denied.code), (&json!("requests"), &json!("rate_limit_exceeded")), "{denied:?}");
}

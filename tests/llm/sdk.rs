//! The official SDKs: what is counted is what they report, to the token.

use crate::gateway::{configuration, envoy, used};
use crate::support::upstream::{Upstream, python};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::process::Command;

/// Tokens as an SDK reports them; none where it was not told.
#[derive(Debug, Deserialize)]
struct Said {
    input: Option<u64>,
    output: Option<u64>,
    text: String,
}

/// What a response is made to have taken; Anthropic's cached tokens are beside the input, Gemini's reasoning beside the output.
const INPUT: u64 = 1234;
const CACHED: u64 = 1000;
const OUTPUT: u64 = 567;
const REASONING: u64 = 300;

const CALLS: [&str; 13] = [
    "chat",
    "chat_stream",
    "chat_stream_unasked",
    "azure_stream_unasked",
    "responses",
    "responses_stream",
    "embeddings",
    "messages",
    "messages_stream",
    "generate",
    "generate_stream",
    "mistral_chat",
    "mistral_stream",
];

#[test]
fn what_is_counted_is_what_the_sdks_report_to_the_token() {
    let upstream = Upstream::start();
    let configuration = configuration("[{tokens: 1000000, per: 300d}]", &CALLS, "");
    let envoy = envoy(&configuration, &upstream.cluster("llm")).start();
    let said = run(&format!("http://{}", envoy.addr()));
    assert_eq!(said.len(), CALLS.len());
    for call in CALLS {
        let Said { input, output, text } = &said[call];
        assert_eq!(text, "You said: hello", "{call}");
        let total = match (input, output) {
            (Some(input), Some(output)) => input + output,
            // Who did not ask is not told, and counted as who did.
            _ => INPUT + OUTPUT,
        };
        let expected = match call {
            "embeddings" => INPUT,
            "messages" | "messages_stream" => INPUT + CACHED + OUTPUT,
            "generate" | "generate_stream" => INPUT + OUTPUT + REASONING,
            _ => INPUT + OUTPUT,
        };
        assert_eq!((total, used(&envoy, call)), (expected, expected), "{call}: what it reports, what is counted");
    }
}

fn run(address: &str) -> BTreeMap<String, Said> {
    let job = serde_json::json!({
        "address": address, "input": INPUT, "cached": CACHED, "output": OUTPUT, "reasoning": REASONING,
    });
    let packages = std::env::var("ALLOWANCE_SDKS").expect("ALLOWANCE_SDKS is not set: run \"make test\"");
    let mut command = Command::new(python());
    command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/llm/sdk.py"), &job.to_string()]);
    command.env("PYTHONPATH", packages).env("no_proxy", "127.0.0.1").env("NO_PROXY", "127.0.0.1");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}

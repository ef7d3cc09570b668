//! Bodies of every kind: which are read, what they decide, and what becomes of them.

use crate::gateway::{DONE, answer, ask, chat, configuration, delta, envoy, post, usage_chunk, used};
use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Request};
use crate::support::scripted::Scripted;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// What reached the upstream: path, headers, body.
type Asked = Arc<Mutex<Vec<(String, Vec<(String, String)>, Vec<u8>)>>>;

/// An Envoy in front of an upstream that says it took 7 + 5, and what reached that.
fn start(limits: &str, more: &str) -> (Envoy, Asked) {
    let asked = Asked::default();
    let seen = asked.clone();
    let upstream = Scripted::start(move |talk| {
        if talk.path == "/v1/models" {
            return talk.answer(200, "application/json", "{}");
        }
        seen.lock().unwrap().push((talk.path.clone(), talk.headers.clone(), talk.body.clone()));
        if talk.header("x-quiet") == "1" {
            return talk.answer(200, "application/json", r#"{"data": "nothing"}"#);
        }
        if String::from_utf8_lossy(&talk.body).contains(r#""stream":true"#) {
            talk.begin()?;
            talk.piece(delta("hi"))?;
            talk.piece(usage_chunk(7, 5))?;
            talk.piece(DONE)?;
            return talk.end();
        }
        talk.answer(200, "application/json", answer(7, 5))
    });
    (envoy(&configuration(limits, &["k"], more), &upstream.cluster("llm")).start(), asked)
}

/// The last request that reached the upstream.
fn last(asked: &Asked) -> (String, Vec<(String, String)>, Vec<u8>) {
    asked.lock().unwrap().last().expect("one reached it").clone()
}

fn header(headers: &[(String, String)], name: &str) -> Option<String> {
    headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.clone())
}

const ROOMY: &str = "[{tokens: 100000000, per: 300d}]";

#[test]
fn a_body_that_is_made_to_ask_for_usage_is_changed_in_one_place_and_its_length_with_it() {
    let (envoy, asked) = start(ROOMY, "");
    let body = r#" {"stream":true, "model":"gpt-5" ,"messages":[]}"#;
    let changed = r#" {"stream_options":{"include_usage":true},"stream":true, "model":"gpt-5" ,"messages":[]}"#;
    let request =
        Request::new("POST", "/v1/chat/completions").header("x-api-key", "k").header("accept-encoding", "gzip");
    assert_eq!(ask(&envoy, &request.clone().body(body)).text(), delta("hi") + DONE);
    let (_, headers, sent) = last(&asked);
    assert_eq!(String::from_utf8(sent).unwrap(), changed);
    assert_eq!(header(&headers, "content-length"), Some(changed.len().to_string()));
    assert_eq!(
        header(&headers, "accept-encoding").as_deref(),
        Some("identity"),
        "an event of a compressed stream cannot be dropped"
    );
    // In pieces, and without a length.
    let mut connection = Connection::open(envoy.addr());
    connection.send(&request.header("transfer-encoding", "chunked").to_bytes());
    for piece in body.as_bytes().chunks(9) {
        connection.send(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.read_response(false).text(), delta("hi") + DONE);
    assert_eq!(String::from_utf8(last(&asked).2).unwrap(), changed);
    assert_eq!(used(&envoy, "k"), 24);
}

#[test]
fn a_body_that_is_not_to_be_changed_is_not() {
    let (envoy, asked) = start(ROOMY, "llm: {ask_for_usage: false}\n");
    let body = chat(10, json!({"stream": true}));
    ask(&envoy, &post("/v1/chat/completions", "k", &body));
    assert_eq!(serde_json::from_slice::<Value>(&last(&asked).2).unwrap(), body);
}

#[test]
fn only_encodings_that_cannot_be_read_are_not_asked_for() {
    let (envoy, asked) = start(ROOMY, "");
    for (accepted, passed) in [
        (Some("gzip, deflate"), Some("gzip, deflate")),
        (Some("gzip, br"), Some("identity")),
        (Some("*"), Some("identity")),
        (Some("zstd;q=0.5"), Some("identity")),
        (None, None),
    ] {
        let request = post("/v1/chat/completions", "k", &chat(10, json!({})));
        ask(&envoy, &accepted.iter().fold(request, |request, accepted| request.header("accept-encoding", accepted)));
        assert_eq!(header(&last(&asked).1, "accept-encoding").as_deref(), passed, "{accepted:?}");
    }
    // A request that takes no tokens is nobody's business.
    let request = Request::get("/v1/chat/completions").header("x-api-key", "k").header("accept-encoding", "br");
    ask(&envoy, &request);
    assert_eq!(header(&last(&asked).1, "accept-encoding").as_deref(), Some("br"));
}

#[test]
fn bodies_larger_than_are_read_pass_whole_and_are_charged_what_their_response_says() {
    let more = "llm: {max_body: 64KiB, default_input: 5000, default_output: 3000}\n";
    let (envoy, asked) = start("[{tokens: 7999, per: 300d}]", more);
    let large = chat(10, json!({"padding": "word ".repeat(30_000)}));
    // Its bound is the configured one, and that is more than there is.
    let denied = ask(&envoy, &post("/v1/chat/completions", "k", &large));
    assert_eq!(
        (denied.status, denied.json()["error"]["code"].as_str()),
        (429, Some("request_too_large")),
        "{denied:?}"
    );
    assert_eq!(denied.header("retry-after"), None);
    assert!(asked.lock().unwrap().is_empty());
    let (envoy, asked) = start("[{tokens: 8000, per: 300d}]", more);
    let request = post("/v1/chat/completions", "k", &large);
    assert_eq!(ask(&envoy, &request).status, 200);
    assert_eq!(last(&asked).2, large.to_string().as_bytes());
    assert_eq!(used(&envoy, "k"), 12);
}

#[test]
fn a_large_body_whose_size_is_not_announced_passes_whole() {
    let (envoy, asked) = start(ROOMY, "");
    // More than Envoy would hold.
    let large = chat(10, json!({"padding": "word ".repeat(600_000)})).to_string();
    let mut connection = Connection::open(envoy.addr());
    let request =
        Request::new("POST", "/v1/chat/completions").header("x-api-key", "k").header("transfer-encoding", "chunked");
    connection.send(&request.to_bytes());
    for piece in large.as_bytes().chunks(16_000) {
        connection.send(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.read_response(false).status, 200);
    assert!(last(&asked).2 == large.as_bytes());
    assert_eq!(used(&envoy, "k"), 12);
}

#[test]
fn what_takes_no_tokens_is_charged_none() {
    let (envoy, asked) = start(ROOMY, "");
    let quiet = |request: Request| request.header("x-quiet", "1");
    let key = |request: Request| request.header("x-api-key", "k");
    for request in [
        // A stored response reports the tokens that were charged when it was made.
        key(Request::get("/v1/responses/resp_1")),
        key(Request::new("DELETE", "/v1/responses/resp_1")),
        quiet(post("/v1/messages/count_tokens", "k", &json!({"model": "m", "messages": []}))),
        quiet(post("/v1/orders", "k", &json!({"order": 7}))),
        quiet(key(Request::new("POST", "/v1/files")).body("--x\r\ncontent-disposition: form-data\r\n\r\n{}")),
        quiet(key(Request::new("POST", "/v1/empty"))),
        quiet(key(Request::new("POST", "/v1/empty")).header("content-length", "0")),
    ] {
        let before = asked.lock().unwrap().len();
        assert_eq!(ask(&envoy, &request).status, 200, "{request:?}");
        assert_eq!(asked.lock().unwrap().len(), before + 1);
        assert_eq!(used(&envoy, "k"), 0, "{request:?}");
    }
    assert_eq!(envoy.metric("allowance_estimated_responses_total", &[]), 0);
    // What should have said something and did not is estimated: a third of the bytes asked, and as nothing came, all that might have.
    let silent = chat(10, json!({}));
    ask(&envoy, &quiet(post("/v1/chat/completions", "k", &silent)));
    assert_eq!(used(&envoy, "k"), (silent.to_string().len() as u64).div_ceil(3) + 10);
    assert_eq!(envoy.metric("allowance_estimated_responses_total", &[("model", "other")]), 1);
}

#[test]
fn when_nothing_is_left_nothing_passes_that_takes_tokens() {
    let (envoy, asked) = start("[{tokens: 12, per: 300d, reserve: false}]", "");
    let call = post("/v1/chat/completions", "k", &chat(1_000_000, json!({})));
    assert_eq!(ask(&envoy, &call).status, 200, "without reservation one token is enough");
    let denied = ask(&envoy, &call);
    assert_eq!(denied.status, 429);
    assert!(denied.header("retry-after").is_some());
    let message = denied.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("Exceeded the allowed number of tokens: 12 per 300d."), "{message}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn limits_and_factors_of_a_model_apply_wherever_it_is_named() {
    let more = "llm: {model_header: x-model}
rules:
- {name: free, match: {model: {exact: tiny}}, exempt: true}
- {name: dear, match: {model: {prefix: gpt-5}}, token_cost: 2.5}
";
    let (envoy, _) = start(ROOMY, more);
    let named = |model: &str| chat(10, json!({"model": model}));
    let azure = "/openai/deployments/gpt-5-of-ours/chat/completions";
    let gemini = "/v1beta/models/gpt-5:generateContent";
    let mut total = 0;
    for (request, charged) in [
        (post("/v1/chat/completions", "k", &named("gpt-5-mini")), 30),
        (post("/v1/chat/completions", "k", &named("gpt-4")), 12),
        (post("/v1/chat/completions", "k", &named("tiny")), 0),
        // The path says more than the body, and the header of an earlier filter more than either.
        (post(azure, "k", &named("gpt-4")), 30),
        (post(gemini, "k", &json!({"contents": [{"parts": [{"text": "x"}]}]})), 30),
        (post(azure, "k", &named("gpt-5")).header("x-model", "gpt-4"), 12),
        (post("/v1/chat/completions", "k", &named("gpt-4")).header("x-model", "gpt-5"), 30),
        // One that could not be read may be any, but never one that is free.
        (post("/v1/chat/completions", "k", &named("tiny")).header("content-encoding", "gzip"), 30),
    ] {
        assert_eq!(ask(&envoy, &request).status, 200, "{request:?}");
        total += charged;
        assert_eq!(used(&envoy, "k"), total, "{request:?}");
    }
    // As the configuration names it.
    assert_eq!(envoy.metric("allowance_tokens_total", &[("model", "gpt-5*"), ("kind", "input")]), 7 * 4);
    assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "exempt")]), 1);
}

#[test]
fn who_has_no_key_is_refused_before_any_body() {
    let (envoy, asked) = start(ROOMY, "");
    let mut connection = Connection::open(envoy.addr());
    connection.send(&Request::new("POST", "/v1/chat/completions").header("content-length", "1000").to_bytes());
    assert_eq!(connection.read_response(false).status, 401);
    assert!(asked.lock().unwrap().is_empty());
}

/// A caller that talks both ways says nothing more before it is answered, so nothing may wait for that.
#[test]
fn conversations_do_not_wait_for_each_other() {
    let (envoy, _) = start("[{tokens: 20000, per: 300d}]", "llm: {default_input: 700, default_output: 300}\n");
    let request =
        Request::new("POST", "/v1.Chat/Talk").header("x-api-key", "k").header("content-type", "application/grpc");
    let mut connection = Connection::open(envoy.addr());
    connection.send(&request.header("transfer-encoding", "chunked").to_bytes());
    // Decided without its body: what is configured for bodies that are not read is reserved.
    let start = std::time::Instant::now();
    while used(&envoy, "k") != 1000 {
        assert!(start.elapsed() < crate::support::http::TIMEOUT, "it waits");
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.read_response(false).status, 200);
    assert_eq!(used(&envoy, "k"), 12);
}

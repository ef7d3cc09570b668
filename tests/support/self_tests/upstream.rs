//! The upstream says what providers say, and what it was told to.

use crate::support::http::{Connection, Request, Response};
use crate::support::upstream::Upstream;
use serde_json::{Value, json};

fn ask(upstream: &Upstream, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
    let request = Request::new("POST", path).headers(headers).body(body.to_string());
    Connection::open(upstream.addr()).exchange(&request)
}

/// The data of a stream of events.
fn events(response: &Response) -> Vec<Value> {
    let text = response.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn chat(more: Value) -> Value {
    let mut body = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "grüß dich"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const CHAT: &str = "/v1/chat/completions";
const USAGE: [(&str, &str); 4] =
    [("x-usage-input", "100"), ("x-usage-output", "20"), ("x-usage-cached", "60"), ("x-usage-reasoning", "5")];

#[test]
fn usage_is_what_was_asked_for_in_every_api() {
    let upstream = Upstream::start();
    let usage = |path: &str, body: Value| ask(&upstream, path, &USAGE, &body).json();
    let openai = &usage(CHAT, chat(json!({"n": 2})))["usage"];
    assert_eq!(
        (&openai["prompt_tokens"], &openai["completion_tokens"], &openai["total_tokens"]),
        (&json!(100), &json!(40), &json!(140))
    );
    assert_eq!(openai["prompt_tokens_details"]["cached_tokens"], 60);
    let responses = &usage("/v1/responses", json!({"input": "hello"}))["usage"];
    assert_eq!((&responses["input_tokens"], &responses["output_tokens"]), (&json!(100), &json!(20)));
    assert_eq!(responses["output_tokens_details"]["reasoning_tokens"], 5);
    assert_eq!(
        usage("/v1/embeddings", json!({"input": "hello"}))["usage"],
        json!({"prompt_tokens": 100, "total_tokens": 100})
    );
    let anthropic = &usage("/v1/messages", chat(json!({})))["usage"];
    assert_eq!((&anthropic["input_tokens"], &anthropic["cache_read_input_tokens"]), (&json!(100), &json!(60)));
    let gemini = &usage("/v1beta/models/gemini:generateContent", json!({"contents": []}))["usageMetadata"];
    assert_eq!(
        (&gemini["candidatesTokenCount"], &gemini["thoughtsTokenCount"], &gemini["totalTokenCount"]),
        (&json!(20), &json!(5), &json!(125))
    );
}

#[test]
fn streams_report_usage_where_providers_do() {
    let upstream = Upstream::start();
    let stream = |path: &str, body: Value| ask(&upstream, path, &USAGE, &body);

    let silent = events(&stream(CHAT, chat(json!({"stream": true}))));
    assert!(silent.iter().all(|event| event.get("usage").is_none()), "{silent:?}");
    let told = events(&stream(CHAT, chat(json!({"stream": true, "stream_options": {"include_usage": true}}))));
    let (last, others) = told.split_last().unwrap();
    assert!(others.iter().all(|event| event["usage"].is_null() && event["choices"] != json!([])), "{others:?}");
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(120)));

    let mistral = json!({"model": "mistral-small", "stream": true});
    let told = events(&stream(CHAT, chat(mistral.clone())));
    let last = told.last().unwrap();
    assert_eq!((&last["choices"][0]["finish_reason"], &last["usage"]["total_tokens"]), (&json!("stop"), &json!(120)));
    let mut refused = mistral;
    refused["stream_options"] = json!({"include_usage": true});
    assert_eq!(stream(CHAT, chat(refused)).status, 422);

    let told = events(&stream("/v1/messages", chat(json!({"stream": true}))));
    let types: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(
        (types[0], types[types.len() - 2], types[types.len() - 1]),
        ("message_start", "message_delta", "message_stop")
    );
    assert_eq!(told[0]["message"]["usage"]["input_tokens"], 100);
    assert_eq!(told[told.len() - 2]["usage"]["output_tokens"], 20);

    let told = events(&stream("/v1/responses", json!({"input": "hello", "stream": true})));
    assert!(told[0]["response"]["usage"].is_null());
    assert_eq!(told.last().unwrap()["response"]["usage"]["total_tokens"], 120);

    let path = "/v1beta/models/gemini:streamGenerateContent";
    let contents = json!({"contents": [{"parts": [{"text": "grüß dich"}]}]});
    let told = events(&stream(&format!("{path}?alt=sse"), contents.clone()));
    let array = stream(path, contents).json();
    for told in [told.as_slice(), array.as_array().unwrap()] {
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[3]["usageMetadata"]["totalTokenCount"], 125);
        assert!(told[0]["usageMetadata"]["candidatesTokenCount"].as_u64() < Some(20));
    }
}

#[test]
fn answers_are_bounded_cut_and_stopped_as_asked() {
    let upstream = Upstream::start();
    let bounded = ask(&upstream, CHAT, &[], &chat(json!({"max_tokens": 3}))).json();
    assert_eq!(
        bounded["choices"][0],
        json!({
            "index": 0, "logprobs": null, "finish_reason": "length",
            "message": {"role": "assistant", "content": "You said: grüß", "refusal": null, "annotations": []},
        })
    );
    assert_eq!(bounded["usage"]["completion_tokens"], 3);

    // Each write is a chunk of its own.
    let cut = Request::new("POST", CHAT).header("x-cut", "7").body(chat(json!({"stream": true})).to_string());
    let mut connection = Connection::open(upstream.addr());
    let whole = connection.exchange(&cut);
    assert!(events(&whole).iter().any(|event| event["choices"][0]["delta"]["content"] == " grüß"), "{whole:?}");
    let stopped = Request::new("POST", CHAT).header("x-stop", "50").body(chat(json!({"stream": true})).to_string());
    connection.send(&stopped.to_bytes());
    assert!(connection.try_read_response(false).is_err());

    let packed = ask(&upstream, CHAT, &[("x-gzip", "1"), ("accept-encoding", "gzip")], &chat(json!({})));
    assert_eq!((packed.header("content-encoding").as_deref(), &packed.body[..2]), (Some("gzip"), &[0x1f, 0x8b][..]));
    let plain = ask(&upstream, CHAT, &[("x-gzip", "1")], &chat(json!({})));
    assert_eq!((plain.header("content-encoding"), plain.status), (None, 200));
}

#[test]
fn it_is_busy_as_often_as_asked_and_lists_what_it_saw() {
    let upstream = Upstream::start();
    let status = |id: &str| ask(&upstream, CHAT, &[("x-busy", "2"), ("x-busy-id", id)], &chat(json!({}))).status;
    assert_eq!([status("a"), status("a"), status("b"), status("a"), status("a")], [429, 429, 429, 200, 200]);
    assert_eq!(ask(&upstream, "/nowhere", &[], &json!({})).status, 404);
    let seen: Vec<(String, u64)> = upstream.seen().into_iter().map(|seen| (seen.path, seen.status)).collect();
    let chat = |status| (CHAT.to_owned(), status);
    assert_eq!(seen, [chat(429), chat(429), chat(429), chat(200), chat(200), ("/nowhere".to_owned(), 404)]);
}

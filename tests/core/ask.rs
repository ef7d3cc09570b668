//! What requests ask for: read from bodies cut anywhere, and changed in one place only.

use allowance::ask::body::{Body, LONGEST_MODEL, LONGEST_WORD};
use allowance::ask::{Answer, Ask, Target};
use allowance::request::Headers;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(body: &[u8]) -> Ask {
    let mut reader = Body::default();
    reader.push(body);
    reader.finish()
}

/// Read whole, byte by byte, and cut at every offset: always the same.
fn read_cut(body: &[u8]) -> Ask {
    let ask = read(body);
    let mut bytewise = Body::default();
    body.iter().for_each(|byte| bytewise.push(&[*byte]));
    assert_eq!(bytewise.finish(), ask, "byte by byte: {}", body.escape_ascii());
    for at in 0..body.len() {
        let mut reader = Body::default();
        reader.push(&body[..at]);
        reader.push(&body[at..]);
        assert_eq!(reader.finish(), ask, "cut at {at}: {}", body.escape_ascii());
    }
    ask
}

fn target(path: &str) -> Target {
    let pairs = [(":path", path), (":authority", "api.example.com")];
    Target::of(&Headers::decode(Headers::encode(&pairs)).unwrap())
}

#[test]
fn what_providers_call_model_stream_and_bound_is_found() {
    for (body, model, stream, bound, answers) in [
        (
            r#"{"model":"gpt-5","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":7}"#,
            "gpt-5",
            false,
            7,
            1,
        ),
        (r#"{"stream":true,"n":3,"max_tokens":50,"model":"gpt-4o","messages":[]}"#, "gpt-4o", true, 50, 3),
        (r#"{"model":"o5","input":"x","max_output_tokens":9,"stream": false}"#, "o5", false, 9, 1),
        (r#"{"model":"claude-sonnet-5","max_tokens":0,"messages":[]}"#, "claude-sonnet-5", false, 0, 1),
        (
            r#"{"model":"m","contents":[],"generationConfig":{"maxOutputTokens":11,"candidateCount":2}}"#,
            "m",
            false,
            11,
            2,
        ),
        (r#"{"model":"m","contents":[],"generation_config":{"max_output_tokens":"12"}}"#, "m", false, 12, 1),
        (r#"{"model":"llama3:8b","prompt":"x","options":{"num_predict":13},"stream":true}"#, "llama3:8b", true, 13, 1),
        (r#"{"model":"m","prompt":["a","b",["c"],[1,2]],"max_tokens":10,"best_of":4,"n":2}"#, "m", false, 10, 16),
        (
            "\u{feff} {\r\n\t\"model\" : \"m\" ,\n \"max_tokens\" : 1e2 , \"input\" : null , \"messages\" : [ ] } \n",
            "m",
            false,
            100,
            1,
        ),
        // Both are given: the larger is the bound. A key and a value that hide behind escapes.
        (
            r#"{"max_tokens":1,"max_completion_tokens":2,"\u006dodel":"\u0067pt\ud83d\ude00\/\\","messages":[]}"#,
            "gpt😀/\\",
            false,
            2,
            1,
        ),
        // Upstreams take the last of two.
        (r#"{"model":"cheap","model":"dear","max_tokens":9,"max_tokens":5,"prompt":"p"}"#, "dear", false, 9, 1),
        // What is deeper down is somebody else's.
        (
            r#"{"model":"m","max_tokens":3,"messages":[{"model":"x","max_tokens":99,"stream":true,"n":8}],"tools":{"n":7}}"#,
            "m",
            false,
            3,
            1,
        ),
        (
            r#"{"metadata":{"a":{"b":[{"c":"}]\"{"}]}},"model":"m","max_tokens":4.2,"messages":["\"model\":\"y\""]}"#,
            "m",
            false,
            5,
            1,
        ),
    ] {
        let ask = read_cut(body.as_bytes());
        let size = body.len() as u64;
        assert!(ask.whole && ask.asks, "{body}");
        assert_eq!(
            (ask.model.as_deref(), ask.stream, ask.bound, ask.answers),
            (Some(model), stream, Some(bound), answers),
            "{body}"
        );
        assert_eq!((ask.size, ask.attached), (size, 0), "{body}");
    }
}

#[test]
fn what_is_no_bound_is_none() {
    for bound in ["null", "-1", "\"many\"", "true", "{}", "[5]", "-0.5"] {
        let ask = read_cut(format!(r#"{{"model":"m","max_tokens":{bound},"messages":[]}}"#).as_bytes());
        assert_eq!(ask.bound, None, "{bound}");
        assert_eq!(ask.output(&target("/v1/chat/completions"), 1000), 1000);
    }
    assert_eq!(read(br#"{"max_tokens":1e99}"#).bound, Some(u64::MAX));
    let huge = read(br#"{"max_tokens":18446744073709551615,"n":2,"messages":[]}"#);
    assert_eq!(huge.output(&target("/v1/chat/completions"), 1000), u64::MAX);
}

#[test]
fn what_is_no_whole_object_is_read_as_far_as_it_comes() {
    for body in [
        "",
        " ",
        "[]",
        "[{\"model\":\"m\"}]",
        "\"{}\"",
        "{} {}",
        "{}x",
        "{\"model\":\"m\"",
        "{\"model\":\"m\"}}",
        "\u{0}",
        "null",
        "--x\r\nname: {}",
    ] {
        let ask = read_cut(body.as_bytes());
        assert!(!ask.whole && ask.splice.is_none(), "{body}");
    }
    assert_eq!(read(br#"{"model":"m","stream":true,"mess"#).model.as_deref(), Some("m"));
}

#[test]
fn the_state_stays_small_however_long_names_and_bodies_are() {
    let long = "x".repeat(100_000);
    let ask = read(format!(r#"{{"{long}":"{long}","model":"{long}","max_tokens":{}7}}"#, "0".repeat(1000)).as_bytes());
    assert_eq!(ask.model.unwrap().len(), LONGEST_MODEL);
    // Ten thousand levels are a counter.
    let deep = format!(r#"{{"a":{}{},"model":"m"}}"#, "[{\"a\":".repeat(10_000), "}]".repeat(10_000));
    assert_eq!(read(deep.as_bytes()).model.as_deref(), Some("m"));
    assert!(size_of::<Body>() + LONGEST_MODEL <= 1024, "{}", size_of::<Body>());
}

#[test]
fn attachments_are_told_from_text() {
    let picture = "data:image/png;base64,".to_owned() + &"iVBORw0KGgo+/".repeat(10_000);
    let body = json!({"model": "m", "messages": [{"content": [{"image_url": {"url": picture}}]}]}).to_string();
    let ask = read(body.as_bytes());
    assert_eq!(ask.attached, picture.len() as u64);
    // Words are none, nor is what is short.
    let text = "word ".repeat(10_000);
    let short = "A".repeat(LONGEST_WORD.try_into().unwrap());
    assert_eq!(read(json!({"a": text, "b": short, "c": "ä".repeat(9000)}).to_string().as_bytes()).attached, 0);
}

#[test]
fn the_path_tells_model_and_kind() {
    for (path, model, answer, streams_usage) in [
        ("/v1/chat/completions", None, Answer::Text, true),
        ("/any/v1/chat/completions/?x=/embeddings", None, Answer::Text, true),
        ("/v1/completions", None, Answer::Text, true),
        ("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", Some("my-gpt"), Answer::Text, true),
        ("/openai/deployments/my-gpt/chat/completions?x=y&api-version=2024-06-01", Some("my-gpt"), Answer::Text, false),
        ("/v1/responses", None, Answer::Text, false),
        ("/v1/messages", None, Answer::Text, false),
        ("/v1/messages/count_tokens", None, Answer::Free, false),
        ("/v1/embeddings", None, Answer::Numbers, false),
        ("/v2/chat", None, Answer::Text, false),
        ("/api/chat", None, Answer::Text, false),
        (
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            Some("gemini-2.5-flash"),
            Answer::Text,
            false,
        ),
        ("/v1/models/gemini%2D2.5-flash%3AgenerateContent", Some("gemini-2.5-flash"), Answer::Text, false),
        ("/v1beta/models/g:countTokens", Some("g"), Answer::Free, false),
        ("/v1beta/models/g:batchEmbedContents", Some("g"), Answer::Numbers, false),
        ("/v1beta/openai/chat/completions", None, Answer::Text, true),
        ("/v1/models/gpt-5", None, Answer::Text, false),
        ("", None, Answer::Text, false),
    ] {
        let target = target(path);
        assert_eq!(
            (target.model.as_deref(), target.answer, target.streams_usage),
            (model, answer, streams_usage),
            "{path}"
        );
    }
    for (host, streams_usage) in [("api.mistral.ai:443", false), ("API.LLAMA.COM", false), ("api.openai.com", true)] {
        let pairs = [(":path", "/v1/chat/completions"), (":authority", host)];
        let target = Target::of(&Headers::decode(Headers::encode(&pairs)).unwrap());
        assert_eq!(target.streams_usage, streams_usage, "{host}");
    }
}

#[test]
fn only_streams_that_would_not_report_are_made_to() {
    let target = target("/v1/chat/completions");
    let splice =
        |body: &str| read_cut(body.as_bytes()).splice(&target).map(|splice| splice.apply(body.as_bytes()).unwrap());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    for (body, changed) in [
        (r#"{"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#),
        (r#" { "stream" : true }"#, r#" {"stream_options":{"include_usage":true}, "stream" : true }"#),
        (
            r#"{"stream":true,"stream_options":null,"n":1}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true},"n":1}"#,
        ),
        (r#"{"stream_options":{},"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#),
        (
            r#"{"stream_options":{ "include_obfuscation":false},"stream":true}"#,
            r#"{"stream_options":{"include_usage":true, "include_obfuscation":false},"stream":true}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"x":{"include_usage":true},"include_usage": false }}"#,
            r#"{"stream":true,"stream_options":{"x":{"include_usage":true},"include_usage": true }}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":"no"}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        // Of two the last counts.
        (
            r#"{"stream_options":{"include_usage":true},"stream":true,"stream_options":{}}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
    ] {
        assert_eq!(splice(body).map(text).as_deref(), Some(changed), "{body}");
        assert!(!read(body.as_bytes()).reports);
        assert_eq!(splice(changed), None, "once is enough");
        assert!(read(changed.as_bytes()).reports);
    }
    for untouched in [
        r#"{"stream":false}"#,
        r"{}",
        r#"{"stream":true,"stream":false}"#,
        r#"{"stream":"true"}"#,
        r#"{"stream":true"#,
        r#"{"stream":true}{"#,
        r#"{"stream":true,"stream_options":7}"#,
        r#"{"stream":true,"stream_options":[]}"#,
        r#"{"stream":true,"stream_options":"x"}"#,
        r#"{"stream":true,"model":"mistral-small-latest"}"#,
        r#"{"stream":true,"model":"open-mixtral-8x22b"}"#,
    ] {
        assert_eq!(splice(untouched), None, "{untouched}");
    }
    // The same models, served by others.
    for model in ["mistralai/Mistral-7B-Instruct-v0.3", "mistral:latest"] {
        assert!(splice(&format!(r#"{{"stream":true,"model":"{model}"}}"#)).is_some(), "{model}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("model".to_owned()),
        Just("stream".to_owned()),
        Just("n".to_owned()),
        Just("stream_options".to_owned()),
        Just("include_usage".to_owned()),
        Just("max_tokens".to_owned()),
        Just("prompt".to_owned()),
        Just("generationConfig".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// As fuzzers ask.
    #[test]
    fn what_fuzzers_ask_holds(seed in any::<u8>(), value in any_json()) {
        crate::ask_oracle::asks_the_same_in_any_pieces(&[vec![seed], value.to_string().into_bytes()].concat());
    }

    #[test]
    fn any_bytes_are_safe_and_any_cut_reads_the_same(pieces in prop::collection::vec(prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]",:\u0 1etrunls"#.to_vec())], 0..40), 0..10)) {
        let mut reader = Body::default();
        pieces.iter().for_each(|piece| reader.push(piece));
        prop_assert_eq!(reader.finish(), read(&pieces.concat()));
    }

    /// Against a parser of the whole.
    #[test]
    fn it_reads_what_a_parser_reads(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let ask = read(text.as_bytes());
        prop_assert_eq!(ask.whole, value.is_object());
        if !value.is_object() {
            return Ok(());
        }
        if value["model"].as_str().is_some_and(|model| model.len() <= LONGEST_MODEL) || value["model"].is_null() {
            prop_assert_eq!(ask.model.as_deref(), value["model"].as_str());
        }
        prop_assert_eq!(ask.stream, value["stream"] == true);
        prop_assert_eq!(ask.reports, value["stream_options"]["include_usage"] == true);
        if let Some(splice) = ask.splice {
            let changed: Value = serde_json::from_slice(&splice.apply(text.as_bytes()).unwrap()).unwrap();
            // Parsed as well: not every number is the same again.
            let mut expected: Value = serde_json::from_str(&text).unwrap();
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = json!({});
            }
            expected["stream_options"]["include_usage"] = json!(true);
            prop_assert_eq!(changed, expected);
        } else {
            let options = value.get("stream_options").unwrap_or(&Value::Null);
            prop_assert!(!ask.stream || ask.reports || !(options.is_object() || options.is_null()));
        }
    }
}

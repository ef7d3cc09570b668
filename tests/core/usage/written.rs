//! Properties: any bytes are safe, any cut gives the same report, and every way of writing a usage says the same.

use super::oracle;
use allowance::usage::Usage;
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Value, json};

/// Every provider's way to say that usage, as one document; Anthropic's input is without what was cached, Gemini's output without thoughts.
fn spellings(usage: Usage) -> Vec<Value> {
    let Usage { input, cached, output, reasoning } = usage;
    let total = input + output;
    vec![
        json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": total,
            "prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": reasoning}}}),
        json!({"type": "response.completed", "response": {"model": "m", "usage": {"input_tokens": input, "output_tokens": output,
            "input_tokens_details": {"cached_tokens": cached}, "output_tokens_details": {"reasoning_tokens": reasoning}}}}),
        json!({"type": "message", "usage": {"input_tokens": input - cached, "cache_read_input_tokens": cached,
            "output_tokens": output, "output_tokens_details": {"thinking_tokens": reasoning}}}),
        json!({"candidates": [], "usageMetadata": {"promptTokenCount": input, "cachedContentTokenCount": cached,
            "candidatesTokenCount": output - reasoning, "thoughtsTokenCount": reasoning, "totalTokenCount": total}}),
        json!({"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": input, "output_tokens": output},
            "billed_units": {"input_tokens": 1, "output_tokens": 2}, "cached_tokens": cached}}}),
        json!({"event": {"event_type": "metrics", "metrics": [{"metric": "num_prompt_tokens", "value": input, "unit": "tokens"},
            {"metric": "num_completion_tokens", "value": output}, {"metric": "num_total_tokens", "value": total}]}}),
        json!({"model": "m", "message": {"content": ""}, "done": true, "prompt_eval_count": input, "eval_count": output}),
    ]
}

/// Whether the spelling at that place says what was cached, and what was reasoning.
const SAYS: [(bool, bool); 7] =
    [(true, true), (true, true), (true, true), (true, true), (true, false), (false, false), (false, false)];

/// Writes a value in one of all the ways that mean the same: members in any order and with others between them, white space, escapes.
fn write(value: &Value, random: &mut TestRng, out: &mut String) {
    let space = |random: &mut TestRng, out: &mut String| {
        out.push_str(["", "", "", " ", "\t", "  "][random.random_range(0..6)]);
    };
    space(random, out);
    match value {
        Value::Object(members) => {
            let mut members: Vec<(&str, Option<&Value>)> =
                members.iter().map(|(name, value)| (name.as_str(), Some(value))).collect();
            for _ in 0..random.random_range(0..3) {
                members.insert(random.random_range(0..=members.len()), ("x", None));
            }
            let turn = random.random_range(0..=members.len().saturating_sub(1));
            members.rotate_left(turn);
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                space(random, out);
                string(name, random, out);
                space(random, out);
                out.push(':');
                match value {
                    Some(value) => write(value, random, out),
                    None => out.push_str(NOISE[random.random_range(0..NOISE.len())]),
                }
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "," } else { "" });
                write(item, random, out);
            }
            out.push(']');
        }
        Value::String(text) => string(text, random, out),
        other => out.push_str(&other.to_string()),
    }
    space(random, out);
}

fn string(text: &str, random: &mut TestRng, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if random.random_range(0..8) == 0 {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

/// What stands between what is looked for, and looks like it.
const NOISE: [&str; 8] = [
    "null",
    "[[],{},[{\"usage\":{\"prompt_tokens\":1}}]]",
    "\"\\\"usage\\\":{\\\"prompt_tokens\\\":1}\"",
    "{\"usage\":{\"prompt_tokens\":1},\"\\\\\":\"\\\\\"}",
    "-1.5e3",
    "\"\\\\\"",
    "\"}]}\"",
    "[\"usage\",{\"eval_count\":1},\"{\"]",
];

fn usages() -> impl Strategy<Value = Usage> {
    (0..1_u64 << 40, 0..1_u64 << 40).prop_flat_map(|(input, output)| {
        (0..=input, 0..=output).prop_map(move |(cached, reasoning)| Usage { input, cached, output, reasoning })
    })
}

/// Responses, spoilt at some places.
fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let corpus = [
        include_bytes!("responses/openai-chat.sse").as_slice(),
        include_bytes!("responses/openai-responses.sse"),
        include_bytes!("responses/anthropic.sse"),
        include_bytes!("responses/gemini.sse"),
        include_bytes!("responses/gemini-array.json"),
        include_bytes!("responses/llama.sse"),
        include_bytes!("responses/cohere.sse"),
        include_bytes!("responses/ollama-chat.ndjson"),
        include_bytes!("responses/azure-chat.sse"),
    ];
    let place =
        (any::<prop::sample::Index>(), 0..4_usize, prop::sample::select(b"{}[]\",:\\u \r\n0d\x00\xff".to_vec()));
    (prop::sample::select(corpus.to_vec()), prop::collection::vec(place, 0..8)).prop_map(|(body, places)| {
        let mut body = body.to_vec();
        for (at, removed, put) in places {
            let at = at.index(body.len());
            let end = body.len().min(at + removed);
            body.splice(at..end, [put]);
        }
        body
    })
}

/// Bytes that mean something, in any order.
fn scrambled() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "data",
        "data: ",
        "event: x",
        ":",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\u{feff}",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "\\",
        "\\u00",
        "7",
        "-1e3",
        "null",
        "\"usage\":",
        "\"choices\":",
        "[]",
        "{}",
        "{\"choices\":[],\"usage\":{}}",
        "\"prompt_tokens\":",
        "\"model\":\"m\"",
        " ",
        "[DONE]",
        "{\"choices\":[{",
        "\"usageMetadata\":{\"promptTokenCount\":1",
        "\"metrics\":[{\"metric\":\"num_prompt_tokens\",\"value\":2}]",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_spelling_says_the_same(usage in usages(), random in any::<prop::sample::Index>().prop_perturb(|_, random| random)) {
        let mut random = random;
        for (spelling, (cached, reasoning)) in spellings(usage).iter().zip(SAYS) {
            let expected = Usage { cached: if cached { usage.cached } else { 0 }, reasoning: if reasoning { usage.reasoning } else { 0 }, ..usage };
            let mut text = String::new();
            write(spelling, &mut random, &mut text);
            let framed = [
                ("application/json", text.clone()),
                ("application/json", format!("[{{}},{text}\n]")),
                ("application/x-ndjson", format!("{{}}\n{text}\n")),
                ("text/event-stream", format!("event: x\ndata: {{}}\n\ndata:{text}\n\n")),
            ];
            for (content_type, body) in framed {
                for pieces in [vec![body.as_bytes()], oracle::cut(body.as_bytes(), 9)] {
                    let report = oracle::read(content_type, "", pieces);
                    prop_assert_eq!(report.usage, Some(expected), "{}", body);
                    prop_assert_eq!(report.estimate, 0);
                }
            }
        }
    }

    #[test]
    fn any_cut_of_a_spoilt_response_reads_the_same(body in spoilt()) {
        oracle::reader_does_not_mind_cuts(&body);
        oracle::compression_makes_no_difference(&body, body.len());
    }

    #[test]
    fn any_cut_of_scrambled_words_reads_the_same(body in scrambled()) {
        oracle::reader_does_not_mind_cuts(&body);
        oracle::dropper_takes_out_what_it_is_to(&body);
    }

    #[test]
    fn any_cut_of_a_spoilt_stream_passes_the_same(body in spoilt()) {
        oracle::dropper_takes_out_what_it_is_to(&body);
    }

    #[test]
    fn any_bytes_are_safe(body in prop::collection::vec(any::<u8>(), 0..200)) {
        oracle::reader_does_not_mind_cuts(&body);
        oracle::decoder_does_not_mind_cuts(&body);
        oracle::dropper_takes_out_what_it_is_to(&body);
    }

    #[test]
    fn a_compressed_response_that_is_spoilt_is_safe(body in spoilt(), at in any::<prop::sample::Index>(), flipped in 1..=u8::MAX) {
        for (encoding, mut bytes) in oracle::compressed(&body) {
            let at = at.index(bytes.len());
            bytes[at] ^= flipped;
            let whole = oracle::read("text/event-stream", encoding, [bytes.as_slice()]);
            prop_assert_eq!(oracle::read("text/event-stream", encoding, oracle::cut(&bytes, 40)), whole.clone());
            prop_assert_eq!(oracle::read("text/event-stream", encoding, bytes.chunks(1)), whole);
        }
    }
}

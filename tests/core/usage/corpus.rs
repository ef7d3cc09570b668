//! Responses as providers send them: the right totals, in any cuts, compressed or not, with any line ends.

use super::oracle;
use allowance::usage::{Report, Usage};

/// A response, and what it says: input, cached, output, reasoning.
struct Case {
    name: &'static str,
    body: &'static [u8],
    usage: Option<[u64; 4]>,
    estimate: u64,
    model: Option<&'static str>,
}

macro_rules! case {
    ($name:literal, $usage:expr, $model:expr) => {
        case!($name, $usage, 0, $model)
    };
    ($name:literal, $usage:expr, $estimate:literal, $model:expr) => {
        Case {
            name: $name,
            body: include_bytes!(concat!("responses/", $name)),
            usage: $usage,
            estimate: $estimate,
            model: $model,
        }
    };
}

const GPT: Option<&str> = Some("gpt-5-mini-2025-08-07");
const CLAUDE: Option<&str> = Some("claude-sonnet-4-5-20250929");
const GEMINI: Option<&str> = Some("gemini-2.5-flash");
const LLAMA: Option<&str> = Some("llama3.2");

const CORPUS: &[Case] = &[
    case!("openai-chat.json", Some([1117, 1024, 346, 320]), GPT),
    case!("openai-chat.sse", Some([1117, 1024, 346, 320]), GPT),
    case!("openai-chat-tools.sse", Some([82, 0, 17, 0]), GPT),
    // Nobody asked for usage: "Exactly twenty-two." is 19 bytes.
    case!("openai-chat-unasked.sse", None, 5, GPT),
    case!("openai-completions.json", Some([5, 0, 7, 0]), Some("gpt-3.5-turbo-instruct")),
    case!("openai-completions.sse", Some([5, 0, 2, 0]), Some("gpt-3.5-turbo-instruct")),
    case!("openai-embeddings.json", Some([24, 0, 0, 0]), Some("text-embedding-3-small")),
    case!("openai-responses.json", Some([328, 256, 52, 32]), Some("gpt-5-2025-08-07")),
    case!("openai-responses.sse", Some([328, 256, 52, 32]), Some("gpt-5-2025-08-07")),
    case!("openai-responses-incomplete.sse", Some([328, 256, 16, 0]), Some("gpt-5-2025-08-07")),
    case!("azure-chat.json", Some([11, 0, 3, 0]), Some("gpt-4o-2024-11-20")),
    case!("azure-chat.sse", Some([11, 0, 3, 0]), Some("gpt-4o-2024-11-20")),
    // 25 that were not cached, 100 written to the cache, 2000 read from it.
    case!("anthropic.json", Some([2125, 2000, 503, 210]), CLAUDE),
    case!("anthropic.sse", Some([2125, 2000, 503, 210]), CLAUDE),
    // The last event says more of the input than the first.
    case!("anthropic-cumulative.sse", Some([10982, 300, 510, 0]), CLAUDE),
    // 4000 of the prompt and 53 of tools; 90 said and 500 thought.
    case!("gemini.json", Some([4053, 3000, 590, 500]), GEMINI),
    case!("gemini-array.json", Some([4053, 3000, 590, 500]), GEMINI),
    case!("gemini.sse", Some([4053, 3000, 590, 500]), GEMINI),
    case!("gemini-call.json", Some([18, 0, 6, 0]), GEMINI),
    case!("mistral.json", Some([13, 0, 44, 0]), Some("mistral-small-latest")),
    case!("mistral.sse", Some([13, 0, 44, 0]), Some("mistral-small-latest")),
    case!("llama.json", Some([25, 0, 38, 0]), None),
    case!("llama.sse", Some([25, 0, 38, 0]), None),
    case!("together.sse", Some([43, 16, 2, 0]), Some("meta-llama/Llama-3.3-70B-Instruct-Turbo")),
    case!("vllm.json", Some([30, 0, 3, 0]), Some("Qwen/Qwen3-8B")),
    case!("vllm.sse", Some([30, 16, 3, 0]), Some("Qwen/Qwen3-8B")),
    // The total is 386 more than its parts: reasoning.
    case!("xai-chat.json", Some([12, 5, 387, 386]), Some("grok-3-mini")),
    case!("cohere.json", Some([71, 64, 418, 0]), None),
    case!("cohere.sse", Some([71, 64, 418, 0]), None),
    case!("cohere-billed.json", Some([5, 0, 419, 0]), None),
    case!("ollama-chat.json", Some([26, 0, 282, 0]), LLAMA),
    case!("ollama-chat.ndjson", Some([26, 0, 282, 0]), LLAMA),
    case!("ollama-generate.json", Some([26, 0, 282, 0]), LLAMA),
    case!("ollama-generate.ndjson", Some([26, 0, 282, 0]), LLAMA),
];

impl Case {
    fn content_type(&self) -> &'static str {
        match self.name.rsplit('.').next() {
            Some("json") => "application/json; charset=utf-8",
            Some("sse") => "text/event-stream",
            _ => "application/x-ndjson",
        }
    }

    fn report(&self) -> Report {
        let usage = self.usage.map(|[input, cached, output, reasoning]| Usage { input, cached, output, reasoning });
        Report {
            usage,
            estimate: self.estimate,
            model: self.model.map(|model| model.as_bytes().into()),
            readable: true,
        }
    }

    /// The body with every line end in use; one whose lines end with CRLF stays so.
    fn bodies(&self) -> Vec<Vec<u8>> {
        let ending = |end: &str| {
            let lf = String::from_utf8(self.body.to_vec()).unwrap().replace("\r\n", "\n");
            lf.replace('\n', end).into_bytes()
        };
        // A CR by itself ends the lines of event streams only.
        let ends: &[&str] =
            if self.content_type() == "text/event-stream" { &["\n", "\r\n", "\r"] } else { &["\n", "\r\n"] };
        ends.iter().map(|end| ending(end)).collect()
    }
}

#[test]
fn every_format_says_the_same_whole_byte_by_byte_and_cut_anywhere() {
    for case in CORPUS {
        for body in case.bodies() {
            assert_eq!(oracle::read(case.content_type(), "", [body.as_slice()]), case.report(), "{}", case.name);
            assert_eq!(oracle::read(case.content_type(), "", body.chunks(1)), case.report(), "{}", case.name);
            for at in 0..=body.len() {
                let (before, after) = body.split_at(at);
                assert_eq!(
                    oracle::read(case.content_type(), "", [before, after]),
                    case.report(),
                    "{} at {at}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn every_format_says_the_same_compressed_whole_byte_by_byte_and_cut_anywhere() {
    for case in CORPUS {
        for body in case.bodies() {
            for (encoding, body) in oracle::compressed(&body) {
                let read = |pieces: Vec<&[u8]>| oracle::read(case.content_type(), encoding, pieces);
                assert_eq!(read(vec![&body]), case.report(), "{} in {encoding}", case.name);
                assert_eq!(read(body.chunks(1).collect()), case.report(), "{} in {encoding}", case.name);
                for at in 0..=body.len() {
                    let (before, after) = body.split_at(at);
                    assert_eq!(read(vec![before, after]), case.report(), "{} in {encoding} at {at}", case.name);
                }
            }
        }
    }
}

#[test]
fn every_format_is_recognised_without_a_content_type() {
    for case in CORPUS {
        assert_eq!(oracle::read("", "", [case.body]), case.report(), "{}", case.name);
    }
}

#[test]
fn a_byte_order_mark_before_a_response_is_nothing_to_it() {
    for case in CORPUS {
        let marked = [b"\xef\xbb\xbf", case.body].concat();
        for content_type in ["", case.content_type()] {
            assert_eq!(oracle::read(content_type, "", [marked.as_slice()]), case.report(), "{}", case.name);
            assert_eq!(oracle::read(content_type, "", marked.chunks(1)), case.report(), "{}", case.name);
        }
    }
}

#[test]
fn comments_and_pings_between_events_are_nothing_to_a_stream() {
    for case in CORPUS.iter().filter(|case| case.content_type() == "text/event-stream") {
        for body in case.bodies().iter().take(1) {
            let body = String::from_utf8(body.clone()).unwrap();
            let noisy = body.replace(
                "\n\n",
                "\n\n: OPENROUTER PROCESSING\n\nid: 7\nretry: 10\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
            );
            assert_eq!(oracle::read("text/event-stream", "", [noisy.as_bytes()]), case.report(), "{}", case.name);
            assert_eq!(
                oracle::read("text/event-stream", "", noisy.as_bytes().chunks(1)),
                case.report(),
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn no_way_of_breaking_off_panics_or_reports_more_than_was_said() {
    for case in CORPUS {
        let complete = case.report().tokens();
        for at in 0..case.body.len() {
            let report = oracle::read(case.content_type(), "", [&case.body[..at]]);
            let usage = report.usage.unwrap_or_default();
            assert!(
                usage.input <= complete.input && usage.output <= complete.output,
                "{} at {at}: {report:?}",
                case.name
            );
            assert!(report.usage.is_some() || report.estimated(), "{} at {at}", case.name);
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_estimated_from_the_text_after_its_last_usage() {
    let anthropic = CORPUS.iter().find(|case| case.name == "anthropic.sse").unwrap().body;
    let text = String::from_utf8(anthropic.to_vec()).unwrap();
    let before_end = text.split("event: message_delta").next().unwrap();
    let report = oracle::read("text/event-stream", "", [before_end.as_bytes()]);
    // message_start counted one token; then "Let me see…" (13 bytes), "Hi! My name is " (15) and "\"usage\"." (8) came.
    assert_eq!(report.usage, Some(Usage { input: 2125, cached: 2000, output: 1, reasoning: 0 }));
    assert_eq!((report.estimate, report.estimated()), (9, true));
    assert_eq!(report.tokens(), Usage { input: 2125, cached: 2000, output: 10, reasoning: 0 });
}

//! The chunk that a client did not ask for goes, and nothing else; and nothing waits that is known to go on.

use super::oracle::{dropper_takes_out_what_it_is_to, pass, without_unasked};
use allowance::usage::Dropper;
use allowance::usage::dropper::LARGEST;

const UNASKED: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":[],\
                       \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11,\"prompt_tokens_details\":{\"cached_tokens\":0}}}";
const CHUNK: &str =
    "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}";
const DONE: &str = "data: [DONE]";

/// The stream of these events with that line end.
fn stream(events: &[&str], end: &str) -> Vec<u8> {
    events.iter().map(|event| format!("{}{end}{end}", event.replace('\n', end))).collect::<String>().into_bytes()
}

#[test]
fn exactly_the_event_goes_that_reports_usage_and_has_no_choices_in_any_cuts() {
    for end in ["\n", "\r\n", "\r"] {
        let all = stream(&[CHUNK, CHUNK, UNASKED, DONE], end);
        let left = stream(&[CHUNK, CHUNK, DONE], end);
        assert_eq!(without_unasked(&all), left);
        assert_eq!(pass([all.as_slice()]), left);
        assert_eq!(pass(all.chunks(1)), left);
        for at in 0..=all.len() {
            let (before, after) = all.split_at(at);
            assert_eq!(pass([before, after]), left, "cut at {at}, lines end with {end:?}");
        }
    }
}

#[test]
fn recorded_streams_lose_that_event_and_no_other() {
    let openai = include_bytes!("responses/openai-chat.sse");
    let azure = include_bytes!("responses/azure-chat.sse");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    for recorded in [openai.as_slice(), azure] {
        let left = text(&pass([recorded]));
        let gone: Vec<_> =
            text(recorded).split("\n\n").filter(|event| !left.contains(event)).map(str::to_owned).collect();
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert!(gone[0].contains("\"total_tokens\""));
        assert_eq!(text(recorded).replace(&format!("{}\n\n", gone[0]), ""), left);
        dropper_takes_out_what_it_is_to(recorded);
    }
    // Usage in another place, or with choices: nothing is taken out.
    for other in [
        include_bytes!("responses/openai-chat-unasked.sse").as_slice(),
        include_bytes!("responses/together.sse"),
        include_bytes!("responses/mistral.sse"),
        include_bytes!("responses/anthropic.sse"),
        include_bytes!("responses/openai-responses.sse"),
        include_bytes!("responses/gemini.sse"),
        include_bytes!("responses/cohere.sse"),
        include_bytes!("responses/llama.sse"),
    ] {
        assert_eq!(pass([other]), other);
        dropper_takes_out_what_it_is_to(other);
    }
    dropper_takes_out_what_it_is_to(include_bytes!("responses/vllm.sse"));
}

#[test]
fn events_that_are_nearly_the_one_stay() {
    for event in [
        r#"data: {"choices":[]}"#,
        r#"data: {"usage":{}}"#,
        r#"data: {"choices":[],"usage":null}"#,
        r#"data: {"choices":[],"usage":[]}"#,
        r#"data: {"choices":[],"usage":7}"#,
        r#"data: {"choices":null,"usage":{}}"#,
        r#"data: {"choices":{},"usage":{}}"#,
        r#"data: {"choices":[0],"usage":{}}"#,
        r#"data: {"choices":[null],"usage":{}}"#,
        r#"data: {"choices":[[]],"usage":{}}"#,
        r#"data: {"choices":[{}],"usage":{}}"#,
        r#"data: {"choices":["x"],"usage":{}}"#,
        r#"data: {"choices":[],"choices":[{}],"usage":{}}"#,
        r#"data: {"choices":[],"usage":{},"usage":null}"#,
        r#"data: {"a":{"choices":[],"usage":{}}}"#,
        r#"data: [{"choices":[],"usage":{}}]"#,
        r#"data: {"choices":[],"usage":{}} {}"#,
        r#"data: {"choices":[],"usage":{}"#,
        r#"data: {"choices":[],"usage":{}}]"#,
        r#"data: "\"choices\":[],\"usage\":{}""#,
        r#"event: {"choices":[],"usage":{}}"#,
        r#": {"choices":[],"usage":{}}"#,
    ] {
        let stream = stream(&[event, DONE], "\n");
        assert_eq!(pass([stream.as_slice()]), stream, "{event}");
        dropper_takes_out_what_it_is_to(&stream);
    }
    for event in [
        r#"data: {"choices":[],"usage":{}}"#,
        r#"data:{ "usage" : { } , "choices" : [ ] }"#,
        r#"data: {"\u0063hoices":[],"usag\u0065":{"choices":[{}]}}"#,
        r#"data: {"choices":[],"usage":{},"x":[{"choices":[{}],"usage":null}]}"#,
        "event: chunk\nid: 7\ndata: {\"choices\":[],\ndata\ndata: \"usage\":{}}\nretry: 1",
        "data: {\"choices\":[],\n: comment\ndata: \"usage\":{}}",
    ] {
        let all = stream(&[event, DONE], "\n");
        assert_eq!(pass([all.as_slice()]), stream(&[DONE], "\n"), "{event}");
        dropper_takes_out_what_it_is_to(&all);
    }
}

#[test]
fn nothing_waits_that_is_known_to_go_on() {
    let mut dropper = Dropper::new();
    let mut push = |text: &str| {
        let mut out = Vec::new();
        dropper.push(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    // A byte order mark, comments and empty lines are no event.
    assert_eq!(push("\u{feff}"), "\u{feff}");
    assert_eq!(push(": pi"), ": pi");
    assert_eq!(push("ng\n\n"), "ng\n\n");
    // An event waits until it has a choice, and then never again.
    assert_eq!(push("data: {\"id\":1,\"choices\":["), "");
    assert_eq!(push(" "), "");
    assert_eq!(push("{"), "data: {\"id\":1,\"choices\":[ {");
    assert_eq!(push("\"delta\""), "\"delta\"");
    assert_eq!(push(":{}}]}\n"), ":{}}]}\n");
    assert_eq!(push("\n"), "\n");
    // What is not an object does not wait, and neither does an event with `"usage":null`.
    assert_eq!(push("data: [D"), "data: [D");
    assert_eq!(push("ONE]\n\n"), "ONE]\n\n");
    assert_eq!(push("data: {\"usage\":n"), "data: {\"usage\":n");
    assert_eq!(push("ull}\n\n"), "ull}\n\n");
    // One without choices waits for its end.
    assert_eq!(push("event: error\n"), "");
    assert_eq!(push("data: {\"error\":{}}\r"), "");
    assert_eq!(push("\n"), "");
    assert_eq!(push("\r"), "event: error\ndata: {\"error\":{}}\r\n\r");
    assert_eq!(push("\n"), "\n");
    // The line end of what is taken out goes with it, also when it comes later.
    assert_eq!(push(UNASKED), "");
    assert_eq!(push("\r\n\r"), "");
    assert_eq!(push("\n\n"), "\n");
}

#[test]
fn an_event_that_is_not_complete_at_the_end_stays() {
    let all = stream(&[CHUNK, UNASKED], "\n");
    for missing in 1..UNASKED.len() {
        let cut = &all[..all.len() - missing];
        assert_eq!(pass([cut]), cut);
    }
}

#[test]
fn an_event_that_is_too_large_to_hold_goes_on() {
    // Spaces that make the event this long.
    let sized = |length: usize| {
        let padding = length - r#"data: {"choices":[],"usage":{}}"#.len();
        format!("data: {{{}\"choices\":[],\"usage\":{{}}}}", " ".repeat(padding))
    };
    // With the end of its own line it is as large as it may be.
    let largest = stream(&[&sized(LARGEST - 1), DONE], "\n");
    assert_eq!(pass([largest.as_slice()]), stream(&[DONE], "\n"));
    assert_eq!(pass(largest.chunks(1)), stream(&[DONE], "\n"));
    let larger = stream(&[&sized(LARGEST), DONE], "\n");
    assert_eq!(pass([larger.as_slice()]), larger);
    assert_eq!(pass(larger.chunks(1)), larger);
    // It goes on as soon as it is too large.
    let (mut dropper, mut out) = (Dropper::new(), Vec::new());
    dropper.push(&larger[..LARGEST], &mut out);
    assert_eq!(out, b"");
    dropper.push(&larger[LARGEST..=LARGEST], &mut out);
    assert_eq!(out, &larger[..=LARGEST]);
}

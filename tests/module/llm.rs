//! allowance-llm.wasm: what it costs where no limit counts tokens, what an open stream takes, and what time does to it.

use crate::support::proxy::{Action, Exchange, Instance, Live, Module, Options, SharedData};
use crate::{ABC, MODULE};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static LLM: LazyLock<Module> = LazyLock::new(|| {
    let path = std::env::var_os("ALLOWANCE_LLM_WASM").expect("ALLOWANCE_LLM_WASM is not set: run \"make test\"");
    Module::load(path)
});

fn start(module: &Module, limits: &str, more: &str) -> Instance {
    let configuration = format!(
        r#"{{"api_key": {{"from": [{{"header": "x-api-key"}}]}}, "plans": {{"pro": {{"limits": {limits}}}}},
            "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]{more}}}"#
    );
    // The same random secret, so that records have the same names.
    Instance::new(module, Arc::new(SharedData::default()), Options { seed: Some(1), ..Options::new(&configuration) })
        .unwrap_or_else(|refused| panic!("{}", refused.text()))
}

const STREAMING: &str = r#"{"model":"gpt-5","messages":[],"stream":true,"max_tokens":100}"#;

/// What that reserves: a third of its bytes, and its bound.
const RESERVED: u64 = (STREAMING.len() as u64).div_ceil(3) + 100;

fn chat() -> Exchange {
    let length = STREAMING.len().to_string();
    Exchange::new(&[
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        ("x-api-key", "abc"),
        ("content-length", &length),
        ("accept-encoding", "gzip, deflate"),
        ("authorization", "Bearer something of the usual length, 0123456789abcdef0123456789abcdef"),
        ("user-agent", "OpenAI/Python 3.54.0"),
    ])
}

/// A chat that passes, its request's body through.
fn open(instance: &mut Instance) -> Live {
    let (mut live, action) = instance.begin(&chat(), false);
    assert_eq!(action, Action::Pause, "its head waits for its body");
    let (one, other) = STREAMING.as_bytes().split_at(20);
    assert_eq!(instance.request_body(&mut live, one, false), Action::Pause);
    assert_eq!(instance.request_body(&mut live, other, true), Action::Continue, "{:?}", live.local_reply());
    live
}

const HEAD: [(&str, &str); 2] = [(":status", "200"), ("content-type", "text/event-stream")];

fn event(text: &str) -> String {
    let choices = format!(r#"[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}]"#);
    format!("data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-5\",\"choices\":{choices}}}\n\n")
}

const USAGE: &str = "data: {\"id\":\"c\",\"model\":\"gpt-5\",\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":12,\"total_tokens\":42}}\n\n";

/// Bodies both ways, and every callback.
#[test]
fn a_request_that_no_limit_in_tokens_concerns_pays_entries_only() {
    for limits in [r#"[{"requests": 100, "per": "1m"}]"#, "[]"] {
        let exchange =
            chat().request_body(&[&STREAMING[..10], &STREAMING[10..]]).response(&HEAD, &[event("a"), USAGE.to_owned()]);
        let [plain, llm] = [&*MODULE, &*LLM].map(|module| start(module, limits, "").exchange(&exchange));
        assert_eq!(llm.calls, plain.calls, "the same host calls");
        assert_eq!(llm.response_body, plain.response_body);
        let more = ["proxy_on_request_body", "proxy_on_response_body", "proxy_on_log"];
        let entries: Vec<&String> = llm.entries.iter().filter(|entry| !more.contains(&entry.as_str())).collect();
        assert_eq!(entries, plain.entries.iter().collect::<Vec<_>>());
        assert_eq!(llm.entries.len() - entries.len(), 5, "two pieces each way, and the end");
    }
}

/// Requests in a stream's several states, each a thousand times at once.
#[test]
fn an_open_stream_takes_less_than_eight_kilobytes() {
    const STREAMS: usize = 1000;
    let mut instance = start(&LLM, r#"[{"tokens": 1000000000, "per": "1m"}, {"requests": 1000000, "per": "1m"}]"#, "");
    let mut largest = [0; 3];
    for largest in &mut largest {
        let before = instance.memory_bytes();
        let mut open_streams: Vec<Live> = (0..STREAMS)
            .map(|_| {
                let mut live = open(&mut instance);
                instance.response_headers(&mut live, &HEAD, false);
                for word in ["some", " words", " more", &" long".repeat(200)] {
                    let event = event(word);
                    let passed = instance.response_body(&mut live, event.as_bytes(), false);
                    assert_eq!(passed, event.as_bytes());
                }
                // And half of the one that is dropped, which is held.
                let passed = instance.response_body(&mut live, &USAGE.as_bytes()[..USAGE.len() - 2], false);
                assert!(passed.is_empty(), "{}", passed.escape_ascii());
                live
            })
            .collect();
        *largest = instance.memory_bytes() - before;
        for live in &mut open_streams {
            let passed = instance.response_body(live, b"\n\ndata: [DONE]\n\n", true);
            assert_eq!(passed, b"data: [DONE]\n\n");
        }
        open_streams.into_iter().for_each(|live| instance.end(live));
    }
    assert!(largest[0] > 0 && largest[0] <= STREAMS * 8 * 1024, "{} bytes a stream", largest[0] / STREAMS);
    println!("{} bytes a stream", largest[0] / STREAMS);
    // The second thousand may find the first's places in another order.
    assert!(largest[1] <= 64 * 1024 && largest[2] == 0, "what is over gives its memory back: {largest:?}");
}

#[test]
fn a_stream_that_takes_long_keeps_what_it_reserved_and_one_that_nobody_renews_loses_it() {
    let limits = format!(r#"[{{"tokens": {}, "per": "day"}}]"#, 2 * RESERVED - 1);
    let mut instance = start(&LLM, &limits, r#", "llm": {"reservation": "60s"}"#);
    let clock = instance.clock();
    assert_eq!(instance.tick_period_ms(), 15_000);
    let mut live = open(&mut instance);
    instance.response_headers(&mut live, &HEAD, false);
    let denied = |instance: &mut Instance| {
        let (mut live, action) = instance.begin(&chat(), false);
        assert_eq!(action, Action::Pause);
        instance.request_body(&mut live, STREAMING.as_bytes(), true);
        let denied = live.local_reply().map(|reply| reply.status);
        instance.end(live);
        denied == Some(429)
    };
    assert!(denied(&mut instance), "two do not fit");
    // Ten minutes in which nothing comes but the timer.
    for _ in 0..40 {
        clock.advance(Duration::from_secs(15));
        instance.tick();
        assert!(denied(&mut instance), "it is still reserved");
    }
    // The same without the timer, as after a crash.
    clock.advance(Duration::from_secs(91));
    assert!(!denied(&mut instance), "what was reserved has come back");
    // And a stream that says what it took after all is charged that.
    instance.response_body(&mut live, USAGE.as_bytes(), true);
    instance.end(live);
}

/// A proxy that shows no body while a head waits: nothing but the timer can let it go.
#[test]
fn a_head_that_waits_in_vain_is_let_go() {
    let mut instance = start(&LLM, r#"[{"tokens": 100000, "per": "day"}]"#, "");
    let clock = instance.clock();
    for number in 1..=3 {
        let (mut live, action) = instance.begin(&chat(), false);
        assert_eq!(action, Action::Pause);
        assert_eq!(instance.tick_period_ms(), 20, "it is to be found out");
        instance.tick();
        assert!(instance.resumed().is_empty(), "it may have come right before the tick");
        clock.advance(Duration::from_millis(20));
        instance.tick();
        assert_eq!(instance.resumed(), [live.context()]);
        live.head_is_gone();
        assert_eq!(instance.tick_period_ms(), 75_000, "nothing is to be found out any more");
        // The body comes at once.
        assert_eq!(instance.request_body(&mut live, STREAMING.as_bytes(), true), Action::Continue);
        assert_eq!(live.waiting(), STREAMING.as_bytes(), "{number}: as it was");
        instance.end(live);
    }
    // Now it is known.
    let (live, action) = instance.begin(&chat(), false);
    assert_eq!(action, Action::Continue);
    instance.end(live);
    // An upstream that answers before it has the body: that is charged as well.
    let mut early = start(&LLM, r#"[{"requests": 1, "per": "day"}, {"tokens": 100000, "per": "day"}]"#, "");
    for status in [None, Some(429)] {
        let (mut live, action) = early.begin(&chat(), false);
        assert_eq!(action, Action::Pause);
        early.tick();
        early.tick();
        live.head_is_gone();
        early.response_headers(&mut live, &[(":status", "200"), ("content-type", "application/json")], true);
        assert_eq!(live.local_reply().map(|reply| reply.status), status);
        early.end(live);
    }
    // A stream that is gone before its time is not acted for.
    let mut other = start(&LLM, r#"[{"tokens": 100000, "per": "day"}]"#, "");
    let (live, _) = other.begin(&chat(), false);
    other.end(live);
    other.tick();
    other.tick();
    assert!(other.resumed().is_empty());
}

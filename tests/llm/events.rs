//! Streams as they pass: no event waits for the next, and no byte is another.

use crate::gateway::{DONE, chat, configuration, delta, envoy, post, usage_chunk, used};
use crate::support::http::{Connection, Request};
use crate::support::scripted::Scripted;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The upstream sends an event only after the client has said that it has the one before: if any were held up, all would wait for ever.
fn step_by_step(events: Vec<String>, expected: &[String], request: &Request) -> (Value, u64) {
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let wait = Mutex::new(wait);
    let asked: std::sync::Arc<Mutex<Value>> = std::sync::Arc::default();
    let seen = asked.clone();
    let upstream = Scripted::start(move |talk| {
        if talk.path == "/v1/models" {
            return talk.answer(200, "application/json", "{}");
        }
        *seen.lock().unwrap() = serde_json::from_slice(&talk.body).unwrap();
        talk.begin()?;
        let wait = wait.lock().unwrap();
        for event in &events {
            talk.piece(event)?;
            wait.recv().map_err(std::io::Error::other)?;
        }
        talk.end()
    });
    let envoy = envoy(&configuration("[{tokens: 100000, per: 300d}]", &["k"], ""), &upstream.cluster("llm")).start();
    let stream = TcpStream::connect(envoy.addr()).unwrap();
    stream.set_read_timeout(Some(crate::support::http::TIMEOUT)).unwrap();
    (&stream).write_all(&request.to_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a head");
    }
    for (number, event) in expected.iter().enumerate() {
        if !event.is_empty() {
            let mut got = vec![0; event.len()];
            read_chunked(&mut reader, &mut got);
            assert_eq!(String::from_utf8_lossy(&got), *event, "event {number}");
        }
        go.send(()).unwrap();
    }
    let mut rest = String::new();
    reader.read_line(&mut rest).expect("the end");
    assert_eq!(rest, "0\r\n", "nothing else comes");
    let asked = asked.lock().unwrap().clone();
    (asked, used(&envoy, "k"))
}

/// Fills `bytes` from a chunked body, whatever the chunks.
fn read_chunked(reader: &mut impl BufRead, bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let mut size = String::new();
        reader.read_line(&mut size).expect("an event that the upstream has sent arrives");
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk");
        assert!(size > 0 && filled + size <= bytes.len(), "more than was expected");
        reader.read_exact(&mut bytes[filled..filled + size]).unwrap();
        reader.read_exact(&mut [0; 2]).unwrap();
        filled += size;
    }
}

#[test]
fn every_event_arrives_before_the_next_is_sent() {
    let events: Vec<String> =
        ["You", " said", ": hello", "…"].map(delta).into_iter().chain([usage_chunk(11, 22), DONE.to_owned()]).collect();
    let asked = chat(100, json!({"stream": true, "stream_options": {"include_usage": true}}));
    let (upstream, used) = step_by_step(events.clone(), &events, &post("/v1/chat/completions", "k", &asked));
    assert_eq!(upstream, asked, "who asks for usage is not helped");
    assert_eq!(used, 33);
}

#[test]
fn every_event_arrives_before_the_next_is_sent_also_where_one_is_dropped() {
    let said = ["You", " said", ": hello", "…"].map(delta);
    let events: Vec<String> = said.iter().cloned().chain([usage_chunk(11, 22), DONE.to_owned()]).collect();
    let expected: Vec<String> = said.into_iter().chain([String::new(), DONE.to_owned()]).collect();
    let asked = chat(100, json!({"stream": true}));
    let (upstream, used) = step_by_step(events, &expected, &post("/v1/chat/completions", "k", &asked));
    let mut reporting = asked.clone();
    reporting["stream_options"] = json!({"include_usage": true});
    assert_eq!(upstream, reporting, "it is asked for usage, and for nothing else");
    assert_eq!(used, 33);
}

/// Half an event is on its way as well.
#[test]
fn half_an_event_arrives_before_the_other_half_is_sent() {
    let whole = [delta("half"), delta("way"), DONE.to_owned()].concat();
    let halves: Vec<String> =
        whole.as_bytes().chunks(25).map(|half| String::from_utf8(half.to_vec()).unwrap()).collect();
    let asked = chat(100, json!({"stream": true, "stream_options": {"include_usage": true}}));
    let (_, used) = step_by_step(halves.clone(), &halves, &post("/v1/chat/completions", "k", &asked));
    // It did not say: a third of the request's bytes, and a quarter of the text's.
    assert_eq!(used, (asked.to_string().len() as u64).div_ceil(3) + 2);
}

/// Whatever providers say, in the cuts that they make: it arrives as they said it.
#[test]
fn what_arrives_is_what_the_upstream_sent() {
    let upstream = crate::support::upstream::Upstream::start();
    let envoy = envoy(&configuration("[{tokens: 100000000, per: 300d}]", &["k"], ""), &upstream.cluster("llm")).start();
    let chat = |more| chat(100, more);
    let (gemini, claude) = (
        json!({"contents": [{"parts": [{"text": "a b"}]}]}),
        json!({"model": "claude-sonnet-5", "max_tokens": 9, "messages": []}),
    );
    let streaming = |mut body: Value| {
        body["stream"] = json!(true);
        body
    };
    for (path, body) in [
        ("/v1/chat/completions", chat(json!({}))),
        ("/v1/chat/completions", chat(json!({"stream": true, "stream_options": {"include_usage": true}}))),
        ("/v1/chat/completions", chat(json!({"stream": true, "model": "mistral-small-latest"}))),
        ("/v1/responses", json!({"model": "gpt-5", "input": "hello"})),
        ("/v1/responses", json!({"model": "gpt-5", "input": "hello", "stream": true})),
        ("/v1/embeddings", json!({"model": "gpt-5", "input": "hello"})),
        ("/v1/messages", claude.clone()),
        ("/v1/messages", streaming(claude)),
        ("/v1beta/models/gemini-2.5-flash:generateContent", gemini.clone()),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", gemini.clone()),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", gemini),
    ] {
        for more in [&[][..], &[("x-cut", "7")], &[("x-gzip", "1"), ("accept-encoding", "gzip")]] {
            let request = post(path, "k", &body).header("x-same", "1").header("x-usage-cached", "3").headers(more);
            let direct = Connection::open(upstream.addr()).exchange(&request);
            let through = Connection::open(envoy.addr()).exchange(&request);
            assert_eq!(direct.status, 200, "{path} {body}");
            assert_eq!(through.body, direct.body, "{path} {body} {more:?}");
            assert_eq!(through.header("content-encoding"), direct.header("content-encoding"));
        }
    }
}

/// Everything but one event.
#[test]
fn what_arrives_where_an_event_is_dropped_is_what_would_have_been_sent_without_it() {
    let upstream = crate::support::upstream::Upstream::start();
    let envoy = envoy(&configuration("[{tokens: 100000000, per: 300d}]", &["k"], ""), &upstream.cluster("llm")).start();
    let asking = chat(100, json!({"stream": true, "stream_options": {"include_usage": true}}));
    for more in [
        &[][..],
        &[("x-cut", "1")],
        &[("x-cut", "7")],
        &[("x-cut", "64")],
        &[("x-gzip", "1"), ("accept-encoding", "gzip")],
    ] {
        let request = |body: &Value| post("/v1/chat/completions", "k", body).header("x-same", "1").headers(more);
        let through = Connection::open(envoy.addr()).exchange(&request(&chat(100, json!({"stream": true}))));
        // What the upstream sends to those who ask, without gzip, and without that event.
        let direct = post("/v1/chat/completions", "k", &asking).header("x-same", "1");
        let direct = Connection::open(upstream.addr()).exchange(&direct).text();
        let dropped: String =
            direct.split_inclusive("\n\n").filter(|event| !event.contains(r#""choices":[]"#)).collect();
        assert!(dropped.len() < direct.len());
        assert_eq!(through.text(), dropped, "{more:?}");
        assert_eq!(through.header("content-encoding"), None);
    }
}

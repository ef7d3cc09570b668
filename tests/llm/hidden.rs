//! Proxies that show no body while a head waits, as they do where nobody can tell them to: Istio's WasmPlugin, Envoy Gateway's
//! EnvoyExtensionPolicy.

use crate::gateway::{DONE, answer, ask, chat, configuration, delta, envoy, hiding, post, usage_chunk, used};
use crate::support::envoy::Envoy;
use crate::support::http::Connection;
use crate::support::scripted::{Scripted, Then};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WARNING: &str = "this proxy shows request bodies only after the head has gone upstream";

/// An upstream that keeps what it was asked.
fn recording() -> (Scripted, Arc<Mutex<Vec<Value>>>) {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = asked.clone();
    let upstream = Scripted::start(move |talk| {
        if talk.body.is_empty() {
            return talk.answer(200, "application/json", "{}");
        }
        let body: Value = serde_json::from_slice(&talk.body).unwrap();
        let streams = body["stream"] == true;
        let reports = body["stream_options"]["include_usage"] == true;
        seen.lock().unwrap().push(body);
        if !streams {
            return talk.answer(200, "application/json", answer(7, 5));
        }
        talk.begin()?;
        talk.piece(delta("hi there"))?;
        if reports {
            talk.piece(usage_chunk(7, 5))?;
        }
        talk.piece(DONE)?;
        talk.end().map(|_| Then::Keep)
    });
    (upstream, asked)
}

fn late(envoy: &Envoy) -> u64 {
    envoy.stat("wasmcustom.allowance_late_decisions_total").unwrap_or_default()
}

#[test]
fn where_heads_cannot_be_held_limits_are_decided_when_the_body_is_there() {
    let (upstream, asked) = recording();
    let body = chat(50, json!({}));
    let reserved = (body.to_string().len() as u64).div_ceil(3) + 50;
    // Seven that take 12 each, then one more does not fit: what it may take is reserved first.
    let limits = format!("[{{tokens: {}, per: 300d}}]", 7 * 12 + reserved - 1);
    let envoy = hiding(&configuration(&limits, &["k"], ""), &upstream.cluster("llm")).concurrency(1).start();
    for number in 1..=7 {
        let response = ask(&envoy, &post("/v1/chat/completions", "k", &body));
        assert_eq!((response.status, response.text()), (200, answer(7, 5)), "{number}");
        assert_eq!(used(&envoy, "k"), 12 * number);
        assert_eq!(late(&envoy), number, "each is counted");
    }
    let denied = ask(&envoy, &post("/v1/chat/completions", "k", &body));
    assert_eq!(denied.status, 429);
    assert_eq!(denied.json()["error"]["type"], "tokens", "{denied:?}");
    assert_eq!(used(&envoy, "k"), 84, "a denial charges and reserves nothing");
    assert_eq!(asked.lock().unwrap().len(), 7, "its head was upstream, its body never");
    assert_eq!(envoy.log().matches(WARNING).count(), 1, "said once");
    // What is refused for its head needs no body.
    assert_eq!(ask(&envoy, &post("/v1/chat/completions", "nobody", &body)).status, 401);
}

#[test]
fn where_heads_cannot_be_held_bodies_stay_as_they_are() {
    let (upstream, asked) = recording();
    let limits = "[{tokens: 100000, per: 300d}]";
    let envoy = hiding(&configuration(limits, &["k"], ""), &upstream.cluster("llm")).concurrency(1).start();
    let body = chat(50, json!({"stream": true}));
    for number in 1..=5 {
        let response = ask(&envoy, &post("/v1/chat/completions", "k", &body));
        assert_eq!((response.status, response.text()), (200, delta("hi there") + DONE));
        // Nobody said what it took: it is estimated, and said to be.
        assert_eq!(used(&envoy, "k"), number * ((body.to_string().len() as u64).div_ceil(3) + 2));
        assert_eq!(envoy.metric("allowance_estimated_responses_total", &[("plan", "metered")]), number);
    }
    assert!(asked.lock().unwrap().iter().all(|asked| *asked == body));
}

/// Everything about it may make a proxy that does hold heads look like one that does not, but it is not taken for one.
#[test]
fn slow_clients_do_not_make_a_proxy_look_like_that() {
    let (upstream, asked) = recording();
    let limits = "[{tokens: 100000, per: 300d}]";
    let envoy = envoy(&configuration(limits, &["k"], ""), &upstream.cluster("llm")).concurrency(1).start();
    let body = chat(50, json!({"stream": true}));
    let request = post("/v1/chat/completions", "k", &body).to_bytes();
    let (head, rest) = request.split_at(request.len() - body.to_string().len());
    let slowly = || {
        let mut connection = Connection::open(envoy.addr());
        connection.send(head);
        std::thread::sleep(Duration::from_millis(150));
        connection.send(rest);
        connection.read_response(false)
    };
    // As long as nothing is known, whoever is slow is let through, and decided late.
    for number in 1..=5 {
        assert_eq!(slowly().status, 200);
        assert_eq!(late(&envoy), number);
    }
    assert!(asked.lock().unwrap().iter().all(|asked| *asked == body), "as it was sent");
    // One that is not slow tells.
    assert_eq!(ask(&envoy, &post("/v1/chat/completions", "k", &body)).text(), delta("hi there") + DONE);
    assert_eq!(slowly().text(), delta("hi there") + DONE);
    assert_eq!(late(&envoy), 5, "from then on nobody is decided late");
    assert!(asked.lock().unwrap()[5..].iter().all(|asked| asked["stream_options"]["include_usage"] == true));
    assert!(!envoy.log().contains(WARNING));
}
